"""What counts as well: room on the disk, and indexers that are missed."""

from __future__ import annotations

import pytest

from indexer.db.health import ALIVE_SECONDS, FORGOTTEN_SECONDS, IndexerRow, problems, silent
from indexer.db.space import STARVED_BYTES, Space

NOW = 1_700_000_000.0
GIB = 2**30


def indexer(pid: int, heard: float, *, host: str = "a", state: str = "watching", started: float = 1e5) -> IndexerRow:
    """Return an indexer that was heard of `heard` seconds ago, and started `started` seconds ago."""
    return IndexerRow(host, pid, "1", NOW - started, NOW - heard, state, None)


@pytest.mark.parametrize(
    ("free", "disk", "size", "scarce"),
    [
        (2 * GIB, 1000 * GIB, GIB, False),
        (GIB - 1, 1000 * GIB, GIB, True),
        (200 * 2**20, GIB, 2**20, False),  # a small disk is not always nearly full
        (100 * 2**20, GIB, 2**20, True),
        (9 * GIB, 1000 * GIB, 100 * GIB, True),  # a load or an upgrade may need that
        (11 * GIB, 1000 * GIB, 100 * GIB, False),
    ],
)
def test_a_disk_is_nearly_full(free: int, disk: int, size: int, scarce: bool) -> None:
    """Below 1 GiB, or a tenth of a small disk, or a tenth of the database."""
    room = Space(size, 0, free, disk)
    assert scarce == room.scarce
    assert scarce == any("nearly full" in line for line in problems([], room, NOW))


def test_a_disk_that_cannot_be_seen_is_not_complained_of() -> None:
    """Of a PostgreSQL server's disk nothing is known."""
    assert [] == list(problems([], Space(10**12), NOW))


def test_a_starved_checkpoint_is_a_problem() -> None:
    """Whoever keeps a transaction open is to be found."""
    assert "a reader keeps a transaction open" in next(problems([], Space(1, STARVED_BYTES + 1), NOW))


def test_an_indexer_that_ended_without_a_word_is_missed() -> None:
    """Also after days, while nobody took its place; one that said good-bye is not."""
    assert [] == silent([indexer(1, ALIVE_SECONDS)], NOW)
    for age in (ALIVE_SECONDS + 1, 10 * FORGOTTEN_SECONDS):
        gone = indexer(1, age)
        assert [gone] == silent([gone], NOW)
        assert [] == silent([gone._replace(state="stopped")], NOW)


def test_one_of_several_that_falls_silent_is_missed_for_an_hour() -> None:
    """Unless another was started on its machine since: that is how it was replaced."""
    living, gone = indexer(1, 1), indexer(2, 100, host="b")
    assert [gone] == silent([living, gone], NOW)
    assert [] == silent([living, gone._replace(heartbeat=NOW - FORGOTTEN_SECONDS - 1)], NOW)
    assert [] == silent([indexer(3, 1, host="b", started=50), living, gone], NOW)


def test_what_an_indexer_waits_for_is_a_problem() -> None:
    """It says so itself."""
    waiting = indexer(1, 1, state="waiting")._replace(message="the disk is full")
    assert ["the indexer, process 1 on a, waits: the disk is full"] == list(problems([waiting], Space(1), NOW))
