"""What a database holds, per indexer, root and job: a few statements, whatever its size. Works on every past schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, case, cast, func, inspect, null, select

from indexer.db.schema import BLOB_COUNT, INDEX_STATE, INDEXER, JOB, METADATA, ROOT, SHARD, TAG

EXPLAIN = METADATA.tables["explain_files"]
PRUNED_JOB = METADATA.tables["pruned_jobs"]
_ADDED = ("evicted_at", "pruned_at")  # columns of jobs that the first schemas lack

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Overview:
    """Rows as mappings; text is as stored (indexer.text.show undoes its escapes)."""

    state: Values | None  # of index_state; None: the row is missing
    indexers: list[Values]  # newest heartbeat first
    roots: list[Values]
    jobs: list[Values]  # newest update first, with counts of their shards


def overview(conn: Connection) -> Overview:
    """Return what the database holds."""
    known = {column["name"] for column in inspect(conn).get_columns(JOB.name)}
    shards = (
        select(
            SHARD.c.job_id,
            func.count().label("files"),
            _count(SHARD.c.state == "torn").label("torn"),
            _count(SHARD.c.state == "dead").label("dead"),
            cast(func.sum(SHARD.c.bad_records), BigInteger).label("bad_records"),
            cast(func.sum(SHARD.c.bad_bytes), BigInteger).label("bad_bytes"),
        )
        .group_by(SHARD.c.job_id)
        .subquery()
    )
    jobs = (
        select(
            JOB.c.id,
            JOB.c.root_id,
            JOB.c.train_id,
            JOB.c.cache_status,
            JOB.c.point_count,
            JOB.c.bytes_on_disk,
            JOB.c.bytes_indexed,
            JOB.c.update_time,
            JOB.c.missing_since,
            JOB.c.last_error,
            *(JOB.c[name] if name in known else null().label(name) for name in _ADDED),
            *(
                func.coalesce(shards.c[name], 0).label(name)
                for name in ("files", "torn", "dead", "bad_records", "bad_bytes")
            ),
        )
        .outerjoin_from(JOB, shards, shards.c.job_id == JOB.c.id)
        .order_by(JOB.c.root_id, JOB.c.update_time.desc(), JOB.c.id)
    )
    state = conn.execute(select(INDEX_STATE.c.change_counter, INDEX_STATE.c.scanned_at)).mappings().first()
    indexers = select(INDEXER)
    bad = _bad_payloads(conn)
    pruned = _pruned_jobs(conn)
    roots = select(ROOT.c.id, ROOT.c.name, ROOT.c.path).order_by(ROOT.c.id)
    return Overview(
        state=None if state is None else dict(state),
        indexers=[dict(row) for row in conn.execute(indexers.order_by(INDEXER.c.heartbeat.desc())).mappings()],
        roots=[{**row, "pruned_jobs": pruned.get(row["id"], 0)} for row in conn.execute(roots).mappings()],
        jobs=[{**row, "bad_payloads": bad.get(row["id"], 0)} for row in conn.execute(jobs).mappings()],
    )


def _bad_payloads(conn: Connection) -> dict[int, int]:
    """Return how many payloads and explain records of each job could not be decoded, as far as the schema has them."""
    errors = cast(func.sum(BLOB_COUNT.c.errors), BigInteger)
    payloads = select(TAG.c.job_id, errors).join_from(BLOB_COUNT, TAG, TAG.c.id == BLOB_COUNT.c.tag_id)
    explained = select(EXPLAIN.c.job_id, cast(func.sum(EXPLAIN.c.error_count), BigInteger))
    bad: dict[int, int] = {}
    for table, query in (
        (BLOB_COUNT, payloads.where(BLOB_COUNT.c.errors > 0).group_by(TAG.c.job_id)),
        (EXPLAIN, explained.where(EXPLAIN.c.error_count > 0).group_by(EXPLAIN.c.job_id)),
    ):
        if inspect(conn).has_table(table.name):
            for job_id, count in conn.execute(query):
                bad[job_id] = bad.get(job_id, 0) + count
    return bad


def _pruned_jobs(conn: Connection) -> dict[int, int]:
    """Return how many jobs of each root are passed over, as far as the schema knows such."""
    if not inspect(conn).has_table(PRUNED_JOB.name):
        return {}
    query = select(PRUNED_JOB.c.root_id, func.count()).group_by(PRUNED_JOB.c.root_id)
    return {int(row[0]): int(row[1]) for row in conn.execute(query)}


def _count(condition: Any) -> Any:
    return func.sum(case((condition, 1), else_=0))
