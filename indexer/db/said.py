"""What people say of jobs: one row a job, written beside a running indexer in a short transaction."""

from __future__ import annotations

from typing import NamedTuple

from indexer.db import write
from indexer.db.connection import Connection
from indexer.text import show, store


class Annotation(NamedTuple):
    """What is said of a job; None: nothing."""

    tag: int | None = None
    remark: str | None = None
    alias: str | None = None


def read(conn: Connection, job_id: int) -> Annotation:
    """Return what is said of a job."""
    row = conn.execute("SELECT tag, remark, alias FROM annotations WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        return Annotation()
    return Annotation(row[0], *(None if value is None else show(value) for value in row[1:]))


def put(conn: Connection, job_id: int, said: Annotation, now: float) -> None:
    """Write what is said of a job in place of what was; nothing at all removes the row. The job changes with it."""
    conn.execute("DELETE FROM annotations WHERE job_id = ?", (job_id,))
    if any(value is not None for value in said):
        values = (job_id, said.tag, *(None if value is None else store(value) for value in said[1:]), now)
        conn.execute("INSERT INTO annotations (job_id, tag, remark, alias, changed_at) VALUES (?, ?, ?, ?, ?)", values)
    write.set_revision(conn, [job_id], write.bump(conn))
