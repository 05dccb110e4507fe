"""Batches → tables: points, statistics, damage and cursors in one transaction; then the memory follows.

A batch is prepared first: numbered, packed as the database takes it, its rollups computed. That needs no database, so
the thread that reads ahead does it while another batch is written. Whatever goes wrong in between, what memory holds of
the jobs concerned is dropped and read again from the tables.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from indexer.db import bulk, postgresql, rollups, write
from indexer.db.connection import Connection, Database, transaction
from indexer.db.dialect import POSTGRESQL
from indexer.decode.reader import Decoder
from indexer.errors import Refuse, Retry
from indexer.ingest import payloads
from indexer.ingest.batch import Batch, Part
from indexer.ingest.logdir import load_order
from indexer.ingest.sequence import Arranged, Segment, TagState, arrange
from indexer.ingest.state import Job, Shard
from indexer.text import show, store
from indexer.types import CacheStatus, DataClass, Format, RestartCause, Rows, Series, ShardState

_REASON_CHARACTERS = 500
_TAG_IDS = 5_000  # taken at once from the sequence on PostgreSQL
_FEW_TAG_IDS = 1_000  # fewer in hand, and more are taken
_JOB_TAG_IDS = 15  # a job that is new, on average; else a batch is prepared when the one before it is written
_MOST_TAG_IDS = 15_000
_Values = dict[str, Any]


@dataclass(slots=True, eq=False)
class Prepared:
    """A batch as rows."""

    batch: Batch
    tags: bulk.Packed | None = None  # new ones, on PostgreSQL
    points: bulk.Packed | None = None
    buckets: bulk.Packed | None = None
    segments: bulk.Packed | None = None  # new ones
    payloads: payloads.Packed | None = None
    longer_segments: list[tuple[int, ...]] = field(default_factory=list)
    new_tags: list[tuple[Any, ...]] = field(default_factory=list)
    known_tags: list[tuple[Any, ...]] = field(default_factory=list)
    restarts: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    left: list[tuple[TagState, rollups.Rolled]] = field(default_factory=list)  # to be folded in the database
    rows: Rows | None = None  # the points, where some are left
    raw: bool = False  # nothing is prepared yet: ids for new tags were missing
    written: threading.Event = field(default_factory=threading.Event)  # or given up

    @property
    def packs(self) -> list[bulk.Packed]:
        """All rows that are inserted as they are."""
        tables = [] if self.payloads is None else self.payloads.tables
        own = (self.tags, self.points, self.buckets, self.segments)
        return [packed for packed in (*own, *tables) if packed is not None]

    @property
    def decides(self) -> bool:
        """What follows can be prepared only when this batch is written: the database has a say in it."""
        return self.raw or bool(self.left) or self.batch.start is not None or self.batch.kept is not None


class TagIds:
    """Ids for new tags: asked for by the thread that writes, given out to whoever prepares. Gaps are harmless."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.taken: deque[int] = deque()  # PostgreSQL: a sequence shared by all writers
        self.next: int | None = None  # SQLite: there is one writer

    def refill(self, least: int) -> None:
        """See that there are at least `least`."""
        if self.database.dialect == POSTGRESQL:
            if len(self.taken) < least:
                with transaction(self.database) as conn:
                    self.taken.extend(write.next_tag_ids(conn, max(least, _TAG_IDS) - len(self.taken)))
        elif self.next is None:
            with transaction(self.database) as conn:
                self.next = write.last_tag_id(conn) + 1

    def recount(self) -> None:
        """Look again, at the next refill, which ids are taken: others may have deleted tags, or put some aside."""
        self.next = None

    def give(self, count: int) -> list[int]:
        """Return `count` ids, to the thread that writes while nothing is prepared."""
        self.refill(count)
        ids = self.take(count)
        assert ids is not None  # noqa: S101  # there are so many
        return ids

    def take(self, count: int) -> list[int] | None:
        """Return `count` ids, None where there are not so many."""
        if self.next is not None:
            first, self.next = self.next, self.next + count
            return list(range(first, first + count))
        if len(self.taken) < count:
            return None
        return [self.taken.popleft() for _ in range(count)]


class Loader:
    """Prepares and writes batches. One thread writes; another may prepare meanwhile, for other jobs than that one's."""

    def __init__(self, database: Database, decoder: Decoder, lock: threading.Lock) -> None:
        self.database = database
        self.decoder = decoder
        self.lock = lock  # of the decoder, and of the ids
        self.ids = TagIds(database)
        self.remembered: set[int] = set()  # jobs
        self.tags: dict[int, TagState] = {}  # by series number
        self.tails = rollups.Tails()
        self.resets = 0  # jobs whose points were given up

    def remember(self, jobs: Sequence[Job]) -> None:
        """Load the tags of jobs into memory, where they are not: before anything of theirs is prepared."""
        unread = sum(not any(shard.cursor for shard in job.shards.values()) for job in jobs)
        self.ids.refill(min(max(_FEW_TAG_IDS, _JOB_TAG_IDS * unread), _MOST_TAG_IDS))
        wanted = [job for job in jobs if job.tags is None]
        for job in wanted:
            job.tags = {}
        self.remembered.update(job.id for job in wanted)
        by_id = {job.id: job for job in wanted if any(shard.cursor for shard in job.shards.values())}
        if not by_id:
            return
        rows: dict[int, list[write.TagRow]] = {job_id: [] for job_id in by_id}
        with transaction(self.database) as conn:
            for row in write.tags_of(conn, list(by_id)):
                rows[row.job_id].append(row)
        for job_id, found in rows.items():
            with self.lock:
                numbers = self.decoder.prime(job_id, [_series(row) for row in found])
            tags = by_id[job_id].tags
            assert tags is not None  # noqa: S101  # set above
            for number, row in zip(numbers, found, strict=True):
                tags[number] = self.tags[number] = _tag_state(row, number)

    def forget(self, jobs: Iterable[Job]) -> None:
        """Drop what memory holds of the tags of jobs."""
        jobs = list(jobs)
        for job in jobs:
            for number in job.tags or ():
                self.tags.pop(number, None)
            self.tails.forget(t.id for t in (job.tags or {}).values())
            job.tags = None
        self.remembered.difference_update(job.id for job in jobs)
        with self.lock:
            if self.remembered:
                self.decoder.forget([job.id for job in jobs])
            else:  # numbers are not used again, so that they would grow for months
                self.decoder.clear()

    def prepare(self, batch: Batch) -> Prepared:
        """Number the points of a batch, move the tags on, and pack what goes into the tables; no database needed."""
        prepared = Prepared(batch)
        if not batch.points:
            return prepared
        series = batch.column("series")
        numbers = np.flatnonzero(np.bincount(series))
        found = self._tag_states(numbers.tolist(), {part.job.id: part.job for part in batch.parts})
        if found is None:
            prepared.raw = True
            return prepared
        order = sorted(range(len(found)), key=lambda i: found[i].id)
        tags = [found[i] for i in order]
        rank = np.empty(int(numbers[-1]) + 1, np.int64)
        rank[numbers[order]] = np.arange(len(tags))
        shards = np.repeat([part.shard.id for part in batch.parts], [part.points for part in batch.parts])
        arranged = arrange(
            tags,
            rank[series],
            batch.column("step"),
            batch.column("wall_time"),
            batch.column("value"),
            shards,
            batch.column("not_numbers"),
        )
        for decoded, _, _ in batch.pieces:
            for number, length in decoded.lengths.items():
                if number in self.tags:
                    self.tags[number].max_length = max(self.tags[number].max_length, length)
        sizes = [(part.shard.id, part.points) for part in batch.parts]
        prepared.payloads = payloads.pack(self.database.dialect, batch.pieces, arranged.rows, tags, sizes)
        batch.pieces.clear()
        self._pack(prepared, arranged, tags)
        return prepared

    def _tag_states(self, numbers: Sequence[int], jobs: dict[int, Job]) -> list[TagState] | None:
        missing = [number for number in numbers if number not in self.tags]
        if missing:
            with self.lock:
                ids = self.ids.take(len(missing))
            if ids is None:
                return None
            for number, tag_id in zip(missing, ids, strict=True):
                tags = jobs[self.decoder.series[number].job].tags
                assert tags is not None  # noqa: S101  # `remember` came before
                tags[number] = self.tags[number] = TagState(tag_id, number)
        return [self.tags[number] for number in numbers]

    def _pack(self, prepared: Prepared, arranged: Arranged, tags: Sequence[TagState]) -> None:
        dialect = self.database.dialect
        _, added = np.unique(arranged.rows.tag_id, return_counts=True)
        long = {
            t.id: t
            for t, count in zip(tags, added.tolist(), strict=True)
            if t.rolled_count or t.point_count >= rollups.LONG or count >= rollups.SOON_LONG
        }
        if long:
            ahead = rollups.fold_ahead(
                [_rolled(t, arranged.reset.get(t.id)) for t in long.values()], arranged.rows, self.tails
            )
            for rolled in ahead.tags:
                _roll(long[rolled.tag_id], rolled)
            prepared.left = [(long[rolled.tag_id], rolled) for rolled in ahead.left]
            if len(ahead.buckets):
                prepared.buckets = bulk.pack(dialect, "point_rollups", *rollups.columns_of(ahead.buckets))
        if prepared.left:
            prepared.rows = arranged.rows
        prepared.points = bulk.pack_points(dialect, arranged.rows)
        new = [_segment_row(*stretch) for stretch in arranged.stretches if stretch.new]
        if new:
            columns = np.array(new, np.int64).T
            prepared.segments = bulk.pack(
                dialect,
                "tag_segments",
                {name: c.astype(kind) for (name, kind), c in zip(_SEGMENT.items(), columns, strict=True)},
            )
        prepared.longer_segments = [_segment_row(*stretch) for stretch in arranged.stretches if not stretch.new]
        series = self.decoder.series
        prepared.new_tags = [_statistics(t) + _identity(series[t.number]) for t in tags if not t.stored]
        if dialect == POSTGRESQL and prepared.new_tags:
            prepared.tags = postgresql.pack("tags", _STATISTICS + _IDENTITY, prepared.new_tags)
            prepared.new_tags = []
        prepared.known_tags = [_statistics(t) for t in tags if t.stored]
        prepared.restarts = [_restart_row(*restart) for restart in arranged.restarts]
        for t in tags:
            t.stored = True

    def commit(self, prepared: Prepared) -> None:
        """Write a batch in one transaction. On any failure what memory holds of its jobs is dropped first."""
        batch = prepared.batch
        jobs = {part.job.id: part.job for part in batch.parts} | {job.id: job for job in batch.finished}
        jobs |= {job.id: job for job, _ in batch.unreadable}
        try:
            if prepared.raw:
                self.ids.refill(batch.points)
                prepared = self.prepare(batch)
            self._write(prepared, jobs)
        except Refuse as e:  # a duplicate key: ours, or of somebody who holds the lease that we lost
            self.forget(jobs.values())
            if self._overtaken(batch):
                raise Retry("another indexer wrote these points; this batch is dropped and read again") from e
            raise
        except BaseException:
            self.forget(jobs.values())
            raise
        for shard, stat in batch.unchanged:
            shard.seen = stat
        self.ids.refill(_FEW_TAG_IDS)

    def reset(self, job: Job, gone: Sequence[Shard] = ()) -> None:
        """Give up all points of a job, for one of its files is not the one that was read; they are read again.

        Points of files that are `gone` stay: they are set aside until their turn comes.
        """
        shards = [shard for shard in job.shards.values() if shard not in gone]
        aside: set[int] = set()
        with transaction(self.database) as conn:
            if gone:
                from indexer.db import kept  # rare, and its imports cost every start

                aside = kept.set_aside(conn, job.id, [shard.id for shard in gone], load_order)
            else:
                write.forget_tags(conn, job.id)
            write.forget_errors(conn, [shard.id for shard in shards])
            write.update_shards(conn, [_unread(shard) for shard in shards])
            write.set_status(conn, [job.id], CacheStatus.NOT_IN_CACHE)
            start = job.start_time if gone else None
            row = {
                "id": job.id,
                "point_count": 0,
                "bytes_indexed": 0,
                "start_time": start,
                "revision": write.bump(conn),
            }
            if not gone:
                row["pruned_at"] = None  # else what was pruned of those is still missing
            write.update_jobs(conn, [row])
        for shard in shards:
            shard.cursor = shard.record_count = shard.bad_records = shard.bad_bytes = shard.lost_bytes = 0
            shard.seen = shard.lost_since = shard.fingerprint = shard.tail = None
            shard.state = ShardState.GROWING if shard.on_disk is not None else ShardState.MISSING
            shard.kept = False
        for shard in gone:
            shard.kept, shard.seen = shard.id in aside, None
        job.cache_status, job.point_count, job.start_time = CacheStatus.NOT_IN_CACHE, 0, start
        self.resets += 1
        self.forget([job])

    def put_back(self, job: Job, shard: Shard) -> None:
        """Number the points of a file that is gone behind those that its job has now."""
        from indexer.db import kept  # rare, and its imports cost every start

        try:
            with transaction(self.database) as conn:
                count = kept.put_back(conn, job.id, shard.id, load_order)
                revision = write.bump(conn)
                write.update_jobs(conn, [{"id": job.id, "point_count": job.point_count + count, "revision": revision}])
        finally:
            self.forget([job])  # its tags are others now, or nobody knows
        shard.kept = False
        job.point_count, job.revision = job.point_count + count, revision
        self.remember([job])

    def _write(self, prepared: Prepared, jobs: dict[int, Job]) -> None:
        batch = prepared.batch
        shards = [_shard_row(part) for part in batch.parts]
        ended = [job for job in batch.finished if job.cache_status is CacheStatus.CACHING]
        with bulk.load(self.database, *prepared.packs) as conn:
            write.add_tags(conn, _STATISTICS + _IDENTITY, prepared.new_tags)
            write.update_tags(conn, _STATISTICS, prepared.known_tags)
            for packed in prepared.packs:
                bulk.insert(conn, packed)
            if prepared.payloads is not None:
                payloads.store(conn, prepared.payloads)
            write.add_restarts(conn, prepared.restarts)
            if prepared.left:
                self._fold(conn, prepared.left, prepared.rows or _NO_ROWS)
            write.lengthen_segments(conn, prepared.longer_segments)
            write.move_cursors(conn, [row for row, _ in shards])
            if afresh := [part.shard.id for part in batch.parts if part.afresh]:
                write.forget_errors(conn, afresh)
            write.add_errors(conn, [error for _, errors in shards for error in errors])
            explained = [part for part in batch.parts if part.explained or part.manifest is not None]
            if explained:
                from indexer.ingest import explain  # rare, and its import costs every start

                explain.store(conn, [explain.Loaded(p.job.id, p.shard.id, p.explained, p.manifest) for p in explained])
            started = self._apply_start(conn, batch)
            for status in (CacheStatus.CACHED, CacheStatus.NOT_IN_CACHE):
                write.set_status(conn, [job.id for job in ended if _final(job) is status], status)
            revision = write.bump(conn)
            changes = _job_changes(
                batch, jobs, {part.shard.id: row for part, (row, _) in zip(batch.parts, shards, strict=True)}
            )
            write.update_jobs(conn, [{"id": key, **row, "revision": revision} for key, row in changes.items()])
        for t, seq in started:
            t.seq, t.start_step = seq, batch.start[2] if batch.start else None
        for part, (row, _) in zip(batch.parts, shards, strict=True):
            _follow(part, row)
        for job_id, row in changes.items():
            jobs[job_id].revision = revision
            jobs[job_id].point_count = row["point_count"]
            jobs[job_id].start_time, jobs[job_id].last_error = row["start_time"], row["last_error"]
        for job in ended:
            job.cache_status = _final(job)

    def _fold(self, conn: Connection, left: Sequence[tuple[TagState, rollups.Rolled]], rows: Rows) -> None:
        """Fold, with the help of the database, what could not be folded ahead; it looks at restarts."""
        folded = rollups.fold(conn, [rolled for _, rolled in left], rows, self.tails)
        for (t, _), rolled in zip(left, folded, strict=True):
            _roll(t, rolled)
        write.update_tags(
            conn, ("id", "rolled_count", "rolled_step"), [(t.id, t.rolled_count, t.rolled_step) for t, _ in left]
        )

    def _overtaken(self, batch: Batch) -> bool:
        """Tell whether a cursor is not where the batch starts from."""
        was: dict[int, int] = {}
        for part in batch.parts:
            was.setdefault(part.shard.id, part.was)
        with transaction(self.database) as conn:
            return write.cursors_of(conn, list(was)) != was

    def _apply_start(self, conn: Connection, batch: Batch) -> list[tuple[TagState, int]]:
        """A session start after the points of the batch: tags with current points at or above its step go back.

        Returns these with the seq that their next point gets.
        """
        if batch.start is None:
            return []
        job, shard, step = batch.start
        by_id = {t.id: t for t in (job.tags or {}).values()}
        back = [by_id[tag_id] for tag_id in write.tags_above(conn, job.id, step)]
        if not back:
            return []
        seqs = [t.seq + (t.start_step is None) for t in back]  # two starts with no point between count as one
        rows = [_restart_row(t, q, step, shard.id, RestartCause.SESSION_START) for t, q in zip(back, seqs, strict=True)]
        write.add_restarts(conn, rows)
        self._fold(conn, [(t, _rolled(t, step)) for t in back if t.rolled_count], _NO_ROWS)
        write.update_tags(conn, ("id", "seq"), [(t.id, q) for t, q in zip(back, seqs, strict=True)])
        return list(zip(back, seqs, strict=True))


_NO_ROWS = Rows(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0))
_SEGMENT = dict(zip(write.SEGMENT_COLUMNS, ("i4", "i4", "i4", "i8", "i8", "i4", "i4", "i8"), strict=True))

_STATISTICS = (
    "id",
    "point_count",
    "first_step",
    "last_step",
    "min_step",
    "max_step",
    "first_wall_time",
    "last_wall_time",
    "max_wall_time",
    "last_value",
    "min_value",
    "max_value",
    "nan_count",
    "pos_inf_count",
    "neg_inf_count",
    "max_length",
    "seq",
    "segments",
    "rolled_count",
    "rolled_step",
)
_IDENTITY = (*write.TAG_IDENTITY, "data_class", "metadata", "content", "display_name", "description")
_statistics: Callable[[TagState], tuple[Any, ...]] = attrgetter(*_STATISTICS)


def _rolled(t: TagState, reset_step: int | None) -> rollups.Rolled:
    return rollups.Rolled(t.id, t.point_count, t.rolled_count, t.rolled_step, reset_step)


def _roll(t: TagState, rolled: rollups.Rolled) -> None:
    t.rolled_count, t.rolled_step = rolled.rolled_count, rolled.rolled_step


def _final(job: Job) -> CacheStatus:
    """Return what a job is at the end of a pass: a file that could not be read is not loaded."""
    return CacheStatus.NOT_IN_CACHE if any(shard.held for shard in job.shards.values()) else CacheStatus.CACHED


def _tag_state(row: write.TagRow, number: int) -> TagState:
    """Return the mirror of a row of `write.tags_of`."""
    t = TagState(row.id, number, stored=True)
    for name in _STATISTICS:
        setattr(t, name, getattr(row, name))
    if row.segment_shard_id is not None:
        t.segment = Segment(
            row.segment_shard_id,
            row.segment_first_step,
            row.segment_first_seq,
            row.segment_last_step,
            row.segment_last_seq,
            row.segment_count,
        )
    t.start_step = row.start_step
    return t


def _series(row: write.TagRow) -> Series:
    return Series(
        row.job_id,
        show(row.plugin),
        show(row.name),
        DataClass(row.data_class),
        row.metadata,
        row.content,
        row.display_name,
        row.description,
    )


def _identity(series: Series) -> tuple[Any, ...]:
    return (
        *write.tag_identity(series.job, series.plugin, series.name),
        series.data_class.value,
        series.metadata,
        series.content,
        None if series.display_name is None else store(series.display_name),
        None if series.description is None else store(series.description),
    )


def _segment_row(t: TagState, ordinal: int, s: Segment, _new: bool) -> tuple[int, ...]:
    """Return the values of write.SEGMENT_COLUMNS."""
    return t.id, ordinal, s.shard, s.first_step, s.last_step, s.first_seq, s.last_seq, s.count


def _restart_row(t: TagState, seq: int, step: int, shard: int, cause: RestartCause) -> tuple[int, int, int, int, str]:
    """Return the values of write.RESTART_COLUMNS."""
    return t.id, seq, step, shard, cause.value


def _unread(shard: Shard) -> _Values:
    """Return the row of a shard of which nothing is read."""
    state = ShardState.GROWING if shard.on_disk is not None else ShardState.MISSING
    return {"id": shard.id, **write.UNREAD, "state": state.value}


def _shard_row(part: Part) -> tuple[_Values, list[_Values]]:
    """Return a shard's row after a part, and the damage to note.

    Damage that nothing good has ended yet counts too, with the bytes there are; its row grows with the file.
    """
    shard = part.shard
    bad_records = shard.bad_records - (shard.lost_since is not None)
    bad_bytes = shard.bad_bytes - shard.lost_bytes
    damages = [(d.offset, d.length, d.reason) for d in part.damages]
    if part.lost_since is not None:
        damages.append((part.lost_since, part.lost_bytes, part.lost_reason or "nothing that checks follows"))
    row = {
        "id": shard.id,
        "was": part.was,
        "cursor": part.cursor,
        "format": (part.format or shard.format or Format.TENSORBOARD).value,
        "size": part.size,
        "mtime_ns": part.seen.mtime_ns if part.seen else 0,
        "file_id": part.seen.file_id if part.seen else None,
        "fingerprint": part.fingerprint,
        "tail": part.tail,
        "state": (part.state if shard.on_disk is not None else ShardState.MISSING).value,
        "record_count": shard.record_count + part.records,
        "bad_records": bad_records + len(damages),
        "bad_bytes": bad_bytes + sum(length for _, length, _ in damages),
        "lost_since": part.lost_since,
    }
    errors = [
        {"shard_id": shard.id, "offset": offset, "length": length, "reason": store(reason[:_REASON_CHARACTERS])}
        for offset, length, reason in damages[: max(0, write.ERRORS_KEPT - bad_records)]
    ]
    return row, errors


def _follow(part: Part, row: _Values) -> None:
    """Bring the mirror of a shard up to its row."""
    shard = part.shard
    shard.cursor, shard.format = part.cursor, part.format or shard.format
    shard.seen, shard.fingerprint, shard.tail = part.seen, part.fingerprint, part.tail
    shard.state = ShardState(row["state"])
    shard.record_count, shard.lost_since, shard.lost_bytes = row["record_count"], part.lost_since, part.lost_bytes
    shard.bad_records, shard.bad_bytes = row["bad_records"], row["bad_bytes"]


def _stands(job: Job, error: str, rows: dict[int, _Values]) -> bool:
    """Tell whether what was wrong with a job is wrong with a file that is dead still."""
    dead = (s for s in job.shards.values() if (rows[s.id]["state"] if s.id in rows else s.state) == ShardState.DEAD)
    return any(error.startswith(store(f"{job.path / shard.name}: ")) for shard in dead)


def _job_changes(batch: Batch, jobs: dict[int, Job], shards: dict[int, _Values]) -> dict[int, _Values]:
    """Return what a batch changes in the rows of jobs."""
    points = dict.fromkeys(jobs, 0)
    starts: dict[int, float] = {}
    for part in batch.parts:
        points[part.job.id] += part.points
        if part.start_time is not None:
            starts[part.job.id] = min(part.start_time, starts.get(part.job.id, part.start_time))
    errors = {job.id: store(str(error)) for job, error in batch.unreadable}
    errors |= {p.job.id: store(f"{p.job.path / p.shard.name}: {why}") for p in batch.parts if (why := p.compressed)}
    healed = {job.id for job in batch.finished if not any(shard.held for shard in job.shards.values())}
    healed -= {job.id for job in jobs.values() if job.last_error is not None and _stands(job, job.last_error, shards)}
    changes: dict[int, _Values] = {}
    for job in jobs.values():
        known = [t for t in (job.start_time, starts.get(job.id)) if t is not None]
        cursors = {s.id: shards[s.id]["cursor"] if s.id in shards else s.cursor for s in job.shards.values()}
        changes[job.id] = {
            "point_count": job.point_count + points[job.id],
            "start_time": min(known) if known else None,
            "bytes_on_disk": job.bytes_on_disk,
            "bytes_indexed": sum(
                min(cursors[s.id], s.on_disk.size) for s in job.shards.values() if s.on_disk is not None
            ),
            "update_time": job.update_time,
            "listed_update_time": job.modified(job.newest, job.listed.listed_update_time),
            "explain_update_time": job.modified(job.newest_explain, job.listed.explain_update_time),
            "last_error": errors.get(job.id, None if job.id in healed else job.last_error),
        }
    return changes
