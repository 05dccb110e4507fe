"""A process that ends at one of its transactions: whatever it did in it is rolled back, or committed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from unittest import mock

from indexer.db.connection import Connection, Database

When = Literal["before", "after"]


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def crashing(at: int | None = None, when: When = "before", *, besides: str | None = None) -> Iterator[list[int]]:
    """Raise Crash before or after the commit with number `at`; yield a list of the numbers that were reached.

    besides: databases with this in their address are not counted.
    """
    begin, reached = Database.begin, list[int]()

    @contextmanager
    def counted(self: Database) -> Iterator[Connection]:
        number = -1
        with begin(self) as conn:
            yield conn
            if besides is None or besides not in self.url:
                number = len(reached)
                reached.append(number)
            if (number, when) == (at, "before"):
                raise Crash
        if (number, when) == (at, "after"):
            raise Crash

    with mock.patch.object(Database, "begin", counted):
        yield reached
