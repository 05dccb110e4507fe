"""MindSpore's records: plugins by field, required fields, lineage and explain files."""

from __future__ import annotations

import pytest

from indexer.types import DataClass, Format, ShardKind
from tests.support import records
from tests.support.decoders import PATHS, Path, decoder, points_of, span
from tests.support.records import bytes_field, double_field, float_field, frame, varint_field

IMAGE = b"".join(varint_field(i, 3) for i in (1, 2, 3)) + bytes_field(4, b"png")
LACKING = "width", "colorspace", "encoded_image"
NO_IMAGE = f"event lacks required fields: {', '.join(f'summary.value[0].image.{name}' for name in LACKING)}"
BUCKET = double_field(1, 0.0) + double_field(2, 1.0) + varint_field(3, 5)


def summary(*values: bytes) -> bytes:
    """Return an encoded Event.summary."""
    return bytes_field(5, b"".join(bytes_field(1, value) for value in values))


def value(tag: str, what: bytes) -> bytes:
    """Return an encoded Summary.Value."""
    return bytes_field(1, tag.encode()) + what


@pytest.mark.parametrize("path", PATHS)
def test_the_field_is_the_plugin(path: Path) -> None:
    """One tag in five fields is five series; a value without a field is none; only a scalar is a number."""
    content = records.ms_version(1.0) + records.ms_event(
        2.0,
        summary(
            value("t", float_field(3, 0.5)),
            value("t", bytes_field(4, IMAGE)),
            value("t", bytes_field(8, varint_field(2, 11))),
            value("t", bytes_field(9, bytes_field(1, BUCKET))),
            value("t", bytes_field(10, b"")),
            value("t", b""),
        ),
        -4,
    )
    made = decoder(path)
    decoded = made.decode(content, [span(content, Format.MINDSPORE)])
    assert [
        ("scalar", DataClass.SCALAR),
        ("image", DataClass.BLOB_SEQUENCE),
        ("tensor", DataClass.TENSOR),
        ("histogram", DataClass.TENSOR),
        ("loss_landscape", DataClass.TENSOR),
    ] == [(series.plugin, series.data_class) for series in made.series]
    assert [False, True, True, True, True] == decoded.not_numbers.tolist()
    assert ({-4}, {1: 3}, 2) == (set(decoded.step.tolist()), decoded.lengths, decoded.slices[0].records)
    assert 0.5 == decoded.value[0]


def test_an_embedded_graph_is_named_after_its_file() -> None:
    """Event.graph_def is a point of plugin graph whose series is called like the file, without a step."""
    content = records.ms_event(2.0, bytes_field(4, b"no graph, which does not matter here"))
    made = decoder("pure")
    decoded = made.decode(content, [span(content, Format.MINDSPORE)])
    assert [("graph", "a file", 0)] == [point[:3] for point in points_of(made, decoded)]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (varint_field(2, 1), "event lacks required fields: wall_time"),
        (double_field(1, 1.0) + summary(float_field(3, 1.0)), "event lacks required fields: summary.value[0].tag"),
        (double_field(1, 1.0) + summary(value("t", bytes_field(4, varint_field(1, 3)))), NO_IMAGE),
        (double_field(1, 1.0) + summary(value("t", bytes_field(9, b"\x0a\x02\x09"))), "payload is no MindSpore event"),
        (double_field(1, 1.0) + b"\x2a\x05\x0a", "payload is no MindSpore event"),
        (double_field(1, 1.0) + summary(bytes_field(1, b"\xe4")), r"tag b'\xe4' is not UTF-8"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_bad_records_are_damage(payload: bytes, reason: str, path: Path) -> None:
    """What MindSpore's own reader cannot parse is reported, and none of its values are kept."""
    good = records.ms_scalars(1, {"loss": 1.0}, 1.0)
    content = good + frame(payload) + good
    made = decoder(path)
    decoded = made.decode(content, [span(content, Format.MINDSPORE)])
    (damage,) = decoded.slices[0].damages
    assert (len(good), 16 + len(payload), reason) == (damage.offset, damage.length, damage.reason)
    assert (2, 2) == (decoded.slices[0].records, len(decoded.step))


def test_a_lineage_record_is_a_value_called_as_its_part() -> None:
    """Each part is a series; the payload is the record as written, and what says nothing is no point."""
    content = records.ms_train(0.5) + records.ms_event(2.0) + records.ms_event(3.0, bytes_field(3, b"1"))
    content += records.ms_evaluation("{}", 4.0)
    made = decoder("pure")
    decoded = made.decode(content, [span(content, None, kind=ShardKind.LINEAGE)])
    points = [(p[0], p[1], p[2], p[5]) for p in points_of(made, decoded)]
    assert [("lineage", part, 0, True) for part in ("train_lineage", "evaluation_lineage")] == points
    assert [content[12 : 12 + decoded.payloads[0].length], 0] == [decoded.payloads[0].data, decoded.payloads[0].at]
    assert (4, []) == (decoded.slices[0].records, decoded.slices[0].damages)


@pytest.mark.parametrize("kind", [ShardKind.EXPLAIN])
def test_other_files_give_clocks_and_no_points(kind: ShardKind) -> None:
    """Explain records count and tell the time; they are MindSpore's whatever the span says."""
    field = 6
    content = b"".join(records.ms_event(clock, bytes_field(field, b"")) for clock in (3.0, 2.0))
    content += frame(b"\xff") + records.ms_scalars(1, {"loss": 1.0}, 4.0)
    made = decoder("pure")
    decoded = made.decode(content, [span(content, None, kind=kind)])
    (found,) = decoded.slices
    assert (3, 2.0, Format.MINDSPORE, 1) == (found.records, found.start_time, found.format, len(found.damages))
    assert (0, []) == (len(decoded.step), made.series)


def test_a_step_that_is_absent_is_zero() -> None:
    """An event without a step is at step 0."""
    for path in PATHS:
        content = records.ms_scalars(None, {"loss": 1.0}, 1.0) * 2
        decoded = decoder(path).decode(content, [span(content, Format.MINDSPORE)])
        assert [0, 0] == decoded.step.tolist()
