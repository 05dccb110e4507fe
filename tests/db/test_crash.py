"""A crash before or after any commit, and a failure of any commit: the tables end as if nothing had happened."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine

from indexer.errors import Retry, Wait
from indexer.ingest.watch import LEASE_SECONDS
from tests.support.explaining import benchmark, hoc, inference, metadata, saliency, sample
from tests.support.following import SMALL, Follower, StillClock, empty, make
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

When = Literal["before", "after"]
CONFIG = replace(SMALL, batch_points=3, slice_bytes=150, max_record_bytes=300)
FIRST, SECOND = "events.out.tfevents.1700000000.x", "events.out.tfevents.1700000001.x"
MINDSPORE = "events.out.events.summary.1700000000.0.x_MS"
EXPLAIN = "events.out.events.summary.1700000000.0.x_explain"
LINEAGE = "events.out.events.summary.1700000000.0.x_lineage"
LATER_LINEAGE = "events.out.events.summary.1700000001.0.x_lineage"


GRAPH = ms_model(ms_graph([ms_node("1", "ReLU", ["x"])], ["x"]))


class Crash(BaseException):
    """The process ends here."""


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


@contextmanager
def commits(engine: Engine, each: Callable[[int, When], None]) -> Iterator[list[int]]:
    """Call `each` before and after every commit with its number; yield a list that grows with them."""
    commit, numbers = engine.dialect.do_commit, list[int]()

    def counted(connection: Any) -> None:
        numbers.append(len(numbers))
        number = numbers[-1]
        each(number, "before")
        commit(connection)
        each(number, "after")

    engine.dialect.do_commit = counted  # type: ignore[method-assign, assignment]
    try:
        yield numbers
    finally:
        engine.dialect.do_commit = commit  # type: ignore[method-assign]


def undisturbed(engine: Engine, root: Path) -> tuple[Tables, int]:
    """Return the tables of a run in which nothing fails, and how many commits it took."""
    begin(root)
    with commits(engine, lambda _number, _when: None) as numbers:
        follower = Follower(engine, root, config=CONFIG)
        follower.scan()
        go_on(root)
        follower.scan()
    tables = dump(engine, disk=False)
    assert min(len(rows) for name, rows in tables.items() if name != "point_rollups") > 0, "the story tells enough"
    return tables, len(numbers)


def chosen(engine: Engine, count: int) -> range:
    """Return the commits to fail at: all of them on SQLite, where they cost least."""
    return range(0, count, 1 if engine.dialect.name == "sqlite" else 4)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_commit_leaves_no_trace(engine: Engine, tmp_path: Path, when: When) -> None:
    """A process that ends at a commit, and another that goes on: the tables are those of an undisturbed run."""
    root = tmp_path / "runs"
    expected, count = undisturbed(engine, root)
    for fatal in chosen(engine, count):
        empty(engine)
        clock = StillClock()

        def crash(number: int, now: When, fatal: int = fatal) -> None:
            if (number, now) == (fatal, when):
                raise Crash

        follower: Follower | None = None
        with commits(engine, crash):
            for change in (begin, go_on):
                change(root)
                try:
                    follower = follower or Follower(engine, root, config=CONFIG, clock=clock)
                    follower.scan()
                except Crash:
                    clock.time += LEASE_SECONDS + 1
                    follower = Follower(engine, root, config=CONFIG, clock=clock)
                    follower.scan()
        assert (fatal, []) == (fatal, differences(expected, dump(engine, disk=False)))


@pytest.mark.parametrize(("error", "when"), [(Retry, "before"), (Wait, "after")])
def test_a_commit_that_fails_once_is_made_good(
    engine: Engine, tmp_path: Path, error: type[Exception], when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is busy, or goes away at a commit that may have come through: the same indexer goes on."""
    monkeypatch.setattr("indexer.ingest.watch._BACK_OFF_SECONDS", (0.0, 0.0))
    root = tmp_path / "runs"
    expected, count = undisturbed(engine, root)
    for number in chosen(engine, count):
        empty(engine)
        failed: list[int] = []

        def fail(found: int, now: When, number: int = number, failed: list[int] = failed) -> None:
            if (found, now) == (number, when):
                failed.append(found)
                raise error("the database is busy, says a test")

        with commits(engine, fail):
            begin(root)
            follower = Follower(engine, root, config=CONFIG)
            follower.scan()
            go_on(root)
            follower.scan()
        assert [number] == failed
        assert (number, []) == (number, differences(expected, dump(engine, disk=False)))
