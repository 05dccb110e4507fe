"""SIGKILL at any moment: after a restart the tables equal those of an undisturbed run."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.db.engine import open_engine
from tests.support.postgres import PostgresServer
from tests.support.program import append, command, environment, run
from tests.support.records import ms_scalars, ms_version, tb_scalar, tb_session_start, tb_version
from tests.support.tables import Tables, differences, dump

KILLS = 10
SMALL = ["--batch-points", "400", "--slice-bytes", "4096"]
"""Many commits, so that a kill finds one under way."""


def tensorboard(steps: range) -> Iterator[bytes]:
    """Yield records of a training that repeats steps, loses numbers and begins again."""
    for step in steps:
        if step % 500 == 499:
            yield tb_session_start(step - 40, 1700000000.0 + step)
        at = step - 30 if step % 300 > 280 else step
        yield tb_scalar("loss", at, 1.0 / (step + 1), 1700000000.0 + step)
        yield tb_scalar("odd", at, float("nan") if step % 7 == 0 else float(step), 1700000000.0 + step, style="double")


def mindspore(steps: range) -> Iterator[bytes]:
    """Yield records of a training with two tags a step."""
    for step in steps:
        yield ms_scalars(step, {"loss": 1.0 / (step + 1), "accuracy": step / 10_000}, 1700000000.0 + step)


def broken(records: list[bytes], chance: random.Random) -> list[bytes]:
    """Return `records` with bits flipped here and there, in a few of them."""
    damaged = list(records)
    for index in chance.sample(range(1, len(records)), 5):
        record = bytearray(damaged[index])
        record[chance.randrange(len(record))] ^= 1 << chance.randrange(8)
        damaged[index] = bytes(record)
    return damaged


def write_finished(runs: Path, chance: random.Random) -> None:
    """Write files that nobody appends to: of jobs with several, all but the last."""
    tb = runs / "two" / "events.out.tfevents.1700000000.host"
    append(tb, broken([tb_version(1.0), *tensorboard(range(1500))], chance))
    append(runs / "done" / "events.out.events.summary.1700000000.0.host_MS", [ms_version(1.0), *mindspore(range(800))])


def growing(chance: random.Random) -> dict[str, bytes]:
    """Return what the last file of each growing job will hold in the end, by path; one ends inside a record."""
    return {
        "two/events.out.tfevents.1700000100.host": b"".join([tb_version(2.0), *tensorboard(range(1200, 3500))])[:-5],
        "ms/events.out.events.summary.1700000000.0.host_MS": b"".join(
            broken([ms_version(2.0), *mindspore(range(3000))], chance)
        ),
    }


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 14))])
def test_tables_after_kills_equal_those_of_an_undisturbed_run(
    seed: int, backend: str, empty_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Points, statistics, rollups, restarts, segments, damage and cursors: all rows of all tables."""
    chance = random.Random(seed)
    runs = tmp_path / "runs"
    write_finished(runs, chance)
    final = growing(chance)
    written = dict.fromkeys(final, 0)
    for kill in range(KILLS):
        for name, content in final.items():
            # Trainings append bytes, not records: any cut may be seen.
            until = (
                len(content) if kill == KILLS - 1 else chance.randint(written[name], len(content) * (kill + 1) // KILLS)
            )
            append(runs / name, [content[written[name] : until]])
            written[name] = until
        killed_after(chance.uniform(0.2, 2.0), "index", str(runs), "--db", empty_url, *SMALL, cwd=tmp_path)
    done = run("index", "--once", str(runs), "--db", empty_url, *SMALL, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr

    if backend == "sqlite":
        calm = f"sqlite:///{tmp_path / 'calm.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        calm = server.create()
    done = run("index", "--once", str(runs), "--db", calm, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    expected, actual = dumped(calm), dumped(empty_url)
    assert 9_000 < len(expected["tensor_points"])
    assert expected["restarts"]
    assert expected["shard_errors"]
    assert [] == differences(expected, actual)


def dumped(url: str) -> Tables:
    """Return all rows of the database at `url`."""
    engine = open_engine(url)
    try:
        return dump(engine)
    finally:
        engine.dispose()


def killed_after(seconds: float, *arguments: str, cwd: Path) -> None:
    """Run the program and kill it after so many seconds, wherever it is then; there must be something to kill."""
    with (cwd / "killed.err").open("w") as err:
        process = subprocess.Popen(command(*arguments), cwd=cwd, env=environment(), stdout=err, stderr=err)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()
