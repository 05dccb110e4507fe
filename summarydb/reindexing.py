"""`summarydb reindex`: ask the indexer that runs, or do it here where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from indexer import log
from indexer.db import retention, shadow
from indexer.db.connection import Database, transaction
from indexer.db.retention import JobFound
from indexer.errors import Refuse
from indexer.ingest.lock import Held, writer_lock
from indexer.text import show, store
from indexer.types import CacheStatus
from summarydb import table
from summarydb.settings import Settings
from summarydb.work import short_write

if TYPE_CHECKING:  # heavy: imported where used
    from indexer.ingest.watch import Indexer

_LOOK_SECONDS = 0.2
_LOOK_AGAIN_SECONDS = 5.0  # between two attempts to do it here


def run(settings: Settings, reference: str, file: str | None, stop: threading.Event, *, wait: bool) -> dict[str, Any]:
    """Have a job read again; return what became of it. Refuse where that failed, with the reason.

    wait: till it is done; else, where an indexer runs, till it was asked.
    """
    log.configure(verbose=settings.verbose, json=settings.log_format == "json")
    with short_write(settings.config.url) as database:
        found = retention.named(database.connect(), reference)
        if len(found) > 1:
            names = ", ".join(f"{job.root}:{job.train_id}" for job in found)
            raise Refuse(f"{reference} is a job of several roots: write one of {names}, or its id")
        if not found:
            return _restore(settings, database, reference, stop, wait=wait)
        (job,) = found
        wish = retention.patiently(lambda: _ask(database, job, file))

        def ended() -> bool:
            return shadow.outcome(database.connect(), wish)[0]

        done = _work(
            settings,
            database,
            job.root_id,
            stop,
            ended,
            lambda indexer: indexer.fulfil(stop, ended),
            wait=wait,
        )
        _, error = shadow.outcome(database.connect(), wish)
        if error is not None:
            raise Refuse(show(error))
        return _facts(database, job.id, "done" if done else "asked")


def _ask(database: Database, job: JobFound, file: str | None) -> int:
    with transaction(database) as conn:
        return shadow.ask(conn, job.id, None if file is None else store(file), time.time())


def _restore(
    settings: Settings, database: Database, reference: str, stop: threading.Event, *, wait: bool
) -> dict[str, Any]:
    """Have a pruned job loaded as if it were new. Refuse where there was none."""
    root, train_id = retention.split(reference)

    def forget() -> list[int]:
        with retention.outside(database) as (conn, _):
            found = retention.restore(conn, root, train_id)
            if len(found) > 1:
                raise Refuse(
                    f"{reference} was pruned from several roots: write the root's name before it, as in runs:./a"
                )
            return found

    roots = retention.patiently(forget)
    if not roots:
        raise Refuse(f"there is no job {reference}, and none was pruned: `summarydb status` lists them")

    def loaded() -> JobFound | None:
        conn = database.connect()
        found = [job for job in retention.named(conn, train_id) if job.root_id == roots[0]]
        return found[0] if found and retention.status(conn, found[0].id) == CacheStatus.CACHED else None

    done = _work(
        settings,
        database,
        roots[0],
        stop,
        lambda: loaded() is not None,
        lambda indexer: _load_only(indexer, train_id, stop),
        wait=wait,
    )
    job = loaded()
    if done and job is not None:
        return _facts(database, job.id, "done")
    name = retention.root(database.connect(), roots[0]).name
    return {"state": "asked", "id": None, "root": name, "train_id": train_id, "points": 0}


def _load_only(indexer: Indexer, train_id: str, stop: threading.Event) -> None:
    if not indexer.load_only(train_id, stop):
        raise Refuse(f"{train_id} has no files any more, so there is nothing to load")


def _work(
    settings: Settings,
    database: Database,
    root_id: int,
    stop: threading.Event,
    ended: Callable[[], bool],
    here: Callable[[Indexer], None],
    *,
    wait: bool,
) -> bool:
    """Wait until it is done, by an indexer that runs or, where none does, `here`; tell whether it was."""
    next_attempt = 0.0
    while not ended():
        if time.monotonic() >= next_attempt:
            if not wait and retention.indexer_lives(database.connect(), time.time()):
                return False
            _do_here(settings, database, root_id, here)
            next_attempt = time.monotonic() + _LOOK_AGAIN_SECONDS
        elif not wait or stop.wait(_LOOK_SECONDS):
            return ended()
    return True


def _do_here(settings: Settings, database: Database, root_id: int, here: Callable[[Indexer], None]) -> None:
    """Do it, unless an indexer holds the database (SQLite); on PostgreSQL whoever holds the job's lease does it."""
    from indexer.ingest.watch import Indexer

    config = replace(settings.config, roots=(retention.root(database.connect(), root_id),), max_cached_jobs=0)
    own = Database(config.url)
    try:
        with writer_lock(config.url, timeout=0):
            here(Indexer(config, own))
    except Held:
        return
    finally:
        own.dispose()


def _facts(database: Database, job_id: int, state: str) -> dict[str, Any]:
    (job,) = retention.jobs(database.connect(), [job_id])
    names = {"root": job.root, "train_id": job.train_id}
    shown = {key: name.encode("utf-8", "backslashreplace").decode() for key, name in names.items()}
    return {"state": state, "id": job.id, **shown, "points": job.point_count}


def render(facts: dict[str, Any]) -> str:
    """Return the facts for people."""
    job = table.printable(f"{facts['root']}:{facts['train_id']}")
    if facts["state"] == "asked":
        return f"{job}: the indexer that runs was asked to read it again"
    return f"{job}: read again, {facts['points']:,} points"
