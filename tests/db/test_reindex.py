"""Reading a job again: its rows end as a first load would have them, and nobody ever sees its curves missing."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from sqlalchemy import Engine, text

from indexer.db import retention, rollups, shadow
from indexer.db.connection import Connection, Database, transaction
from indexer.errors import Retry
from indexer.ingest.reload import Reload
from indexer.ingest.retention import Rules, plan, prune
from indexer.ingest.watch import LEASE_SECONDS
from indexer.text import store
from tests.support.crashing import Crash, When, crashing
from tests.support.engines import writer
from tests.support.explaining import inference, metadata, sample
from tests.support.following import SMALL, Follower, StillClock, empty, index_once, make
from tests.support.messages import ms_graph, ms_model, ms_node
from tests.support.records import (
    hparams_start,
    ms_evaluation,
    ms_scalars,
    ms_train,
    ms_version,
    png,
    tb_histogram,
    tb_hparams,
    tb_image,
    tb_scalar,
    tb_session_start,
    tb_tensor,
    tb_version,
)
from tests.support.tables import differences, dump

FIRST, SECOND, THIRD = (f"events.out.tfevents.170000000{i}.x" for i in range(3))
MINDSPORE = "events.out.events.summary.1700000000.0.x_MS"
EXPLAIN = "events.out.events.summary.1700000000.0.x_explain"
LINEAGE = "events.out.events.summary.1700000000.0.x_lineage"
LATER_LINEAGE = "events.out.events.summary.1700000001.0.x_lineage"
SEEN = """SELECT j.train_id, count(*) FROM jobs j JOIN tags t ON t.job_id = j.id
JOIN tensor_points p ON p.tag_id = t.id GROUP BY 1 ORDER BY 1"""
CONFIG = replace(SMALL, batch_points=7, slice_bytes=4096)


def scalars(*steps: int, tag: str = "loss", value: float = 0.25) -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step * value, 1.7e9 + step) for step in steps)


def files() -> dict[str, bytes]:
    """Return the files of a job that has everything: restarts, session starts, damage, payloads of many kinds."""
    kinds = (
        tb_image("sample", 1, png(2, 2), 1.7e9)
        + tb_tensor("weights", 1, (2,), bytes(8), 1.7e9)
        + tb_histogram("spread", 1, (1.0, 2.0), (3.0, 4.0), 1.7e9)
    )
    graph = ms_model(ms_graph([ms_node("1", "ReLU", ["x"])], ["x"]))
    starts = tb_session_start(6, 1.7e9) + scalars(6, 7, 8) + tb_session_start(7, 1.7e9) + scalars(7, 9)
    return {
        FIRST: tb_version(1.7e9) + scalars(*range(10)) + scalars(9, 9, 1, 2, tag="acc") + kinds,
        SECOND: tb_version(1.7e9) + scalars(*range(5, 15)) + starts + b"\xff" * 60 + kinds + scalars(20),
        THIRD: tb_version(1.7e9)
        + tb_hparams("session_start_info", hparams_start({"lr": 0.5}))
        + scalars(*range(12, 30))
        + scalars(3, tag="acc"),
        MINDSPORE: ms_version(1.7e9) + ms_scalars(1, {"x": 1.0, "y": 2.0}, 1.7e9),
        EXPLAIN: metadata(["cat"], ["G"], ["F"]) + sample(1, "1.png", [0]) + inference(1, [0], [0.5], [0.5]),
        LINEAGE: ms_train(0.5),
        LATER_LINEAGE: ms_evaluation('{"a": 1}'),
        "g.pb": graph,
    }


def runs(root: Path) -> Path:
    """Write that job, and another that is to stay as it is."""
    make(root, {f"a/{name}": content for name, content in files().items()})
    make(root, {f"b/{FIRST}": tb_version(1.7e9) + scalars(1, 2, 3)})
    os.utime(root / "a" / "g.pb", (1, 1))
    return root


def wish(engine: Engine, job: str = "./a", file: str | None = None) -> int:
    """Ask that a job be read again."""
    with transaction(writer(engine)) as conn:
        (found,) = retention.named(conn, job)
        return shadow.ask(conn, found.id, None if file is None else store(file), 2e9)


def fulfil(follower: Follower, number: int) -> str | None:
    """Let the indexer work until a wish came to its end; return what was wrong."""
    for _ in range(100):
        follower.clock.time += 6  # a heartbeat is due: it asks for wishes
        follower.settle()
        current = follower.indexer.reloads.current
        if current is not None and current._thread is not None:
            current._thread.join()
        with transaction(follower.indexer.database) as conn:
            ended, error = shadow.outcome(conn, number)
        if ended:
            follower.clock.time += retention.GRACE_SECONDS + 1
            follower.settle()
            return error
    raise AssertionError("it never ends")


def ask(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query answers."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


@contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Look at the database after each commit of an indexer."""
    begin = Database.begin

    @contextmanager
    def looked(self: Database) -> Iterator[Connection]:
        with begin(self) as conn:
            yield conn
        look()

    with mock.patch.object(Database, "begin", looked):
        yield


def left_over(engine: Engine, tmp_path: Path) -> list[Path]:
    """Return directories of shadows beside a SQLite database."""
    return list(tmp_path.glob("summary.db.reindex-*"))


@pytest.mark.parametrize("kernel", [False, True])
def test_the_rows_are_those_of_a_first_load(engine: Engine, tmp_path: Path, kernel: bool) -> None:
    """Whatever a job holds: read again it is the same, and so is the other job; nothing is left of the old rows."""
    follower = Follower(engine, runs(tmp_path / "runs"), config=replace(CONFIG, kernel=kernel))
    follower.scan()
    before = dump(engine)
    assert all(
        before[name]
        for name in before
        if name not in {"point_rollups", "explain_saliency", "explain_hoc", "explain_benchmarks"}
    )
    old = ask(engine, "SELECT id FROM tags WHERE job_id = (SELECT id FROM jobs WHERE train_id = './a')")
    assert None is fulfil(follower, wish(engine))
    assert [] == differences(before, dump(engine))
    assert not set(old) & set(ask(engine, "SELECT id FROM tags"))
    assert [] == ask(engine, "SELECT * FROM loose_tags")
    assert [] == left_over(engine, tmp_path)
    follower.scan()
    assert [] == differences(before, dump(engine))


def test_rows_that_were_wrong_are_right_again(engine: Engine, tmp_path: Path) -> None:
    """What the command is for: what somebody changed or lost in the tables comes back from the files."""
    follower = Follower(engine, runs(tmp_path / "runs"), config=CONFIG)
    follower.scan()
    before = dump(engine)
    with engine.begin() as conn:
        conn.execute(text("UPDATE tensor_points SET value = 7"))
        conn.execute(text("DELETE FROM tensor_points WHERE step > 20"))
        conn.execute(text("DELETE FROM blobs"))
        conn.execute(text("DELETE FROM explain_samples"))
        conn.execute(text("UPDATE shards SET bad_records = 7"))
    assert None is fulfil(follower, wish(engine, "./a"))
    assert None is fulfil(follower, wish(engine, "./b"))
    assert [] == differences(before, dump(engine))


def test_its_curves_are_there_at_any_moment(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each commit the views and counts show all points of each job, once."""
    monkeypatch.setattr(shadow, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(shadow, "_PAYLOADS_AT_ONCE", 1)
    monkeypatch.setattr(retention, "SWEEP_ROWS", 10)
    follower = Follower(engine, runs(tmp_path / "runs"), config=CONFIG)
    follower.scan()
    number = wish(engine)
    queries = (
        SEEN,
        "SELECT job, tag, count(*), sum(value) FROM v_scalars GROUP BY 1, 2 ORDER BY 1, 2",
        "SELECT count(*), sum(point_count), min(cache_status) FROM jobs",
        "SELECT job, count(*) FROM v_histograms GROUP BY 1",
        "SELECT job, learning_rate FROM v_lineage",
        "SELECT job, probability FROM v_explain_inferences",
        "SELECT count(*) FROM tags",
    )
    expected = [ask(engine, query) for query in queries]
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        assert expected == [ask(engine, query) for query in queries]

    with watched(look):
        assert None is fulfil(follower, number)
    assert looks > 30


def test_long_series_keep_their_rollups(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buckets come along, also those that a restart made anew."""
    monkeypatch.setattr(rollups, "LONG", 256)
    content = tb_version(1.7e9) + scalars(*range(700)), tb_version(1.7e9) + scalars(*range(500, 900), value=0.5)
    root = make(tmp_path / "runs", {f"a/{FIRST}": content[0], f"a/{SECOND}": content[1]})
    follower = Follower(engine, root, config=replace(SMALL, batch_points=150, slice_bytes=4096))
    follower.scan()
    before = dump(engine)
    assert before["point_rollups"]
    assert None is fulfil(follower, wish(engine))
    assert [] == differences(before, dump(engine))
    (root / "a" / FIRST).unlink()
    follower.scan()
    before = dump(engine)
    assert None is fulfil(follower, wish(engine))
    assert [] == differences(before, dump(engine))


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD, MINDSPORE, EXPLAIN, LINEAGE, LATER_LINEAGE, "g.pb"])
def test_points_of_a_file_that_is_gone_stay(engine: Engine, tmp_path: Path, name: str) -> None:
    """The other files are read again, and its rows are where they were, in the order of files."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=CONFIG)
    follower.scan()
    (root / "a" / name).unlink()
    follower.scan()
    before = dump(engine)
    assert None is fulfil(follower, wish(engine))
    assert [] == differences(before, dump(engine))


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD, MINDSPORE, EXPLAIN, LATER_LINEAGE, "g.pb"])
def test_one_file_is_read_again(engine: Engine, tmp_path: Path, name: str) -> None:
    """Only that one is opened, and explain files, which have no points; all rows are as they were."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=CONFIG)
    follower.scan()
    before = dump(engine)
    follower.files.opened.clear()
    assert None is fulfil(follower, wish(engine, file=name))
    assert {name} <= set(follower.files.opened) <= {name, EXPLAIN, "manifest.json"}
    after = dump(engine)
    for tables in (before, after):  # what was wrong with the others is told in other words
        for key, row in tables["shard_errors"].items():
            tables["shard_errors"][key] = row[:1]
    assert [] == differences(before, after)


def test_what_is_appended_meanwhile_is_there_at_the_end(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files grow, and a new one comes, at every step of it; in the end all is as a first load would have it."""
    monkeypatch.setattr(shadow, "ROWS_AT_ONCE", 10)
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=CONFIG)
    follower.scan()
    number = wish(engine)
    step = 100
    copied = Reload.copy

    def copy(self: Reload, *arguments: Any) -> Iterator[None]:
        nonlocal step
        for _ in copied(self, *arguments):
            if step < 130:
                with (root / "a" / THIRD).open("ab") as file:
                    file.write(scalars(step) + tb_image("sample", step, png(1, 1), 1.7e9))
                if step == 110:
                    make(root, {"a/events.out.tfevents.1700000009.x": tb_version(1.7e9) + scalars(1, 2, tag="new")})
                step += 1
            yield

    monkeypatch.setattr(Reload, "copy", copy)
    assert None is fulfil(follower, number)
    follower.scan()
    follower.settle()
    assert step > 105
    actual = dump(engine)
    empty(engine)
    index_once(engine, root, config=CONFIG)
    assert [] == differences(dump(engine), actual)


def test_nothing_changes_where_there_is_nothing_to_read(engine: Engine, tmp_path: Path) -> None:
    """Files that are gone, or cannot be read, or are not its own: the wish says why, the rows stay."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=CONFIG)
    follower.scan()
    before = dump(engine)
    assert "has no file other" in (fulfil(follower, wish(engine, file="other")) or "")

    def forbid(path: Path) -> None:
        if path.name == SECOND:
            raise PermissionError(13, "Permission denied")

    follower.files.before_open = forbid
    assert "Permission denied" in (fulfil(follower, wish(engine)) or "")
    assert [] == differences(before, dump(engine))
    shutil.rmtree(root / "a")
    follower.scan()
    before = dump(engine)
    assert "are gone" in (fulfil(follower, wish(engine)) or "")
    assert [] == differences(before, dump(engine))
    assert [] == ask(engine, "SELECT * FROM loose_tags")
    assert [] == left_over(engine, tmp_path)


def test_an_evicted_job_is_loaded(engine: Engine, tmp_path: Path) -> None:
    """Reading it again brings it back."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    before = dump(engine)
    for file in (root / "a").iterdir():
        os.utime(file, (1, 1))
    follower = Follower(engine, root, config=replace(CONFIG, max_cached_jobs=1))
    follower.scan()
    assert [("./b", 3)] == ask(engine, SEEN)
    number = wish(engine)
    follower.clock.time += 6
    follower.settle()
    follower.indexer.reloads.current._thread.join()  # type: ignore[union-attr]
    while follower.indexer.reloads.current is not None:
        follower.indexer.reloads.turn(follower.clock.now())
    with transaction(follower.indexer.database) as conn:
        assert (True, None) == shadow.outcome(conn, number)
    points = ("tensor_points", "tags", "blobs", "restarts")
    actual = dump(engine)
    assert [] == differences({name: before[name] for name in points}, {name: actual[name] for name in points})


def test_a_pruned_job_is_not_read_again(engine: Engine, tmp_path: Path) -> None:
    """Its wish goes with it, whenever that happens."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=CONFIG)
    follower.scan()
    number = wish(engine)
    follower.clock.time += 6
    follower.settle()
    follower.indexer.reloads.current._thread.join()  # type: ignore[union-attr]
    follower.indexer.reloads.turn(follower.clock.now())
    with retention.outside(writer(engine)) as (conn, _):
        retention.drop_job(conn, retention.named(conn, "./a")[0].id, 2e9)
    assert "pruned" in (fulfil(follower, number) or "")
    follower.scan()
    assert [("./b", 3)] == ask(engine, SEEN)
    dump(engine)
    assert [] == ask(engine, "SELECT * FROM loose_tags")
    assert [] == left_over(engine, tmp_path)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_leaves_the_old_curves_or_the_new(
    engine: Engine, tmp_path: Path, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The indexer dies at any of its commits: all points are there, and the next one ends what it was asked for."""
    monkeypatch.setattr(shadow, "ROWS_AT_ONCE", 40)
    root = runs(tmp_path / "runs")
    index_once(engine, root, config=CONFIG)
    expected, seen = dump(engine), ask(engine, SEEN)
    clock = StillClock()
    step = 3 if engine.dialect.name == "sqlite" else 9
    fatal = 0
    while True:
        number = wish(engine)
        follower = Follower(engine, root, config=CONFIG, clock=clock)
        try:
            with crashing(fatal, when, besides="shadow.db"):
                fulfil(follower, number)
            break
        except Crash:
            follower.indexer.reloads.end()  # the process is gone, and its threads with it
        assert (fatal, seen) == (fatal, ask(engine, SEEN))
        clock.time += LEASE_SECONDS + 1
        again = Follower(engine, root, config=CONFIG, clock=clock)
        assert None is fulfil(again, number)
        assert (fatal, []) == (fatal, differences(expected, dump(engine)))
        assert [] == ask(engine, "SELECT * FROM loose_tags")
        again.leave()
        fatal += step
    assert fatal > 20


def test_a_dead_shadow_is_removed(engine: Engine, tmp_path: Path) -> None:
    """What a killed process left beside the database goes with the next reading."""
    if engine.dialect.name != "sqlite":
        pytest.skip("shadows of PostgreSQL lie in the system's directory for temporary files")
    dead = tmp_path / "summary.db.reindex-dead"
    make(dead, {"shadow.db": b"half", "lock": b""})
    follower = Follower(engine, runs(tmp_path / "runs"), config=CONFIG)
    follower.scan()
    assert None is fulfil(follower, wish(engine))
    assert not dead.exists()


def at_work(monkeypatch: pytest.MonkeyPatch, at: int, what: Callable[[], object]) -> None:
    """Do something once, when so many commits copied what was read again."""
    copied, seen = Reload.copy, 0

    def copy(self: Reload, *arguments: Any) -> Iterator[None]:
        nonlocal seen
        for _ in copied(self, *arguments):
            seen += 1
            if seen == at:
                what()
            yield

    monkeypatch.setattr(Reload, "copy", copy)


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_job_pruned_while_it_is_copied(
    engine: Engine, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that were reserved for it are swept with it: no more points come under them."""
    monkeypatch.setattr(shadow, "ROWS_AT_ONCE", 10)
    follower = Follower(engine, runs(tmp_path / "runs"), config=CONFIG)
    follower.scan()
    other = writer(engine)
    found = plan(other.connect(), Rules(("./a",)), 2e9)
    at_work(monkeypatch, at, lambda: prune(other, found, lambda: 3e9))
    assert "pruned" in (fulfil(follower, wish(engine)) or "")
    follower.scan()
    assert [("./b", 3)] == ask(engine, SEEN)
    dump(engine)
    assert [] == ask(engine, "SELECT * FROM loose_tags")


def test_a_wish_that_somebody_else_takes_up_is_left_to_him(engine: Engine, tmp_path: Path) -> None:
    """Nothing is written under ids that another indexer gave up; a wish that came to its end stays as it was."""
    follower = Follower(engine, runs(tmp_path / "runs"), config=CONFIG)
    follower.scan()
    number = wish(engine)
    with transaction(writer(engine)) as conn:
        shadow.reserve(conn, number, [(900, 1)], 2e9)
        shadow.hold(conn, number, 900)
        shadow.give_up(conn, number, 2e9)
        with pytest.raises(Retry, match="another indexer"):
            shadow.hold(conn, number, 900)
        shadow.finish(conn, number, 2e9)
        shadow.finish(conn, number, 3e9, "too late")
        assert (True, None) == shadow.outcome(conn, number)


@pytest.mark.parametrize("at", [1, 2, 6])
@pytest.mark.parametrize("name", [FIRST, THIRD])
def test_a_file_replaced_while_it_is_copied(
    engine: Engine, tmp_path: Path, at: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file has the name of one that was read: it begins anew, and ends as a first load would."""
    monkeypatch.setattr(shadow, "ROWS_AT_ONCE", 10)
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=CONFIG)
    follower.scan()
    content = tb_version(1.75e9) + scalars(*range(40), value=0.5)
    at_work(monkeypatch, at, lambda: make(root, {f"a/{name}": content}))
    assert None is fulfil(follower, wish(engine))
    follower.scan()
    actual = dump(engine)
    follower.clock.time += retention.GRACE_SECONDS + 6
    follower.scan()
    assert [] == ask(engine, "SELECT * FROM loose_tags")
    empty(engine)
    index_once(engine, root, config=CONFIG)
    assert [] == differences(dump(engine), actual)


def test_done_compressed_and_emptied_files(engine: Engine, tmp_path: Path) -> None:
    """Read again a quiet file is done once more, a compressed one says what it is, an emptied one keeps its points."""
    config = replace(CONFIG, done_after=60.0)
    root = runs(tmp_path / "runs")
    zipped = gzip.compress(tb_version(1.7e9) + scalars(1))
    emptied = "events.out.tfevents.1700000005.x"
    make(
        root, {"a/events.out.tfevents.1700000004.x": zipped, f"a/{emptied}": tb_version(1.76e9) + scalars(5, tag="old")}
    )
    follower = Follower(engine, root, config=config)
    follower.scan()
    make(root, {f"a/{emptied}": b""})
    follower.scan()
    before = dump(engine)
    assert {("done",)} < set(ask(engine, "SELECT state FROM shards"))
    ((error,),) = ask(engine, "SELECT last_error FROM jobs WHERE train_id = './a'")
    assert "gunzip" in error
    assert None is fulfil(follower, wish(engine))
    follower.scan()
    assert [] == differences(before, dump(engine))
    assert [(error,)] == ask(engine, "SELECT last_error FROM jobs WHERE train_id = './a'")
