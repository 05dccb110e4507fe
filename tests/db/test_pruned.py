"""What was pruned of a job is remembered: `verify` looks for what is left in the files, and for nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db import retention, shadow
from indexer.db.connection import transaction
from indexer.ingest import remnant
from indexer.ingest import verify as comparing
from indexer.ingest.retention import Rules, plan, prune
from tests.support.engines import writer
from tests.support.following import SMALL, Follower, StillClock, index_once, make
from tests.support.records import hparams_start, png, tb_hparams, tb_image, tb_scalar, tb_version
from tests.support.verifying import compare

FIRST, SECOND = "events.out.tfevents.1700000000.x", "events.out.tfevents.1700000001.x"
THIN = Rules(thin_older_than=60.0, thin_to=100)
LOSS = "tag_id = (SELECT id FROM tags WHERE name = 'loss')"


def scalars(*steps: int, tag: str = "loss", wall_time: float = 1.7e9) -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step * 7919 % 1009 / 8, wall_time + step) for step in steps)


def session() -> bytes:
    """Return hyperparameters."""
    return tb_hparams("_hparams_/session_start_info", hparams_start({"lr": 0.5}), 1.7e9)


@pytest.fixture
def root(engine: Engine, tmp_path: Path) -> Path:
    """A loaded run: a long series with restarts in one file and over two, a short one, images, hyperparameters."""
    images = b"".join(tb_image("image", step, png(1, 1, step), 1.7e9) for step in range(4))
    first = tb_version(1.7e9) + session() + scalars(*range(600)) + scalars(*range(400, 700), wall_time=1.71e9)
    second = tb_version(1.72e9) + scalars(*range(650, 900), wall_time=1.72e9) + scalars(1, 2, 2, 1, tag="acc") + images
    root = make(tmp_path / "runs", {f"a/{FIRST}": first, f"a/{SECOND}": second, f"b/{FIRST}": first})
    index_once(engine, root)
    return root


def do(engine: Engine, rules: Rules) -> None:
    """Prune."""
    other = writer(engine)
    prune(other, plan(other.connect(), rules, 2e9), lambda: 2e9)


def value(engine: Engine, query: str) -> Any:
    """Return the only value of a query."""
    with engine.connect() as conn:
        return conn.execute(text(query)).scalar_one()


def pruned(engine: Engine) -> list[str]:
    """Return the jobs of which something is said to be pruned."""
    with engine.connect() as conn:
        return list(conn.execute(text("SELECT train_id FROM jobs WHERE pruned_at IS NOT NULL ORDER BY 1")).scalars())


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("rules", [Rules(("./a",), tags=("image", "acc")), replace(THIN, jobs=("./a",))])
def test_what_is_left_is_compared(
    engine: Engine, url: str, root: Path, rules: Rules, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing differs, whatever the pieces that are looked at; it is said that something was pruned, and of what."""
    if small:
        monkeypatch.setattr(comparing, "_POINTS", 3)
        monkeypatch.setattr(remnant, "_PAGE", 2)
    before = value(engine, "SELECT count(*) FROM tensor_points")
    do(engine, rules)
    assert value(engine, "SELECT count(*) FROM tensor_points") < before
    assert ["./a"] == pruned(engine)
    facts, lines, _ = compare(url)
    assert [] == lines
    assert ["runs:./a: some of it was pruned; what only its files hold is passed over"] == facts["notes"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            f"UPDATE tensor_points SET value = 7 WHERE {LOSS} AND step = 599 AND seq = 0",
            "step 599, seq 0: value: the file",
        ),
        (f"UPDATE tensor_points SET wall_time = 7 WHERE {LOSS} AND step = 0", "step 0, seq 0: wall_time: the file has"),
        ("INSERT INTO tensor_points SELECT id, 5000, 0, 1, 2 FROM tags WHERE name = 'loss'", "points"),
        ("UPDATE tags SET point_count = 3 WHERE name = 'loss'", "tags.point_count"),
        ("UPDATE blobs SET width = 9 WHERE step = 2", "image: width: the file has 1, the table 9"),
        ("UPDATE hparams SET number = 9", "hparams"),
        ("UPDATE shards SET record_count = 3", "record_count"),
    ],
)
def test_what_is_wrong_is_told(engine: Engine, url: str, root: Path, change: str, said: str) -> None:
    """A point that no file has, wherever it is, and all else that pruning does not touch, is a difference as ever."""
    do(engine, Rules(("./b",)))
    do(engine, THIN)
    with engine.begin() as conn:
        conn.execute(text(change))
    facts, lines, _ = compare(url)
    assert facts["differences"] > 0
    assert any(said in line for line in lines), lines


def test_a_tag_that_comes_again(engine: Engine, url: str, root: Path) -> None:
    """New points of a pruned tag are stored, from where the file was; they are found there."""
    do(engine, Rules(tags=("loss",)))
    with (root / "a" / FIRST).open("ab") as file:
        file.write(scalars(0, 1, 2, 2, wall_time=1.71e9))
    index_once(engine, root)
    assert 4 == value(engine, "SELECT sum(point_count) FROM tags WHERE name = 'loss'")
    assert [] == compare(url)[1]


def test_jobs_that_are_not_loaded_are_passed_over(engine: Engine, url: str, root: Path) -> None:
    """What was evicted, and what was pruned as a whole, is said; neither is a difference."""
    do(engine, Rules(("./b",)))
    facts, lines, _ = compare(url)
    assert [] == lines
    assert ["runs: 1 jobs were pruned and are passed over: `summarydb reindex` loads one"] == facts["notes"]
    make(root, {f"c/{FIRST}": tb_version(1.7e9) + scalars(1)})
    for file in (root / "a").iterdir():
        os.utime(file, (1, 1))
    follower = Follower(engine, root, config=replace(SMALL, max_cached_jobs=1))
    follower.scan()
    facts, lines, _ = compare(url)
    assert [] == lines
    assert "runs:./a: left out of the cache, so nothing of it is stored, and nothing compared" in facts["notes"]
    follower.clock.time += retention.GRACE_SECONDS + 6
    follower.scan()
    assert 0 == value(engine, "SELECT count(*) FROM loose_tags")


def test_an_emptied_file_is_no_difference(engine: Engine, url: str, root: Path) -> None:
    """Its points stay, as it is meant; it is said, and the rest is compared."""
    (root / "a" / SECOND).write_bytes(b"\0" * 100)
    index_once(engine, root)
    facts, lines, _ = compare(url)
    assert [] == lines
    note = f"runs:./a, {SECOND}: it holds no record any more; its points stay and are not compared"
    assert [note] == facts["notes"]


def reindex(engine: Engine, root: Path, file: str | None = None) -> None:
    """Have ./a read again."""
    with transaction(writer(engine)) as conn:
        (job,) = retention.named(conn, "./a")
        number = shadow.ask(conn, job.id, file, 2e9)
    clock = StillClock()
    follower = Follower(engine, root, clock=clock)
    for _ in range(100):
        clock.time += 6
        follower.settle()
        current = follower.indexer.reloads.current
        if current is not None and current._thread is not None:
            current._thread.join()
        with transaction(writer(engine)) as conn:
            ended, error = shadow.outcome(conn, number)
        if ended:
            break
    assert (True, None) == (ended, error)
    follower.leave()


def test_it_is_forgotten_when_all_is_read_again(engine: Engine, url: str, root: Path) -> None:
    """One file read again, or a job of which a file is gone, may still lack something; all of them do not."""
    do(engine, replace(THIN, jobs=("./a",)))
    reindex(engine, root, FIRST)
    assert ["./a"] == pruned(engine)
    assert [] == compare(url)[1]
    away = (root / "a" / SECOND).rename(root / "away")
    reindex(engine, root)
    away.rename(root / "a" / SECOND)
    index_once(engine, root)
    assert ["./a"] == pruned(engine)
    assert [] == compare(url)[1]
    reindex(engine, root)
    assert [] == pruned(engine)
    assert [] == compare(url)[1]


@pytest.mark.parametrize("how", ["replaced", "replaced beside one that is gone", "evicted"])
def test_other_ways_to_be_read_again(engine: Engine, url: str, root: Path, how: str) -> None:
    """A replaced file and an eviction forget it, too, unless points of a file that is gone stay."""
    do(engine, replace(THIN, jobs=("./a",)))
    config = SMALL
    if how == "evicted":
        config = replace(SMALL, max_cached_jobs=1)
        for file in (root / "a").iterdir():
            os.utime(file, (1, 1))
    else:
        (root / "a" / FIRST).write_bytes(tb_version(1.73e9) + scalars(1, 2, 3))
        if how != "replaced":
            (root / "a" / SECOND).rename(root / "away")
    index_once(engine, root, config=config)
    assert ([] if how in {"replaced", "evicted"} else ["./a"]) == pruned(engine)
    assert [] == compare(url)[1]
    if how == "replaced beside one that is gone":
        (root / "away").rename(root / "a" / SECOND)
        index_once(engine, root)
        assert [] == compare(url)[1]
