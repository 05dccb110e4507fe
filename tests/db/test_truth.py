"""Every good run of the sample data, against what independent readers found in it (tests/data/truth)."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text

from indexer.text import show
from indexer.types import DataClass
from tests.conftest import DATA
from tests.support.following import SMALL, index_once

LINEAGE = {"train_lineage", "evaluation_lineage", "dataset_graph", "user_defined_info"}
_NAN = struct.pack("<Q", 0x7FF8000000000000)


@cache
def truth(format_: str) -> dict[str, Any]:
    """Return run → what is in it, runs named as our jobs."""
    runs = json.loads((DATA / "truth" / "TRUTH.json").read_text(encoding="utf-8"))[format_]["runs"]
    return {name if name.startswith("./") else "./" + name.removeprefix("."): run for name, run in runs.items()}


def number(value: float | str) -> float:
    """Return a number of the truth; non-finite ones are text there."""
    return float(value)


def known(value: float | str | None) -> float | None:
    """Return a number as stored: NaN is NULL."""
    return None if value is None or math.isnan(number(value)) else number(value)


def wall_times(path: Path) -> list[float]:
    """Return the clock of each record of an undamaged event file: field 1 of its payload, 0 where it is left out."""
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        starts_with_clock = length >= 9 and content[at + 12] == 0x09
        found.append(struct.unpack_from("<d", content, at + 13)[0] if starts_with_clock else 0.0)
        at += 16 + length
    return found


@pytest.mark.parametrize("format_", ["mindspore", "tensorboard"])
@pytest.mark.parametrize("kernel", [False, True])
def test_every_good_run_equals_the_truth(engine: Engine, format_: str, kernel: bool) -> None:
    """Jobs, series, counts, sums and every point are what independent readers found."""
    root = DATA / format_
    outcome = index_once(engine, root, config=replace(SMALL, kernel=kernel, slice_bytes=16 * 2**20))
    runs = truth(format_)
    assert (len(runs), 0, []) == (outcome.jobs, outcome.bad_records, outcome.unreadable)
    with engine.connect() as conn:
        jobs = {row.train_id: row for row in conn.execute(text("SELECT * FROM jobs"))}
        tags = conn.execute(text("SELECT j.train_id, t.* FROM tags t JOIN jobs j ON j.id = t.job_id")).all()
        assert runs.keys() == jobs.keys()
        for name, run in runs.items():
            check_job(root / name, run, jobs[name])
            check_series(conn, run, [tag for tag in tags if tag.train_id == name])
        files = conn.execute(text("SELECT j.train_id, s.* FROM shards s JOIN jobs j ON j.id = s.job_id")).all()
    expected = {(name, file["name"], file["size"]) for name, run in runs.items() for file in run["files"]}
    assert expected == {(s.train_id, s.name, s.size) for s in files}
    assert {(s.train_id, s.name): s.size for s in files} == {(s.train_id, s.name): s.cursor for s in files}
    records = {(name, file["name"]): file.get("records", 0) for name, run in runs.items() for file in run["files"]}
    assert records == {(s.train_id, s.name): s.record_count for s in files}
    assert {"growing"} == {s.state for s in files}


def more(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return plugin and name of each graph, run metadata and lineage record in files: we make them points, too."""
    parts = [("lineage", part) for record in run.get("lineage", []) for part in record if part in LINEAGE]
    return graphs(run) + parts


def graphs(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return plugin and name of each graph, run metadata, session log and log line: points of ours."""
    if "run_metadata" in run:
        found = [("graphs", "__run_graph__") for _ in run["graphs"]]
        found += [("session_log", "__session_log__") for _ in run["session_log"]]
        found += [("log_message", "__log_message__")] * run["log_messages"]
        return found + [("graph_tagged_run_metadata", metadata["tag"]) for metadata in run["run_metadata"]]
    return [("graph", graph["file"]) for graph in run["graphs"]]


def check_job(path: Path, run: dict[str, Any], job: Row[Any]) -> None:
    """Compare the row of a job with the run's files."""
    sizes = [file["size"] for file in run["files"]]
    assert ("CACHED", sum(sizes), sum(sizes)) == (job.cache_status, job.bytes_on_disk, job.bytes_indexed)
    assert sum(series["count"] for series in run["series"]) + len(more(run)) == job.point_count
    stamps = [re.search(r"(?:summary|tfevents)\.(\d+)", file["name"]) for file in run["files"]]
    newest = max(
        float(stamp.group(1)) if stamp else (path / file["name"]).stat().st_mtime_ns / 1e9
        for stamp, file in zip(stamps, run["files"], strict=True)
    )
    assert newest == job.create_time
    times = [t for file in run["files"] if not file["name"].endswith(".pb") for t in wall_times(path / file["name"])]
    assert min((t for t in times if math.isfinite(t)), default=None) == job.start_time
    assert max((path / file["name"]).stat().st_mtime_ns for file in run["files"]) / 1e9 == job.update_time


def check_series(conn: Any, run: dict[str, Any], tags: Sequence[Row[Any]]) -> None:
    """Compare the tags of a job, their statistics and all their points."""
    keys = [(series["plugin"] or "", series["tag"]) for series in run["series"]]
    counts = Counter(more(run))
    for key, series in zip(keys, run["series"], strict=True):
        counts[key] += series["count"]
    assert counts == {(tag.plugin, show(tag.name)): tag.point_count for tag in tags}
    for tag in tags:
        key = (tag.plugin, show(tag.name))
        if keys.count(key) != 1:
            continue  # a graph; or one name written in two ways, which the truth lists apart
        series = run["series"][keys.index(key)]
        first, last = series["first"], series["last"]
        assert (
            series["count"],
            series["min_step"],
            series["max_step"],
            first["step"],
            last["step"],
            known(first["wall_time"]),
            known(last["wall_time"]),
        ) == (
            tag.point_count,
            tag.min_step,
            tag.max_step,
            tag.first_step,
            tag.last_step,
            tag.first_wall_time,
            tag.last_wall_time,
        )
        query = text("SELECT step, seq, wall_time, value FROM tensor_points WHERE tag_id = :t ORDER BY seq, step")
        points = conn.execute(query, {"t": tag.id}).all()
        assert [series["count"], series["unique_steps"]] == [len(points), len({p.step for p in points})]
        assert (0 == tag.seq) == (series["steps_ascending"] and series["unique_steps"] == series["count"])
        assert (tag.plugin in {"scalar", "scalars"}) == (tag.data_class == DataClass.SCALAR)
        if tag.data_class == DataClass.SCALAR:
            check_numbers(series, tag, points)
        else:
            assert {None} == {p.value for p in points}
            assert 0 == tag.nan_count


def check_numbers(series: dict[str, Any], tag: Row[Any], points: Sequence[Row[Any]]) -> None:
    """Compare the values of a series of numbers."""
    values = [p.value for p in points]
    total = 0.0
    for value in values:
        total += value if value is not None and math.isfinite(value) else 0.0
    assert series["finite_sum"] == total
    counts = (values.count(None), values.count(math.inf), values.count(-math.inf))
    assert (series["nan"], series["pos_inf"], series["neg_inf"]) == counts
    assert counts == (tag.nan_count, tag.pos_inf_count, tag.neg_inf_count)
    assert known(series["first"]["value"]) == values[0]
    assert known(series["last"]["value"]) == values[-1] == tag.last_value
    finite = [v for v in values if v is not None and math.isfinite(v)]
    assert (min(finite, default=None), max(finite, default=None)) == (tag.min_value, tag.max_value)
    digests = {digest(points, zero) for zero in (0.0, -0.0)}  # SQLite stores -0.0 as 0: which it was is not kept
    assert series["series_sha256"] in digests


def digest(points: Sequence[Row[Any]], zero: float) -> str:
    """Return `series_sha256` of points, with `zero` for every zero that lost its sign."""
    found = hashlib.sha256()
    for p in points:
        found.update(struct.pack("<q", p.step))
        found.update(_NAN if p.wall_time is None else struct.pack("<d", p.wall_time))
        value = zero if p.value == 0.0 and math.copysign(1.0, p.value) > 0 else p.value
        found.update(_NAN if value is None else struct.pack("<d", value))
    return found.hexdigest()


def test_the_views_answer(engine: Engine) -> None:
    """v_jobs, v_tags, v_scalars and v_latest say of the sample runs what their tables hold."""
    index_once(engine, DATA / "mindspore")
    runs = truth("mindspore")
    with engine.connect() as conn:
        jobs = conn.execute(text("SELECT job, cache_status, point_count, tag_count FROM v_jobs")).all()
        tags = conn.execute(text("SELECT job, tag, plugin, point_count FROM v_tags")).all()
        scalars = conn.execute(text("SELECT job, tag, count(*) FROM v_scalars GROUP BY job, tag")).all()
        latest = conn.execute(text("SELECT job, tag, step, value FROM v_latest")).all()
    numbers = {(name, s["tag"]): s for name, run in runs.items() for s in run["series"] if s["kind"] == "scalar"}
    expected = {(name, s["tag"], s["kind"], s["count"]) for name, run in runs.items() for s in run["series"]}
    others = {(name, tag, plugin): n for name, run in runs.items() for (plugin, tag), n in Counter(more(run)).items()}
    expected |= {(*key, count) for key, count in others.items()}
    assert expected == {(row.job, show(row.tag), row.plugin, row.point_count) for row in tags}
    totals = {name: [count for job, _, _, count in expected if job == name] for name in runs}
    assert {(name, "CACHED", sum(counts), len(counts)) for name, counts in totals.items()} == {
        tuple(row) for row in jobs
    }
    plain = {key: s for key, s in numbers.items() if s["steps_ascending"] and s["unique_steps"] == s["count"]}
    assert plain
    shown = {(row[0], show(row[1])): row[2] for row in scalars}
    assert {key: s["count"] for key, s in plain.items()} == {key: shown[key] for key in plain}
    last = {(row.job, show(row.tag)): (row.step, row.value) for row in latest}
    assert {key: (s["last"]["step"], known(s["last"]["value"])) for key, s in plain.items()} == {
        key: last[key] for key in plain
    }
