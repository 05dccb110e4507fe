"""Where the client reads: a database or a server. Both speak REST v1, so both have the same filters and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from indexer.errors import Deadline, Refuse, Report, Retry, SummaryDBError, Unreachable

Value = str | int | float | None
Params = Mapping[str, Value | Sequence[str]]
"""Parameters of a route by name: None is left out, several repeat."""

PAGE = 10_000
"""Rows asked for at once."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Points of scalar series. No jobs: all of them; no tags: all of them."""

    jobs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    plugin: str | None = None
    from_step: int | None = None
    to_step: int | None = None
    restarts: str = "current"


class Points(NamedTuple):
    """Columns of a page of points, all of the same length. wall_time and value: NaN where there is none."""

    job: npt.NDArray[np.int64]
    train_id: list[str]
    tag: list[str]
    plugin: list[str]
    step: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int64]
    wall_time: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]


class Source(Protocol):
    """What the client needs; errors are of the four families (indexer.errors), in words."""

    name: str
    """How people know it: an address, without a password."""

    def get(self, path: str, params: Params) -> Any:
        """Return the JSON that a route below /api/v1 answers."""

    def content(self, url: str) -> bytes:
        """Return the bytes behind the `url` of an item."""

    def points(self, chosen: Chosen) -> Iterator[Points]:
        """Yield points page by page, by series, step and seq."""

    def sql(self, query: str, limit: int) -> tuple[list[str], list[list[Any]], bool]:
        """Return columns, rows, and whether there were more rows than `limit` (0: as many as can be had)."""

    def close(self) -> None:
        """Give back connections."""


def pairs(params: Params) -> list[tuple[str, str]]:
    """Return parameters as a query string has them."""
    found: list[tuple[str, str]] = []
    for name, value in params.items():
        if isinstance(value, str | int | float):
            found.append((name, str(value)))
        elif value is not None:
            found += [(name, one) for one in value]
    return found


def error_of(status: int, body: bytes, where: str) -> SummaryDBError:
    """Return what an answer that is no success means to the caller. where: what was asked."""
    try:
        problem = json.loads(body)
        detail = str(problem.get("detail") or problem.get("title"))
    except (ValueError, AttributeError):
        return Refuse(f"{where} answers {status} and is no summarydb: give the address that `summarydb up` prints")
    match status:
        case 401:
            return Refuse(f"{where} asks for a token: pass token=..., the one it was started with")
        case 403:
            return Refuse(f"{where}: {detail}")
        case 429 | 503:
            return Retry(f"{where}: {detail}")
        case 504:
            return Deadline(f"{where}: {detail}")
        case _ if status < 500:
            return Report(detail)
    return Refuse(f"{where}: {detail}")


def unreachable(where: str, why: object) -> Unreachable:
    """Return that nobody answers."""
    return Unreachable(f"{where} cannot be reached ({why}): check that `summarydb up` runs there")
