"""Files once more, and what the tables say of them: job by job, in one snapshot each, with bounded memory.

The points of a file are compared in the order of the file, tag by tag, with the stretches (`tag_segments`) that the
tables have of it: so it does not matter in which order files came in. `seq` is counted anew within each stretch.
Decision: docs/decisions/0027-verify-decodes-again.md.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.config import Config
from indexer.db import blobs, consistency, stored
from indexer.db.connection import Connection
from indexer.db.facts import Said
from indexer.db.write import ERRORS_KEPT
from indexer.decode.reader import Decoder
from indexer.errors import UnreadableFile
from indexer.findings import Findings, Place
from indexer.ingest import identity
from indexer.ingest.derived import Derived
from indexer.ingest.logdir import load_order
from indexer.ingest.remnant import Remnant
from indexer.ingest.reread import Reread
from indexer.ingest.tail import Opened, digest, open_shard
from indexer.plugins import TABLES
from indexer.ports import Files
from indexer.text import show, store
from indexer.types import Blob, DataClass, Decoded, Series, ShardKind

_POINTS = 250_000  # compared at once
_PAYLOAD_BYTES = 16 * 2**20  # likewise, as the tables hold them
_BEHIND_BYTES = 16 * 2**20  # looked at behind a cursor
_COLUMNS = {table.name: table.columns for table in TABLES}
_FACTS = blobs.COLUMNS[4:-1]  # without the key and the data
_IN_FILE = frozenset({"encoding", "shard_id", "offset"})
"""What the file alone does not decide."""

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Checked:
    """How much was compared."""

    jobs: int = 0
    files: int = 0
    bytes: int = 0
    points: int = 0
    payloads: int = 0
    missing: list[str] = field(default_factory=list)  # files that are not on disk


@dataclass(slots=True)
class _Tag:
    """A series of a job, in the tables and in the files."""

    row: stored.TagRow
    max_length: int = 0
    first_shard: int | None = None  # of its first stretch
    suspect: bool = False  # its points are not those of the files
    blobs: Counter[str] = field(default_factory=Counter)  # by kind, in the files


@dataclass(slots=True)
class _Stretches:
    """What the tables have of a tag from one file, and how far it is compared."""

    tag: _Tag
    left: list[stored.SegmentRow]  # the next one first
    used: int = 0  # points of that one
    seq: int = 0  # of the point compared last
    step: int = 0


@dataclass(slots=True)
class _Points:
    """Points of one tag, in file order, and the seq that the tables give them (-1: they are not there)."""

    step: Ints
    wall_time: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    seq: Ints


class Verifier:
    """Compares jobs. One thread uses it."""

    def __init__(self, config: Config, files: Files, findings: Findings, progress: Callable[[str, int], None]) -> None:
        self.config = config
        self.files = files
        self.findings = findings
        self.progress = progress  # called with a job and bytes read since the last call; may raise
        self.checked = Checked()

    def job(self, conn: Connection, job_id: int, root: str, path: Path) -> None:
        """Compare a job of the root called `root`, whose files are in `path`; `conn` reads in one snapshot."""
        row = stored.job(conn, job_id)
        if row is None:
            return  # it was pruned meanwhile
        name = f"{root}:{row.train_id}"
        if row.evicted_at is not None:
            self.findings.note(f"{name}: left out of the cache, so nothing of it is stored, and nothing compared")
            consistency.check(conn, row.id, name, self.findings)
            return
        if row.pruned_at is not None:
            self.findings.note(f"{name}: some of it was pruned; what only its files hold is passed over")
        shards = sorted(stored.shards(conn, row.id), key=lambda shard: load_order(show(shard.name)))
        job = _Job(self, conn, row, name, path, Derived(conn, row.id, shards))
        self.checked.jobs += 1
        try:
            for shard in shards:  # series are described by their first values
                job.shard(shard)
            job.finish()
        finally:
            job.derived.close()


class _Job:
    """One job while it is compared."""

    def __init__(
        self,
        verifier: Verifier,
        conn: Connection,
        row: stored.JobRow,
        name: str,
        path: Path,
        derived: Derived,
    ) -> None:
        self.verifier = verifier
        self.findings = verifier.findings
        self.conn = conn
        self.row = row
        self.name = name
        self.path = path
        self.derived = derived
        config = verifier.config
        self.decoder = Decoder(
            kernel=False, max_record_bytes=config.max_record_bytes, max_blob_bytes=config.max_blob_bytes
        )
        self.tags = {(tag.plugin, tag.name): _Tag(tag) for tag in stored.tags(conn, row.id)}
        self.by_id = {tag.row.id: tag for tag in self.tags.values()}
        self.of_shard: dict[int, dict[int, list[stored.SegmentRow]]] = {}  # shard → tag → stretches
        for segment in stored.segments(conn, row.id):
            if segment.ordinal == 0:
                self.by_id[segment.tag_id].first_shard = segment.shard_id
            self.of_shard.setdefault(segment.shard_id, {}).setdefault(segment.tag_id, []).append(segment)
        names = Counter(name for _, name in self.tags)
        # Which plugin a value without one belongs to is decided by the first value of its name: by the order of files.
        shared = [tag.row for tag in self.tags.values() if names[tag.row.name] > 1]
        self.decoder.prime(row.id, [_series(row.id, tag) for tag in shared])
        self.pruned = row.pruned_at is not None  # files may hold more
        self.whole = True  # all files are there and as they were
        self.starts = 0
        self.start_time: float | None = None
        self.unexplained: list[Place] = []  # points whose seq grew for no reason seen yet
        self.known: set[int] = set(range(len(self.decoder.series)))  # numbers of series that were compared

    # a file

    def shard(self, shard: stored.ShardRow) -> None:
        """Compare a file with what the tables have of it."""
        place = Place(self.name, shard.name)
        if shard.cursor == 0 and shard.record_count == 0 and not shard.bad_records:
            points = sum(s.points for some in self.of_shard.get(shard.id, {}).values() for s in some)
            if points:
                self.findings.add(place, "points from this file, of which nothing is read", 0, points)
            return
        try:
            opened = self._open(shard)
        except UnreadableFile as e:
            self.whole = False
            self.verifier.checked.missing.append(str(e.path))
            self.findings.note(f"{place}: {e.why}; its points stay in the tables and are not compared")
            return
        try:
            if not opened.same and self._emptied(shard, opened):
                self.whole = False
                self.findings.note(f"{place}: it holds no record any more; its points stay and are not compared")
                return
            if not opened.same:
                self.whole = False
                found = f"{opened.stat.size} bytes" if opened.stat.size < shard.cursor else "other bytes"
                self.findings.add(place, "the file that was loaded", found, f"{shard.cursor} bytes of another file")
                return
            self.verifier.checked.files += 1
            if shard.kind == ShardKind.GRAPH:
                self._graph(shard, opened, place)
            else:
                self._records(shard, opened, place)
        except UnreadableFile as e:
            self.whole = False
            self.findings.note(f"{place}: {e.why}; the rest of it is not compared")
        finally:
            opened.close()

    def _open(self, shard: stored.ShardRow) -> Opened:
        path = self.path / show(shard.name)
        if shard.kind != ShardKind.GRAPH:
            return open_shard(self.verifier.files, path, shard.cursor, shard.fingerprint, shard.tail)
        opened = open_shard(self.verifier.files, path, 0, None, None)
        if shard.fingerprint is not None and opened.stat.size <= self.verifier.config.max_record_bytes:
            opened.same = digest(opened.whole()) == shard.fingerprint
        return opened

    def _emptied(self, shard: stored.ShardRow, opened: Opened) -> bool:
        limit = self.verifier.config.max_record_bytes
        return shard.kind != ShardKind.GRAPH and not identity.has_record(opened, limit)

    def _records(self, shard: stored.ShardRow, opened: Opened, place: Place) -> None:
        reread = Reread(show(shard.name), ShardKind(shard.kind))
        compared = _File(self, shard, place)
        before = 0
        for decoded in reread.pieces(self.decoder, self.row.id, opened, _stop(shard)):
            compared.add(decoded)
            self._advance(reread.offset - before)
            before = reread.offset
        compared.finish()
        self._counted(shard, reread, place)
        self.starts += reread.starts
        if reread.start_time is not None:
            self.start_time = min(self.start_time or reread.start_time, reread.start_time)
        self._behind(shard, reread, opened, place)

    def _graph(self, shard: stored.ShardRow, opened: Opened, place: Place) -> None:
        """A graph file is one message; when it was written is the clock of its point, which the file says no more."""
        compared = _File(self, shard, place, clocks=False)
        if shard.lost_since is None and shard.cursor:
            content = opened.whole()
            name, clock = show(shard.name), shard.mtime_ns / 1e9
            decoded, why = self.decoder.graph(self.row.id, name, content, clock)
            if why is not None:
                self.findings.add(place, "graph", why, "a graph")
            else:
                compared.add(decoded)
            self._advance(len(content))
        compared.finish()

    def _advance(self, count: int) -> None:
        self.verifier.checked.bytes += count
        self.verifier.progress(self.name, count)

    def _counted(self, shard: stored.ShardRow, reread: Reread, place: Place) -> None:
        """Compare what is counted of a file, and its damages. One that nothing good ended yet grows with the file."""
        add = self.findings.add
        if reread.lost_since is None and reread.offset != shard.cursor:
            add(place, "cursor: the last record begins at", reread.offset, shard.cursor)
        for what, expected, found in (
            ("record_count", reread.records, shard.record_count),
            ("lost_since", reread.lost_since, shard.lost_since),
            ("bad_records", len(reread.damages) + (reread.lost_since is not None), shard.bad_records),
        ):
            if expected != found:
                add(place, what, expected, found)
        bad_bytes = sum(damage.length for damage in reread.damages)
        if reread.lost_since is None and bad_bytes != shard.bad_bytes:
            add(place, "bad_bytes", bad_bytes, shard.bad_bytes)
        wanted = [(damage.offset, damage.length) for damage in reread.damages]
        kept = [found for found in stored.errors(self.conn, shard.id) if found[0] != shard.lost_since]
        if len(wanted) >= ERRORS_KEPT:  # of many, not all are kept
            wanted = sorted(set(wanted) & set(kept))
        for offset, length in sorted(set(wanted) ^ set(kept)):
            said = f"{length} bytes"
            sides = (said, None) if (offset, length) in wanted else (None, said)
            add(place, f"damage at byte {offset}", *sides)

    def _behind(self, shard: stored.ShardRow, reread: Reread, opened: Opened, place: Place) -> None:
        """Look behind the cursor: where the indexer says that it read all of the file, nothing good may be there."""
        left = opened.stat.size - shard.cursor
        if left <= 0:
            return
        if (opened.stat.size, opened.stat.mtime_ns) != (shard.size, shard.mtime_ns):
            self.findings.note(f"{place}: {left} bytes are not loaded yet")
            return
        rest = Reread(reread.name, reread.kind, shard.cursor, lost_since=shard.lost_since, format=reread.format)
        stop = min(opened.stat.size, shard.cursor + _BEHIND_BYTES)
        for _ in rest.pieces(Decoder(kernel=False), self.row.id, opened, stop):
            pass
        if rest.records:
            self.findings.add(place, "records behind the cursor, said to be at the end", rest.records, None)

    # the job

    def describe(self, number: int, shard: stored.ShardRow, place: Place) -> _Tag | None:
        """Return the tag of a series that a file names, compared with how the file describes it."""
        series = self.decoder.series[number]
        tag = self.tags.get((store(series.plugin), store(series.name)))
        if number in self.known:
            return tag
        self.known.add(number)
        where = Place(place.job, place.file, store(series.plugin), store(series.name))
        if self.pruned:  # what described it may be gone
            return tag
        if tag is None:
            self.findings.add(where, "tag", "points of it", None)
            return None
        described: list[tuple[str, Any, Any]] = [("data_class", series.data_class.value, tag.row.data_class)]
        if tag.first_shard == shard.id:  # the first value describes it, and files may have come in another order
            described += [(name, getattr(series, name), getattr(tag.row, name)) for name in ("metadata", "content")]
            described += [
                (name, None if value is None else store(value), getattr(tag.row, name))
                for name, value in (("display_name", series.display_name), ("description", series.description))
            ]
        for what, expected, found in described:
            if expected != found:
                self.findings.add(where, what, expected, found)
        return tag

    def finish(self) -> None:
        """Compare what only all files together say."""
        totals = consistency.check(self.conn, self.row.id, self.name, self.findings)
        for tag in self.tags.values():
            place = Place(self.name, None, tag.row.plugin, tag.row.name)
            stored_points, in_stretches = totals.points.get(tag.row.id, (0, 0))
            if tag.suspect or stored_points != in_stretches:
                self._outside(tag, place)
            if not self.whole or self.pruned:
                continue
            if tag.max_length != tag.row.max_length:
                self.findings.add(place, "max_length", tag.max_length, tag.row.max_length)
            found = totals.payloads.get(tag.row.id, {})
            for kind in sorted(tag.blobs.keys() | found.keys()):
                if tag.blobs[kind] != found.get(kind, 0):
                    self.findings.add(place, f"payloads of kind {kind}", tag.blobs[kind], found.get(kind, 0))
        if self.whole and self.start_time != self.row.start_time:
            self.findings.add(Place(self.name), "start_time", self.start_time, self.row.start_time)
        if self.whole:
            self.derived.compare_job(Place(self.name), self.findings)
        if self.whole and not self.starts:
            for place in self.unexplained:
                self.findings.add(place, "seq", (place.seq or 0) - 1, place.seq)

    def _outside(self, tag: _Tag, place: Place) -> None:
        for step, seq, _, value in stored.points_outside(self.conn, tag.row.id, self.findings.limit or 1_000):
            self.findings.add(_at(place, step, seq), "point", None, f"value {value}")


class _File:
    """What a file holds, gathered until it is enough to be compared."""

    def __init__(self, job: _Job, shard: stored.ShardRow, place: Place, *, clocks: bool = True) -> None:
        self.job = job
        self.conn = job.conn
        self.findings = job.findings
        self.shard = shard
        self.place = place
        self.clocks = clocks
        self.pieces: list[Decoded] = []
        self.points = 0
        self.payload_bytes = 0
        of_tags = job.of_shard.get(shard.id, {})
        self.stretches: dict[int, _Stretches] = {}
        self.remnants: dict[int, Remnant] = {}
        self.names: set[str] = set()  # of series that the file has, where some of it was pruned
        if job.pruned:
            self.remnants = {tag_id: Remnant(job.conn, some, clocks) for tag_id, some in of_tags.items()}
        else:
            self.stretches = {tag_id: _Stretches(job.by_id[tag_id], some) for tag_id, some in of_tags.items()}

    def add(self, decoded: Decoded) -> None:
        """Take what was read next."""
        for number, length in decoded.lengths.items():
            tag = self.job.describe(number, self.shard, self.place)
            if tag is not None:
                tag.max_length = max(tag.max_length, length)
        self.job.derived.say(_said(decoded, self.shard.id))
        for found in decoded.slices:
            self.job.derived.explain(self.shard.id, found.explained)
        if not len(decoded.step):
            return
        self.pieces.append(decoded)
        self.points += len(decoded.step)
        self.payload_bytes += sum(len(blob.data or b"") + blob.row_bytes for blob in decoded.payloads)
        if self.points >= _POINTS or self.payload_bytes >= _PAYLOAD_BYTES:
            self._compare()

    def finish(self) -> None:
        """Compare the rest, and say what the tables have beyond it."""
        self._compare()
        for stretches in self.stretches.values():
            more = sum(segment.points for segment in stretches.left) - stretches.used
            if more:
                stretches.tag.suspect = True
                self.findings.add(self._of(stretches.tag), "points from this file", "no more", f"{more} more")
        for tag_id, remnant in self.remnants.items():
            self._left(self.job.by_id[tag_id], remnant)
        if self.shard.kind == ShardKind.EXPLAIN:
            self.job.derived.compare_file(self.shard.id, self.place, self.findings)

    def _of(self, tag: _Tag) -> Place:
        return Place(self.place.job, self.place.file, tag.row.plugin, tag.row.name)

    def _compare(self) -> None:
        if not self.pieces:
            return
        series, step, wall_time, value = (
            np.concatenate([getattr(piece, name) for piece in self.pieces])
            for name in ("series", "step", "wall_time", "value")
        )
        payloads: dict[int, list[Blob]] = {}  # by point
        start = 0
        for piece in self.pieces:
            for blob in piece.payloads:
                payloads.setdefault(start + blob.point, []).append(blob)
            start += len(piece.step)
        self.pieces, self.points, self.payload_bytes = [], 0, 0
        order = np.argsort(series, kind="stable")
        borders = np.flatnonzero(np.diff(series[order], prepend=-1, append=-1))
        for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
            own = order[first:last]
            tag = self.job.describe(int(series[own[0]]), self.shard, self.place)
            self.names.add(store(self.job.decoder.series[int(series[own[0]])].name))
            self.job.verifier.checked.points += len(own)
            if tag is None:
                continue
            points = _Points(step[own], wall_time[own], value[own], np.full(len(own), -1, np.int64))
            if not self.job.pruned:
                self._series(tag, points)
            elif (remnant := self.remnants.get(tag.row.id)) is not None:
                points.seq[:] = remnant.take(points.step, points.wall_time, points.value)
            mine = [(i, payloads[at]) for i, at in enumerate(own.tolist()) if at in payloads] if payloads else []
            if mine:
                self._payloads(tag, points, mine)

    # points

    def _series(self, tag: _Tag, points: _Points) -> None:
        """Compare points of a tag with its stretches from this file; what they have more is told at the end."""
        found = self.stretches.get(tag.row.id)
        done = 0
        while done < len(points.step):
            if found is None or not found.left:
                tag.suspect = True
                step = int(points.step[done])
                self.findings.add(
                    self._of(tag), "points from this file", f"{len(points.step) - done} from step {step} on", None
                )
                return
            segment = found.left[0]
            count = min(len(points.step) - done, segment.points - found.used)
            if count > 0:
                part = slice(done, done + count)
                piece = _Points(points.step[part], points.wall_time[part], points.value[part], points.seq[part])
                self._stretch(found, segment, piece)
            done += max(count, 0)
            if found.used >= segment.points:
                self._end(found, segment)

    def _left(self, tag: _Tag, remnant: Remnant) -> None:
        """Say what is stored of a tag and not in the file."""
        point = remnant.awaited
        if point is None:
            return
        if not remnant.asked and tag.row.name in self.names:
            # Only the first value of a tag says which plugin it is of, and that one was pruned.
            self.findings.note(f"{self._of(tag)}: it begins behind what was pruned, and is not compared")
            return
        tag.suspect = True
        place = _at(self._of(tag), point.step, point.seq)
        if remnant.near is None:
            self.findings.add(place, "point", None, f"value {_number(point.value)}")
        else:
            for what, expected, found in zip(("wall_time", "value"), remnant.near, point[2:], strict=True):
                if _number(expected) != _number(found) and (what == "value" or self.clocks):
                    self.findings.add(place, what, _number(expected), _number(found))
        if remnant.left > 1:
            self.findings.note(f"{place}: {remnant.left - 1} points behind it are not compared")

    def _end(self, found: _Stretches, segment: stored.SegmentRow) -> None:
        if (segment.last_step, segment.last_seq) != (found.step, found.seq):
            found.tag.suspect = True
            last = f"step {found.step}, seq {found.seq}"
            stored_last = f"step {segment.last_step}, seq {segment.last_seq}"
            self.findings.add(self._of(found.tag), f"end of stretch {segment.ordinal}", last, stored_last)
        found.left.pop(0)
        found.used = 0

    def _stretch(self, found: _Stretches, segment: stored.SegmentRow, points: _Points) -> None:
        step = points.step
        failed = np.empty(len(step), np.bool_)
        failed[1:] = step[1:] <= step[:-1]
        if found.used == 0:
            base, failed[0] = segment.first_seq, False
            if segment.first_step != int(step[0]):
                found.tag.suspect = True
                what = f"first step of stretch {segment.ordinal}"
                self.findings.add(self._of(found.tag), what, int(step[0]), segment.first_step)
        else:
            base, failed[0] = found.seq, step[0] <= found.step
        seq = base + np.cumsum(failed)
        after = found.step if found.used and not failed[0] else None
        rows = self._rows(found.tag, step, seq, after)
        by_key = np.lexsort((seq, step))
        if (
            len(rows) == len(step)
            and np.array_equal(_column(rows, 0, np.int64), step[by_key])
            and np.array_equal(_column(rows, 1, np.int64), seq[by_key])
        ):
            self._values(found.tag, points, by_key, seq[by_key], rows)
            points.seq[:] = seq
        else:
            self._search(found, segment, points, failed, base)
        known = np.flatnonzero(points.seq >= 0)
        found.seq = int(points.seq[known[-1]]) if len(known) else int(seq[-1])
        found.step = int(step[-1])
        found.used += len(step)

    def _rows(self, tag: _Tag, step: Ints, seq: Ints, after: int | None) -> list[stored.Point]:
        """Return the points that the tables should have and, where steps only grow, those that lie between them."""
        if seq[0] == seq[-1]:
            first = int(step[0]) if after is None else after + 1
            return stored.points_of_run(self.conn, tag.row.id, first, int(step[-1]), int(seq[0]))
        steps = np.unique(step).tolist()
        keys = set(zip(step.tolist(), seq.tolist(), strict=True))
        rows = stored.points_at(self.conn, tag.row.id, steps, (int(seq[0]), int(seq[-1])))
        return [row for row in rows if row[:2] in keys]

    def _values(self, tag: _Tag, points: _Points, order: Ints, seq: Ints, rows: Sequence[stored.Point]) -> None:
        columns = [("value", points.value[order], _column(rows, 3, np.float64))]
        if self.clocks:
            columns.append(("wall_time", points.wall_time[order], _column(rows, 2, np.float64)))
        for what, expected, found in columns:
            for i in np.flatnonzero((expected != found) & ~(np.isnan(expected) & np.isnan(found))).tolist():
                place = _at(self._of(tag), int(points.step[order[i]]), int(seq[i]))
                self.findings.add(place, what, _number(expected[i]), _number(found[i]))

    def _search(
        self, found: _Stretches, segment: stored.SegmentRow, points: _Points, failed: npt.NDArray[np.bool_], base: int
    ) -> None:
        """Find each point by itself: some are missing, or too many, or a session start made seq grow."""
        tag = found.tag
        last_seq = max(segment.last_seq, base + int(failed.sum()))
        steps = np.unique(points.step).tolist()
        rows = {row[:2]: row for row in stored.points_at(self.conn, tag.row.id, steps, (base, last_seq))}
        if not failed.any():  # what lies between them is too much
            first, last = int(points.step[0]), int(points.step[-1])
            rows |= {row[:2]: row for row in stored.points_of_run(self.conn, tag.row.id, first, last, base)}
        seq = base
        matched: list[int] = []
        for i, (step, late) in enumerate(zip(points.step.tolist(), failed.tolist(), strict=True)):
            wanted = seq + late
            if (step, wanted) not in rows and not late and (step, wanted + 1) in rows:
                wanted += 1  # a session start in a file of the job, which superseded the points before it
                if len(self.job.unexplained) < 1_000:
                    self.job.unexplained.append(_at(self._of(tag), step, wanted))
            seq = wanted
            if (step, seq) in rows:
                points.seq[i] = seq
                matched.append(i)
            else:
                tag.suspect = True
                value = _number(points.value[i])
                self.findings.add(_at(self._of(tag), step, seq), "point", f"value {value}", None)
        chosen = np.array(matched, np.int64)
        keys = [(int(points.step[i]), int(points.seq[i])) for i in matched]
        self._values(tag, points, chosen, points.seq[chosen], [rows.pop(key) for key in keys])
        end = (seq, int(points.step[-1]))
        for (step, at), row in sorted(rows.items()):
            if (at, step) < end and (found.used == 0 or (at, step) > (found.seq, found.step)):
                tag.suspect = True
                self.findings.add(_at(self._of(tag), step, at), "point", None, f"value {row[3]}")

    # payloads

    def _payloads(self, tag: _Tag, points: _Points, payloads: Sequence[tuple[int, list[Blob]]]) -> None:
        """Compare payloads of points that are in the tables, some at once."""
        part: list[tuple[tuple[int, int], Blob]] = []
        taken = 0
        for i, blobs_of_point in payloads:
            tag.blobs.update(blob.kind for blob in blobs_of_point)
            if points.seq[i] < 0:
                continue
            key = (int(points.step[i]), int(points.seq[i]))
            for blob in blobs_of_point:
                part.append((key, blob))
                taken += len(blob.data or b"") + blob.row_bytes
            if taken >= _PAYLOAD_BYTES or len(part) >= 500:
                self._payload_part(tag, part)
                part, taken = [], 0
        if part:
            self._payload_part(tag, part)

    def _payload_part(self, tag: _Tag, part: Sequence[tuple[tuple[int, int], Blob]]) -> None:
        self.job.verifier.checked.payloads += len(part)
        keys = sorted({key for key, _ in part})
        rows = {(row[1], row[2], row[3]): row for row in stored.payloads_at(self.conn, tag.row.id, keys)}
        tables: dict[str, list[tuple[Any, ...]]] = {}
        for key, blob in part:
            place = _at(self._of(tag), *key)
            row = rows.pop((*key, blob.ordinal), None)
            if row is None:
                self.findings.add(place, f"payload {blob.ordinal}", f"{blob.kind} of {blob.length} bytes", None)
                continue
            self._payload(place, blob, row)
            for table, own in (blob.rows or {}).items():
                tables.setdefault(table, []).extend((*key, *values) for values in own)
        for (step, seq, ordinal), row in rows.items():
            self.findings.add(_at(self._of(tag), step, seq), f"payload {ordinal}", None, f"{row[4]} of {row[12]} bytes")
        for table, expected in tables.items():
            self._table(tag, table, expected, keys)

    def _payload(self, place: Place, blob: Blob, row: Sequence[Any]) -> None:
        expected = {
            "kind": blob.kind,
            "encoding": blob.encoding,
            "content_type": blob.content_type,
            "width": blob.width,
            "height": blob.height,
            "colorspace": blob.colorspace,
            "dtype": blob.dtype,
            "shape": None if blob.shape is None else json.dumps(blob.shape),
            "length": blob.length,
            "digest": blob.digest,
            "facts": json.dumps(blob.facts) if isinstance(blob.facts, dict) else blob.facts,
            "error": blob.error,
            "shard_id": None if blob.offset is None else self.shard.id,
            "offset": blob.offset,
        }
        found = dict(zip(blobs.COLUMNS, row, strict=True))
        # Another zlib may find that it pays, or not; with another max_blob_bytes it is in its file, or not.
        elsewhere = blob.encoding != found["encoding"]
        for what in _FACTS:
            if expected[what] != found[what] and not (elsewhere and what in _IN_FILE):
                self.findings.add(place, f"{blob.kind}: {what}", expected[what], found[what])
        if found["encoding"] in ("raw", "zlib"):
            try:
                data = bytes(found["data"] or b"")
                data = zlib.decompress(data) if found["encoding"] == "zlib" else data
            except zlib.error as e:
                self.findings.add(place, f"{blob.kind}: data", f"{blob.length} bytes", f"no deflated bytes ({e})")
                return
            if (len(data), hashlib.sha256(data).digest()) != (blob.length, blob.digest):
                said = f"{blob.length} bytes of digest {blob.digest.hex()}"
                self.findings.add(
                    place, f"{blob.kind}: data", said, f"{len(data)} of {hashlib.sha256(data).hexdigest()}"
                )

    def _table(
        self, tag: _Tag, table: str, expected: Sequence[tuple[Any, ...]], keys: Sequence[tuple[int, int]]
    ) -> None:
        """Compare the rows that a kind has of its payloads in a table of its own."""
        columns = _COLUMNS[table]
        wanted, found = (
            Counter(_plain(row) for row in rows)
            for rows in (expected, stored.rows_at(self.conn, table, columns, tag.row.id, keys))
        )
        for row in (wanted - found) | (found - wanted):
            named = zip(columns, row[2:], strict=True)
            said = ", ".join(f"{name} {value}" for name, value in named if value is not None)
            sides = (said, None) if wanted[row] else (None, said)
            self.findings.add(_at(self._of(tag), row[0], row[1]), table, *sides)


def _said(decoded: Decoded, shard: int) -> list[Said]:
    """Return what payloads say of their whole job, in file order."""
    return [
        Said(blob.kind, shard, blob.at, _number(decoded.wall_time[blob.point]), blob.facts)
        for blob in decoded.payloads
        if blob.says and isinstance(blob.facts, str)
    ]


def _stop(shard: stored.ShardRow) -> int:
    """Return how far a file was looked at. Damage that nothing good ended yet is seen only with the bytes behind it."""
    return shard.size if shard.lost_since is not None and shard.mtime_ns else shard.cursor


def _series(job: int, tag: stored.TagRow) -> Series:
    return Series(
        job,
        show(tag.plugin),
        show(tag.name),
        DataClass(tag.data_class),
        tag.metadata,
        tag.content,
        tag.display_name,
        tag.description,
    )


def _at(place: Place, step: int, seq: int) -> Place:
    return Place(place.job, place.file, place.plugin, place.tag, step, seq)


def _column(rows: Sequence[stored.Point], index: int, kind: type[Any]) -> npt.NDArray[Any]:
    return np.array([row[index] for row in rows], kind)  # None becomes NaN


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return what both sides agree on: NaN is NULL, zeros have no sign."""
    out: list[Any] = []
    for value in row:
        if isinstance(value, float):
            out.append(None if value != value else value + 0.0)
        elif isinstance(value, bytes | memoryview):
            out.append(_inflated(bytes(value)))
        else:
            out.append(value)
    return tuple(out)


def _inflated(data: bytes) -> bytes:
    """Return deflated bytes as they were: not every zlib makes the same of them."""
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data
