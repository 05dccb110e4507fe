"""`summarydb verify`: which jobs, where their files are, what was found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from indexer.config import Config
from indexer.config import Root as RootConfig
from indexer.db import bulk, consistency, stored
from indexer.db.connection import Connection
from indexer.db.reading import reading
from indexer.errors import Refuse, Wait
from indexer.findings import Difference, Findings
from indexer.ingest.logdir import walk
from indexer.ingest.verify import Verifier
from indexer.payload import finite
from indexer.ports import Files, SystemFiles
from indexer.text import show, store
from summarydb.work import naming, shown

Show = Callable[[str, int, int], None]
"""Is called with a job, bytes read and bytes in all."""

_NAMED = 3  # files that are not in the database, told by name


def run(
    config: Config,
    *,
    limit: int,
    tell: Callable[[Difference], None],
    show_progress: Show,
    stop: threading.Event,
    files: Files | None = None,
) -> dict[str, Any]:
    """Compare the files of `config.roots`, or of all roots that the database knows, with its tables.

    tell: called with each of the first `limit` differences (0: all).  Refuse where a root is not in the database.
    """
    files = files or SystemFiles()
    findings = Findings(tell, limit)
    done = total = 0

    def progress(job: str, count: int) -> None:
        nonlocal done
        done += count
        if stop.is_set():
            raise Wait("asked to end: only a part was compared; run it again")
        show_progress(job, done, total)

    verifier = Verifier(config, files, findings, progress)
    with naming(config.url):
        with reading(config.url) as conn:
            if bulk.index_missing(conn):
                raise Wait("a first load runs, or was cut, so look-ups would take hours: wait for `summarydb index`")
            chosen = _chosen(stored.roots(conn), config.roots)
            jobs = [(root, path, job) for root, path in chosen for job in stored.jobs(conn, root.id)]
            total = sum(shard.cursor for _, _, job in jobs for shard in stored.shards(conn, job.id))
            for root, path in chosen:
                _unknown(conn, root, path, files, findings, follow_symlinks=config.follow_symlinks)
        for root, path, job in jobs:
            progress(job.train_id, 0)
            with reading(config.url) as conn:  # a snapshot a job: a long one would hold up the cleaning of the database
                verifier.job(conn, job.id, root.name, path / show(job.train_id))
        if not config.roots:
            with reading(config.url) as conn:
                consistency.orphans(conn, findings)
    checked = verifier.checked
    return {
        "database": shown(config.url),
        "roots": [{"name": root.name, "path": str(path)} for root, path in chosen],
        "jobs": checked.jobs,
        "files": checked.files,
        "bytes": checked.bytes,
        "points": checked.points,
        "payloads": checked.payloads,
        "missing": checked.missing,
        "notes": findings.notes,
        "differences": findings.differences,
    }


def _chosen(known: Sequence[stored.RootRow], wanted: Sequence[RootConfig]) -> list[tuple[stored.RootRow, Path]]:
    """Return roots of the database, and where their files are now."""
    if not wanted:
        return [(root, Path(show(root.path))) for root in known]
    chosen = []
    for root in wanted:
        path = store(str(root.path))
        found = [row for row in known if (row.named and row.name == root.name if root.named else row.path == path)]
        if not found:
            raise Refuse(f"{root.path} is not in the database: run `summarydb index {root.path}` first")
        chosen.append((found[0], root.path))
    return chosen


def _unknown(
    conn: Connection, root: stored.RootRow, path: Path, files: Files, findings: Findings, *, follow_symlinks: bool
) -> None:
    """Note files on disk that nobody indexed yet."""
    try:
        listing = walk(path, files, follow_symlinks=follow_symlinks)
    except OSError as e:
        findings.note(f"{root.name}: {path} cannot be listed ({e.strerror or e})")
        return
    pruned = {show(train_id) for train_id in stored.pruned_jobs(conn, root.id)} & listing.jobs.keys()
    if pruned:
        findings.note(f"{root.name}: {len(pruned)} jobs were pruned and are passed over: `summarydb reindex` loads one")
    found = {(job.train_id, name) for job in listing.jobs.values() for name in job.shards if job.train_id not in pruned}
    for job in stored.jobs(conn, root.id):
        found -= {(show(job.train_id), show(shard.name)) for shard in stored.shards(conn, job.id)}
    if found:
        some = ", ".join(f"{train_id}/{name}" for train_id, name in sorted(found)[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        findings.note(f"{root.name}: not in the database yet: {store(some)}{more}")


def as_json(difference: Difference) -> dict[str, Any]:
    """Return a difference as values for JSON: numbers that are not finite are strings, bytes hexadecimal."""
    place = difference.place
    return {
        "job": place.job,
        "file": place.file,
        "plugin": place.plugin,
        "tag": place.tag,
        "step": place.step,
        "seq": place.seq,
        "what": difference.what,
        "by": difference.by,
        "expected": _plain(difference.expected),
        "found": _plain(difference.found),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return finite(value)
