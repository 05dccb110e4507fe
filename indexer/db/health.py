"""Is all well? What is not, in words that say what to do: `/health`, `/metrics` and `summarydb status` agree on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from indexer.db.dialect import SQLITE
from indexer.db.schema import INDEXER
from indexer.db.space import Space

ALIVE_SECONDS = 30.0
"""An indexer beats every 5 s, in its loop: one whose beat is older is gone, or hangs. As much ahead: its clock was
wrong, and it is gone."""
FORGOTTEN_SECONDS = 3600.0
"""An indexer that fell silent so long ago is no news where another works."""

_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"))


class IndexerRow(NamedTuple):
    """What an indexer said of itself."""

    host: str
    pid: int
    version: str
    started_at: float
    heartbeat: float
    state: str
    message: str | None


def indexers(conn: Connection) -> list[IndexerRow]:
    """Return the registered indexers, the one heard of last first; on SQLite only that: it took the others' place."""
    columns = [INDEXER.c[name] for name in IndexerRow._fields]
    query = select(*columns).order_by(INDEXER.c.heartbeat.desc(), INDEXER.c.id.desc())
    return [IndexerRow(*row) for row in conn.execute(query.limit(1) if conn.dialect.name == SQLITE else query)]


def alive(indexer: IndexerRow, now: float) -> bool:
    """Tell whether the indexer was heard of lately and did not say good-bye.

    A heartbeat from further ahead is of one that died before its clock went back: it would have said so since.
    """
    return indexer.state != "stopped" and abs(now - indexer.heartbeat) <= ALIVE_SECONDS


def silent(found: Sequence[IndexerRow], now: float) -> list[IndexerRow]:
    """Return the indexers that are missed: they neither beat nor said good-bye, and nobody took their place.

    found: the one heard of last first.
    """
    living = [one for one in found if alive(one, now)]
    missed = [one for one in found if one.state != "stopped" and not alive(one, now)]
    if not living:
        return [one for one in missed if one is found[0]]
    return [
        one
        for one in missed
        if now - one.heartbeat <= FORGOTTEN_SECONDS
        and not any(other.host == one.host and other.started_at > one.started_at for other in living)
    ]


def problems(found: Sequence[IndexerRow], space: Space, now: float) -> Iterator[str]:
    """Yield what is wrong and what to do, a line each; nothing where all is well, also where no indexer runs."""
    for one in silent(found, now):
        yield (
            f"the indexer, process {one.pid} on {one.host}, was heard of last {now - one.heartbeat:.0f} s ago"
            f" ({one.state}): it ended or hangs; look at its log, and start it again"
        )
    for one in found:
        if alive(one, now) and one.state == "waiting":
            yield f"the indexer, process {one.pid} on {one.host}, waits: {one.message or 'it does not say for what'}"
    if space.scarce and space.free is not None:
        yield f"the disk of the database is nearly full ({size(space.free)} free): make room, or move the database"
    if space.starved:
        yield (f"the write-ahead log has grown to {size(space.wal or 0)}: a reader keeps a transaction open; end it")


def size(count: int) -> str:
    """Return bytes as people read them, in MB at least."""
    unit, name = next(((unit, name) for unit, name in _UNITS if count >= unit), _UNITS[-1])
    return f"{count / unit:.1f} {name}"
