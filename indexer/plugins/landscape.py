"""Loss landscapes of MindSpore: a surface of losses, the path of the training over it, and where it converged.

All numbers are stored as 64-bit floats, one array behind the other; `facts` say which, with their shapes. MindSpore
writes 32-bit ones, so nothing is rounded.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

from indexer.payload import Array, Example, Form, Kind, Landscape, Options, Stored, shown
from indexer.types import Blob

_ITEM = 8
_PARTS = {"landscape": "", "path": "path_", "convergence_point": "convergence_"}


def decode(value: Landscape) -> list[Blob]:
    """Return the landscape. ValueError where the elements of an array are not those of its shape."""
    import numpy as np

    arrays, declared, data = {}, {}, []
    for name, array in value.arrays.items():
        numbers = np.frombuffer(array.data, np.dtype(array.dtype).newbyteorder("<"))
        if min(array.shape, default=0) < 0:
            raise ValueError(f"the shape {list(array.shape)} of {name} is impossible")
        if len(numbers) != math.prod(array.shape):
            raise ValueError(f"{len(numbers)} elements of {name} for a shape of {math.prod(array.shape)}")
        arrays[name] = list(array.shape)
        if array.declared is not None:
            declared[name] = array.declared
        data.append(numbers.astype("<f8").tobytes())
    facts: dict[str, Any] = {
        "arrays": arrays,
        "intervals": list(value.intervals),
        **({"declared": declared} if declared else {}),
        **shown(decomposition=value.decomposition, unit=value.unit, step_per_epoch=value.step_per_epoch),
    }
    whole = b"".join(data)
    return [Blob("landscape", whole, dtype="float64", shape=(len(whole) // _ITEM,), facts=facts, packs=True)]


def describe(stored: Stored) -> dict[str, Any]:
    """Return the writer's words, and which arrays there are."""
    if stored.error is not None:
        return {}
    return {"type": "interval" if stored.facts["intervals"] else "final", **stored.facts}


def render(stored: Stored, _options: Options) -> dict[str, Any]:
    """Return the arrays as nested lists."""
    if stored.data is None or stored.error is not None:
        return dict.fromkeys(_PARTS)
    numbers = iter(struct.unpack(f"<{len(stored.data) // _ITEM}d", stored.data))
    lists = {name: _nested(numbers, shape) for name, shape in stored.facts["arrays"].items()}
    return {
        part: {axis: lists[prefix + axis] for axis in ("x", "y", "z") if prefix + axis in lists}
        for part, prefix in _PARTS.items()
    }


def _nested(numbers: Iterator[float], shape: list[int]) -> Any:
    """Return the next elements in a shape."""
    if not shape:
        return next(numbers)
    return [_nested(numbers, shape[1:]) for _ in range(shape[0])] if math.prod(shape) else []


def as_json(stored: Stored, options: Options) -> Form:
    """Return a landscape of any size as one JSON object."""
    whole = {"metadata": describe(stored), **render(stored, options)}
    return Form(json.dumps(_strict(whole), separators=(",", ":")).encode(), "application/json", "json")


def _strict(value: Any) -> Any:
    """Return `value` with every float that JSON has no number for as a string."""
    if isinstance(value, dict):
        return {name: _strict(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_strict(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _points(description: str) -> dict[str, Any]:
    return {"type": ["object", "null"], "description": f"{description} null where the answer would be too large."}


def _floats(*numbers: float, shape: tuple[int, ...]) -> Array:
    return Array("float32", shape, struct.pack(f"<{len(numbers)}f", *numbers), "float64", short=False)


KIND = Kind(
    name="landscape",
    path="/landscapes",
    title="Loss landscapes",
    about="Loss landscapes of MindSpore: axes `x` and `y`, losses `z`, the path of the training over them. `url` gives"
    " the arrays as 64-bit little-endian floats, in the order of `arrays`; with `form=json` one object, however large.",
    takes={Landscape: None},
    decode=decode,
    metadata={
        "type": {"enum": ["interval", "final"], "description": "`final`: without intervals, and so without a path."},
        "intervals": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Epochs or steps of the path's points.",
        },
        "unit": {"type": "string", "description": "Of the intervals: `epoch` or `step`."},
        "decomposition": {"type": "string", "description": "How directions were chosen: `PCA` or `Random`."},
        "step_per_epoch": {"type": "integer", "description": "Steps of an epoch."},
        "arrays": {
            "type": "object",
            "description": "Shape of each array: `x`, `y`, `z`, `path_x` ..., `convergence_x` ...",
        },
        "declared": {"type": "object", "description": "Types as the writer names them, where its elements differ."},
    },
    describe=describe,
    fields={
        "landscape": _points("`x` and `y`: axes; `z`: losses, z[i][j]."),
        "path": _points("`x`, `y`, `z` of the points that `intervals` names."),
        "convergence_point": _points("`x`, `y`, `z` of it."),
    },
    render=render,
    weigh=lambda length, _options: length or 1,
    forms={"json": as_json},
    examples=(
        Example(
            Landscape(
                {
                    "x": _floats(0.0, 1.0, shape=(2,)),
                    "y": _floats(0.5, shape=(1,)),
                    "z": _floats(3.0, 2.0, shape=(2, 1)),
                },
                (),
                "Random",
                "epoch",
                8,
            ),
            "loss_landscape",
            {
                "metadata": {
                    "type": "final",
                    "intervals": [],
                    "decomposition": "Random",
                    "unit": "epoch",
                    "step_per_epoch": 8,
                    "arrays": {"x": [2], "y": [1], "z": [2, 1]},
                    "declared": {"x": "float64", "y": "float64", "z": "float64"},
                },
                "landscape": {"x": [0.0, 1.0], "y": [0.5], "z": [[3.0], [2.0]]},
                "path": {},
                "convergence_point": {},
            },
        ),
    ),
)
