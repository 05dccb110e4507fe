"""Points in load order → rows of the table, restarts, segments and statistics. Pure, vectorised.

`seq`, `restarts` and `tag_segments` are defined in docs/schema.md. In short: per tag, `seq` counts how often a step
failed to exceed the one loaded just before it (or a session start lay between); a tag that went back has a restart,
but equal steps in one file are repeats and have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.types import RestartCause, Rows

_RADIX_LIMIT = 2**16  # numpy sorts 16-bit numbers by radix, in linear time
_FEW_GROUPS = 200

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Segment:
    """A stretch of a tag from one file, in load order."""

    shard: int
    first_step: int
    first_seq: int
    last_step: int
    last_seq: int
    count: int


@dataclass(slots=True, eq=False)
class TagState:
    """What must be known of a tag to load more of it; the mirror of its row."""

    id: int
    number: int  # of its series in the decoder
    stored: bool = False  # it has a row
    point_count: int = 0
    first_step: int | None = None
    last_step: int | None = None
    min_step: int | None = None
    max_step: int | None = None
    first_wall_time: float | None = None
    last_wall_time: float | None = None
    max_wall_time: float | None = None
    last_value: float | None = None
    min_value: float | None = None
    max_value: float | None = None
    nan_count: int = 0
    pos_inf_count: int = 0
    neg_inf_count: int = 0
    max_length: int = 0
    seq: int = 0
    segments: int = 0
    rolled_count: int = 0
    rolled_step: int | None = None
    segment: Segment | None = None  # the last one
    start_step: int | None = None  # a session start's, while no point followed it


class Restart(NamedTuple):
    """A row of `restarts`."""

    tag: TagState
    seq: int
    step: int
    shard: int
    cause: RestartCause


class Stretch(NamedTuple):
    """A row of `tag_segments`."""

    tag: TagState
    ordinal: int
    segment: Segment
    new: bool  # else it is a longer one that the table has


@dataclass(slots=True)
class Arranged:
    """What a batch adds to the tables."""

    rows: Rows
    restarts: list[Restart] = field(default_factory=list)
    stretches: list[Stretch] = field(default_factory=list)
    reset: dict[int, int] = field(default_factory=dict)  # tag id → lowest step at which its order was disturbed


def arrange(
    tags: Sequence[TagState],
    tag: Ints,
    step: Ints,
    wall_time: Floats,
    value: Floats,
    shard: Ints,
    not_number: npt.NDArray[np.bool_],
) -> Arranged:
    """Sort a batch, number its points, and move `tags` on to the state after it.

    tags: k of them, in the order of their ids.  The arrays have shape (n,), in load order; `tag` holds indices into
    `tags`, each of which occurs.  `shard` holds ids.
    """
    n = len(tag)
    if n == 0:
        none = np.empty(0, np.int32)
        return Arranged(Rows(none, np.empty(0, np.int64), none, np.empty(0), np.empty(0)))
    if len(tags) > 1:
        order = np.argsort(tag.astype(np.uint16) if len(tags) <= _RADIX_LIMIT else tag, kind="stable")
        tag, step, wall_time, value = tag[order], step[order], wall_time[order], value[order]
        shard, not_number = shard[order], not_number[order]
    starts = np.flatnonzero(np.diff(tag, prepend=-1))
    counts = np.diff(starts, append=n)
    ends = starts + counts - 1

    failed = np.empty(n, np.bool_)
    np.less_equal(step[1:], step[:-1], out=failed[1:])
    moved = np.empty(n, np.bool_)  # the point before it, of the same tag, came from another file
    np.not_equal(shard[1:], shard[:-1], out=moved[1:])
    first_steps, first_shards = step[starts].tolist(), shard[starts].tolist()
    failed[starts] = [
        t.last_step is not None and t.start_step is None and s <= t.last_step
        for t, s in zip(tags, first_steps, strict=True)
    ]
    moved[starts] = [t.segment is not None and t.segment.shard != s for t, s in zip(tags, first_shards, strict=True)]
    base = np.array([t.seq for t in tags], np.int64)
    seq = np.repeat(base, counts)
    disturbed = bool(failed.any())
    if disturbed:
        total = np.cumsum(failed)
        seq += total - np.repeat(total[starts] - failed[starts], counts)

    arranged = Arranged(Rows(*(np.empty(0),) * 5))  # type: ignore[arg-type]  # filled below
    _note_late_starts(arranged, tags, first_steps, first_shards)
    if disturbed:
        _note_restarts(arranged, tags, tag, step, seq, shard, failed, moved)
    _note_segments(arranged, tags, tag, step, seq, shard, moved, starts)
    _add_statistics(tags, starts, ends, counts, step, wall_time, value, not_number)
    for t, last_seq in zip(tags, seq[ends].tolist(), strict=True):
        t.seq = last_seq

    ids = np.repeat(np.array([t.id for t in tags], np.int32), counts)
    if disturbed:
        order = _row_order(tag, step, seq, starts, ends, failed)
        ids, step, seq, wall_time, value = ids[order], step[order], seq[order], wall_time[order], value[order]
    arranged.rows = Rows(ids, step, seq.astype(np.int32), wall_time, value)
    return arranged


def _note_late_starts(arranged: Arranged, tags: Sequence[TagState], steps: list[int], shards: list[int]) -> None:
    """A first point that goes back below the session start before it: the start's restart reaches down to it."""
    for t, step, shard in zip(tags, steps, shards, strict=True):
        if t.start_step is not None:
            if step < t.start_step and _goes_back(t, step, shard):
                arranged.restarts.append(Restart(t, t.seq, step, shard, RestartCause.SESSION_START))
                arranged.reset[t.id] = step
            t.start_step = None


def _goes_back(t: TagState, step: int, shard: int) -> bool:
    """Tell whether a point at `step` is a restart of the tag; an equal step in the same file is a repeat."""
    if t.last_step is None or t.segment is None:
        return False
    return step < t.last_step or (step == t.last_step and shard != t.segment.shard)


def _note_restarts(
    arranged: Arranged,
    tags: Sequence[TagState],
    tag: Ints,
    step: Ints,
    seq: Ints,
    shard: Ints,
    failed: npt.NDArray[np.bool_],
    moved: npt.NDArray[np.bool_],
) -> None:
    previous = np.empty_like(step)
    previous[1:] = step[:-1]
    previous[0] = step[0]
    at = np.flatnonzero(failed)
    lowest: dict[int, int] = {}
    firsts = np.flatnonzero(np.diff(tag[at], prepend=-1))
    for index, low in zip(tag[at][firsts].tolist(), np.minimum.reduceat(step[at], firsts).tolist(), strict=True):
        lowest[tags[index].id] = low
    for key, low in lowest.items():
        arranged.reset[key] = min(low, arranged.reset.get(key, low))

    is_first = np.zeros(len(step), np.bool_)
    is_first[np.flatnonzero(np.diff(tag, prepend=-1))] = True
    equal = step == previous
    equal[is_first] = [  # the point before a tag's first one here is in the table
        t.last_step == s for t, s in zip(tags, step[is_first].tolist(), strict=True)
    ]
    wanted = failed & ~(equal & ~moved)
    for forward in (True, False):  # a new file's restart is dominated by a later one of its kind, others by any
        chosen = np.flatnonzero(wanted & moved if forward else wanted & ~moved)
        rivals = np.flatnonzero(wanted & moved) if forward else np.flatnonzero(wanted)
        for i in _undominated(tag, step, chosen, rivals).tolist():
            cause = RestartCause.NEW_FILE if forward else RestartCause.SAME_FILE
            arranged.restarts.append(Restart(tags[int(tag[i])], int(seq[i]), int(step[i]), int(shard[i]), cause))


def _undominated(tag: Ints, step: Ints, chosen: Ints, rivals: Ints) -> Ints:
    """Return those of `chosen` that no later rival of the same tag with the same or a smaller step overtakes."""
    if len(chosen) == 0:
        return chosen
    kept: list[int] = []
    lowest, current, r = 0, -1, len(rivals) - 1
    chosen_list, rival_list = chosen.tolist(), rivals.tolist()
    empty = True
    for i in reversed(chosen_list):
        if tag[i] != current:
            current, empty = int(tag[i]), True
            while r >= 0 and tag[rival_list[r]] > current:
                r -= 1
        while r >= 0 and rival_list[r] > i:
            if tag[rival_list[r]] == current:
                at = int(step[rival_list[r]])
                lowest, empty = (at, False) if empty else (min(lowest, at), False)
            r -= 1
        if empty or step[i] < lowest:
            kept.append(i)
    kept.reverse()
    return np.array(kept, np.int64)


def _note_segments(
    arranged: Arranged,
    tags: Sequence[TagState],
    tag: Ints,
    step: Ints,
    seq: Ints,
    shard: Ints,
    moved: npt.NDArray[np.bool_],
    starts: Ints,
) -> None:
    border = moved.copy()
    border[starts] = True
    begins = np.flatnonzero(border)
    lasts = np.append(begins[1:], len(tag)) - 1
    columns = (
        tag[begins],
        shard[begins],
        step[begins],
        seq[begins],
        step[lasts],
        seq[lasts],
        lasts - begins + 1,
    )
    for index, sh, step0, seq0, step1, seq1, count in zip(*(c.tolist() for c in columns), strict=True):
        t = tags[index]
        if t.segment is not None and t.segment.shard == sh:
            t.segment.last_step, t.segment.last_seq = step1, seq1
            t.segment.count += count
            new = False
        else:  # two in a row of a tag are of different files, so none is met twice
            t.segment = Segment(sh, step0, seq0, step1, seq1, count)
            t.segments += 1
            new = True
        arranged.stretches.append(Stretch(t, t.segments - 1, t.segment, new))


def _add_statistics(
    tags: Sequence[TagState],
    starts: Ints,
    ends: Ints,
    counts: Ints,
    step: Ints,
    wall_time: Floats,
    value: Floats,
    not_number: npt.NDArray[np.bool_],
) -> None:
    finite = np.isfinite(value)
    all_finite = bool(finite.all())
    low = value if all_finite else np.where(finite, value, np.inf)
    high = value if all_finite else np.where(finite, value, -np.inf)
    any_finite = np.logical_or.reduceat(finite, starts)
    zero = np.zeros(len(starts), np.int64)
    if all_finite:
        nans = pos = neg = zero
    else:
        nans = np.add.reduceat(np.isnan(value) & ~not_number, starts, dtype=np.int64)
        pos = np.add.reduceat(np.isposinf(value), starts, dtype=np.int64)
        neg = np.add.reduceat(np.isneginf(value), starts, dtype=np.int64)
    columns = (
        counts,
        step[starts],
        step[ends],
        np.minimum.reduceat(step, starts),
        np.maximum.reduceat(step, starts),
        _known(wall_time[starts]),
        _known(wall_time[ends]),
        _known(np.fmax.reduceat(wall_time, starts)),
        _known(value[ends]),
        np.minimum.reduceat(low, starts),
        np.maximum.reduceat(high, starts),
        any_finite,
        nans,
        pos,
        neg,
    )
    for t, count, step0, step1, smin, smax, wall0, wall1, wmax, v1, vmin, vmax, some, nan, pinf, ninf in zip(
        tags, *(c if isinstance(c, list) else c.tolist() for c in columns), strict=True
    ):
        if t.point_count == 0:
            t.first_step, t.first_wall_time = step0, wall0
            t.min_step, t.max_step, t.max_wall_time = smin, smax, wmax
        else:
            t.min_step = smin if t.min_step is None else min(t.min_step, smin)
            t.max_step = smax if t.max_step is None else max(t.max_step, smax)
            if wmax is not None:
                t.max_wall_time = wmax if t.max_wall_time is None else max(t.max_wall_time, wmax)
        t.last_step, t.last_wall_time, t.last_value = step1, wall1, v1
        if some:
            t.min_value = vmin if t.min_value is None else min(t.min_value, vmin)
            t.max_value = vmax if t.max_value is None else max(t.max_value, vmax)
        t.point_count += count
        t.nan_count += nan
        t.pos_inf_count += pinf
        t.neg_inf_count += ninf


def _known(column: Floats) -> list[float | None]:
    """Return numbers as tables hold them: NaN is NULL."""
    numbers: list[float | None] = column.tolist()
    return [None if x != x else x for x in numbers] if np.isnan(column).any() else numbers


def _row_order(
    tag: Ints, step: Ints, seq: Ints, starts: Ints, ends: Ints, failed: npt.NDArray[np.bool_]
) -> npt.NDArray[np.intp]:
    """Return the order by (tag, step, seq); only tags that went back need sorting."""
    groups = np.unique(tag[failed])
    if len(groups) > _FEW_GROUPS:
        return np.lexsort((seq, step, tag))
    order = np.arange(len(tag))
    for g in groups.tolist():
        low, high = int(starts[g]), int(ends[g]) + 1
        order[low:high] = low + np.lexsort((seq[low:high], step[low:high]))
    return order
