"""Whatever a message holds and leaves out: it becomes blobs, and what is stored is what was there."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer import plugins
from indexer.decode.event import Value
from indexer.decode.payload import Collector
from indexer.ingest.payloads import sequence
from indexer.ingest.sequence import TagState, arrange
from indexer.payload import OCTETS, Stored
from indexer.plugins import histogram, image
from indexer.types import Blob, Format
from indexer.wire import mindspore_pb2 as mindspore
from indexer.wire import tensorboard_pb2 as tensorboard

PLUGINS = st.sampled_from(
    ["", "images", "audio", "text", "histograms", "image", "tensor", "mesh", "pr_curves", "custom_scalars", "unknown"]
)
KINDS_OF_FIELDS = {
    1: st.floats(),  # double
    2: st.floats(width=32),
    3: st.integers(-(2**63), 2**63 - 1),
    4: st.integers(0, 2**64 - 1),
    5: st.integers(-(2**31), 2**31 - 1),
    8: st.booleans(),
    9: st.text(max_size=5),
    12: st.one_of(st.binary(max_size=40), st.sampled_from([b"2", b"3", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"])),
    13: st.integers(0, 2**32 - 1),
}


def fill(draw: st.DrawFn, message: Any, chosen: str | None = None) -> None:
    """Set some fields of a message, of a oneof the chosen one."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof is not None and field.name != chosen:
            continue
        must = field.is_required if hasattr(field, "is_required") else field.label == field.LABEL_REQUIRED
        if field.name != chosen and not must and draw(st.integers(0, 2)) == 0:
            continue
        many = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        count = draw(st.integers(0, 4)) if many else 1
        for _ in range(count):
            if field.type == field.TYPE_MESSAGE:
                inner = getattr(message, field.name)
                inner = inner.add() if many else inner
                inner.SetInParent()
                fill(draw, inner)
                continue
            if field.type == field.TYPE_ENUM:
                value: Any = draw(st.sampled_from([number.number for number in field.enum_type.values]))
            elif field.name in {"data_type", "size", "dims"}:
                value = draw(st.integers(-1, 13))
            else:
                value = draw(KINDS_OF_FIELDS[field.type])
            if many:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


@st.composite
def values(draw: st.DrawFn) -> tuple[Value, Format]:
    """Return a value of either format, with some of its fields."""
    format_ = draw(st.sampled_from(list(Format)))
    wire: Any = mindspore if format_ is Format.MINDSPORE else tensorboard
    message = wire.Summary.Value()
    names = [f.name for f in message.DESCRIPTOR.oneofs_by_name["value"].fields]
    kind = draw(st.sampled_from([name for name in names if name not in {"scalar_value", "simple_value"}]))
    fill(draw, message, kind)
    return Value("tag", "", kind, message), format_


def collected(value: Value, format_: Format, plugin: str, limit: int) -> list[Blob]:
    """Return the blobs of a value."""
    blobs: list[Blob] = []
    Collector(limit).collect(blobs, 3, plugin, value, format_, b"record " + value.message.SerializeToString(), 100)
    return blobs


def bytes_of(blob: Blob) -> bytes:
    """Return the decoded bytes of a blob that is not referred to."""
    assert blob.data is not None
    return zlib.decompress(blob.data) if blob.encoding == "zlib" else blob.data


@given(values(), PLUGINS)
def test_any_message_becomes_blobs_that_can_be_shown(made: tuple[Value, Format], plugin: str) -> None:
    """No missing field, odd number or shape stops decoding or showing; errors are words, JSON is strict."""
    for ordinal, blob in enumerate(collected(*made, plugin, 10**9)):
        data = bytes_of(blob)
        assert (3, ordinal, len(data), hashlib.sha256(data).digest()) == (
            blob.point,
            blob.ordinal,
            blob.length,
            blob.digest,
        )
        kind = plugins.BY_NAME[blob.kind]
        facts = json.loads(blob.facts if isinstance(blob.facts, str) else json.dumps(blob.facts or {}, allow_nan=False))
        kept = Stored(
            blob.content_type, len(data), blob.width, blob.height, blob.colorspace, blob.dtype, blob.shape, facts,
            blob.error, data,
        )  # fmt: skip
        json.dumps(kind.describe(kept), allow_nan=False)
        shown = kind.render(kept, {})
        assert set(kind.fields) == set(shown)
        for table, rows in (blob.rows or {}).items():
            columns = next(known.columns for known in kind.tables if known.name == table)
            assert {len(columns)} == {len(row) for row in rows}
        assert blob.error is None or blob.error


@given(values(), PLUGINS)
def test_a_payload_that_is_too_long_is_found_in_its_record(made: tuple[Value, Format], plugin: str) -> None:
    """A reference leads to the bytes that would have been stored, or to the whole record, and says so."""
    record = b"record " + made[0].message.SerializeToString()
    for small, blob in zip(collected(*made, plugin, 10**9), collected(*made, plugin, 0), strict=True):
        if not small.length:
            assert ("raw", b"") == (blob.encoding, blob.data)
            continue
        assert ("ref", None) == (blob.encoding, blob.data)
        assert blob.offset is not None
        referred = record[blob.offset - 100 : blob.offset - 100 + blob.length]
        assert hashlib.sha256(referred).digest() == blob.digest
        assert referred == bytes_of(small) or (referred == record and blob.error and blob.content_type == OCTETS)


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8\xff", b"GIF89a", b"RIFF____WEBP", b"BM", b"RIFF____WAVE"])
)
def test_no_header_breaks_the_sniffer(data: bytes, start: bytes) -> None:
    """Whatever follows a magic number: a size, or an error."""
    found = image.sniff(start + data)
    assert (found.error is None) == (found.width > 0 and found.height > 0)


EDGES = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(EDGES, EDGES, st.integers(0, 1000)), max_size=30), st.integers(1, 50))
def test_other_bins_hold_as_many_values(found: list[tuple[float, float, float]], bins: int) -> None:
    """Whatever the buckets: the bins follow one another, and their counts add up to those of the buckets."""
    made = histogram.rebin(found, bins)
    total = sum(n for _, _, n in found)
    assert (len(made) == bins) == (total > 0)
    assert [right for _, right, _ in made[:-1]] == [left for left, _, _ in made[1:]]
    assert all(n >= 0 for _, _, n in made)
    assert abs(sum(n for _, _, n in made) - total) <= 1e-9 * max(total, 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 4)), min_size=1, max_size=40), st.sets(st.integers(0, 3)))
def test_a_payload_gets_the_number_of_its_point(points: list[tuple[int, int]], wanted: set[int]) -> None:
    """In whatever order steps come: the n-th point in load order has the seq that numbering by hand gives it."""
    used = sorted({tag for tag, _ in points})
    states = [TagState(id=10 + tag, number=tag) for tag in used]
    index = np.array([used.index(tag) for tag, _ in points])
    step = np.array([step for _, step in points], np.int64)
    zeros = np.zeros(len(points))
    made = arrange(states, index, step, zeros, zeros, np.ones(len(points), np.int64), np.ones(len(points), np.bool_))
    ids = index + 0
    for i, state in enumerate(states):
        ids[index == i] = state.id
    chosen = np.isin(ids, [10 + tag for tag in wanted])
    expected, last, seqs = [], dict[int, int](), dict[int, int]()
    for tag, at in points:
        if tag in last and at <= last[tag]:
            seqs[tag] = seqs.get(tag, 0) + 1
        last[tag] = at
        if tag in wanted:
            expected.append(seqs.get(tag, 0))
    own = np.array(sorted(10 + tag for tag in wanted if tag in used), np.int64)
    assert expected == sequence(ids[chosen], step[chosen], made.rows, own).tolist()
