"""TensorBoard's records: which series a value belongs to, how it is read, and which values are numbers."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from indexer.types import Damage, DataClass, Format, Series, SessionStart, ShardKind, Span
from tests.support import records
from tests.support.decoders import PATHS, Path, decoder, points_of, span
from tests.support.records import bytes_field, float_field, tb_metadata, tb_value, varint_field

TENSOR_EMPTY = bytes_field(8, b"")
IMAGE = bytes_field(4, varint_field(1, 2) + varint_field(2, 3) + bytes_field(4, b"png"))
AUDIO = bytes_field(6, bytes_field(4, b"wav"))
HISTOGRAM = bytes_field(5, b"")
SIMPLE = float_field(2, 1.5)


def read(content: bytes, path: Path = "pure") -> tuple[list[Series], list[tuple[str, str, float]]]:
    """Return the series in `content`, and its points as plugin, tag, value."""
    made = decoder(path)
    decoded = made.decode(content, [span(content, Format.TENSORBOARD)])
    assert [] == decoded.slices[0].damages
    return made.series, [(p[0], p[1], float.fromhex(p[4])) for p in points_of(made, decoded)]


@pytest.mark.parametrize(
    ("what", "metadata", "expected"),
    [
        (SIMPLE, None, ("scalars", DataClass.SCALAR, b"")),
        (IMAGE, None, ("images", DataClass.BLOB_SEQUENCE, b"\x10\x01")),
        (AUDIO, None, ("audio", DataClass.BLOB_SEQUENCE, b"\x18\x01")),
        (HISTOGRAM, None, ("histograms", DataClass.TENSOR, b"")),
        (TENSOR_EMPTY, None, ("", DataClass.UNKNOWN, None)),
        (b"", None, ("", DataClass.UNKNOWN, None)),
        (TENSOR_EMPTY, tb_metadata("scalars"), ("scalars", DataClass.SCALAR, b"")),
        *(
            (TENSOR_EMPTY, tb_metadata(plugin, b"c"), (plugin, DataClass.TENSOR, b"c"))
            for plugin in ("histograms", "text", "hparams", "pr_curves", "mesh", "custom_scalars")
        ),
        *(
            (TENSOR_EMPTY, tb_metadata(plugin, b"c"), (plugin, DataClass.BLOB_SEQUENCE, b"c"))
            for plugin in ("images", "audio", "graph_run_metadata", "graph_run_metadata_graph", "graph_keras_model")
        ),
        (TENSOR_EMPTY, tb_metadata("my_plugin", b"c"), ("my_plugin", DataClass.UNKNOWN, b"c")),
        (TENSOR_EMPTY, tb_metadata("my_plugin") + varint_field(4, 2), ("my_plugin", DataClass.TENSOR, b"")),
        (TENSOR_EMPTY, tb_metadata("text") + varint_field(4, 3), ("text", DataClass.BLOB_SEQUENCE, b"")),
        (SIMPLE, tb_metadata("other", b"c"), ("other", DataClass.SCALAR, b"")),
        (SIMPLE, tb_metadata("other", b"c") + varint_field(4, 2), ("other", DataClass.TENSOR, b"c")),
        (b"", tb_metadata("hparams", b"session"), ("hparams", DataClass.TENSOR, b"session")),
        (SIMPLE, bytes_field(1, b""), ("scalars", DataClass.SCALAR, b"")),
    ],
)
def test_the_first_value_describes_its_series(
    what: bytes, metadata: bytes | None, expected: tuple[str, DataClass, bytes | None]
) -> None:
    """Plugin, data class and content follow TensorBoard's rules for the first value of a tag."""
    (series,), points = read(records.tb_event(1.0, tb_value("t", what, metadata), 3))
    assert expected == (series.plugin, series.data_class, series.content)
    assert metadata == series.metadata
    assert 1 == len(points)


def test_metadata_is_kept_as_written() -> None:
    """Display name and description are those of the first value; later metadata of the same plugin changes nothing."""
    first = tb_metadata("scalars", display_name="Loss", description="of *training*")
    later = tb_metadata("scalars", display_name="Other")
    for path in PATHS:
        content = b"".join(
            records.tb_event(1.0, tb_value("t", records.float_field(2, i), m), i) for i, m in enumerate([first, later])
        )
        (series,), points = read(content, path)
        assert (first, "Loss", "of *training*") == (series.metadata, series.display_name, series.description)
        assert [("scalars", "t", 0.0), ("scalars", "t", 1.0)] == points


@pytest.mark.parametrize("path", PATHS)
def test_a_value_without_metadata_belongs_to_its_tags_first_plugin(path: Path) -> None:
    """Metadata that names another plugin makes another series; what names none goes to the first one of its tag."""
    content = b"".join(
        [
            records.tb_scalar("t", 1, 1.0, 1.0, style="tensor"),
            records.tb_event(1.0, tb_value("t", TENSOR_EMPTY, tb_metadata("text")), 2),
            records.tb_scalar("t", 3, 3.0, 1.0, style="tensor", metadata=False),
            records.tb_scalar("t", 4, 4.0, 1.0, style="simple"),
            records.tb_event(1.0, tb_value("u", TENSOR_EMPTY, tb_metadata("text")), 5),
            records.tb_scalar("u", 6, 6.0, 1.0, style="tensor", metadata=False),
            records.tb_scalar("u", 7, 7.0, 1.0, style="simple"),
        ]
    )
    _, points = read(content, path)
    plugins = [("scalars", 1.0), ("text", None), ("scalars", 3.0), ("scalars", 4.0)]
    plugins += [("text", None), ("text", None), ("text", 7.0)]  # a tensor is a number where its series holds numbers
    assert plugins == [(plugin, None if math.isnan(value) else value) for plugin, _, value in points]


@pytest.mark.parametrize("path", PATHS)
def test_the_first_plugin_survives_a_restart(path: Path) -> None:
    """A decoder primed with the stored series in their order gives a bare value to the same one as before."""
    known = [
        Series(1, "text", "t", DataClass.TENSOR),
        Series(1, "scalars", "t", DataClass.SCALAR),
        Series(1, "scalars", "u", DataClass.SCALAR),
    ]
    made = decoder(path)
    assert [0, 1, 2] == made.prime(1, known)
    assert [0, 1, 2] == made.prime(1, known)
    content = b"".join(records.tb_scalar(tag, 1, 2.0, 1.0, style="tensor", metadata=False) for tag in "tuv")
    for job in (1, 2):
        decoded = made.decode(content, [span(content, Format.TENSORBOARD, job=job)])
        names = [(point[0], point[5]) for point in points_of(made, decoded)]
        assert names == ([("text", True), ("scalars", False), ("", True)] if job == 1 else [("", True)] * 3)
    assert (1, None) == (made.number(1, "scalars", "t"), made.number(1, "images", "t"))


def _tensor(dtype: int, field: bytes, shape: list[int] | None = None) -> bytes:
    dims = b"" if shape is None else bytes_field(2, b"".join(bytes_field(2, varint_field(1, n)) for n in shape))
    return bytes_field(8, varint_field(1, dtype) + dims + field)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (_tensor(1, bytes_field(5, struct.pack("<f", 0.1))), float(np.float32(0.1))),
        (_tensor(1, float_field(5, 2.5)), 2.5),
        (_tensor(1, bytes_field(4, struct.pack("<f", -1.5)), []), -1.5),
        (_tensor(2, bytes_field(6, struct.pack("<d", 0.1))), 0.1),
        (_tensor(2, bytes_field(4, struct.pack("<d", 0.1))), 0.1),
        (_tensor(19, varint_field(13, 0x3C00)), 1.0),
        (_tensor(19, bytes_field(4, struct.pack("<e", 0.5))), 0.5),
        (_tensor(14, varint_field(13, 0xC040)), -3.0),
        (_tensor(14, bytes_field(4, b"\x40\xc0")), -3.0),
        (_tensor(6, varint_field(7, -5)), -5.0),
        (_tensor(6, bytes_field(4, b"\xfb")), -5.0),
        (_tensor(5, varint_field(7, -300)), -300.0),
        (_tensor(3, varint_field(7, -70000)), -70000.0),
        (_tensor(9, varint_field(10, -(2**40))), -(2.0**40)),
        (_tensor(9, bytes_field(4, struct.pack("<q", -(2**40)))), -(2.0**40)),
        (_tensor(4, varint_field(7, 200)), 200.0),
        (_tensor(17, varint_field(7, 60000)), 60000.0),
        (_tensor(22, varint_field(16, 2**32 - 1)), 2.0**32 - 1),
        (_tensor(23, varint_field(17, 2**64 - 1)), 2.0**64),
        (_tensor(1, bytes_field(5, struct.pack("<f", 7)), [1]), 7.0),
        (_tensor(1, bytes_field(5, struct.pack("<f", 7)), [1, 1]), 7.0),
        (_tensor(1, bytes_field(5, struct.pack("<2f", 7, 8)), [2]), None),
        (_tensor(1, bytes_field(5, struct.pack("<2f", 7, 8))), None),
        (_tensor(1, b""), None),
        (_tensor(1, bytes_field(4, b"abc")), None),
        (_tensor(2, bytes_field(5, struct.pack("<f", 7))), None),
        (_tensor(7, bytes_field(8, b"text")), None),
        (_tensor(10, varint_field(11, 1)), None),
        (_tensor(1, bytes_field(5, struct.pack("<f", 7)), [0]), None),
        (bytes_field(8, varint_field(1, 1) + bytes_field(2, varint_field(3, 1)) + float_field(5, 1.0)), None),
        (b"", None),
        (HISTOGRAM, None),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_numbers_of_the_scalars_plugin(tensor: bytes, expected: float | None, path: Path) -> None:
    """One element of any float or integer type is a number, wherever the tensor keeps it; nothing else is."""
    made = decoder(path)
    content = records.tb_event(1.0, tb_value("t", tensor, tb_metadata("scalars")), 1) * 2
    decoded = made.decode(content, [span(content, Format.TENSORBOARD)])
    assert [expected is None] * 2 == decoded.not_numbers.tolist()
    assert [expected] * 2 == [None if np.isnan(value) else float(value) for value in decoded.value]


def test_graphs_and_run_metadata_are_series() -> None:
    """A graph is the tag `__run_graph__` of plugin graphs; run metadata keeps its tag; both are one blob."""
    tagged = bytes_field(8, bytes_field(1, b"step 1") + bytes_field(2, b"..."))
    content = records.tb_event(1.0, bytes_field(4, b"graph")) + records.tb_event(2.0, tagged, 5)
    made = decoder("pure")
    decoded = made.decode(content, [span(content, Format.TENSORBOARD)])
    assert [("graphs", "__run_graph__"), ("graph_tagged_run_metadata", "step 1")] == [
        (series.plugin, series.name) for series in made.series
    ]
    assert {DataClass.BLOB_SEQUENCE} == {series.data_class for series in made.series}
    assert ({0: 1, 1: 1}, [0, 5], [True, True]) == (
        decoded.lengths,
        decoded.step.tolist(),
        decoded.not_numbers.tolist(),
    )


def _strings(count: int, shape: list[int]) -> bytes:
    return _tensor(7, b"".join(bytes_field(8, b"s") for _ in range(count)), shape)


@pytest.mark.parametrize(
    ("what", "plugin", "length"),
    [
        (IMAGE, None, 3),
        (AUDIO, None, 1),
        (_strings(5, [5]), "images", 5),
        (_strings(6, [3, 2]), "audio", 3),
        (_strings(6, [3, 2]), "images", 0),
        (_strings(1, []), "graph_keras_model", 1),
        (_strings(1, []), "images", 0),
        (_strings(5, [5]), "text", 0),
        (SIMPLE, "images", 0),
    ],
)
def test_length_of_a_blob_sequence(what: bytes, plugin: str | None, length: int) -> None:
    """The longest sequence counts: an image is three blobs, a sound one, strings of rank 1 as many as they are."""
    made = decoder("pure")
    metadata = None if plugin is None else tb_metadata(plugin)
    content = b"".join(records.tb_event(1.0, tb_value("t", part, metadata), 1) for part in (what, TENSOR_EMPTY))
    decoded = made.decode(content, [span(content, Format.TENSORBOARD)])
    assert ({0: length} if length else {}) == decoded.lengths


@pytest.mark.parametrize("path", PATHS)
def test_session_starts_say_where_they_lie(path: Path) -> None:
    """A START knows the points and good records before it, its own point lies behind; other states start nothing."""
    parts = [
        records.tb_version(1.0),
        records.tb_scalar("t", 1, 1.0, 1.0),
        records.frame(b"\xff"),
        records.tb_session_start(7, 2.0),
        records.tb_scalar("t", 2, 1.0, 1.0),
        records.tb_event(1.0, bytes_field(7, varint_field(1, 2)), 9),
        records.tb_session_start(8, 2.0),
    ]
    content = b"".join(parts)
    made = decoder(path)
    decoded = made.decode(b"##" + content, [Span(1, ShardKind.SUMMARY, Format.TENSORBOARD, 2, 2 + len(content), 1000)])
    (found,) = decoded.slices
    first, second = (1000 + sum(map(len, parts[:i])) for i in (3, 6))
    assert [SessionStart(1, 7, first, 2), SessionStart(4, 8, second, 5)] == found.starts
    assert 6 == found.records


@pytest.mark.parametrize("path", PATHS)
def test_bad_records_are_damage(path: Path) -> None:
    """A payload that is no event, or whose tag is not UTF-8, is reported with its place and costs nothing else."""
    bad = [
        records.frame(b"\x0a"),
        records.tb_scalar(b"\xff\xfe", 1, 1.0, 1.0),
        records.tb_event(1.0, bytes_field(8, bytes_field(1, b"\xff"))),
    ]
    good = records.tb_scalar("t", 1, 1.0, 5.0)
    content = good + good.join(bad) + good
    made = decoder(path)
    (found,) = made.decode(content, [span(content, Format.TENSORBOARD)]).slices
    offsets = [content.index(record) for record in bad]
    assert [(o, len(r)) for o, r in zip(offsets, bad, strict=True)] == [(d.offset, d.length) for d in found.damages]
    assert ["payload is no TensorBoard event", r"tag b'\xff\xfe' is not UTF-8", r"tag b'\xff' is not UTF-8"] == [
        damage.reason for damage in found.damages
    ]
    assert (4, ["t"]) == (found.records, [series.name for series in made.series])


@pytest.mark.parametrize("path", PATHS)
def test_the_smallest_finite_clock_is_the_start(path: Path) -> None:
    """start_time is the smallest finite wall_time of any event, the version record's too; a point keeps its NaN."""
    clocks = [math.nan, -math.inf, 5.0, 3.0, math.inf, 4.0]
    content = b"".join(records.tb_scalar("t", i, 1.0, clock) for i, clock in enumerate(clocks))
    made = decoder(path)
    for version, expected in ((b"", 3.0), (records.tb_version(2.0), 2.0), (records.tb_version(math.nan), 3.0)):
        whole = version + content
        decoded = made.decode(whole, [span(whole, Format.TENSORBOARD)])
        assert expected == decoded.slices[0].start_time
        np.testing.assert_array_equal(clocks, decoded.wall_time)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (records.tb_version(1.0), Format.TENSORBOARD),
        (records.ms_version(1.0), Format.MINDSPORE),
        (records.tb_scalar("t", 1, 1.0, 1.0), Format.TENSORBOARD),
        (records.frame(b"\xff") + records.ms_version(1.0), Format.TENSORBOARD),
        (records.ms_version(1.0)[:-1], None),
        (b"?" + records.ms_version(1.0), Format.MINDSPORE),
        (b"", None),
    ],
)
def test_the_first_record_decides_the_format(content: bytes, expected: Format | None) -> None:
    """Where the name fits both formats, the first good record's version decides, and nothing before it."""
    (found,) = decoder("pure").decode(content, [span(content, None)]).slices
    assert expected == found.format


def test_a_damage_found_later_keeps_its_reason() -> None:
    """Damage that begins in one span and ends in another is one damage, with the reason of its beginning."""
    good = records.tb_scalar("t", 1, 1.0, 1.0)
    made = decoder("pure")
    first = made.decode(good + b"?" * 20, [span(good + b"?" * 20, Format.TENSORBOARD)]).slices[0]
    assert (len(good), []) == (first.lost_since, first.damages)
    rest = b"?" * (len(good) + 20 - first.end) + good
    second = Span(
        1, ShardKind.SUMMARY, Format.TENSORBOARD, 0, len(rest), first.end, first.lost_since, first.lost_reason
    )
    (found,) = made.decode(rest, [second]).slices
    assert [Damage(len(good), 20, str(first.lost_reason))] == found.damages
