"""Bytes of many shards → columns of points, and the series they belong to.

The pure path is here; the compiled one (kernel.py) gives exactly the same and leaves to this one what it declines.
"""

from __future__ import annotations

import functools
import math
import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from indexer import fields
from indexer.decode import frames, kernel, mindspore, tensorboard
from indexer.decode.event import BadRecord, Event, Value
from indexer.types import (
    MAX_BLOB_BYTES,
    MAX_RECORD_BYTES,
    Blob,
    Damage,
    DataClass,
    Decoded,
    ExplainRecord,
    Format,
    Histograms,
    Series,
    SessionStart,
    ShardKind,
    Slice,
    Span,
)

if TYPE_CHECKING:
    from indexer.decode.payload import Collector

_DIALECTS = {Format.MINDSPORE: mindspore, Format.TENSORBOARD: tensorboard}


@dataclass(slots=True)
class Tags:
    """The series of one job."""

    numbers: dict[tuple[str, str], int] = field(default_factory=dict)  # (plugin, name) → number
    first: dict[str, int] = field(default_factory=dict)  # name → number of its first series


@dataclass(slots=True)
class Points:
    """Columns while they grow, in file order."""

    series: list[int] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    wall_time: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    not_number: list[bool] = field(default_factory=list)
    lengths: dict[int, int] = field(default_factory=dict)
    payloads: list[Blob] = field(default_factory=list)  # of those that are no numbers


class Decoder:
    """Decodes spans of many jobs. It keeps which series each job has, and nothing else.

    One thread at a time may use it.
    """

    def __init__(
        self, *, kernel: bool = True, max_record_bytes: int = MAX_RECORD_BYTES, max_blob_bytes: int = MAX_BLOB_BYTES
    ) -> None:
        self.series: list[Series] = []
        self.max_record_bytes = max_record_bytes
        self.max_blob_bytes = max_blob_bytes
        self._wants_kernel = kernel
        self._kernel: _Fast | None = None
        self._compiling: threading.Thread | None = None
        self._least_bytes = _LEAST_BYTES
        self._jobs: dict[int, Tags] = {}

    @functools.cached_property
    def collector(self) -> Collector:
        """What makes blobs of values; made when the first is met, for the imports cost every start."""
        from indexer.decode.payload import Collector

        return Collector(self.max_blob_bytes)

    def number(self, job: int, plugin: str, name: str) -> int | None:
        """Return the number of a series; None where it was never seen."""
        tags = self._jobs.get(job)
        return None if tags is None else tags.numbers.get((plugin, name))

    def prime(self, job: int, known: Iterable[Series]) -> list[int]:
        """Take over the series a job has in the database, in the order they were first seen; return their numbers.

        So "a value without metadata belongs to its tag's first plugin" survives a restart.
        """
        tags = self.tags(job)
        return [self.add(tags, series) for series in known]

    def forget(self, jobs: Iterable[int]) -> None:
        """Drop the series of jobs. Their numbers are not used again."""
        gone = {job: tags for job in jobs if (tags := self._jobs.pop(job, None)) is not None}
        for tags in gone.values():
            for number in tags.numbers.values():
                self.series[number] = _FORGOTTEN
        if self._kernel is not None and gone:
            self._kernel.walker.forget(list(gone))

    def clear(self) -> None:
        """Forget all jobs, and begin to count again; nothing that was decoded may be in use."""
        self.series.clear()
        self._jobs.clear()
        if self._kernel is not None:
            self._kernel = _Fast(self, self._kernel.walker.fresh())

    def decode(self, buffer: frames.Buffer, spans: Sequence[Span]) -> Decoded:
        """Decode `buffer[span.start:span.stop]` of each span; never raises because of what they hold."""
        view = memoryview(buffer)
        fast = self._fast(sum(span.stop - span.start for span in spans))
        if fast is not None:
            return fast.decode(view, spans)
        points = Points()
        slices = []
        for span in spans:
            slices.append(begin(span, len(points.step)))
            self.span(view, span, slices[-1], points)
        return _decoded(points, slices)

    def graph(self, job: int, name: str, content: bytes, wall_time: float) -> tuple[Decoded, str | None]:
        """Return the point that a whole graph file is, and why it is no graph; None: it is one."""
        points = Points()
        self._add(job, Format.MINDSPORE, mindspore.read_model(content, name, wall_time), points, content, 0)
        errors = [blob.error for blob in points.payloads if blob.error and not blob.error.startswith(fields.MORE)]
        return _decoded(points, []), errors[0] if errors else None

    def _fast(self, size: int) -> _Fast | None:
        """Return the compiled path, where it pays for `size` bytes."""
        if (
            self._wants_kernel
            and self._kernel is None
            and size >= (self._least_bytes if kernel.ready() else _MANY_BYTES)
        ):
            if size < _WAITING_BYTES and not kernel.compiled():
                self._compiling = self._compiling or kernel.warm(compile_only=True)
                return None
            function = kernel.load()
            self._wants_kernel = function is not None
            if function is not None:
                self._kernel = _Fast(self, kernel.Walker(function, self.max_record_bytes, self.max_blob_bytes))
        return self._kernel if size >= self._least_bytes else None

    def span(self, view: memoryview, span: Span, slice_: Slice, points: Points) -> None:
        """Add what a span holds to `points` and `slice_`."""
        base = span.offset - span.start
        found = frames.split(
            view,
            span.start,
            stop=span.stop,
            base=base,
            lost_since=span.lost_since,
            lost_reason=span.lost_reason,
            limit=self.max_record_bytes,
        )
        slice_.damages.extend(found.damages)
        for record in found.records:
            self.record(span, slice_, record.payload, base + record.offset, points)
        finish(slice_, found, base, len(points.step))

    def record(self, span: Span, slice_: Slice, payload: bytes | memoryview, offset: int, points: Points) -> None:
        """Add what one record says to `points` and `slice_`; its first byte is byte `offset` of the file."""
        if slice_.format is None:
            slice_.format = announced(payload)
        try:
            event = _reader(span.kind, slice_.format)(payload, span.name)
        except BadRecord as bad:
            slice_.damages.append(Damage(offset, frames.FRAME_BYTES + len(payload), str(bad)))
            return
        if event.session_start:
            slice_.starts.append(SessionStart(len(points.step), event.step, offset, slice_.records))
        slice_.records += 1
        see(slice_, event.wall_time)
        if event.values and span.kind in (ShardKind.SUMMARY, ShardKind.LINEAGE):
            self._add(span.job, slice_.format, event, points, payload, offset + frames.HEADER_BYTES)
        if event.explains and span.kind is ShardKind.EXPLAIN:
            kept = bytes(payload) if len(payload) <= self.max_blob_bytes else None
            slice_.explained.append(ExplainRecord(offset, len(payload), event.wall_time, event.step, kept))

    def _add(
        self, job: int, format_: Format, event: Event, points: Points, payload: bytes | memoryview, offset: int
    ) -> None:
        tags, dialect = self.tags(job), _DIALECTS[format_]
        for value in event.values:
            index = self.resolve(job, tags, dialect, value)
            series = self.series[index]
            number: float | None = dialect.number(series, value)
            points.series.append(index)
            points.step.append(event.step)
            points.wall_time.append(event.wall_time)
            points.value.append(math.nan if number is None else number)
            points.not_number.append(number is None)
            if number is None:
                point, differs = len(points.step) - 1, dialect.differs(series, value)
                self.collector.collect(
                    points.payloads, point, series.plugin, value, format_, payload, offset, differs=differs
                )
            if series.data_class is DataClass.BLOB_SEQUENCE:
                length: int = dialect.length(series, value)
                if length > points.lengths.get(index, 0):
                    points.lengths[index] = length

    def resolve(self, job: int, tags: Tags, dialect: ModuleType, value: Value) -> int:
        """Return the number of the series a value belongs to; a new one where there is none.

        What names a plugin belongs to (plugin, name); what names none to the first series of its name.
        """
        named = value.plugin
        known = tags.numbers.get((named, value.name)) if named else tags.first.get(value.name)
        if known is not None:
            return known
        return self.add(tags, dialect.describe(job, value.plugin or dialect.stands_for(value), value))

    def tags(self, job: int) -> Tags:
        """Return the series of a job, which may be none yet."""
        tags = self._jobs.get(job)
        if tags is None:
            tags = self._jobs[job] = Tags()
        return tags

    def add(self, tags: Tags, series: Series) -> int:
        """Return the number of `series`, a new one where it is new."""
        number = tags.numbers.setdefault((series.plugin, series.name), len(self.series))
        if number == len(self.series):
            self.series.append(series)
            tags.first.setdefault(series.name, number)
        return number


class _Fast:
    """The compiled path of a decoder: the kernel takes what is plain, the decoder the rest, in the same order."""

    def __init__(self, decoder: Decoder, walker: kernel.Walker) -> None:
        self.walker = walker
        self._decoder = decoder
        self._series = array("i")  # number of each key
        self._holds = array("b")  # of each key: _NUMBERS, or what else its values are
        self._all_numeric = True
        self._alike: dict[tuple[int, bytes, bytes | None], Series] = {}  # what began a series of another job

    def decode(self, view: memoryview, spans: Sequence[Span]) -> Decoded:
        """Decode as the pure path does."""
        rows = np.array([_row(span) for span in spans], dtype=np.int64).reshape(-1, kernel.SPAN_WIDTH)
        clocks = np.full(len(spans), math.inf)
        slices = [begin(span, 0) for span in spans]
        points = Points()  # of records that are not plain
        plain_before: list[int] = []  # of each of these: how many plain points
        extra = [0] * len(spans)  # how many of these a span has
        for events in self.walker.walk(view, rows, clocks):
            first_key = len(self._series)
            keys = self.walker.keys_from(first_key)
            for kind, index, a, b, before, last in events:
                if kind == kernel.NEW_KEY:
                    self._learn(*keys[a - first_key], view[b:last].tobytes() if b >= 0 else None)
                    continue
                count, starts = len(points.step), len(slices[index].starts)
                self._note(view, spans[index], slices[index], kind, a, b, last, points)
                count = len(points.step) - count
                extra[index] += count
                plain_before.extend([before] * count)
                for i in range(starts, len(slices[index].starts)):
                    start = slices[index].starts[i]
                    slices[index].starts[i] = replace(start, point=start.point + before)
        first = shift = 0
        for slice_, more, last, records, clock in zip(
            slices, extra, rows[:, 6].tolist(), rows[:, 5].tolist(), clocks.tolist(), strict=True
        ):
            slice_.first = first
            shift += more
            slice_.last = first = last + shift
            slice_.records += records
            see(slice_, clock)
        return self._merged(points, plain_before, slices)

    def _learn(self, job: int, style: int, tag: bytes, metadata: bytes | None) -> None:
        """Find, or make, the series of the next new key."""
        decoder = self._decoder
        tags = decoder.tags(job)
        like = self._alike.get((style, tag, metadata))  # runs of a sweep have the same tags
        if like is not None and like.name not in tags.first:
            number = decoder.add(tags, like.of(job))
        else:
            name = tag.decode()
            first = name not in tags.first
            if style in _MINDSPORE_FIELDS:
                number = decoder.resolve(job, tags, mindspore, mindspore.plain(name, _MINDSPORE_FIELDS[style]))
            else:
                number = decoder.resolve(job, tags, tensorboard, tensorboard.plain(name, _FIELDS[style], metadata))
            if first and len(self._alike) < _ALIKE:
                self._alike[style, tag, metadata] = decoder.series[number]
        self._series.append(number)
        holds = _NUMBERS
        if style in _HISTOGRAM_STYLES:
            holds = _HISTOGRAMS
        elif style in _BARE and not tensorboard.holds_numbers(decoder.series[number]):
            holds = _BARE[style]
        self._holds.append(holds)
        self._all_numeric = self._all_numeric and holds == _NUMBERS

    def _note(
        self, view: memoryview, span: Span, slice_: Slice, kind: int, a: int, b: int, records: int, points: Points
    ) -> None:
        """Do what the kernel left: a record, a damage, or all of a span from some byte on."""
        base = span.offset - span.start
        if kind in (kernel.RECORD, kernel.REST, kernel.WHOLE):
            slice_.records += records  # session starts tell how many records came before them
            if kind == kernel.RECORD:
                self._decoder.record(span, slice_, frames.payload(view, a, b), base + a, points)
            elif kind == kernel.REST and not b:
                rest = replace(span, start=a, offset=base + a, lost_since=None, lost_reason=None)
                self._decoder.span(view, rest, slice_, points)
            else:
                self._decoder.span(view, span, slice_, points)
            slice_.records -= records
        elif kind == kernel.BAD_PAYLOAD:
            slice_.damages.append(frames.payload_damage(view, a, b, base))
        elif a < 0 and span.lost_since is not None:
            since, reason = span.lost_since, span.lost_reason or frames.UNKNOWN_LOSS
            slice_.damages.append(Damage(since, base + b - since, reason))
        else:
            slice_.damages.append(Damage(base + a, b - a, frames.header_fault(view, a) or frames.UNKNOWN_LOSS))

    def _merged(self, points: Points, plain_before: list[int], slices: list[Slice]) -> Decoded:
        """Return the plain points and the others in file order."""
        key = self.walker.key
        series = np.frombuffer(self._series, np.int32)[key] if len(self._series) else np.empty(0, np.int32)
        step, wall_time, value = self.walker.step, self.walker.wall_time, self.walker.value
        not_numbers = np.zeros(len(key), dtype=np.bool_)
        payloads: list[Blob] = []  # of plain points in series that are none of numbers
        if not self._all_numeric:
            holds = np.frombuffer(self._holds, np.int8)[key]
            not_numbers = holds != _NUMBERS
            for i in np.flatnonzero(not_numbers & (holds != _HISTOGRAMS)).tolist():
                plugin, double = self._decoder.series[series[i]].plugin, bool(holds[i] == _DOUBLE)
                self._decoder.collector.number(payloads, i, plugin, float(value[i]), double=double)
            value[not_numbers] = np.nan
        histograms = _columns(self.walker) if len(self.walker.histograms) else None
        if not plain_before:
            return _normal(
                Decoded(series, step, wall_time, value, slices, points.lengths, not_numbers, payloads, histograms)
            )
        other = np.array(plain_before) + np.arange(len(plain_before))
        plain = np.ones(len(key) + len(other), dtype=np.bool_)
        plain[other] = False
        moved = np.flatnonzero(plain) if payloads or histograms is not None else other
        for blob in payloads:
            blob.point = int(moved[blob.point])
        if histograms is not None:
            histograms.point = moved[histograms.point]
        for blob in points.payloads:
            blob.point = int(other[blob.point])
        payloads = sorted([*payloads, *points.payloads], key=lambda blob: (blob.point, blob.ordinal))

        def mix(mine: npt.NDArray[Any], others: list[Any]) -> npt.NDArray[Any]:
            mixed = np.empty(len(plain), dtype=mine.dtype)
            mixed[plain] = mine
            mixed[other] = others
            return mixed

        return _normal(
            Decoded(
                mix(series, points.series),
                mix(step, points.step),
                mix(wall_time, points.wall_time),
                mix(value, points.value),
                slices,
                points.lengths,
                mix(not_numbers, points.not_number),
                payloads,
                histograms,
            )
        )


def _columns(walker: kernel.Walker) -> Histograms:
    """Return the histograms that the kernel read."""
    found, statistics = walker.histograms, walker.statistics
    flags = found[:, 3]
    return Histograms(
        point=found[:, 0],
        first=found[:, 1],
        buckets=found[:, 2],
        widths=flags & kernel.FLAG_WIDTHS != 0,
        statistics=statistics[:, :7],
        last_limit=statistics[:, 7],
        outside=found[:, 4:],
        counted=flags[:, None] // kernel.FLAG_COUNTED >> np.arange(3) & 1 != 0,
        numbers=walker.numbers,
    )


# What the values of a key are.
_NUMBERS, _FLOAT, _DOUBLE, _HISTOGRAMS = range(4)  # _FLOAT, _DOUBLE: tensors of one, in a series of none
_BARE = {kernel.STYLE_BARE: _FLOAT, kernel.STYLE_BARE_DOUBLE: _DOUBLE}
_HISTOGRAM_STYLES = frozenset({kernel.STYLE_HISTO, kernel.STYLE_GRID, kernel.STYLE_BUCKETS})
_MINDSPORE_FIELDS = {kernel.STYLE_MINDSPORE: "scalar_value", kernel.STYLE_BUCKETS: "histogram"}
_FIELDS = {
    kernel.STYLE_SIMPLE: "simple_value",
    kernel.STYLE_NAMED: "tensor",
    kernel.STYLE_BARE: "tensor",
    kernel.STYLE_BARE_DOUBLE: "tensor",
    kernel.STYLE_HISTO: "histo",
    kernel.STYLE_GRID: "tensor",
}
_ALIKE = 10_000  # beginnings of series that are remembered
_FORGOTTEN = Series(-1, "", "", DataClass.UNKNOWN)
_LEAST_BYTES = 8 * 1024  # fewer are decoded before the kernel is called
_MANY_BYTES = 256 * 1024  # fewer are decoded before the kernel is loaded
_WAITING_BYTES = 8 * 2**20  # fewer are decoded before it is compiled: that takes seconds, once on a machine


def begin(span: Span, first: int) -> Slice:
    """Return the slice of a span of records that are all good, before any is read; its points begin at `first`."""
    format_ = Format.MINDSPORE if span.kind in (ShardKind.LINEAGE, ShardKind.EXPLAIN) else span.format
    end = span.offset + span.stop - span.start
    return Slice(first, first, end, 0, False, 0, [], None, None, None, format_, [])


def finish(slice_: Slice, found: frames.Frames, base: int, last: int) -> None:
    """Say where reading ended; the points of the slice end at `last`."""
    slice_.last = last
    slice_.end = base + found.end
    slice_.need = found.need
    slice_.oversize = found.oversize
    slice_.lost_since = found.lost_since
    slice_.lost_reason = found.lost_reason
    slice_.damages.sort(key=lambda damage: damage.offset)


def see(slice_: Slice, wall_time: float) -> None:
    """Keep the smallest finite clock of a slice."""
    if math.isfinite(wall_time) and (slice_.start_time is None or wall_time < slice_.start_time):
        slice_.start_time = wall_time


def announced(payload: bytes | memoryview) -> Format:
    """Return the dialect that a file's first good record announces. TensorBoard's where it announces none."""
    return Format.MINDSPORE if tensorboard.version(payload).startswith("MindSpore") else Format.TENSORBOARD


def _reader(kind: ShardKind, format_: Format) -> Callable[[bytes | memoryview, str], Event]:
    if kind is ShardKind.LINEAGE:
        return mindspore.read_lineage
    read: Callable[[bytes | memoryview, str], Event] = _DIALECTS[format_].read
    return read


def _decoded(points: Points, slices: list[Slice]) -> Decoded:
    return _normal(
        Decoded(
            np.array(points.series, dtype=np.int32),
            np.array(points.step, dtype=np.int64),
            np.array(points.wall_time, dtype=np.float64),
            np.array(points.value, dtype=np.float64),
            slices,
            points.lengths,
            np.array(points.not_number, dtype=np.bool_),
            points.payloads,
        )
    )


def _normal(decoded: Decoded) -> Decoded:
    """Make every NaN the same one, whatever bits a file holds."""
    for column in (decoded.wall_time, decoded.value):
        column[np.isnan(column)] = np.nan
    return decoded


def _row(span: Span) -> tuple[int, ...]:
    """Return `span` as the kernel takes it."""
    if span.kind is not ShardKind.SUMMARY or span.format is None:
        mode = kernel.REFERENCE
    else:
        mode = kernel.MINDSPORE if span.format is Format.MINDSPORE else kernel.TENSORBOARD
    return (span.job, span.start, span.stop, mode, int(span.lost_since is not None), 0, 0)
