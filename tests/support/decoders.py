"""Both decode paths for one table of cases, and a caller that reads a growing file."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from indexer.decode import kernel
from indexer.decode.kernel import Walker
from indexer.decode.reader import Decoder, _Fast
from indexer.plugins import histogram
from indexer.types import MAX_RECORD_BYTES, Blob, Damage, Decoded, Format, ShardKind, Slice, Span

Path = Literal["pure", "kernel", "kernel without CRC instruction"]
PATHS: list[Path] = ["pure", "kernel", "kernel without CRC instruction"]

Point = tuple[str, str, int, str, str, bool]
"""Plugin, tag, step, wall_time and value (as hex, so that NaN equals NaN), whether the value is no number."""


def decoder(path: Path, max_record_bytes: int = MAX_RECORD_BYTES) -> Decoder:
    """Return a decoder that takes `path` however few the bytes are."""
    made = Decoder(kernel=False, max_record_bytes=max_record_bytes)
    if path == "pure":
        return made
    function = kernel.load()
    assert function is not None, "numba is installed for tests, so there is a kernel"
    walker = Walker(function, max_record_bytes)
    if path == "kernel without CRC instruction":
        walker._state[1] = 0
    made._kernel, made._least_bytes = _Fast(made, walker), 0
    return made


def span(content: bytes, format_: Format | None, *, kind: ShardKind = ShardKind.SUMMARY, job: int = 1) -> Span:
    """Return the span of a whole file."""
    return Span(job, kind, format_, 0, len(content), 0, name="a file")


def points_of(made: Decoder, decoded: Decoded, first: int = 0, last: int | None = None) -> list[Point]:
    """Return points in readable form."""
    last = len(decoded.step) if last is None else last
    return [
        (
            made.series[decoded.series[i]].plugin,
            made.series[decoded.series[i]].name,
            int(decoded.step[i]),
            float(decoded.wall_time[i]).hex(),
            float(decoded.value[i]).hex(),
            bool(decoded.not_numbers[i]),
        )
        for i in range(first, last)
    ]


def payloads_of(decoded: Decoded) -> list[Blob]:
    """Return all payloads as blobs, in the order of their points, whichever form a path gives them."""
    many = [] if decoded.histograms is None else histogram.blobs_of(decoded.histograms)
    return sorted([*decoded.payloads, *many], key=lambda blob: (blob.point, blob.ordinal))


class Tail:
    """Reads one file as it grows: from where the last read ended to the end there is."""

    def __init__(self, made: Decoder, format_: Format | None, job: int = 1) -> None:
        self.decoder = made
        self.job = job
        self.format = format_
        self.offset = 0
        self.records = 0
        self.points: list[Point] = []
        self.damages: list[Damage] = []
        self.starts: list[tuple[int, int, int, int]] = []  # points before it, step, offset, records before it
        self.payloads: list[Blob] = []  # with the numbers of their points
        self.lengths: dict[str, int] = {}
        self.start_time: float | None = None
        self.last: Slice | None = None

    def read(self, content: bytes) -> None:
        """Read on in a file that holds `content` now."""
        before = self.last
        piece = b"?" * 3 + content[self.offset :] + b"?" * 5  # a span need not be the whole buffer
        wanted = Span(
            self.job,
            ShardKind.SUMMARY,
            self.format,
            3,
            len(piece) - 5,
            self.offset,
            lost_since=before.lost_since if before else None,
            lost_reason=before.lost_reason if before else None,
            name="a file",
        )
        decoded = self.decoder.decode(piece, [wanted])
        (found,) = decoded.slices
        starts = [
            (len(self.points) + start.point - found.first, start.step, start.offset, self.records + start.records)
            for start in found.starts
        ]
        self.starts.extend(starts)
        shift = len(self.points) - found.first
        self.payloads.extend(replace(blob, point=blob.point + shift) for blob in payloads_of(decoded))
        self.points.extend(points_of(self.decoder, decoded, found.first, found.last))
        self.damages.extend(found.damages)
        self.records += found.records
        for number, length in decoded.lengths.items():
            name = self.decoder.series[number].name
            self.lengths[name] = max(length, self.lengths.get(name, 0))
        if found.start_time is not None:
            self.start_time = found.start_time if self.start_time is None else min(self.start_time, found.start_time)
        self.offset, self.format, self.last = found.end, found.format, found

    def facts(self) -> tuple[object, ...]:
        """Return everything that must not depend on how the bytes arrived."""
        last = self.last
        assert last is not None
        rest = (last.end, last.need, last.oversize, last.lost_since, last.lost_reason, last.format)
        series = [s for s in self.decoder.series if s.job == self.job]
        return (
            series,
            self.points,
            self.payloads,
            self.damages,
            self.starts,
            self.lengths,
            self.records,
            self.start_time,
            rest,
        )
