"""Lists in every format: the same rows as JSON has, all of them without `limit`, in the memory of a page."""

from __future__ import annotations

import csv
import io
import json
import math
import tracemalloc
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa
import pytest
from pyarrow import parquet
from sqlalchemy import Engine, insert

from indexer.db.schema import TENSOR_POINT
from tests.api.conftest import LOSS, Api, changed
from tests.support.engines import transaction
from tests.support.statements import statements
from webapi import formats, respond, tables, v1

ROUTES = ["/points", "/series", "/compare?tag=loss", "/lineage", "/hparams"]
TABULAR = ["csv", "arrow", "parquet"]


def read(content: bytes, form: str) -> list[dict[str, Any]]:
    """Return the rows of an answer."""
    match form:
        case "csv":
            return list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        case "ndjson":
            return [json.loads(line, parse_constant=pytest.fail) for line in content.splitlines()]
        case "arrow":
            rows: list[dict[str, Any]] = pa.ipc.open_stream(content).read_all().to_pylist()
            return rows
    found: list[dict[str, Any]] = parquet.read_table(io.BytesIO(content)).to_pylist()
    return found


def rows(api: Api, path: str, form: str, **wanted: object) -> list[dict[str, Any]]:
    """Return the rows of a list in a format."""
    path, _, query = path.partition("?")
    answer = api.request(f"/api/v1{path}.{form}?{query}&{urlencode(wanted)}".replace("?&", "?"))
    assert 200 == answer.status_code, answer.text
    assert formats.CONTENT_TYPES[form] == answer.content_type
    return read(answer.data, form)


def number(value: Any) -> float | None:
    """Return a number as any format has it; NaN as a word, since it equals nothing."""
    if value is None or value == "":
        return None
    found = float(value)
    return "NaN" if math.isnan(found) else found  # type: ignore[return-value]


# The same rows --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", [*TABULAR, "ndjson"])
def test_points_are_those_of_json(api: Api, form: str) -> None:
    """Every point, with its numbers as they are, whatever the format."""
    expected = api.pages("/points", {"limit": 7})
    found = rows(api, "/points", form)
    for name in ("job", "step", "seq"):
        assert [item[name] for item in expected] == [int(row[name]) for row in found]
    for name in ("train_id", "tag", "plugin"):
        assert [item[name] for item in expected] == [row[name] for row in found]
    for name in ("wall_time", "value"):
        assert [number(item[name]) for item in expected] == [number(row[name]) for row in found]


@pytest.mark.parametrize("form", [*TABULAR, "ndjson"])
@pytest.mark.parametrize(
    "wanted", [{}, {"max_points": 0, "x": "relative"}, {"max_points": 3}, {"tag": "restarted", "restarts": "all"}]
)
def test_curves_are_those_of_json(api: Api, form: str, wanted: dict[str, object]) -> None:
    """A row a point, of all series."""
    expected = [
        [series["train_id"], series["tag"], step, *map(number, rest)]
        for series in api.pages("/series", {"limit": 3, **wanted}, key="series")
        for step, *rest in zip(
            *(series[name] for name in ("step", "wall_time", "value", "x") if name in series), strict=True
        )
    ]
    found = [
        [
            row["train_id"],
            row["tag"],
            int(row["step"]),
            *(number(row[n]) for n in ("wall_time", "value", "x") if n in row),
        ]
        for row in rows(api, "/series", form, **wanted)
    ]
    assert expected == found


@pytest.mark.parametrize("path", ROUTES)
def test_json_comes_in_three_shapes(api: Api, path: str) -> None:
    """The same table as objects, columns and lists, a page with `next`."""
    address, _, query = path.partition("?")
    pairs: list[tuple[str, object]] = [*parse_qsl(query), ("limit", "2")]
    lists = api.get(address, [*pairs, ("shape", "rows")])
    columns = api.get(address, [*pairs, ("shape", "columns")])
    records = api.get(address, [*pairs, ("shape", "records")])
    assert len({str(found["next"]) for found in (lists, columns, records)}) == 1
    assert len(lists["rows"]) == len(records["items"])
    if address != "/series":  # whose own JSON is another
        assert columns["columns"] == {
            name: [row[n] for row in lists["rows"]] for n, name in enumerate(lists["columns"])
        }
        assert len(lists["rows"]) <= 2
    for name in {"job", "step", "train_id", "last_value"} & set(lists["columns"]):
        place = lists["columns"].index(name)
        assert [row[place] for row in lists["rows"]] == [item[name] for item in records["items"]]


def test_the_suffix_wins_over_accept(api: Api) -> None:
    """What stands in the address counts; Vary says that Accept counts else."""
    csv_ = {"Accept": "text/csv"}
    assert api.request("/api/v1/points", headers=csv_).content_type.startswith("text/csv")
    for path in ("/api/v1/points.json", "/api/v1/points.ndjson"):
        answer = api.request(path, headers=csv_)
        assert "json" in answer.content_type
        assert "Accept" in answer.headers["Vary"]
    assert api.request("/api/v1/points").data == api.request("/api/v1/points.json").data
    assert 404 == api.request("/api/v1/points.xml").status_code


# Pages ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["csv", "ndjson"])
@pytest.mark.parametrize("path", ["/points?tag=loss", "/series?max_points=0", "/compare?tag=loss"])
def test_a_limit_makes_pages_that_link(api: Api, path: str, form: str) -> None:
    """With `limit` an answer names the next one in its Link header, and all of them are the whole."""
    address, _, query = path.partition("?")
    whole = rows(api, path, form)
    found: list[dict[str, Any]] = []
    following = f"/api/v1{address}.{form}?{query}&limit=2"
    while following:
        answer = api.request(following)
        found += read(answer.data, form)
        link = answer.headers.get("Link", "")
        assert (not link) or link.endswith('>; rel="next"')
        following = link.partition("<")[2].partition(">")[0]
    assert whole == found


def test_a_form_has_a_tag_of_its_own(api: Api, filled: Engine) -> None:
    """Each format is cached for itself, until the database changes."""
    marks = {form: api.request(f"/api/v1/points.{form}").headers["ETag"] for form in formats.CONTENT_TYPES}
    accepted = api.request("/api/v1/points", headers={"Accept": "text/csv"}).headers["ETag"]
    assert len(formats.CONTENT_TYPES) == len({*marks.values()})
    assert accepted not in {api.request("/api/v1/points").headers["ETag"], *marks.values()}
    asked = {"If-None-Match": marks["parquet"]}
    assert 304 == api.request("/api/v1/points.parquet", headers=asked).status_code
    changed(filled)
    assert 200 == api.request("/api/v1/points.parquet", headers=asked).status_code


@pytest.mark.parametrize("path", ROUTES)
def test_problems_are_problems_in_any_form(api: Api, path: str) -> None:
    """A parameter that cannot be right is named, whatever the format."""
    address, _, query = path.partition("?")
    for wanted, status in (("limit=0", 400), ("job=99", 404), ("nonsense=1", 400), ("after=x", 400)):
        answer = api.request(f"/api/v1{address}.csv?{query}&{wanted}")
        assert (status, "application/problem+json") == (answer.status_code, answer.content_type), wanted


def test_a_library_that_is_missing_is_named(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow the other formats work on."""
    monkeypatch.setattr(formats, "find_spec", lambda _name: None)
    for path in ("/points.parquet", "/points.arrow", "/series.arrow"):
        answer = api.request(f"/api/v1{path}")
        assert (501, "application/problem+json") == (answer.status_code, answer.content_type)
        assert "summarydb[arrow]" in answer.get_json()["detail"]
    assert 200 == api.request("/api/v1/points.csv").status_code


# Memory ---------------------------------------------------------------------------------------------------------------
def add_long(engine: Engine, tag: int, first: int, count: int) -> None:
    """Append points to a tag."""
    with transaction(engine) as conn:
        for start in range(first, first + count, 50_000):
            steps = range(start, min(start + 50_000, first + count))
            columns = ("tag_id", "step", "seq", "wall_time", "value")
            conn.execute(
                insert(TENSOR_POINT), [dict(zip(columns, (tag, s, 0, 1.5 + s, s / 7), strict=True)) for s in steps]
            )
        conn.exec_driver_sql(f"UPDATE tags SET point_count = point_count + {count} WHERE id = {tag}")
    changed(engine)


def peak_of(api: Api, path: str) -> tuple[int, int]:
    """Return the bytes of an answer that nobody keeps, and the peak of memory meanwhile."""
    tracemalloc.start()
    try:
        with api.app.test_client().get(path, buffered=False) as answer:
            size = sum(len(chunk) for chunk in answer.iter_encoded())
        return size, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("backend", ["sqlite"])
@pytest.mark.parametrize("path", ["/points.csv", "/points.parquet", "/points.arrow", "/series.csv?max_points=0"])
def test_memory_is_that_of_a_page(
    api: Api, filled: Engine, path: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the points take no more memory."""
    monkeypatch.setattr(respond, "HELD_BYTES", 10_000)
    monkeypatch.setattr(tables, "PAGE", 2_000)
    monkeypatch.setattr(v1, "STREAM_POINTS", 2_000)
    monkeypatch.setattr(formats, "ROW_GROUP", 2_000)
    add_long(filled, LOSS, 10, 20_000)
    size, peak = peak_of(api, f"/api/v1{path}")
    add_long(filled, LOSS, 20_010, 60_000)
    larger, later = peak_of(api, f"/api/v1{path}")
    assert larger > 3 * size
    assert later < 1.3 * peak + 200_000
    assert later < 16 * 2**20


def test_pages_are_read_by_their_key(api: Api, filled: Engine) -> None:
    """A page costs as many statements wherever it is, and no more rows than it has."""
    add_long(filled, LOSS, 10, 60_000)
    with statements(api.reader) as sent:
        answer = api.request("/api/v1/points.csv?tag=loss&job=1&plugin=scalars")
    assert 60_012 == answer.data.count(b"\n") + 1
    assert 7 == len([sql for sql in sent if "FROM tensor_points" in sql and "LIMIT" in sql])


# Runs -----------------------------------------------------------------------------------------------------------------
LINEAGE = [(1, "learning_rate", "number", "0.5", 0.5), (1, "optimizer", "string", "SGD", None),
           (2, "learning_rate", "number", "NaN", None), (2, "metric/acc", "string", "high", None)]  # fmt: skip


@pytest.fixture
def known(filled: Engine) -> Engine:
    """Lineages and hyperparameters of two jobs, one of them called as a field is."""
    with transaction(filled) as conn:
        for n, (job, name, kind, value, as_number) in enumerate(LINEAGE):
            json_ = json.dumps(value if kind == "string" or value == "NaN" else as_number)
            section, key = ("metric", "acc") if name == "metric/acc" else ("hyper_parameters", name)
            row: Sequence[Any] = (job, n, section, key, name, kind, value, as_number, json_, 1, 0, 5.0)
            conn.exec_driver_sql(
                "INSERT INTO lineage (job_id, ordinal, section, key, name, kind, value, number, json, shard_id,"
                ' "offset", wall_time) VALUES (' + ", ".join(map(literal, row)) + ")"
            )
        for job in (1, 2):
            runs = json.dumps({"lr": job / 4, "status": f"s{job}", "deep": True})
            conn.exec_driver_sql(
                "INSERT INTO hparam_runs (job_id, hparams, status, start_time) VALUES"
                f" ({job}, {literal(runs)}, 'success', 7.0)"
            )
            for n, (name, kind, value, as_number) in enumerate(
                [
                    ("lr", "number", str(job / 4), job / 4),
                    ("status", "string", f"s{job}", None),
                    ("deep", "bool", "true", None),
                ]
            ):
                row = (job, "session", n, name, kind, value, as_number, json.dumps(as_number or value))
                conn.exec_driver_sql(
                    "INSERT INTO hparams (job_id, source, ordinal, name, kind, value, number, json) VALUES ("
                    + ", ".join(map(literal, row))
                    + ")"
                )
    return filled


def literal(value: Any) -> str:
    """Return a value as SQL."""
    return (
        "NULL" if value is None else repr(value) if not isinstance(value, str) else "'" + value.replace("'", "''") + "'"
    )


@pytest.mark.parametrize("form", TABULAR)
def test_keys_are_columns(api: Api, known: Engine, form: str) -> None:
    """Each key of a lineage and each hyperparameter has its column; one that is called as a field says so."""
    found = rows(api, "/lineage", form, sort="train_id")
    assert ["./a", "./b/c"] == [row["train_id"] for row in found]
    assert [0.5, "NaN"] == [number(row["learning_rate"]) for row in found]
    assert ["SGD", "high"] == [found[0]["optimizer"], found[1]["metric/acc"]]
    found = rows(api, "/hparams", form, sort="train_id")
    assert [0.25, 0.5] == [number(row["lr"]) for row in found]
    assert [("success", "s1"), ("success", "s2")] == [(row["status"], row["hparam/status"]) for row in found]
    assert ["true", "true"] == [row["deep"] for row in found]
    assert ["{}", "{}"] == [row["metrics"] for row in found]


def test_lines_are_items(api: Api, known: Engine) -> None:
    """ndjson has what JSON has, a line an item."""
    for path in ("/lineage", "/hparams", "/points"):
        assert api.pages(path) == rows(api, path, "ndjson")


def test_too_many_keys_are_one_column(api: Api, known: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table does not get wider than a reader can take."""
    monkeypatch.setattr(tables, "MAX_KEYS", 2)
    found = rows(api, "/hparams", "csv", sort="train_id")
    assert {"lr": 0.25, "status": "s1", "deep": True} == json.loads(found[0]["hparams"])
    assert "lr" not in found[0]
