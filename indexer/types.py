"""Words of the field as types: ids, states, and the values that decode hands to ingest."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:  # the web and the command line use these words too, and numpy costs them 0.1 s to import
    import numpy as np
    import numpy.typing as npt

RootId = NewType("RootId", int)
JobId = NewType("JobId", int)
ShardId = NewType("ShardId", int)
TagId = NewType("TagId", int)

MAX_PROTOBUF_BYTES = 2**31 - 1
"""No protobuf message is longer, so a longer length in a file is damage. Unit: bytes."""

MAX_RECORD_BYTES = 500_000_000
"""Default of `max_record_bytes`: a longer record is skipped and reported. Unit: bytes."""

MAX_BLOB_BYTES = 64 * 2**20
"""Default of `max_blob_bytes`: a longer payload stays in its file and the database refers to it. Unit: bytes."""


class CacheStatus(StrEnum):
    """How far a job is loaded, in MindInsight's words (DESIGN §3)."""

    NOT_IN_CACHE = "NOT_IN_CACHE"  # not, or not wholly, read and nobody reading
    CACHING = "CACHING"  # a pass is loading it
    CACHED = "CACHED"  # every shard is read as far as it can be

    def may_become(self, other: CacheStatus) -> bool:
        """Tell whether `other` may follow.

        NOT_IN_CACHE → CACHED does not exist: whoever loads a job says so first. Staying is always allowed.
        """
        return other is self or other in _FOLLOWS[self]


_FOLLOWS: dict[CacheStatus, frozenset[CacheStatus]] = {
    CacheStatus.NOT_IN_CACHE: frozenset({CacheStatus.CACHING}),
    CacheStatus.CACHING: frozenset({CacheStatus.CACHED, CacheStatus.NOT_IN_CACHE}),
    CacheStatus.CACHED: frozenset({CacheStatus.CACHING, CacheStatus.NOT_IN_CACHE}),
}


class ShardState(StrEnum):
    """What is known of one file."""

    GROWING = "growing"  # read to its end, may grow
    TORN = "torn"  # ends inside a record: waiting for the rest
    DONE = "done"  # read to its end and long quiet
    DEAD = "dead"  # nothing in it ever checked; not read again until it changes
    REPLACED = "replaced"  # another file took its name
    MISSING = "missing"  # gone from disk; its points stay


class ShardKind(StrEnum):
    """What a file's name promises."""

    SUMMARY = "summary"
    LINEAGE = "lineage"
    EXPLAIN = "explain"
    GRAPH = "graph"


class Format(StrEnum):
    """Which writer's protobuf messages a file holds."""

    MINDSPORE = "mindspore"
    TENSORBOARD = "tensorboard"


class RestartCause(StrEnum):
    """Why a tag went back to an earlier step; the first that holds, in this order."""

    SESSION_START = "session_start"
    NEW_FILE = "new_file"
    SAME_FILE = "same_file"


class DataClass(StrEnum):
    """How a series is read (TensorBoard's data classes)."""

    UNKNOWN = "unknown"
    SCALAR = "scalar"
    TENSOR = "tensor"
    BLOB_SEQUENCE = "blob_sequence"


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a shard that are wrong and were passed over."""

    offset: int  # bytes, in the file
    length: int  # bytes
    reason: str


@dataclass(frozen=True, slots=True)
class SessionStart:
    """A SessionLog START: training began again at `step`, whatever was written at or above it is superseded."""

    point: int  # it lies before this index of the columns
    step: int
    offset: int  # bytes, of its record in the file
    records: int  # good records of the same slice before it


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of one shard to decode: `buffer[start:stop]` holds the file's bytes from `offset` on."""

    job: int  # tells jobs apart in this process
    kind: ShardKind
    format: Format | None  # None where the name fits both: the version record decides
    start: int
    stop: int
    offset: int  # bytes, in the file
    lost_since: int | None = None  # file offset where damage began that nothing good ended yet
    lost_reason: str | None = None  # as the slice before said it; None: nobody knows any more
    name: str = ""  # of the file: an embedded MindSpore graph is called so


@dataclass(frozen=True, slots=True)
class ExplainRecord:
    """A record of an explain file that explains something: no point, it goes into tables of its own."""

    offset: int  # bytes, in the file
    length: int  # bytes, of its payload
    wall_time: float  # seconds, may be NaN
    step: int
    data: bytes | None  # payload as written; None: longer than `max_blob_bytes`, it stays in its file


@dataclass(slots=True)
class Slice:
    """What a span held."""

    first: int  # its points are columns[first:last], in file order
    last: int
    end: int  # file offset: everything before it is decided, the next read starts here
    need: int  # bytes from `end` on that complete the record there; 0: the span ended on a record's border
    oversize: bool  # the record at `end` is longer than max_record_bytes: skip `need` bytes once they are all there
    records: int  # good ones
    damages: list[Damage]
    lost_since: int | None  # damage that is still open at `end`; it is not in `damages` yet
    lost_reason: str | None
    start_time: float | None  # smallest finite wall_time of any event, seconds
    format: Format | None  # None where the span did not say and no record came yet that decides it
    starts: list[SessionStart]
    explained: list[ExplainRecord] = field(default_factory=list)


@dataclass(slots=True)
class Series:
    """A series as its first value describes it."""

    job: int
    plugin: str
    name: str  # as in the file
    data_class: DataClass
    metadata: bytes | None = None  # SummaryMetadata as written
    content: bytes | None = None
    display_name: str | None = None
    description: str | None = None

    def of(self, job: int) -> Series:
        """Return the same series of another job."""
        return Series(
            job,
            self.plugin,
            self.name,
            self.data_class,
            self.metadata,
            self.content,
            self.display_name,
            self.description,
        )


@dataclass(slots=True)
class Histograms:
    """Histograms as columns, shape (n,), in the order of their points: no object for each. NaN stands for none."""

    point: npt.NDArray[np.int64]  # index into the columns they came with
    first: npt.NDArray[np.int64]  # of its buckets in `numbers`
    buckets: npt.NDArray[np.int64]  # how many, at least one
    widths: npt.NDArray[np.bool_]  # the second number of a bucket is its width, else its right edge
    statistics: npt.NDArray[np.float64]  # (n, 7): count, min, max, sum, sum_squares, mean, stddev
    last_limit: npt.NDArray[np.float64]  # right edge of the last bucket as written, where that is not the maximum
    outside: npt.NDArray[np.int64]  # (n, 3): NaN, +infinity and -infinity counted
    counted: npt.NDArray[np.bool_]  # (n, 3): whether the writer did
    numbers: npt.NDArray[np.float64]  # of all: left, second, count of each bucket

    def __len__(self) -> int:
        return len(self.point)

    def between(self, first: int, last: int) -> Histograms:
        """Return those of points first to last, not copied."""
        start, stop = self.point.searchsorted([first, last]).tolist()
        return self if (start, stop) == (0, len(self)) else self.part(start, stop)

    def part(self, start: int, stop: int) -> Histograms:
        """Return histograms start to stop, not copied."""
        part = slice(start, stop)
        return Histograms(
            self.point[part],
            self.first[part],
            self.buckets[part],
            self.widths[part],
            self.statistics[part],
            self.last_limit[part],
            self.outside[part],
            self.counted[part],
            self.numbers,
        )


@dataclass(slots=True)
class Decoded:
    """Columns of points, shape (n,), in the order of the spans and within a span in file order."""

    series: npt.NDArray[np.int32]  # number: index into Decoder.series
    step: npt.NDArray[np.int64]
    wall_time: npt.NDArray[np.float64]  # seconds, may hold NaN
    value: npt.NDArray[np.float64]  # NaN also where the point is no number
    slices: list[Slice]  # one a span
    lengths: dict[int, int]  # series number → longest blob sequence seen
    not_numbers: npt.NDArray[np.bool_]  # True where `value` is NaN because the point is no number
    payloads: list[Blob] = field(default_factory=list)  # of points that are no numbers, in the order of the points
    histograms: Histograms | None = None  # those that the compiled path read; they are not among `payloads`


@dataclass(slots=True)
class Rows:
    """Rows of tensor_points, shape (n,), sorted by (tag_id, step, seq), no two alike. NaN is stored as NULL."""

    tag_id: npt.NDArray[np.int32]
    step: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int32]
    wall_time: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.tag_id)


@dataclass(slots=True)
class Blob:
    """One payload of a point that is no number: a row of `blobs`. What a kind leaves out is none of its business."""

    kind: str  # Kind.name
    data: bytes | None  # None: it stays in its file
    content_type: str = "application/octet-stream"
    width: int | None = None  # pixels
    height: int | None = None
    colorspace: int | None = None
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    facts: dict[str, Any] | str | None = None  # of its kind, for JSON; text: they are JSON
    says: bool = False  # its facts say something of the whole job, which is kept in tables of their own
    at: int = 0  # where its record begins in the file, of one that says something
    error: str | None = None  # why it could not be decoded; then `data` is what the file holds
    packs: bool = False  # compressing it may pay
    rows: dict[str, list[tuple[Any, ...]]] | None = None  # of the kind's own tables, without the point's key
    row_bytes: int = 0  # what `rows` take in memory, where that is much
    ordinal: int = 0  # within its point
    point: int = 0  # index into the columns it came with
    encoding: str = "raw"  # of `data`: raw, zlib; ref: none, it is in the file
    length: int = 0  # bytes, decoded
    digest: bytes = b""  # SHA-256 of the decoded bytes
    offset: int | None = None  # in the file, of a ref
