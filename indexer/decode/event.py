"""A record as both dialects give it: its clock, its step, and values whose series are not known yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from indexer import fields
from indexer.errors import Report

LONG_BYTES = 2**20
"""Of a record: from here on it is worth to look at its fields first."""


@dataclass(eq=False)
class BadRecord(Report):
    """A record whose checksums are good and whose payload is no event."""

    why: str

    def __str__(self) -> str:
        return self.why


class Value(NamedTuple):
    """One value of an event."""

    name: str  # its tag
    plugin: str  # what it names itself; empty: nothing, so its tag's first plugin, else what `kind` stands for
    kind: str  # the field that holds it; empty: none
    message: Any  # the dialect's own, which it is asked about later; None where `plugin` says all
    data: bytes | memoryview = b""  # what the field holds, where there is no message


class Event(NamedTuple):
    """What one record says."""

    wall_time: float  # seconds, may be NaN
    step: int
    values: list[Value]
    session_start: bool  # a SessionLog START


class Long(NamedTuple):
    """An event of one long field; both formats number its clock 1, its step 2, and a graph 4."""

    wall_time: float
    step: int
    graph: memoryview  # of the record's own bytes: protobuf would copy them twice


def long_graph(payload: bytes | memoryview) -> Long | None:
    """Return a long record that holds a graph, a clock, maybe a step, and nothing else; None for all others."""
    if len(payload) < LONG_BYTES:
        return None
    wall_time, step, graph = None, 0, None
    try:
        for number, wire, a, b in fields.walk(payload):
            match number, wire:
                case 1, fields.FIXED64:
                    wall_time = fields.number(payload, wire, a)
                case 2, fields.VARINT:
                    step = fields.signed(a)
                case 4, fields.BYTES if graph is None:
                    graph = memoryview(payload)[a:b]
                case _:
                    return None
    except ValueError:
        return None
    return None if wall_time is None or graph is None else Long(wall_time, step, graph)
