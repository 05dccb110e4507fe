"""Status: lag, progress, who is alive, and no control character from a file's name."""

from __future__ import annotations

from typing import Any

from indexer.db.health import ALIVE_SECONDS, IndexerRow
from indexer.db.overview import Overview
from indexer.db.space import Space
from summarydb.status import facts, render

NOW = 1_700_000_000.0


def found(*, pruned_jobs: int = 0, **job: Any) -> Overview:
    """Return a database with one indexer, one root and one job."""
    return Overview(
        state={"change_counter": 3, "scanned_at": NOW - 5},
        indexers=[
            {"id": 1, "host": "h", "pid": 7, "version": "1", "started_at": NOW, "heartbeat": NOW - 1.0}
            | {"state": "loading", "message": None}
        ],
        roots=[{"id": 4, "name": "runs", "path": "/runs", "pruned_jobs": pruned_jobs}],
        jobs=[
            {"id": 9, "root_id": 4, "train_id": "./a", "cache_status": "CACHING", "point_count": 10, "files": 2}
            | {"bytes_on_disk": 1000, "bytes_indexed": 250, "update_time": NOW, "missing_since": None}
            | {"evicted_at": None, "pruned_at": None}
            | {"last_error": None, "torn": 0, "dead": 0, "bad_records": 2, "bad_bytes": 64, "bad_payloads": 0}
            | job
        ],
    )


ROOMY = Space(size=5 * 2**20, wal=2**20, free=2**40, disk=2**41)


def status(overview: Overview, now: float = NOW, room: Space = ROOMY) -> dict[str, Any]:
    """Return the facts of `overview`."""
    known = [IndexerRow(*(row[name] for name in IndexerRow._fields)) for row in overview.indexers]
    return facts(overview, database="sqlite:///x.db", schema="0001", now=now, room=room, known=known)


def test_lag_and_progress_are_in_bytes() -> None:
    """What is on disk and not in the database yet, per job and root."""
    told = status(found())
    assert (750, 0.25) == (told["jobs"][0]["lag"], told["jobs"][0]["progress"])
    assert (750, 0.25, 2) == tuple(told["roots"][0][key] for key in ("lag", "progress", "bad_records"))


def test_an_empty_job_is_whole() -> None:
    """A job without bytes is not 0 % loaded; a file that shrank leaves no negative lag."""
    assert 1.0 == status(found(bytes_on_disk=0, bytes_indexed=0))["jobs"][0]["progress"]
    assert 0 == status(found(bytes_on_disk=10, bytes_indexed=20))["jobs"][0]["lag"]


def test_a_silent_indexer_is_not_alive() -> None:
    """An old heartbeat is told as what it is."""
    assert status(found())["indexers"][0]["alive"]
    late = status(found(), now=NOW + ALIVE_SECONDS)
    assert not late["indexers"][0]["alive"]
    ahead = status(found(), now=NOW - ALIVE_SECONDS - 2)  # it died while its clock was wrong
    assert not ahead["indexers"][0]["alive"]
    assert "indexer 7 on h: silent, last heard of 2023-11-14 22:13:19 UTC" in render(late)


def test_what_could_not_be_read_is_named() -> None:
    """Errors of a job stand beside it; names from disk cannot steer the terminal."""
    shown = render(status(found(last_error="events.x: Permission denied", train_id="./a\x1b[31m␛ff", torn=1)))
    assert "1 torn; events.x: Permission denied" in shown
    told = status(found(bad_payloads=3))
    assert (3, 3) == (told["jobs"][0]["bad_payloads"], told["roots"][0]["bad_payloads"])
    assert "3 payloads undecoded" in render(told)
    assert "\x1b" not in shown
    assert r"./a\x1b[31m\udcff" in shown


def test_what_is_not_stored_is_no_lag() -> None:
    """A job left out of the cache waits for nobody; what was pruned, and what is gone, is said in words."""
    told = status(found(pruned_jobs=2, evicted_at=NOW, bytes_indexed=0, cache_status="NOT_IN_CACHE"))
    assert (0, 0, 1) == (told["jobs"][0]["lag"], told["roots"][0]["lag"], told["roots"][0]["evicted_jobs"])
    shown = render(told)
    assert "1 jobs, 1 NOT_IN_CACHE, 1 of them loaded on demand; 2 pruned jobs passed over" in shown
    assert "left out of the cache: loaded when somebody looks at it" in shown
    gone = render(status(found(pruned_at=NOW, missing_since=NOW)))
    assert "files missing since 2023-11-14 22:13:20 UTC; its points stay" in gone
    assert "some of it pruned 2023-11-14 22:13:20 UTC" in gone


def test_size_and_room_are_shown() -> None:
    """How large the database is, and what is left; of a PostgreSQL server's disk nothing is known."""
    assert "5.2 MB and 1.0 MB of write-ahead log, 1.1 TB free on its disk" in render(status(found()))
    assert "\n5.2 MB\n" in render(status(found(), room=Space(5 * 2**20)))


def test_problems_are_warned_of() -> None:
    """A disk that is nearly full and a silent indexer stand at the top, with what to do."""
    full = Space(size=5 * 2**20, wal=0, free=200 * 2**20, disk=2**41)
    told = status(found(), now=NOW + 100, room=full)
    assert 2 == len(told["problems"])
    lines = render(told).splitlines()
    assert lines[2].startswith("warning: the indexer, process 7 on h, was heard of last 101 s ago (loading)")
    assert "warning: the disk of the database is nearly full (209.7 MB free): make room" in lines[3]
    assert [] == status(found())["problems"]
