"""Points that pruning left of a tag, found again in their file: in its order, each as it is there.

Nobody knows which points went, so `seq` cannot be counted anew: of a file's points the next that equals the stored one
that is awaited is taken for it. Points that are stored and not found are all that can be told.
Decision: docs/decisions/0045-what-was-pruned-is-remembered.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.db import shadow
from indexer.db.connection import Connection
from indexer.db.stored import SegmentRow

_PAGE = 50_000  # points read at once

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Stored(NamedTuple):
    """A point of the table; NaN is NULL."""

    step: int
    seq: int
    wall_time: float
    value: float


@dataclass(slots=True)
class Remnant:
    """What the tables have of a tag from one file."""

    conn: Connection
    segments: Sequence[SegmentRow]  # in load order
    clocks: bool = True  # the file says when its points were written
    awaited: Stored | None = None
    near: tuple[float, float] | None = None  # wall_time and value in the file, at the step of the one awaited
    found: int = 0
    asked: bool = False  # the file has points of the tag
    _key: tuple[int, int, int] = (0, 0, 0)  # of the one awaited
    _rows: Iterator[tuple[Stored, tuple[int, int, int]]] = field(init=False)

    def __post_init__(self) -> None:
        self._rows = self._read()
        self._next()

    def take(self, step: Ints, wall_time: Floats, value: Floats) -> Ints:
        """Look for stored points among the next ones of the file; return the seq of each, -1 where it is not stored.

        All shapes (n,).
        """
        self.asked = True
        seq = np.full(len(step), -1, np.int64)
        for i, key in enumerate(_keys(step, wall_time, value, self.clocks)):
            if self.awaited is None:
                break
            if key == self._key:
                seq[i] = self.awaited.seq
                self.found += 1
                self._next()
            elif key[0] == self._key[0] and self.near is None:
                self.near = (float(wall_time[i]), float(value[i]))
        return seq

    @property
    def left(self) -> int:
        """How many points are not found."""
        return sum(segment.points for segment in self.segments) - self.found

    def _next(self) -> None:
        self.near = None
        self.awaited, self._key = next(self._rows, (None, (0, 0, 0)))

    def _read(self) -> Iterator[tuple[Stored, tuple[int, int, int]]]:
        for one in self.segments:
            ends = (one.first_seq, one.first_step, one.last_seq, one.last_step)
            for rows in shadow.in_load_order(self.conn, one.tag_id, ends, _PAGE):
                columns: list[Any] = [np.ascontiguousarray(rows[name]) for name in Stored._fields]
                keys = _keys(columns[0], columns[2], columns[3], self.clocks)
                yield from zip(map(Stored._make, rows.tolist()), keys, strict=True)


def _keys(step: Ints, wall_time: Floats, value: Floats, clocks: bool) -> Iterator[tuple[int, int, int]]:
    """Yield what tells points apart: NaN equals NaN, zeros have no sign."""
    clock = _bits(wall_time) if clocks else [0] * len(step)
    return zip(step.tolist(), clock, _bits(value), strict=True)


def _bits(numbers: Floats) -> list[int]:
    plain: list[int] = np.where(np.isnan(numbers), np.nan, numbers + 0.0).view(np.int64).tolist()
    return plain
