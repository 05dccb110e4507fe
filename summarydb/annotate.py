"""`summarydb annotate`: tag, remark and alias of a job, which the read-only web shows."""

from __future__ import annotations

import time
from typing import Any

from indexer.db import migrate, said
from indexer.db.connection import Database, transaction
from indexer.db.engine import read_only
from indexer.db.said import Annotation
from indexer.errors import Refuse
from indexer.text import show
from summarydb.work import naming, open_existing
from webapi import queries

_SECONDS = 30.0


def run(url: str, job: str, given: Annotation, *, clear: bool) -> dict[str, Any]:
    """Write what is given of a job, and return all that is said of it. What is not given stays, unless `clear`.

    job: its id, its train_id, or root:train_id. Refuse where there is none, or there are several.
    """
    with naming(url):
        engine = open_existing(url)
        try:
            migrate.require(engine)
            with read_only(engine, seconds=_SECONDS) as conn:
                ref = _only(job, queries.named(conn, [job])[job])
        finally:
            engine.dispose()
        database = Database(url)
        try:
            with transaction(database) as conn:
                known = Annotation() if clear else said.read(conn, ref.id)
                now_said = known._replace(**{name: new for name, new in given._asdict().items() if new is not None})
                if clear or now_said != known:
                    said.put(conn, ref.id, now_said, time.time())
        finally:
            database.dispose()
    return {"job": ref.id, "root": show(ref.root), "train_id": show(ref.train_id), **now_said._asdict()}


def _only(job: str, matches: list[queries.JobRef]) -> queries.JobRef:
    if not matches:
        raise Refuse(f"no job {job!r}: `summarydb status` lists them")
    if len(matches) > 1:
        candidates = ", ".join(f"{show(ref.root)}:{show(ref.train_id)}" for ref in matches)
        raise Refuse(f"{job!r} is a job of several roots: write one of {candidates}")
    return matches[0]
