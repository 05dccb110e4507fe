"""`arrange` against the definitions of seq, restarts, tag_segments and tag statistics, followed point by point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.ingest.sequence import TagState, arrange
from indexer.types import RestartCause

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_HIDES = (RestartCause.NEW_FILE, RestartCause.SESSION_START)


class Point(NamedTuple):
    """A point as a file holds it."""

    tag: int
    shard: int
    step: int
    wall_time: float
    value: float
    is_number: bool


Row = tuple[int, int, int, float | None, float | None]
RestartRow = tuple[int, int, int, str]  # seq, step, shard, cause


@dataclass
class Reference:
    """A tag by the definitions, one point after the other."""

    points: list[Point] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    seq: int = 0
    pending: int | None = None  # step of a session start that no point followed yet
    restarts: dict[int, RestartRow] = field(default_factory=dict)  # by seq

    def start(self, step: int, shard: int) -> bool:
        """A session start: tell whether it supersedes points of this tag."""
        if not any(p.step >= step and self.current(i) for i, p in enumerate(self.points)):
            return False
        if self.pending is None:
            self.seq += 1
        self.pending = step
        self.restarts[self.seq] = (self.seq, step, shard, RestartCause.SESSION_START)
        return True

    def add(self, point: Point) -> None:
        """Load a point."""
        before = self.points[-1] if self.points else None
        moved = before is not None and before.shard != point.shard
        back = before is not None and (point.step < before.step or (point.step == before.step and moved))
        if self.pending is not None:
            if back:  # both hold: one row, as far down as either
                step = min(self.pending, point.step)
                shard = point.shard if step < self.pending else self.restarts[self.seq][2]
                self.restarts[self.seq] = (self.seq, step, shard, RestartCause.SESSION_START)
        elif before is not None and point.step <= before.step:
            self.seq += 1
            if back:
                cause = RestartCause.NEW_FILE if moved else RestartCause.SAME_FILE
                self.restarts[self.seq] = (self.seq, point.step, point.shard, cause)
        self.pending = None
        self.points.append(point)
        self.seqs.append(self.seq)

    def current(self, i: int) -> bool:
        """Tell whether our views show point i."""
        return not any(
            cause in _HIDES and seq > self.seqs[i] and step <= self.points[i].step
            for seq, step, _, cause in self.restarts.values()
        )

    def kept(self) -> set[RestartRow]:
        """Return the restarts that no later one makes superfluous."""
        rows = self.restarts.values()
        return {a for a in rows if not any(_dominates(b, a) for b in rows)}

    def rows(self, tag_id: int) -> list[Row]:
        """Return the rows of its points, sorted."""
        found = [
            (tag_id, p.step, seq, _known(p.wall_time), _known(p.value))
            for p, seq in zip(self.points, self.seqs, strict=True)
        ]
        return sorted(found, key=lambda row: row[:3])

    def segments(self) -> list[tuple[int, ...]]:
        """Return shard, first and last step, first and last seq, count of each stretch."""
        stretches: list[list[int]] = []
        for i, p in enumerate(self.points):
            if i == 0 or self.points[i - 1].shard != p.shard:
                stretches.append([])
            stretches[-1].append(i)
        return [
            (
                self.points[s[0]].shard,
                self.points[s[0]].step,
                self.points[s[-1]].step,
                self.seqs[s[0]],
                self.seqs[s[-1]],
                len(s),
            )
            for s in stretches
        ]

    def statistics(self) -> dict[str, Any]:
        """Return what the tag's row says."""
        values = [p.value for p in self.points]
        finite = [v for v in values if math.isfinite(v)]
        times = [p.wall_time for p in self.points if not math.isnan(p.wall_time)]
        return {
            "point_count": len(self.points),
            "first_step": self.points[0].step,
            "last_step": self.points[-1].step,
            "min_step": min(p.step for p in self.points),
            "max_step": max(p.step for p in self.points),
            "first_wall_time": _known(self.points[0].wall_time),
            "last_wall_time": _known(self.points[-1].wall_time),
            "max_wall_time": max(times, default=None),
            "last_value": _known(values[-1]),
            "min_value": min(finite, default=None),
            "max_value": max(finite, default=None),
            "nan_count": sum(math.isnan(p.value) and p.is_number for p in self.points),
            "pos_inf_count": values.count(math.inf),
            "neg_inf_count": values.count(-math.inf),
            "seq": self.seq,
            "segments": len(self.segments()),
        }


def _dominates(later: RestartRow, earlier: RestartRow) -> bool:
    hides = later[3] in _HIDES or earlier[3] not in _HIDES
    return later[0] > earlier[0] and later[1] <= earlier[1] and hides


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


class Start(NamedTuple):
    """A session start, in the file where it lies."""

    step: int
    shard: int


class Loaded:
    """What the tables hold when `arrange` is called as the loader does."""

    def __init__(self, tags: int) -> None:
        self.tags = [TagState(10 + 3 * i, i) for i in range(tags)]
        self.rows: list[Row] = []
        self.restarts: dict[tuple[int, int], RestartRow] = {}
        self.segments: dict[tuple[int, int], tuple[int, ...]] = {}

    def load(self, batch: Sequence[Point]) -> None:
        """Load one batch."""
        present = sorted({p.tag for p in batch})
        tags = [self.tags[i] for i in present]
        arranged = arrange(
            tags,
            np.array([present.index(p.tag) for p in batch], np.int64),
            np.array([p.step for p in batch], np.int64),
            np.array([p.wall_time for p in batch], np.float64),
            np.array([p.value for p in batch], np.float64),
            np.array([p.shard for p in batch], np.int64),
            np.array([not p.is_number for p in batch], np.bool_),
        )
        rows = [getattr(arranged.rows, name).tolist() for name in ("tag_id", "step", "seq", "wall_time", "value")]
        added = [(t, s, q, _known(w), _known(v)) for t, s, q, w, v in zip(*rows, strict=True)]
        keys = [row[:3] for row in added]
        assert sorted(set(keys)) == keys, "sorted by the key, no two alike"
        self.rows += added
        for r in arranged.restarts:
            self._add_restart(r.tag.id, (r.seq, r.step, r.shard, r.cause))
        for t, ordinal, s, _ in arranged.stretches:
            stretch = (s.shard, s.first_step, s.last_step, s.first_seq, s.last_seq, s.count)
            self.segments[t.id, ordinal] = stretch

    def start(self, tag: int, start: Start) -> None:
        """Note a session start that supersedes points of a tag, as the loader does after a batch."""
        t = self.tags[tag]
        if t.start_step is None:
            t.seq += 1
        t.start_step = start.step
        self._add_restart(t.id, (t.seq, start.step, start.shard, RestartCause.SESSION_START))

    def _add_restart(self, tag_id: int, row: RestartRow) -> None:
        self.restarts[tag_id, row[0]] = row
        for key, other in list(self.restarts.items()):
            if key[0] == tag_id and _dominates(row, other):
                del self.restarts[key]


_STEPS = st.one_of(
    st.integers(-1, 3),
    st.integers(-1, 3),
    st.sampled_from([_LOWEST, _LOWEST + 1, _HIGHEST - 1, _HIGHEST, 2**53, 2**53 + 1]),
)
_NUMBERS = st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0]), st.floats(width=32))


@st.composite
def _points(draw: st.DrawFn) -> Point:
    is_number = draw(st.integers(0, 5)) > 0
    value = draw(_NUMBERS) if is_number else math.nan
    return Point(draw(st.integers(0, 1)), draw(st.integers(1, 2)), draw(_STEPS), draw(_NUMBERS), value, is_number)


_STARTS = st.builds(Start, _STEPS, st.integers(1, 2))
_HISTORIES = st.lists(st.one_of(_points(), _points(), _points(), _points(), _STARTS), max_size=40)


@settings(max_examples=300, deadline=None)
@given(history=_HISTORIES, cuts=st.sets(st.integers(0, 40)))
def test_any_batching_gives_what_the_definitions_say(history: list[Point | Start], cuts: set[int]) -> None:
    """Rows, restarts, segments and statistics are those of the definitions, however the points are batched."""
    references = [Reference() for _ in range(2)]
    loaded = Loaded(2)
    batch: list[Point] = []
    for i, item in enumerate(history):
        if batch and (i in cuts or isinstance(item, Start)):
            loaded.load(batch)
            batch = []
        if isinstance(item, Start):
            for tag, reference in enumerate(references):
                if reference.start(item.step, item.shard):
                    loaded.start(tag, item)
        else:
            references[item.tag].add(item)
            batch.append(item)
    if batch:
        loaded.load(batch)
    for reference, state in zip(references, loaded.tags, strict=True):
        assert reference.rows(state.id) == sorted((r for r in loaded.rows if r[0] == state.id), key=lambda r: r[:3])
        assert reference.kept() == {row for (tag_id, _), row in loaded.restarts.items() if tag_id == state.id}
        found = [row for key, row in sorted(loaded.segments.items()) if key[0] == state.id]
        assert reference.segments() == found
        if reference.points:
            assert reference.statistics() == {name: getattr(state, name) for name in reference.statistics()}


@given(
    steps=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    tags=st.integers(201, 260),
)
def test_many_tags_that_went_back_are_sorted_too(steps: list[int], tags: int) -> None:
    """Where many tags went back the rows are sorted in one go, with the same result."""
    states = [TagState(i + 1, i) for i in range(tags)]
    n = len(steps) * tags
    arranged = arrange(
        states,
        np.tile(np.arange(tags), len(steps)),
        np.repeat(np.array(steps, np.int64), tags),
        np.zeros(n),
        np.arange(n, dtype=np.float64),
        np.ones(n, np.int64),
        np.zeros(n, np.bool_),
    )
    reference = Reference()
    for i, step in enumerate(steps):
        reference.add(Point(0, 1, step, 0.0, float(i), True))
    one = [(step, seq) for _, step, seq, _, _ in reference.rows(1)]
    expected = [(tag, *pair) for tag in range(1, tags + 1) for pair in one]
    rows = arranged.rows
    assert expected == list(zip(rows.tag_id.tolist(), rows.step.tolist(), rows.seq.tolist(), strict=True))
