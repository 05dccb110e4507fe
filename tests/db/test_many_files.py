"""Many files at once: those that grow are written together, those that do not cost one statement a scan."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.support.following import Follower, StillClock, WatchedFiles, make
from tests.support.records import tb_scalar, tb_version

RUNS = 60


def run_file(number: int) -> str:
    """Return the file of a run."""
    return f"r{number:03}/events.out.tfevents.1700000000.h"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A root with runs of one point each."""
    content = tb_version(1.0) + tb_scalar("loss", 1, 0.5, 1.0)
    return make(tmp_path / "runs", {run_file(number): content for number in range(RUNS)})


def counter(engine: Engine) -> int:
    """Return how many commits changed what readers see."""
    with engine.connect() as conn:
        return int(conn.execute(text("SELECT change_counter FROM index_state")).scalar_one())


def test_what_grew_at_once_is_written_at_once(engine: Engine, runs: Path) -> None:
    """A record in each of many runs, all hinted at: one turn, one commit, no listing but of those directories."""
    files = WatchedFiles()
    follower = Follower(engine, runs, files=files)
    follower.settle()
    before = counter(engine)
    listed: list[Path] = []
    files.before_list = listed.append
    for number in range(RUNS):
        with (runs / run_file(number)).open("ab") as file:
            file.write(tb_scalar("loss", 2, 0.25, 2.0))
        follower.indexer.hints.directories.add(str((runs / run_file(number)).parent.resolve()))
    assert follower.indexer._turn(follower.stop)
    assert RUNS == len(listed)
    assert 1 == counter(engine) - before
    with engine.connect() as conn:
        assert 2 * RUNS == conn.execute(text("SELECT count(*) FROM tensor_points")).scalar()


def test_a_scan_of_idle_runs_opens_nothing_and_commits_once(engine: Engine, runs: Path) -> None:
    """It lists each directory once, reads no file, and only notes that it was there."""
    files = WatchedFiles()
    follower = Follower(engine, runs, files=files)
    follower.settle()
    follower.clock.time += 3600
    before, opened = counter(engine), files.opened.total()
    listed: list[Path] = []
    files.before_list = listed.append
    follower.scan()
    assert (before, opened) == (counter(engine), files.opened.total())
    assert 1 + RUNS == len(listed) == len(set(listed))


@pytest.mark.parametrize(("took", "pause"), [(0.0, 10.0), (0.15, 10.0), (0.18, 12.0), (1.0, 15.0), (100.0, 15.0)])
def test_scans_take_a_small_share_of_the_time(engine: Engine, runs: Path, took: float, pause: float) -> None:
    """A scan that takes longer is followed by a longer pause, up to 15 s, so that nothing waits for ever."""
    files = WatchedFiles()
    follower = Follower(engine, runs, files=files, clock=StillClock())
    follower.settle()
    slow = iter([took])

    def pass_time(_path: Path) -> None:
        follower.clock.time += next(slow, 0.0)

    files.before_list = pass_time
    follower.scan()
    assert pytest.approx(follower.clock.time + pause) == follower.indexer.next_scan
