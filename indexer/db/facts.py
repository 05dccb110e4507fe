"""What payloads say of their whole job → its lineage and hyperparameters, in the transaction of their points.

Tables here are a function of the payloads in load order: each commit brings them up to what it writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from indexer.db.connection import Connection
from indexer.payload import as_json
from indexer.plugins import hparams, lineage
from indexer.text import show, store

TABLES = ("lineage", "lineage_files", "hparams", "hparam_runs")
SESSION, LINEAGE = "session", "lineage"  # hparams.source; where both name one, the session counts

_LINEAGE = """INSERT INTO lineage (job_id, ordinal, section, key, name, kind, value, number, json, shard_id, "offset",
    wall_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_STATE = """INSERT INTO lineage_files (shard_id, job_id, state) VALUES (?, ?, ?)
ON CONFLICT (shard_id) DO UPDATE SET state = excluded.state"""
_HPARAM = """INSERT INTO hparams (job_id, source, ordinal, name, kind, value, number, json)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""


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
    """Bring what jobs are said to be up to date, by payloads in load order."""
    shards = ", ".join(str(int(shard)) for shard in sorted({one.shard for one in said}))
    jobs = dict(conn.execute(f"SELECT id, job_id FROM shards WHERE id IN ({shards})").fetchall())
    for job in sorted(set(jobs.values())):
        of_job = [one for one in said if jobs[one.shard] == job]
        records = [one for one in of_job if one.kind == lineage.KIND.name]
        if records:
            _fold_lineage(conn, job, records, order)
        sessions = [one for one in of_job if one.kind == hparams.KIND.name]
        for one in sessions:
            _fold_session(conn, job, json.loads(one.facts))
        _sum_up(conn, job)


def forget(conn: Connection, job_id: int) -> None:
    """Delete what is said of a job."""
    for table in TABLES:
        conn.execute(f"DELETE FROM {table} WHERE job_id = ?", (job_id,))


def _fold_lineage(conn: Connection, job: int, said: Sequence[Said], order: Order) -> None:
    found = conn.execute("SELECT shard_id, state FROM lineage_files WHERE job_id = ?", (job,)).fetchall()
    states: dict[int, lineage.State] = {shard: json.loads(state) for shard, state in found}
    for one in said:
        lineage.absorb(states.setdefault(one.shard, {}), one.at, one.wall_time, json.loads(one.facts))
    changed = sorted({one.shard for one in said})
    conn.many(_STATE, [(shard, job, json.dumps(states[shard])) for shard in changed])
    marks = ", ".join(str(int(shard)) for shard in states)
    names = dict(conn.execute(f"SELECT id, name FROM shards WHERE id IN ({marks})").fetchall())
    rows = lineage.merged([(shard, states[shard]) for shard in sorted(states, key=lambda s: order(show(names[s])))])
    conn.execute("DELETE FROM lineage WHERE job_id = ?", (job,))
    conn.many(_LINEAGE, [(job, i, *_stored(row)) for i, row in enumerate(rows)])
    given = {row.key: json.loads(row.json) for row in rows if row.section == "hyper_parameters"}
    _replace(conn, job, LINEAGE, given, lineage.FLOATS)


def _stored(row: lineage.Row) -> tuple[Any, ...]:
    value = None if row.value is None else store(row.value)
    return (row.section, store(row.key), store(row.name), row.kind, value, *row[5:])


def _fold_session(conn: Connection, job: int, facts: dict[str, Any]) -> None:
    content = facts["content"]
    conn.execute("INSERT INTO hparam_runs (job_id) VALUES (?) ON CONFLICT (job_id) DO NOTHING", (job,))
    match facts["part"]:
        case hparams.EXPERIMENT:
            text = as_json(content)
            conn.execute("UPDATE hparam_runs SET experiment = ? WHERE job_id = ?", (text, job))
        case hparams.START:
            names = ("group_name", "model_uri", "monitor_url")
            texts = [store(content[name]) if content[name] else None for name in names]
            conn.execute(
                "UPDATE hparam_runs SET group_name = ?, model_uri = ?, monitor_url = ?, start_time = ?,"
                " status = 'unknown', end_time = NULL WHERE job_id = ?",
                (*texts, _time(content["start_time"]), job),
            )
            _replace(conn, job, SESSION, content["hparams"], facts["not_finite"])
        case hparams.END:
            conn.execute(
                "UPDATE hparam_runs SET status = ?, end_time = ? WHERE job_id = ?",
                (content["status"], _time(content["end_time"]), job),
            )


def _time(seconds: float | str) -> float | None:
    return seconds if isinstance(seconds, (int, float)) and seconds else None


def _replace(conn: Connection, job: int, source: str, values: dict[str, Any], floats: Collection[str]) -> None:
    """Replace the hyperparameters of a source; `floats` may be texts that stand for no finite number."""
    conn.execute("DELETE FROM hparams WHERE job_id = ? AND source = ?", (job, source))
    rows = []
    for i, (name, value) in enumerate(values.items()):
        kind, text, number = lineage.described(value, float_=name in floats)
        shown = None if text is None else store(text)
        rows.append((job, source, i, store(name), kind, shown, number, as_json(value)))
    conn.many(_HPARAM, rows)


def _sum_up(conn: Connection, job: int) -> None:
    """Write all hyperparameters of a job as one object; none where it has neither session nor lineage of training."""
    query = "SELECT name, json FROM hparams WHERE job_id = ? ORDER BY source, ordinal"  # lineage first
    found = {show(name): json.loads(value) for name, value in conn.execute(query, (job,))}
    status = conn.execute("SELECT status FROM hparam_runs WHERE job_id = ?", (job,)).fetchone()
    if not found and (status is None or status[0] is None):
        if status is not None:
            conn.execute("UPDATE hparam_runs SET hparams = NULL WHERE job_id = ?", (job,))
        return
    conn.execute(
        "INSERT INTO hparam_runs (job_id, hparams) VALUES (?, ?)"
        " ON CONFLICT (job_id) DO UPDATE SET hparams = excluded.hparams",
        (job, as_json(found)),
    )
