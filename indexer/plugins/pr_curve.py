"""Precision-recall curves: six rows of n, one column a threshold.

Source: tensorboard's pr_curve plugin; its n thresholds lie evenly from 0 to 1.
"""

from __future__ import annotations

import struct
from typing import Any

from indexer.content import decoded
from indexer.payload import Array, Example, Kind, Options, Stored, shown
from indexer.plugins import tensor
from indexer.types import Blob

ROWS = ("true_positives", "false_positives", "true_negatives", "false_negatives", "precision", "recall")


def decode(value: Array) -> list[Blob] | None:
    """Return the curve; None where the tensor is none of six whole rows of floats."""
    if value.dtype not in {"float32", "float64"} or len(value.shape) != 2 or value.shape[0] != len(ROWS):
        return None
    if len(value.data) != len(ROWS) * value.shape[1] * tensor.SIZES[value.dtype]:
        return None
    return [Blob("pr_curve", value.data, dtype=value.dtype, shape=value.shape, packs=True)]


def describe(stored: Stored) -> dict[str, object]:
    """Return how many thresholds there are, and how many the writer says."""
    written = (decoded("pr_curves", stored.content) or {}).get("num_thresholds")
    shape = None if stored.shape is None else list(stored.shape)
    return shown(dtype=stored.dtype, shape=shape, num_thresholds=written)


def render(stored: Stored, _options: Options) -> dict[str, Any]:
    """Return the rows, and the thresholds they belong to."""
    if stored.data is None or stored.error is not None:
        return dict.fromkeys(("thresholds", *ROWS))
    rows = tensor.elements(stored.data, stored.dtype or "").reshape(len(ROWS), -1).tolist()
    n = len(rows[0])
    return {"thresholds": [i / (n - 1) if n > 1 else 0.0 for i in range(n)], **dict(zip(ROWS, rows, strict=True))}


def weigh(length: int, _options: Options) -> int:
    """Return the bytes of an item."""
    return 4 * max(length, 1)


_LIST = {"type": ["array", "null"], "items": {"type": ["number", "string"]}}
_EXAMPLE = Array("float32", (6, 2), struct.pack("<12f", 3, 1, 2, 0, 0, 2, 0, 2, 0.5, 1, 1, 0.25))

KIND = Kind(
    name="pr_curve",
    path="/pr-curves",
    title="Precision-recall curves",
    about="Curves of TensorBoard. `url` gives the six rows as little-endian floats.",
    takes={Array: frozenset({"pr_curves"})},
    decode=decode,
    metadata={
        "dtype": {"type": "string", "description": "Of the stored floats, numpy's name."},
        "shape": {"type": "array", "items": {"type": "integer"}, "description": "[6, number of thresholds]."},
        "num_thresholds": {"type": "integer", "description": "As the writer says."},
    },
    describe=describe,
    fields={
        "thresholds": {**_LIST, "description": "Evenly from 0 to 1; null as the rows are."},
        **{
            name: {**_LIST, "description": f"{name.replace('_', ' ').capitalize()}; null where it would be too large."}
            for name in ROWS
        },
    },
    render=render,
    weigh=weigh,
    examples=(
        Example(
            _EXAMPLE,
            "pr_curves",
            {
                "metadata": {"dtype": "float32", "shape": [6, 2]},
                "thresholds": [0.0, 1.0],
                "true_positives": [3.0, 1.0],
                "false_positives": [2.0, 0.0],
                "true_negatives": [0.0, 2.0],
                "false_negatives": [0.0, 2.0],
                "precision": [0.5, 1.0],
                "recall": [1.0, 0.25],
            },
        ),
    ),
)
