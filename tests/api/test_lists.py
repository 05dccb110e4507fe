"""Jobs, files and tags: filters, sorting, paging, and how a job is named."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, delete, insert

from indexer import text
from indexer.db.schema import JOB, ROOT, TAG
from tests.api.conftest import JOBS, MARKUP_TAG, ODD_JOB, SCRIPT, Api, add, changed, job_row, tag_row
from tests.support.engines import transaction
from tests.support.statements import statements
from webapi import queries, respond


def ids(items: list[dict[str, Any]]) -> list[int]:
    """Return the ids of items."""
    return [item["id"] for item in items]


# Jobs -----------------------------------------------------------------------------------------------------------------
def test_jobs_come_newest_first(api: Api) -> None:
    """Without a sort, jobs come by falling update_time, then falling id; those without one come last."""
    assert [7, 2, 1, 8, 5, 4, 6, 3] == ids(api.get("/jobs")["items"])


def test_a_job_has_its_columns(api: Api) -> None:
    """A job's columns are those of the table with its root's name and damage; leases and keys stay inside."""
    assert {
        "id": 1,
        "root_id": 1,
        "root": "runs",
        "train_id": "./a",
        "cache_status": "CACHED",
        "create_time": None,
        "update_time": 100.5,
        "start_time": None,
        "bytes_on_disk": 1000,
        "bytes_indexed": 1000,
        "point_count": 45,
        "missing_since": None,
        "last_error": None,
        "access_time": None,
        "evicted_at": None,
        "pruned_at": None,
        "revision": 0,
        "bad_records": 150,
        "bad_bytes": 600,
    } == api.get("/jobs/1")


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"root": "exp"}, [3]),
        ({"root": "nothing"}, []),
        ({"cache_status": "CACHING"}, [2]),
        ({"plugin": "images"}, [1]),
        ({"plugin": "scalars"}, [2, 1]),
        ({"plugin": ""}, []),
        ({"q": "B/C"}, [2]),
        ({"q": "%"}, [8]),
        ({"q": "_d"}, [8]),
        ({"q": "100%_dONE"}, [8]),
        ({"q": "/"}, [7, 2, 1, 8, 5, 4, 6, 3]),
        ({"q": "\\"}, []),
        ({"q": "'"}, []),
        ({"q": "SCRIPT"}, [6]),
        ({"q": "\0"}, []),
        ({"q": "␛ff"}, [6]),
        ({"q": "./a", "root": "runs", "cache_status": "CACHED", "plugin": "custom"}, [1]),
    ],
)
def test_filters_of_jobs(api: Api, filters: dict[str, str], expected: list[int]) -> None:
    """Filters hold together, and what is special in LIKE stands for itself."""
    assert expected == ids(api.get("/jobs", filters)["items"])


def test_a_filter_may_hold_any_bytes(api: Api) -> None:
    """Bytes that are no UTF-8 find the name that holds them, escaped as it is stored."""
    assert [6] == ids(api.get("/jobs", {"q": "\udcff"})["items"])


@pytest.mark.parametrize("column", queries.SORTS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_every_sort_pages_to_the_end(api: Api, column: str, sign: str) -> None:
    """Pages of two hold every job once, in the order of one page; NULL comes last either way."""
    whole = api.get("/jobs", {"sort": sign + column})["items"]
    assert len(JOBS) == len(whole)
    assert whole == api.pages("/jobs", {"sort": sign + column, "limit": 2})
    keys = [item[column] for item in whole]
    known = [key for key in keys if key is not None]
    assert keys == known + [None] * (len(keys) - len(known))
    by_bytes = [key.encode() if isinstance(key, str) else key for key in known]
    assert sorted(by_bytes, reverse=bool(sign)) == by_bytes


def test_a_cursor_belongs_to_its_sort(api: Api) -> None:
    """A cursor of another order would skip rows, so it is refused."""
    following = api.get("/jobs", {"limit": 2})["next"]
    assert "after" == api.get("/jobs", {"sort": "id", "after": following}, status=400)["parameter"]


def test_pages_are_stable_while_jobs_come(api: Api, filled: Engine) -> None:
    """Rows added between pages neither repeat nor hide those that were there."""
    expected = ids(api.get("/jobs")["items"])
    found: list[int] = []
    following: dict[str, object] = {}
    for round_ in range(20):
        page = api.get("/jobs", {"limit": 1} | following)
        found += ids(page["items"])
        if page["next"] is None:
            break
        following = {"after": page["next"]}
        with transaction(filled) as conn:
            row = job_row(100 + round_, 1, f"./new{round_}", update_time=1000.0 + round_)
            conn.execute(insert(JOB).values(**row))
    assert expected == found


def test_jobs_are_listed_with_a_fixed_number_of_statements(api: Api, filled: Engine) -> None:
    """Ten times as many jobs cost the same statements, and none of them reads a point."""
    with statements(api.reader) as few:
        api.get("/jobs")
    with transaction(filled) as conn:
        add(conn, JOB, [job_row(n, 1, f"./many/{n}", update_time=float(n)) for n in range(100, 180)])
    with statements(api.reader) as many:
        assert 88 == len(api.get("/jobs")["items"])
    assert 3 == len(few) == len(many)
    assert not any("tensor_points" in sql for sql in many)


# Names of jobs --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "job"),
    [
        ("2", 2),
        (quote("./b/c", safe=""), 2),
        ("./b/c", 2),
        ("b/c", 2),  # what is left of ./b/c when a client tidies the path
        ("runs:./a", 1),
        (quote("exp:./a", safe=""), 3),
        (quote("./", safe=""), 7),
        ("./x", 5),
        ("./x/tags", 4),
        (quote(ODD_JOB, safe=""), 6),
    ],
)
def test_how_a_job_is_named(api: Api, path: str, job: int) -> None:
    """An id, a train_id quoted or not, and root:train_id name a job; a whole path goes before a suffix."""
    assert job == api.get(f"/jobs/{path}")["id"]


@pytest.mark.parametrize(
    ("path", "items"),
    [("2/tags", 2), ("./b/c/tags", 2), (".%2Fb%2Fc/tags", 2), ("./x/tags/tags", 0), ("5/tags", 0), (".%2F/tags", 0)],
)
def test_tags_of_a_job_by_any_name(api: Api, path: str, items: int) -> None:
    """The tags' path takes every name of a job."""
    answer = api.request(f"/api/v1/jobs/{path}")
    assert 200 == answer.status_code
    assert items == len(answer.get_json()["items"])


@pytest.mark.parametrize(
    "path",
    [
        "9",
        "0",
        "00",
        "999999999999999999",
        "99999999999999999999999",
        "./",
        "./nothing",
        "runs:./nothing",
        "none:./a",
        "1/nothing",
        "%00",
        "%ff",
        "-1",
    ],
)
@pytest.mark.parametrize("suffix", ["", "/tags", "/files"])
def test_an_unknown_job_is_not_found(api: Api, filled: Engine, path: str, suffix: str) -> None:
    """A job nobody has is a 404 that names it, on each of its routes."""
    with transaction(filled) as conn:
        conn.execute(delete(JOB).where(JOB.c.train_id == "./"))
    problem = api.get(f"/jobs/{path}{suffix}", status=404)
    assert "id" == problem["parameter"]


def test_a_train_id_of_two_roots_is_ambiguous(api: Api) -> None:
    """Where roots share a train_id the answer names the candidates."""
    problem = api.get("/jobs/.%2Fa", status=400)
    assert "id" == problem["parameter"]
    assert "runs:./a, exp:./a" in problem["detail"]


# Files ----------------------------------------------------------------------------------------------------------------
def test_files_of_a_job(api: Api) -> None:
    """A file says how far it is read; of its errors the first hundred come, and how many there are."""
    clean, damaged = api.get("/jobs/1/files")["items"]
    assert ("events.1", "done", 1000, 1000, 0, []) == tuple(
        clean[name] for name in ("name", "state", "cursor", "size", "error_count", "errors")
    )
    assert ("events.2␛ff", "torn", 150, 600, 150) == tuple(
        damaged[name] for name in ("name", "state", "bad_records", "bad_bytes", "error_count")
    )
    assert [{"offset": 8 * n, "length": 4, "reason": "payload checksum"} for n in range(100)] == damaged["errors"]


def test_files_are_paged(api: Api) -> None:
    """Pages of one hold every file once."""
    assert [1, 2] == ids(api.pages("/jobs/1/files", {"limit": 1}))


# Tags -----------------------------------------------------------------------------------------------------------------
def test_a_tag_has_its_statistics(api: Api) -> None:
    """A tag's statistics are the stored ones, and its metadata is decoded."""
    tag = next(item for item in api.get("/jobs/1/tags")["items"] if item["id"] == 1)
    assert {
        "id": 1,
        "name": "loss",
        "plugin": "scalars",
        "data_class": "scalar",
        "point_count": 10,
        "first_step": 0,
        "last_step": 9,
        "min_step": 0,
        "max_step": 9,
        "first_wall_time": 1000.0,
        "last_wall_time": 1009.0,
        "max_wall_time": 1009.0,
        "last_value": 0.1,
        "min_value": 0.1,
        "max_value": 1.0,
        "nan_count": 0,
        "pos_inf_count": 0,
        "neg_inf_count": 0,
        "max_length": 0,
        "metadata": {
            "data_class": "scalar",
            "display_name": "The loss",
            "description": None,
            "plugin_content": "AP8=",
            "plugin_data": None,
        },
    } == tag


def test_tags_come_by_name_as_in_the_file(api: Api) -> None:
    """Names come unescaped and by their bytes; equal ones by plugin."""
    found = [(tag["name"], tag["plugin"]) for tag in api.get("/jobs/1/tags")["items"]]
    assert [
        (MARKUP_TAG, "images"),
        ("Accuracy/top1", "scalars"),
        ("extreme", "scalars"),
        ("loss", "custom"),
        ("loss", "scalars"),
        ("nul\0tag␛", "scalars"),
        ("restarted", "scalars"),
        ("weird", "scalars"),
    ] == found


def test_infinite_statistics_are_strict(api: Api, filled: Engine) -> None:
    """Infinite last values and times are strings, a last value of a scalar that is NULL is NaN."""
    with transaction(filled) as conn:
        more = {"point_count": 1, "last_value": float("inf"), "last_wall_time": float("-inf")}
        infinite = tag_row(50, 5, "scalars", "inf") | more
        nan = tag_row(51, 5, "scalars", "nan") | more | {"last_value": None}
        add(conn, TAG, [infinite, nan])
    infinite, nan = api.get("/jobs/5/tags")["items"]
    assert ("Infinity", "-Infinity", "NaN") == (infinite["last_value"], infinite["last_wall_time"], nan["last_value"])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"plugin": "custom"}, {5}),
        ({"plugin": "none"}, set()),
        ({"q": "LOSS"}, {1, 5}),
        ({"q": "loss", "plugin": "scalars"}, {1}),
        ({"q": "\0"}, {3}),
        ({"q": "␛"}, {3}),
        ({"q": "%"}, set()),
        ({"q": "onerror"}, {4}),
    ],
)
def test_filters_of_tags(api: Api, filters: dict[str, str], expected: set[int]) -> None:
    """Tags are filtered by plugin and by text as it is in the file."""
    assert expected == set(ids(api.get("/jobs/1/tags", filters)["items"]))


def test_ten_thousand_tags_page_to_the_end(api: Api, filled: Engine) -> None:
    """Pages hold every tag once while others come before and behind, each with the same few statements."""
    with transaction(filled) as conn:
        add(conn, TAG, [tag_row(1000 + n, 5, "scalars", f"layer{n % 97}/weight.{n:05}") for n in range(10_000)])
    found: list[int] = []
    following: dict[str, object] = {}
    counts = set()
    client = api.app.test_client()  # to hold ten thousand tags against the document takes ten seconds
    for round_ in range(20):
        with statements(api.reader) as sent:
            page = client.get("/api/v1/jobs/5/tags", query_string={"limit": 1_000} | following).get_json()
        counts.add(len(sent))
        found += ids(page["items"])
        if page["next"] is None:
            break
        following = {"after": page["next"]}
        with transaction(filled) as conn:
            add(conn, TAG, [tag_row(20_000 + round_, 5, "scalars", f"a{round_}")])
        changed(filled)
    assert 10_000 == len(found) == len(set(found))
    assert set(range(1000, 11_000)) == set(found)
    assert {3} == counts


def test_names_longer_than_a_cursor_holds(api: Api, filled: Engine) -> None:
    """Names may be of any length and alike in their beginning; the cursor stays short, and nothing is skipped."""
    with transaction(filled) as conn:
        add(conn, TAG, [tag_row(500 + n, 5, "p" * 10_000, "␛" * 100_000 + str(n)) for n in range(5)])
    page = api.get("/jobs/5/tags", {"limit": 1})
    assert len(page["next"]) < 10_000
    assert [500, 501, 502, 503, 504] == ids(api.pages("/jobs/5/tags", {"limit": 1}))


def test_a_root_may_have_any_name(api: Api, filled: Engine) -> None:
    """A root with a colon in its name is told from the train_id behind it."""
    with transaction(filled) as conn:
        add(conn, ROOT, [{"id": 9, "name": text.store("d:x"), "path": "/x", "named": True}])
        add(conn, JOB, [job_row(90, 9, "./a")])
    assert 90 == api.get("/jobs/" + quote("d:x:./a", safe=""))["id"]


def test_markup_stays_text_in_json(api: Api) -> None:
    """Names go out as they are; what makes them harmless is the content type and nosniff."""
    answer = api.request("/api/v1/jobs/6")
    assert SCRIPT in answer.get_json()["train_id"]
    assert ("application/json", "nosniff") == (answer.content_type, answer.headers["X-Content-Type-Options"])


def test_forged_cursors_never_reach_the_database(api: Api) -> None:
    """A cursor whose parts no row can have is malformed on every list, whatever the database."""
    forged: dict[str, list[list[object]]] = {
        "/jobs": [["jobs -update_time", 1e308, 2**40], ["jobs -update_time", None, -1]],
        "/jobs/1/files": [["files", 2**31]],
        "/jobs/1/tags": [["tags", "a", "b", 2**62], ["tags", "a\0", "b", 1]],
        "/series": [["series", 2**31]],
        "/points": [["points", 2**31, 0, 0], ["points", 1, 2**63, 0], ["points", 1, 0, 2**31]],
    }
    for path, cursors in forged.items():
        for cursor in cursors:
            text_ = base64.urlsafe_b64encode(json.dumps(cursor).encode()).rstrip(b"=").decode()
            assert "after" == api.get(path, {"after": text_}, status=400)["parameter"]
    api.get("/points", {"after": respond.cursor("points", 2**31 - 1, -(2**63), 2**31 - 1)})
    api.get("/jobs", {"after": respond.cursor("jobs -update_time", 1e308, 1)})
    api.get("/jobs", {"sort": "point_count", "after": respond.cursor("jobs point_count", 2**63 - 1, 1)})
