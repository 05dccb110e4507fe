"""What goes wrong around a commit of the indexer: a crash, a failure, a connection that is cut; and waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from unittest import mock

from indexer.db.connection import Database

When = Literal["before", "after"]
Each = Callable[[int, When, Any], None]


@contextmanager
def commits(each: Each) -> Iterator[list[int]]:
    """Call `each` before and after every commit of the indexer, with its number and the driver's connection.

    Yields a list of the numbers so far. Migrations and what tests write themselves do not count.
    """
    commit, numbers = Database._commit, list[int]()

    def counted(self: Database, raw: Any) -> None:
        number = len(numbers)
        numbers.append(number)
        each(number, "before", raw)
        commit(self, raw)
        each(number, "after", raw)

    with mock.patch.object(Database, "_commit", counted):
        yield numbers


class Patience(threading.Event):
    """An event to stop by whose waits are counted, and answered by the test in place of time."""

    def __init__(self, waited: Callable[[int], None]) -> None:
        super().__init__()
        self.waited = waited
        self.count = 0

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        """Let no time pass."""
        self.count += 1
        assert self.count < 100, "it waits for ever"
        self.waited(self.count)
        return self.is_set()
