"""A database filled by hand, and a client that holds every answer against the OpenAPI document."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from sqlalchemy import Connection, Engine, Table, insert, select, update
from werkzeug.test import TestResponse

from indexer import text
from indexer.config import Config
from indexer.db.engine import open_engine, open_reader
from indexer.db.schema import INDEX_STATE, INDEXER, JOB, RESTART, ROOT, SHARD, SHARD_ERROR, TAG, TENSOR_POINT
from tests.conftest import DATA, Backend
from tests.support.engines import transaction
from tests.support.following import Follower
from tests.support.postgres import as_role
from webapi.app import create_app

Wanted = Mapping[str, object] | Sequence[tuple[str, object]]
Row = tuple[int, int, int, float | None, float | None]  # tag_id, step, seq, wall_time, value

LOSS = 1  # job 1: steps 0..9
ACCURACY = 2
WITH_NUL = 3
IMAGE = 4
OTHER_LOSS = 5  # same name and job as LOSS, another plugin
EXTREME = 6  # steps at the ends of int64
WEIRD = 7  # NaN and infinities
RESTARTED = 8  # a second file went back from step 4 to 2
LOSS_OF_2 = 9
EMPTY = 10  # no points

SCRIPT = "<script>alert(1)</script>"
ODD_JOB = f"./␛ff{SCRIPT}"
MARKUP_TAG = '"><img src=x onerror=alert(1)>'

JOBS = [
    # id, root, train_id, cache_status, update_time, on disk, indexed, points, last_error
    (1, 1, "./a", "CACHED", 100.5, 1000, 1000, 45, None),
    (2, 1, "./b/c", "CACHING", 200.25, 1000, 500, 20, None),
    (3, 2, "./a", "NOT_IN_CACHE", None, 0, 0, 0, None),
    (4, 1, "./x/tags", "CACHED", 50.0, 10, 10, 0, None),
    (5, 1, "./x", "CACHED", 50.0, 10, 10, 0, None),
    (6, 1, ODD_JOB, "CACHED", None, 10, 10, 0, SCRIPT),
    (7, 1, "./", "CACHED", 300.0, 10, 10, 0, None),
    (8, 1, "./100%_Done", "CACHED", 50.0, 10, 10, 0, None),
]


def job_row(job: int, root: int, train_id: str, **more: Any) -> dict[str, Any]:
    """Return a row of `jobs`."""
    return {"id": job, "root_id": root, "train_id": train_id, "train_key": text.key(train_id)} | more


def tag_row(
    tag: int, job: int, plugin: str, name: str, *, data_class: str = "scalar", **more: object
) -> dict[str, Any]:
    """Return a row of `tags`; `name` and `plugin` as in the file."""
    stored, kind = text.store(name), text.store(plugin)
    keys = {"series_key": text.key(kind, stored), "name_key": text.short_key(stored)}
    return {"id": tag, "job_id": job, "plugin": kind, "name": stored, "data_class": data_class} | keys | more


def add(conn: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that have the same columns."""
    conn.execute(insert(table), [dict(row) for row in rows])


def add_points(conn: Connection, rows: Sequence[Row]) -> None:
    """Insert points."""
    add(
        conn,
        TENSOR_POINT,
        [dict(zip(("tag_id", "step", "seq", "wall_time", "value"), row, strict=True)) for row in rows],
    )


def changed(engine: Engine, *jobs: int) -> None:
    """Raise the change counter, and with it the revision of these jobs, as every commit of an indexer does."""
    with transaction(engine) as conn:
        conn.execute(update(INDEX_STATE).values(change_counter=INDEX_STATE.c.change_counter + 1))
        counter = select(INDEX_STATE.c.change_counter).scalar_subquery()
        conn.execute(update(JOB).where(JOB.c.id.in_(jobs)).values(revision=counter))


POINTS: list[Row] = [
    *((LOSS, step, 0, 1000.0 + step, 1.0 / (step + 1)) for step in range(10)),
    *((ACCURACY, step, 0, 1000.0 + step, step / 10) for step in range(10)),
    (WITH_NUL, 1, 0, 5.0, 1.5),
    *((IMAGE, step, 0, 7.0 + step, None) for step in range(3)),
    (OTHER_LOSS, 5, 0, None, 4.0),
    (EXTREME, -(2**63), 0, -1.5, -0.0),
    (EXTREME, 2**53 + 1, 0, 0.0, 5e-324),
    (EXTREME, 2**63 - 1, 0, 1.5, 1.7976931348623157e308),
    (WEIRD, 0, 0, 1.0, None),
    (WEIRD, 1, 0, float("inf"), float("inf")),
    (WEIRD, 2, 0, 3.0, float("-inf")),
    (WEIRD, 3, 0, 4.0, 0.5),
    *((RESTARTED, step, 0, 10.0 + step, 1.0) for step in range(5)),
    *((RESTARTED, step, 1, 20.0 + step, 2.0) for step in range(2, 6)),
    *((LOSS_OF_2, step, 0, 50.0 + step, float(step)) for step in range(20)),
]

TAGS = [
    tag_row(LOSS, 1, "scalars", "loss"),
    tag_row(ACCURACY, 1, "scalars", "Accuracy/top1"),
    tag_row(WITH_NUL, 1, "scalars", "nul\0tag␛"),
    tag_row(IMAGE, 1, "images", MARKUP_TAG, data_class="blob_sequence"),
    tag_row(OTHER_LOSS, 1, "custom", "loss"),
    tag_row(EXTREME, 1, "scalars", "extreme"),
    tag_row(WEIRD, 1, "scalars", "weird"),
    tag_row(RESTARTED, 1, "scalars", "restarted"),
    tag_row(LOSS_OF_2, 2, "scalars", "loss"),
    tag_row(EMPTY, 2, "scalars", "empty"),
]


def with_statistics(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `tags` with the statistics that its points in POINTS have."""
    points = sorted((p for p in POINTS if p[0] == row["id"]), key=lambda p: (p[2], p[1]))
    finite = [p[4] for p in points if p[4] is not None and abs(p[4]) != float("inf")]
    steps, times = [p[1] for p in points], [p[3] for p in points]
    scalar = row["data_class"] == "scalar"
    return row | {
        "content": b"\x00\xff" if row["id"] == LOSS else None,
        "display_name": "The loss" if row["id"] == LOSS else None,
        "point_count": len(points),
        "first_step": steps[0] if steps else None,
        "last_step": steps[-1] if steps else None,
        "min_step": min(steps, default=None),
        "max_step": max(steps, default=None),
        "first_wall_time": times[0] if times else None,
        "last_wall_time": times[-1] if times else None,
        "max_wall_time": max((time for time in times if time is not None), default=None),
        "last_value": points[-1][4] if points else None,
        "min_value": min(finite, default=None),
        "max_value": max(finite, default=None),
        "nan_count": sum(p[4] is None for p in points) if scalar else 0,
        "pos_inf_count": sum(p[4] == float("inf") for p in points),
        "neg_inf_count": sum(p[4] == float("-inf") for p in points),
        "max_length": 0 if scalar else 1,
        "seq": points[-1][2] if points else 0,
        "segments": 1 if points else 0,
    }


def fill(engine: Engine) -> None:
    """Store two roots, jobs with odd names, restarts and values that are no JSON numbers."""
    columns = ("cache_status", "update_time", "bytes_on_disk", "bytes_indexed", "point_count", "last_error")
    with transaction(engine) as conn:
        add(conn, ROOT, [
            {"id": 1, "name": "runs", "path": "/runs", "named": False},
            {"id": 2, "name": "exp", "path": "/exp", "named": True},
        ])  # fmt: skip
        add(conn, JOB, [job_row(*row[:3]) | dict(zip(columns, row[3:], strict=True)) for row in JOBS])
        shard: dict[str, object] = {"kind": "summary", "format": "tensorboard", "size": 1000, "cursor": 1000}
        add(conn, SHARD, [
            shard | {"id": 1, "job_id": 1, "name": "events.1", "state": "done", "bad_records": 0, "bad_bytes": 0},
            shard | {"id": 2, "job_id": 1, "name": "events.2␛ff", "state": "torn", "bad_records": 150,
             "bad_bytes": 600},
            shard | {"id": 3, "job_id": 2, "name": "events.3", "state": "growing", "bad_records": 1, "bad_bytes": 9},
        ])  # fmt: skip
        add(conn, SHARD_ERROR, [
            {"shard_id": 2, "offset": 8 * n, "length": 4, "reason": "payload checksum"} for n in range(150)
        ] + [{"shard_id": 3, "offset": 0, "length": 9, "reason": "length checksum"}])  # fmt: skip
        add(conn, TAG, [with_statistics(row) for row in TAGS])
        add_points(conn, POINTS)
        add(conn, RESTART, [{"tag_id": RESTARTED, "seq": 1, "step": 2, "shard_id": 2, "cause": "new_file"}])
        add(conn, INDEXER, [{
            "id": 1, "host": "here", "pid": 4711, "version": "0.1", "started_at": 1.0, "heartbeat": 2.0,
            "state": "watching", "message": None,
        }])  # fmt: skip
    changed(engine)


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A writer's engine on a filled database of the test's own."""
    fill(engine)
    return engine


def refuse_constant(name: str) -> object:
    """Fail on what is no JSON: NaN and Infinity."""
    raise AssertionError(f"bare {name} in JSON")


@dataclass
class Api:
    """A client of the application that checks every answer against the document."""

    app: Flask
    config: Config
    reader: Engine
    document: dict[str, Any]

    @classmethod
    def over(cls, config: Config, reader: Engine, *, document: dict[str, Any] | None = None) -> Api:
        """Return the API over a database. document: where the application does not tell it without a token."""
        app = create_app(config, reader)
        if document is None:
            document = json.loads(app.test_client().get("/api/v1/openapi.json").data)
        return cls(app, config, reader, document)

    def request(self, path: str, method: str = "GET", **more: Any) -> TestResponse:
        """Ask for a path with its query string."""
        more.setdefault("buffered", True)  # read to its end and closed
        answer = self.app.test_client().open(path, method=method, **more)
        self.check(answer)
        return answer

    def get(self, path: str, wanted: Wanted = (), *, status: int = 200) -> Any:
        """Ask for a path below /api/v1 and return the strict JSON of the answer."""
        query = urlencode(wanted, errors="surrogateescape")
        answer = self.request(f"/api/v1{path}" + (f"?{query}" if query else ""))
        assert status == answer.status_code, answer.text
        return json.loads(answer.data, parse_constant=refuse_constant)

    def pages(self, path: str, wanted: Wanted = (), *, key: str = "items") -> list[Any]:
        """Return the items of all pages."""
        pairs = list(wanted.items() if isinstance(wanted, Mapping) else wanted)
        found: list[Any] = []
        following: list[tuple[str, object]] = []
        for _ in range(2_000):
            page = self.get(path, pairs + following)
            found += page[key]
            if page["next"] is None:
                return found
            following = [("after", page["next"])]
        raise AssertionError("no end of pages")

    def check(self, answer: TestResponse) -> None:
        """Hold an answer against the document: its status, and its body by the schema."""
        path = answer.request.path.removeprefix("/api/v1")
        route = self.route(path)
        if answer.request.method not in {"GET", "HEAD"} or route is None:
            return
        operation = self.document["paths"][route]["get"]
        assert str(answer.status_code) in operation["responses"], (route, answer.status_code)
        self.check_headers(operation["responses"][str(answer.status_code)], answer)
        if answer.request.method == "HEAD" or answer.status_code in {303, 304} or "Content-Encoding" in answer.headers:
            return
        content = operation["responses"]["200"]["content"]
        if answer.status_code == 200 and "application/json" not in content:
            return  # bytes
        if answer.status_code == 200 and answer.mimetype != "application/json":
            assert answer.mimetype in content
            return
        body = json.loads(answer.data, parse_constant=refuse_constant)
        if answer.status_code == 200:
            schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
            known = {parameter["name"] for parameter in operation["parameters"]}
            assert set(answer.request.args) <= known
        else:
            schema = {"$ref": "#/components/schemas/Problem"}
            assert answer.content_type == "application/problem+json"
            assert body["status"] == answer.status_code
        Draft202012Validator(schema | {"components": self.document["components"]}).validate(body)

    def check_headers(self, documented: dict[str, Any], answer: TestResponse) -> None:
        """Hold the headers of an answer against the document: those that it must have, and those that it has."""
        if "$ref" in documented:
            documented = self.document["components"]["responses"][documented["$ref"].rpartition("/")[2]]
        known = documented["headers"]
        missing = {name for name, header in known.items() if header.get("required") and name not in answer.headers}
        assert not missing, (answer.request.path, answer.status_code)
        told = {"ETag", "Link", "Content-Disposition", "Retry-After", "Location", "Allow", "WWW-Authenticate"}
        unknown = {name for name in told if name in answer.headers} - set(known)
        assert not unknown, (answer.request.path, answer.status_code)

    def route(self, path: str) -> str | None:
        """Return the documented path that `path` stands for, None where it is no path of the API's."""
        if path in self.document["paths"]:
            return path
        if (suffixed := re.sub(r"\.\w+$", ".{form}", path)) in self.document["paths"]:
            return suffixed
        if re.fullmatch("/blobs/[0-9]+/-?[0-9]+/[0-9]+/[0-9]+", path):
            return "/blobs/{tag}/{step}/{seq}/{ordinal}"
        if path.startswith("/explain/"):
            return next((known for known in self.document["paths"] if numbered(known).fullmatch(path)), None)
        if not path.startswith("/jobs/"):
            return None
        suffix = next(
            (suffix for suffix in ("/tags", "/files") if path.endswith(suffix) and path != "/jobs/./x/tags"), ""
        )
        return "/jobs/{id}" + suffix


def numbered(path: str) -> re.Pattern[str]:
    """Return what fits a documented path with numbers in place of its parameters."""
    return re.compile(re.sub(r"\{\w+\}", "-?[0-9]+", path))


@pytest.fixture
def config(url: str) -> Config:
    """A configuration for the test's own database."""
    return Config(url=as_role(url), query_seconds=5.0)


@pytest.fixture
def reader(url: str) -> Iterator[Engine]:
    """The engine the web reads the test's own database with."""
    made = open_reader(as_role(url))
    yield made
    nobody_looks()
    made.dispose()


def nobody_looks() -> None:
    """Wait until no hub looks at its database any more: a connection in use would outlive its pool, and be dropped."""
    for thread in threading.enumerate():
        if thread.name == "changes":
            thread.join(10)
            assert not thread.is_alive(), "somebody listens to /events still: a test left its answer open"


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Backend, Api]]:
    """Filled databases that tests only read, one a backend, made when first asked for."""
    made: dict[Backend, Api] = {}
    yield made
    nobody_looks()
    for api in made.values():
        api.reader.dispose()


@pytest.fixture
def api(request: pytest.FixtureRequest, backend: Backend) -> Api:
    """The API over a filled database: of the test's own where it also takes `filled` to write, else a shared one."""
    if "filled" in request.fixturenames:
        request.getfixturevalue("filled")
        return Api.over(request.getfixturevalue("config"), request.getfixturevalue("reader"))
    shared: dict[Backend, Api] = request.getfixturevalue("shared")
    if backend not in shared:
        if backend == "sqlite":
            path = request.getfixturevalue("tmp_path_factory").mktemp("api") / "shared.db"
            path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
            url = f"sqlite:///{path}"
        else:
            url = request.getfixturevalue("postgres").create(template=request.getfixturevalue("postgres_template"))
        writer = open_engine(url)
        fill(writer)
        writer.dispose()
        url = as_role(url)
        shared[backend] = Api.over(Config(url=url, query_seconds=5.0), open_reader(url))
    return shared[backend]


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Backend, Api]]:
    """Databases with all sample data, one a backend, made when first asked for."""
    made: dict[Backend, Api] = {}
    yield made
    for api in made.values():
        api.reader.dispose()


@pytest.fixture
def samples(request: pytest.FixtureRequest, backend: Backend, sampled: dict[Backend, Api]) -> Api:
    """The API over the sample data."""
    if backend not in sampled:
        if backend == "sqlite":
            path = request.getfixturevalue("tmp_path_factory").mktemp("samples") / "samples.db"
            path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
            url = f"sqlite:///{path}"
        else:
            url = request.getfixturevalue("postgres").create(template=request.getfixturevalue("postgres_template"))
        writer = open_engine(url)
        Follower(writer, DATA / "mindspore", DATA / "tensorboard").scan()
        writer.dispose()
        url = as_role(url)
        sampled[backend] = Api.over(Config(url=url, query_seconds=20.0), open_reader(url))
    return sampled[backend]
