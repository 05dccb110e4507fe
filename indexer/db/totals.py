"""Sums over a whole database, for whoever watches it: three statements over jobs and files, none over points."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, cast, func, select

from indexer.db.schema import INDEX_STATE, JOB, SHARD
from indexer.types import CacheStatus, ShardState


class Totals(NamedTuple):
    """What a database holds."""

    jobs: dict[str, int]  # cache_status → how many
    missing_jobs: int  # whose files are gone
    failed_jobs: int  # whose last pass failed
    points: int
    bytes_on_disk: int  # of summary files
    bytes_indexed: int
    files: dict[str, int]  # state → how many
    bad_records: int
    bad_bytes: int
    change_counter: int
    scanned_at: float | None  # seconds since the epoch


def totals(conn: Connection) -> Totals:
    """Return the sums."""
    jobs = conn.execute(
        select(
            JOB.c.cache_status,
            func.count(),
            func.count(JOB.c.missing_since),
            func.count(JOB.c.last_error),
            *(_sum(JOB.c[name]) for name in ("point_count", "bytes_on_disk", "bytes_indexed")),
        ).group_by(JOB.c.cache_status)
    ).all()
    files = conn.execute(
        select(SHARD.c.state, func.count(), _sum(SHARD.c.bad_records), _sum(SHARD.c.bad_bytes)).group_by(SHARD.c.state)
    ).all()
    state = conn.execute(select(INDEX_STATE.c.change_counter, INDEX_STATE.c.scanned_at)).one()
    missing, failed, points, on_disk, indexed = (sum(row[place] for row in jobs) for place in range(2, 7))
    return Totals(
        {status.value: 0 for status in CacheStatus} | {row[0]: row[1] for row in jobs},
        missing,
        failed,
        points,
        on_disk,
        indexed,
        {known.value: 0 for known in ShardState} | {row[0]: row[1] for row in files},
        sum(row[2] for row in files),
        sum(row[3] for row in files),
        *state,
    )


def _sum(column: Any) -> Any:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)  # PostgreSQL would answer with a decimal
