"""Who is let in: tokens, cookies, names, origins, proxies, and what is written down of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from indexer.config import Config
from tests.api.conftest import Api
from webapi.app import create_app

TOKEN = "a-long.secret_0~+/=="
BEARER = {"Authorization": f"Bearer {TOKEN}"}
QUOTED = "a-long.secret_0~%2B/%3D%3D"


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    value: str = request.param
    return value


class Asking(FlaskClient):
    """A client without a memory for cookies, which reads answers to their end."""

    def open(self, *arguments: Any, **more: Any) -> TestResponse:
        """Send a request."""
        return super().open(*arguments, **{"buffered": True, **more})


def client(api: Api, **more: Any) -> Asking:
    """Return a client of the application with these settings."""
    return Asking(create_app(replace(api.config, **more), api.reader), use_cookies=False)


def cookie_of(answer: TestResponse) -> str:
    """Return the cookie that an answer sets, as a browser sends it back."""
    return answer.headers["Set-Cookie"].partition(";")[0]


# The token ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path", ["/", "/api/v1/jobs", "/api/v1/docs", "/api/v1/events", "/static/style.css", "/nothing"]
)
def test_without_the_token_nothing_is_told(api: Api, path: str) -> None:
    """A missing or wrong token is a 401 that says how to do it, whatever the path, and is not kept."""
    asking = client(api, token=TOKEN)
    wrong = [
        "",
        "Bearer",
        "Bearer x",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \xff",
    ]
    for sent in wrong:
        answer = asking.get(path, headers={"Authorization": sent} if sent else {})
        assert (401, "application/problem+json") == (answer.status_code, answer.content_type), sent
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        assert "no-store" == answer.headers["Cache-Control"]
        assert "Set-Cookie" not in answer.headers
        assert TOKEN not in answer.text
    assert (
        'error="invalid_token"' in asking.get(path, headers={"Authorization": "Bearer x"}).headers["WWW-Authenticate"]
    )
    assert "error" not in asking.get(path).headers["WWW-Authenticate"]


def test_the_token_opens_everything(api: Api) -> None:
    """With it the answers are those of a server that asks for none; shared caches keep none of them."""
    asking = client(api, token=TOKEN)
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = asking.get("/api/v1/jobs", headers={"Authorization": f"{scheme} {TOKEN}"})
        assert 200 == answer.status_code
    assert "private, no-cache" == answer.headers["Cache-Control"]
    assert answer.json == api.request("/api/v1/jobs").json
    tag = answer.headers["ETag"]
    assert 304 == asking.get("/api/v1/jobs", headers=BEARER | {"If-None-Match": tag}).status_code
    assert 401 == asking.get("/api/v1/jobs", headers={"If-None-Match": tag}).status_code


def test_health_says_only_ok_to_strangers(api: Api) -> None:
    """A load balancer needs no token, and learns nothing of the database."""
    asking = client(api, token=TOKEN)
    assert {"status": "ok"} == asking.get("/api/v1/health").json
    assert "database" in (asking.get("/api/v1/health", headers=BEARER).json or {})
    assert 401 == asking.get("/api/v1/health", headers={"Authorization": "Bearer x"}).status_code


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ("/?token={}", "/"),
        ("/?q=a%20b&token={}&limit=5", "/?q=a%20b&limit=5"),
        ("/api/v1/jobs/.%2Fb%2Fc?token={}", "/api/v1/jobs/./b/c"),
        ("/?t%6Fken={}", "/"),
        ("/?token={}&token={}", "/"),
        ("/\\evil.example?token={}", "/%5Cevil.example"),
        ("/%0d%0aSet-Cookie:a=b?token={}", "/%0D%0ASet-Cookie:a=b"),
    ],
)
def test_a_browser_swaps_the_token_for_a_cookie(api: Api, asked: str, left: str) -> None:
    """`?token=` leads to the same address without it, on this site whatever the path; the cookie opens the rest."""
    asking = client(api, token=TOKEN)
    answer = asking.get(asked.replace("{}", QUOTED))
    assert (303, left) == (answer.status_code, answer.headers["Location"])
    attributes = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert "Secure" not in attributes
    assert TOKEN not in str(answer.headers)
    assert "no-store" == answer.headers["Cache-Control"]
    cookie = cookie_of(answer)
    assert 200 == asking.get("/api/v1/jobs", headers={"Cookie": cookie}).status_code
    assert 401 == asking.get("/api/v1/jobs", headers={"Cookie": cookie[:-1]}).status_code
    assert 401 == asking.get("/api/v1/jobs", headers={"Cookie": cookie.partition("=")[0] + "=" + TOKEN}).status_code


def test_a_path_that_looks_like_another_host_stays_here(api: Api) -> None:
    """A browser takes `//host` as another site's address, so no address we lead to begins so."""
    asked = {"PATH_INFO": "//evil.example/x", "QUERY_STRING": f"token={QUOTED}"}
    answer = client(api, token=TOKEN).get("/", environ_overrides=asked)
    assert (303, "/evil.example/x") == (answer.status_code, answer.headers["Location"])


def test_the_cookie_is_for_https_where_that_is_used(api: Api) -> None:
    """Over https, a proxy's too, the cookie never goes out in the clear."""
    asking = client(api, token=TOKEN, trusted_proxy=("127.0.0.1",))
    secure = asking.get(f"/?token={QUOTED}", headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in secure.headers["Set-Cookie"].split("; ")


def test_a_cookie_is_of_one_token(api: Api) -> None:
    """Another token has another cookie, also by name: servers on one host do not log each other's readers out."""
    first, second = client(api, token=TOKEN), client(api, token="another")
    cookies = [cookie_of(first.get(f"/?token={QUOTED}")), cookie_of(second.get("/?token=another"))]
    assert 2 == len({cookie.partition("=")[0] for cookie in cookies})
    assert 401 == second.get("/", headers={"Cookie": cookies[0]}).status_code
    assert 200 == second.get("/", headers={"Cookie": "; ".join(cookies)}).status_code


def test_a_link_from_elsewhere_is_led_on_by_a_page(api: Api) -> None:
    """A strict cookie does not follow a redirect that another site began, so a page of ours leads on."""
    asking = client(api, token=TOKEN)
    came = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    answer = asking.get(f"/?q=%22%3E%3Cscript%3E&token={QUOTED}", headers=came)
    assert 200 == answer.status_code
    assert 'content="0; url=/?q=%22%3E%3Cscript%3E"' in answer.text
    assert "<script" not in answer.text
    assert TOKEN not in answer.text
    assert 200 == asking.get("/", headers={"Cookie": cookie_of(answer)}).status_code


@pytest.mark.parametrize("given", ["", "x", QUOTED + "x", "%ff", "%00"])
def test_a_wrong_token_in_the_address_sets_no_cookie(api: Api, given: str) -> None:
    """Nothing is set, and a good header does not make up for it."""
    answer = client(api, token=TOKEN).get(f"/api/v1/jobs?token={given}", headers=BEARER)
    assert 401 == answer.status_code
    assert "Set-Cookie" not in answer.headers


def test_where_no_token_is_asked_for_it_is_an_unknown_parameter(api: Api) -> None:
    """A server that is open does not pretend to check."""
    assert 400 == client(api).get("/api/v1/jobs?token=x").status_code


# Names ----------------------------------------------------------------------------------------------------------------
def test_names_may_be_added(api: Api) -> None:
    """A server on loopback behind a proxy answers to the names it is told, at any port, and to no others."""
    asking = client(api, allowed_hosts=("runs.example", "[2001:db8::1]"))
    for host in ("runs.example", "RUNS.example:443", "[2001:db8::1]:80", "localhost"):
        assert 200 == asking.get("/api/v1/jobs", headers={"Host": host}).status_code, host
    for host in ("evil.example", "runs.example.evil.example", "xruns.example"):
        assert 403 == asking.get("/api/v1/jobs", headers={"Host": host}).status_code, host
    assert 200 == client(api, allowed_hosts=("*",)).get("/", headers={"Host": "any.example"}).status_code


def test_names_bind_beyond_loopback_too(api: Api) -> None:
    """Who says what it is called is called nothing else."""
    asking = client(api, host="0.0.0.0", allowed_hosts=("runs.example",))
    assert 200 == asking.get("/", headers={"Host": "runs.example"}).status_code
    assert 403 == asking.get("/", headers={"Host": "localhost"}).status_code


def test_a_proxy_does_not_vouch_for_the_name(api: Api) -> None:
    """On loopback the proxy's address is everybody's here, a rebound page's too: the Host header must be right."""
    asking = client(api, trusted_proxy=("127.0.0.1",))
    headers = {"Host": "evil.example", "X-Forwarded-Host": "localhost"}
    assert 403 == asking.get("/api/v1/jobs", headers=headers).status_code


# Pages of other sites -------------------------------------------------------------------------------------------------
def test_other_sites_read_nothing_by_default(api: Api) -> None:
    """No answer allows another origin; what its pages ask for in a browser is refused before it costs anything."""
    asking = client(api)
    headers = {"Origin": "https://evil.example"}
    for answer in (asking.get("/api/v1/jobs", headers=headers), asking.options("/api/v1/jobs", headers=headers)):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
    behind = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert 403 == asking.get("/api/v1/jobs", headers=behind).status_code
    assert 200 == asking.get("/", headers=behind | {"Sec-Fetch-Mode": "navigate"}).status_code
    assert 200 == asking.get("/api/v1/jobs", headers={"Sec-Fetch-Site": "same-site"}).status_code


def test_chosen_origins_read(api: Api) -> None:
    """An origin that is named may read, errors too, with the headers that polling needs; another may not."""
    asking = client(api, cors_origins=("https://a.example",), token=TOKEN)
    ours = {"Origin": "https://a.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    preflight = asking.options(
        "/api/v1/jobs",
        headers=ours | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"},
    )
    assert 204 == preflight.status_code
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    for answer in (asking.get("/api/v1/jobs", headers=ours | BEARER), asking.get("/api/v1/jobs", headers=ours)):
        assert "https://a.example" == answer.headers["Access-Control-Allow-Origin"]
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in answer.headers["Vary"]
    theirs = {"Origin": "https://b.example"}
    answer = asking.get("/api/v1/jobs", headers=theirs | BEARER)
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Origin" in answer.headers["Vary"]
    refused = asking.options("/api/v1/jobs", headers=theirs | {"Access-Control-Request-Method": "GET"})
    assert 401 == refused.status_code


def test_every_origin_where_that_is_said(api: Api) -> None:
    """With `*` any page reads."""
    answer = client(api, cors_origins=("*",)).get("/api/v1/jobs", headers={"Origin": "https://any.example"})
    assert "*" == answer.headers["Access-Control-Allow-Origin"]


# Behind a proxy -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stripped", [True, False])
def test_a_prefix_is_in_every_address(api: Api, stripped: bool) -> None:
    """Below a prefix pages, links and the document are right, whether the proxy strips it or not."""
    asking = client(api, url_prefix="/team/runs")
    before = "" if stripped else "/team/runs"
    page = asking.get(f"{before}/").text
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
    assert len(links) > 10
    for link in links:
        assert link.startswith("/team/runs/"), link
        assert 200 == asking.get(link).status_code, link
    document = asking.get(f"{before}/api/v1/openapi.json").json
    assert document is not None
    assert [{"url": "/team/runs/api/v1"}] == document["servers"]
    assert "/team/runs/api/v1/openapi.json" in asking.get(f"{before}/api/v1/docs").text
    assert 200 == asking.get("/team/runs").status_code
    assert 404 == asking.get("/team/runsx/api/v1/jobs").status_code


def test_the_cookie_belongs_to_the_prefix(api: Api) -> None:
    """Other programs on the same host never see the cookie."""
    asking = client(api, url_prefix="/runs", token=TOKEN)
    answer = asking.get(f"/runs/api/v1/jobs?token={QUOTED}")
    assert "/runs/api/v1/jobs" == answer.headers["Location"]
    assert "Path=/runs" in answer.headers["Set-Cookie"].split("; ")


def test_a_trusted_proxy_says_who_asks_and_where(api: Api) -> None:
    """The last value of each header counts, for that is the proxy's own; a strange one is passed over."""
    asking = client(api, trusted_proxy=("10.0.0.0/8",), access_log=True, host="0.0.0.0")
    said = {
        "X-Forwarded-For": "1.1.1.1, 203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "runs.example",
        "X-Forwarded-Prefix": "/p",
    }
    for address, client_, prefix in (("10.1.2.3", "203.0.113.7", "/p"), ("192.0.2.1", "192.0.2.1", "")):
        with capture_logs() as lines:
            answer = asking.get("/api/v1/openapi.json", headers=said, environ_base={"REMOTE_ADDR": address})
        assert [{"url": f"{prefix}/api/v1"}] == (answer.json or {})["servers"]
        assert [(client_, f"{prefix}/api/v1/openapi.json")] == [(line["client"], line["path"]) for line in lines]
    strange = {
        "X-Forwarded-For": "x\x1b[2J",
        "X-Forwarded-Proto": "javascript",
        "X-Forwarded-Host": "a/b",
        "X-Forwarded-Prefix": "//evil.example",
    }
    for more in ({}, {"X-Forwarded-Prefix": "/../x"}, {"X-Forwarded-Prefix": '/"><script>'}):
        answer = asking.get("/", headers=strange | more, environ_base={"REMOTE_ADDR": "10.1.2.3"})
        assert 'href="/static/style.css"' in answer.text


def test_a_prefix_is_another_view(api: Api) -> None:
    """Answers that differ in their addresses differ in their tags."""
    asking = client(api, trusted_proxy=("127.0.0.1",))
    tags = {asking.get("/", headers={"X-Forwarded-Prefix": prefix}).headers["ETag"] for prefix in ("/a", "/b", "")}
    assert 3 == len(tags)


# The log --------------------------------------------------------------------------------------------------------------
def test_the_log_has_a_line_a_request_and_no_token(api: Api) -> None:
    """Method, path, status, bytes, seconds and client; a token is dropped, and no character ends a line."""
    asking = client(api, token=TOKEN, access_log=True)
    with capture_logs() as lines:
        answer = asking.get("/api/v1/jobs?limit=5", headers=BEARER)
        asking.get(f"/x%0Ay%1B[2J?a=1&token={QUOTED}")
        asking.get(f"/?t%6Fken={QUOTED}x")
        asking.head("/api/v1/jobs", headers=BEARER)
    assert ["request"] * 4 == [line["event"] for line in lines]
    assert ["/api/v1/jobs?limit=5", "/x%0Ay%1B%5B2J?a=1", "/", "/api/v1/jobs"] == [line["path"] for line in lines]
    assert [200, 303, 401, 200] == [line["status"] for line in lines]
    assert ["GET", "GET", "GET", "HEAD"] == [line["method"] for line in lines]
    assert [len(answer.data), 0] == [lines[0]["bytes"], lines[3]["bytes"]]
    assert all(line["seconds"] >= 0 and line["client"] == "127.0.0.1" for line in lines)
    assert "secret" not in str(lines)


def test_the_log_is_off_by_default(api: Api) -> None:
    """Nobody is written down who was not meant to be."""
    with capture_logs() as lines:
        client(api).get("/api/v1/jobs")
    assert [] == lines


def test_settings_default_to_nothing_open() -> None:
    """What opens more than loopback is said by somebody."""
    config = Config()
    assert (None, (), (), "", ()) == (
        config.token,
        config.allowed_hosts,
        config.cors_origins,
        config.url_prefix,
        config.trusted_proxy,
    )
