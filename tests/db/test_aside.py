"""Points of a file that is gone, aside while their job is read again: deleted, read again, copied or verified then."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db import retention, shadow
from indexer.db.connection import transaction
from indexer.ingest.retention import Rules, plan, prune
from indexer.ingest.watch import LEASE_SECONDS
from tests.support.crashing import Crash, crashing
from tests.support.engines import writer
from tests.support.following import SMALL, Follower, StillClock, empty, index_once, make
from tests.support.records import png, tb_histogram, tb_image, tb_scalar, tb_session_start, tb_version
from tests.support.tables import differences, dump
from tests.support.verifying import compare

FIRST, SECOND, THIRD = (f"events.out.tfevents.170000000{i}.x" for i in range(3))
CONFIG = replace(SMALL, batch_points=5, slice_bytes=4096)
ROWS = ("tensor_points", "blobs", "histogram_stats", "tensor_stats", "graph_stats", "graph_chunks")


def scalars(*steps: int, tag: str = "loss", value: float = 0.25) -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step * value, 1.7e9 + step) for step in steps)


def write_runs(root: Path) -> Path:
    """Write a run of three files, whose tags come from several of them, and another run."""
    payloads = tb_image("image", 1, png(1, 1), 1.7e9) + tb_histogram("spread", 2, (1.0, 2.0), (3.0, 4.0), 1.7e9)
    tree = {
        f"a/{FIRST}": tb_version(1.7e9) + scalars(*range(20)) + scalars(1, 2, tag="acc"),
        f"a/{SECOND}": tb_version(1.71e9) + scalars(*range(15, 30)),
        f"a/{THIRD}": tb_version(1.72e9)
        + tb_session_start(25, 1.72e9)
        + scalars(25, 26, 26, 25, 27)
        + payloads
        + scalars(8, tag="late"),
        f"b/{FIRST}": tb_version(1.7e9) + scalars(1, 2, 3),
    }
    return make(root, tree)


def change(root: Path) -> None:
    """The last file goes, the first is replaced: all is read again, and the last one's turn comes last."""
    (root / "a" / THIRD).unlink()
    (root / "a" / FIRST).write_bytes(tb_version(1.73e9) + scalars(*range(30), value=0.5))


def ask(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query answers."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def aside(engine: Engine) -> int:
    """Return how many rows are aside."""
    return sum(int(ask(engine, f"SELECT count(*) FROM {table} WHERE tag_id < 0")[0][0]) for table in ROWS)


@pytest.fixture
def root(engine: Engine, tmp_path: Path) -> Path:
    """Runs of which one is being read again, and whoever did that died: points are aside."""
    root = write_runs(tmp_path / "runs")
    index_once(engine, root, config=CONFIG)
    change(root)
    for fatal in count():
        clock = StillClock(2e9 + fatal * (LEASE_SECONDS + 1))
        with pytest.raises(Crash), crashing(fatal, "after"):
            Follower(engine, root, config=CONFIG, clock=clock).scan()
        if aside(engine):
            break
    return root


def later() -> StillClock:
    """Return a clock by which the one that died is gone, and whose points nobody reads any more."""
    return StillClock(2.1e9)


def finish(engine: Engine, root: Path, config: Any = CONFIG) -> None:
    """Let an indexer do whatever there is to do, points that are waited for and all."""
    clock = later()
    follower = Follower(engine, root, config=config, clock=clock)
    for _ in range(3):
        follower.scan()
        clock.time += retention.GRACE_SECONDS + 6
    follower.scan()
    follower.leave()


def nothing_is_left(engine: Engine, url: str) -> None:
    """Nothing is aside, loose, or of nobody."""
    assert 0 == aside(engine)
    for table in ("loose_tags", "kept_segments", "kept_starts"):
        assert [] == ask(engine, f"SELECT * FROM {table}")
    facts, lines, _ = compare(url)
    assert [] == lines
    assert not [note for note in facts["notes"] if "belong to no job" in note]
    dump(engine)


def test_what_is_aside_is_no_orphan(engine: Engine, url: str, root: Path) -> None:
    """In the midst of it `verify` finds nothing wrong; a row that is of no tag at all is told as ever."""
    assert 0 < aside(engine)
    facts, lines, _ = compare(url)
    assert [] == lines
    assert [str(root / "a" / THIRD)] == facts["missing"]
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO tensor_points VALUES (-999, 1, 0, 1, 1)"))
    assert ["tensor_points of tag -999, which is none: tags has nothing, the table 1 rows"] == compare(url)[1]


@pytest.mark.parametrize("rules", [Rules(jobs=("./a",)), Rules(("./a",), tags=("*",)), Rules(("./a",), tags=("l*",))])
@pytest.mark.parametrize("dies", [False, True])
def test_pruned(engine: Engine, url: str, root: Path, rules: Rules, dies: bool) -> None:
    """Points that are aside go with their tag, also where the prune died before it swept; none comes back."""
    names = {name for (name,) in ask(engine, "SELECT t.name FROM kept_segments k JOIN tags t ON t.id = k.tag_id")}
    assert {"loss", "late", "image"} <= names
    other = writer(engine)
    chosen = plan(other.connect(), rules, 2.1e9)
    if dies:
        with pytest.raises(Crash), crashing(0, "after"):
            prune(other, chosen, later().now)
    else:
        prune(other, chosen, later().now)
    # New tags, for which SQLite may give the ids of those that are gone, and whose own points are put aside.
    make(root, {f"c/{name}": tb_version(1.7e9 + i) + scalars(i, i + 1) for i, name in enumerate((FIRST, SECOND))})
    finish(engine, root)
    (root / "c" / SECOND).unlink()
    (root / "c" / FIRST).write_bytes(tb_version(1.74e9) + scalars(7))
    finish(engine, root)
    nothing_is_left(engine, url)
    steps = "SELECT p.step FROM tensor_points p JOIN tags t ON t.id = p.tag_id JOIN jobs j ON j.id = t.job_id"
    assert [(7,), (1,), (2,)] == ask(engine, f"{steps} WHERE j.train_id = './c' ORDER BY p.seq, p.step")
    if not rules.tags:
        assert [("./b",), ("./c",)] == ask(engine, "SELECT train_id FROM jobs ORDER BY 1")
    else:
        assert [] == ask(engine, "SELECT * FROM tags WHERE name = 'late'")


def test_evicted(engine: Engine, url: str, root: Path) -> None:
    """A file that was emptied cannot be loaded again: its job stays in the cache, and its points come back."""
    (root / "a" / THIRD).write_bytes(b"")
    finish(engine, root, replace(CONFIG, max_cached_jobs=1))
    nothing_is_left(engine, url)
    assert [("late",)] == ask(engine, "SELECT name FROM tags WHERE name = 'late'")


@pytest.mark.parametrize("file", [None, SECOND])
def test_read_again(engine: Engine, url: str, root: Path, file: str | None, tmp_path: Path) -> None:
    """`reindex` just then ends it: the tables are those of an indexer that nobody disturbed."""
    with transaction(writer(engine)) as conn:
        (job,) = retention.named(conn, "./a")
        number = shadow.ask(conn, job.id, file, 2e9)
    clock = later()
    follower = Follower(engine, root, config=CONFIG, clock=clock)
    indexer = follower.indexer
    for _ in range(100):  # looks at nothing but what it was asked for
        indexer._patiently(follower.stop, indexer._beat)
        while indexer._patiently(follower.stop, lambda: indexer.reloads.turn(clock.now())):
            pass
        if indexer.reloads.current is not None and indexer.reloads.current._thread is not None:
            indexer.reloads.current._thread.join()
        with transaction(writer(engine)) as conn:
            ended, error = shadow.outcome(conn, number)
        if ended:
            break
    assert error is None
    follower.leave()
    finish(engine, root)
    nothing_is_left(engine, url)
    actual = dump(engine, disk=False)
    empty(engine)
    again = write_runs(tmp_path / "again" / "runs")
    undisturbed = Follower(engine, again, config=CONFIG)
    undisturbed.scan()
    change(again)
    undisturbed.scan()
    assert [] == differences(dump(engine, disk=False), actual)
