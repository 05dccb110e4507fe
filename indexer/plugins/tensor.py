"""Tensors of any series: their elements, C order, little-endian; byte strings each behind its length.

Fewer elements than the shape has, as tensorflow abbreviates: the last one stands for the rest, none for zeros. Such a
payload is stored as short as it is, and filled only when it is looked at.
"""

from __future__ import annotations

import math
import re
import struct
from typing import TYPE_CHECKING, Any

from indexer.payload import (
    PLUGIN_CONTENT,
    Array,
    Example,
    Form,
    Kind,
    Option,
    Options,
    Stored,
    Strings,
    Table,
    of_plugin,
    shown,
)
from indexer.types import Blob

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_SHOWN = 100_000
"""Elements of one slice."""
MAX_FILLED_BYTES = 256 * 2**20
"""A tensor that would be longer is not made whole."""

SIZES = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}
STRING = "string"
_LENGTH = struct.Struct("<Q")
_STATS = ("count", "min", "max", "mean", "stddev", "nan_count", "pos_inf_count", "neg_inf_count")
_PART = re.compile(r"\s*(?:(?P<index>-?\d{1,18})|(?P<first>-?\d{1,18})?\s*:\s*(?P<last>-?\d{1,18})?)\s*", re.ASCII)


def decode(value: Array | Strings) -> list[Blob]:
    """Return the tensor. ValueError where its elements are not those of its shape."""
    if isinstance(value, Strings):
        data = b"".join(_LENGTH.pack(len(item)) + item for item in value.items)
        given = len(value.items)
        error = _fits(value.shape, given, short=True)
        facts = shown(elements=None if error else _abbreviated(value.shape, given)) or None
        return [Blob("tensor", data, dtype=STRING, shape=value.shape, facts=facts, error=error, packs=True)]
    given, rest = divmod(len(value.data), SIZES[value.dtype])
    error = f"{rest} bytes more than whole elements" if rest else _fits(value.shape, given, short=value.short)
    facts = shown(declared=value.declared, elements=None if error else _abbreviated(value.shape, given)) or None
    rows = None if error else _statistics(value, given)
    return [
        Blob(
            "tensor", value.data, dtype=value.dtype, shape=value.shape, facts=facts, error=error, packs=True, rows=rows
        )
    ]


def _fits(shape: tuple[int, ...], given: int, *, short: bool) -> str | None:
    if any(size < 0 for size in shape):
        return f"the shape {list(shape)} is impossible"
    wanted = math.prod(shape)
    if given == wanted or (short and given < wanted):
        return None
    return f"{given} elements for a shape of {wanted}"


def _abbreviated(shape: tuple[int, ...], given: int) -> int | None:
    """Return how many elements there are, where they are fewer than the shape has."""
    return given if given < math.prod(shape) else None


def _statistics(value: Array, given: int) -> dict[str, list[tuple[Any, ...]]] | None:
    """Return the row of tensor_stats; None where numbers have no order, or the tensor is abbreviated."""
    if value.dtype.startswith("complex") or given != math.prod(value.shape):
        return None
    import numpy as np

    numbers = elements(value.data, value.dtype)
    finite = numbers
    counts = (0, 0, 0)
    if numbers.dtype.kind == "f":
        usual = np.isfinite(numbers)
        if not usual.all():
            finite = numbers[usual]
            odd = numbers[~usual]
            nans = int(np.isnan(odd).sum())
            counts = (nans, int((odd > 0).sum()), int((odd < 0).sum()))
    if not len(finite):
        return {"tensor_stats": [(given, None, None, None, None, *counts)]}
    with np.errstate(all="ignore"):
        figures = (finite.min(), finite.max(), finite.mean(dtype=np.float64), finite.std(dtype=np.float64))
    known = (None if math.isnan(figure) else figure for figure in map(float, figures))
    return {"tensor_stats": [(given, *known, *counts)]}


# Showing --------------------------------------------------------------------------------------------------------------
def elements(data: bytes, dtype: str) -> npt.NDArray[Any]:
    """Return the elements in a payload, shape (n,); bfloat16 as float32, which holds all of its numbers."""
    import numpy as np

    if dtype == "bfloat16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def strings(data: bytes) -> list[bytes]:
    """Return the byte strings in a payload."""
    found, at = [], 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        found.append(data[at : at + length])
        at += length
    return found


def whole(stored: Stored) -> npt.NDArray[Any]:
    """Return a tensor in its shape, filled where it is abbreviated. ValueError where it would be too large."""
    import numpy as np

    shape = stored.shape or ()
    data = stored.data or b""
    count = math.prod(shape)
    found: npt.NDArray[Any]
    if stored.dtype == STRING:
        items = strings(data)
        found = np.empty(len(items), object)
        found[:] = items
        size = 64
    else:
        found = elements(data, stored.dtype or "")
        size = found.dtype.itemsize
    if len(found) < count:
        if count * size > MAX_FILLED_BYTES:
            raise ValueError(f"the tensor has {count} elements, too many to fill in")
        last: Any = found[-1] if len(found) else (b"" if found.dtype == object else 0)
        filled = np.full(count, last, found.dtype)
        filled[: len(found)] = found
        found = filled
    return found.reshape(shape)


def sliced(stored: Stored, dims: str | None) -> npt.NDArray[Any]:
    """Return the part of a tensor that `dims` names: `[0, :, 1:3]`, an index or a range a dimension. ValueError."""
    found = whole(stored)
    if dims is None:
        return found
    text = dims.strip()
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1]
    parts: list[int | slice] = []
    names = text.split(",") if text.strip() else []
    if len(names) != found.ndim:
        raise ValueError(f"has {len(names)} dimensions, the tensor {found.ndim}: {list(found.shape)}")
    for name, size in zip(names, found.shape, strict=True):
        match = _PART.fullmatch(name)
        if match is None:
            raise ValueError("is an index, `:` or `first:last` for each dimension, as in [0, :, 1:3]")
        if (index := match["index"]) is not None:
            if not -size <= int(index) < size:
                raise ValueError(f"has index {index} in a dimension of {size}")
            parts.append(int(index))
        else:
            parts.append(slice(*(None if end is None else int(end) for end in (match["first"], match["last"]))))
    part: npt.NDArray[Any] = _as_array(found[tuple(parts)])
    return part


def _as_array(found: Any) -> npt.NDArray[Any]:
    """Return an element, or an array, as an array."""
    import numpy as np

    if isinstance(found, bytes):
        made = np.empty((), object)
        made[()] = found
        return made
    return np.asarray(found)


def as_json(found: npt.NDArray[Any]) -> Any:
    """Return elements as nested lists: complex ones as [real, imaginary], bytes as text, those not UTF-8 escaped."""
    if found.size > MAX_SHOWN:
        raise ValueError(f"names {found.size} elements, and {MAX_SHOWN} is the limit: name fewer")
    if found.dtype == object:
        return _texts(found.tolist())
    if found.dtype.kind == "c":
        import numpy as np

        return np.stack([found.real, found.imag], axis=-1).tolist()
    return found.tolist()


def _texts(value: Any) -> Any:
    return [_texts(inner) for inner in value] if isinstance(value, list) else value.decode("utf-8", "backslashreplace")


def describe(stored: Stored) -> dict[str, object]:
    """Return type and shape, and what the plugin says of the series: here are those of plugins nobody knows."""
    return described(stored) | of_plugin(stored)


def described(stored: Stored) -> dict[str, object]:
    """Return type and shape."""
    return shown(dtype=stored.dtype, shape=None if stored.shape is None else list(stored.shape), **stored.facts)


def render(stored: Stored, options: Options) -> dict[str, object]:
    """Return the slice that is asked for, and the statistics."""
    dims = options.get("dims")
    values = None
    if isinstance(dims, str) and stored.data is not None and stored.error is None:
        values = as_json(sliced(stored, dims))
    statistics = dict(stored.row) if stored.row.get("count") is not None else None
    return {"values": values, "statistics": statistics}


def weigh(length: int, options: Options) -> int:
    """Return the bytes of an item."""
    return 0 if options.get("dims") is None else 4 * max(length, 1)


def npy(stored: Stored, options: Options) -> Form:
    """Return a tensor, or a slice, as numpy saves it; bfloat16 becomes float32."""
    import io

    import numpy as np

    dims = options.get("dims")
    if stored.dtype == STRING:
        raise ValueError("of byte strings cannot be had as npy")
    out = io.BytesIO()
    np.save(out, np.asarray(sliced(stored, dims if isinstance(dims, str) else None), order="C"), allow_pickle=False)
    return Form(out.getvalue(), "application/octet-stream", "npy")


_NUMBERS = struct.pack("<4f", 1.0, 2.0, 3.0, 6.0)
_EXAMPLE_STATISTICS = {
    "count": 4,
    "min": 1.0,
    "max": 6.0,
    "mean": 3.0,
    "stddev": math.sqrt(3.5),
    "nan_count": 0,
    "pos_inf_count": 0,
    "neg_inf_count": 0,
}

KIND = Kind(
    name="tensor",
    path="/tensors",
    title="Tensors",
    about="Tensors of MindSpore, and those of TensorBoard that no other kind takes. `dims` adds their values; `url`"
    " gives the elements as little-endian bytes, with `form=npy` as numpy saves them.",
    takes={Array: None, Strings: None},
    decode=decode,
    metadata={
        "dtype": {
            "type": "string",
            "description": "Of the stored elements, numpy's name; `string`: each a 64-bit length and its bytes.",
        },
        "shape": {"type": "array", "items": {"type": "integer"}, "description": "Its dimensions."},
        "elements": {
            "type": "integer",
            "description": "How many are stored, where the shape has more: the last one stands for the rest.",
        },
        "declared": {"type": "string", "description": "The type as the writer names it, where its elements differ."},
        **PLUGIN_CONTENT,
    },
    describe=describe,
    fields={
        "values": {
            "description": "The slice `dims` names, as nested lists; null without it, or where it would be too large."
        },
        "statistics": {
            "type": ["object", "null"],
            "description": "Row of tensor_stats: over finite elements; null where there is none.",
        },
    },
    render=render,
    weigh=weigh,
    options=(
        Option(
            "dims", f"Which part: an index or a range for each dimension, [0, :, 1:3]; at most {MAX_SHOWN} elements."
        ),
    ),
    forms={"npy": npy},
    tables=(Table("tensor_stats", _STATS),),
    examples=(
        Example(
            Array("float32", (2, 2), _NUMBERS, "float64"),
            "tensor",
            {
                "metadata": {"dtype": "float32", "shape": [2, 2], "declared": "float64"},
                "values": [2.0, 6.0],
                "statistics": _EXAMPLE_STATISTICS,
            },
            {"dims": "[:, 1]"},
        ),
        Example(
            Strings((2,), (b"a", b"\xff")),
            "",
            {"metadata": {"dtype": "string", "shape": [2]}, "values": ["a", "\\xff"], "statistics": None},
            {"dims": ":"},
        ),
    ),
)
