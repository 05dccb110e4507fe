"""A record as both dialects give it: its clock, its step, and values whose series are not known yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from indexer.errors import Report


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
    data: bytes = b""  # what the field holds, where there is no message


class Event(NamedTuple):
    """What one record says."""

    wall_time: float  # seconds, may be NaN
    step: int
    values: list[Value]
    session_start: bool  # a SessionLog START
    explains: bool = False  # it holds a message of MindSpore's explain files
