"""A record as both dialects give it: its clock, its step, and values whose series are not known yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from google.protobuf.unknown_fields import UnknownFieldSet

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


UNKNOWN_FIELDS = "unknown_fields"
"""Kind of a value whose field the format does not know, and plugin of such fields of an event."""

UNKNOWN_EVENT = "__event__"
"""Tag of an event's fields that the format does not know."""


class Value(NamedTuple):
    """One value of an event."""

    name: str  # its tag
    plugin: str  # what it names itself; empty: nothing, so its tag's first plugin, else what `kind` stands for
    kind: str  # the field that holds it; empty: none
    message: Any  # the dialect's own, which it is asked about later; None where `plugin` says all
    data: bytes | memoryview = b""  # what the field holds, where there is no message or it does not know the field


def leftover(message: Any) -> bytes:
    """Return the fields of a message that its format does not know, serialized; empty where there are none."""
    if not len(UnknownFieldSet(message)):
        return b""
    rest = type(message)()
    rest.CopyFrom(message)
    for field, _ in message.ListFields():
        rest.ClearField(field.name)
    return cast("bytes", rest.SerializePartialToString())


class Event(NamedTuple):
    """What one record says."""

    wall_time: float  # seconds, may be NaN
    step: int
    values: list[Value]
    session_start: bool  # a SessionLog START
    explains: bool = False  # it holds a message of MindSpore's explain files


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
