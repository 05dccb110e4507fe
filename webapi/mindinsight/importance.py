"""How much parameters of trainings have to do with their results: what stands beside the table of lineages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from webapi.mindinsight import lineage
from webapi.mindinsight.context import Context
from webapi.mindinsight.lineages import Found

METRIC, USER, LOSS = "[M]", "[U]", "loss"
BINS = 5
FEWEST = 3
"""Trainings that know both parameter and result; of fewer nothing can be said."""
NO_NUMBERS, TOO_FEW, NO_CORRELATION = 1, 2, 3
"""Reasons, as MindInsight numbers them."""
_NOT_TUNED = frozenset({LOSS, "device_num", "model_size", "test_dataset_count", "train_dataset_count"})
_WORDS = {"nan": math.nan, "inf": math.nan, "infinity": math.inf, "-infinity": -math.inf}
Floats = npt.NDArray[np.float64]


def targets(context: Context, conn: Connection, data: bytes) -> Mapping[str, Any]:
    """Show the results of the lineages that fit a condition, and how much each parameter has to do with each."""
    found = lineage.selected(context, conn, data)
    columns = _columns(found)
    numbers = {name: column for name, values in columns.items() if (column := _numbers(values)) is not None}
    wanted = sorted(name for name in numbers if name.startswith(METRIC) or name == LOSS)
    tuned = [name for name in numbers if not name.startswith(METRIC) and name not in _NOT_TUNED]
    shown = {name: _shown(columns[name]) for name in numbers}
    return {
        "metadata": {
            "train_ids": [one.train_id for one in found],
            "possible_hyper_parameters": [{"name": name, "data": shown[name]} for name in tuned],
            "unrecognized_params": [
                {"name": name, "unselected": True, "reason_code": NO_NUMBERS}
                for name in columns
                if name.startswith(USER) and name not in numbers
            ],
        },
        "targets": [
            {
                "name": name,
                "buckets": _buckets(numbers[name]),
                "hyper_parameters": sorted((_importance(one, numbers[one], numbers[name]) for one in tuned), key=_rank),
                "data": shown[name],
            }
            for name in wanted
        ],
    }


def _columns(found: Sequence[Found]) -> dict[str, list[Any]]:
    """Return what trainings have by name, those that come first first; None where one does not have it."""
    columns: dict[str, list[Any]] = {}
    for place, one in enumerate(found):
        for name, value in _fields(one):
            columns.setdefault(name, [None] * len(found))[place] = value
    return columns


def _fields(one: Found) -> Iterator[tuple[str, Any]]:
    for name, value in one.lineage.model().items():
        if name not in {"metric", "user_defined"}:
            yield name, value
    for prefix, values in ((METRIC, one.lineage.metric), (USER, one.lineage.user_defined)):
        for name, value in values.items():
            yield prefix + name, _WORDS.get(value.lower(), value) if isinstance(value, str) else value


def _numbers(values: Sequence[Any]) -> Floats | None:
    """Return a column as numbers, NaN for what is not known. None where one is no number, or none is known."""
    known = [value for value in values if value is not None]
    if not known or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return None
    try:
        return np.array([math.nan if value is None else float(value) for value in values])
    except OverflowError:  # a whole number beyond all floats
        return None


def _shown(values: Sequence[Any]) -> list[float | None]:
    """Return numbers as they are shown: null for what is not known; whole ones are floats where one is not whole."""
    whole = all(isinstance(value, int) for value in values)
    return [None if value is None or math.isnan(value) else value if whole else float(value) for value in values]


def _buckets(values: Floats) -> list[list[float]]:
    """Return a histogram: left border, width and count of each bucket."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low >= high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(finite, BINS, (low, high))
    return [[float(a), float(b - a), float(n)] for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]


def _importance(name: str, parameter: Floats, target: Floats) -> dict[str, Any]:
    """Return how much a parameter has to do with a result."""
    known = ~(np.isnan(parameter) | np.isnan(target))
    if known.sum() < FEWEST:
        return {"name": name, "importance": 0, "reason_code": TOO_FEW}
    found = _correlation(parameter[known], target[known])
    if found is None:
        return {"name": name, "importance": 0, "reason_code": NO_CORRELATION}
    return {"name": name, "importance": found}


def _correlation(*both: Floats) -> float | None:
    """Return the size of Pearson's correlation, None where one of both never changes or is not finite."""
    scaled = []
    for values in both:
        if not np.isfinite(values).all() or values.min() == values.max():
            return None
        halves = values / 2  # whose differences are finite, too
        centred = halves - halves.mean()
        scaled.append(centred / np.abs(centred).max())
    x, y = scaled
    return min(1.0, float(abs((x * y).sum()) / np.sqrt((x * x).sum() * (y * y).sum())))


def _rank(one: Mapping[str, Any]) -> tuple[float, bool, str]:
    return -one["importance"], one["name"].startswith("["), one["name"]
