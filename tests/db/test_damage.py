"""Damaged, torn, odd and unreadable files: what is good around them is kept, what is wrong is told, nothing else."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import struct
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.conftest import DATA
from tests.support.following import SMALL, Follower, WatchedFiles, empty, index_once, make
from tests.support.records import frame, tb_scalar, tb_version
from tests.support.tables import differences, dump

FORMATS = ("mindspore", "tensorboard")
NAME = "events.out.tfevents.1700000000.x"
GOOD = tb_version(1.7e9) + b"".join(tb_scalar("loss", step, step / 2, 1.7e9 + step) for step in range(5))


@cache
def cases(format_: str) -> dict[str, dict[str, Any]]:
    """Return path below tests/data/damaged/FORMAT → what is known of the file."""
    found = json.loads((DATA / "truth" / "DAMAGED.json").read_text(encoding="utf-8"))
    prefix = f"damaged/{format_}/"
    return {path.removeprefix(prefix): case for path, case in found.items() if path.startswith(prefix)}


def copied(format_: str, target: Path) -> Path:
    """Copy the damaged files, so that their directory has a name of its own."""
    return Path(shutil.copytree(DATA / "damaged" / format_, target, symlinks=True))


def record_length(path: Path, offset: int) -> int:
    """Return how long the record at `offset` is, whose length is known to be good."""
    (length,) = struct.unpack_from("<Q", path.read_bytes(), offset)
    return int(length) + 16


def expected_damage(case: dict[str, Any], path: Path) -> list[tuple[int, int]]:
    """Return offset and length of the damages of a file."""
    kind, start = case["class"], int(case.get("good_end_offset") or 0)
    if kind in {"clean", "torn", "odd-record", "empty"}:
        return []
    if kind == "bad-graph":  # all of it; an empty one may only not be written yet
        return [(0, case["size"])] if case["size"] else []
    if case["framing_continues"] is False:
        return [(start, (case["resync_offset"] or case["size"]) - start)]
    if case["case"] != "flip-many":
        return [(start, record_length(path, start))]
    offsets = [0]
    while offsets[-1] < case["size"]:
        offsets.append(offsets[-1] + record_length(path, offsets[-1]))
    return [(offsets[i], offsets[i + 1] - offsets[i]) for i in (9, 20, 31)]


def expected_state(case: dict[str, Any]) -> str:
    """Return the state a shard ends in."""
    if case["class"] == "torn" or case["case"] == "flip-then-torn":
        return "torn"
    if case["class"] == "bad-graph":
        return "dead" if case["size"] else "growing"
    records = case.get("records_before", 0) + case.get("records_after", 0)
    return "dead" if not records and case["class"] in {"corrupt", "implausible-length"} else "growing"


def expected_scalars(case: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return tag → count, first and last point of the good records, with the sum of finite values."""
    before, after = case.get("scalars_before", {}), case.get("scalars_after", {})
    found = {}
    for tag in before.keys() | after.keys():
        parts = [part[tag] for part in (before, after) if tag in part]
        first, last = parts[0]["first"], parts[-1]["last"]
        total = math.fsum(part["sum"] for part in parts)
        count = sum(part["count"] for part in parts)
        found[tag] = (count, first[0], stored(first[1]), last[0], stored(last[1]), pytest.approx(total, rel=1e-12))
    return found


def stored(value: float | str) -> float | None:
    """Return a value as a column holds it."""
    return None if math.isnan(float(value)) else float(value)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("slice_bytes", [2**20, 64])
def test_every_damaged_file_gives_its_good_records_and_tells_the_rest(
    engine: Engine, tmp_path: Path, format_: str, slice_bytes: int
) -> None:
    """Good records before and after, states, damages by offset and length, in slices of any size; every job CACHED."""
    root = copied(format_, tmp_path / "runs")
    outcome = index_once(engine, root, config=replace(SMALL, slice_bytes=slice_bytes))
    wanted = {
        path: case
        for path, case in cases(format_).items()
        if case["class"] not in {"ignored", "symlink"} and (root / path).is_file() and "linked-dir" not in path
    }
    with engine.connect() as conn:
        offset = engine.dialect.identifier_preparer.quote("offset")
        jobs = conn.execute(text("SELECT train_id, cache_status FROM jobs")).all()
        query = "SELECT j.train_id, s.* FROM shards s JOIN jobs j ON j.id = s.job_id"
        shards = {f"{s.train_id[2:]}/{s.name}": s for s in conn.execute(text(query))}
        errors = conn.execute(text(f"SELECT shard_id, {offset}, length, reason FROM shard_errors ORDER BY {offset}"))
        damages: dict[int, list[tuple[int, int]]] = {}
        for shard_id, at, length, reason in errors:
            assert reason
            damages.setdefault(shard_id, []).append((at, length))
        query = (
            "SELECT s.id AS shard_id, t.name, t.id AS tag_id FROM shards s JOIN tags t ON t.job_id = s.job_id "
            "WHERE t.data_class = 'scalar'"
        )
        tags: dict[int, dict[str, tuple[Any, ...]]] = {}
        for row in conn.execute(text(query)).all():
            points = conn.execute(
                text("SELECT step, value FROM tensor_points WHERE tag_id = :t ORDER BY seq, step"), {"t": row.tag_id}
            ).all()
            total = math.fsum(p.value for p in points if p.value is not None and math.isfinite(p.value))
            tags.setdefault(row.shard_id, {})[row.name] = (len(points), *points[0], *points[-1], total)
    assert {"CACHED"} == {job.cache_status for job in jobs}
    assert wanted.keys() == shards.keys()
    assert [] == outcome.unreadable
    for path, case in wanted.items():
        shard, expected = shards[path], expected_damage(case, root / path)
        assert (path, expected) == (path, damages.get(shard.id, []))
        lost = sum(length for _, length in expected)
        assert (path, len(expected), lost) == (path, shard.bad_records, shard.bad_bytes)
        assert (path, expected_state(case)) == (path, shard.state)
        assert (path, case.get("size", shard.size)) == (path, shard.size)
        if case["class"] == "torn":
            assert (path, case["good_end_offset"]) == (path, shard.cursor)
        if "records_before" in case and case["case"] != "symlinks":
            assert (path, case["records_before"] + case["records_after"]) == (path, shard.record_count)
        if "scalars_before" in case and case["case"] not in {"repeated-block", "two-versions", "odd-name"}:
            assert (path, expected_scalars(case)) == (path, tags.get(shard.id, {}))
    assert sum(len(found) for found in damages.values()) == outcome.bad_records


@pytest.mark.parametrize("format_", FORMATS)
def test_a_torn_file_that_goes_on_leaves_no_trace(engine: Engine, tmp_path: Path, format_: str) -> None:
    """Torn at any byte, then continued: the tables are those of a file that was never torn."""
    whole = (DATA / "damaged" / format_ / "wrong-name" / "data.bin").read_bytes()
    torn = {}
    for path, case in cases(format_).items():
        content = (DATA / "damaged" / format_ / path).read_bytes() if case["class"] == "torn" else b"-"
        if whole.startswith(content):
            torn[path] = content
    assert len(torn) > 6
    index_once(engine, make(tmp_path / "never" / "runs", dict.fromkeys(torn, whole)))
    expected = dump(engine, disk=False)
    empty(engine)
    root = make(tmp_path / "once" / "runs", torn)
    follower = Follower(engine, root)
    follower.scan()
    with engine.connect() as conn:
        assert {"torn"} == set(conn.execute(text("SELECT state FROM shards")).scalars())
        assert {"CACHED"} == set(conn.execute(text("SELECT cache_status FROM jobs")).scalars())
    for path, content in torn.items():
        with (root / path).open("ab") as file:
            file.write(whole[len(content) :])
    follower.scan()
    assert [] == differences(expected, dump(engine, disk=False))


@pytest.mark.parametrize("case", ["flip-length", "garbage-between", "enormous-length", "garbage-front"])
def test_damage_read_in_pieces_is_one_damage(engine: Engine, tmp_path: Path, case: str) -> None:
    """A file that grows byte by byte through damage has the rows of one that was read at once, reasons included."""
    whole = (DATA / "damaged" / "tensorboard" / case / NAME).read_bytes()
    index_once(engine, make(tmp_path / "once" / "runs", {f"a/{NAME}": whole}))
    expected = dump(engine, disk=False)
    empty(engine)
    start = cases("tensorboard")[f"{case}/{NAME}"]["good_end_offset"]
    root = make(tmp_path / "grown" / "runs", {f"a/{NAME}": whole[: start + 1]})
    follower = Follower(engine, root)
    follower.scan()
    for end in [*range(start + 2, start + 70), len(whole)]:
        (root / "a" / NAME).write_bytes(whole[:end])
        if end % 7 == 0:  # another process goes on
            follower.leave()
            follower = Follower(engine, root)
        follower.scan()
    assert [] == differences(expected, dump(engine, disk=False))


def test_a_record_above_the_limit_is_skipped_once_it_is_whole(engine: Engine, tmp_path: Path) -> None:
    """It is waited for, then passed over and reported; what follows is read. After damage too."""
    large = frame(b"\x2a" + b"\xf4\x03" + bytes(500))  # Event.summary of 500 bytes
    garbage = b"\xff" * 40
    content = GOOD + large + tb_scalar("after", 1, 1.0, 1.7e9) + garbage + large + tb_scalar("end", 1, 1.0, 1.7e9)
    root = make(tmp_path / "runs", {f"a/{NAME}": content[: len(GOOD) + 200]})
    follower = Follower(engine, root, config=replace(SMALL, max_record_bytes=100))
    follower.scan()
    assert [("torn", len(GOOD), 0)] == shards(engine)
    (root / "a" / NAME).write_bytes(content)
    follower.scan()
    assert [("growing", len(content), 3)] == shards(engine)
    assert [5, 1, 1] == list(counts(engine).values())
    quote = engine.dialect.identifier_preparer.quote
    with engine.connect() as conn:
        rows = conn.execute(text(f"SELECT {quote('offset')}, length, reason FROM shard_errors ORDER BY 1")).all()
    second = content.index(garbage)
    assert [(len(GOOD), len(large)), (second, 40), (second + 40, len(large))] == [tuple(row)[:2] for row in rows]
    assert "max_record_bytes" in rows[0].reason
    assert "max_record_bytes" not in rows[1].reason


def shards(engine: Engine) -> list[tuple[str, int, int]]:
    """Return state, cursor and bad_records of all shards."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text("SELECT state, cursor, bad_records FROM shards ORDER BY id"))]


def counts(engine: Engine) -> dict[str, int]:
    """Return tag → number of points, in the order of the tags."""
    with engine.connect() as conn:
        query = "SELECT name, point_count FROM tags ORDER BY id"
        return {row[0]: row[1] for row in conn.execute(text(query))}


def job_rows(engine: Engine) -> dict[str, tuple[str, int]]:
    """Return train_id → cache_status and point_count."""
    with engine.connect() as conn:
        query = "SELECT train_id, cache_status, point_count FROM jobs ORDER BY train_id"
        return {row[0]: (row[1], row[2]) for row in conn.execute(text(query))}


needs_links = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs symbolic links and FIFOs")


@needs_links
def test_links_are_passed_over_unless_followed(engine: Engine, tmp_path: Path) -> None:
    """Links to files and directories count only with follow_symlinks; links to nothing, to themselves, or up end."""
    root = make(tmp_path / "runs", {f"target/{NAME}": GOOD, f"links/{NAME}.0": GOOD})
    make(tmp_path / "elsewhere", {f"far/{NAME}": GOOD})
    links = root / "links"
    (links / NAME).symlink_to(root / "target" / NAME)
    (links / f"{NAME}.nothing").symlink_to(root / "gone")
    (links / f"{NAME}.itself").symlink_to(links / f"{NAME}.itself")
    (links / "linked-dir").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (links / "up").symlink_to(root, target_is_directory=True)
    (links / "loop").symlink_to(links / "loop")
    outcome = index_once(engine, root)
    assert {"./links": ("CACHED", 5), "./target": ("CACHED", 5)} == job_rows(engine)
    assert [] == outcome.unreadable
    empty(engine)
    index_once(engine, root, config=replace(SMALL, follow_symlinks=True))
    found = job_rows(engine)
    assert {("CACHED", 10), ("CACHED", 5)} == {found.pop("./links"), found.pop("./target")}
    assert {"./links/linked-dir/far": ("CACHED", 5)} == found


@needs_links
def test_what_is_no_file_is_named_and_passed_over(engine: Engine, tmp_path: Path) -> None:
    """A directory named like an event file, a FIFO and an empty file hold up nothing."""
    root = make(tmp_path / "runs", {f"good/{NAME}": GOOD, f"empty/{NAME}": b"", f"dir/{NAME}/keep.txt": b"x"})
    os.mkfifo(root / "good" / f"{NAME}.fifo")
    outcome = index_once(engine, root)
    assert {"./empty": ("CACHED", 0), "./good": ("CACHED", 5)} == job_rows(engine)
    assert [f"{root / 'good' / NAME}.fifo: not a regular file"] == outcome.unreadable


def test_a_file_that_vanishes_before_it_is_read(engine: Engine, tmp_path: Path) -> None:
    """It is named; the others are loaded; when it is back it is read."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD, f"a/{NAME}.1": GOOD, f"b/{NAME}": GOOD})
    files = WatchedFiles()
    victim = root / "a" / NAME
    files.before_open = lambda path: path.unlink(missing_ok=True) if path == victim else None
    follower = Follower(engine, root, files=files)
    follower.scan()
    assert {"./a": 5, "./b": 5} == {name: count for name, (_, count) in job_rows(engine).items()}
    assert [f"{victim}: No such file or directory"] == follower.indexer._outcome().unreadable
    follower.scan()
    assert [] == follower.indexer._outcome().unreadable
    with engine.connect() as conn:
        state = conn.execute(text("SELECT state FROM shards WHERE name = :n"), {"n": NAME}).scalars().all()
    assert ["growing", "missing"] == sorted(state)
    files.before_open = lambda _path: None
    victim.write_bytes(GOOD)
    follower.scan()
    assert {"./a": ("CACHED", 10), "./b": ("CACHED", 5)} == job_rows(engine)


@pytest.mark.parametrize("where", ["before_open", "before_read", "before_stat"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_an_unreadable_file_is_named_until_it_can_be_read(
    engine: Engine, tmp_path: Path, where: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named in the outcome, once in the log, and in the job; the others go on; later it is picked up."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD, f"b/{NAME}": GOOD, f"b/{NAME}.1": GOOD})
    files = WatchedFiles()
    follower = Follower(engine, root, files=files)
    bad = root / "a" / NAME
    allowed = False

    def refuse(path: Path) -> None:
        if path == bad and not allowed:
            raise OSError(code, os.strerror(code), str(path))

    setattr(files, where, refuse)
    for _ in range(3):
        follower.scan()
        assert ("CACHED", 10) == job_rows(engine)["./b"]
        assert [f"{bad}: {os.strerror(code)}"] == follower.indexer._outcome().unreadable
    if where != "before_stat":  # else it is not known to be a job at all
        with engine.connect() as conn:
            said = conn.execute(text("SELECT last_error FROM jobs WHERE train_id = './a'")).scalar_one()
        assert os.strerror(code) in said
    log = capsys.readouterr()
    assert 1 == len(re.findall(r"(?:file|path)_unreadable ", log.out + log.err))
    allowed = True
    follower.scan()
    assert {"./a": ("CACHED", 5), "./b": ("CACHED", 10)} == job_rows(engine)
    assert [] == follower.indexer._outcome().unreadable
    with engine.connect() as conn:
        assert [None, None] == list(conn.execute(text("SELECT last_error FROM jobs")).scalars())


def test_a_loaded_file_that_cannot_be_looked_at_is_not_gone(engine: Engine, tmp_path: Path) -> None:
    """A failed stat of a known file says nothing about the file: it is not called missing."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD})
    files = WatchedFiles()
    follower = Follower(engine, root, files=files)
    follower.scan()

    def refuse(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    files.before_stat = refuse
    follower.scan()
    with engine.connect() as conn:
        assert ["growing"] == list(conn.execute(text("SELECT state FROM shards")).scalars())
        assert [None] == list(conn.execute(text("SELECT missing_since FROM jobs")).scalars())


def test_an_unreadable_directory_hides_only_what_is_below_it(engine: Engine, tmp_path: Path) -> None:
    """It is named, its jobs are not called missing, the others go on, and it is picked up when it can be listed."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD, f"a/sub/{NAME}": GOOD, f"b/{NAME}": GOOD})
    files = WatchedFiles()
    follower = Follower(engine, root, files=files)
    follower.scan()
    assert 3 == len(job_rows(engine))

    def refuse(path: Path) -> None:
        if path == root / "a":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    files.before_list = refuse
    make(root, {f"a/new/{NAME}": GOOD, f"c/{NAME}": GOOD})
    follower.scan()
    assert {"./a", "./a/sub", "./b", "./c"} == job_rows(engine).keys()
    assert [f"{root / 'a'}: Permission denied"] == follower.indexer._outcome().unreadable
    with engine.connect() as conn:
        assert [None] * 4 == list(conn.execute(text("SELECT missing_since FROM jobs")).scalars())
    files.before_list = lambda _path: None
    follower.scan()
    assert {"./a", "./a/new", "./a/sub", "./b", "./c"} == job_rows(engine).keys()
    assert [] == follower.indexer._outcome().unreadable


def test_a_root_that_cannot_be_listed_loses_nothing(engine: Engine, tmp_path: Path) -> None:
    """A failed listing is an error that names the root, never "no jobs"."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD})
    follower = Follower(engine, root)
    follower.scan()
    (root).rename(tmp_path / "away")
    follower.scan()
    assert {"./a": ("CACHED", 5)} == job_rows(engine)
    assert [f"{root}: No such file or directory"] == follower.indexer._outcome().unreadable
    with engine.connect() as conn:
        assert [None] == list(conn.execute(text("SELECT missing_since FROM jobs")).scalars())
    (tmp_path / "away").rename(root)
    follower.scan()
    assert [] == follower.indexer._outcome().unreadable


def test_a_file_that_shrinks_while_it_is_read_does_not_hold_up_the_rest(engine: Engine, tmp_path: Path) -> None:
    """Fewer bytes than its size promised end the pass over it; the next one sees what it is now."""
    long = GOOD + b"".join(tb_scalar("loss", step, 1.0, 1.7e9) for step in range(5, 3_000))
    root = make(tmp_path / "runs", {f"a/{NAME}": long, f"b/{NAME}": GOOD})
    files = WatchedFiles()
    victim = root / "a" / NAME

    def shrink(path: Path) -> None:
        if path == victim:
            os.truncate(victim, len(long) // 2 + 3)

    files.before_read = shrink
    follower = Follower(engine, root, files=files)
    follower.scan()
    files.before_read = lambda _path: None
    assert ("CACHED", 5) == job_rows(engine)["./b"]
    follower.scan()
    os.truncate(victim, 0)
    victim.write_bytes(long)
    follower.scan()
    assert {"./a": ("CACHED", 3_000), "./b": ("CACHED", 5)} == job_rows(engine)
