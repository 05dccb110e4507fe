"""What `verify` says of a database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from indexer.config import Config, Root
from indexer.findings import Difference
from summarydb import verify
from tests.support.following import SMALL
from tests.support.following import given as roots_of


def silent(_job: str, _done: int, _total: int) -> None:
    """Show nothing."""


def compare(
    url: str, *roots: Path | Root, limit: int = 0, config: Config = SMALL
) -> tuple[dict[str, Any], list[str], list[Difference]]:
    """Return what `verify` says: facts, lines and differences."""
    found: list[Difference] = []
    facts = verify.run(
        replace(config, url=url, roots=roots_of(roots)),
        limit=limit,
        tell=found.append,
        show_progress=silent,
        stop=Event(),
    )
    assert facts["differences"] >= len(found)
    return facts, [str(difference) for difference in found], found
