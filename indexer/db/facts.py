"""What payloads say of their whole job → its lineage and hyperparameters, in the transaction of their points.

Tables here are a function of the payloads in load order: each commit brings them up to what it writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from indexer.db.connection import Connection, among
from indexer.payload import as_json
from indexer.plugins import hparams, lineage
from indexer.text import show, store

TABLES = ("lineage", "lineage_files", "hparams", "hparam_runs")
SESSION, LINEAGE = "session", "lineage"  # hparams.source; where both name one, the session counts
SESSION_KIND = hparams.KIND.name  # of payloads that say something of a session

_LINEAGE = """INSERT INTO lineage (job_id, ordinal, section, key, name, kind, value, number, json, shard_id, "offset",
    wall_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_STATE = """INSERT INTO lineage_files (shard_id, job_id, state) VALUES (?, ?, ?)
ON CONFLICT (shard_id) DO UPDATE SET state = excluded.state"""
_HPARAM = """INSERT INTO hparams (job_id, source, ordinal, name, kind, value, number, json)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_RUN = ("hparams", "group_name", "status", "start_time", "end_time", "model_uri", "monitor_url", "experiment")
_TO_RUN = f"""INSERT INTO hparam_runs (job_id, {", ".join(_RUN)}) VALUES (?{", ?" * len(_RUN)})
ON CONFLICT (job_id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in _RUN)}"""
_JOBS_AT_ONCE = 50  # what is known of so many is in memory


class Said(NamedTuple):
    """What a payload says of its job."""

    kind: str  # of its payload
    shard: int
    at: int  # where its record begins in the file
    wall_time: float | None
    facts: str  # JSON


Order = Callable[[str], Any]
"""The key by which files of a job are read, of their names."""


def fold(conn: Connection, said: Sequence[Said], order: Order) -> None:
    """Bring what jobs are said to be up to date, by payloads in load order. Some ten statements for many jobs."""
    found = conn.execute(f"SELECT id, job_id FROM shards WHERE id IN ({among(one.shard for one in said)})")
    jobs = dict(found.fetchall())
    by_job: dict[int, list[Said]] = {}
    for one in said:
        by_job.setdefault(jobs[one.shard], []).append(one)
    some = sorted(by_job)
    for i in range(0, len(some), _JOBS_AT_ONCE):
        _fold(conn, {job: by_job[job] for job in some[i : i + _JOBS_AT_ONCE]}, order)


def put_back(conn: Connection, job_id: int, said: Sequence[Said], order: Order) -> None:
    """Bring a job up to date with the lineage of files that is still there, and with what sessions said."""
    _fold(conn, {job_id: said}, order, merge=True)


def forget(conn: Connection, job_id: int, *, but: Sequence[int] = ()) -> None:
    """Delete what is said of a job, except for what lineage files `but` come to: see `put_back`."""
    for table in TABLES:
        kept = f" AND shard_id NOT IN ({among(but or [0])})" if table == "lineage_files" else ""
        conn.execute(f"DELETE FROM {table} WHERE job_id = ?{kept}", (job_id,))


def _fold(conn: Connection, said: Mapping[int, Sequence[Said]], order: Order, *, merge: bool = False) -> None:
    records = {job: [one for one in found if one.kind == lineage.KIND.name] for job, found in said.items()}
    records = {job: found for job, found in records.items() if found or merge}
    given = _fold_lineage(conn, records, order) if records else []
    query = f"SELECT job_id, {', '.join(_RUN)} FROM hparam_runs WHERE job_id IN ({among(said)})"
    known = {row[0]: dict(zip(_RUN, row[1:], strict=True)) for row in conn.execute(query)}
    runs: dict[int, dict[str, Any]] = {}
    for job, found in said.items():
        run = runs[job] = known.get(job) or dict.fromkeys(_RUN)
        sessions = [json.loads(one.facts) for one in found if one.kind == hparams.KIND.name]
        for facts in sessions:
            _enter(run, facts["part"], facts["content"])
        starts = [facts for facts in sessions if facts["part"] == hparams.START]
        if starts:
            given.append(Given(job, SESSION, starts[-1]["content"]["hparams"], starts[-1]["not_finite"]))
    _replace(conn, given)
    _sum_up(conn, runs)


def merge_again(conn: Connection, job: int, order: Order) -> None:
    """Merge the lineage of a job anew from what is kept of its files (lineage_files)."""
    given = _fold_lineage(conn, {job: []}, order)
    query = f"SELECT {', '.join(_RUN)} FROM hparam_runs WHERE job_id = ?"
    known = conn.execute(query, (job,)).fetchone()
    _replace(conn, given)
    _sum_up(conn, {job: dict(zip(_RUN, known, strict=True)) if known else dict.fromkeys(_RUN)})


class Given(NamedTuple):
    """Hyperparameters of a job by a source; `floats` may be texts that stand for no finite number."""

    job: int
    source: str
    values: Mapping[str, Any]
    floats: Collection[str]


def _fold_lineage(conn: Connection, said: Mapping[int, Sequence[Said]], order: Order) -> list[Given]:
    """Merge the lineage of jobs anew; return their hyperparameters."""
    states: dict[int, dict[int, lineage.State]] = {job: {} for job in said}
    query = f"SELECT job_id, shard_id, state FROM lineage_files WHERE job_id IN ({among(said)})"
    for job, shard, state in conn.execute(query):
        states[job][shard] = json.loads(state)
    changed: dict[int, int] = {}
    for job, records in said.items():
        for one in records:
            state = states[job].setdefault(one.shard, {})
            lineage.absorb(state, one.at, one.wall_time, json.loads(one.facts))
            changed[one.shard] = job
    conn.many(_STATE, [(shard, job, json.dumps(states[job][shard])) for shard, job in sorted(changed.items())])
    shards = among(shard for files in states.values() for shard in files)
    names = dict(conn.execute(f"SELECT id, name FROM shards WHERE id IN ({shards})").fetchall())
    rows: list[tuple[Any, ...]] = []
    given = []
    for job, files in states.items():
        in_order = sorted(files, key=lambda shard: order(show(names[shard])))
        merged = lineage.merged([(shard, files[shard]) for shard in in_order])
        rows += [(job, i, *_stored(row)) for i, row in enumerate(merged)]
        values = {row.key: json.loads(row.json) for row in merged if row.section == "hyper_parameters"}
        given.append(Given(job, LINEAGE, values, lineage.FLOATS))
    conn.execute(f"DELETE FROM lineage WHERE job_id IN ({among(said)})")
    conn.many(_LINEAGE, rows)
    return given


def _stored(row: lineage.Row) -> tuple[Any, ...]:
    value = None if row.value is None else store(row.value)
    return (row.section, store(row.key), store(row.name), row.kind, value, *row[5:])


def _enter(run: dict[str, Any], part: str, content: Mapping[str, Any]) -> None:
    """Enter into a run what its newest experiment or session says; a session that starts has not ended."""
    match part:
        case hparams.EXPERIMENT:
            run["experiment"] = as_json(content)
        case hparams.START:
            for name in ("group_name", "model_uri", "monitor_url"):
                run[name] = store(content[name]) if content[name] else None
            run |= {"start_time": _time(content["start_time"]), "status": "unknown", "end_time": None}
        case hparams.END:
            run |= {"status": content["status"], "end_time": _time(content["end_time"])}


def _time(seconds: float | str) -> float | None:
    return seconds if isinstance(seconds, (int, float)) and seconds else None


def _replace(conn: Connection, given: Sequence[Given]) -> None:
    rows = []
    for one in given:
        for i, (name, value) in enumerate(one.values.items()):
            kind, text, number = lineage.described(value, float_=name in one.floats)
            shown = None if text is None else store(text)
            rows.append((one.job, one.source, i, store(name), kind, shown, number, as_json(value)))
    for source in (SESSION, LINEAGE):
        jobs = [one.job for one in given if one.source == source]
        if jobs:
            conn.execute(f"DELETE FROM hparams WHERE source = ? AND job_id IN ({among(jobs)})", (source,))
    conn.many(_HPARAM, rows)


def _sum_up(conn: Connection, runs: Mapping[int, dict[str, Any]]) -> None:
    """Write runs, each with all its hyperparameters as one object: NULL where there are neither these nor a session."""
    values: dict[int, dict[str, Any]] = {job: {} for job in runs}
    query = f"SELECT job_id, name, json FROM hparams WHERE job_id IN ({among(runs)}) ORDER BY job_id, source, ordinal"
    for job, name, value in conn.execute(query):  # lineage first: the session counts
        values[job][show(name)] = json.loads(value)
    for job, run in runs.items():
        run["hparams"] = as_json(values[job]) if values[job] or run["status"] is not None else None
    rows = [
        (job, *(run[name] for name in _RUN)) for job, run in runs.items() if any(v is not None for v in run.values())
    ]
    conn.many(_TO_RUN, rows)
    gone = among(runs.keys() - {row[0] for row in rows})
    conn.execute(f"DELETE FROM hparam_runs WHERE job_id IN ({gone})")
