"""Every SELECT of payloads: a frozen request in, rows out, in plain SQL. No list touches bytes that it leaves out."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text

from indexer import text as names
from indexer.payload import Kind, Stored
from webapi.queries import JobRef, Range, after_series, series_before

ROUNDS = 16
"""How often `page` looks for more rows before it answers with a short page."""
KEYS_AT_ONCE = 500
"""Payloads read by one statement."""

CONTENT_BYTES = 2**14
"""What a plugin says of a series is read with its payloads where it is no longer."""

Key = tuple[int, int, int, int]
"""tag_id, step, seq, ordinal."""

_LAST = 2**31 - 1
_COLUMNS = """b.tag_id, b.step, b.seq, b.ordinal, b.encoding, b.content_type, b.width, b.height, b.colorspace, b.dtype,
    b.shape, b.length, b.digest, b.facts, b.error, p.wall_time"""
_FROM = """FROM blobs b JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq"""
_CURRENT = """NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = b.tag_id AND r.seq > b.seq AND r.step <= b.step
    AND r.cause IN ('new_file', 'session_start'))"""
_ORDER = "ORDER BY b.tag_id, b.step, b.seq, b.ordinal LIMIT :limit"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page of payloads of a kind. No jobs: all; no tags: all. `after` is the key of the row before the page."""

    kind: Kind
    limit: int
    chosen: Range
    jobs: Sequence[JobRef] | None = None
    tags: tuple[str, ...] = ()
    plugin: str | None = None
    after: Key | None = None


class TagRow(NamedTuple):
    """A tag with payloads of a kind."""

    id: int
    job_id: int
    train_id: str
    name: str
    plugin: str
    blobs: int  # how many
    content: bytes | None = None  # of its plugin, where it is short


class BlobRow(NamedTuple):
    """A payload without its bytes; `stored` is what its kind looks at."""

    key: Key
    wall_time: float | None
    encoding: str
    digest: bytes
    stored: Stored


class Place(NamedTuple):
    """Where bytes lie that are not in the database."""

    path: Path
    offset: int


def tags(conn: Connection, wanted: Wanted, *, limit: int) -> tuple[list[TagRow], bool]:
    """Return tags with payloads of the kind, by id, and whether more follow. One statement."""
    stored = [names.store(tag) for tag in wanted.tags]
    where, values = ["c.kind = :kind"], dict[str, Any](kind=wanted.kind.name, limit=limit + 1)
    expanding = []
    if wanted.jobs is not None:
        where.append("t.job_id IN :jobs")
        values["jobs"] = [ref.id for ref in wanted.jobs]
        expanding.append("jobs")
    if stored:
        where.append("t.name_key IN :keys AND t.name IN :names")
        values |= {"keys": [names.short_key(name) for name in stored], "names": stored}
        expanding += ["keys", "names"]
    if wanted.plugin is not None:
        where.append("t.plugin = :plugin")
        values["plugin"] = names.store(wanted.plugin)
    if wanted.after is not None:
        where.append("t.id > :after")
        values["after"] = series_before(_position(wanted.after))
    query = text(
        "SELECT t.id, t.job_id, j.train_id, t.name, t.plugin, c.count,"  # noqa: S608  # values are bound
        f" CASE WHEN length(t.content) <= {CONTENT_BYTES} THEN t.content END"
        " FROM blob_counts c JOIN tags t ON t.id = c.tag_id JOIN jobs j ON j.id = t.job_id"
        f" WHERE {' AND '.join(where)} ORDER BY t.id LIMIT :limit"
    ).bindparams(*(bindparam(name, expanding=True) for name in expanding))
    rows = [TagRow(*row) for row in conn.execute(query, values)]
    return rows[:limit], len(rows) > limit


def page(conn: Connection, wanted: Wanted, among: Sequence[TagRow]) -> tuple[list[BlobRow], Key | None]:
    """Return a page of payloads of the tags `among` (by id), and the key to go on behind; None: there are no more.

    A page may be short, and even empty, where a range leaves out most: it ends after ROUNDS statements.
    """
    found: list[BlobRow] = []
    after = wanted.after
    waiting = [tag for tag in among if after is None or (*after_series(tag.id), _LAST) > after]
    within = after[1:] if after is not None and waiting and waiting[0].id == after[0] else None
    for _ in range(ROUNDS):
        if not waiting:
            return found, None
        missing = wanted.limit - len(found)
        several, fit = 0, 0
        if within is None:
            while several < len(waiting) and fit + waiting[several].blobs <= missing:
                fit += waiting[several].blobs
                several += 1
        if several:
            found += _read(conn, wanted, [tag.id for tag in waiting[:several]], missing)
        else:
            several = 1
            rows = _read(conn, wanted, [waiting[0].id], missing + 1, within)
            found += rows[:missing]
            if len(rows) > missing:
                return found, found[-1].key
        last = (*after_series(waiting[several - 1].id), _LAST)
        waiting, within = waiting[several:], None
        if waiting and len(found) == wanted.limit:
            return found, last
    return found, last if waiting else None


def _position(after: Key) -> tuple[int, int, int]:
    """Return a key as `series_before` takes it: behind the last ordinal of the last point comes the next series."""
    return after[:3]


def _read(
    conn: Connection, wanted: Wanted, tag_ids: Sequence[int], limit: int, within: tuple[int, int, int] | None = None
) -> list[BlobRow]:
    where, values = ["b.kind = :kind"], dict[str, Any](kind=wanted.kind.name, limit=limit)
    if len(tag_ids) == 1:  # then the key gives the order
        where.append("b.tag_id = :tag")
        values["tag"] = tag_ids[0]
    else:
        where.append("b.tag_id IN :tags")
        values["tags"] = list(tag_ids)
    if within is not None:
        where.append("(b.step, b.seq, b.ordinal) > (:step, :seq, :ordinal)")
        values |= dict(zip(("step", "seq", "ordinal"), within, strict=True))
    if wanted.chosen.first is not None:
        where.append("b.step >= :first")
        values["first"] = wanted.chosen.first
    if wanted.chosen.last is not None:
        where.append("b.step <= :last")
        values["last"] = wanted.chosen.last
    if not wanted.chosen.superseded:
        where.append(_CURRENT)
    columns, joins, shown = _of_kind(wanted.kind)
    query = text(f"SELECT {columns} {joins} WHERE {' AND '.join(where)} {_ORDER}")  # values are bound
    if "tags" in values:
        query = query.bindparams(bindparam("tags", expanding=True))
    return [_row(row, shown) for row in conn.execute(query, values)]


def _of_kind(kind: Kind) -> tuple[str, str, tuple[str, ...]]:
    """Return the columns and joins of a list, and the columns of the kind's own table among them."""
    single = next((table for table in kind.tables if table.single), None)
    if single is None:
        return _COLUMNS, _FROM, ()
    own = ", ".join(f"s.{column}" for column in single.columns)
    join = f"LEFT JOIN {single.name} s ON s.tag_id = b.tag_id AND s.step = b.step AND s.seq = b.seq"
    return f"{_COLUMNS}, {own}", f"{_FROM} {join}", single.columns


def _row(row: Any, shown: tuple[str, ...]) -> BlobRow:
    key, rest = tuple(row[:4]), row[4:16]
    encoding, content_type, width, height, colorspace, dtype, shape, length, digest, facts, error, wall_time = rest
    stored = Stored(
        content_type,
        length,
        width,
        height,
        colorspace,
        dtype,
        None if shape is None else tuple(json.loads(shape)),
        facts_of(facts),
        error,
        row=dict(zip(shown, row[16:], strict=True)),
    )
    return BlobRow(key, wall_time, encoding, bytes(digest), stored)


def one(conn: Connection, key: Key) -> tuple[str, BlobRow] | None:
    """Return a payload's kind and row; None where there is none. One statement."""
    query = text(
        f"SELECT {_COLUMNS}, b.kind {_FROM}"  # noqa: S608  # values are bound
        " WHERE b.tag_id = :tag AND b.step = :step AND b.seq = :seq AND b.ordinal = :ordinal"
        " AND EXISTS (SELECT 1 FROM tags t WHERE t.id = b.tag_id)"  # else it waits to be deleted
    )
    row = conn.execute(query, dict(zip(("tag", "step", "seq", "ordinal"), key, strict=True))).first()
    return None if row is None else (row.kind, _row(row[:16], ()))


def by_key(conn: Connection, kind: Kind, keys: Sequence[Key]) -> list[BlobRow]:
    """Return payloads of a kind, by key. A statement for KEYS_AT_ONCE of them."""
    columns, joins, shown = _of_kind(kind)
    found = []
    for start in range(0, len(keys), KEYS_AT_ONCE):
        part = keys[start : start + KEYS_AT_ONCE]
        wanted = ", ".join(f"(:t{i}, :s{i}, :q{i}, :o{i})" for i in range(len(part)))
        values = {f"{name}{i}": value for i, key in enumerate(part) for name, value in zip("tsqo", key, strict=True)}
        query = text(
            f"SELECT {columns} {joins} JOIN (VALUES {wanted}) v ON b.tag_id = v.column1"  # values are bound
            " AND b.step = v.column2 AND b.seq = v.column3 AND b.ordinal = v.column4"
            " ORDER BY b.tag_id, b.step, b.seq, b.ordinal"
        )
        found += [_row(row, shown) for row in conn.execute(query, values)]
    return found


def data(conn: Connection, rows: Sequence[BlobRow]) -> dict[Key, bytes]:
    """Return the decoded bytes of payloads in the database, by key. A statement for KEYS_AT_ONCE of them."""
    found = {}
    for start in range(0, len(rows), KEYS_AT_ONCE):
        part = {row.key: row for row in rows[start : start + KEYS_AT_ONCE]}
        keys = ", ".join(f"(:t{i}, :s{i}, :q{i}, :o{i})" for i in range(len(part)))
        values = {f"{name}{i}": value for i, key in enumerate(part) for name, value in zip("tsqo", key, strict=True)}
        query = text(
            f"SELECT b.tag_id, b.step, b.seq, b.ordinal, b.data FROM (VALUES {keys}) v"  # noqa: S608  # values are bound
            " JOIN blobs b ON b.tag_id = v.column1 AND b.step = v.column2 AND b.seq = v.column3"
            " AND b.ordinal = v.column4 WHERE b.data IS NOT NULL"
        )
        for *key, stored in conn.execute(query, values):
            row = part[tuple(key)]
            found[row.key] = _unpacked(bytes(stored), row.encoding, row.stored.length)
    return found


def facts_of(stored: str | None) -> dict[str, Any]:
    """Return the facts of a payload as they are stored."""
    found: dict[str, Any] = {} if stored is None else json.loads(stored)
    return found


def _unpacked(stored: bytes, encoding: str, length: int) -> bytes:
    return zlib.decompressobj().decompress(stored, max(length, 1)) if encoding == "zlib" else stored


def place(conn: Connection, key: Key) -> Place | None:
    """Return where the bytes of a reference lie. One statement."""
    query = text(
        'SELECT r.path, j.train_id, s.name, b."offset" FROM blobs b JOIN shards s ON s.id = b.shard_id'
        " JOIN jobs j ON j.id = s.job_id JOIN roots r ON r.id = j.root_id"
        " WHERE b.tag_id = :tag AND b.step = :step AND b.seq = :seq AND b.ordinal = :ordinal"
        " AND EXISTS (SELECT 1 FROM tags t WHERE t.id = b.tag_id)"  # else it waits to be deleted
    )
    row = conn.execute(query, dict(zip(("tag", "step", "seq", "ordinal"), key, strict=True))).first()
    if row is None:
        return None
    root, train_id, name = (names.show(part) for part in row[:3])
    return Place(Path(root, train_id, name), row[3])
