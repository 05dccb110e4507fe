"""Which points of a series count for MindInsight after a training went back.

When a step comes that is not above the last one of its tag, the samples of that step go, and those of greater steps
that are from an older file: files are told apart by the timestamps in their names. Smaller steps stay, and so do
greater ones of the same file. (REST v1 has a simpler rule, docs/schema.md.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, text

from indexer.payload import Kind
from webapi import blobs
from webapi.mindinsight.catalogue import TagRow

T = TypeVar("T")
EXACT_POINTS = 1_000_000
"""Of longer series that went back REST v1's rule decides: it has buckets for them."""
_TIMESTAMP = re.compile(r"(?:summary|tfevents)\.([0-9]{1,18})")
_REPEATED = "NOT EXISTS (SELECT 1 FROM tensor_points q WHERE q.tag_id = p.tag_id AND q.step = p.step AND q.seq > p.seq)"


class Segment(NamedTuple):
    """A stretch of a series from one file, in load order."""

    first: tuple[int, int]  # seq, step
    last: tuple[int, int]
    low: int  # smallest step that a point of it has where the series went back
    timestamp: int  # of its file


class Cut(NamedTuple):
    """Points from one place to another, both included, at steps of at least `step`, do not count."""

    first: tuple[int, int]  # seq, step
    last: tuple[int, int]
    step: int


def condition(conn: Connection, tag: TagRow) -> str | None:
    """Return SQL of the points `p` that count, None where all do. Two statements where the series ever went back."""
    if not tag.seq:
        return None
    return " AND ".join([_REPEATED, *map(_not_in, cuts(_segments(conn, tag.id)))])


def _segments(conn: Connection, tag_id: int) -> list[Segment]:
    restarts = conn.execute(
        text("SELECT seq, step FROM restarts WHERE tag_id = :tag ORDER BY seq"), {"tag": tag_id}
    ).all()
    rows = conn.execute(
        text(
            "SELECT g.first_seq, g.first_step, g.last_seq, g.last_step, s.name FROM tag_segments g"
            " JOIN shards s ON s.id = g.shard_id WHERE g.tag_id = :tag ORDER BY g.ordinal"
        ),
        {"tag": tag_id},
    )
    found, at = [], 0
    for first_seq, first_step, last_seq, last_step, name in rows:
        first, last, low = (first_seq, first_step), (last_seq, last_step), first_step
        while at < len(restarts) and tuple(restarts[at]) <= last:
            low = min(low, restarts[at].step)
            at += 1
        match = _TIMESTAMP.search(name)
        found.append(Segment(first, last, low, int(match.group(1)) if match else 0))
    return found


def cuts(segments: list[Segment]) -> list[Cut]:
    """Return what newer files cut off older ones, neighbours that lose the same as one."""
    newer: list[tuple[int, int]] = []  # timestamp, and the smallest step of files at least as new, newest first
    made: list[Cut] = []
    for segment in reversed(segments):
        step = next((low for timestamp, low in reversed(newer) if timestamp > segment.timestamp), None)
        if step is not None:
            if made and made[-1].step == step:
                made[-1] = made[-1]._replace(first=segment.first)
            else:
                made.append(Cut(segment.first, segment.last, step))
        _lower(newer, segment.timestamp, segment.low)
    return made


def _lower(newer: list[tuple[int, int]], timestamp: int, low: int) -> None:
    """Note that a file reaches down to a step; the list stays sorted, and lower steps stand for what is above them."""
    known = dict(newer)
    known[timestamp] = min(low, known.get(timestamp, low))
    newer.clear()
    lowest: int | None = None
    for at in sorted(known, reverse=True):
        lowest = known[at] if lowest is None else min(lowest, known[at])
        newer.append((at, lowest))


def _not_in(cut: Cut) -> str:
    """Return a cut as SQL; it holds nothing but numbers of ours."""
    return f"NOT (p.step >= {cut.step} AND (p.seq, p.step) >= {cut.first} AND (p.seq, p.step) <= {cut.last})"


# Payloads -------------------------------------------------------------------------------------------------------------
def payloads(conn: Connection, tag: TagRow, kind: Kind, *, most: int, where: str = "TRUE") -> list[blobs.BlobRow]:
    """Return the payloads of a series that count, by step, without their bytes; of more than `most` some, evenly.

    where: SQL of what is wanted of a payload `b` with its kind's own table `s`. Three statements, some more where the
    series went back.
    """
    own = next((table.name for table in kind.tables if table.single), None)
    join = f"LEFT JOIN {own} s ON s.tag_id = b.tag_id AND s.step = b.step AND s.seq = b.seq" if own else ""
    query = text(
        "SELECT b.step, b.seq FROM blobs b"
        f" JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq {join}"
        " WHERE b.tag_id = :tag AND b.kind = :kind AND b.ordinal = 0"
        f" AND {where} AND {condition(conn, tag) or 'TRUE'} ORDER BY b.step, b.seq"
    )
    places = conn.execute(query, {"tag": tag.id, "kind": kind.name}).all()
    return blobs.by_key(conn, kind, [(tag.id, step, seq, 0) for step, seq in evenly(places, most)])


def at_step(conn: Connection, tag: TagRow, kind: Kind, step: int, *, where: str = "TRUE") -> blobs.BlobRow | None:
    """Return the payload of a series at a step, None where there is none that counts."""
    query = text(
        "SELECT b.seq FROM blobs b"
        " JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq"
        " WHERE b.tag_id = :tag AND b.kind = :kind AND b.ordinal = 0 AND b.step = :step"
        f" AND {where} AND {condition(conn, tag) or 'TRUE'} ORDER BY b.seq DESC LIMIT 1"
    )
    if not -(2**63) <= step < 2**63:
        return None
    seq = conn.execute(query, {"tag": tag.id, "kind": kind.name, "step": step}).scalar()
    return None if seq is None else blobs.by_key(conn, kind, [(tag.id, step, seq, 0)])[0]


def last_step(conn: Connection, tag: TagRow, kind: Kind) -> int | None:
    """Return the greatest step of the payloads that count."""
    query = text(
        "SELECT max(b.step) FROM blobs b"
        " JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq"
        f" WHERE b.tag_id = :tag AND b.kind = :kind AND b.ordinal = 0 AND {condition(conn, tag) or 'TRUE'}"
    )
    step: int | None = conn.execute(query, {"tag": tag.id, "kind": kind.name}).scalar()
    return step


def evenly(items: Sequence[T], most: int) -> Sequence[T]:
    """Return at most `most` of a list, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[i * (len(items) - 1) // (most - 1)] for i in range(most)]
