"""examples/grafana: every query of the dashboard runs as Grafana would send it, on both databases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from sqlalchemy import Connection, text

from indexer.db.engine import open_engine
from tests.conftest import Backend
from tests.queries.conftest import curve
from tests.support.program import CHECKOUT

GRAFANA = CHECKOUT / "examples" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "summarydb.json").read_text(encoding="utf-8"))
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
VARIABLES = {variable["name"]: variable["query"] for variable in DASHBOARD["templating"]["list"]}
SECONDS = 60
"""Of Grafana's `$__interval`."""
START, END = 1_760_000_000, 1_760_000_460
"""The time range: the whole of `./lenet`, and nothing else."""

Rows = list[dict[str, Any]]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """Grafana reads these two."""
    name: str = request.param
    return name


@pytest.fixture
def conn(sample_url: str) -> Iterator[Connection]:
    """A connection to the sample."""
    engine = open_engine(sample_url)
    with engine.connect() as made:
        yield made
    engine.dispose()


def expanded(query: str, backend: Backend, chosen: dict[str, list[str]]) -> str:
    """Return a query with its variables and macros as Grafana, or its plugin for SQLite, replaces them."""
    for name, values in chosen.items():
        quoted = ",".join("'" + value.replace("'", "''") + "'" for value in values)
        query = query.replace(f"${{{name}:sqlstring}}", quoted)
    for name, number in (("$__interval_ms", SECONDS * 1000), ("$__from", START * 1000), ("$__to", END * 1000)):
        query = query.replace(name, str(number)) if backend == "sqlite" else query
    if backend == "postgresql":
        first, last = (datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for second in (START, END))
        query = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN '{first}' AND '{last}'", query)
        group = rf'floor(extract(epoch from \1)/{SECONDS})*{SECONDS} AS "time"'
        query = re.sub(r"\$__timeGroupAlias\((\w+), \$__interval\)", group, query)
    assert "$" not in query
    return query


def ask(conn: Connection, query: str) -> Rows:
    """Return rows."""
    return [dict(row) for row in conn.execute(text(query.replace(":", r"\:"))).mappings()]


def shown(conn: Connection, backend: Backend, title: str, **chosen: list[str]) -> Rows:
    """Return the rows of a panel."""
    (target,) = PANELS[title]["targets"]
    query = target["rawSql"] if backend == "postgresql" else target["queryText"]
    assert target["queryText"] == target["rawQueryText"]
    return ask(conn, expanded(query, backend, chosen))


def test_variables_list_jobs_and_tags(conn: Connection) -> None:
    """A variable's query has one column: what may be chosen."""
    jobs = [list(row.values()) for row in ask(conn, VARIABLES["job"])]
    assert sorted([["./diverged"], ["./lenet"], ["./resnet/lr=0.1"], ["./resnet/lr=0.01"]]) == sorted(jobs)
    tags = [list(row.values()) for row in ask(conn, VARIABLES["tag"])]
    assert sorted([["train/loss"], ["train/accuracy"], ["learning_rate"], ["val/loss"], ["val/accuracy"]]) == tags


def test_curves_are_means_of_each_interval(conn: Connection, backend: Backend) -> None:
    """A row an interval and metric, by time, in the range alone: time in seconds, a text, a number."""
    chosen = {"job": ["./lenet", "./resnet/lr=0.1", "it's"], "tag": ["train/loss"]}
    rows = shown(conn, backend, "Curves over time", **chosen)
    means: dict[int, list[float]] = {}
    for step, value in curve("./lenet", "train/loss").items():
        means.setdefault(int((START + 1.5 * step) // SECONDS * SECONDS), []).append(value)
    assert [(time, "./lenet train/loss") for time in sorted(means)] == [(row["time"], row["metric"]) for row in rows]
    expected = [sum(values) / len(values) for _, values in sorted(means.items())]
    assert pytest.approx(expected) == [row["value"] for row in rows]


def test_tables_answer(conn: Connection, backend: Backend) -> None:
    """The other panels: the last values, speed, the load, what is not finite, what is damaged."""
    latest = shown(conn, backend, "Latest values", job=["./lenet"], tag=["val/loss"])
    assert [{"job": "./lenet", "tag": "val/loss", "step": 300, "value": curve("./lenet", "val/loss")[300]}] == latest
    (speed,) = shown(conn, backend, "Steps per second", job=["./lenet", "./diverged"], tag=["train/loss"])
    assert {"job": "./lenet", "steps_per_second": pytest.approx(1 / 1.5)} == speed
    (load,) = shown(conn, backend, "Load")
    assert ("CACHED", 4, load["bytes_on_disk"]) == (load["cache_status"], load["jobs"], load["bytes_indexed"])
    assert [{"job": "./diverged", "tag": "train/loss", "not_finite": 31}] == shown(conn, backend, "Not finite")
    assert [] == shown(conn, backend, "Damaged or unreadable")


def test_every_panel_is_asked_about() -> None:
    """A panel that is added to the dashboard is added here."""
    asked = {"Curves over time", "Latest values", "Steps per second", "Load", "Not finite", "Damaged or unreadable"}
    assert asked == set(PANELS)
    assert {"job", "tag"} == set(VARIABLES)


def test_the_view_has_times_that_grafana_reads(conn: Connection, backend: Backend) -> None:
    """A timestamp on PostgreSQL, RFC 3339 on SQLite, seconds beside it; NaN is a gap, and a root tells jobs apart."""
    first = "SELECT * FROM v_grafana WHERE job = './lenet' AND tag = 'train/loss' AND step = 1"
    (row,) = ask(conn, first)
    time = row["time"] if backend == "postgresql" else datetime.fromisoformat(row["time"])
    assert datetime.fromtimestamp(1_760_000_001.5, UTC) == time
    assert (1_760_000_001.5, "./lenet train/loss", "runs", 0) == (row["epoch"], row["metric"], row["root"], row["seq"])
    if backend == "sqlite":
        assert "2025-10-09T08:53:21.500Z" == row["time"]
    assert 31 == ask(conn, "SELECT count(*) AS n FROM v_grafana WHERE value IS NULL")[0]["n"]
    conn.execute(text("INSERT INTO roots (id, name, path, named) VALUES (99, 'other', '/other', true)"))
    assert "runs:./lenet train/loss" == ask(conn, first)[0]["metric"]
    conn.rollback()


def test_files_are_what_grafana_provisions() -> None:
    """Both data sources have the uid that the dashboard asks for, each a type, and no password."""
    sources = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(GRAFANA.glob("datasources/*.yaml"))]
    found = [source for file in sources for source in file["datasources"]]
    assert ["grafana-postgresql-datasource", "frser-sqlite-datasource"] == [source["type"] for source in found]
    assert {"summarydb"} == {source["uid"] for source in found}
    assert "$SUMMARYDB_POSTGRES_PASSWORD" == found[0]["secureJsonData"]["password"]
    assert "mode=ro" == found[1]["jsonData"]["pathOptions"]
    provider = yaml.safe_load((GRAFANA / "dashboards" / "summarydb.yaml").read_text(encoding="utf-8"))
    assert ["file"] == [one["type"] for one in provider["providers"]]
    uids = re.findall(r'"datasource": \{\s*"uid": "(\w+)"', json.dumps(DASHBOARD))
    assert {"summarydb"} == set(uids)
