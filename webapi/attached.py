"""Payloads of points, whatever their kinds: what `/points` and `summarydb export` show beside the numbers.

A page of points has so many payloads and bytes at most: it ends before the point that is too much.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text

from indexer.payload import Stored
from webapi import blobs
from webapi.blobs import BlobRow, Key
from webapi.queries import PointRow

POINTS_AT_ONCE = 500
"""Points whose payloads one statement reads."""

PointKey = tuple[int, int, int]
"""tag_id, step, seq."""

_COLUMNS = """b.tag_id, b.step, b.seq, b.ordinal, b.kind, b.encoding, b.content_type, b.width, b.height, b.dtype,
    b.shape, b.length, b.digest, b.error"""
_ONE_POINT = text(
    f"SELECT {_COLUMNS} FROM blobs b WHERE b.tag_id = :tag AND b.step = :step AND b.seq = :seq"  # noqa: S608
    " AND b.ordinal > :after ORDER BY b.ordinal LIMIT :limit"
)


class Attached(NamedTuple):
    """A payload without its bytes."""

    kind: str
    row: BlobRow


class Page(NamedTuple):
    """Payloads of the first `points` points that were asked for, in their order."""

    points: int
    of: dict[PointKey, list[Attached]]
    cut: bool  # the only point has more


def tags_with_payloads(conn: Connection, points: Sequence[PointRow]) -> set[int]:
    """Return those tags of points without a value that have payloads. One statement, none where all have values."""
    wanted = sorted({tag_id for tag_id, _, _, _, value in points if value is None})
    if not wanted:
        return set()
    query = text("SELECT DISTINCT tag_id FROM blob_counts WHERE tag_id IN :tags")
    return set(conn.execute(query.bindparams(bindparam("tags", expanding=True)), {"tags": wanted}).scalars())


def page(conn: Connection, points: Sequence[PointRow], *, limit: int) -> Page:
    """Return the payloads of points, at most `limit`; of one point alone its first `limit`.

    A statement for POINTS_AT_ONCE points that have payloads, in whatever number.
    """
    tags = tags_with_payloads(conn, points)
    places = [i for i, (tag_id, _, _, _, value) in enumerate(points) if value is None and tag_id in tags]
    of: dict[PointKey, list[Attached]] = {}
    left = limit
    for start in range(0, len(places), POINTS_AT_ONCE):
        part = places[start : start + POINTS_AT_ONCE]
        keys = [_key(points[i]) for i in part]
        found = _read(conn, keys, left + 1)
        for one in found:
            of.setdefault(one.row.key[:3], []).append(one)
        if len(found) > left:
            last = found[-1].row.key[:3]
            place = part[keys.index(last)]
            if place:
                del of[last]
                return Page(place, of, False)
            del of[last][limit:]
            return Page(1, of, True)
        left -= len(found)
    return Page(len(points), of, False)


def of_point(conn: Connection, key: PointKey, *, after: int, limit: int) -> list[Attached]:
    """Return payloads of one point, behind the ordinal `after`. One statement."""
    wanted = dict(zip(("tag", "step", "seq"), key, strict=True)) | {"after": after, "limit": limit}
    return [_attached(row) for row in conn.execute(_ONE_POINT, wanted)]


def with_bytes(
    conn: Connection, points: Sequence[PointRow], found: Page, *, most: int
) -> tuple[Page, dict[Key, bytes]]:
    """Return as many points as have at most `most` bytes together, and their bytes; of one point alone what fits."""
    chosen: list[BlobRow] = []
    room = most
    for place, point in enumerate(points[: found.points]):
        rows = [one.row for one in found.of.get(_key(point), ()) if one.row.encoding != "ref"]
        weight = sum(row.stored.length for row in rows)
        if weight <= room:
            chosen += rows
            room -= weight
        elif place:
            found = Page(place, found.of, False)
            break
        else:
            for row in rows:
                if row.stored.length <= room:
                    chosen.append(row)
                    room -= row.stored.length
            found = Page(1, found.of, found.cut)
            break
    return found, blobs.data(conn, chosen)


def _key(point: PointRow) -> PointKey:
    return point[:3]


def _read(conn: Connection, keys: Sequence[PointKey], limit: int) -> list[Attached]:
    values = ", ".join(f"(:t{i}, :s{i}, :q{i})" for i in range(len(keys)))
    query = text(
        f"SELECT {_COLUMNS} FROM (VALUES {values}) v JOIN blobs b ON b.tag_id = v.column1"  # noqa: S608  # bound
        " AND b.step = v.column2 AND b.seq = v.column3 ORDER BY b.tag_id, b.step, b.seq, b.ordinal LIMIT :limit"
    )
    bound = {f"{name}{i}": value for i, key in enumerate(keys) for name, value in zip("tsq", key, strict=True)}
    return [_attached(row) for row in conn.execute(query, bound | {"limit": limit})]


def _attached(row: Any) -> Attached:
    kind, encoding, content_type, width, height, dtype, shape, length, digest, error = row[4:]
    stored = Stored(
        content_type,
        length,
        width,
        height,
        dtype=dtype,
        shape=None if shape is None else tuple(json.loads(shape)),
        error=error,
    )
    return Attached(kind, BlobRow(tuple(row[:4]), None, encoding, bytes(digest), stored))
