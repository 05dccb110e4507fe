"""However bytes arrive, and whichever path decodes them, the result is the same."""

from __future__ import annotations

import itertools
import struct

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from indexer.types import Blob, Decoded, Format, ShardKind, Span
from tests.support import records
from tests.support.decoders import PATHS, Tail, decoder, payloads_of
from tests.support.records import bytes_field, double_field, float_field, frame, varint, varint_field

NAMES = st.sampled_from([b"loss", b"lr", b"a/b", b"", b"nul\0", "λ/📈".encode(), b"x" * 40, b"\xff", b"\xed\xa0\x80"])
PLUGINS = st.sampled_from([b"scalars", b"scalar", b"text", b"images", b"", b"\xff", b"audio"])
STEPS = st.one_of(st.integers(0, 5), st.integers(-(2**63), 2**63 - 1))
CLOCKS = st.sampled_from([1.7e9, 1.7e9 + 0.25, 0.0, -1.5, float("nan"), float("inf"), float("-inf")])
FLOATS = st.floats(width=32)


def _raw(number: int, wire_type: int, content: bytes) -> bytes:
    """Return a field of any wire type, whatever its type should be."""
    head = varint(number << 3 | wire_type)
    match wire_type:
        case 0:
            return head + varint(int.from_bytes(content[:8], "little"))
        case 1:
            return head + content[:8].ljust(8, b"\x01")
        case 5:
            return head + content[:4].ljust(4, b"\x01")
        case 2:
            return head + varint(len(content)) + content
    return head


ODD_FIELDS = st.builds(_raw, st.integers(1, 20), st.sampled_from([0, 1, 2, 2, 5, 3, 4]), st.binary(max_size=12))
LONG_VARINTS = st.sampled_from(
    [b"\x10\x85\x80\x00", *(b"\x10" + b"\xff" * n + end for n in (9, 10) for end in (b"\x01", b"\x7f"))]
)


def _joined(parts: st.SearchStrategy[bytes], most: int) -> st.SearchStrategy[bytes]:
    return st.lists(parts, max_size=most).map(b"".join)


def _mixed(usual: list[st.SearchStrategy[bytes]], odd: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return the usual fields in their order, or any of them in any order, with odd ones among them."""
    in_order = st.tuples(*usual).map(b"".join)
    return st.one_of(in_order, in_order, _joined(st.one_of(*usual, odd), 5))


TENSORS = _mixed(
    [
        st.sampled_from([1, 1, 2, 3, 9, 14, 19, 7]).map(lambda dtype: varint_field(1, dtype)),
        st.sampled_from([b"", bytes_field(2, b""), bytes_field(2, bytes_field(2, varint_field(1, 1)))]),
        st.one_of(
            FLOATS.map(lambda v: bytes_field(5, struct.pack("<f", v))),
            FLOATS.map(lambda v: bytes_field(4, struct.pack("<f", v))),
            st.floats().map(lambda v: bytes_field(6, struct.pack("<d", v))),
            st.floats().map(lambda v: bytes_field(4, struct.pack("<d", v))),
            st.integers(0, 200).map(lambda v: bytes_field(7, varint(v))),
            st.binary(max_size=5).map(lambda v: bytes_field(8, v)),
            st.just(b""),
        ),
    ],
    ODD_FIELDS,
)
METADATA = _mixed(
    [
        st.one_of(st.sampled_from([b"scalars", b"scalars", b"histograms"]), PLUGINS).map(
            lambda plugin: bytes_field(1, bytes_field(1, plugin))
        ),
        st.sampled_from([b"", bytes_field(2, b"name"), bytes_field(3, b"text"), bytes_field(3, b"\xc3\xa4\xc3\xb6"),
                         bytes_field(2, b"long enough to loop") + bytes_field(3, b"\xff")]),
        st.sampled_from([b"", varint_field(4, 1), varint_field(4, 3), varint_field(4, 9)]),
    ],
    ODD_FIELDS,
)  # fmt: skip
EDGES = st.one_of(*[st.sampled_from([-1.5, -0.0, 0.0, 0.1, 2.0, 1e308])] * 3, st.floats())
COUNTS = st.one_of(*[st.sampled_from([0.0, 1.0, 2.5, 7.0])] * 3, st.floats())
HOW_MANY = st.sampled_from([*[0, 1, 2, 3, 300] * 5, 2**53, 2**53 + 1, 2**63, 2**64 - 1])  # the last are negative


def _doubles(numbers: list[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def _given(number: int, values: st.SearchStrategy[float]) -> st.SearchStrategy[bytes]:
    return st.one_of(st.just(b""), *[values.map(lambda value: double_field(number, value))] * 3)


def _histo(rows: list[tuple[float, float]], more: int) -> bytes:
    """Return limits and counts; `more`: of one of them there is one too many, or a byte."""
    limits, counts = _doubles([limit for limit, _ in rows]), _doubles([count for _, count in rows])
    return bytes_field(6, limits + bytes(max(0, more))) + bytes_field(7, counts + bytes(max(0, -more)))


ROWS = st.lists(st.tuples(EDGES, COUNTS), max_size=4)
HISTOS = _mixed(
    [
        _given(1, EDGES), _given(2, EDGES), _given(3, COUNTS), _given(4, EDGES), _given(5, COUNTS),
        st.builds(_histo, ROWS, st.sampled_from([0] * 6 + [8, -8, 3])),
    ],
    ODD_FIELDS,
)  # fmt: skip
DIMENSIONS = st.lists(st.sampled_from([0, 1, 2, 3, 3, 3, 200]), max_size=3)
GRIDS = st.builds(
    lambda dtype, sizes, more, rows, field, odd: b"".join(
        [
            varint_field(1, dtype),
            bytes_field(2, b"".join(bytes_field(2, varint_field(1, size)) for size in [*sizes, *more])),
            bytes_field(field, _doubles([number for row in rows for number in row])),
            odd,
        ]
    ),
    st.sampled_from([2, 2, 2, 1]),
    st.one_of(st.just([2, 3]), st.just([2, 3]), DIMENSIONS),
    st.sampled_from([[], [], [], [1]]),
    st.one_of(*[st.lists(st.tuples(EDGES, EDGES, COUNTS), min_size=2, max_size=2)] * 2,
              st.lists(st.tuples(EDGES, EDGES, COUNTS), max_size=3)),
    st.sampled_from([4, 6, 5]),
    st.one_of(st.just(b""), st.just(b""), ODD_FIELDS),
)  # fmt: skip
BUCKETS = st.one_of(
    *[
        st.tuples(EDGES, EDGES, HOW_MANY).map(
            lambda row: double_field(1, row[0]) + double_field(2, row[1]) + varint_field(3, row[2])
        )
    ]
    * 4,
    _joined(
        st.one_of(EDGES.map(lambda x: double_field(1, x)), EDGES.map(lambda x: double_field(2, x)),
                  HOW_MANY.map(lambda n: varint_field(3, n)), ODD_FIELDS), 4,
    ),
)  # fmt: skip
MS_HISTOGRAMS = _mixed(
    [
        st.lists(BUCKETS, max_size=3).map(lambda buckets: b"".join(bytes_field(1, bucket) for bucket in buckets)),
        HOW_MANY.map(lambda n: varint_field(2, n)),
        st.one_of(st.just(b""), HOW_MANY.map(lambda n: varint_field(3, n))),
        st.one_of(st.just(b""), HOW_MANY.map(lambda n: varint_field(4, n))),
        _given(5, EDGES), _given(6, EDGES), _given(7, EDGES),
        st.one_of(*[st.just(b"")] * 3, st.integers(0, 6).map(lambda n: varint_field(8, n))),
    ],
    ODD_FIELDS,
)  # fmt: skip
USUAL = st.builds(
    records.ms_buckets,
    st.lists(st.tuples(EDGES, EDGES, st.integers(0, 300)), min_size=1, max_size=4),
    nan_count=st.integers(0, 3),
)
TB_VALUES = _mixed(
    [
        NAMES.map(lambda name: bytes_field(1, name)),
        st.one_of(
            FLOATS.map(lambda v: float_field(2, v)),
            TENSORS.map(lambda t: bytes_field(8, t)),
            HISTOS.map(lambda histo: bytes_field(5, histo)),
            GRIDS.map(lambda grid: bytes_field(8, grid)),
            st.sampled_from([b"", bytes_field(4, varint_field(1, 3)), bytes_field(5, b""), bytes_field(6, b"")]),
        ),
        st.one_of(st.just(b""), METADATA.map(lambda m: bytes_field(9, m))),
    ],
    ODD_FIELDS,
)
MS_VALUES = _mixed(
    [
        NAMES.map(lambda name: bytes_field(1, name)),
        st.one_of(
            FLOATS.map(lambda v: float_field(3, v)),
            MS_HISTOGRAMS.map(lambda histogram: bytes_field(9, histogram)),
            st.sampled_from(
                [b"", bytes_field(8, varint_field(2, 11)), bytes_field(9, b""), bytes_field(4, b"\x08\x01")]
            ),
        ),
    ],
    ODD_FIELDS,
)


def _events(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    summary = _joined(values.map(lambda value: bytes_field(1, value)), 4)
    return _mixed(
        [
            CLOCKS.map(lambda clock: double_field(1, clock)),
            st.one_of(st.just(b""), STEPS.map(lambda step: varint_field(2, step)), LONG_VARINTS),
            st.one_of(
                summary.map(lambda s: bytes_field(5, s)), ODD_FIELDS, st.just(bytes_field(7, varint_field(1, 1)))
            ),
        ],
        ODD_FIELDS,
    )


# Values that are plain, or would be but for one thing.
ONE_THING = st.sampled_from(
    [
        *[b""] * 4,
        bytes_field(1, b"again"),
        float_field(2, 9.0),
        float_field(3, 9.0),
        bytes_field(8, varint_field(1, 1)),
        bytes_field(9, b""),
        bytes_field(7, b"node"),
        bytes_field(7, b"\xff"),
        varint_field(30, 1),
        b"\x0b\x0c",  # a group
        b"\x00",
        b"\x15\x00",
    ]
)
FLOAT, DOUBLE = struct.pack("<f", 1.25), struct.pack("<d", 0.1)
NAMED = bytes_field(9, b"\x0a\x09\x0a\x07scalars")
HISTOGRAMS = bytes_field(9, bytes_field(1, bytes_field(1, b"histograms")) + varint_field(4, 2))
EMPTY, ONE, UNKNOWN = b"\x12\x00", b"\x12\x04\x12\x02\x08\x01", b"\x12\x02\x18\x01"  # shapes
TENSORS_IN_FULL = itertools.product(
    [varint_field(1, 1), varint_field(1, 2), varint_field(1, 2) + varint_field(1, 1), varint_field(1, 3), b""],
    [b"", EMPTY, EMPTY * 2, UNKNOWN, ONE],
    [bytes_field(field, content) for field in (4, 5, 6) for content in (FLOAT, DOUBLE, b"")],
    [b"", float_field(5, 2.0), bytes_field(4, FLOAT), varint_field(3, 1)],
)
METADATA_IN_FULL = itertools.product(
    [b"\x0a\x09\x0a\x07scalars", b"\x0a\x09\x0a\x07scalarz", b"\x0a\x0b\x0a\x07scalars\x12\x00", b""],
    [b"", bytes_field(2, b"ascii, and long"), bytes_field(2, "ä".encode()), bytes_field(2, b"\xff" * 9)],
    [b"", bytes_field(3, b"text"), bytes_field(3, b"\xff"), bytes_field(2, b"twice")],
    [b"", varint_field(4, 1), varint_field(4, 2), varint_field(4, 5), varint_field(4, 300)],
)
FORMS = [bytes_field(8, b"".join(parts)) + NAMED for parts in TENSORS_IN_FULL]
FORMS += [float_field(2, 1.0) + bytes_field(9, b"".join(parts)) for parts in METADATA_IN_FULL]


def _near(format_: Format) -> st.SearchStrategy[bytes]:
    name = NAMES.map(lambda text: bytes_field(1, text))
    if format_ is Format.MINDSPORE:
        number = st.one_of(FLOATS.map(lambda v: float_field(3, v)), MS_HISTOGRAMS.map(lambda h: bytes_field(9, h)))
    else:
        simple = FLOATS.map(lambda v: float_field(2, v))
        grid = GRIDS.map(lambda tensor: bytes_field(8, tensor) + HISTOGRAMS)
        histo = HISTOS.map(lambda content: bytes_field(5, content))
        number = st.one_of(simple, simple.map(lambda field: field + NAMED), st.sampled_from(FORMS), grid, histo)
    value = st.tuples(name, number, ONE_THING).map(lambda fields: bytes_field(1, b"".join(fields)))
    summary = st.lists(value, min_size=1, max_size=2).map(lambda values: bytes_field(5, b"".join(values)))
    clock = CLOCKS.map(lambda seconds: double_field(1, seconds))
    step = st.one_of(STEPS.map(lambda number: varint_field(2, number)), LONG_VARINTS)
    return st.tuples(clock, step, summary).map(b"".join)


def _plain(format_: Format) -> st.SearchStrategy[bytes]:
    names = st.sampled_from(["loss", "lr", "acc"])
    if format_ is Format.MINDSPORE:
        return st.builds(records.ms_scalars, STEPS, st.dictionaries(names, FLOATS, max_size=3), CLOCKS)
    styles = st.sampled_from(["simple", "tensor", "double"])
    return st.one_of(
        st.builds(records.tb_scalar, names, STEPS, FLOATS, CLOCKS, style=styles, metadata=st.booleans()),
        st.builds(records.tb_session_start, STEPS, CLOCKS),
    )


def _chunks(format_: Format) -> st.SearchStrategy[bytes]:
    values = MS_VALUES if format_ is Format.MINDSPORE else TB_VALUES
    version = records.ms_version if format_ is Format.MINDSPORE else records.tb_version
    return st.one_of(
        _plain(format_),
        _plain(format_),
        *[_near(format_).map(frame)] * 3,
        _events(values).map(frame),
        CLOCKS.map(version),
        st.binary(max_size=30).map(frame),
        st.binary(max_size=30),
        st.sampled_from([0, 3, 100, 2**31 - 1, 2**31, 2**60]).map(records.header),
        st.integers(0, 40).map(bytes),
    )


def _files(format_: Format) -> st.SearchStrategy[bytes]:
    """Return records, most of them good, with bytes flipped, and perhaps an end missing."""
    content = st.lists(_chunks(format_), max_size=12).map(b"".join)
    flips = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 255)), max_size=2)
    return st.builds(_damaged, content, st.one_of(st.just([]), flips), st.one_of(st.just(0), st.integers(0, 20)))


def _damaged(content: bytes, flips: list[tuple[int, int]], missing: int) -> bytes:
    mutable = bytearray(content[: len(content) - missing])
    for at, bits in flips:
        if at < len(mutable):
            mutable[at] ^= bits
    return bytes(mutable)


FILES = st.sampled_from(list(Format)).flatmap(lambda format_: st.tuples(st.just(format_), _files(format_)))


def _read(path: str, format_: Format, content: bytes, cuts: list[int]) -> tuple[object, ...]:
    tail = Tail(decoder(path, 400), format_)  # type: ignore[arg-type]
    for cut in [*sorted(cuts), len(content)]:
        tail.read(content[: max(tail.offset, cut)])
    return tail.facts()


@settings(max_examples=200, deadline=None)
@given(FILES, st.lists(st.integers(0, 600), max_size=6))
@example((Format.TENSORBOARD, records.tb_scalar("a", 1, 2, 3) + b"x" + records.tb_scalar("a", 2, 2, 3)), [40, 50, 60])
def test_any_split_gives_the_same(file: tuple[Format, bytes], cuts: list[int]) -> None:
    """However the bytes of a file arrive, points, series and damages are those of one read, on every path."""
    format_, content = file
    expected = _read("pure", format_, content, [])
    for path in PATHS:
        assert expected == _read(path, format_, content, [])
        assert expected == _read(path, format_, content, cuts)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), FILES), max_size=6), st.integers(0, 7))
def test_the_kernel_equals_the_reference(files: list[tuple[int, tuple[Format, bytes]]], split: int) -> None:
    """Many spans of many jobs in one call give the same columns, bit for bit, the same slices and the same series."""
    pure, *kernels = (decoder(path, 400) for path in PATHS)
    buffer, spans = bytearray(b"#" * split), []
    for i, (job, (format_, content)) in enumerate(files):
        kind = ShardKind.LINEAGE if i % 5 == 4 else ShardKind.SUMMARY
        lost = 7 if i % 3 == 2 else None
        known = None if (i + split) % 7 == 6 else format_
        spans.append(Span(job, kind, known, len(buffer), len(buffer) + len(content), 10**6 * i, lost, name=f"file {i}"))
        buffer += content
    for _ in range(2):  # the second time every tag is known
        expected = pure.decode(buffer, spans)
        for made in kernels:
            found = made.decode(bytes(buffer), spans)
            assert _bits(expected) == _bits(found)
            assert expected.slices == found.slices
            assert expected.lengths == found.lengths
            assert pure.series == made.series


@settings(max_examples=30, deadline=None)
@given(FILES, FILES)
def test_a_forgotten_job_is_read_anew(one: tuple[Format, bytes], two: tuple[Format, bytes]) -> None:
    """After `forget` a job's tags are new ones, and another job's stay what they were."""
    pure, *kernels = (decoder(path) for path in PATHS)
    for (format_, content), forgotten in itertools.product((one, two), (1, 2)):
        spans = [Span(job, ShardKind.SUMMARY, format_, 0, len(content), 0) for job in (1, 2)]
        expected = pure.decode(content, spans)
        pure.forget([forgotten])
        for made in kernels:
            assert _bits(expected) == _bits(made.decode(content, spans))
            made.forget([forgotten])
            assert pure.series == made.series


def test_every_form_of_a_scalar_is_read_alike() -> None:
    """Each way to write a scalar that a writer could choose gives the same on all paths, its tag new or known."""
    values = [bytes_field(1, f"tag {i}".encode()) + form for i, form in enumerate(FORMS)]
    content = b"".join(records.tb_event(1.0, bytes_field(5, bytes_field(1, value)), 1) for value in values)
    pure, *kernels = (decoder(path) for path in PATHS)
    whole = Span(1, ShardKind.SUMMARY, Format.TENSORBOARD, 0, len(content), 0)
    for _ in range(2):
        expected = pure.decode(content, [whole])
        assert 100 < np.count_nonzero(~expected.not_numbers) < len(FORMS)
        for made in kernels:
            found = made.decode(content, [whole])
            assert (_bits(expected), expected.slices, pure.series) == (_bits(found), found.slices, made.series)


HISTOGRAM_FILES = st.sampled_from(
    [
        (Format.MINDSPORE, MS_HISTOGRAMS.map(lambda histogram: bytes_field(9, histogram))),
        (Format.MINDSPORE, USUAL.map(lambda histogram: bytes_field(9, histogram))),
        (Format.TENSORBOARD, HISTOS.map(lambda histo: bytes_field(5, histo))),
        (Format.TENSORBOARD, GRIDS.map(lambda grid: bytes_field(8, grid) + HISTOGRAMS)),
    ]
).flatmap(lambda pair: st.tuples(st.just(pair[0]), st.lists(pair[1], min_size=1, max_size=4)))


@settings(max_examples=200, deadline=None)
@given(HISTOGRAM_FILES)
def test_a_histogram_is_read_alike(file: tuple[Format, list[bytes]]) -> None:
    """Whatever a histogram holds: buckets, statistics and facts are the same on all paths, to the last bit."""
    format_, values = file
    summary = b"".join(bytes_field(1, bytes_field(1, b"w") + value) for value in values)
    content = records.tb_event(1.0, bytes_field(5, summary), 1)
    content += b"".join(
        records.tb_event(1.0, bytes_field(5, bytes_field(1, bytes_field(1, b"w") + v)), 2) for v in values
    )
    pure, *kernels = (decoder(path) for path in PATHS)
    whole = Span(1, ShardKind.SUMMARY, format_, 0, len(content), 0)
    expected = pure.decode(content, [whole])
    for made in kernels:
        found = made.decode(content, [whole])
        assert (_bits(expected), expected.slices, pure.series) == (_bits(found), found.slices, made.series)


def test_usual_histograms_take_the_compiled_path() -> None:
    """Of what writers write nothing is left to the pure path, however many there are and however long they get."""
    histo = [records.tb_histogram("w", i, list(range(1, 2 + i)), [1.0] * (1 + i), 1.0) for i in range(400)]
    grid = bytes_field(8, records.grid([(-1.0, 0.0, 2.0), (0.0, 1.0, 3.0)])) + HISTOGRAMS
    grids = [records.tb_event(1.0, bytes_field(5, bytes_field(1, bytes_field(1, b"g") + grid)), i) for i in range(400)]
    buckets = bytes_field(9, records.ms_buckets([(-1.0, 0.5, 2), (-0.5, 0.5, 3)], nan_count=1))
    mindspore = [
        records.ms_event(1.0, bytes_field(5, bytes_field(1, bytes_field(1, b"w") + buckets) * 3), i) for i in range(400)
    ]
    for format_, content, count in (
        (Format.TENSORBOARD, b"".join(histo + grids), 800),
        (Format.MINDSPORE, b"".join(mindspore), 1200),
    ):
        pure, *kernels = (decoder(path) for path in PATHS)
        whole = Span(1, ShardKind.SUMMARY, format_, 0, len(content), 0)
        expected = pure.decode(content, [whole])
        for made in kernels:
            found = made.decode(content, [whole])
            assert [] == found.payloads
            assert found.histograms is not None
            assert count == len(found.histograms)
            assert (_bits(expected), expected.slices, pure.series) == (_bits(found), found.slices, made.series)


def test_arrays_grow_while_a_call_goes_on() -> None:
    """More tags, longer names, more values a record and more odd records than there was room for change nothing."""
    long_names = {f"tag {i} {'n' * 300}": i / 7 for i in range(9000)}
    content = b"".join(
        [
            records.ms_version(1.0),
            *(records.ms_event(2.0, step=i) for i in range(9000)),
            *(records.ms_scalars(i, {f"tag {i}": 0.5, "all": 1.0}, 3.0 + i) for i in range(9000)),
            records.ms_scalars(1, long_names, 4.0),
            records.ms_scalars(2, dict.fromkeys("abcdefgh", 1.5), 4.0) * 3000,
        ]
    )
    pure, *kernels = (decoder(path) for path in PATHS)
    whole = Span(1, ShardKind.SUMMARY, Format.MINDSPORE, 0, len(content), 0)
    for _ in range(2):
        expected = pure.decode(content, [whole])
        for made in kernels:
            found = made.decode(content, [whole])
            assert (_bits(expected), expected.slices, pure.series) == (_bits(found), found.slices, made.series)


def _bits(decoded: Decoded) -> tuple[list[bytes], list[Blob]]:
    columns = (decoded.series, decoded.step, decoded.wall_time, decoded.value, decoded.not_numbers)
    return [column.dtype.str.encode() + column.tobytes() for column in columns], payloads_of(decoded)
