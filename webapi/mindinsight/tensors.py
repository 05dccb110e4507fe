"""Tensors: their shapes, statistics, histograms, and slices of their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from indexer.nodes import MINDSPORE_TYPES
from indexer.plugins import tensor
from webapi import blobs
from webapi.mindinsight import catalogue, current, errors
from webapi.mindinsight.answers import number
from webapi.mindinsight.catalogue import TagRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.histograms import Histogram, bins, rebinned
from webapi.mindinsight.kept import content
from webapi.mindinsight.parameters import Query, integer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MOST_TENSORS = 200
"""Of a tag: ten times what MindInsight keeps; of more there are some, evenly."""
MOST_ELEMENTS = 10_000_000
"""A tensor of more has neither values nor statistics."""
MOST_SHOWN = 100_000
"""Elements of a slice."""
MOST_SLICES = 2
_DETAILS = (None, "stats", "data", "histogram")
_WHERE = "b.error IS NULL"

Index = tuple[int | slice, ...]


def tensors(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show tensors of several jobs and tags: what there is not fails the whole request."""
    train_ids, tags = query.every("train_id"), query.every("tag")
    if not any(train_ids):
        raise errors.missing("train_id")
    if not any(tags):
        raise errors.missing("tag")
    detail = query.text("detail")
    if detail not in _DETAILS:
        raise errors.wrong_value(f"Can not support this value: {detail} of detail.")
    root = catalogue.root(conn)
    jobs = {train_id: catalogue.loaded_job(conn, root, train_id) for train_id in dict.fromkeys(train_ids)}
    rows = catalogue.named(conn, [job.id for job in jobs.values()], tags)
    shown = []
    known: dict[int, list[dict[str, Any]]] = {}
    for train_id in train_ids:
        for tag in tags:
            row = rows.get((jobs[train_id].id, tag))
            if row is None:
                raise errors.no_tensor(errors.UNKNOWN_TAG)
            if row.shown_by != "tensor":
                raise errors.no_tensor(f"there is no tensor data in this tag: {tag}")
            if row.id not in known:
                known[row.id] = _values(conn, row, detail, query)
            shown.append({"train_id": train_id, "tag": tag, "values": known[row.id]})
    return {"tensors": shown}


def _values(conn: Connection, tag: TagRow, detail: str | None, query: Query) -> list[dict[str, Any]]:
    if detail == "data":
        given, dims = query.required("step"), query.required("dims")
        index = parsed(dims)
        step = integer("step", given)
        row = current.at_step(conn, tag, tensor.KIND, step, where=_WHERE)
        if row is None:
            raise errors.no_step(step)
        return [_shown(row, {**_head(row), **_slice(conn, row, index)})]
    rows = current.payloads(conn, tag, tensor.KIND, most=MOST_TENSORS, where=_WHERE)
    if detail is None:
        return [_shown(row, _head(row)) for row in rows]
    if detail == "stats":
        return [_shown(row, {**_head(row), "statistics": _of(conn, row, _whole_statistics)}) for row in rows]
    large = next((row for row in rows if _count(row) > MOST_ELEMENTS), None)
    if large is not None:
        raise errors.too_large(large.key[1])
    both = [_of(conn, row, lambda numbers: (_histogram(numbers), _whole_statistics(numbers))) for row in rows]
    buckets = rebinned([found[0] for found in both])
    return [
        _shown(row, {**_head(row), "histogram_buckets": own, "statistics": found[1]})
        for row, own, found in zip(rows, buckets, both, strict=True)
    ]


# What a tensor is -----------------------------------------------------------------------------------------------------
def _shown(row: blobs.BlobRow, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"wall_time": number(row.wall_time), "step": row.key[1], "value": value}


def _head(row: blobs.BlobRow) -> dict[str, Any]:
    declared = row.stored.facts.get("declared") or row.stored.dtype or ""
    return {"dims": list(row.stored.shape or ()), "data_type": type_name(declared)}


def type_name(declared: str) -> str:
    """Return a type as MindSpore names it."""
    if declared.startswith("type "):
        code = int(declared.removeprefix("type "))
        return f"DT_{MINDSPORE_TYPES[code]}" if 0 <= code < len(MINDSPORE_TYPES) else "DT_UNDEFINED"
    return f"DT_{declared.upper()}"


def _count(row: blobs.BlobRow) -> int:
    return math.prod(row.stored.shape or ())


def _of(conn: Connection, row: blobs.BlobRow, look: Callable[[Floats], Any]) -> Any:
    """Return what `look` sees in a tensor, None where it is too large; one tensor is in memory at a time."""
    return None if _count(row) > MOST_ELEMENTS else look(_numbers(conn, row).reshape(-1))


def _numbers(conn: Connection, row: blobs.BlobRow) -> Floats:
    """Return the elements in their shape, empty where they are no numbers or not to be had."""
    import numpy as np

    nothing = np.empty(0, np.float64)
    if row.stored.dtype in {None, tensor.STRING} or (row.stored.dtype or "").startswith("complex"):
        return nothing
    stored = tensor.elements(content(conn, row), row.stored.dtype or "")
    if not len(stored):
        return nothing
    count = _count(row)
    found = stored.astype(np.float64)
    if len(found) < count:  # the last element stands for the rest
        found = np.concatenate([found, np.full(count - len(found), found[-1])])
    return found.reshape(row.stored.shape or ())


# Statistics -----------------------------------------------------------------------------------------------------------
def _part(numbers: Floats) -> tuple[dict[str, Any], Floats]:
    """Return the statistics of a part of a tensor, and its valid elements."""
    import numpy as np

    valid = numbers[np.isfinite(numbers)]
    with np.errstate(all="ignore"):
        figures = (valid.max(), valid.min(), valid.sum(dtype=np.float64) / len(valid)) if len(valid) else (0, 0, 0)
    high, low, mean = map(float, figures)
    counts = {
        "count": int(numbers.size),
        "nan_count": int(np.isnan(numbers).sum()),
        "neg_inf_count": int(np.isneginf(numbers).sum()),
        "pos_inf_count": int(np.isposinf(numbers).sum()),
    }
    return {"max": high, "min": low, "avg": mean, **counts}, valid


def statistics(part: Floats, whole: Floats) -> dict[str, Any]:
    """Return the statistics of a slice, and of the tensor it is from."""
    own, _ = _part(part)
    overall, valid = _part(whole)
    signs = (valid == 0, valid < 0, valid > 0)
    return (
        own
        | {f"overall_{name}": value for name, value in overall.items()}
        | {
            f"overall_{name}_count": float(which.sum())
            for name, which in zip(("zero", "neg_zero", "pos_zero"), signs, strict=True)
        }
    )


def _whole_statistics(numbers: Floats) -> dict[str, Any]:
    return statistics(numbers, numbers)


def _histogram(numbers: Floats) -> Histogram:
    """Return a tensor's elements in equal buckets."""
    import numpy as np

    valid = numbers[np.isfinite(numbers)]
    if not len(valid):
        return Histogram([], 0.0, 0.0, 0)
    low, high = float(valid.min()), float(valid.max())
    edges = (low - 0.5, high + 0.5) if low == high else (low, high)
    with np.errstate(all="ignore"):
        try:
            counts, borders = np.histogram(valid, bins=bins(len(valid)), range=edges)
        except ValueError:  # floats have no room for buckets between
            return Histogram([(low, high - low, len(valid))], low, high, len(valid))
    lefts = borders.tolist()
    buckets = [(a, b - a, n) for a, b, n in zip(lefts[:-1], lefts[1:], counts.tolist(), strict=True)]
    return Histogram(buckets, low, high, len(valid))


# Slices ---------------------------------------------------------------------------------------------------------------
def parsed(dims: str) -> tuple[Index, str]:
    """Return the index that `dims` writes, and what lies between its brackets."""
    text = dims.strip()
    if not (text.startswith("[") and text.endswith("]") and len(text) > 1):
        raise _wrong_shape(f"The type of shape should be str and start with `[` and end with `]`. Received: {dims}.")
    inner = text[1:-1].strip()
    items = [item.strip() for item in inner.split(",")] if inner else []
    if sum(":" in item for item in items) > MOST_SLICES:
        raise _wrong_shape(f"At most 2 dimensions are specified. Received: {inner}")
    return tuple(map(_item, items)), inner


def _item(item: str) -> int | slice:
    if ":" not in item:
        return _whole_number(item)
    parts = item.split(":")
    if len(parts) > 3:
        raise _wrong_shape(f"A range has two or three parts. Received: {item}")
    ends = [_whole_number(part.strip()) if part.strip() else None for part in parts]
    if len(ends) == 3 and ends[2] == 0:
        raise _wrong_shape(f"A range cannot have steps of 0. Received: {item}")
    return slice(*ends)


def _whole_number(text: str) -> int:
    try:
        if len(text) > 100:
            raise ValueError
        return int(text)
    except ValueError:
        raise _wrong_shape(f"Convert int from str failed. input_str: {text[:100]}") from None


def _wrong_shape(detail: str) -> errors.Failure:
    return errors.wrong_value(f"Invalid shape. {detail}")


def _slice(conn: Connection, row: blobs.BlobRow, index: tuple[Index, str]) -> dict[str, Any]:
    """Return a slice of a tensor, and its statistics."""
    import numpy as np

    if _count(row) > MOST_ELEMENTS:
        raise errors.too_large(row.key[1])
    numbers = _numbers(conn, row)
    if not numbers.size:
        return {"data": [], "statistics": statistics(numbers, numbers)}
    wanted = index[0]
    if len(wanted) != numbers.ndim:
        raise errors.wrong_value("Invalid dims. The length of param dims and tensor shape should be the same.")
    for at, size in zip(wanted, numbers.shape, strict=True):
        if isinstance(at, int) and not -size <= at < size:
            raise _wrong_shape(f"Shape unmatched. Received: ({index[1]}), tensor shape: {numbers.shape}")
    part: Floats = np.asarray(numbers[wanted])
    if part.size > MOST_SHOWN:
        raise errors.too_much(f"the size of response data: {part.size} exceed max value: {MOST_SHOWN}.")
    return {"data": as_json(part), "statistics": statistics(part, numbers)}


def as_json(part: Floats) -> Any:
    """Return elements as nested lists; those that are not finite as words."""
    import numpy as np

    listed = part.tolist()
    if bool(np.isfinite(part).all()):
        return listed
    return _words(listed) if isinstance(listed, list) else [_word(listed)]


def _words(values: Sequence[Any]) -> list[Any]:
    return [_words(value) if isinstance(value, list) else _word(value) for value in values]


def _word(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NAN" if math.isnan(value) else "INF" if value > 0 else "-INF"
