"""Damage of any size: linear in bytes read, bounded in memory, and nothing read twice that did not change."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db.overview import overview
from tests.support.following import SMALL, Follower, WatchedFiles, index_once, make
from tests.support.records import frame, header, tb_scalar, tb_version

NAME = "events.out.tfevents.1700000000.x"
GOOD = tb_version(1.7e9) + b"".join(tb_scalar("loss", step, step / 2, 1.7e9 + step) for step in range(5))
AFTER = b"".join(tb_scalar("loss", step, step / 2, 1.7e9 + step) for step in range(5, 9))
SLICE = 2**16


def shards(engine: Engine) -> list[tuple[Any, ...]]:
    """Return name, state, good records, bad records and bad bytes of all files."""
    query = "SELECT name, state, record_count, bad_records, bad_bytes FROM shards ORDER BY name"
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def reasons(engine: Engine) -> list[str]:
    """Return why bytes were passed over."""
    with engine.connect() as conn:
        return list(conn.execute(text("SELECT reason FROM shard_errors ORDER BY shard_id, 1")).scalars())


def last_error(engine: Engine) -> str | None:
    """Return what the only job says."""
    with engine.connect() as conn:
        found: str | None = conn.execute(text("SELECT last_error FROM jobs")).scalar_one()
        return found


def noise(size: int, seed: int = 1) -> bytes:
    """Return random bytes, the same each time."""
    return random.Random(seed).randbytes(size)


GARBAGE: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "noise": noise,
    "ones": lambda size: b"\xff" * size,
    "headers of long records": lambda size: (header(size // 2) * (size // 36)).ljust(size, b"\xff"),
    "headers of short records": lambda size: (header(40) * (size // 13)).ljust(size, b"\xff"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_read_once(engine: Engine, tmp_path: Path, kind: str) -> None:
    """Bytes read grow with the size and no faster, memory does not; what is good behind the garbage is all there."""
    read, peak = [], []
    for size in (2**20, 2**22):
        garbage = GARBAGE[kind](size)
        root = make(tmp_path / f"runs {size}", {f"a/{NAME}": GOOD + b"\xff" + garbage + AFTER})
        files = WatchedFiles()
        tracemalloc.start()
        index_once(engine, root, config=replace(SMALL, slice_bytes=SLICE), files=files)
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        read.append(files.read_bytes)
        assert {("growing", 10, size + 1)} == {(row[1], row[2], row[4]) for row in shards(engine)[-1:]}
    assert read[1] < 4.5 * read[0]
    assert read[1] < 4 * 2**22, "a record that a false header claims is read whole, with those that begin in it"
    if "long" not in kind:
        assert peak[1] < peak[0] + 2**20


@pytest.mark.parametrize("kind", ["zeros", "noise"])
def test_nothing_but_garbage_is_dead_and_left_alone(engine: Engine, tmp_path: Path, kind: str) -> None:
    """It is told, counted and not opened again until it changes, by another indexer neither; then only what is new."""
    size = 2**18
    root = make(tmp_path / "runs", {f"a/{NAME}": GARBAGE[kind](size), f"a/{NAME}.1": GOOD})
    files = WatchedFiles()
    follower = Follower(engine, root, config=replace(SMALL, slice_bytes=SLICE), files=files)
    follower.scan()
    assert (NAME, "dead", 0, 1, size) == shards(engine)[0]
    opened = files.opened.total()
    follower.scan()
    follower.leave()
    follower = Follower(engine, root, config=replace(SMALL, slice_bytes=SLICE), files=files)
    follower.scan()
    assert opened == files.opened.total()
    before = files.read_bytes
    with (root / "a" / NAME).open("ab") as file:
        file.write(bytes(1_000))
    follower.scan()
    assert files.read_bytes - before < 20_000
    assert (NAME, "dead", 0, 1, size + 1_000) == shards(engine)[0]
    with (root / "a" / NAME).open("ab") as file:
        file.write(AFTER)
    follower.scan()
    assert (NAME, "growing", 4, 1, size + 1_000) == shards(engine)[0]


@pytest.mark.parametrize("length", [2**60, 2**63, 2**64 - 1, 2**31, 10**15])
def test_an_impossible_length_allocates_nothing(engine: Engine, tmp_path: Path, length: int) -> None:
    """Its checksum is good and no record is so long: damage, and what follows is read."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD + header(length) + b"\xff" * 40 + AFTER})
    tracemalloc.start()
    index_once(engine, root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20
    assert [(NAME, "growing", 10, 1, 52)] == shards(engine)
    assert [f"impossible length of {length} bytes"] == reasons(engine)


def test_a_long_length_that_never_comes_is_waited_for(engine: Engine, tmp_path: Path) -> None:
    """2 GB are possible: the file may still grow to it. Nothing is allocated, it is torn and looked at no more."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD + header(2**31 - 1) + b"x" * 40})
    files = WatchedFiles()
    follower = Follower(engine, root, files=files)
    tracemalloc.start()
    follower.scan()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20
    assert [(NAME, "torn", 6, 0, 0)] == shards(engine)
    opened = files.opened.total()
    follower.scan()
    assert opened == files.opened.total()


def test_a_record_of_600_megabytes_is_passed_over_unread(engine: Engine, tmp_path: Path) -> None:
    """It is above max_record_bytes: reported with its length once it is whole, and not read."""
    length = 600_000_000
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD + header(length)})
    path = root / "a" / NAME
    files = WatchedFiles()
    follower = Follower(engine, root, files=files)
    follower.scan()
    os.truncate(path, len(GOOD) + 12 + length)  # sparse: it takes no room
    follower.scan()
    assert [(NAME, "torn", 6, 0, 0)] == shards(engine)
    with path.open("ab") as file:
        file.write(b"crc!" + AFTER)
    follower.scan()
    assert [(NAME, "growing", 10, 1, length + 16)] == shards(engine)
    assert [f"a record of {length} bytes is longer than max_record_bytes (500000000)"] == reasons(engine)
    assert files.read_bytes < 100 * 2**20
    assert path.stat().st_blocks * 512 < 2**20


def test_one_flipped_bit_costs_one_record(engine: Engine, tmp_path: Path) -> None:
    """Each bit of a record in the middle, in turn: all other records are there, wherever the bit is."""
    record = tb_scalar("loss", 77, 0.5, 1.7e9)
    tree = {}
    for bit in range(0, 8 * len(record), 5):
        bad = bytearray(record)
        bad[bit // 8] ^= 1 << bit % 8
        tree[f"bit{bit:04}/{NAME}"] = GOOD + bytes(bad) + AFTER
    index_once(engine, make(tmp_path / "runs", tree))
    assert [("growing", 10, 1, len(record))] * len(tree) == [row[1:] for row in shards(engine)]


COMPRESSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "gzip": (gzip.compress, "gunzip"),
    "bzip2": (bz2.compress, "bunzip2"),
    "xz": (lzma.compress, "unxz"),
    "zstd": (lambda content: b"\x28\xb5\x2f\xfd" + content[::-1], "unzstd"),
}


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("method", COMPRESSED)
def test_a_compressed_file_is_called_so(engine: Engine, tmp_path: Path, method: str, suffix: str) -> None:
    """The damage, the job and `status` say how it is compressed and what to do; done so, they say it no more."""
    compress, command = COMPRESSED[method]
    root = make(tmp_path / "runs", {f"a/{NAME}{suffix}": compress(GOOD), f"a/{NAME}.other": GOOD})
    follower = Follower(engine, root, config=replace(SMALL, slice_bytes=64))
    follower.scan()
    why = f"compressed with {method}: decompress it ({command}), and it is read"
    size = len(compress(GOOD))
    assert (f"{NAME}{suffix}", "dead", 0, 1, size) in shards(engine)
    assert [why] == reasons(engine)
    assert f"{root / 'a' / NAME}{suffix}: {why}" == last_error(engine)
    with engine.connect() as conn:
        (job,) = overview(conn).jobs
    assert (1, last_error(engine)) == (job["dead"], job["last_error"])
    with (root / "a" / f"{NAME}.other").open("ab") as file:
        file.write(AFTER)
    follower.scan()
    assert why in str(last_error(engine)), "another file's news does not change it"
    (root / "a" / f"{NAME}{suffix}").unlink()
    make(root, {f"a/{NAME}.plain": GOOD})
    follower.scan()
    assert None is last_error(engine)
    assert 0 == len([row for row in shards(engine) if row[1] == "dead"])


def test_a_plain_file_may_be_called_gz(engine: Engine, tmp_path: Path) -> None:
    """Content decides: records under such a name are records, and garbage under it is called by the name."""
    index_once(
        engine, make(tmp_path / "runs", {f"a/{NAME}.gz": GOOD + b"\xff" * 50 + AFTER, f"b/{NAME}.xz": b"\xff" * 50})
    )
    assert [("growing", 10, 1, 50), ("dead", 0, 1, 50)] == [row[1:] for row in shards(engine)]
    assert ["compressed with xz"] == [why[:18] for why in reasons(engine) if "compressed" in why]


def test_good_records_far_behind_garbage_replace_a_file(engine: Engine, tmp_path: Path) -> None:
    """A file that took a known name is looked through to its end: megabytes of garbage do not hide what is good."""
    root = make(tmp_path / "runs", {f"a/{NAME}": GOOD})
    follower = Follower(engine, root, config=replace(SMALL, max_record_bytes=3_000_000))
    follower.scan()
    (root / "a" / NAME).write_bytes(bytes(3 * 2**20))
    follower.scan()
    assert [(NAME, "growing", 6, 0, 0)] == shards(engine), "zeros take nothing away"
    too_long = frame(bytes(3_000_001))
    (root / "a" / NAME).write_bytes(bytes(3 * 2**20) + too_long + bytes(50) + tb_scalar("loss", 7, 1.0, 1.7e9))
    follower.scan()
    with engine.connect() as conn:
        assert [7] == list(conn.execute(text("SELECT step FROM tensor_points")).scalars())
