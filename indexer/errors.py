"""The four families of error: each says what the caller may do next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath


class SummaryDBError(Exception):
    """Anything this program reports on purpose. The text names the object, the fact and the next step."""


class Retry(SummaryDBError):
    """The same call may succeed: busy, deadlock, connection lost."""


class Deadline(Retry):
    """A query took longer than it may."""


class Wait(SummaryDBError):
    """Something outside must change first: a directory appears, a lease ends, a database comes back."""


class Unreachable(Wait):
    """The database cannot be talked to just now: nothing at all can be written, not even that we wait."""


class Report(SummaryDBError):
    """This input is bad: record it against its shard or request, go on with the others."""


class Refuse(SummaryDBError):
    """An operator must act: schema too old, bad configuration, foreign database."""


class UsageError(Refuse):
    """A flag, variable or setting that cannot be right; the command line ends with exit code 2."""


@dataclass(eq=False)  # not frozen: contextlib assigns __traceback__ to raised exceptions
class UnreadableFile(Report):
    """A shard or directory that is there and cannot be read; it is passed over until it changes."""

    path: PurePath
    why: str

    def __str__(self) -> str:
        return f"{self.path}: {self.why}. It is passed over; make it readable and it is picked up at the next scan."
