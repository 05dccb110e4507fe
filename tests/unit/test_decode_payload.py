"""Payloads from records: both decode paths, each with the point it belongs to."""

from __future__ import annotations

import struct

import pytest

from indexer.types import DataClass, Format
from tests.support.decoders import PATHS, Path, Tail, decoder
from tests.support.records import (
    bytes_field,
    double_field,
    float_field,
    ms_event,
    png,
    tb_event,
    tb_image,
    tb_metadata,
    tb_scalar,
    tb_value,
    tb_version,
    varint_field,
)


def number(tag: str, step: int, value: float, *, double: bool, plugin: str | None = None) -> bytes:
    """Return a record with a tensor of one number."""
    content = double_field(1, value)[1:] if double else struct.pack("<f", value)
    tensor = varint_field(1, 2 if double else 1) + bytes_field(4, content)
    return tb_event(1.0, tb_value(tag, bytes_field(8, tensor), None if plugin is None else tb_metadata(plugin)), step)


@pytest.mark.parametrize("path", PATHS)
def test_numbers_of_other_plugins_are_payloads(path: Path) -> None:
    """A tensor of one float in a series that is none of numbers keeps its type and value, also without metadata."""
    content = tb_version(1.0) + number("a", 1, 0.5, double=False, plugin="mine")
    for step in range(2, 40):
        content += tb_scalar("loss", step, 1.0, 1.0)
        content += number("a", step, step / 4, double=step % 2 == 0)
        content += number("bare", step, step / 2, double=step % 3 == 0)
        content += tb_image("image", step, png(1, 1), 1.0)
    tail = Tail(decoder(path), Format.TENSORBOARD)
    tail.read(content)
    assert [True] * len(tail.payloads) == [tail.points[blob.point][5] for blob in tail.payloads]
    kept: dict[str, list[tuple[int, str | None, float]]] = {"a": [], "bare": []}
    images = 0
    for blob in tail.payloads:
        _, tag, step, *_ = tail.points[blob.point]
        if tag == "image":
            images += blob.data == png(1, 1)
            continue
        assert blob.data is not None
        kept[tag].append((step, blob.dtype, struct.unpack("<d" if blob.dtype == "float64" else "<f", blob.data)[0]))
    assert 38 == images
    assert [(1, "float32", 0.5), *((n, ("float64", "float32")[n % 2], n / 4) for n in range(2, 40))] == kept["a"]
    assert [(n, "float32" if n % 3 else "float64", n / 2) for n in range(2, 40)] == kept["bare"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("format_", Format)
def test_fields_that_no_format_knows_are_kept(path: Path, format_: Format) -> None:
    """An event's beside its values, a value's in their place: as points of their own, the bytes as they are."""
    later = bytes_field(2000, b"later") + varint_field(40, 7)
    number, make = (3, ms_event) if format_ is Format.MINDSPORE else (2, tb_event)
    known = bytes_field(1, b"loss") + float_field(number, 0.5)
    content = make(1.0, bytes_field(5, bytes_field(1, known)), 1)
    content += make(1.0, bytes_field(5, bytes_field(1, known)) + later, 2)
    content += make(1.0, later, 3)
    content += make(1.0, bytes_field(5, bytes_field(1, bytes_field(1, b"new") + later)), 4)
    tail = Tail(decoder(path), format_)
    tail.read(content)
    assert [0.5, 0.5] == [float.fromhex(point[4]) for point in tail.points if point[1] == "loss"]
    kept = [(tail.points[b.point][1], tail.points[b.point][2], b.kind, b.facts, b.data) for b in tail.payloads]
    facts = {"field": "unknown_fields"}
    assert [
        ("__event__", 2, "message", facts, later),
        ("__event__", 3, "message", facts, later),
        ("new", 4, "message", facts, later),
    ] == kept


@pytest.mark.parametrize("path", PATHS)
def test_records_beside_values_are_kept(path: Path) -> None:
    """Sessions, log lines and meta graphs are points of series of their own, which no viewer shows."""
    log, session, graph = varint_field(1, 20) + bytes_field(2, b"hi"), varint_field(1, 2), b"\x0a\x00"
    tail = Tail(decoder(path), Format.TENSORBOARD)
    tail.read(
        tb_version(1.0)
        + tb_event(1.0, bytes_field(6, log))
        + tb_event(2.0, bytes_field(7, session), 5)
        + tb_event(3.0, bytes_field(9, graph), 6)
    )
    kept = [(*tail.points[b.point][:3], b.kind, b.data) for b in tail.payloads]
    assert [
        ("log_message", "__log_message__", 0, "log", log),
        ("session_log", "__session_log__", 5, "log", session),
        ("meta_graph", "__meta_graph__", 6, "graph", graph),
    ] == kept
    assert {DataClass.UNKNOWN} == {series.data_class for series in tail.decoder.series}
