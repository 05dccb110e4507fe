"""What holds for every route there is, whoever added it: found in the application's own map."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser

import pytest
from sqlalchemy import Engine, insert
from werkzeug.test import TestResponse

from indexer import text
from indexer.db.schema import JOB, ROOT, TAG
from tests.api.conftest import Api, changed, job_row, tag_row
from tests.support.engines import transaction
from webapi import headers, respond
from webapi.mindinsight.routes import owns

ENDLESS = "/api/v1/events"
FILLED_IN = {"form": "csv", "filename": "style.css", "rest": "1"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><b onmouseover=alert(1)>",
    "</main><script src=//evil.example></script>",
    "{{ 7*7 }}{% raw %}",
    "\u202egnp.exe\u2066",  # turns the text around it
    "\x1b[2J\x07",
    "a\r\nSet-Cookie: a=b",
    "nul\0nul",
    "\udcff\udc80",
    "javascript:alert(1)",
    "%0d%0a%00",
    "../../etc/passwd",
    "\U0001f4a5" * 50,
]


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    value: str = request.param
    return value


def addresses(api: Api) -> Iterator[tuple[str, set[str]]]:
    """Yield a path of each route, its parts filled in, with the methods it takes; MindInsight's have other rules."""
    adapter = api.app.url_map.bind("localhost")
    for rule in (rule for rule in api.app.url_map.iter_rules() if not owns(rule.rule)):
        filled = {name: FILLED_IN.get(name, 1) for name in rule.arguments}
        yield adapter.build(rule.endpoint, filled), set(rule.methods or ())


def test_there_are_routes(api: Api) -> None:
    """The tests below would pass over an empty map."""
    paths = {path for path, _ in addresses(api)}
    assert {"/", "/static/style.css", "/api/v1/jobs", "/api/v1/jobs/1", "/api/v1/blobs/1/1/1/1", ENDLESS} <= paths


def ask(api: Api, path: str, method: str = "GET", **sent: str) -> TestResponse:
    """Ask; of what has no end only the beginning."""
    answer = api.app.test_client().open(path, method=method, headers=sent, buffered=path.partition("?")[0] != ENDLESS)
    with closing(answer):
        assert answer.status_code < 500, (path, answer.text)
        missing = {name for name in headers.SAFE if name not in answer.headers}
        assert not missing, path
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] in {"no-cache", "no-store"}, path
        if answer.status_code >= 400:
            assert "application/problem+json" == answer.content_type, path
    return answer


def test_head_is_get_without_a_body(api: Api) -> None:
    """Status and headers agree, the tag and the length among them, whatever the encoding."""
    for path, _ in addresses(api):
        for accepted in ("", "gzip", "zstd"):
            whole, head = (ask(api, path, method, **{"Accept-Encoding": accepted}) for method in ("GET", "HEAD"))
            assert whole.status_code == head.status_code, path
            assert b"" == head.data, path
            for name in ("Content-Type", "ETag", "Content-Encoding", "Content-Length", "Cache-Control", "Vary"):
                if path not in {"/api/v1/health", "/metrics"} or name != "Content-Length":  # which hold the time
                    assert whole.headers.get(name) == head.headers.get(name), (path, name)


def test_an_answer_with_a_tag_is_not_sent_twice(api: Api) -> None:
    """Tags are strong, one an encoding; with it the answer is an empty 304 that keeps tag and headers."""
    tagged = 0
    for path, _ in addresses(api):
        tags = []
        for accepted in ("", "gzip", "zstd"):
            tag = ask(api, path, **{"Accept-Encoding": accepted}).headers.get("ETag")
            if tag is None:
                continue
            tagged += 1
            tags.append(tag)
            for method in ("GET", "HEAD"):
                again = ask(api, path, method, **{"If-None-Match": tag, "Accept-Encoding": accepted})
                assert (304, b"", tag) == (again.status_code, again.data, again.headers["ETag"]), path
            assert tag.startswith('"'), path
        if not path.startswith("/static/"):  # sent as files are, never compressed
            assert len(tags) == len(set(tags)), path
    assert tagged > 30


def test_what_a_route_does_not_do_is_405(api: Api) -> None:
    """Methods that a route has not are refused with those it has."""
    for path, methods in addresses(api):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            if method not in methods:
                answer = ask(api, path, method)
                assert 405 == answer.status_code, (path, method)
                assert {"GET", "HEAD"} <= set(answer.headers["Allow"].replace(" ", "").split(","))


@pytest.mark.parametrize(
    "query",
    ["nobody=1", "%00=%00", "%ff=%ff", "=", "&&&", "limit=%00", "limit=" + "9" * 5_000, "after=%00%ff", "job=%00",
     "since=%F0%9F%92%A5", "q=" + "x" * 5_000, "&".join(f"p{n}=1" for n in range(3_000)), "job=1&" * 1_100, "%"],
    ids=range(14),
)  # fmt: skip
def test_no_query_breaks_a_route(api: Api, query: str) -> None:
    """Whatever stands behind the question mark: an answer or a 4xx, in its shape."""
    for path, _ in addresses(api):
        ask(api, f"{path}?{query}")


@pytest.mark.parametrize(
    "path",
    [
        "/%00",
        "/\u202e",
        "/api/v1/jobs/%00",
        "/api/v1/jobs/%ff",
        "/static/%00",
        "/static/..%2f..%2fx",
        pytest.param("/api/v1/jobs/" + "x" * 20_000, id="long"),
        pytest.param("/" + "a/" * 5_000, id="deep"),
        "/api/v1/blobs/99999999999999999999/1/1/1",
        "/api/v1/explain/99999999999/1",
        "/api/v1/blobs/1/-99999999999999999999/1/1",
    ],
)
def test_no_path_breaks_the_server(api: Api, path: str) -> None:
    """Strange, long and huge paths are 404."""
    assert 404 == ask(api, path).status_code


def test_too_many_parameters_are_malformed(api: Api) -> None:
    """A query string is not read to its end where nobody can mean it."""
    answer = ask(api, "/api/v1/jobs?" + "&".join(["limit=1"] * 6_000))
    assert 400 == answer.status_code
    assert "parameter" in (answer.json or {})


@pytest.mark.skipif(respond.zstd is None, reason="this Python has no zstd")
def test_zstd_where_it_is_named(api: Api) -> None:
    """A client that names zstd gets it, as gladly as gzip; `*` alone is not enough, for few programs unpack it."""
    plain = ask(api, "/api/v1/jobs/1/tags").data
    for accepted, coding in (
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, zstd;q=0.5", "gzip"),
        ("zstd;q=0, gzip", "gzip"),
        ("*", "gzip"),
        ("identity, zstd;q=0.5", None),
    ):
        answer = ask(api, "/api/v1/jobs/1/tags", **{"Accept-Encoding": accepted})
        assert coding == answer.headers.get("Content-Encoding"), accepted
        unpacked = {"zstd": respond.zstd.decompress, "gzip": gzip.decompress, None: bytes}[coding](answer.data)
        assert plain == unpacked


# Names from files -----------------------------------------------------------------------------------------------------
class Elements(HTMLParser):
    """The elements of a page, with their attributes' names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.add((tag, *sorted(name for name, _ in attrs)))
        assert not any((value or "").strip().lower().startswith("javascript:") for _, value in attrs)

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.words += data


def test_names_of_files_are_text_everywhere(api: Api, filled: Engine) -> None:
    """Roots, jobs, tags and errors called like attacks change no element of a page, and come back whole."""
    before = {path: Elements(ask(api, path).text).found for path in ("/", "/api/v1/docs")}
    with transaction(filled) as conn:
        for number, name in enumerate(HOSTILE, start=100):
            stored = text.store(f"./{name}")
            conn.execute(insert(ROOT).values(id=number, name=text.store(name), path="/x", named=True))
            row = job_row(number, number, stored, cache_status="CACHED", update_time=1e9 + number)
            conn.execute(insert(JOB).values(**row, last_error=text.store(name)))
            conn.execute(insert(TAG).values(**tag_row(number, number, name, name)))
    changed(filled, *range(100, 100 + len(HOSTILE)))
    for path, elements in before.items():
        answer = ask(api, path)
        assert {element for element in Elements(answer.text).found - elements if element[0] != "span"} == set(), path
        assert not {"Set-Cookie"} & set(answer.headers.keys())
    for number, name in enumerate(HOSTILE, start=100):
        (tag,) = api.get(f"/jobs/{number}/tags")["items"]
        assert (name, name) == (tag["name"], tag["plugin"])
        (series,) = api.get("/series", {"job": number, "tag": name})["series"]
        assert name == series["tag"]
        for path, wanted in (("/series", {"tag": name + "?"}), ("/series", {"job": name}), ("/points", {"job": name})):
            problem = api.get(path, wanted, status=404)
            assert problem["parameter"] in {"tag", "job"}
    assert "no-store" == ask(api, "/api/v1/jobs/%0d%0aX:%20y").headers["Cache-Control"]
