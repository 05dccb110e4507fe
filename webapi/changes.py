"""What changed since a number of the change counter: jobs by the revision that every commit raises, and jobs gone.

Told at least once, never skipped: a job that changes while pages are read comes again, with its newest state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from indexer.db.schema import REMOVED_JOB, TAG
from webapi import queries

_REMOVED = [REMOVED_JOB.c[name] for name in ("job_id", "root_id", "train_id", "revision")]


class Position(NamedTuple):
    """Where a page ended: it began behind `since`, when the counter was at `seen`; its last row was (revision, job)."""

    since: int
    seen: int
    revision: int
    job: int


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of changes, as JSON shows them.

    reset: what the client knows is of no use, for `since` is of another database or older than what can be told:
    `jobs` are all there are then.
    """

    counter: int  # go on behind it, when there is no `following`
    reset: bool
    removed: list[dict[str, Any]]  # before the jobs: an id may come again
    jobs: list[dict[str, Any]]
    following: Position | None


def since(conn: Connection, number: int, *, limit: int, after: Position | None = None) -> Changes:
    """Return the changes behind `number`, or the next page of them. At most six statements."""
    counter = queries.state(conn).change_counter
    if after is not None:
        start, behind, reset = after.since, (after.revision, after.job), after.since < 0
        gone: list[dict[str, Any]] = []
        counter = min(counter, after.seen)  # what went meanwhile is told the next time
    else:
        told_from = conn.execute(select(func.min(REMOVED_JOB.c.revision))).scalar()
        reset = number > counter or told_from is None or number < told_from
        start = -1 if reset else number
        behind = (start, 2**31 - 1)
        gone = [] if reset or number == counter else _removed(conn, number)
    if start == counter:
        return Changes(counter, reset, gone, [], None)
    rows, more = queries.jobs_behind(conn, *behind, limit=limit)
    tags = _tag_counts(conn, [row.id for row in rows])
    jobs = [{**row._asdict(), "tag_count": tags.get(row.id, 0)} for row in rows]
    following = Position(start, counter, rows[-1].revision, rows[-1].id) if more else None
    return Changes(counter, reset, gone, jobs, following)


def _removed(conn: Connection, number: int) -> list[dict[str, Any]]:
    query = select(*_REMOVED).where(REMOVED_JOB.c.revision > number).order_by(REMOVED_JOB.c.id)
    return [
        {"job": job, "root_id": root, "train_id": train_id, "revision": revision}
        for job, root, train_id, revision in conn.execute(query)
    ]


def _tag_counts(conn: Connection, jobs: list[int]) -> dict[int, int]:
    if not jobs:
        return {}
    query = select(TAG.c.job_id, func.count()).where(TAG.c.job_id.in_(jobs)).group_by(TAG.c.job_id)
    return {row[0]: row[1] for row in conn.execute(query)}
