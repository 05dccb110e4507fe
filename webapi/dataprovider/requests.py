"""Requests of the data provider: protobuf bytes in, frozen requests out, or Malformed that names the field.

Read by hand: a request is a few strings, and the names of generated messages would have to be our own beside those of
the `tensorboard` wheel (docs/decisions/0035-data-provider.md). Field numbers: tensorboard's data_provider.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from indexer import fields
from indexer.fields import BYTES, VARINT
from webapi.errors import Malformed

MAX_FILTER_NAMES = 1_000_000
_RUNS, _TAGS = 1, 2
_NO_MESSAGE = "is no message of the data provider"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which series: those of a plugin, of these runs and tags. None: all of them; an empty set: none."""

    plugin: str
    runs: frozenset[str] | None = None
    tags: frozenset[str] | None = None


@dataclass(slots=True)
class _Given:
    """What a request has, as far as it is read."""

    plugin: str = ""
    names: dict[int, set[str]] = field(default_factory=dict)  # by field of the filter
    points: int | None = None  # of the downsampling


def series_wanted(message: bytes) -> Wanted:
    """Return what a List request asks for."""
    return _wanted(_read(message))


def points_wanted(message: bytes) -> tuple[Wanted, int]:
    """Return what a Read request asks for, and how many points of each series at most."""
    given = _read(message)
    wanted = _wanted(given)
    if given.points is None:
        raise Malformed("downsample", "is missing: say how many points of each series")
    if given.points < 0:
        raise Malformed("downsample.num_points", f"is {given.points}: give 0 or more")
    return wanted, given.points


def blob_wanted(message: bytes) -> str:
    """Return the key in a ReadBlob request."""
    key = ""
    try:
        for number, wire, a, b in fields.walk(message):
            if (number, wire) == (1, BYTES):
                key = message[a:b].decode()
    except ValueError:
        raise Malformed("blob_key", _NO_MESSAGE) from None
    return key


def _wanted(given: _Given) -> Wanted:
    if not given.plugin:
        raise Malformed("plugin_filter", "is missing: name a plugin, for instance scalars")
    runs, tags = (given.names.get(number) for number in (_RUNS, _TAGS))
    return Wanted(given.plugin, None if runs is None else frozenset(runs), None if tags is None else frozenset(tags))


def _read(message: bytes) -> _Given:
    """Return what a List or Read request has. A field that is there twice is merged, as protobuf has it."""
    given = _Given()
    try:
        for number, wire, a, b in fields.walk(message):
            match number, wire:
                case 2, fields.BYTES:
                    _read_plugin(message[a:b], given)
                case 3, fields.BYTES:
                    _read_filter(message, a, b, given)
                case 4, fields.BYTES:
                    given.points = _read_points(message[a:b], given.points or 0)
    except ValueError:
        raise Malformed("request", _NO_MESSAGE) from None
    return given


def _read_plugin(message: bytes, given: _Given) -> None:
    for number, wire, a, b in fields.walk(message):
        if (number, wire) == (1, BYTES):
            given.plugin = message[a:b].decode()


def _read_filter(message: bytes, start: int, stop: int, given: _Given) -> None:
    for number, wire, a, b in fields.walk(message, start, stop):
        if wire == BYTES and number in {_RUNS, _TAGS}:  # presence counts, not length
            begins, ends = fields.submessages(message, a, b, (1,), MAX_FILTER_NAMES)[1]
            names = (message[begin:end].decode() for begin, end in zip(begins, ends, strict=True))
            given.names.setdefault(number, set()).update(names)


def _read_points(message: bytes, points: int) -> int:
    for number, wire, a, _ in fields.walk(message):
        if (number, wire) == (1, VARINT):
            points = fields.signed(a)
    return points
