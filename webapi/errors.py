"""What a request can have wrong: both are reported to the one who asked, nobody else is concerned."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.errors import Report


@dataclass(eq=False)
class Malformed(Report):
    """A parameter that cannot be right: HTTP 400. `fact` follows the parameter's name in a sentence."""

    parameter: str
    fact: str

    def __str__(self) -> str:
        return f"parameter {self.parameter!r} {self.fact}"


@dataclass(eq=False)
class Unknown(Report):
    """Something named that is not in the database: HTTP 404."""

    parameter: str
    fact: str

    def __str__(self) -> str:
        return self.fact
