"""What holds for every route: bad parameters, methods, headers, entity tags, compression, the Host header."""

from __future__ import annotations

import errno
import gzip
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from structlog.testing import capture_logs

from indexer.config import Config
from indexer.plugins import KINDS
from indexer.version import REVISION
from tests.api.conftest import Api, changed
from tests.support.engines import transaction
from tests.support.statements import statements
from webapi import queries
from webapi.app import create_app

RUNS = ["/lineage", "/hparams"]
PAYLOADS = [*(kind.path for kind in KINDS), "/explain", "/explain/files", "/explain/records"]
ROUTES = ["/health", "/jobs", "/jobs/1", "/jobs/1/files", "/jobs/1/tags", "/series", "/points", *RUNS, *PAYLOADS]
PAGED = ["/jobs", "/jobs/1/files", "/jobs/1/tags", "/series", "/points", *RUNS, *PAYLOADS]
FIXED = ["/openapi.json", "/docs"]
NO_INTEGERS = [
    "", " ", "x", "1.0", "1e3", "0x10", "1_000", "+5", " 5", "5 ", "--5", "1\0", "\0", "١٢", "５", "²", "nan", "None",
    "9" * 20, "9" * 5_000, str(2**63), str(-(2**63) - 1), "\udcff", "1,2", "1;2",
]  # fmt: skip


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    value: str = request.param
    return value


# Parameters -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PAGED)
def test_limits_out_of_range_are_named(api: Api, path: str) -> None:
    """A limit is 1 to 10,000 in ASCII digits; anything else is a 400 that names it."""
    for value in [*NO_INTEGERS, "0", "-1", "10001"]:
        assert "limit" == api.get(path, {"limit": value}, status=400)["parameter"], value
    for value in ("1", "007", "10000"):
        api.get(path, {"limit": value})


@pytest.mark.parametrize("path", ["/series", "/points"])
@pytest.mark.parametrize("name", ["from_step", "to_step"])
def test_steps_are_signed_64_bit(api: Api, path: str, name: str) -> None:
    """Steps reach over all of int64 and not beyond."""
    for value in NO_INTEGERS:
        assert name == api.get(path, {name: value}, status=400)["parameter"], value
    for step in (-(2**63), -1, 0, 2**63 - 1):
        api.get(path, {name: step})


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("/series", "max_points", [*NO_INTEGERS, "-1", "1000001"]),
        ("/series", "x", ["", "time", "STEP", "step\0"]),
        ("/series", "restarts", ["", "none", "Current"]),
        ("/points", "restarts", ["", "none"]),
        ("/jobs", "cache_status", ["", "cached", "CACHED ", "CACHED\0"]),
        ("/jobs", "sort", ["", "-", "--id", "train_key", "lease_owner", "id desc", "1", "id;--"]),
        ("/jobs", "q", ["x" * 1_001]),
        ("/series", "job", ["x" * 32_769]),
        ("/series", "tag", ["x" * 32_769]),
        ("/points", "plugin", ["x" * 1_001]),
    ],
)
def test_values_out_of_bounds_are_named(api: Api, path: str, name: str, values: list[str]) -> None:
    """A value that a parameter cannot have is a 400 that names it."""
    for value in values:
        assert name == api.get(path, {name: value}, status=400)["parameter"], value


@pytest.mark.parametrize("path", PAGED)
def test_cursors_are_checked(api: Api, path: str) -> None:
    """What no page gave as `next` is malformed, also a cursor of another list."""
    cursors = [api.get(other, {"limit": 1})["next"] for other in PAGED if other != path]
    for value in ["", "x", "\0", "ü", "A" * 1_000, "[]", "e30", *cursors]:
        assert "after" == api.get(path, {"after": value}, status=400)["parameter"], value


@pytest.mark.parametrize("path", ROUTES)
def test_unknown_and_repeated_parameters_are_named(api: Api, path: str) -> None:
    """A misspelt parameter is no silence; a single one given twice is not guessed at."""
    assert "limits" == api.get(path, {"limits": "5"}, status=400)["parameter"]
    assert "" == api.get(path, {"": "5"}, status=400)["parameter"]
    assert "?" in api.get(path, {"\udcff": "5"}, status=400)["parameter"]
    if path in PAGED:
        assert "limit" == api.get(path, [("limit", 5), ("limit", 5)], status=400)["parameter"]


def test_too_many_values(api: Api) -> None:
    """A repeatable parameter may be given a thousand times."""
    assert "job" == api.get("/series", [("job", 1)] * 1_001, status=400)["parameter"]
    api.get("/series", [("job", 1)] * 1_000)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from([*ROUTES, "/jobs/" + "x"]),
    query=st.one_of(
        st.text(st.characters(max_codepoint=127, exclude_characters="\r\n\0 #")),
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["limit", "after", "job", "tag", "q", "sort", "from_step", "max_points", "x", "plugin"]
                ),
                st.sampled_from(["1", "%00", "%ff", "-1", "1_0", "%f0%9f%92%a5", "", "./a", "%E2%90%9Bzz", "'", "%"]),
            )
        ).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)),
    ),
)
def test_no_query_string_breaks_the_server(api: Api, path: str, query: str) -> None:
    """Whatever the query string, the answer is documented and no 5xx."""
    answer = api.request(f"/api/v1{path}?{query}")
    assert answer.status_code < 500


# Methods and addresses ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/", *(f"/api/v1{path}" for path in ROUTES + FIXED), "/static/style.css"])
def test_everything_is_read_only(api: Api, path: str) -> None:
    """Methods that write are 405 with Allow, as a problem; HEAD is GET without a body."""
    for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE"):
        answer = api.request(path, method)
        assert (405, "application/problem+json") == (answer.status_code, answer.content_type)
        assert {"GET", "HEAD"} <= set(answer.headers["Allow"].replace(" ", "").split(","))
    whole, head = api.request(path), api.request(path, "HEAD")
    assert (200, b"") == (head.status_code, head.data)
    assert whole.headers["Content-Type"] == head.headers["Content-Type"]
    assert whole.headers.get("ETag") == head.headers.get("ETag")


@pytest.mark.parametrize(
    "path", ["/nothing", "/api", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/jobs/", "/api/v2/jobs", "/static/x",
             "/static/../app.py", "/api/v1//jobs", "/%00", "/%ff"]
)  # fmt: skip
def test_an_unknown_address_is_a_problem(api: Api, path: str) -> None:
    """What is nowhere is a 404 in the one shape of errors."""
    answer = api.request(path)
    assert (404, "application/problem+json") == (answer.status_code, answer.content_type)
    assert {"type", "title", "status", "detail"} <= answer.get_json().keys()


# Headers --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/", "/nothing", "/static/style.css", *(f"/api/v1{path}" for path in ROUTES + FIXED)])
def test_safe_headers_are_everywhere(api: Api, path: str) -> None:
    """No sniffing, no framing, no scripts of others, on errors too; nothing allows other origins."""
    headers = api.request(path).headers
    assert "nosniff" == headers["X-Content-Type-Options"]
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "no-referrer" == headers["Referrer-Policy"]
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cache-Control"] in {"no-cache", "no-store"}
    assert "Accept-Encoding" in headers["Vary"]


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "localhost:8080", "127.0.0.1:1", "[::1]:65535", "LOCALHOST"]
)
def test_loopback_names_are_answered(api: Api, host: str) -> None:
    """On loopback the server has the names of loopback, at any port."""
    assert 200 == api.request("/api/v1/jobs", headers={"Host": host}).status_code


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "127.0.0.1.evil.example",
        "2130706433",
    ],
)
@pytest.mark.parametrize("path", ["/", "/api/v1/jobs", "/static/style.css"])
def test_other_names_are_refused_on_loopback(api: Api, host: str, path: str) -> None:
    """Another site's name that resolves to this machine reads nothing (DNS rebinding)."""
    answer = api.request(path, headers={"Host": host})
    assert (403, "application/problem+json") == (answer.status_code, answer.content_type)


def test_names_are_free_beyond_loopback(api: Api) -> None:
    """Who binds to the network is reached by any name."""
    client = create_app(Config(url=api.config.url, host="0.0.0.0"), api.reader).test_client()
    assert 200 == client.get("/api/v1/jobs", headers={"Host": "runs.example"}).status_code


# Entity tags ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", [f"/api/v1{path}" for path in ROUTES if path != "/health"] + ["/"])
def test_an_unchanged_view_costs_one_row(api: Api, filled: Engine, path: str) -> None:
    """A poll with the tag of the last answer reads the change counter, and its job's; a commit makes it anew."""
    first = api.request(path)
    asked = {"If-None-Match": first.headers["ETag"]}
    with statements(api.reader) as sent:
        second = api.request(path, headers=asked)
    assert (304, b"") == (second.status_code, second.data)
    assert first.headers["ETag"] == second.headers["ETag"]
    of_a_job = path.startswith("/api/v1/jobs/1")
    assert len(sent) == (2 if path == "/" or of_a_job else 1)
    assert not any(
        table in sql for sql in sent for table in ("tensor_points", "tags", *(() if of_a_job else ("jobs",)))
    )
    changed(filled, 1)
    third = api.request(path, headers=asked)
    assert 200 == third.status_code
    assert first.headers["ETag"] != third.headers["ETag"]


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/1",
        "/jobs/1/tags",
        "/jobs/runs:.%2Fa/tags",
        "/jobs/1/files",
        "/series?job=1",
        "/points?job=1&job=1",
        "/images?job=1",
        "/lineage?job=1",
    ],
)
def test_what_happens_to_other_jobs_leaves_a_view_as_it_is(api: Api, filled: Engine, path: str) -> None:
    """While others are loaded, a poll of a job's views stays 304 and reads no points; its own commit counts."""
    asked = {"If-None-Match": api.request(f"/api/v1{path}").headers["ETag"]}
    changed(filled, 2)
    with statements(api.reader) as sent:
        assert 304 == api.request(f"/api/v1{path}", headers=asked).status_code
    assert len(sent) <= 2
    assert not any(table in sql for sql in sent for table in ("tensor_points", "tags", "blobs"))
    changed(filled, 1)
    assert 200 == api.request(f"/api/v1{path}", headers=asked).status_code


def test_hyperparameters_of_a_job_hang_on_others(api: Api, filled: Engine) -> None:
    """An experiment above a run says what its metrics are, so any commit may change them."""
    asked = {"If-None-Match": api.request("/api/v1/hparams?job=1").headers["ETag"]}
    changed(filled, 2)
    assert 200 == api.request("/api/v1/hparams?job=1", headers=asked).status_code


def test_a_tag_belongs_to_an_address_an_encoding_and_a_database(api: Api) -> None:
    """Different questions never share a tag; a tag that a proxy weakened still counts."""
    paths = ["/jobs", "/jobs?limit=5", "/jobs?limit=6", "/points", "/series"]
    tags = {api.request(f"/api/v1{path}").headers["ETag"] for path in paths}
    tags |= {api.request("/api/v1/jobs", headers={"Accept-Encoding": "gzip"}).headers["ETag"]}
    assert len(paths) + 1 == len(tags)
    tag = api.request("/api/v1/jobs").headers["ETag"]
    assert 304 == api.request("/api/v1/jobs", headers={"If-None-Match": f'"other", W/{tag}'}).status_code
    assert 200 == api.request("/api/v1/series", headers={"If-None-Match": tag}).status_code


@pytest.mark.parametrize("path", FIXED)
def test_the_document_is_not_sent_twice(api: Api, path: str) -> None:
    """What only another version changes has a tag too, and needs no database."""
    with statements(api.reader) as sent:
        first = api.request(f"/api/v1{path}")
        again = api.request(f"/api/v1{path}", headers={"If-None-Match": first.headers["ETag"]})
    assert (304, []) == (again.status_code, sent)


def test_health_is_never_stale(api: Api) -> None:
    """Health changes with time, so it is not kept."""
    headers = api.request("/api/v1/health").headers
    assert ("no-store", None) == (headers["Cache-Control"], headers.get("ETag"))


# Compression ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("accepted", "packed"),
    [("gzip", True), ("gzip, deflate, br", True), ("*", True), ("gzip;q=0", False), ("identity", False), ("br", False),
     ("", False), ("identity, gzip;q=0.5", False)],
)  # fmt: skip
def test_gzip_where_it_is_taken(api: Api, accepted: str, packed: bool) -> None:
    """A large body is compressed for who takes it, and is the same body."""
    plain = api.request("/api/v1/jobs/1/tags")
    answer = api.request("/api/v1/jobs/1/tags", headers={"Accept-Encoding": accepted})
    assert packed == (answer.headers.get("Content-Encoding") == "gzip")
    assert plain.data == (gzip.decompress(answer.data) if packed else answer.data)
    assert len(answer.data) == int(answer.headers["Content-Length"])


def test_a_small_body_is_not_compressed(api: Api) -> None:
    """Below a KiB it does not pay."""
    answer = api.request("/api/v1/jobs/1", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers
    assert 1 == answer.get_json()["id"]


# Health and defects ---------------------------------------------------------------------------------------------------
def test_health_tells_of_database_and_indexer(api: Api) -> None:
    """Health is an answer also while the indexer is away, and says since when."""
    found = api.get("/health")
    assert ("degraded", {"NOT_IN_CACHE": 1, "CACHING": 1, "CACHED": 6}) == (found["status"], found["jobs"])
    assert len(found["problems"]) == 1
    assert "process 4711 on here, was heard of last" in found["problems"][0]
    assert ("sqlite", REVISION) == (found["database"]["dialect"], found["database"]["revision"])
    assert found["database"]["size_bytes"] > 0
    assert found["database"]["disk_bytes"] > found["database"]["free_bytes"] > 0
    indexer = found["indexer"]
    assert (False, 2.0, "here:4711", "watching") == tuple(
        indexer[name] for name in ("alive", "heartbeat", "holder", "state")
    )
    assert [indexer] == found["indexers"]
    assert 500 == found["bytes_behind"]


def test_health_without_any_indexer(api: Api, filled: Engine) -> None:
    """A database that no indexer ever opened, or that the last one left in order, is well."""
    with transaction(filled) as conn:
        conn.exec_driver_sql("UPDATE indexers SET state = 'stopped'")
    assert "ok" == api.get("/health")["status"]
    with transaction(filled) as conn:
        conn.exec_driver_sql("DELETE FROM indexers")
    found = api.get("/health")
    assert ("ok", None, []) == (found["status"], found["indexer"], found["indexers"])


def test_an_indexer_that_was_heard_of_is_alive(api: Api, filled: Engine) -> None:
    """A fresh heartbeat means alive unless the indexer said good-bye; a clock ahead of ours is no negative lag.

    One from far ahead is of an indexer that died while the clock was wrong.
    """
    with transaction(filled) as conn:
        conn.exec_driver_sql(f"UPDATE indexers SET heartbeat = {time.time() + 86_400}")
    assert api.get("/health")["indexer"]["alive"] is False
    with transaction(filled) as conn:
        conn.exec_driver_sql(f"UPDATE indexers SET heartbeat = {time.time() + 20}, message = 'busy'")
    indexer = api.get("/health")["indexer"]
    assert (True, 0.0, "busy") == (indexer["alive"], indexer["lag"], indexer["message"])
    with transaction(filled) as conn:
        conn.exec_driver_sql("UPDATE indexers SET state = 'stopped'")
    assert api.get("/health")["indexer"]["alive"] is False


def test_what_ran_out_is_a_503(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk below temporary files, or too few descriptors, pass: the answer says so, and when to come back."""

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(queries, "jobs", full)
    answer = api.request("/api/v1/jobs")
    assert (503, "1") == (answer.status_code, answer.headers["Retry-After"])
    assert "the disk is full" in answer.get_json()["detail"]


def test_health_says_what_the_indexer_beside_it_waits_for(api: Api, filled: Engine) -> None:
    """Its row cannot be written just now: the heartbeat is old, and the words are new."""
    app = create_app(api.config, api.reader, waiting=lambda: "the disk is full")
    indexer = app.test_client().get("/api/v1/health").get_json()["indexer"]
    assert ("waiting", "the disk is full", False) == tuple(indexer[name] for name in ("state", "message", "alive"))
    assert "the disk is full" in app.test_client().get("/").text


def test_a_defect_is_a_500_without_its_inside(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body says nothing of the code; the log does."""

    def defect(*_args: object) -> None:
        raise ZeroDivisionError("secret words")

    monkeypatch.setattr(queries, "jobs", defect)
    with capture_logs() as lines:
        answer = api.request("/api/v1/jobs")
    assert (500, "application/problem+json") == (answer.status_code, answer.content_type)
    assert "secret" not in answer.text
    assert ["secret words"] == [str(line["exc_info"]) for line in lines]
