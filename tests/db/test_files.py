"""Every row of the table in docs/files.md: what happens to files, and what the tables say afterwards."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from indexer.ingest.watch import LEASE_SECONDS
from indexer.text import show
from tests.support.following import SMALL, Follower, StillClock, WatchedFiles, empty, index_once, make
from tests.support.records import (
    hparams_end,
    hparams_start,
    ms_evaluation,
    ms_train,
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

FIRST = "events.out.tfevents.1700000000.x"
SECOND = "events.out.tfevents.1700000001.x"
THIRD = "events.out.tfevents.1700000002.x"


def scalars(steps: Sequence[int], *, tag: str = "loss", scale: float = 1.0) -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step * scale, 1.7e9 + step) for step in steps)


def events(steps: Sequence[int], *, scale: float = 1.0, begun: float = 1.7e9) -> bytes:
    """Return a whole event file; `begun` makes its head another than other files'."""
    return tb_version(begun) + scalars(steps, scale=scale)


def append(path: Path, content: bytes) -> None:
    """Append to a file, as a training does."""
    with path.open("ab") as file:
        file.write(content)


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query answers."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def steps(engine: Engine, job: str = "./a") -> list[int]:
    """Return the steps of all points of a job, in load order within a tag."""
    query = (
        "SELECT p.step FROM tensor_points p JOIN tags t ON t.id = p.tag_id JOIN jobs j ON j.id = t.job_id "
        f"WHERE j.train_id = '{job}' ORDER BY t.id, p.seq, p.step"
    )
    return [step for (step,) in rows(engine, query)]


def states(engine: Engine) -> dict[str, str]:
    """Return file → state of all that are known."""
    query = "SELECT j.train_id, s.name, s.state FROM shards s JOIN jobs j ON j.id = s.job_id"
    return {f"{job[2:]}/{show(name)}": state for job, name, state in rows(engine, query)}


def said(tables: Tables) -> Tables:
    """Return of a dump what files say; what is known of the files themselves left out."""
    return {name: found for name, found in tables.items() if name not in {"jobs", "shards", "shard_errors"}}


def fresh(engine: Engine, base: Path, tree: Mapping[str, bytes]) -> Tables:
    """Return what a first indexing of these files gives. The database is empty afterwards."""
    empty(engine)
    index_once(engine, make(base / "runs", tree))
    found = said(dump(engine, disk=False))
    empty(engine)
    return found


def now(engine: Engine) -> Tables:
    """Return what files said, as the tables have it."""
    return said(dump(engine, disk=False))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory of one run with one file of three points."""
    return make(tmp_path / "runs", {f"a/{FIRST}": events([1, 2, 3])})


@pytest.fixture
def follower(engine: Engine, root: Path) -> Follower:
    """An indexer that has loaded it."""
    found = Follower(engine, root)
    found.scan()
    return found


def test_append(engine: Engine, root: Path, follower: Follower) -> None:
    """What is new is read, and nothing else but the edges of what was."""
    append(root / "a" / FIRST, scalars([4]))
    before = follower.files.read_bytes
    follower.scan()
    assert [1, 2, 3, 4] == steps(engine)
    assert follower.files.read_bytes - before <= 2 * (root / "a" / FIRST).stat().st_size


@pytest.mark.parametrize(
    "content", [events([1, 2, 9]), events([7]), events(range(20, 40))], ids=["same", "less", "more"]
)
@pytest.mark.parametrize("how", ["replace", "rewrite", "recreate", "recreate unseen"])
def test_other_content_under_a_name(
    engine: Engine, root: Path, follower: Follower, content: bytes, how: str, tmp_path: Path
) -> None:
    """Replaced atomically, truncated and written anew, deleted and made again: the old points give way to the new."""
    path = root / "a" / FIRST
    if how == "replace":
        (root / "a" / "new").write_bytes(content)
        (root / "a" / "new").replace(path)
    elif how == "rewrite":
        path.write_bytes(content)
    else:
        path.unlink()
        if how == "recreate":
            follower.scan()
            assert {f"a/{FIRST}": "missing"} == states(engine)
            assert [1, 2, 3] == steps(engine)
        path.write_bytes(content)
    follower.scan()
    found = now(engine)
    assert [] == differences(fresh(engine, tmp_path / "fresh", {f"a/{FIRST}": content}), found)


def test_truncated(engine: Engine, root: Path, follower: Follower) -> None:
    """A file cut short at a record has the points it has; cut to nothing it keeps them till there is something."""
    os.truncate(root / "a" / FIRST, len(events([1, 2])))
    follower.scan()
    assert [1, 2] == steps(engine)
    os.truncate(root / "a" / FIRST, 0)
    follower.scan()
    assert [1, 2] == steps(engine)
    append(root / "a" / FIRST, events([8]))
    follower.scan()
    assert [8] == steps(engine)


@pytest.mark.parametrize("seen", ["at once", "gone first", "new first", "by another indexer"])
def test_renamed(engine: Engine, root: Path, follower: Follower, seen: str) -> None:
    """A file under another name of its run is the same file, however its new name was noticed; it goes on there."""
    path, other = root / "a" / FIRST, root / "a" / SECOND
    if seen == "gone first":
        path.rename(root / "hidden")
        follower.scan()
        path = root / "hidden"
    if seen == "by another indexer":
        follower.leave()
    path.rename(other)
    if seen == "new first":
        follower.indexer.hints.directories.add(str(root / "a"))
        follower.settle()
    elif seen == "by another indexer":
        follower = Follower(engine, root)
    follower.scan()
    assert {f"a/{SECOND}": "growing"} == states(engine)
    assert [1, 2, 3] == steps(engine)
    append(other, scalars([4]))
    follower.scan()
    assert [1, 2, 3, 4] == steps(engine)
    assert [("./a", "CACHED", 4)] == rows(engine, "SELECT train_id, cache_status, point_count FROM jobs")


def test_a_rename_that_is_seen_at_once_reads_nothing(engine: Engine, root: Path, follower: Follower) -> None:
    """The inode is a hint, two reads of 4 KiB prove it."""
    (root / "a" / FIRST).rename(root / "a" / SECOND)
    before = follower.files.read_bytes
    follower.scan()
    assert follower.files.read_bytes - before <= 3 * 4096
    assert {f"a/{SECOND}": "growing"} == states(engine)


def test_a_copy_that_outlives_its_original(engine: Engine, root: Path, follower: Follower) -> None:
    """Copied and deleted is renamed: another inode, the same content; with more behind it, too."""
    shutil.copyfile(root / "a" / FIRST, root / "a" / SECOND)
    append(root / "a" / SECOND, scalars([4]))
    (root / "a" / FIRST).unlink()
    follower.scan()
    assert {f"a/{SECOND}": "growing"} == states(engine)
    assert [1, 2, 3, 4] == steps(engine)


def test_only_the_case_changed(engine: Engine, root: Path, follower: Follower) -> None:
    """Another spelling is another name: a rename like any other."""
    name = FIRST.replace(".x", ".X")
    (root / "a" / FIRST).rename(root / "a" / name)
    follower.scan()
    append(root / "a" / name, scalars([4]))
    follower.scan()
    assert {f"a/{name}": "growing"} == states(engine)
    assert [1, 2, 3, 4] == steps(engine)


def test_a_new_file_with_a_gone_ones_inode_is_new(engine: Engine, root: Path, follower: Follower) -> None:
    """File systems give inodes out again: other content is another file, and the old one's points stay."""
    path, inode = root / "a" / FIRST, (root / "a" / FIRST).stat().st_ino
    path.unlink()
    (root / "a" / SECOND).write_bytes(events([7, 8], begun=1.8e9))
    file_id = f"{path.parent.stat().st_dev}:{inode}"
    real = follower.indexer.jobs[next(iter(follower.indexer.jobs))].shards[FIRST]
    assert real.seen is not None
    real.seen = replace(real.seen, file_id=f"{path.parent.stat().st_dev}:{(root / 'a' / SECOND).stat().st_ino}")
    follower.scan()
    assert {f"a/{FIRST}": "missing", f"a/{SECOND}": "growing"} == states(engine), file_id
    assert [1, 2, 3, 7, 8] == steps(engine)


def test_renamed_onto_another(engine: Engine, root: Path, follower: Follower, tmp_path: Path) -> None:
    """The file that had the name is gone, and its points with it; those of the renamed one are not doubled."""
    make(root, {f"a/{SECOND}": events([7, 8], begun=1.8e9)})
    follower.scan()
    (root / "a" / FIRST).replace(root / "a" / SECOND)
    follower.scan()
    assert [1, 2, 3] == steps(engine)
    found = now(engine)
    assert [] == differences(fresh(engine, tmp_path / "fresh", {f"a/{SECOND}": events([1, 2, 3])}), found)


def test_two_names_exchanged(engine: Engine, root: Path, follower: Follower, tmp_path: Path) -> None:
    """Each name holds what the other held: all is read again, nothing is there twice."""
    tree = {f"a/{SECOND}": events([7, 8], begun=1.8e9)}
    make(root, tree)
    follower.scan()
    (root / "a" / FIRST).rename(root / "a" / "away")
    (root / "a" / SECOND).rename(root / "a" / FIRST)
    (root / "a" / "away").rename(root / "a" / SECOND)
    follower.scan()
    found = now(engine)
    tree = {f"a/{FIRST}": tree[f"a/{SECOND}"], f"a/{SECOND}": events([1, 2, 3])}
    assert [] == differences(fresh(engine, tmp_path / "fresh", tree), found)


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("how", ["rename", "copy and cut"])
def test_rotated(engine: Engine, root: Path, follower: Follower, looks: bool, how: str) -> None:
    """Renamed away and begun anew, or copied away and cut, twice: no point is lost or doubled, wherever one looks."""
    path = root / "a" / FIRST
    for turn in range(1, 3):
        for old in range(turn - 1, 0, -1):
            Path(f"{path}.{old}").rename(f"{path}.{old + 1}")
        if how == "rename":
            path.rename(f"{path}.1")
        else:
            shutil.copyfile(path, f"{path}.1")
            if looks:
                follower.scan()
            os.truncate(path, 0)
        if looks:
            follower.scan()
            assert [1, 2, 3, 10, 11][: 1 + 2 * turn] == sorted(steps(engine))
        append(path, events([10 * turn, 10 * turn + 1], begun=1.8e9 + turn))
        follower.scan()
        assert sorted([1, 2, 3, *(10 * t + i for t in range(1, turn + 1) for i in range(2))]) == sorted(steps(engine))
    assert {f"a/{FIRST}": "growing", f"a/{FIRST}.1": "growing", f"a/{FIRST}.2": "growing"} == states(engine)


def test_a_copy_of_a_file_that_stays_is_a_file(engine: Engine, root: Path, follower: Follower) -> None:
    """Two files of the same content are two files, as for every other reader."""
    shutil.copyfile(root / "a" / FIRST, root / "a" / SECOND)
    follower.scan()
    assert [1, 2, 3, 1, 2, 3] == steps(engine)


def test_hard_links(engine: Engine, root: Path, follower: Follower, tmp_path: Path) -> None:
    """A file with two names in a run is one file; it stays when one of them goes. In another run it counts there."""
    make(root, {f"b/{THIRD}": b""})
    os.link(root / "a" / FIRST, root / "a" / SECOND)
    os.link(root / "a" / FIRST, root / "b" / FIRST)
    follower.scan()
    assert {f"a/{FIRST}": "growing", f"b/{FIRST}": "growing", f"b/{THIRD}": "growing"} == states(engine)
    append(root / "a" / SECOND, scalars([4]))
    follower.scan()
    assert [[1, 2, 3, 4]] * 2 == [steps(engine, job) for job in ("./a", "./b")]
    (root / "a" / FIRST).unlink()
    follower.scan()
    assert [1, 2, 3, 4] == steps(engine)
    assert "growing" == states(engine)[f"a/{SECOND}"]
    empty(engine)
    other = make(tmp_path / "new" / "runs", {f"a/{SECOND}": events([1, 2])})
    os.link(other / "a" / SECOND, other / "a" / FIRST)
    index_once(engine, other)
    assert {f"a/{FIRST}": "growing"} == states(engine)
    assert [1, 2] == steps(engine)


def test_symbolic_links(engine: Engine, tmp_path: Path) -> None:
    """Where links are followed, a file and a link to it in one run are one file."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": events([1, 2])})
    (root / "a" / SECOND).symlink_to(root / "a" / FIRST)
    index_once(engine, root, config=replace(SMALL, follow_symlinks=True))
    assert ({f"a/{FIRST}": "growing"}, [1, 2]) == (states(engine), steps(engine))


def test_a_clock_that_goes_back(engine: Engine, root: Path, follower: Follower) -> None:
    """An earlier modification time is a change like any other: what was appended is found, nothing is read twice."""
    append(root / "a" / FIRST, scalars([4]))
    os.utime(root / "a" / FIRST, (1.0, 1.0))
    follower.scan()
    assert [1, 2, 3, 4] == steps(engine)
    assert [(1.0,)] == rows(engine, "SELECT update_time FROM jobs")
    (root / "a" / FIRST).write_bytes(events([7]))
    os.utime(root / "a" / FIRST, (0.5, 0.5))
    follower.scan()
    assert [7] == steps(engine)


def test_two_writers_in_one_run(engine: Engine, root: Path, follower: Follower) -> None:
    """Two files that grow in turn: every point is there once, and where each came from."""
    make(root, {f"a/{SECOND}": events([], begun=1.8e9)})
    for step in range(4, 8):
        append(root / "a" / (FIRST if step % 2 else SECOND), scalars([step]))
        follower.scan()
    assert list(range(1, 8)) == steps(engine)
    query = "SELECT s.name, sum(g.count) FROM tag_segments g JOIN shards s ON s.id = g.shard_id GROUP BY 1 ORDER BY 1"
    assert [(FIRST, 5), (SECOND, 2)] == rows(engine, query)
    assert [] == rows(engine, "SELECT step FROM restarts")


def test_a_run_that_moved(engine: Engine, root: Path, follower: Follower) -> None:
    """It is a new job under its new name; the old one says missing and keeps its points. Moved back it goes on."""
    (root / "a").rename(root / "b")
    follower.scan()
    jobs = "SELECT train_id, cache_status, point_count, missing_since IS NOT NULL FROM jobs ORDER BY 1"
    assert [("./a", "CACHED", 3, True), ("./b", "CACHED", 3, False)] == rows(engine, jobs)
    append(root / "b" / FIRST, scalars([4]))
    follower.scan()
    (root / "b").rename(root / "a")
    before = follower.files.read_bytes
    follower.scan()
    assert follower.files.read_bytes - before <= 4 * 4096, "only what is new"
    assert [("./a", "CACHED", 4, False), ("./b", "CACHED", 4, True)] == rows(engine, jobs)


def payloads(scale: int) -> bytes:
    """Return records of many kinds."""
    return b"".join(
        scalars([step], scale=scale)
        + scalars([step], tag=f"only {scale}")
        + tb_image("image", step, png(1, 1, scale), 1.7e9)
        + tb_histogram("histogram", step, [0.0, float(scale)], [1.0, 2.0], 1.7e9)
        + tb_strings("text", step, [b"a", b"b" * scale], 1.7e9)
        + tb_tensor("tensor", step, [2], bytes(8), 1.7e9)
        for step in range(3 * scale, 3 * scale + 4)
    )


def test_points_of_gone_files_outlive_a_replaced_one(engine: Engine, tmp_path: Path) -> None:
    """A file is replaced while others are gone: the tables are those of the new file and the gone ones' last state."""
    sessions = tb_hparams("session_start_info", hparams_start({"lr": 0.5}, group="g", start=5.0), 2.0)
    sessions += tb_hparams("session_end_info", hparams_end(1, 6.0), 3.0)
    lineage = "events.out.events.summary.1700000003.0.x_MS_lineage"
    tree = {
        f"a/{FIRST}": tb_version(1.0) + payloads(1) + sessions,
        f"a/{SECOND}": tb_version(2.0) + payloads(2),
        f"a/{THIRD}": tb_version(3.0)
        + payloads(3)
        + scalars([4, 4, 5, 6, 5, 7])
        + tb_session_start(6, 1.7e9)
        + scalars([9]),
        f"a/{lineage}": ms_train(0.25) + ms_evaluation('{"a": 1}'),
    }
    root = make(tmp_path / "runs", tree)
    follower = Follower(engine, root, config=replace(SMALL, batch_points=7, slice_bytes=400))
    follower.scan()
    for name in (FIRST, THIRD, lineage):
        (root / "a" / name).unlink()
    tree[f"a/{SECOND}"] = tb_version(4.0) + payloads(1) + scalars([20])
    make(root, {f"a/{SECOND}": tree[f"a/{SECOND}"]})
    follower.scan()
    found, jobs = now(engine), rows(engine, "SELECT cache_status, point_count FROM jobs")
    assert [] == rows(engine, "SELECT * FROM kept_segments") + rows(engine, "SELECT * FROM kept_starts")
    append(root / "a" / SECOND, scalars([21]))
    follower.scan()
    append(root / "a" / SECOND, b"")
    assert [("CACHED", jobs[0][1] + 1)] == rows(engine, "SELECT cache_status, point_count FROM jobs")
    expected = fresh(engine, tmp_path / "fresh", tree)
    assert [] == differences(expected, found)
    assert ("CACHED", len(found["tensor_points"])) == jobs[0]


STARTS = (None, 1, 3, 5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(
        st.lists(st.tuples(st.sampled_from(["x", "y"]), st.integers(0, 6)), max_size=7), min_size=3, max_size=3
    ),
    replaced=st.integers(0, 2),
    gone=st.sets(st.integers(0, 2), min_size=1),
    new=st.lists(st.tuples(st.sampled_from(["x", "y", "z"]), st.integers(0, 6)), max_size=5),
    batch_points=st.sampled_from([1, 3, 1_000]),
)
def test_whatever_is_gone_is_where_it_belongs(
    engine: Engine,
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[tuple[str, int]]],
    replaced: int,
    gone: set[int],
    new: list[tuple[str, int]],
    batch_points: int,
) -> None:
    """Any files, any of them gone, one replaced: numbering, restarts, stretches and statistics are a fresh index's."""
    base, names = tmp_path_factory.mktemp("gone"), (FIRST, SECOND, THIRD)

    def content(points: Sequence[tuple[str, int]], turn: int) -> bytes:
        records = (tb_scalar(tag, step, turn + step / 8, 1.7e9 + i) for i, (tag, step) in enumerate(points))
        return tb_version(1.7e9 + turn) + b"".join(records)

    tree = {f"a/{name}": content(points, turn) for turn, (name, points) in enumerate(zip(names, files, strict=True))}
    empty(engine)
    root = make(base / "runs", tree)
    follower = Follower(engine, root, config=replace(SMALL, batch_points=batch_points, slice_bytes=100))
    follower.scan()
    for number in gone - {replaced}:
        (root / "a" / names[number]).unlink()
    tree[f"a/{names[replaced]}"] = content(new, 7)
    make(root, {f"a/{names[replaced]}": tree[f"a/{names[replaced]}"]})
    follower.scan()
    found = now(engine)
    assert [] == differences(fresh(engine, base / "fresh", tree), found)


@pytest.mark.parametrize("gone", [(FIRST,), (SECOND,), (FIRST, SECOND)])
def test_session_starts_of_gone_files(engine: Engine, tmp_path: Path, gone: tuple[str, ...]) -> None:
    """What a session start superseded stays superseded when its file is gone: within it, behind it, in other tags."""
    tree = {
        f"a/{FIRST}": events([1, 2, 3]) + scalars([1, 9], tag="other") + tb_session_start(3, 1.7e9) + scalars([3, 4]),
        f"a/{SECOND}": events([5, 6], begun=2.0) + tb_session_start(6, 1.7e9),
        f"a/{THIRD}": events([6, 7], begun=3.0),
    }
    root = make(tmp_path / "runs", tree)
    follower = Follower(engine, root)
    follower.scan()
    for name in gone:
        (root / "a" / name).unlink()
    tree[f"a/{THIRD}"] = events([6, 8, 9], begun=4.0)
    make(root, {f"a/{THIRD}": tree[f"a/{THIRD}"]})
    follower.scan()
    found = now(engine)
    assert 2 < len(found["restarts"])
    assert [] == differences(fresh(engine, tmp_path / "fresh", tree), found)


def test_long_series_of_gone_files_have_their_rollups(engine: Engine, tmp_path: Path) -> None:
    """Buckets are those of a fresh index, over points that were read and points that were put back."""
    count = 20_000
    half = [tb_version(float(i)) + scalars(range(i * count // 2, (i + 1) * count // 2)) for i in range(2)]
    root = make(tmp_path / "runs", {f"a/{FIRST}": half[0], f"a/{SECOND}": half[1], f"a/{THIRD}": events([])})
    follower = Follower(engine, root, config=replace(SMALL, slice_bytes=2**20, kernel=True))
    follower.scan()
    (root / "a" / FIRST).unlink()
    tree = {
        f"a/{FIRST}": half[0],
        f"a/{SECOND}": half[1] + scalars([count]),
        f"a/{THIRD}": events([count + 1], begun=9.0),
    }
    make(root, {path: content for path, content in tree.items() if FIRST not in path})
    follower.scan()
    found = now(engine)
    assert len(found["point_rollups"]) > 300
    assert [] == differences(fresh(engine, tmp_path / "fresh", tree), found)


@pytest.mark.parametrize("when", ["reset", "put_back"])
def test_killed_while_points_are_aside(engine: Engine, tmp_path: Path, when: str) -> None:
    """Before the gone file's turn: the next indexer puts its points back, though a file is replaced again."""
    tree = {f"a/{name}": events([3 * i, 3 * i + 1], begun=1.0 + i) for i, name in enumerate((FIRST, SECOND, THIRD))}
    root = make(tmp_path / "runs", tree)
    follower = Follower(engine, root)
    follower.scan()
    (root / "a" / SECOND).unlink()
    tree[f"a/{FIRST}"] = events([0, 2], begun=7.0)
    make(root, {f"a/{FIRST}": tree[f"a/{FIRST}"]})
    real = getattr(follower.indexer.loader, when)

    def die(*arguments: Any) -> None:
        if when == "reset":
            real(*arguments)
        raise KeyboardInterrupt

    setattr(follower.indexer.loader, when, die)
    with pytest.raises(KeyboardInterrupt):
        follower.scan()
    assert [(1,)] == rows(engine, "SELECT count(*) FROM kept_segments")
    assert [0, 2] * (when == "put_back") == steps(engine), "nobody sees what is aside"
    tree[f"a/{FIRST}"] = events([0, 1, 4], begun=8.0)
    make(root, {f"a/{FIRST}": tree[f"a/{FIRST}"]})
    if engine.dialect.name == "postgresql":
        Follower(engine, root).scan()
        assert [(1,)] == rows(engine, "SELECT count(*) FROM kept_segments"), "the dead one's lease is respected"
    Follower(engine, root, clock=StillClock(2e9 + LEASE_SECONDS + 1)).scan()
    assert [("CACHED", 7)] == rows(engine, "SELECT cache_status, point_count FROM jobs")
    found = now(engine)
    assert [] == differences(fresh(engine, tmp_path / "fresh", tree), found)


@pytest.mark.parametrize("how", ["emptied", "garbage", "unreadable"])
def test_points_that_cannot_be_read_again_stay(engine: Engine, tmp_path: Path, how: str) -> None:
    """What was emptied, overwritten or made unreadable keeps its points when another file is replaced."""
    tree = {f"a/{FIRST}": events([1, 2]), f"a/{SECOND}": events([3, 4], begun=2.0)}
    root = make(tmp_path / "runs", tree)
    files = WatchedFiles()
    follower = Follower(engine, root, files=files)
    follower.scan()

    def refuse(path: Path) -> None:
        if how == "unreadable" and path.name == FIRST:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    files.before_open = refuse
    if how != "unreadable":
        make(root, {f"a/{FIRST}": b"" if how == "emptied" else b"\xff" * 100})
    tree[f"a/{SECOND}"] = events([5, 6, 7], begun=3.0)
    make(root, {f"a/{SECOND}": tree[f"a/{SECOND}"]})
    follower.scan()
    follower.scan()
    found = now(engine)
    assert [1, 2, 5, 6, 7] == steps(engine)
    files.before_open = lambda _path: None
    if how == "unreadable":
        follower.scan()
        assert [("CACHED", 5)] == rows(engine, "SELECT cache_status, point_count FROM jobs")
    assert [] == differences(fresh(engine, tmp_path / "fresh", tree), found)


def test_quiet_files_are_done(engine: Engine, tmp_path: Path) -> None:
    """Read to its end and long unchanged: done; torn and dead ones stay so; what grows again is growing."""
    good = events([1])
    root = make(tmp_path / "runs", {f"a/{FIRST}": good, f"a/{SECOND}": good[:-3], f"a/{THIRD}": bytes(99)})
    follower = Follower(engine, root, config=replace(SMALL, done_after=100.0))
    for name in (FIRST, SECOND, THIRD):
        os.utime(root / "a" / name, (follower.clock.time - 50,) * 2)
    follower.scan()
    expected = {f"a/{FIRST}": "growing", f"a/{SECOND}": "torn", f"a/{THIRD}": "dead"}
    assert expected == states(engine)
    follower.clock.time += 51
    follower.scan()
    assert expected | {f"a/{FIRST}": "done"} == states(engine)
    revision = rows(engine, "SELECT change_counter FROM index_state")
    follower.scan()
    assert revision == rows(engine, "SELECT change_counter FROM index_state")
    append(root / "a" / FIRST, scalars([2]))
    os.utime(root / "a" / FIRST, (follower.clock.time,) * 2)
    follower.scan()
    assert expected == states(engine)
    os.utime(root / "a" / FIRST, (1.9e9, 1.9e9))
    index_once(engine, root, config=replace(SMALL, done_after=0.0))
    assert "done" == states(engine)[f"a/{FIRST}"]
