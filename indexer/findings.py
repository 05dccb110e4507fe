"""What a comparison of files with tables, or of tables with one another, found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

NOTHING = "nothing"
"""What one side has where the other has something."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is. Names are as stored; None: it is about the whole of what comes before."""

    job: str | None = None  # train_id, with its root before it
    file: str | None = None
    plugin: str | None = None
    tag: str | None = None
    step: int | None = None
    seq: int | None = None

    def __str__(self) -> str:
        series = None if self.tag is None else f"{self.plugin}/{self.tag}" if self.plugin else self.tag
        numbers = [None if n is None else f"{name} {n}" for name, n in (("step", self.step), ("seq", self.seq))]
        return ", ".join(part for part in (self.job, self.file, series, *numbers) if part is not None)


@dataclass(frozen=True, slots=True)
class Difference:
    """Two sides that should say the same and do not."""

    place: Place
    what: str  # column, or thing
    expected: Any  # what `by` says
    found: Any  # what the table says
    by: str = "the file"  # or "the points", ...

    def __str__(self) -> str:
        where = f"{self.place}: " if str(self.place) else ""
        return f"{where}{self.what}: {self.by} has {_shown(self.expected)}, the table {_shown(self.found)}"


@dataclass(slots=True)
class Findings:
    """Differences as they are found: all are counted, the first of them told."""

    tell: Callable[[Difference], None]
    limit: int  # told at most; 0: all
    differences: int = 0
    notes: list[str] = field(default_factory=list)  # what is no difference and should be known

    def add(self, place: Place, what: str, expected: Any, found: Any, *, by: str = "the file") -> None:
        """Note a difference."""
        self.differences += 1
        if not self.limit or self.differences <= self.limit:
            self.tell(Difference(place, what, expected, found, by))

    def note(self, text: str) -> None:
        """Note what is no difference."""
        self.notes.append(text)


def _shown(value: Any) -> str:
    if isinstance(value, bytes | memoryview):
        return f"0x{bytes(value[:16]).hex()}{'...' if len(value) > 16 else ''}"
    if value is None:
        return NOTHING
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
