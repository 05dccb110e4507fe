"""Loss landscapes without any database: what decode makes of the arrays, and what is shown of them."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import pytest

from indexer import plugins
from indexer.decode.event import Value
from indexer.decode.payload import neutral
from indexer.payload import Array, Landscape, Stored, Unreadable
from indexer.plugins import landscape
from indexer.types import Blob, Format
from indexer.wire import mindspore_pb2 as wire


def floats(*numbers: float, shape: tuple[int, ...]) -> Array:
    """Return an array of 32-bit floats."""
    return Array("float32", shape, struct.pack(f"<{len(numbers)}f", *numbers), short=False)


def decoded(value: Landscape) -> Blob:
    """Return the blob of a landscape."""
    (blob,) = plugins.decode(value, "loss_landscape", lambda: b"as written")
    return blob


def stored(blob: Blob) -> Stored:
    """Return a blob as it is read back."""
    facts = json.loads(json.dumps(blob.facts or {}))
    return Stored(blob.content_type, len(blob.data or b""), facts=facts, error=blob.error, data=blob.data)


PATH = Landscape(
    {
        "path_x": floats(1, 2, shape=(2,)),
        "path_z": Array("int64", (2,), struct.pack("<2q", 3, -4), short=False),
        "convergence_z": floats(float("nan"), shape=()),
        "x": floats(shape=(0, 3)),
    },
    (1, 3),
)


def test_arrays_are_stored_as_64_bit_floats() -> None:
    """Whatever the type of an array's elements, they are stored as float64, one array behind the other."""
    blob = decoded(replace(PATH, arrays={name: PATH.arrays[name] for name in ("path_x", "path_z")}))
    assert struct.pack("<4d", 1, 2, 3, -4) == blob.data
    assert isinstance(blob.facts, dict)
    assert {"path_x": [2], "path_z": [2]} == blob.facts["arrays"]


def test_a_path_makes_it_an_interval_landscape() -> None:
    """Intervals are the path's; a scalar and an empty array keep their shape; metadata nobody wrote is not shown."""
    shown = stored(decoded(PATH))
    metadata = landscape.describe(shown)
    assert ("interval", [1, 3]) == (metadata["type"], metadata["intervals"])
    assert {"type", "intervals", "arrays"} == metadata.keys()
    found = landscape.render(shown, {})
    assert {"x": [1.0, 2.0], "z": [3.0, -4.0]} == found["path"]
    assert {"x": []} == found["landscape"]
    made = landscape.as_json(shown, {})
    assert {"z": "NaN"} == json.loads(made.data)["convergence_point"]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (floats(1, 2, 3, shape=(2, 2)), "3 elements of z for a shape of 4"),
        (floats(shape=(-1, 0)), "the shape [-1, 0] of z is impossible"),
    ],
)
def test_a_wrong_shape_is_an_error(array: Array, reason: str) -> None:
    """Elements that do not fit their shape: the message is kept as written, with the reason."""
    assert Blob("landscape", b"as written", error=reason) == decoded(Landscape({"z": array}, ()))


def test_the_message_becomes_arrays() -> None:
    """Each tensor that is written is an array; texts that are no UTF-8 are escaped; an unknown type is an error."""
    message = wire.Summary.Value(tag=b"landscape_[1, 2]")
    held = message.loss_landscape
    held.landscape.z.dims.extend((1, 2))
    held.landscape.z.data_type = 12
    held.landscape.z.float_data.extend((0.5, 2.0))
    held.loss_path.intervals.extend((1, 2))
    held.metadata.unit = b"ep\xff"
    held.metadata.step_per_epoch = 0
    array = Array("float32", (1, 2), struct.pack("<2f", 0.5, 2.0), "float64", short=False)
    value = Value("landscape_[1, 2]", "loss_landscape", "loss_landscape", message)
    assert Landscape({"z": array}, (1, 2), None, "ep\\xff", 0) == neutral(value, Format.MINDSPORE)
    held.convergence_point.x.data_type = 13
    held.convergence_point.x.raw_data = b"1"
    found = neutral(value, Format.MINDSPORE)
    assert Unreadable("landscape", held.SerializeToString(), "convergence_x is a tensor of type 13") == found
