"""Fold new points into buckets, in the caller's transaction, so that a chart of any length costs about the same.

A tag of at least LONG points has closed buckets only: level 0 of BUCKET current points each, in the order of (step,
seq), a level above of FAN buckets of the one below. An append therefore never rewrites a bucket; what lies behind the
last one is read raw. The table is a function of points and restarts, whatever the batches were.
Decision: docs/decisions/0004-rollups.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.db import bulk
from indexer.db.connection import Connection, Database, transaction
from indexer.types import Rows

BUCKET = 64  # points of a bucket of level 0
FAN = 8  # buckets of one level in a bucket of the next
LONG = 16_384  # points of a tag from which on it is rolled up; below, the raw rows are read as fast

SOON_LONG = 1_000
"""Points that a batch adds to a short tag, from which on it may be long soon: see `fold_ahead`."""

_SHORT_POINTS = 500_000  # of short tags in memory: 16 MB
_CHUNK = 131_072  # points worked on at once: a few MB
_TAGS = 400  # in one statement
_LEVELS = 64  # more than there can be
_STEPS = 100  # restarts in one statement
_FIELDS = {"step": np.int64, "seq": np.int32, "wall_time": np.float64, "value": np.float64}
_ENDS = ("first", "last", "min", "max")
_BUCKET = np.dtype(
    [("tag_id", "i4"), ("level", "i4"), ("ordinal", "i4"), ("count", "i8")]
    + [(f"{end}_{name}", kind) for end in _ENDS for name, kind in _FIELDS.items()]
)
_NAMES = _BUCKET.names or ()

Buckets = npt.NDArray[np.void]  # of _BUCKET; min_* and max_* mean nothing where min_value is NaN
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rolled:
    """How far a tag is rolled up, and what a batch did to it."""

    tag_id: int
    point_count: int  # all stored points, those of the batch too
    rolled_count: int = 0  # current points in closed buckets
    rolled_step: int | None = None  # step of the last of them
    reset_step: int | None = None  # lowest step at which the batch disturbed the order: repeat, restart, session start


@dataclass(frozen=True, slots=True)
class Tail:
    """What of a tag is in no bucket of the level above, as a batch left it."""

    point_count: int
    rolled_count: int
    points: Rows  # behind its last bucket
    levels: tuple[Buckets, ...] | None  # of each level the buckets that are in none of the next; None: not known


@dataclass(slots=True)
class Tails:
    """Open ends of tags, kept by a loader from one batch to the next to save reading them back.

    Start with a fresh one after a batch that was rolled back. An entry counts only for a tag that is as it was left.
    """

    kept: dict[int, Tail] = field(default_factory=dict)  # by tag_id
    short_points: int = 0  # kept of tags that have no buckets yet

    def take(self, tag: Rolled, new: int) -> Tail | None:
        """Return the open end of a tag before a batch of `new` points, None where it is not known; it is used up."""
        if tag.point_count == new:
            return Tail(0, 0, _NONE, ())
        tail = self._pop(tag.tag_id)
        if tail is None or (tail.point_count, tail.rolled_count) != (tag.point_count - new, tag.rolled_count):
            return None
        return tail

    def grow(self, tag: Rolled, new: Rows) -> None:
        """Keep all points of a tag that is short still, as far as there is room: they need not be read back later."""
        tail = self.take(tag, len(new))
        if tail is not None and self.short_points + tag.point_count <= _SHORT_POINTS:
            points = Rows(*(np.concatenate([getattr(r, n) for r in (tail.points, new)]) for n in bulk.COLUMNS))
            self.kept[tag.tag_id] = Tail(tag.point_count, 0, points, ())
            self.short_points += tag.point_count

    def forget(self, tag_ids: Iterable[int]) -> None:
        """Drop what is known of tags."""
        for tag_id in tag_ids:
            self._pop(tag_id)

    def _pop(self, tag_id: int) -> Tail | None:
        tail = self.kept.pop(tag_id, None)
        if tail is not None and not tail.rolled_count:
            self.short_points -= len(tail.points)
        return tail


@dataclass(slots=True)
class _Open:
    """A tag in work: the points behind its last bucket, old ones and those of the batch, all of them current."""

    tag: Rolled
    old: Rows
    new: Rows
    levels: tuple[Buckets, ...] | None = None  # as in its Tail; None: they are looked up when they are needed


@dataclass(slots=True)
class Ahead:
    """What can be folded before a batch is written, without looking into the database."""

    tags: list[Rolled]  # how far they are rolled up afterwards
    left: list[Rolled]  # for these the database is needed: see `fold`
    buckets: Buckets


def fold_ahead(tags: Sequence[Rolled], rows: Rows, tails: Tails) -> Ahead:
    """Fold what a batch adds to tags whose open ends are known; `rows` as for `fold`.

    tags: those that `fold` wants, and short ones that may be long soon: their points are kept till then.
    The caller inserts the buckets, with `columns_of`, in the transaction of the rows.
    """
    ahead = Ahead([], [], np.empty(0, _BUCKET))
    opened: list[_Open] = []
    for tag, new in _parts(tags, rows, least=0):
        plain = tag.reset_step is None and not new.seq.any()
        if tag.point_count < LONG:
            if plain:
                tails.grow(tag, new)
            continue
        tail = tails.take(tag, len(new)) if plain else None
        if tail is None or tail.levels is None:
            ahead.left.append(tag)
        elif len(new):
            opened.append(_Open(tag, tail.points, new, tail.levels))
    made: list[Buckets] = []
    ahead.tags = _keep(_close_all(None, opened, made.append), tails)
    if made:
        ahead.buckets = _in_order(np.concatenate(made))
    return ahead


def columns_of(buckets: Buckets) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[np.bool_]]]:
    """Return buckets as columns of point_rollups, and where these hold NULL."""
    none = np.isnan(buckets["min_value"])
    nulls = {f"{end}_{name}": none for end in ("min", "max") for name in ("step", "seq")} if none.any() else {}
    return {name: np.ascontiguousarray(buckets[name]) for name in _NAMES}, nulls


def _parts(tags: Sequence[Rolled], rows: Rows, *, least: int) -> Iterator[tuple[Rolled, Rows]]:
    """Yield those of `tags` with at least so many points in the order of their ids, with their rows."""
    long = sorted((tag for tag in tags if tag.point_count >= least), key=lambda tag: tag.tag_id)
    ids = [tag.tag_id for tag in long]
    starts, stops = (np.searchsorted(rows.tag_id, ids, side=side).tolist() for side in ("left", "right"))
    for tag, start, stop in zip(long, starts, stops, strict=True):
        yield tag, bulk.part(rows, start, stop)


def _keep(closed: Iterable[_Open], tails: Tails) -> list[Rolled]:
    """Remember the open ends of tags; return how far the tags are rolled up."""
    done = []
    for found in closed:
        tag = found.tag
        tails.kept[tag.tag_id] = Tail(tag.point_count, tag.rolled_count, found.old, found.levels)
        done.append(tag)
    return done


def fold(conn: Connection, tags: Sequence[Rolled], rows: Rows, tails: Tails | None = None) -> list[Rolled]:
    """Bring the buckets of `tags` up to their points; return the tags with new rolled_count and rolled_step.

    rows: the batch; it is inserted already and its restarts are written.  Every tag of at least LONG points that has
    rows in it, or that it disturbed, is among `tags`.  While the index of tensor_points is suspended, tags whose
    points would have to be read back stay behind (see `catch_up`).
    """
    tails = tails or Tails()
    done = {tag.tag_id: tag for tag in tags}
    blind = bulk.index_missing(conn)
    opened: list[_Open] = []
    unread: list[_Open] = []  # plain tags whose short open end is read with others'
    for tag, new in _parts(tags, rows, least=LONG):
        if tag.reset_step is not None or new.seq.any():
            found, done[tag.tag_id] = _settle(conn, tag, new, tails, blind=blind)
        else:  # never disturbed: steps increase throughout, so the counts tell how many points are open
            tail = tails.take(tag, len(new))
            found = _Open(tag, _NONE, new) if tail is None else _Open(tag, tail.points, new, tail.levels)
            missing = tag.point_count - tag.rolled_count - len(new) - len(found.old)
            if blind and missing:
                found = None
            elif missing >= BUCKET:
                found = _read_on(conn, tag, _NO_RESTARTS, (int(new.step[0]), 0) if len(new) else None)
                found.new = new
                done[tag.tag_id] = found.tag
            elif missing and len(new):
                unread.append(found)
        if found is not None and len(found.new):
            opened.append(found)
    _read_ends(conn, unread)
    for tag in _keep(_close_all(conn, opened, lambda made: _write(conn, made)), tails):
        done[tag.tag_id] = tag
    return [done[tag.tag_id] for tag in tags]


def rebuild(conn: Connection, tag_id: int) -> Rolled:
    """Build the buckets of a tag again from its points, and note in `tags` how far they reach."""
    conn.execute(f"DELETE FROM point_rollups WHERE tag_id = {int(tag_id)}")
    query = f"SELECT count(*) FROM tensor_points WHERE tag_id = {int(tag_id)}"
    tag = Rolled(tag_id, conn.value(query))
    if tag.point_count >= LONG:
        tag = _read_on(conn, tag, _restarts(conn, tag_id), None).tag
    _note(conn, tag)
    return tag


def rebuild_from(conn: Connection, tag_id: int, step: int) -> None:
    """Build the buckets of a tag again from a step on: points there were deleted, those before are what they were."""
    query = "SELECT id, point_count, rolled_count, rolled_step FROM tags WHERE id = ?"
    tag = Rolled(*conn.execute(query, (tag_id,)).fetchone())
    if tag.point_count < LONG:
        conn.execute("DELETE FROM point_rollups WHERE tag_id = ?", (tag_id,))
        tag = replace(tag, rolled_count=0, rolled_step=None)
    else:
        if tag.rolled_step is not None and step <= tag.rolled_step:
            tag = _truncate(conn, tag, step)
        tag = _read_on(conn, tag, _restarts(conn, tag_id), None).tag
    _note(conn, tag)


def catch_up(database: Database) -> dict[int, Rolled]:
    """Roll up what stayed behind while the index of tensor_points was suspended; return the tags that moved.

    A transaction a tag. Call it after `bulk.ensure_index`, also at a start, and before states of tags are loaded.
    """
    query = (
        "SELECT id, point_count, rolled_count, rolled_step FROM tags "
        f"WHERE point_count >= {LONG} AND point_count - rolled_count >= {BUCKET}"
    )
    with transaction(database) as conn:
        behind = [Rolled(*row) for row in conn.execute(query)]
    moved: dict[int, Rolled] = {}
    for tag in behind:
        with transaction(database) as conn:
            now = _read_on(conn, tag, _restarts(conn, tag.tag_id), None).tag
            if now != tag:
                _note(conn, now)
                moved[tag.tag_id] = now
    return moved


def _note(conn: Connection, tag: Rolled) -> None:
    step = "NULL" if tag.rolled_step is None else int(tag.rolled_step)
    conn.execute(
        f"UPDATE tags SET rolled_count = {int(tag.rolled_count)}, rolled_step = {step} WHERE id = {int(tag.tag_id)}"
    )


# Which points count


@dataclass(frozen=True, slots=True)
class _Restarts:
    """Restarts of a tag that supersede; a point is superseded by one with a greater seq and a step that is not above.

    `step` holds at i the smallest step of the restarts i, i + 1, ...
    """

    seq: Ints  # ascending
    step: Ints

    def current(self, rows: Rows) -> Rows:
        """Return the points of `rows` that none superseded."""
        if not len(self.seq) or not len(rows):
            return rows
        later = np.searchsorted(self.seq, rows.seq, side="right")
        out = (later < len(self.seq)) & (rows.step >= self.step[np.minimum(later, len(self.seq) - 1)])
        return Rows(*(getattr(rows, name)[~out] for name in bulk.COLUMNS)) if out.any() else rows

    def sql(self) -> str:
        """Return a condition that spares reading most of the superseded points `p`."""
        pairs = list(zip(self.seq.tolist(), self.step.tolist(), strict=True))[-_STEPS:]
        return "".join(f" AND NOT (p.seq < {seq} AND p.step >= {_big(step)})" for seq, step in pairs)


def _restarts(conn: Connection, tag_id: int) -> _Restarts:
    query = (
        f"SELECT seq, step FROM restarts WHERE tag_id = {int(tag_id)} "
        "AND cause IN ('new_file', 'session_start') ORDER BY seq"
    )
    rows = conn.execute(query).fetchall()
    seq, step = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    return _Restarts(seq, np.minimum.accumulate(step[::-1])[::-1])


def _settle(conn: Connection, tag: Rolled, new: Rows, tails: Tails, *, blind: bool) -> tuple[_Open | None, Rolled]:
    """Drop the buckets that a batch disturbed, and tell what is open then; None where nothing is left to fold."""
    restarts = _restarts(conn, tag.tag_id)
    current = restarts.current(new)
    kept = tails.take(tag, len(new))
    lowest = min(step for step in (tag.reset_step, *new.step[:1].tolist()) if step is not None)
    if tag.rolled_step is not None and lowest <= tag.rolled_step:
        tag = _truncate(conn, tag, lowest)
        return None, tag if blind else _read_on(conn, tag, restarts, None).tag
    if kept is not None:
        return _Open(tag, _NONE, _sorted(_join([restarts.current(kept.points), current])), kept.levels), tag
    if blind or (not len(current) and tag.point_count - len(new) >= LONG):
        return None, tag
    if not len(current) or _mixed(conn, tag.tag_id, restarts, new, current):
        return None, _read_on(conn, tag, restarts, None).tag
    found = _read_on(conn, tag, restarts, (int(current.step[0]), int(current.seq[0])))
    found.new = current
    return found, found.tag


def _mixed(conn: Connection, tag_id: int, restarts: _Restarts, new: Rows, current: Rows) -> bool:
    """Tell whether current points from before the batch may lie behind its first one.

    Older points have a smaller seq than the batch's first loaded one, or the same and a smaller step.
    """
    first = int(current.step[0])
    seq = int(new.seq.min())
    step = int(new.step[new.seq == seq].min())
    reaching = np.flatnonzero(restarts.step <= first)  # these supersede whatever is smaller in seq, from `first` on
    least = int(restarts.seq[reaching[-1]]) if len(reaching) else 0
    if least > seq or (least == seq and step <= first):
        return False
    query = (
        f"SELECT 1 FROM tensor_points WHERE tag_id = {tag_id} AND step > {_big(first)} "
        f"AND seq >= {least} AND (seq < {seq} OR (seq = {seq} AND step < {_big(step)})) LIMIT 1"
    )
    return conn.execute(query).fetchone() is not None


def _truncate(conn: Connection, tag: Rolled, step: int) -> Rolled:
    """Drop the buckets of a tag that reach `step` or above."""
    where = f"FROM point_rollups WHERE tag_id = {tag.tag_id} AND level ="
    query = f"SELECT count(*), max(last_step) {where} 0 AND last_step < {_big(step)}"
    ((kept, last),) = conn.execute(query).fetchall()
    level, width = 0, BUCKET
    while width <= tag.rolled_count:
        conn.execute(f"DELETE {where} {level} AND ordinal >= {kept * BUCKET // width}")
        level, width = level + 1, width * FAN
    return replace(tag, rolled_count=kept * BUCKET, rolled_step=last)


# Reading points back


def _read_on(conn: Connection, tag: Rolled, restarts: _Restarts, below: tuple[int, int] | None) -> _Open:
    """Fold the stored points behind the last bucket, up to but not with the (step, seq) `below`; return the rest."""
    found = _Open(tag, _NONE, _NONE)
    for rows in _read(conn, tag, restarts, below):
        found.new = rows
        _close(conn, [found], lambda made: _write(conn, made))
    return found


def _read(conn: Connection, tag: Rolled, restarts: _Restarts, below: tuple[int, int] | None) -> Iterator[Rows]:
    """Yield current points of a tag behind its last bucket, in order, a chunk at a time."""
    after: Sequence[int] | None = None
    if tag.rolled_count:
        (after,) = conn.execute(
            f"SELECT last_step, last_seq FROM point_rollups WHERE tag_id = {tag.tag_id} AND level = 0 "
            f"AND ordinal = {tag.rolled_count // BUCKET - 1}"
        ).fetchall()
    limit = f" AND (p.step, p.seq) < ({_big(below[0])}, {below[1]})" if below else ""
    while True:
        start = f" AND (p.step, p.seq) > ({_big(after[0])}, {after[1]})" if after is not None else ""
        found = _fetch(
            conn,
            f"SELECT p.tag_id, p.step, p.seq, p.wall_time, p.value FROM tensor_points p WHERE p.tag_id = {tag.tag_id}"
            f"{start}{limit}{restarts.sql()} ORDER BY p.step, p.seq LIMIT {_CHUNK}",
        )
        yield restarts.current(found)
        if len(found) < _CHUNK:
            return
        after = (int(found.step[-1]), int(found.seq[-1]))


def _read_ends(conn: Connection, unread: Sequence[_Open]) -> None:
    """Read the open ends of tags that were never disturbed, many in one statement."""
    for i in range(0, len(unread), _TAGS):
        wanted = {found.tag.tag_id: found for found in unread[i : i + _TAGS]}
        ranges = ", ".join(
            f"({tag_id}, {_big(-(2**63) if (step := found.tag.rolled_step) is None else step + 1)}, "
            f"{_big(int(found.new.step[0]))})"
            for tag_id, found in wanted.items()
        )
        rows = _fetch(
            conn,
            f"WITH w(tag_id, low, high) AS (VALUES {ranges}) "
            "SELECT p.tag_id, p.step, p.seq, p.wall_time, p.value FROM w CROSS JOIN tensor_points p "
            "WHERE p.tag_id = w.tag_id AND p.step >= w.low AND p.step < w.high ORDER BY p.tag_id, p.step",
        )
        for tag_id, found in wanted.items():
            start, stop = np.searchsorted(rows.tag_id, [tag_id, tag_id + 1]).tolist()
            found.old = bulk.part(rows, start, stop)


def _fetch(conn: Connection, query: str) -> Rows:
    found = _tuples(conn, query, _POINT)
    return Rows(*(np.ascontiguousarray(found[name]) for name in bulk.COLUMNS))


def _tuples(conn: Connection, query: str, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Return the rows of a query as they come from the driver: half the time of SQLAlchemy's rows. NULL becomes NaN."""
    return np.fromiter(conn.execute(query), dtype)


def _big(number: int) -> str:
    """Return a 64-bit integer as SQL; the smallest one would else be of another type on PostgreSQL."""
    return f"CAST({number} AS BIGINT)"


_POINT = np.dtype([("tag_id", "i4"), *_FIELDS.items()])
_NONE = Rows(*(np.empty(0, _POINT[name]) for name in bulk.COLUMNS))
_NO_RESTARTS = _Restarts(np.empty(0, np.int64), np.empty(0, np.int64))


def _join(parts: Sequence[Rows]) -> Rows:
    parts = [rows for rows in parts if len(rows)] or [_NONE]
    if len(parts) == 1:
        return parts[0]
    return Rows(*(np.concatenate([getattr(rows, name) for rows in parts]) for name in bulk.COLUMNS))


def _sorted(rows: Rows) -> Rows:
    order = np.lexsort((rows.seq, rows.step))
    return Rows(*(getattr(rows, name)[order] for name in bulk.COLUMNS))


# Closing buckets


def _close_all(conn: Connection | None, opened: Sequence[_Open], put: Callable[[Buckets], None]) -> Iterator[_Open]:
    """Close what is full, many short tags or a part of a long one at a time; yield tags with what stays open.

    put: takes the buckets.  conn: to look for open ones that are not known.
    """
    group: list[_Open] = []
    size = 0
    for found in opened:
        count = len(found.old) + len(found.new)
        if count > _CHUNK:
            new = found.new
            for start in range(0, len(new), _CHUNK):
                found.new = bulk.part(new, start, start + _CHUNK)
                _close(conn, [found], put)
            yield found
            continue
        group.append(found)
        size += count
        if size > _CHUNK:
            _close(conn, group, put)
            yield from group
            group, size = [], 0
    _close(conn, group, put)
    yield from group


def _close(conn: Connection | None, group: Sequence[_Open], put: Callable[[Buckets], None]) -> None:
    """Put the buckets that the open points of each tag fill, on all levels; leave what stays open in `old`."""
    counts = np.array([len(found.old) + len(found.new) for found in group], np.int64)
    full = counts // BUCKET
    if not full.any():
        for found in group:
            found.old, found.new = _join([found.old, found.new]), _NONE
        return
    points = _join([rows for found in group for rows in (found.old, found.new)])
    source: dict[str, npt.NDArray[Any]] = {
        f"{end}_{name}": getattr(points, name) for end in _ENDS for name in _FIELDS
    } | {"count": np.ones(len(points), np.int64)}
    below = _merge(source, _whole(counts, BUCKET))
    tags = np.array([found.tag.tag_id for found in group], np.int64)
    have = np.array([found.tag.rolled_count // BUCKET for found in group], np.int64)
    _number(below, tags, 0, have, full)
    _read_levels(conn, [found for found, closes in zip(group, full.tolist(), strict=True) if closes])
    levels = [list(found.levels or ()) for found in group]
    made = [below]
    which = np.flatnonzero(full)
    have, full = have[which], full[which]
    while True:
        level = len(made) - 1
        rest = have % FAN
        pool = [levels[i][level] for i, some in zip(which.tolist(), rest.tolist(), strict=True) if some]
        below = np.concatenate([*pool, below])
        below = below[np.lexsort((below["ordinal"], below["tag_id"]))]
        counts = rest + full
        have, full = have // FAN, counts // FAN
        for i, stop, open_ in zip(which.tolist(), np.cumsum(counts).tolist(), (counts % FAN).tolist(), strict=True):
            levels[i][level:] = [below[stop - open_ : stop].copy(), *levels[i][level + 1 :]]
        below = _merge({name: below[name] for name in _NAMES}, _whole(counts, FAN))
        grew = full > 0
        which, have, full = which[grew], have[grew], full[grew]
        if not len(which):
            break
        _number(below, tags[which], level + 1, have, full)
        made.append(below)
    put(np.concatenate(made))
    for found, kept in zip(group, levels, strict=True):
        rows = _join([found.old, found.new])
        if len(rows) >= BUCKET:
            found.levels = tuple(kept)
        found.tag, found.old = _moved(found.tag, rows)
        found.new = _NONE


def _number(buckets: Buckets, tags: Ints, level: int, have: Ints, full: Ints) -> None:
    """Give buckets their key: of each tag there are `full` new ones, behind `have` of the same level."""
    buckets["tag_id"], buckets["level"] = np.repeat(tags, full), level
    buckets["ordinal"] = np.repeat(have, full) + _ranks(full)


def _moved(tag: Rolled, rows: Rows) -> tuple[Rolled, Rows]:
    """Return a tag after its full buckets were closed, and the points that stay open."""
    done = len(rows) - len(rows) % BUCKET
    end = Rows(*(getattr(rows, name)[done:].copy() for name in bulk.COLUMNS))  # a view would hold the whole batch
    if not done:
        return tag, end
    return replace(tag, rolled_count=tag.rolled_count + done, rolled_step=int(rows.step[done - 1])), end


def _merge(source: dict[str, npt.NDArray[Any]], members: Ints) -> Buckets:
    """Merge points or buckets into buckets: `members`, shape (m, width), says which. Of equal values the first wins."""
    out = np.empty(len(members), _BUCKET)
    out["count"] = source["count"][members].sum(axis=1)
    rows = np.arange(len(members))
    for end in _ENDS:
        if end in {"first", "last"}:
            picked = members[:, 0 if end == "first" else -1]
        else:
            values = source[f"{end}_value"][members]
            finite = np.isfinite(values)
            if end == "min":
                picked = members[rows, np.where(finite, values, np.inf).argmin(axis=1)]
            else:
                picked = members[rows, np.where(finite, values, -np.inf).argmax(axis=1)]
        for name in _FIELDS:
            out[f"{end}_{name}"] = source[f"{end}_{name}"][picked]
        if end in {"min", "max"}:
            none = ~finite.any(axis=1)
            out[f"{end}_wall_time"][none] = out[f"{end}_value"][none] = np.nan
    return out


def _read_levels(conn: Connection | None, group: Sequence[_Open]) -> None:
    """Look up the buckets that are in none of the next level, where they are not known."""
    unknown = [found for found in group if found.levels is None]
    wanted: list[tuple[int, int, int]] = []  # tag_id, level, ordinal
    for found in unknown:
        level, count = 0, found.tag.rolled_count // BUCKET
        while count:
            wanted.append((found.tag.tag_id, level, count - count % FAN))
            level, count = level + 1, count // FAN
    if not wanted:
        return
    if conn is None:
        raise ValueError("open buckets that are not known are in the database")
    names = ", ".join(f"coalesce(r.{n}, 0)" if n.endswith(("_step", "_seq")) else f"r.{n}" for n in _NAMES)
    parts = [np.empty(0, _BUCKET)]
    for i in range(0, len(wanted), _TAGS):
        values = ", ".join(f"({tag_id}, {level}, {ordinal})" for tag_id, level, ordinal in wanted[i : i + _TAGS])
        query = (
            f"WITH w(tag_id, level, ordinal) AS (VALUES {values}) SELECT {names} FROM w CROSS JOIN point_rollups r "
            "WHERE r.tag_id = w.tag_id AND r.level = w.level AND r.ordinal >= w.ordinal"
        )
        parts.append(_tuples(conn, query, _BUCKET))
    stored = np.concatenate(parts)
    stored = stored[np.lexsort((stored["ordinal"], stored["level"], stored["tag_id"]))]
    keys = stored["tag_id"].astype(np.int64) * _LEVELS + stored["level"]
    for found in unknown:
        levels: list[Buckets] = []
        count = found.tag.rolled_count // BUCKET
        while count:
            key = found.tag.tag_id * _LEVELS + len(levels)
            start, stop = np.searchsorted(keys, [key, key + 1]).tolist()
            levels.append(stored[start:stop].copy())
            count //= FAN
        found.levels = tuple(levels)


def _whole(counts: Ints, width: int) -> Ints:
    """Return indices of the members of full groups, shape (m, width), where runs of `counts` rows follow each other."""
    inside = _ranks(counts) < np.repeat(counts - counts % width, counts)
    return np.flatnonzero(inside).reshape(-1, width)


def _ranks(counts: Ints) -> Ints:
    """Return 0, 1, 2 ... for each of the runs."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _write(conn: Connection, buckets: Buckets) -> None:
    columns, nulls = columns_of(_in_order(buckets))
    bulk.append(conn, "point_rollups", columns, nulls)


def _in_order(buckets: Buckets) -> Buckets:
    return buckets[np.lexsort((buckets["ordinal"], buckets["level"], buckets["tag_id"]))]
