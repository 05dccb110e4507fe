"""Shards → batches: read and decode what lies behind the cursors, in load order, bounded in memory.

Reading may run ahead of writing in a thread of its own: nothing here touches the database or a job's state.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.config import Config
from indexer.decode import frames
from indexer.decode.reader import Decoder
from indexer.errors import UnreadableFile
from indexer.ingest import identity, payloads
from indexer.ingest.logdir import load_order
from indexer.ingest.state import Job, Shard
from indexer.ingest.tail import EDGE_BYTES, Opened, digest, open_shard
from indexer.ports import Files, Stat
from indexer.types import Damage, Decoded, ExplainRecord, Format, ShardKind, ShardState, Slice, Span

_BATCH_BYTES = 256 * 2**20  # of files: a batch of few points ends here
_FIRST_SHARE = 4  # the first batch reads a quarter of what others do


@dataclass(slots=True)
class Part:
    """What a batch holds of one shard."""

    job: Job
    shard: Shard
    was: int  # cursor before
    cursor: int  # cursor after
    points: int = 0
    records: int = 0
    damages: list[Damage] = field(default_factory=list)
    lost_since: int | None = None
    lost_reason: str | None = None
    start_time: float | None = None
    format: Format | None = None
    fingerprint: bytes | None = None
    tail: bytes | None = None
    size: int = 0  # of the file, when it was opened
    seen: Stat | None = None  # None: not read to its end yet
    state: ShardState = ShardState.GROWING
    explained: list[ExplainRecord] = field(default_factory=list)
    manifest: str | None = None  # JSON, of an explain file that is read to its end
    afresh: bool = False  # the file is read again from its beginning: what was wrong with it is void

    @property
    def compressed(self) -> str | None:
        """How a file is compressed in which nothing checks; None: it is not, or not read to its end."""
        why = self.lost_reason or ""
        return why if self.state is ShardState.DEAD and why.startswith(identity.COMPRESSED) else None

    @property
    def lost_bytes(self) -> int:
        """Bytes of damage that nothing good ended yet, as far as was looked."""
        return 0 if self.lost_since is None else (self.size if self.seen else self.cursor) - self.lost_since


@dataclass(frozen=True, slots=True)
class Replaced:
    """A job one of whose files is another: it is read again, but for files that are gone."""

    job: Job
    shard: Shard
    gone: Sequence[Shard]  # their points stay


@dataclass(slots=True)
class Batch:
    """What one transaction writes."""

    pieces: list[tuple[Decoded, int, int]] = field(default_factory=list)  # columns[first:last]
    parts: list[Part] = field(default_factory=list)  # in the order of their points
    points: int = 0
    bytes: int = 0
    payload_bytes: int = 0  # in memory
    start: tuple[Job, Shard, int] | None = None  # a session start at this step follows the points
    finished: list[Job] = field(default_factory=list)  # all their shards are read as far as they can be
    replaced: list[Replaced] = field(default_factory=list)  # another file took the name, with good records
    kept: tuple[Job, Shard] | None = None  # points of a file that is gone come next, of all others here none
    unchanged: list[tuple[Shard, Stat]] = field(default_factory=list)  # another file took the name, with nothing good
    unreadable: list[tuple[Job, UnreadableFile]] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """There is nothing to write."""
        return not (self.parts or self.finished or self.replaced or self.unreadable)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return one column over all pieces; there is at least one."""
        arrays = [getattr(decoded, name)[first:last] for decoded, first, last in self.pieces]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


@dataclass(slots=True)
class _Place:
    """Where reading stands in a shard, ahead of its cursor."""

    job: Job
    shard: Shard
    opened: Opened
    offset: int
    lost_since: int | None
    lost_reason: str | None
    format: Format | None
    records: int  # good ones so far
    damaged: bool
    before: bytes  # the last min(offset, 4 KiB) bytes before the offset
    fingerprint: bytes | None

    @property
    def state(self) -> ShardState:
        """What the shard is when reading ends here."""
        if self.records == 0 and (self.damaged or self.lost_since is not None):
            return ShardState.DEAD
        if self.offset < self.opened.stat.size and self.lost_since is None:
            return ShardState.TORN
        return ShardState.GROWING

    def move(self, data: memoryview, end: int) -> None:
        """Go on to `end`; `data` holds the bytes from the offset on."""
        used = data[: end - self.offset]
        if self.offset < EDGE_BYTES:
            self.fingerprint = digest((self.before + bytes(used[:EDGE_BYTES]))[:EDGE_BYTES])
        self.before = (self.before + bytes(used[-EDGE_BYTES:]))[-EDGE_BYTES:]
        self.offset = end

    def skip(self, end: int) -> None:
        """Go on to `end` over bytes that were not read."""
        self.before = self.opened.read(max(0, end - EDGE_BYTES), min(end, EDGE_BYTES))
        self.fingerprint = digest(self.opened.read(0, min(end, EDGE_BYTES)))
        self.offset = end


class Reader:
    """Reads jobs one after the other; many small shards are decoded in one call."""

    def __init__(self, decoder: Decoder, files: Files, config: Config, lock: threading.Lock, slice_bytes: int) -> None:
        self.decoder = decoder
        self.files = files
        self.config = config
        self.lock = lock  # of the decoder
        self.buffer = memoryview(bytearray(slice_bytes))
        self.first = True  # the first batch is a small one: whoever writes waits for it
        self.fill = 0
        self.reach = min(payloads.FIRST_BYTES, slice_bytes)  # bytes decoded at once, but for one record
        self.batch = Batch()
        self.waiting: list[tuple[_Place, Span]] = []  # small shards, whole in the buffer
        self.ending: list[Job] = []  # jobs whose last shard waits
        self.max_step: dict[int, int | None] = {}  # by job id, of what is read so far

    def batches(self, jobs: Iterable[Job], stop: threading.Event) -> Iterator[Batch]:
        """Yield batches until everything on disk is read, or `stop` is set. Never yields an empty one."""
        self.batch, self.fill, self.waiting, self.ending, self.max_step = Batch(), 0, [], [], {}
        self.first = True
        for job in jobs:
            self.max_step[job.id] = job.max_step
            todo = [s for s in list(job.shards.values()) if s.dirty or s.waits]
            for shard in sorted(todo, key=lambda s: load_order(s.name)):
                if stop.is_set():
                    return
                if shard.waits:
                    yield from self._put_back(job, shard)
                if shard.dirty:
                    yield from self._shard(job, shard, stop)
                if any(replaced.job is job for replaced in self.batch.replaced):
                    break  # all of it is read again, from the beginning
            if stop.is_set():
                return
            if any(replaced.job is job for replaced in self.batch.replaced):
                continue
            self.ending.append(job)
            if not self.waiting:
                yield from self._drain()
        yield from self._drain()
        if not self.batch.empty:
            yield self._take()

    def _put_back(self, job: Job, shard: Shard) -> Iterator[Batch]:
        """Have the points of a file that is gone put back here, in load order: a batch of its own."""
        yield from self._drain()
        if not self.batch.empty:
            yield self._take()
        self.batch.kept = (job, shard)
        yield self._take()
        self.max_step[job.id] = job.max_step  # whoever wrote it read the job's tags again

    def _shard(self, job: Job, shard: Shard, stop: threading.Event) -> Iterator[Batch]:
        if shard.kind is ShardKind.GRAPH:
            yield from self._graph(job, shard)
            return
        try:
            opened = open_shard(self.files, job.path / shard.name, shard.cursor, shard.fingerprint, shard.tail)
        except UnreadableFile as e:
            self.batch.unreadable.append((job, e))
            return
        try:
            if not opened.same:
                yield from self._compare(job, shard, opened)
                return
            place = _Place(
                job,
                shard,
                opened,
                shard.cursor,
                shard.lost_since,
                None,
                shard.format,
                shard.record_count,
                shard.bad_records > 0,
                opened.before,
                shard.fingerprint,
            )
            left = opened.stat.size - place.offset
            if left <= 0:
                self._close(place, self._part(place, place.offset))
            elif left <= min(len(self.buffer) // 4, self.config.max_record_bytes):
                yield from self._small(place, left)
            else:
                yield from self._drain()
                yield from self._large(place, stop)
        except UnreadableFile as e:
            self.batch.unreadable.append((job, e))
        finally:
            opened.close()

    def _graph(self, job: Job, shard: Shard) -> Iterator[Batch]:
        """A graph file has no records: it is one message, and read again when it is another.

        Both its digests are of all of it. What is no graph may be one that is still being written: it is damage from
        the first byte on that nothing good has ended yet, and points that were read before stay.
        """
        try:
            opened = open_shard(self.files, job.path / shard.name, 0, None, None)
        except UnreadableFile as e:
            self.batch.unreadable.append((job, e))
            return
        stat, known = opened.stat, shard.cursor > 0 and shard.lost_since is None
        part = Part(job, shard, shard.cursor, stat.size, format=Format.MINDSPORE, size=stat.size, seen=stat)
        decoded = None
        try:
            if stat.size > self.config.max_record_bytes:
                part.lost_reason = f"a graph of {stat.size} bytes is longer than max_record_bytes"
            else:
                content = opened.whole()
                part.cursor, part.fingerprint = len(content), digest(content)
                if content and part.fingerprint != shard.tail:
                    with self.lock:
                        decoded, part.lost_reason = self.decoder.graph(job.id, shard.name, content, stat.mtime_ns / 1e9)
                del content
        except UnreadableFile as e:
            self.batch.unreadable.append((job, e))
            return
        finally:
            opened.close()
        part.tail = part.fingerprint
        if known and decoded is not None and part.lost_reason is None:
            yield from self._replace(job, shard)
            return
        if known and (part.cursor, part.tail) != (shard.cursor, shard.tail):
            self.batch.unchanged.append((shard, stat))  # no graph any more
            return
        if part.lost_reason is not None:
            part.lost_since, part.state = 0, ShardState.DEAD
        elif part.cursor and decoded is None:  # what it was
            part.lost_since, part.state = shard.lost_since, shard.state
        part.afresh = shard.lost_since is not None and part.tail != shard.tail
        self.batch.parts.append(part)
        self.batch.bytes += part.cursor
        if decoded is not None and part.lost_reason is None:
            self._see(job, decoded, 0, len(decoded.step))
            self._extend(part, decoded, 0, len(decoded.step))
        if self._full():
            yield self._take()

    def _replace(self, job: Job, shard: Shard) -> Iterator[Batch]:
        """Give up the points of a job, one of whose files is another: no batch holds parts of such a job."""
        yield from self._drain()
        if self.batch.parts:
            yield self._take()
        self.batch.replaced.append(Replaced(job, shard, self._gone(job, shard)))

    def _compare(self, job: Job, shard: Shard, opened: Opened) -> Iterator[Batch]:
        """Another file has the shard's name: the old points go where that holds good records, or a copy of theirs."""
        if identity.has_record(opened, self.config.max_record_bytes) or self._copied(job, shard):
            yield from self._replace(job, shard)
        else:
            self.batch.unchanged.append((shard, opened.stat))

    def _copied(self, job: Job, shard: Shard) -> bool:
        """Tell whether another file of the job holds what a shard held that was emptied: it was copied, then cut."""
        others = [
            s for s in list(job.shards.values()) if s is not shard and s.on_disk is not None and s.kind is shard.kind
        ]
        return any(list(identity.holding(self.files, job.path / other.name, [shard])) for other in others)

    def _gone(self, job: Job, replaced: Shard) -> list[Shard]:
        """Return the files of a job that cannot be read again: their points stay when it is."""
        others, gone = [replaced], []
        for shard in list(job.shards.values()):
            if shard is replaced or not shard.cursor:
                continue
            there = self._is_there(job, shard)
            if there is None:
                gone.append(shard)
            elif not there:
                others.append(shard)
        return identity.orphans(self.files, job, gone, others)

    def _is_there(self, job: Job, shard: Shard) -> bool | None:
        """Tell whether a shard can be read again as it was, or (False) as another file; None: not at all."""
        if shard.on_disk is None:
            return None
        try:
            return self.holds(job, shard)
        except UnreadableFile:
            return None

    def holds(self, job: Job, shard: Shard) -> bool | None:
        """Tell whether the file of a shard holds what was read of it, or (False) other records; None: none at all.

        UnreadableFile where nobody can tell.
        """
        graph = shard.kind is ShardKind.GRAPH
        path, cursor = job.path / shard.name, 0 if graph else shard.cursor
        opened = open_shard(self.files, path, cursor, shard.fingerprint, shard.tail)
        with closing(opened):
            if not graph:
                good = opened.same or identity.has_record(opened, self.config.max_record_bytes)
                return opened.same if good else None
            content = opened.whole()
        if digest(content) == shard.tail:
            return True
        with self.lock:
            found, why = self.decoder.graph(job.id, shard.name, content, 0.0)
        return False if len(found.step) and why is None else None

    def _small(self, place: _Place, left: int) -> Iterator[Batch]:
        if self.fill and self.fill + left > self._room():
            yield from self._drain()
        got = place.opened.read_into(place.offset, self.buffer[self.fill : self.fill + left])
        self.waiting.append((place, _span(place, self.fill, self.fill + got)))
        self.fill += got

    def _large(self, place: _Place, stop: threading.Event) -> Iterator[Batch]:
        size, need = place.opened.stat.size, 0
        while not stop.is_set():
            buffer = self.buffer
            wanted = max(identity.reach(need, searching=place.lost_since is not None), self._room())
            wanted = min(size - place.offset, wanted)
            if wanted > len(buffer):
                buffer = memoryview(bytearray(wanted))  # for one record, not above max_record_bytes
            got = place.opened.read_into(place.offset, buffer[:wanted])
            decoded, (found,) = self._decode(buffer, [_span(place, 0, got)])
            yield from self._add(place, decoded, found, buffer[:got])
            need = found.need
            if found.oversize and place.offset + need <= size:
                self._pass_over(place, need)
                need = 0
            if place.offset >= size or place.offset + need > size or got < wanted:  # the last: it shrank
                self._close(place, self._part(place, place.offset))
                break
            if self._full():
                yield self._take()

    def _pass_over(self, place: _Place, length: int) -> None:
        part = self._part(place, place.offset)
        reason = f"a record of {length - 16} bytes is longer than max_record_bytes ({self.config.max_record_bytes})"
        if place.lost_since is not None:  # it was found while searching
            lost = place.lost_reason or frames.UNKNOWN_LOSS
            part.damages.append(Damage(place.lost_since, place.offset - place.lost_since, lost))
            place.lost_since = place.lost_reason = None
        part.damages.append(Damage(place.offset, length, reason))
        place.damaged = True
        place.skip(place.offset + length)
        self._sync(part, place)

    def _drain(self) -> Iterator[Batch]:
        """Decode the small shards that wait, and end the jobs whose last one waited."""
        if self.waiting:
            decoded, slices = self._decode(self.buffer, [span for _, span in self.waiting])
            for (place, span), found in zip(self.waiting, slices, strict=True):
                yield from self._add(place, decoded, found, self.buffer[span.start : span.stop])
                self._close(place, self._part(place, place.offset))
            self.waiting, self.fill = [], 0
        self.batch.finished.extend(self.ending)
        self.ending = []
        if self._full():
            yield self._take()

    def _decode(self, buffer: memoryview, spans: Sequence[Span]) -> tuple[Decoded, list[Slice]]:
        with self.lock:
            decoded = self.decoder.decode(buffer, spans)
        self.reach = payloads.reach(decoded, sum(span.stop - span.start for span in spans), len(self.buffer))
        return decoded, decoded.slices

    def _add(self, place: _Place, decoded: Decoded, found: Slice, data: memoryview) -> Iterator[Batch]:
        """Add what a span held; a session start that supersedes anything ends the batch before it."""
        first, records, base = found.first, 0, place.offset
        damages = list(found.damages)
        # What begins with damage may be no damage to be mended, but a file to be decompressed.
        at_once = found.lost_since == 0 or (damages and damages[0].offset == 0)
        if base == 0 and at_once and (how := identity.compression(data, place.shard.name)):
            if damages:
                damages[0] = replace(damages[0], reason=how)
            else:
                found.lost_reason = how
        for start in found.starts:
            self._see(place.job, decoded, first, start.point)
            top = self.max_step[place.job.id]
            if top is None or top < start.step:
                continue
            part = self._part(place, place.offset)
            self._extend(part, decoded, first, start.point)
            while damages and damages[0].offset < start.offset:
                part.damages.append(damages.pop(0))
                place.damaged = True
            part.records += start.records - records
            place.records += start.records - records
            place.move(data[place.offset - base :], start.offset)
            place.lost_since = None
            place.format = found.format
            self._finish(part, place, found)
            part.lost_since, part.lost_reason = None, None
            self.batch.start = (place.job, place.shard, start.step)
            yield self._take()
            first, records = start.point, start.records
        self._see(place.job, decoded, first, found.last)
        part = self._part(place, place.offset)
        self._extend(part, decoded, first, found.last)
        if found.explained:
            from indexer.ingest import explain  # rare, and its import costs every start

            part.explained.extend(found.explained)
            self.batch.payload_bytes += explain.size(found.explained)
        part.damages.extend(damages)
        part.records += found.records - records
        place.records += found.records - records
        place.damaged = place.damaged or bool(damages)
        place.move(data[place.offset - base :], found.end)
        place.lost_since, place.lost_reason, place.format = found.lost_since, found.lost_reason, found.format
        self._finish(part, place, found)

    def _see(self, job: Job, decoded: Decoded, first: int, last: int) -> None:
        """Keep the largest step of a job: most session starts supersede nothing, and need not be looked up."""
        if last > first:
            top, known = int(decoded.step[first:last].max()), self.max_step[job.id]
            self.max_step[job.id] = top if known is None else max(known, top)

    def _part(self, place: _Place, was: int) -> Part:
        """Return the batch's part of a shard, a new one where its last part is another's."""
        parts = self.batch.parts
        if not parts or parts[-1].shard is not place.shard:
            parts.append(Part(place.job, place.shard, was, place.offset, size=place.opened.stat.size))
            self._sync(parts[-1], place)
        return parts[-1]

    def _extend(self, part: Part, decoded: Decoded, first: int, last: int) -> None:
        if last == first:
            return
        part.points += last - first
        self.batch.points += last - first
        self.batch.payload_bytes += payloads.size(decoded, first, last)
        pieces = self.batch.pieces
        if pieces and pieces[-1][0] is decoded and pieces[-1][2] == first:
            pieces[-1] = (decoded, pieces[-1][1], last)
        else:
            pieces.append((decoded, first, last))

    def _finish(self, part: Part, place: _Place, found: Slice) -> None:
        self.batch.bytes += place.offset - part.cursor
        if found.start_time is not None:
            part.start_time = found.start_time if part.start_time is None else min(part.start_time, found.start_time)
        self._sync(part, place)

    def _sync(self, part: Part, place: _Place) -> None:
        part.cursor, part.format, part.fingerprint = place.offset, place.format, place.fingerprint
        part.tail = digest(place.before)
        part.lost_since, part.lost_reason = place.lost_since, place.lost_reason

    def _close(self, place: _Place, part: Part) -> None:
        """Its bytes of this moment are read as far as they can be."""
        self._sync(part, place)
        part.seen, part.state = place.opened.stat, place.state
        if place.shard.kind is ShardKind.EXPLAIN:
            from indexer.ingest import explain

            part.manifest = explain.manifest(self.files, place.opened.path)

    def _room(self) -> int:
        """Return how many bytes are read before they are decoded."""
        return min(self.reach, len(self.buffer) // _FIRST_SHARE if self.first else len(self.buffer))

    def _full(self) -> bool:
        """Tell whether the batch is to be written."""
        batch = self.batch
        if self.first and (batch.points or not batch.payload_bytes):
            return batch.points > 0
        return (
            batch.points >= self.config.batch_points
            or batch.bytes >= _BATCH_BYTES
            or batch.payload_bytes >= payloads.BATCH_BYTES
        )

    def _take(self) -> Batch:
        batch, self.batch, self.first = self.batch, Batch(), False
        return batch


def _span(place: _Place, start: int, stop: int) -> Span:
    return Span(
        place.job.id,
        place.shard.kind,
        place.format,
        start,
        stop,
        place.offset,
        place.lost_since,
        place.lost_reason,
        place.shard.name,
    )
