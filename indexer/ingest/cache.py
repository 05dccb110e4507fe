"""Which jobs stay loaded, where `max_cached_jobs` limits them: those looked at or written last.

Decision: docs/decisions/0024-prune.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest

from indexer.db import retention, write
from indexer.db.connection import Connection
from indexer.ingest.state import Job, Shard
from indexer.types import CacheStatus, ShardState

LOOK_SECONDS = 120.0
"""A look at a job counts as if it came so much later: who looks at it goes before who only writes to it."""

STAY_SECONDS = 60.0
"""So much newer a job must be than one that is loaded, or files that grow in turns would push each other out."""


def choose(jobs: Iterable[Job], most: int, now: float) -> tuple[list[Job], list[Job]]:
    """Return the jobs to evict and those to load again; `most` 0: all stay.

    What has no files any more, or not all of them, could not be loaded again: it stays, and is not counted.
    """
    if not most:
        return [], [job for job in jobs if job.evicted_at is not None and _whole(job)]
    whole = [job for job in jobs if _whole(job)]
    stay = {job.id for job in nlargest(most, whole, key=lambda job: (_rank(job, now), job.id))}
    gone = [
        job
        for job in whole
        if job.id not in stay and job.evicted_at is None and job.cache_status is not CacheStatus.CACHING
    ]
    return gone, [job for job in whole if job.id in stay and job.evicted_at is not None]


def _whole(job: Job) -> bool:
    some = any(shard.on_disk is not None for shard in job.shards.values())
    return some and all(_there(shard) for shard in job.shards.values())


def _there(shard: Shard) -> bool:
    """Tell whether a file can be read again; one that was emptied, or whose points are aside, can not.

    Of one that is gone and of which nothing is stored (it got another name while its job was evicted) nothing is lost.
    """
    size = 0 if shard.on_disk is None else shard.on_disk.size
    return size >= shard.cursor and not shard.kept


def _rank(job: Job, now: float) -> float:
    looked = 0.0 if job.access_time is None else job.access_time + LOOK_SECONDS
    written = 0.0 if job.update_time is None else min(job.update_time, now)  # a clock elsewhere may be ahead
    return max(looked, written if job.cache_status is CacheStatus.NOT_IN_CACHE else written + STAY_SECONDS)


def change(conn: Connection, gone: Sequence[Job], come: Sequence[Job], now: float) -> None:
    """Evict jobs, and have others loaded. What memory holds of them is to be read again."""
    from indexer.db import explain, facts  # rare, and their imports cost every start

    for job in gone:
        if any(shard.cursor or shard.seen for shard in job.shards.values()):
            retention.loosen(conn, now + retention.GRACE_SECONDS, job_id=job.id)
            explain.forget(conn, job.id)
            facts.forget(conn, job.id)
    shards = [shard for job in gone for shard in job.shards.values() if shard.cursor or shard.seen]
    write.forget_errors(conn, [shard.id for shard in shards])
    growing = ShardState.GROWING.value
    write.update_shards(conn, [{"id": shard.id, **write.UNREAD, "state": growing} for shard in shards])
    write.set_status(conn, [job.id for job in gone], CacheStatus.NOT_IN_CACHE)
    revision = write.bump(conn)
    empty = {"point_count": 0, "bytes_indexed": 0, "start_time": None, "pruned_at": None}
    write.update_jobs(conn, [{"id": job.id, "evicted_at": now, "revision": revision, **empty} for job in gone])
    write.update_jobs(
        conn,
        [{"id": job.id, "evicted_at": None, "access_time": job.access_time, "revision": revision} for job in come],
    )
