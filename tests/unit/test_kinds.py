"""Kinds of payload without any database: what decode makes of values, and what is shown of it."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from indexer import payload, plugins
from indexer.payload import (
    Array,
    Buckets,
    HParams,
    Kind,
    Landscape,
    Lineage,
    Message,
    Neutral,
    Picture,
    Sound,
    Stored,
    Strings,
    Unreadable,
)
from indexer.plugins import audio, histogram, image, layout, log, mesh, message, pr_curve, tensor
from indexer.types import Blob
from tests.support.records import bytes_field, png, varint_field

TYPES = (Picture, Sound, Buckets, Array, Strings, Landscape, Message, Lineage, HParams)


def decoded(value: Neutral, plugin: str = "", written: bytes = b"as written") -> list[Blob]:
    """Return the blobs of a value."""
    return list(plugins.decode(value, plugin, lambda: written))


def stored(blob: Blob) -> Stored:
    """Return a blob as it is read back, its row by the names of its columns."""
    kind = plugins.BY_NAME[blob.kind]
    single = next((table for table in kind.tables if table.single), None)
    row: dict[str, Any] = {}
    if single is not None:
        rows = (blob.rows or {}).get(single.name, [(None,) * len(single.columns)])
        row = dict(zip(single.columns, rows[0], strict=True))
    data = blob.data or b""
    facts = json.loads(blob.facts if isinstance(blob.facts, str) else json.dumps(blob.facts or {}))
    return Stored(
        blob.content_type, len(data), blob.width, blob.height, blob.colorspace, blob.dtype, blob.shape, facts,
        blob.error, data, row,
    )  # fmt: skip


def examples() -> list[tuple[Kind, payload.Example]]:
    """Return all examples of all kinds."""
    return [(kind, example) for kind in plugins.KINDS for example in kind.examples]


@pytest.mark.parametrize(("kind", "example"), examples(), ids=lambda value: getattr(value, "name", None))
def test_examples_are_shown_as_documented(kind: Kind, example: payload.Example) -> None:
    """What the API's documentation shows of a value is what a request shows of it."""
    found = [stored(blob) for blob in decoded(example.value, example.plugin)]
    assert found
    shown = {"metadata": kind.describe(found[0])} | kind.render(found[0], example.options)
    assert dict(example.shown) == shown


def test_every_kind_is_whole() -> None:
    """A kind has its own name, path and tables, an example, and words for every field that it shows."""
    for what in ("name", "path"):
        names = [getattr(kind, what) for kind in plugins.KINDS]
        assert sorted(set(names)) == sorted(names)
    assert len(plugins.TABLES) == len({table.name for table in plugins.TABLES})
    for kind in plugins.KINDS:
        assert kind.examples
        for example in kind.examples:
            assert set(example.shown["metadata"]) <= set(kind.metadata)
            assert set(example.shown) - {"metadata"} == set(kind.fields)
        assert all("description" in schema for schema in (*kind.metadata.values(), *kind.fields.values()))


@pytest.mark.parametrize("type_", TYPES)
def test_every_value_has_a_kind(type_: type) -> None:
    """Some kind takes every value of a type, whatever its series' plugin."""
    assert any(kind.takes.get(type_, frozenset()) is None for kind in plugins.KINDS)


def test_what_is_unreadable_is_kept_with_the_reason() -> None:
    """A value that is not what its field promises keeps its bytes under the kind it should have been."""
    assert [Blob("histogram", b"abc", error="2 counts for 1 limit")] == decoded(
        Unreadable("histogram", b"abc", "2 counts for 1 limit")
    )


def test_a_defect_of_a_kind_costs_one_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in a kind's decode, the bytes are kept and the error says what it was."""

    def broken(_value: object) -> list[Blob]:
        raise IndexError("no such thing")

    monkeypatch.setattr(plugins, "KINDS", (replace(image.KIND, decode=broken),))
    assert [Blob("image", b"as written", error="IndexError('no such thing')")] == decoded(Picture(b"", 1, 1, 1))


# Images and sounds ----------------------------------------------------------------------------------------------------
JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc2\x00\x0b\x08\x00\x07\x00\x09\x01\x01\x11\x00"
HEADERS = [
    (png(3, 2), ("image/png", 3, 2)),
    (JPEG, ("image/jpeg", 9, 7)),
    (b"GIF89a\x05\x00\x04\x00", ("image/gif", 5, 4)),
    (b"RIFF____WEBPVP8X" + bytes(8) + b"\x03\x00\x00\x04\x00\x00", ("image/webp", 4, 5)),
    (b"RIFF____WEBPVP8L" + bytes(5) + struct.pack("<I", 6 | 7 << 14) + bytes(5), ("image/webp", 7, 8)),
    (b"RIFF____WEBPVP8 " + bytes(10) + struct.pack("<HH", 8, 9), ("image/webp", 8, 9)),
    (b"BM" + bytes(16) + struct.pack("<ii", 6, -5), ("image/bmp", 6, 5)),
]


@pytest.mark.parametrize(("data", "expected"), HEADERS, ids=[content_type for _, (content_type, *_) in HEADERS])
def test_type_and_size_come_from_the_header(data: bytes, expected: tuple[str, int, int]) -> None:
    """An image's own header says what it is and how large; it is an error wherever that header is cut."""
    assert expected == image.sniff(data)[:3]
    for length in range(len(data) if expected[0] != "image/png" else 33):
        assert (payload.OCTETS, 0, 0) == image.sniff(data[:length])[:3] or expected == image.sniff(data[:length])[:3]
    assert image.sniff(data[:9]).error is not None


@pytest.mark.parametrize(
    "data", [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"<html>", png(0, 1), png(1, 1)[1:]]
)
def test_what_is_no_image_is_an_error(data: bytes) -> None:
    """Markup, an image without pixels and other bytes are kept, and flagged."""
    (blob,) = decoded(Picture(data, 7, 8, 3))
    assert (data, payload.OCTETS, 7, 8) == (blob.data, blob.content_type, blob.width, blob.height)
    assert blob.error


def test_a_damaged_png_header_is_an_error() -> None:
    """One bit of the size flipped: the header's own checksum tells."""
    data = bytearray(png(3, 2))
    data[19] ^= 1
    (blob,) = decoded(Picture(bytes(data), 3, 2, 3))
    assert "the header of an image/png is damaged" == blob.error


def test_an_image_tensor_is_an_image_each() -> None:
    """[width, height, image ...] gives a blob an image; a size that the image contradicts is noted."""
    found = decoded(Strings((4,), (b"3", b"2", png(3, 2), png(1, 2))), "images")
    assert [(3, 2, None), (1, 2, {"recorded_width": 3, "recorded_height": 2})] == [
        (blob.width, blob.height, blob.facts) for blob in found
    ]


@pytest.mark.parametrize("items", [(b"3", b"2"), (b"a", b"2", b"x"), (b"", b"2", b"x")])
def test_another_tensor_of_plugin_images_is_kept_as_tensor(items: tuple[bytes, ...]) -> None:
    """What does not begin with a width and a height is no images."""
    assert ["tensor"] == [blob.kind for blob in decoded(Strings((len(items),), items), "images")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"OggS", "audio/ogg"), (b"fLaC", "audio/flac"), (b"ID3", "audio/mpeg"), (b"\xff\xfb\x90", "audio/mpeg")],
)
def test_a_sound_is_known_by_its_first_bytes(data: bytes, expected: str) -> None:
    """Ogg, FLAC and MP3 have a mark."""
    assert (expected, None) == audio.sniff(data)


def test_a_wav_without_format_is_an_error() -> None:
    """A RIFF file whose chunks end before `fmt ` cannot be played."""
    assert (payload.OCTETS, "the header of an audio/wav is damaged") == audio.sniff(b"RIFF____WAVEdata\x00\x00\x00\x00")


# Texts ----------------------------------------------------------------------------------------------------------------
def test_a_text_that_is_no_utf8_is_an_error() -> None:
    """It is kept as it is, and the one beside it is none the worse."""
    good, bad = decoded(Strings((2,), ("grün".encode(), b"ab\xff")), "text")
    assert (None, payload.PLAIN_TEXT) == (good.error, good.content_type)
    assert ("byte 2 is no UTF-8", b"ab\xff", payload.OCTETS) == (bad.error, bad.data, bad.content_type)


# Histograms -----------------------------------------------------------------------------------------------------------
def rows(*found: tuple[float, float, float]) -> bytes:
    """Return rows of a histogram."""
    return b"".join(struct.pack("<3d", *row) for row in found)


def statistics(value: Neutral) -> dict[str, Any]:
    """Return the row of histogram_stats."""
    (blob,) = decoded(value, "histograms")
    return dict(stored(blob).row)


def test_statistics_are_the_writers() -> None:
    """Count, sum and sum of squares as TensorBoard wrote them give mean and deviation exactly."""
    found = statistics(Buckets(rows((0, 9, 4)), widths=False, count=4, min=0, max=9, sum=8, sum_squares=24))
    assert (4, 0, 9, 8, 24, 2, 2**0.5) == tuple(
        found[name] for name in ("count", "min", "max", "sum", "sum_squares", "mean", "stddev")
    )


def test_statistics_that_are_missing_come_from_the_buckets() -> None:
    """A tensor of buckets says no more than they do: each value counts as in the middle; an empty one adds no range."""
    found = statistics(Array("float64", (3, 3), rows((-9, 0, 0), (0, 2, 3), (2, 4, 1))))
    assert (4, 0, 4, None, None, 1.5, 0.75**0.5) == tuple(
        found[name] for name in ("count", "min", "max", "sum", "sum_squares", "mean", "stddev")
    )


def test_an_empty_histogram_has_no_mean() -> None:
    """No values: no minimum, maximum, mean or deviation."""
    found = statistics(Buckets(b"", widths=True, count=8, min=0, max=0, sum=0, nan_count=8))
    assert (0, None, None, None, None, 8) == tuple(
        found[name] for name in ("count", "min", "max", "mean", "stddev", "nan_count")
    )


def test_bins_of_odd_buckets() -> None:
    """A bucket without width, or with an infinite edge, counts at its finite edge; what is no count is left out."""
    inf, nan = float("inf"), float("nan")
    found = histogram.rebin([(-inf, 0, 1), (1, 1, 2), (2, 1, 3), (4, inf, 4), (nan, nan, 5), (0, 9, nan), (7, 9, 0)], 4)
    assert [(0, 1, 1), (1, 2, 2), (2, 3, 3), (3, 4, 4)] == found


def test_a_histogram_whose_bytes_are_short_is_an_error() -> None:
    """The shape says more buckets than there are bytes."""
    (blob,) = decoded(Array("float64", (2, 3), rows((0, 1, 2))), "histograms", b"raw")
    assert ("histogram", b"raw", "24 bytes for 2 buckets of 24") == (blob.kind, blob.data, blob.error)


# Tensors --------------------------------------------------------------------------------------------------------------
CUBE = np.arange(24, dtype="<i2").reshape(2, 3, 4)


def kept(value: Neutral, plugin: str = "") -> Stored:
    """Return the only blob of a value as it is read back."""
    (blob,) = decoded(value, plugin)
    assert blob.error is None
    return stored(blob)


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        ("[0,0,:]", CUBE[0, 0]),
        (" 1 , : , 1:3 ", CUBE[1, :, 1:3]),
        ("[-1,-1,-1]", CUBE[-1, -1, -1]),
        (":,:,:", CUBE),
        ("0:9,2:,:1", CUBE[0:9, 2:, :1]),
        ("[1:1,:,:]", CUBE[1:1]),
    ],
)
def test_slices_are_numpys(dims: str, expected: Any) -> None:
    """An index or a range for each dimension, with or without brackets, as numpy takes them."""
    cube = kept(Array("int16", (2, 3, 4), CUBE.tobytes()))
    assert expected.tolist() == tensor.KIND.render(cube, {"dims": dims})["values"]
    saved = np.load(io.BytesIO(tensor.KIND.forms["npy"](cube, {"dims": dims}).data))
    assert (expected.tolist(), expected.dtype) == (saved.tolist(), saved.dtype)


@pytest.mark.parametrize(
    "dims", ["", "[]", "0", "0,0,0,0", "2,0,0", "0,0,-5", "a,0,0", "0,0,1:2:3", "0;0;0", "[0,0,0", "0,,0"]
)
def test_other_slices_are_refused(dims: str) -> None:
    """Too few or too many dimensions, an index out of range, and what is no index."""
    with pytest.raises(ValueError, match=r"dimension|index"):
        tensor.KIND.render(kept(Array("int16", (2, 3, 4), CUBE.tobytes())), {"dims": dims})


def test_a_slice_is_bounded() -> None:
    """A tensor whose shape is all it has is not made whole, and no answer holds more than its limit."""
    with pytest.raises(ValueError, match="too many to fill in"):
        tensor.KIND.render(kept(Array("float32", (2**40,), b"\x00\x00\x80?")), {"dims": "0"})
    with pytest.raises(ValueError, match="is the limit"):
        tensor.KIND.render(kept(Array("uint8", (tensor.MAX_SHOWN + 1,), b"\x07")), {"dims": ":"})


def test_an_abbreviated_tensor_is_filled_when_it_is_shown() -> None:
    """The last element stands for the rest, none for zeros; it is stored as short as it came."""
    short = kept(Array("uint8", (4,), b"\x01\x02"))
    assert (b"\x01\x02", [1, 2, 2, 2]) == (short.data, tensor.KIND.render(short, {"dims": ":"})["values"])
    none = kept(Array("float32", (2, 1), b""))
    assert [[0.0], [0.0]] == tensor.KIND.render(none, {"dims": ":,:"})["values"]
    words = kept(Strings((3,), (b"a",)))
    assert ["a", "a", "a"] == tensor.KIND.render(words, {"dims": ":"})["values"]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (Array("float32", (2,), bytes(12)), "3 elements for a shape of 2"),
        (Array("float32", (2,), bytes(7)), "3 bytes more than whole elements"),
        (Array("float32", (3,), bytes(8), short=False), "2 elements for a shape of 3"),
        (Array("float32", (-1, -1), bytes(4)), "the shape [-1, -1] is impossible"),
        (Strings((1,), (b"a", b"b")), "2 elements for a shape of 1"),
    ],
)
def test_elements_that_do_not_fit_the_shape_are_an_error(value: Array | Strings, error: str) -> None:
    """They are kept as they are."""
    (blob,) = decoded(value)
    assert (error, value.shape) == (blob.error, blob.shape)
    assert blob.data == (value.data if isinstance(value, Array) else tensor.decode(value)[0].data)
    assert blob.rows is None


def test_statistics_are_over_finite_elements() -> None:
    """NaN and the infinities are counted apart."""
    numbers = np.array([1, np.nan, 3, np.inf, -np.inf, -np.inf], "<f4")
    found = kept(Array("float32", (6,), numbers.tobytes())).row
    assert {
        "count": 6,
        "min": 1.0,
        "max": 3.0,
        "mean": 2.0,
        "stddev": 1.0,
        "nan_count": 1,
        "pos_inf_count": 1,
        "neg_inf_count": 2,
    } == found


def test_a_bfloat16_is_the_upper_half_of_a_float() -> None:
    """Its elements are shown as float32, which holds all of them."""
    half = kept(Array("bfloat16", (2,), struct.pack("<HH", 0x3F80, 0xC000)))
    assert [1.0, -2.0] == tensor.KIND.render(half, {"dims": ":"})["values"]
    assert [1.0, -2.0] == np.load(io.BytesIO(tensor.KIND.forms["npy"](half, {}).data)).tolist()


# Other kinds of TensorBoard -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "plugin"),
    [
        (Array("float32", (5, 2), bytes(40)), "pr_curves"),
        (Array("float32", (6, 2), bytes(4)), "pr_curves"),
        (Array("int32", (6, 1), bytes(24)), "pr_curves"),
        (Array("float32", (6,), bytes(24)), "pr_curves"),
        (Array("float32", (3,), bytes(12)), "mesh"),
        (Array("float32", (2, 2), bytes(16)), "mesh"),
        (Strings((1,), (b"a",)), "mesh"),
    ],
)
def test_what_is_no_curve_or_mesh_is_kept_as_tensor(value: Neutral, plugin: str) -> None:
    """A plugin's name promises nothing: a tensor of another shape or type is a tensor."""
    assert ["tensor"] == [blob.kind for blob in decoded(value, plugin)]


def test_a_curve_of_one_threshold() -> None:
    """It lies at 0; one without any has empty rows."""
    for n, thresholds in ((1, [0.0]), (0, [])):
        curve = kept(Array("float64", (6, n), bytes(48 * n)), "pr_curves")
        shown_ = pr_curve.KIND.render(curve, {})
        assert (thresholds, [0.0] * n) == (shown_["thresholds"], shown_["recall"])


def test_elements_of_a_mesh_have_to_fit() -> None:
    """Its error is that of a tensor, its bytes are kept."""
    (blob,) = decoded(Array("float32", (1, 2, 3), bytes(28)), "mesh")
    assert ("mesh", "7 elements for a shape of 6", bytes(28), None) == (blob.kind, blob.error, blob.data, blob.rows)


@pytest.mark.parametrize(
    ("config", "expected"),
    [("{}", {}), ('{"fov": 75}', {"fov": 75}), ("NaN", None), ("{", None), ("[" * 100_000, None), ("", None)],
)
def test_the_scene_of_a_mesh_is_strict_json(config: str, expected: object) -> None:
    """What is none is left out, and the content is still listed with the tag."""
    content = bytes_field(2, b"shape") + varint_field(3, 2) + bytes_field(5, config.encode())
    stored_ = replace(kept(Array("int32", (1, 1, 3), bytes(12)), "mesh"), content=content)
    found = mesh.KIND.describe(stored_)
    assert ("shape", "FACE", expected) == (found["name"], found["content_type"], found.get("config"))


def test_a_layout_that_is_none_is_an_error() -> None:
    """It is kept as it is, and the one beside it is none the worse."""
    good, bad = decoded(Strings((2,), (b"\x08\x01", b"\x12\x7f")), "custom_scalars")
    assert (None, {"layout": {"version": 1}}) == (good.error, layout.KIND.render(stored(good), {}))
    assert ("no layout: a message ends inside a field", b"\x12\x7f") == (bad.error, bad.data)
    assert {"layout": None} == layout.KIND.render(stored(bad), {})


def test_a_long_log_line_is_cut_where_it_is_listed() -> None:
    """Its facts hold the beginning and say so; the bytes have all of it."""
    message = bytes_field(2, b"x" * (log.MAX_SHOWN + 1))
    (blob,) = decoded(Message("log_message", message), "log_message")
    assert {"field": "log_message", "message": "x" * log.MAX_SHOWN, "cut": True} == blob.facts
    assert message == blob.data


def test_a_log_that_cannot_be_read_is_an_error() -> None:
    """It is kept as written."""
    (blob,) = decoded(Message("session_log", b"\x12\x01\xff"), "session_log", b"\x12\x01\xff")
    assert ("log", "byte 0 of checkpoint_path is no UTF-8", b"\x12\x01\xff") == (blob.kind, blob.error, blob.data)


@pytest.mark.parametrize(
    ("kind", "value"), [(tensor.KIND, Array("uint8", (1,), b"a")), (message.KIND, Message("f", b"a"))]
)
def test_content_of_a_plugin_nobody_knows_is_shown(kind: Kind, value: Neutral) -> None:
    """As base64, beside what is known of the payload."""
    found = kind.describe(replace(kept(value, "mine"), content=b"\x00\xff"))
    assert "AP8=" == found["plugin_content"]
