"""A kill at any commit, and a failure of any commit: the tables end as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from indexer.errors import Retry, Wait
from indexer.ingest.watch import LEASE_SECONDS
from tests.support.explaining import benchmark, hoc, inference, metadata, saliency, sample
from tests.support.faults import When, commits
from tests.support.following import SMALL, Follower, empty, make
from tests.support.killing import NEVER, Life, nursery
from tests.support.messages import ms_graph, ms_model, ms_node
from tests.support.records import (
    frame,
    hparams_end,
    hparams_experiment,
    hparams_start,
    ms_evaluation,
    ms_image,
    ms_scalars,
    ms_tensor,
    ms_train,
    ms_user_defined,
    ms_version,
    png,
    tb_histogram,
    tb_hparams,
    tb_image,
    tb_scalar,
    tb_session_start,
    tb_strings,
    tb_tensor,
    tb_version,
)
from tests.support.tables import Tables, differences, dump

CONFIG = replace(SMALL, batch_points=3, slice_bytes=150, max_record_bytes=300)
FIRST, SECOND = "events.out.tfevents.1700000000.x", "events.out.tfevents.1700000001.x"
MINDSPORE = "events.out.events.summary.1700000000.0.x_MS"
EXPLAIN = "events.out.events.summary.1700000000.0.x_explain"
LINEAGE = "events.out.events.summary.1700000000.0.x_lineage"
LATER_LINEAGE = "events.out.events.summary.1700000001.0.x_lineage"


GRAPH = ms_model(ms_graph([ms_node("1", "ReLU", ["x"])], ["x"]))


def graph_files(root: Path, seconds: int, **content: bytes) -> None:
    """Write graph files, whose modification time is a point's clock."""
    make(root, {f"{job}/g.pb": data for job, data in content.items()})
    for job in content:
        os.utime(root / job / "g.pb", (seconds, seconds))


def scalars(*steps: int, tag: str = "loss") -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step / 4, 1.7e9 + step) for step in steps)


def begin(root: Path) -> None:
    """Write runs with restarts, session starts, damage, a record that is too long and a torn end."""
    shutil.rmtree(root, ignore_errors=True)
    kinds = (
        tb_image("sample", 1, png(2, 2), 1.7e9)
        + tb_tensor("weights", 1, (2,), bytes(8), 1.7e9)
        + tb_histogram("spread", 1, (1.0, 2.0), (3.0, 4.0), 1.7e9)
    )
    starts = tb_session_start(3, 1.7e9) + tb_session_start(2, 1.7e9) + scalars(2, 3)
    make(
        root,
        {
            f"a/{FIRST}": tb_version(1.7e9) + scalars(1, 2, 3, 3) + scalars(1, 2, tag="b") + starts + scalars(5)[:-3],
            f"a/{SECOND}": tb_version(1.7e9) + scalars(2, 3) + b"\xff" * 200 + scalars(4),
            f"c/{FIRST}": tb_version(1.7e9) + scalars(1) + frame(bytes(310)) + scalars(2) + b"\xfe" * 30,
            f"b/{FIRST}": tb_version(1.7e9)
            + kinds
            + scalars(1)
            + kinds
            + tb_strings("images", 2, [b"a", b"\xff"], 1.7e9),
            f"d/{LINEAGE}": ms_user_defined({"a": "1"}) + ms_train(0.5) + ms_evaluation("{'") + ms_train(0.25)[:-3],
            f"d/{LATER_LINEAGE}": ms_evaluation('{"a": 1}') + ms_user_defined({"b": "2"}),
            f"f/{FIRST}": tb_version(1.7e9)
            + tb_hparams("experiment", hparams_experiment(("", "loss")))
            + tb_hparams("session_start_info", hparams_start({"lr": 0.5}))
            + tb_hparams("session_end_info", hparams_end(1))
            + scalars(1),
            f"d/{MINDSPORE}": ms_version(1.7e9)
            + ms_tensor("y", 1, (1,), bytes(4), 1.7e9)
            + ms_scalars(1, {"x": 1.0, "y": 2.0}, 1.7e9),
            f"d/{EXPLAIN}": metadata(["cat"], ["G"], ["F"])
            + sample(1, "1.png", [0])
            + inference(1, [0], [0.5], [0.5])
            + hoc(1, 0, (0.5, [1, 2, 3, 4])),
        },
    )

    graph_files(root, 1, c=GRAPH, d=GRAPH[:-1], f=GRAPH)


def go_on(root: Path) -> None:
    """Append, replace and delete."""
    graph_files(root, 2, d=GRAPH, f=GRAPH * 2)
    with (root / "a" / FIRST).open("ab") as file:
        file.write(scalars(5)[-3:] + tb_session_start(4, 1.7e9) + scalars(6))
    with (root / "c" / FIRST).open("ab") as file:
        file.write(scalars(1, 2))
    with (root / "b" / FIRST).open("ab") as file:
        file.write(tb_image("sample", 1, png(2, 2, 9), 1.7e9) + tb_image("sample", 2, b"no image", 1.7e9))
    with (root / "f" / FIRST).open("ab") as file:
        file.write(tb_hparams("session_start_info", hparams_start({"lr": 0.25, "batch": 8.0})))
    with (root / "d" / LINEAGE).open("ab") as file:
        file.write(ms_train(0.25)[-3:] + ms_evaluation('{"b": 1}'))
    image = ms_image("y", 4, png(1, 1), 1.7e9)
    (root / "d" / MINDSPORE).write_bytes(ms_version(1.7e9) + image + ms_scalars(4, {"y": 3.0, "z": 2.0}, 1.7e9))
    with (root / "d" / EXPLAIN).open("ab") as file:
        file.write(saliency(1, "G", 0, "1.png") + benchmark("G", "F", 0.5, [0.5]) + sample(2, "2.png"))
    make(root, {f"e/{FIRST}": tb_version(1.7e9) + scalars(1)})
    (root / "a" / SECOND).unlink()


def undisturbed(engine: Engine, root: Path) -> tuple[Tables, int]:
    """Return the tables of a run in which nothing fails, and how many commits it took."""
    begin(root)
    with commits(lambda _number, _when, _raw: None) as numbers:
        follower = Follower(engine, root, config=CONFIG)
        follower.scan()
        go_on(root)
        follower.scan()
    tables = dump(engine, disk=False)
    assert min(len(rows) for name, rows in tables.items() if name != "point_rollups") > 0, "the story tells enough"
    assert len(numbers) > 30
    return tables, len(numbers)


def chosen(engine: Engine, count: int, every: int) -> range:
    """Return the commits to fail at; fewer on PostgreSQL, where each costs more."""
    return range(0, count, every if engine.dialect.name == "sqlite" else 2 * every)


EVERY = pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])


@EVERY
@pytest.mark.skipif(sys.platform == "win32", reason="a fork")
def test_a_kill_at_any_commit_leaves_no_trace(engine: Engine, url: str, tmp_path: Path, every: int) -> None:
    """SIGKILL before each commit in turn, and another process that goes on: the tables are as if nothing had happened.

    Behind a commit is before the next one: a killed process keeps nothing else.
    """
    root = tmp_path / "runs"
    expected, _ = undisturbed(engine, root)
    with nursery() as indexers:

        def live(now: float, kill_at: int = NEVER) -> Life:
            return indexers.run(url, root, config=CONFIG, now=now, kill_at=kill_at)

        def lives(fatal: int) -> int:
            """Tell the story, killed before one commit; return how many commits there were before it."""
            empty(engine)
            done, now = 0, 2e9
            for change in (begin, go_on):
                change(root)
                life = live(now, fatal - done)
                done += life.commits
                if life.killed:
                    now += LEASE_SECONDS + 1
                    assert not live(now).killed
            return done

        count = lives(NEVER)
        assert count > 30
        for fatal in chosen(engine, count, every):
            assert fatal <= lives(fatal) < count
            assert (fatal, []) == (fatal, differences(expected, dump(engine, disk=False)))


@EVERY
@pytest.mark.parametrize(("error", "when"), [(Retry, "before"), (Wait, "after")])
def test_a_commit_that_fails_once_is_made_good(
    engine: Engine, tmp_path: Path, error: type[Exception], when: When, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is busy, or goes away at a commit that may have come through: the same indexer goes on."""
    monkeypatch.setattr("indexer.ingest.watch._BACK_OFF_SECONDS", (0.0, 0.0))
    root = tmp_path / "runs"
    expected, count = undisturbed(engine, root)
    for number in chosen(engine, count, every):
        empty(engine)
        failed: list[int] = []

        def fail(found: int, now: When, _raw: object, number: int = number, failed: list[int] = failed) -> None:
            if (found, now) == (number, when):
                failed.append(found)
                raise error("the database is busy, says a test")

        with commits(fail):
            begin(root)
            follower = Follower(engine, root, config=CONFIG)
            follower.scan()
            go_on(root)
            follower.scan()
        assert [number] == failed
        assert (number, []) == (number, differences(expected, dump(engine, disk=False)))
