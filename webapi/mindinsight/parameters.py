"""Query strings and bodies as MindInsight reads them: what it tolerates, and what it says of the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from webapi.mindinsight import errors

MAX_DIGITS = 4_000
"""Of an integer: Python converts no longer ones."""
_ROWS = 2**63 - 1


class Query:
    """A query string: of repeated names the first counts, unknown ones do not matter."""

    def __init__(self, query: str) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True, errors="surrogateescape"):
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str | None:
        """Return a parameter, None where it is not given."""
        values = self._values.get(name)
        return values[0] if values else None

    def every(self, name: str) -> list[str]:
        """Return all values of a parameter."""
        return self._values.get(name, [])

    def required(self, name: str) -> str:
        """Return a parameter that must be there and not be empty."""
        value = self.text(name)
        if not value:
            raise errors.missing(name)
        return value

    def integer(self, name: str, default: int) -> int:
        """Return an integer parameter."""
        value = self.text(name)
        return default if value is None else integer(name, value)

    def flag(self, name: str) -> bool:
        """Return a boolean parameter, False where it is not given."""
        value = self.text(name)
        if value is None or value.lower() == "false":
            return False
        if value.lower() == "true":
            return True
        raise errors.wrong_value(f"The value of {name} must be 'false' or 'true'.")

    def page(self, *, limit: int, most: int) -> Page:
        """Return the page that `offset` and `limit` name."""
        return page(self.integer("offset", 0), self.integer("limit", limit), most)


class Page:
    """A page of a list: `number` counts pages, not items."""

    __slots__ = ("limit", "number")

    def __init__(self, number: int, limit: int) -> None:
        self.number, self.limit = number, limit

    @property
    def first(self) -> int:
        """Index of its first item; beyond every list where that is large."""
        return min(self.number * self.limit, _ROWS)

    @property
    def slice(self) -> slice:
        """Its place in a list."""
        return slice(self.first, self.first + self.limit)


def page(number: int, limit: int, most: int) -> Page:
    """Return a page, checked."""
    if number < 0:
        raise errors.wrong_value("'offset' should be greater than or equal to 0.")
    if not 1 <= limit <= most:
        raise errors.wrong_value(f"'limit' should in [1, {most}].")
    return Page(number, limit)


def integer(name: str, value: object) -> int:
    """Return what Python takes for an integer."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError
        if isinstance(value, str) and len(value) > MAX_DIGITS:
            raise ValueError
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise errors.wrong_type(name, "Integer") from None


def body(data: bytes) -> Any:
    """Return a body as JSON; an empty one is an empty object."""
    if not data:
        return {}
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise errors.wrong_value("Json data parse failed.") from None


def with_type(data: bytes, content_type: str | None) -> Any:
    """Return a body that must be declared as JSON. ValueError where it is not, or is none."""
    if re.fullmatch(r"application/([\w.-]+\+)?json", (content_type or "").partition(";")[0].strip().lower()) is None:
        raise ValueError("no JSON is declared")
    try:
        return json.loads(data)
    except RecursionError as e:
        raise ValueError("JSON that is too deep") from e


def listed(given: Mapping[str, Any], name: str) -> list[str] | None:
    """Return a list of texts in a body, None where there is none."""
    values = given.get(name)
    if values is None:
        return None
    if not isinstance(values, list):
        raise errors.wrong_type(name, "<class 'list'>")
    for value in values:
        if not isinstance(value, str):
            raise errors.wrong_type(f"element of {name}", "<class 'str'>")
    return values
