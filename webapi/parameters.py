"""What a query string may hold: one declaration is read by the parser and by the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl

from webapi.errors import Malformed

INT64 = 2**63
MAX_TEXT = 1_000
"""Longest text of a filter. Unit: characters. (SQLite takes LIKE patterns of at most 50,000 bytes.)"""
MAX_NAME = 32_768
"""Longest name of a job or tag in a query string. Unit: characters."""
MAX_REPEATS = 1_000
"""How often a repeatable parameter may be given: both databases bind that many."""
MAX_PARAMETERS = 5_000
"""Parameters of one query string."""

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)  # int() alone takes "1_000", " 1" and other scripts' digits


class Kind(StrEnum):
    """How a value is read."""

    INTEGER = "integer"
    TEXT = "string"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One name in a query string, with everything that bounds its value."""

    name: str
    kind: Kind
    description: str
    default: int | str | None = None
    minimum: int = -INT64
    maximum: int = INT64 - 1
    choices: tuple[str, ...] = ()
    repeatable: bool = False
    max_length: int = MAX_TEXT
    min_length: int = 0
    example: str | None = None  # it must be given, for instance so

    def read(self, text: str) -> int | str:
        """Return the value that `text` stands for; Malformed names this parameter."""
        match self.kind:
            case Kind.INTEGER:
                if not _INTEGER.fullmatch(text) or not self.minimum <= int(text) <= self.maximum:
                    raise Malformed(self.name, f"is an integer from {self.minimum} to {self.maximum}")
                return int(text)
            case Kind.CHOICE:
                if text not in self.choices:
                    raise Malformed(self.name, f"is one of {', '.join(self.choices)}")
            case Kind.TEXT:
                if len(text) > self.max_length:
                    raise Malformed(self.name, f"has at most {self.max_length} characters")
                if len(text) < self.min_length:
                    raise Malformed(self.name, "is not empty")
        return text


@dataclass(frozen=True, slots=True)
class Values:
    """The values of one query string, all of them checked."""

    given: dict[str, list[int | str]]
    defaults: dict[str, int | str | None]

    def replaced(self, **values: int | str | None) -> Values:
        """Return the same with other values of single parameters; None: not given."""
        given = {name: found for name, found in self.given.items() if name not in values}
        return Values(given | {name: [value] for name, value in values.items() if value is not None}, self.defaults)

    def integer(self, name: str) -> int | None:
        """Return the value of an integer parameter, its default where it was not given."""
        value = self._one(name)
        if value is not None and not isinstance(value, int):
            raise TypeError(f"{name} is no integer parameter")
        return value

    def count(self, name: str) -> int:
        """Return the value of an integer parameter that has a default."""
        value = self.integer(name)
        if value is None:
            raise TypeError(f"{name} has no default")
        return value

    def text(self, name: str) -> str | None:
        """Return the value of a text or choice, its default where it was not given."""
        value = self._one(name)
        if isinstance(value, int):
            raise TypeError(f"{name} is an integer parameter")
        return value

    def word(self, name: str) -> str:
        """Return the value of a choice that has a default."""
        value = self.text(name)
        if value is None:
            raise TypeError(f"{name} has no default")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return all values of a repeatable text, each once, in the order given."""
        return tuple(dict.fromkeys(str(value) for value in self.given.get(name, ())))

    def _one(self, name: str) -> int | str | None:
        values = self.given.get(name)
        return values[0] if values else self.defaults[name]


def parse(parameters: Iterable[Parameter], query: str) -> Values:
    """Read the raw query string `query`.

    Bytes that are not UTF-8 become lone surrogates, as in file names. Malformed names the parameter that is unknown,
    repeated though single, or has a value it cannot have.
    """
    known = {p.name: p for p in parameters}
    given: dict[str, list[int | str]] = {}
    if query.count("&") >= MAX_PARAMETERS:
        raise Malformed("", f"is given with others, more than {MAX_PARAMETERS} in all")
    for name, text in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
        parameter = known.get(name)
        if parameter is None:
            shown = name.encode("utf-8", "replace").decode()[:100]
            raise Malformed(shown, f"is unknown here; known are: {', '.join(known) or 'none'}")
        values = given.setdefault(name, [])
        if len(values) >= (MAX_REPEATS if parameter.repeatable else 1):
            often = f"is given more than {MAX_REPEATS} times" if parameter.repeatable else "is given more than once"
            raise Malformed(name, often)
        values.append(parameter.read(text))
    for parameter in known.values():
        if parameter.example is not None and parameter.name not in given:
            raise Malformed(parameter.name, f"is missing: give one, as in {parameter.name}={parameter.example}")
    return Values(given, {p.name: p.default for p in known.values()})
