"""Files that grow, appear, go back, are replaced, vanish and come back: the tables follow."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from indexer.config import Root
from indexer.db import write
from indexer.db.connection import transaction as writing
from indexer.db.engine import open_engine
from indexer.errors import Retry
from indexer.ingest import watch
from indexer.ingest.watch import LEASE_SECONDS, Indexer
from indexer.text import show
from indexer.types import CacheStatus
from tests.support.engines import transaction, writer
from tests.support.following import SMALL, Follower, StillClock, WatchedFiles, empty, index_once, make
from tests.support.records import ms_scalars, ms_version, tb_scalar, tb_session_start, tb_version
from tests.support.tables import differences, dump

FIRST = "events.out.tfevents.1700000000.x"
SECOND = "events.out.tfevents.1700000001.x"
THIRD = "events.out.tfevents.1700000002.x"


def scalars(steps: Sequence[int], *, tag: str = "loss", scale: float = 1.0) -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step * scale, 1.7e9 + step) for step in steps)


def append(path: Path, content: bytes) -> None:
    """Append to a file, as a training does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query answers."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def points(engine: Engine) -> list[tuple[int, int]]:
    """Return step and seq of all points, in load order."""
    return [(step, seq) for step, seq in rows(engine, "SELECT step, seq FROM tensor_points ORDER BY tag_id, seq, step")]


def restarts(engine: Engine) -> list[tuple[Any, ...]]:
    """Return tag, seq, step and cause of all restarts."""
    query = "SELECT t.name, r.seq, r.step, r.cause FROM restarts r JOIN tags t ON t.id = r.tag_id ORDER BY 1, 2"
    return rows(engine, query)


def shown(engine: Engine) -> list[int]:
    """Return the steps that v_scalars shows of the tag `loss`, in step order."""
    return [row[0] for row in rows(engine, "SELECT step FROM v_scalars WHERE tag = 'loss' ORDER BY step, seq")]


def states(engine: Engine) -> list[tuple[str, str]]:
    """Return name and state of all shards."""
    return [(show(name), state) for name, state in rows(engine, "SELECT name, state FROM shards ORDER BY name")]


def fresh(engine: Engine, root: Path) -> Any:
    """Return the tables of a first indexing of what lies in `root`; the database is empty afterwards."""
    empty(engine)
    index_once(engine, root)
    found = dump(engine)
    empty(engine)
    return found


STORY = (
    tb_version(1.7e9)
    + scalars([1, 2, 3])
    + scalars([1, 2], tag="other")
    + b"\xffgarbage\xff" * 3
    + scalars([2, 3, 3, 4])
    + tb_session_start(3, 1.7e9)
    + tb_session_start(2, 1.7e9)
    + scalars([3, 4, 5])
    + tb_session_start(5, 1.7e9)
    + scalars([4, 5], tag="other")
    + scalars([4, 6])
)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, len(STORY) - 1), max_size=12), batch_points=st.sampled_from([1, 3, 1_000_000]))
def test_any_chunks_are_one_read(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, cuts: set[int], batch_points: int
) -> None:
    """However a file arrives, and however it is batched, the tables are those of one read."""
    base = tmp_path_factory.mktemp("chunks")
    empty(engine)
    index_once(engine, make(base / "whole" / "runs", {f"a/{FIRST}": STORY}))
    expected = dump(engine, disk=False)
    empty(engine)
    root = make(base / "grown" / "runs", {f"a/{FIRST}": b""})
    config = replace(SMALL, batch_points=batch_points, slice_bytes=200)
    follower = Follower(engine, root, config=config)
    follower.scan()
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(STORY)], strict=True):
        append(root / "a" / FIRST, STORY[begin:end])
        if begin % 3 == 2:
            follower.leave()
            follower = Follower(engine, root, config=config)
        follower.scan()
    assert [] == differences(expected, dump(engine, disk=False))


def test_new_files_and_new_runs_appear(engine: Engine, tmp_path: Path) -> None:
    """A hint about a directory, a file or nothing at all: what is new is found."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1])})
    follower = Follower(engine, root)
    follower.scan()
    append(root / "a" / SECOND, tb_version(1.7e9) + scalars([2]))
    follower.indexer.hints.directories.add(str(root / "a"))
    follower.settle()
    assert [(1, 0), (2, 0)] == points(engine)
    append(root / "b" / "deep" / FIRST, tb_version(1.7e9) + scalars([7]))
    follower.indexer.hints.trees.add(str(root / "b"))
    follower.settle()
    assert [("./a",), ("./b/deep",)] == rows(engine, "SELECT train_id FROM jobs ORDER BY 1")
    append(root / "c" / FIRST, tb_version(1.7e9) + scalars([8]))
    follower.settle()
    assert 2 == len(rows(engine, "SELECT id FROM jobs"))
    follower.clock.time += follower.indexer.config.reconcile
    follower.settle()
    assert [("./a", "CACHED"), ("./b/deep", "CACHED"), ("./c", "CACHED")] == rows(
        engine, "SELECT train_id, cache_status FROM jobs ORDER BY 1"
    )


def test_a_new_file_that_goes_back_supersedes(engine: Engine, tmp_path: Path) -> None:
    """Overlapping steps in a later file: all points stay, a restart says so, the views show the later ones."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1, 2, 3, 4])})
    follower = Follower(engine, root)
    follower.scan()
    append(root / "a" / SECOND, tb_version(1.7e9) + scalars([3, 4, 5]))
    follower.scan()
    assert [(1, 0), (2, 0), (3, 0), (4, 0), (3, 1), (4, 1), (5, 1)] == points(engine)
    assert [("loss", 1, 3, "new_file")] == restarts(engine)
    assert [1, 2, 3, 4, 5] == shown(engine)
    assert dump(engine) == fresh(engine, root)


def test_the_same_file_may_go_back_and_repeat(engine: Engine, tmp_path: Path) -> None:
    """A step back in one file is a restart that hides nothing; an equal step is a repeat."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1, 2, 3])})
    follower = Follower(engine, root)
    follower.scan()
    for step in (2, 3, 3):
        append(root / "a" / FIRST, scalars([step]))
        follower.scan()
    assert [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2)] == points(engine)
    assert [("loss", 1, 2, "same_file")] == restarts(engine)
    assert [1, 2, 2, 3, 3, 3] == shown(engine)
    assert dump(engine) == fresh(engine, root)


START = tb_session_start


@pytest.mark.parametrize(
    ("story", "expected", "current"),
    [
        ([scalars([1, 2, 3]), START(2, 1.7e9), scalars([2, 3])], [("loss", 1, 2, "session_start")], [1, 2, 3]),
        ([scalars([1, 2, 3]), START(2, 1.7e9), scalars([3])], [("loss", 1, 2, "session_start")], [1, 3]),
        ([scalars([1, 2, 3]), START(4, 1.7e9), scalars([4])], [], [1, 2, 3, 4]),
        ([scalars([1, 2, 3]), START(3, 1.7e9), scalars([1])], [("loss", 1, 1, "session_start")], [1]),
        ([scalars([1, 2, 3]), START(2, 1.7e9)], [("loss", 1, 2, "session_start")], [1]),
        (
            [scalars([1, 2, 3, 4]), START(4, 1.7e9), START(2, 1.7e9), scalars([3])],
            [("loss", 1, 2, "session_start")],
            [1, 3],
        ),
        (
            [scalars([1, 2, 3, 4]), START(2, 1.7e9), START(4, 1.7e9), scalars([3])],
            [("loss", 1, 2, "session_start")],
            [1, 3],
        ),
        (
            [scalars([1, 2, 3]), START(2, 1.7e9), scalars([2]), START(2, 1.7e9), scalars([5])],
            [("loss", 2, 2, "session_start")],
            [1, 5],
        ),
        (
            [scalars([1, 2, 3, 4, 5, 2]), START(4, 1.7e9), scalars([3])],
            [("loss", 1, 2, "same_file"), ("loss", 2, 4, "session_start")],
            [1, 2, 2, 3, 3],
        ),
    ],
)
@pytest.mark.parametrize("how", ["at once", "in pieces", "new file", "restarted"])
def test_session_starts(
    engine: Engine, tmp_path: Path, story: list[bytes], expected: list[Any], current: list[int], how: str
) -> None:
    """A session start supersedes what was at or above its step, whether or not anything follows it."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9)})
    follower = Follower(engine, root)
    follower.scan()
    if how == "at once":
        append(root / "a" / FIRST, b"".join(story))
    for i, piece in enumerate(story if how != "at once" else ()):
        append(root / "a" / (SECOND if i and how == "new file" else FIRST), piece)
        if how == "restarted":
            follower.leave()
            follower = Follower(engine, root)
        follower.scan()
    follower.scan()
    assert expected == [row for row in restarts(engine) if row[0] == "loss"]  # the log of sessions goes back, too
    assert current == shown(engine)
    seqs = [max(seq for _, seq in points(engine))]
    followed = story[-1] != START(2, 1.7e9)
    assert seqs == [max((seq for _, seq, _, _ in expected), default=0) if followed else 0]
    assert dump(engine) == fresh(engine, root)


def test_one_start_is_for_all_tags_it_supersedes(engine: Engine, tmp_path: Path) -> None:
    """Tags below the start's step go on undisturbed; a tag seen only later knows nothing of it."""
    before = scalars([1, 2, 3]) + scalars([1], tag="low") + scalars([5], tag="high")
    after = scalars([2]) + scalars([2], tag="low") + scalars([9], tag="high") + scalars([1], tag="new")
    content = tb_version(1.7e9) + before + START(2, 1.7e9) + after
    root = make(tmp_path / "runs", {f"a/{FIRST}": content, f"b/{FIRST}": tb_version(1.7e9) + before})
    index_once(engine, root)
    assert [("high", 1, 2, "session_start"), ("loss", 1, 2, "session_start")] == restarts(engine)
    assert [1, 2, 1, 2, 3] == [
        row[0] for row in rows(engine, "SELECT step FROM v_scalars WHERE tag = 'loss' ORDER BY job, step")
    ]


def test_a_replaced_file_is_read_again(engine: Engine, tmp_path: Path) -> None:
    """Other content under a known name: the tables become those of a fresh index, of all files of the job."""
    tree = {f"a/{name}": tb_version(1.7e9) + scalars([i, i + 1]) for i, name in enumerate((FIRST, SECOND, THIRD))}
    root = make(tmp_path / "runs", {**tree, f"b/{FIRST}": tb_version(1.7e9) + scalars([1])})
    follower = Follower(engine, root)
    follower.scan()
    append(root / "a" / THIRD, scalars([9]))
    append(root / "a" / FIRST, scalars([4]))
    (root / "a" / SECOND).write_bytes(tb_version(1.7e9) + scalars([5, 6, 7], scale=3.0))
    append(root / "b" / FIRST, scalars([2]))
    follower.scan()
    assert [] == differences(dump(engine), fresh(engine, root))


@pytest.mark.parametrize("slice_bytes", [64, 2**16])
def test_a_replaced_file_among_long_ones(engine: Engine, tmp_path: Path, slice_bytes: int) -> None:
    """Other files of the job that are read in many batches lose nothing when one before them was replaced."""
    long = tb_version(1.7e9) + scalars(range(10, 60))
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1, 2]), f"a/{SECOND}": long})
    config = replace(SMALL, slice_bytes=slice_bytes, batch_points=7)
    index_once(engine, root, config=config)
    (root / "a" / FIRST).write_bytes(tb_version(1.7e9) + scalars([3, 4, 5]))
    append(root / "a" / SECOND, scalars(range(60, 90)))
    index_once(engine, root, config=config)
    assert [] == differences(dump(engine), fresh(engine, root))


@pytest.mark.parametrize("content", [b"", bytes(3_000), b"\xff" * 500])
def test_garbage_in_place_of_a_file_takes_nothing_away(engine: Engine, tmp_path: Path, content: bytes) -> None:
    """A file that was emptied, or overwritten with what is no record, keeps its points."""
    good = tb_version(1.7e9) + scalars([1, 2, 3])
    root = make(tmp_path / "runs", {f"a/{FIRST}": good})
    follower = Follower(engine, root)
    follower.scan()
    (root / "a" / FIRST).write_bytes(content)
    follower.scan()
    follower.scan()
    assert [(1, 0), (2, 0), (3, 0)] == points(engine)
    assert [("CACHED",)] == rows(engine, "SELECT cache_status FROM jobs")
    opened = follower.files.opened.total()
    follower.scan()
    assert opened == follower.files.opened.total()
    (root / "a" / FIRST).write_bytes(tb_version(1.7e9) + scalars([7]))
    follower.scan()
    assert [(7, 0)] == points(engine)
    assert dump(engine) == fresh(engine, root)


def test_truncated_and_rewritten_to_the_same_length(engine: Engine, tmp_path: Path) -> None:
    """The same size and other bytes are another file."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1, 2, 3])})
    follower = Follower(engine, root)
    follower.scan()
    path = root / "a" / FIRST
    size, mtime = path.stat().st_size, path.stat().st_mtime_ns
    path.write_bytes(tb_version(1.7e9) + scalars([1, 2, 4]))
    os.utime(path, ns=(mtime + 1_000, mtime + 1_000))
    assert size == path.stat().st_size
    follower.scan()
    assert [(1, 0), (2, 0), (4, 0)] == points(engine)
    assert dump(engine) == fresh(engine, root)


def test_touched_or_copied_over_itself(engine: Engine, tmp_path: Path) -> None:
    """A new mtime or inode with the same content doubles nothing, and its edges alone are read."""
    content = tb_version(1.7e9) + scalars(range(2_000))
    root = make(tmp_path / "runs", {f"a/{FIRST}": content})
    follower = Follower(engine, root)
    follower.scan()
    before = dump(engine, disk=False)
    path = root / "a" / FIRST
    os.utime(path, ns=(1_800_000_000_000_000_000, 1_800_000_000_000_000_000))
    follower.files.read_bytes = 0
    follower.scan()
    assert 8_192 >= follower.files.read_bytes
    (root / "a" / "copy").write_bytes(content)
    (root / "a" / "copy").replace(path)
    follower.files.read_bytes = 0
    follower.scan()
    assert 8_192 >= follower.files.read_bytes
    assert [] == differences(before, dump(engine, disk=False))
    opened = follower.files.opened.total()
    follower.scan()
    assert opened == follower.files.opened.total()


def test_deleted_files_keep_their_points(engine: Engine, tmp_path: Path) -> None:
    """What vanished is told, and stays; what is back goes on where it was."""
    content = tb_version(1.7e9) + scalars([1, 2]) + b"\xff" * 40
    root = make(tmp_path / "runs", {f"a/{FIRST}": content, f"a/{SECOND}": content, f"b/{FIRST}": content})
    follower = Follower(engine, root)
    follower.scan()
    before = dump(engine, disk=False)
    (root / "a" / FIRST).unlink()
    (root / "b" / FIRST).unlink()
    follower.scan()
    assert [(FIRST, "missing"), (FIRST, "missing"), (SECOND, "growing")] == states(engine)
    query = "SELECT train_id, missing_since IS NOT NULL, cache_status, bytes_on_disk FROM jobs ORDER BY 1"
    assert [("./a", False, "CACHED", len(content)), ("./b", True, "CACHED", 0)] == rows(engine, query)
    assert 6 == len(points(engine))
    make(root, {f"a/{FIRST}": content, f"b/{FIRST}": content})
    follower.scan()
    assert [] == differences(before, dump(engine, disk=False))
    append(root / "b" / FIRST, scalars([3]))
    follower.scan()
    assert [("./a", 4), ("./b", 3)] == rows(engine, "SELECT train_id, point_count FROM jobs ORDER BY 1")
    assert [(40,)] * 3 == rows(engine, "SELECT bad_bytes FROM shards")


def test_what_happened_while_nobody_looked(engine: Engine, tmp_path: Path) -> None:
    """Growth, deletion and a new run between two indexers are found by the second."""
    content = tb_version(1.7e9) + scalars([1, 2])
    root = make(tmp_path / "runs", {f"{name}/{FIRST}": content for name in "abc"})
    index_once(engine, root)
    (root / "a" / FIRST).unlink()
    (root / "a").rmdir()
    append(root / "b" / FIRST, scalars([3]))
    append(root / "d" / FIRST, content)
    files = WatchedFiles()
    index_once(engine, root, files=files)
    query = "SELECT train_id, cache_status, point_count, missing_since IS NULL FROM jobs ORDER BY 1"
    assert [
        ("./a", "CACHED", 2, False),
        ("./b", "CACHED", 3, True),
        ("./c", "CACHED", 2, True),
        ("./d", "CACHED", 2, True),
    ] == rows(engine, query)
    assert 2 == files.opened.total()


def test_a_restart_over_unchanged_files_opens_none_and_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    """Unchanged jobs are CACHED at once; no file is opened and no row of them written."""
    tree = {f"run{i}/{FIRST}": tb_version(1.7e9) + scalars([i, i + 1]) for i in range(20)}
    root = make(tmp_path / "runs", tree)
    index_once(engine, root)
    before, revisions = dump(engine), rows(engine, "SELECT revision FROM jobs ORDER BY id")
    files = WatchedFiles()
    outcome = index_once(engine, root, files=files)
    assert 0 == files.opened.total()
    assert (20, 40) == (outcome.jobs, outcome.points)
    assert [] == differences(before, dump(engine))
    assert revisions == rows(engine, "SELECT revision FROM jobs ORDER BY id")


class Spy:
    """What a second connection sees of cache_status, noted before each file is opened and each batch written."""

    def __init__(self, url: str, follower: Follower) -> None:
        self.engine = open_engine(url)
        self.follower = follower
        self.seen: dict[str, list[str]] = {}
        commit = follower.indexer.loader.commit

        def committed(prepared: Any) -> None:
            self.look()
            commit(prepared)
            self.look()

        follower.indexer.loader.commit = committed  # type: ignore[method-assign]

    def look(self) -> None:
        """Note what is new."""
        for train_id, status in rows(self.engine, "SELECT train_id, cache_status FROM jobs ORDER BY id"):
            seen = self.seen.setdefault(train_id, [])
            if not seen or seen[-1] != status:
                seen.append(status)


@pytest.fixture
def spied(url: str, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spy]:
    """An indexer over an empty directory `runs`, and somebody who watches its tables."""
    monkeypatch.setattr(watch, "LIVE_BYTES", 1_000)
    config = replace(SMALL, batch_points=2, slice_bytes=100)
    spy = Spy(url, Follower(engine, make(tmp_path / "runs", {}), config=config))
    spy.follower.scan()
    yield spy
    spy.engine.dispose()


def test_cache_status_as_others_see_it(spied: Spy, tmp_path: Path) -> None:
    """NOT_IN_CACHE, CACHING, CACHED; small appends never leave CACHED, a large one is a load again."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars(range(10))})
    spied.follower.scan()
    assert {"./a": ["CACHING", "CACHED"]} == spied.seen
    for step in range(10, 15):
        append(root / "a" / FIRST, scalars([step]))
        spied.follower.scan()
    assert {"./a": ["CACHING", "CACHED"]} == spied.seen
    append(root / "a" / SECOND, tb_version(1.7e9) + scalars(range(15, 60)))
    spied.follower.scan()
    assert {"./a": ["CACHING", "CACHED", "CACHING", "CACHED"]} == spied.seen


def test_jobs_wait_as_not_in_cache(engine: Engine, tmp_path: Path) -> None:
    """Known on disk and nobody loading it: NOT_IN_CACHE; also where an indexer was told to stop half-way."""
    root = make(tmp_path / "runs", {f"{name}/{FIRST}": tb_version(1.7e9) + scalars(range(9)) for name in "ab"})
    follower = Follower(engine, root, config=replace(SMALL, batch_points=2, slice_bytes=100))
    follower.indexer._tend()
    statuses = "SELECT cache_status FROM jobs ORDER BY train_id"
    assert [("NOT_IN_CACHE",)] * 2 == rows(engine, statuses)
    commit = follower.indexer.loader.commit

    def stopping(prepared: Any) -> None:
        commit(prepared)
        follower.stop.set()

    follower.indexer.loader.commit = stopping  # type: ignore[method-assign]
    follower.settle()
    assert ("CACHING",) in rows(engine, statuses)
    follower.leave()
    assert 18 > len(points(engine)) > 0
    assert ("CACHING",) not in rows(engine, statuses)
    index_once(engine, root)
    assert [("CACHED",)] * 2 == rows(engine, statuses)
    assert [] == differences(dump(engine), fresh(engine, root))


def test_a_job_whose_unread_rest_vanished_is_done(engine: Engine, tmp_path: Path) -> None:
    """A load was cut short and what it had not read is gone: the job is CACHED with what there is."""
    long = tb_version(1.7e9) + scalars(range(3, 12))
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1, 2]), f"a/{SECOND}": long})
    follower = Follower(engine, root, config=replace(SMALL, batch_points=2, slice_bytes=100))
    commit = follower.indexer.loader.commit

    def stopping(prepared: Any) -> None:
        commit(prepared)
        if rows(engine, "SELECT count(*) FROM tensor_points") > [(2,)]:
            follower.stop.set()

    follower.indexer.loader.commit = stopping  # type: ignore[method-assign]
    follower.settle()
    follower.leave()
    (root / "a" / SECOND).unlink()
    ((status, count),) = rows(engine, "SELECT cache_status, point_count FROM jobs")
    assert status == "NOT_IN_CACHE"
    assert 2 < count < 11
    index_once(engine, root)
    assert [("CACHED", count)] == rows(engine, "SELECT cache_status, point_count FROM jobs")


def test_an_illegal_transition_is_refused(engine: Engine, tmp_path: Path) -> None:
    """Nobody becomes CACHED who was not CACHING."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9)})
    Follower(engine, root).indexer._tend()
    ((job,),) = rows(engine, "SELECT id FROM jobs")
    with pytest.raises(Retry, match="could not become CACHED"), writing(writer(engine)) as conn:
        write.set_status(conn, [job], CacheStatus.CACHED)
    assert [("NOT_IN_CACHE",)] == rows(engine, "SELECT cache_status FROM jobs")


def test_newest_jobs_load_first(engine: Engine, tmp_path: Path) -> None:
    """A backlog is loaded by modification time, newest first; a job that somebody waits for comes before."""
    root = make(tmp_path / "runs", {f"{name}/{FIRST}{name}": tb_version(1.7e9) + scalars([1]) for name in "abcd"})
    for age, name in enumerate("cadb"):
        os.utime(root / name / (FIRST + name), ns=(2 * 10**18 - age * 10**9,) * 2)
    follower = Follower(engine, root)
    order: list[str] = []
    follower.files.before_open = lambda path: order.append(path.parent.name)
    follower.indexer._scan()
    follower.indexer.next_scan = float("inf")
    (wanted,) = [job.id for job in follower.indexer.jobs.values() if job.train_id == "./b"]
    follower.indexer.wanted.append(wanted)
    follower.settle()
    assert ["b", "c", "a", "d"] == order


def test_small_appends_go_before_a_backlog(engine: Engine, tmp_path: Path) -> None:
    """While a load runs, an append to a loaded job is in the tables before the load ends."""
    root = make(tmp_path / "runs", {f"live/{FIRST}": tb_version(1.7e9) + scalars([1])})
    follower = Follower(engine, root, config=replace(SMALL, batch_points=2, slice_bytes=100))
    follower.scan()
    make(root, {f"long/{FIRST}": tb_version(1.7e9) + scalars(range(40), tag="long")})
    seen: list[tuple[str, int]] = []
    commit = follower.indexer.loader.commit

    def committed(prepared: Any) -> None:
        commit(prepared)
        if not seen:
            append(root / "live" / FIRST, scalars([2]))
            follower.indexer.hints.directories.add(str(root / "live"))
        seen.extend(rows(engine, "SELECT train_id, point_count FROM jobs ORDER BY 1"))

    follower.indexer.loader.commit = committed  # type: ignore[method-assign]
    follower.scan()
    assert seen.index(("./live", 2)) < seen.index(("./long", 40))
    assert [("./live", 2), ("./long", 40)] == seen[-2:]


def test_a_load_longer_than_a_job_counts_as_active(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was followed and is now loaded in bulk keeps what memory knows of it until the load ends."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1])})
    monkeypatch.setattr(watch, "LIVE_BYTES", 1_000)
    follower = Follower(engine, root, config=replace(SMALL, batch_points=10, slice_bytes=300))
    follower.scan()
    append(root / "a" / FIRST, scalars([2]))
    follower.scan()
    count = 100
    append(root / "a" / FIRST, scalars([3]) * count)
    commit = follower.indexer.loader.commit

    def slow(prepared: Any) -> None:
        commit(prepared)
        follower.clock.time += 50.0

    follower.indexer.loader.commit = slow  # type: ignore[method-assign]
    follower.scan()
    assert [("CACHED", count + 2)] == rows(engine, "SELECT cache_status, point_count FROM jobs")


def test_memory_lets_go_of_jobs_that_are_quiet(engine: Engine, tmp_path: Path) -> None:
    """Tags of jobs that nobody writes any more do not stay in memory."""
    clock = StillClock()
    root = make(tmp_path / "runs", {f"{name}/{FIRST}": tb_version(1.7e9) + scalars([1]) for name in "ab"})
    for name in "ab":
        os.utime(root / name / FIRST, (clock.time, clock.time))
    follower = Follower(engine, root, clock=clock)
    follower.scan()
    assert 2 == len(follower.indexer.loader.tags)
    clock.time += 100.0
    follower.settle()
    assert {} == follower.indexer.loader.tags
    assert [] == follower.indexer.loader.decoder.series
    append(root / "a" / FIRST, scalars([2]))
    follower.scan()
    assert [("./a", 2), ("./b", 1)] == rows(engine, "SELECT train_id, point_count FROM jobs ORDER BY 1")


def test_roots_with_equal_train_ids(engine: Engine, tmp_path: Path) -> None:
    """Named roots hold jobs of the same train_id apart."""
    content = tb_version(1.7e9)
    one = make(tmp_path / "one", {f"a/{FIRST}": content + scalars([1])})
    two = make(tmp_path / "two", {f"a/{FIRST}": content + scalars([2, 3])})
    index_once(engine, Root("x", one, named=True), Root("y", two, named=True))
    query = "SELECT r.name, j.train_id, j.point_count FROM jobs j JOIN roots r ON r.id = j.root_id ORDER BY 1"
    assert [("x", "./a", 1), ("y", "./a", 2)] == rows(engine, query)


def test_unnamed_roots_get_names_of_their_own(engine: Engine, tmp_path: Path) -> None:
    """Two directories `runs` are `runs` and `runs-2`, also at the next start and in the other order."""
    one = make(tmp_path / "one" / "runs", {f"a/{FIRST}": tb_version(1.7e9)})
    two = make(tmp_path / "two" / "runs", {f"a/{FIRST}": tb_version(1.7e9)})
    index_once(engine, one, two)
    index_once(engine, two, one)
    assert [("runs", str(one)), ("runs-2", str(two))] == rows(engine, "SELECT name, path FROM roots ORDER BY 1")
    assert [(2,)] == rows(engine, "SELECT count(*) FROM jobs")


def test_a_named_root_takes_its_name_from_an_unnamed_one(engine: Engine, tmp_path: Path) -> None:
    """A name given by the user is that root's at every start; the directory that had it by chance gets another."""
    one = make(tmp_path / "one" / "runs", {f"a/{FIRST}": tb_version(1.7e9)})
    two = make(tmp_path / "two", {f"b/{FIRST}": tb_version(1.7e9)})
    index_once(engine, one)
    for _ in range(2):
        index_once(engine, Root("runs", two, named=True))
    assert [("runs", str(two)), ("runs-2", str(one))] == rows(engine, "SELECT name, path FROM roots ORDER BY 1")
    index_once(engine, one)
    assert [(2,)] == rows(engine, "SELECT count(*) FROM jobs")


def test_a_named_root_that_moved_keeps_its_jobs(engine: Engine, tmp_path: Path) -> None:
    """Another path under the same name: the same jobs, nothing doubled."""
    old = make(tmp_path / "old", {f"a/{FIRST}": tb_version(1.7e9) + scalars([1])})
    index_once(engine, Root("x", old, named=True))
    new = old.rename(tmp_path / "new")
    append(new / "a" / FIRST, scalars([2]))
    index_once(engine, Root("x", new, named=True))
    assert [("x", str(new), "./a", 2)] == rows(
        engine, "SELECT r.name, r.path, j.train_id, j.point_count FROM jobs j JOIN roots r ON r.id = j.root_id"
    )


def test_names_that_are_not_utf8_and_tags_with_nul(engine: Engine, tmp_path: Path) -> None:
    """They come back from the tables as they were, and are known again at the next start."""
    name = os.fsdecode(b"caf\xe9")
    try:
        root = make(tmp_path / "runs", {f"{name}/{FIRST}{name}": tb_version(1.7e9) + scalars([1], tag="a\x00b␛")})
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    index_once(engine, root)
    append(root / name / (FIRST + name), scalars([2], tag="a\x00b␛") + scalars([2], tag="a\x00c"))
    index_once(engine, root)
    query = "SELECT j.train_id, t.name, t.point_count FROM tags t JOIN jobs j ON j.id = t.job_id ORDER BY 2"
    found = rows(engine, query)
    assert [("./" + name, "a\x00b␛", 2), ("./" + name, "a\x00c", 1)] == [(show(j), show(t), n) for j, t, n in found]


def test_a_value_without_metadata_belongs_to_its_tags_first_plugin(engine: Engine, tmp_path: Path) -> None:
    """Also where another indexer read the first one."""
    bare = tb_scalar("x", 2, 2.0, 1.7e9, style="tensor", metadata=False)
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + tb_scalar("x", 1, 1.0, 1.7e9, style="tensor")})
    index_once(engine, root)
    append(root / "a" / FIRST, bare)
    index_once(engine, root)
    assert [("scalars", 2, 2.0)] == rows(engine, "SELECT plugin, point_count, last_value FROM tags")


def test_both_formats_in_one_job(engine: Engine, tmp_path: Path) -> None:
    """MindSpore's and TensorBoard's files of one directory are one job, each read by its own rules."""
    mindspore = "events.out.events.summary.1700000005.0.x_MS"
    content = ms_version(1.7e9) + ms_scalars(1, {"accuracy": 1.0}, 1.7e9)
    root = make(tmp_path / "runs", {f"a/{mindspore}": content, f"a/{FIRST}": tb_version(1.7e9) + scalars([5])})
    index_once(engine, root)
    assert [("scalar", 1), ("scalars", 5)] == rows(engine, "SELECT plugin, last_step FROM tags ORDER BY id")
    assert [("mindspore",), ("tensorboard",)] == rows(engine, "SELECT format FROM shards ORDER BY format")


@pytest.fixture
def postgres_engines(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, Engine]]:
    """Two programs' engines on one PostgreSQL database."""
    server = request.getfixturevalue("postgres")
    url = server.create(template=request.getfixturevalue("postgres_template"))
    engines = open_engine(url), open_engine(url)
    yield engines
    for engine in engines:
        engine.dispose()
    server.drop(url)


def many(tmp_path: Path, count: int) -> Path:
    """Write runs."""
    return make(tmp_path / "runs", {f"r{i}/{FIRST}": tb_version(1.7e9) + scalars(range(i + 1)) for i in range(count)})


@pytest.mark.parametrize("shared", [200, 3])
def test_two_indexers_share_and_double_nothing(
    postgres_engines: tuple[Engine, Engine], tmp_path: Path, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at once on PostgreSQL give the tables of one, whatever share they take at a time."""
    monkeypatch.setattr(watch, "_SHARED_JOBS", shared)
    root = many(tmp_path, 40)
    failures: list[BaseException] = []

    def work(engine: Engine) -> None:
        try:
            config = replace(SMALL, batch_points=5, slice_bytes=300, roots=(Root("runs", root, named=False),))
            Indexer(config, writer(engine)).run(threading.Event(), once=True)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(engine,)) for engine in postgres_engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [] == failures
    assert not any(thread.is_alive() for thread in threads)
    engine = postgres_engines[0]
    assert [] == differences(dump(engine), fresh(engine, root))


def test_who_comes_later_gets_a_share(
    postgres_engines: tuple[Engine, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone an indexer takes all there is; when another comes it gives back what it has not begun."""
    monkeypatch.setattr(watch, "_SHARED_JOBS", 2)
    root = many(tmp_path, 40)
    config = replace(SMALL, batch_points=5, slice_bytes=300)
    first = Follower(postgres_engines[0], root, config=config)
    owners = "SELECT lease_owner, count(*) FROM jobs WHERE cache_status = 'CACHING' GROUP BY 1"
    commit, seen, others = first.indexer.loader.commit, list[Any](), list[Follower]()

    def watched(prepared: Any) -> None:
        if not others:
            seen.append(rows(first.engine, owners))
            others.append(Follower(postgres_engines[1], root, config=config))
        elif len(seen) == 1:
            seen.append(rows(first.engine, owners))
            others[0].scan()
            seen.append(rows(first.engine, "SELECT count(*) FROM jobs WHERE cache_status = 'CACHED'"))
        commit(prepared)

    first.indexer.loader.commit = watched  # type: ignore[method-assign]
    first.scan()
    assert [(first.indexer.id, 40)] == seen[0]
    assert seen[1][0][1] < 20, "it kept what it had begun"
    assert seen[2][0][0] > 20, "the other loaded the rest"
    others[0].scan()
    leases = "SELECT cache_status, lease_owner, count(*) FROM jobs GROUP BY 1, 2"
    assert [("CACHED", None, 40)] == rows(first.engine, leases), "nobody holds what is loaded"
    assert [] == differences(dump(first.engine), fresh(first.engine, root))


def test_a_job_that_another_indexer_adds_between_two_questions(
    postgres_engines: tuple[Engine, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a start its shards may be told where its job was not: both come with the scan."""
    root = many(tmp_path, 2)
    known_jobs, calls = write.known_jobs, list[Any]()

    def late(*arguments: Any, **options: Any) -> list[write.JobRow]:
        found = known_jobs(*arguments, **options)
        if not calls:
            calls.append(found)
            Follower(postgres_engines[1], root).scan()
        return found

    with transaction(postgres_engines[0]) as conn:  # so that both have the root, and none waits for the other's
        conn.execute(text("INSERT INTO roots (name, path, named) VALUES ('runs', :path, false)"), {"path": str(root)})
    monkeypatch.setattr(write, "known_jobs", late)
    started = Follower(postgres_engines[0], root)
    started.scan()
    assert [[]] == calls
    assert [("CACHED", 2)] == rows(started.engine, "SELECT cache_status, count(*) FROM jobs GROUP BY 1")
    assert {1, 2} == {job.point_count for job in started.indexer.jobs.values()}


def test_the_last_of_several_builds_the_key(
    postgres_engines: tuple[Engine, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is ready first leaves the key to those that still load, and looks after them: they may fail."""
    clock = StillClock()
    root = many(tmp_path, 2)
    monkeypatch.setattr(watch, "_POINT_BYTES", 1e-6)  # enough to come for the key to go
    monkeypatch.setattr(watch, "_SHARED_JOBS", 1)
    first, last = (Follower(engine, root, clock=clock) for engine in postgres_engines)
    key = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'tensor_points'::regclass AND contype = 'p'"
    commit, found = last.indexer.loader.commit, list[Any]()

    def die(prepared: Any) -> None:
        first.settle()
        found.extend(rows(first.engine, key))
        raise KeyboardInterrupt

    last.indexer.loader.commit = die  # type: ignore[method-assign]
    first.indexer._tend()
    with pytest.raises(KeyboardInterrupt):
        last.scan()
    assert [(0,)] == found
    assert [("CACHED",), ("CACHING",)] == rows(first.engine, "SELECT cache_status FROM jobs ORDER BY 1")
    first.settle()
    assert [(0,)] == rows(first.engine, key)
    clock.time += LEASE_SECONDS + 1
    first.settle()
    assert [(1,)] == rows(first.engine, key)
    last.indexer.loader.commit = commit  # type: ignore[method-assign]
    last.scan()
    first.scan()
    assert [("CACHED", 2)] == rows(first.engine, "SELECT cache_status, count(*) FROM jobs GROUP BY 1")


def test_what_another_loaded_is_not_waited_for(postgres_engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    """It keeps the leases of growing jobs; a look at the tables tells that there is nothing left to do."""
    root = many(tmp_path, 2)
    holder, other = (Follower(engine, root) for engine in postgres_engines)
    holder.scan()
    other.scan()
    append(root / "r0" / FIRST, scalars([7]))
    holder.scan()
    owners = "SELECT count(*) FROM jobs WHERE lease_owner IS NOT NULL"
    assert [(1,)] == rows(holder.engine, owners), "the lease is kept"
    other.scan()
    assert set() == other.indexer.elsewhere
    append(root / "r0" / FIRST, scalars([8]))
    other.scan()
    assert 1 == len(other.indexer.elsewhere)


def test_an_indexer_that_fell_silent_takes_no_share(
    postgres_engines: tuple[Engine, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that ended, or died, does not make others load in small steps."""
    monkeypatch.setattr(watch, "_SHARED_JOBS", 2)
    clock = StillClock()
    root = many(tmp_path, 5)
    ended, dead = (Follower(engine, root, clock=clock) for engine in postgres_engines)
    ended.leave()
    alone = Follower(postgres_engines[0], root, clock=clock)
    assert alone.indexer._shared()
    clock.time += 2 * LEASE_SECONDS + 1
    assert not alone.indexer._shared()
    dead.indexer._beat()
    assert alone.indexer._shared()


def test_a_dead_indexers_lease_ends(postgres_engines: tuple[Engine, Engine], tmp_path: Path) -> None:
    """While it is held the other waits; when it has run out it takes over, and the first cannot write any more."""
    root = many(tmp_path, 3)
    clock = StillClock()
    config = replace(SMALL, batch_points=1, slice_bytes=40)
    dead = Follower(postgres_engines[0], root, config=config, clock=clock)
    commit, batches = dead.indexer.loader.commit, list[Any]()

    def die(prepared: Any) -> None:
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(prepared)
        commit(prepared)

    dead.indexer.loader.commit = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        dead.settle()
    heir = Follower(postgres_engines[1], root, config=config, clock=clock)
    heir.scan()
    assert {"CACHING"} == {status for (status,) in rows(heir.engine, "SELECT cache_status FROM jobs")}
    clock.time += LEASE_SECONDS + 1
    heir.scan()
    expected = dump(heir.engine)
    assert {"CACHED"} == {status for (status,) in rows(heir.engine, "SELECT cache_status FROM jobs")}
    dead.indexer.loader.commit = commit  # type: ignore[method-assign]
    dead.scan()  # it was only asleep
    assert [] == differences(expected, dump(heir.engine))
    heir.leave()
    dead.leave()
    assert [] == differences(expected, fresh(heir.engine, root))


def test_an_indexer_that_slept_through_its_lease_gives_way(
    postgres_engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    """Two that believe they hold a job: one of them writes, the other finds out and reads again."""
    root = many(tmp_path, 2)
    slow = Follower(postgres_engines[0], root)
    quick = Follower(postgres_engines[1], root, clock=StillClock(2e9 + LEASE_SECONDS + 1))
    commit, slept = slow.indexer.loader.commit, list[Any]()

    def sleep(prepared: Any) -> None:
        if not slept:
            slept.append(prepared)
            quick.scan()
        commit(prepared)

    slow.indexer.loader.commit = sleep  # type: ignore[method-assign]
    slow.scan()
    quick.scan()
    found = dump(quick.engine)
    assert [] == differences(found, fresh(quick.engine, root))


def test_a_job_that_another_indexer_added_under_a_smaller_id(
    postgres_engines: tuple[Engine, Engine], tmp_path: Path
) -> None:
    """Ids tell nothing about who was first: a job with a smaller id than ours may be new to us."""
    next_id = "SELECT setval(pg_get_serial_sequence('jobs', 'id'), {})"
    root = many(tmp_path, 1)
    later = Follower(postgres_engines[0], root)
    with transaction(postgres_engines[1]) as conn:
        conn.execute(text(next_id.format(100)))
    later.scan()
    with transaction(postgres_engines[1]) as conn:
        conn.execute(text(next_id.format(1)))
    make(root, {f"new/{FIRST}": tb_version(1.7e9) + scalars([1])})
    other = Follower(postgres_engines[1], root)
    other.scan()
    later.scan()
    assert [("./new", "CACHED", 1), ("./r0", "CACHED", 1)] == rows(
        later.engine, "SELECT train_id, cache_status, point_count FROM jobs ORDER BY 1"
    )
