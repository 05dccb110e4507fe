"""`summarydb status`: how far every job is loaded, how fresh that is, and what was damaged or could not be read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from indexer import text
from indexer.db import migrate
from indexer.db.engine import read_only, server_time
from indexer.db.health import ALIVE_SECONDS, IndexerRow, indexers, problems
from indexer.db.overview import Overview, overview
from indexer.db.space import Space, space
from indexer.errors import Refuse
from indexer.version import REVISION
from summarydb import table
from summarydb.progress import size
from summarydb.work import naming, open_existing, shown

_SECONDS = 30.0
_RIGHT = (False, False, True, True, True, True, False)


def read(url: str) -> dict[str, Any]:
    """Return what the database at `url` holds, as values for JSON. An older or newer schema is read all the same."""
    with naming(url):
        engine = open_existing(url)
        try:
            found = migrate.current(engine)
            if found is None:
                raise Refuse("the database is empty: run `summarydb up LOGDIR` first")
            with read_only(engine, seconds=_SECONDS) as conn:
                return facts(
                    overview(conn),
                    database=shown(url),
                    schema=found,
                    now=server_time(conn) or time.time(),
                    room=space(conn),
                    known=indexers(conn),
                )
        finally:
            engine.dispose()


def facts(
    found: Overview, *, database: str, schema: str, now: float, room: Space, known: Sequence[IndexerRow]
) -> dict[str, Any]:
    """Return `found` as values for JSON. Times are seconds since the epoch.

    `lag` is bytes on disk that are still to be indexed: those of jobs left out of the cache are not.
    """
    jobs = [
        {
            **{key: value for key, value in job.items() if key != "root_id"},
            "train_id": _plain(job["train_id"]),
            "last_error": job["last_error"],
            "lag": 0 if job["evicted_at"] is not None else max(0, job["bytes_on_disk"] - job["bytes_indexed"]),
            "progress": _share(job["bytes_indexed"], job["bytes_on_disk"]),
            "root": job["root_id"],
        }
        for job in found.jobs
    ]
    roots = []
    for root in found.roots:
        own = [job for job in jobs if job["root"] == root["id"]]
        counts = Counter(job["cache_status"] for job in own)
        on_disk, indexed = (sum(job[key] for job in own) for key in ("bytes_on_disk", "bytes_indexed"))
        roots.append(
            {
                **root,
                "name": _plain(root["name"]),
                "path": _plain(root["path"]),
                "jobs": len(own),
                "cache_status": {status: counts[status] for status in ("NOT_IN_CACHE", "CACHING", "CACHED")},
                "point_count": sum(job["point_count"] for job in own),
                "bytes_on_disk": on_disk,
                "bytes_indexed": indexed,
                "evicted_jobs": sum(job["evicted_at"] is not None for job in own),
                "lag": sum(job["lag"] for job in own),
                "progress": _share(indexed, on_disk),
                "bad_records": sum(job["bad_records"] for job in own),
                "bad_bytes": sum(job["bad_bytes"] for job in own),
                "bad_payloads": sum(job["bad_payloads"] for job in own),
            }
        )
    names = {root["id"]: root["name"] for root in roots}
    for job in jobs:
        job["root"] = names.get(job["root"])
    indexers = [
        {**row, "alive": row["state"] != "stopped" and abs(now - row["heartbeat"]) <= ALIVE_SECONDS}
        for row in found.indexers
        if row["state"] != "stopped"
    ]
    return {
        "database": database,
        "size_bytes": room.size,
        "wal_bytes": room.wal,
        "free_bytes": room.free,
        "disk_bytes": room.disk,
        "problems": list(problems(known, room, now)),
        "schema": schema,
        "schema_needed": REVISION,
        "scanned_at": found.state["scanned_at"] if found.state else None,
        "indexers": indexers,
        "roots": roots,
        "jobs": jobs,
    }


def render(facts: dict[str, Any]) -> str:
    """Return the facts for people."""
    lines = [f"{facts['database']}, schema {facts['schema']}"]
    if facts["schema"] != facts["schema_needed"]:
        lines[0] += f" (this program needs {facts['schema_needed']}: run `summarydb db upgrade`)"
    lines.append(_room(facts))
    lines += [table.printable(f"warning: {problem}") for problem in facts["problems"]]
    for row in facts["indexers"]:
        state = row["state"] if row["alive"] else "silent"
        lines.append(f"indexer {row['pid']} on {row['host']}: {state}, last heard of {_when(row['heartbeat'])}")
        if row["message"]:
            lines.append(f"  {row['message']}")
    if not facts["indexers"]:
        lines.append("no indexer is running")
    if facts["scanned_at"] is not None:
        lines.append(f"directories last looked through {_when(facts['scanned_at'])}")
    for root in facts["roots"]:
        counts = ", ".join(f"{count:,} {status}" for status, count in root["cache_status"].items() if count)
        lines += [
            "",
            f"{table.printable(root['name'])} ({table.printable(root['path'])}): {root['jobs']:,} jobs"
            + (f", {counts}" if counts else "")
            + (f", {root['evicted_jobs']:,} of them loaded on demand" if root["evicted_jobs"] else "")
            + (f"; {root['pruned_jobs']:,} pruned jobs passed over" if root["pruned_jobs"] else ""),
            f"  {root['point_count']:,} points, {_of(root)}, {_damage(root)}",
        ]
        own = [job for job in facts["jobs"] if job["root"] == root["name"]]
        if own:
            cells = _cells(own)
            lines += [f"  {line}" for line in table.lines(cells, right=_RIGHT, widths=table.widths(cells))]
    return "\n".join(lines)


def _room(facts: dict[str, Any]) -> str:
    wal = f" and {size(facts['wal_bytes'])} of write-ahead log" if facts["wal_bytes"] else ""
    free = "" if facts["free_bytes"] is None else f", {size(facts['free_bytes'])} free on its disk"
    return f"{size(facts['size_bytes'])}{wal}{free}"


def _cells(jobs: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    head = ("job", "cache_status", "loaded", "lag", "points", "damaged", "remarks")
    return [head] + [
        (
            table.printable(job["train_id"]),
            job["cache_status"],
            f"{job['progress']:.0%}",
            size(job["lag"]),
            f"{job['point_count']:,}",
            f"{job['bad_records']:,}",
            table.printable("; ".join(_remarks(job))),
        )
        for job in jobs
    ]


def _remarks(job: dict[str, Any]) -> list[str]:
    remarks = [f"{job[state]} {state}" for state in ("torn", "dead") if job[state]]
    if job["bad_payloads"]:
        remarks.append(f"{job['bad_payloads']} payloads undecoded")
    if job["missing_since"] is not None:
        remarks.append(f"files missing since {_when(job['missing_since'])}; its points stay")
    if job["evicted_at"] is not None:
        remarks.append("left out of the cache: loaded when somebody looks at it")
    if job["pruned_at"] is not None:
        remarks.append(f"some of it pruned {_when(job['pruned_at'])}")
    if job["last_error"]:
        remarks.append(job["last_error"])
    return remarks


def _damage(row: dict[str, Any]) -> str:
    return f"{row['bad_records']:,} damaged records ({size(row['bad_bytes'])})"


def _of(row: dict[str, Any]) -> str:
    return f"{size(row['bytes_indexed'])} of {size(row['bytes_on_disk'])}"


def _share(done: int, whole: int) -> float:
    return round(min(done / whole, 1.0), 4) if whole else 1.0


def _when(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s after 1970"


def _plain(stored: str) -> str:
    """Return a stored name as it was, with bytes that are not UTF-8 shown as escapes."""
    return text.show(stored).encode("utf-8", "backslashreplace").decode()
