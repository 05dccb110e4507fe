"""Meshes: vertices, faces and colours of a shape, each a series of its own, which its plugin content tells apart.

Source: tensorboard's mesh plugin: tensors of [batch, n, 3].
"""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

from indexer.content import decoded
from indexer.payload import Array, Example, Kind, Options, Stored, shown
from indexer.plugins import tensor
from indexer.types import Blob

_AXES = 3


def decode(value: Array) -> list[Blob] | None:
    """Return the part of a mesh; None where the tensor has no rows of three."""
    if len(value.shape) < 2 or value.shape[-1] != _AXES:
        return None
    return [replace(blob, kind="mesh", rows=None) for blob in tensor.decode(value)]


def describe(stored: Stored) -> dict[str, object]:
    """Return type and shape, and what the plugin says of the series."""
    content = decoded("mesh", stored.content) or {}
    facts = shown(name=content.get("name"), content_type=content.get("content_type"), config=_config(content))
    return tensor.described(stored) | facts


def _config(content: dict[str, Any]) -> object:
    """Return the configuration of the scene; None where it is no strict JSON."""
    try:
        return json.loads(content.get("json_config") or "null", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def render(stored: Stored, options: Options) -> dict[str, object]:
    """Return the slice that is asked for."""
    return {"values": tensor.render(stored, options)["values"]}


KIND = Kind(
    name="mesh",
    path="/meshes",
    title="Meshes",
    about="Parts of three-dimensional shapes of TensorBoard: `content_type` tells vertices, faces and colours apart."
    " `dims` adds their values; `url` gives the elements, with `form=npy` as numpy saves them.",
    takes={Array: frozenset({"mesh"})},
    decode=decode,
    metadata={
        **{name: tensor.KIND.metadata[name] for name in ("dtype", "shape", "elements", "declared")},
        "name": {"type": "string", "description": "Of the shape."},
        "content_type": {"type": "string", "description": "VERTEX, FACE, COLOR or UNDEFINED."},
        "config": {"description": "Of the scene, as the writer says in JSON."},
    },
    describe=describe,
    fields={"values": tensor.KIND.fields["values"]},
    render=render,
    weigh=tensor.weigh,
    options=tensor.KIND.options,
    forms=tensor.KIND.forms,
    examples=(
        Example(
            Array("float32", (1, 2, 3), struct.pack("<6f", 0, 0, 0, 1, 2, 3)),
            "mesh",
            {"metadata": {"dtype": "float32", "shape": [1, 2, 3]}, "values": [1.0, 2.0, 3.0]},
            {"dims": "[0, 1, :]"},
        ),
    ),
)
