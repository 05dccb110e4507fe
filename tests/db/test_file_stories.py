"""Any story of files, against a list of points in memory: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, text

from indexer.ingest.logdir import load_order
from tests.support.following import SMALL, Follower, empty, make
from tests.support.records import tb_scalar, tb_version

NAMES = tuple(f"events.out.tfevents.170000000{i}.x" for i in range(4))
Content = tuple[int, ...]
"""Numbers of records: even ones begin a file, odd ones are points with that number as value. None is made twice."""


def record(number: int) -> bytes:
    """Return a record."""
    return tb_scalar("loss", number % 7, float(number), 1.7e9) if number % 2 else tb_version(1.7e9 + number)


def encoded(content: Content) -> bytes:
    """Return the bytes of a file."""
    return b"".join(map(record, content))


def begins(content: Content | None, start: Content) -> bool:
    """Tell whether a file begins with `start`."""
    return content is not None and content[: len(start)] == start


@dataclass
class Known:
    """A file as the index should know it."""

    name: str
    content: Content
    inode: int  # stands for one


class Model:
    """What the index should hold after each look: the rules of docs/files.md, over lists."""

    def __init__(self) -> None:
        self.known: list[Known] = []

    def look(self, disk: dict[str, Content], inodes: dict[str, int]) -> None:
        """Bring it up to what lies on disk."""
        self._rename(disk, inodes)
        self.known += [Known(n, (), inodes[n]) for n in disk.keys() - {k.name for k in self.known}]
        other = [k for k in self.known if k.name in disk and not begins(disk[k.name], k.content)]
        replaced = [k for k in other if disk[k.name] or self._copied(k, disk)]
        if replaced:
            for k in self.known:
                gone = k.name not in disk or (k in other and k not in replaced)
                if gone and any(begins(disk[r.name], k.content) for r in replaced):
                    k.content = ()
            for k in replaced:
                k.content = ()
        for k in self.known:
            if k.name in disk and begins(disk[k.name], k.content):
                k.content, k.inode = disk[k.name], inodes[k.name]

    def _copied(self, emptied: Known, disk: dict[str, Content]) -> bool:
        return any(begins(content, emptied.content) for name, content in disk.items() if name != emptied.name)

    def _rename(self, disk: dict[str, Content], inodes: dict[str, int]) -> None:
        new = sorted(disk.keys() - {k.name for k in self.known if k.content}, key=load_order)
        left = [k for k in self.known if k.content and not begins(disk.get(k.name), k.content)]
        for name in new:  # it grows meanwhile
            alike = [k for k in left if begins(disk[name], k.content)]
            if alike:
                best = min(alike, key=lambda k: (k.inode != inodes[name], -len(k.content)))
                left.remove(best)
                if best.name in disk:
                    new.append(best.name)
                self.known = [k for k in self.known if k.name != name]  # nothing of it was read
                best.name = name

    @property
    def values(self) -> Counter[float]:
        """The points, by their values."""
        return Counter(float(number) for k in self.known for number in k.content if number % 2)


class Stories(RuleBasedStateMachine):
    """What people and programs do to the files of a run."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        empty(self.engine)
        self.base = Path(tempfile.mkdtemp())
        self.root = make(self.base / "runs", {"a/notes.txt": b""})
        self.disk: dict[str, Content] = {}
        self.inodes: dict[str, int] = {}
        self.numbers = iter(range(10**9))
        self.clock = 0
        self.model = Model()
        self.looked = False

    @initialize(batch_points=st.sampled_from([1, 5, 1_000]))
    def begin(self, batch_points: int) -> None:
        """Start the indexer."""
        self.config = replace(SMALL, batch_points=batch_points, slice_bytes=256)
        self.follower = Follower(self.engine, self.root, config=self.config)

    def teardown(self) -> None:
        """Look a last time."""
        if hasattr(self, "follower"):
            self.look()
            self.same()
            self.leave()
        shutil.rmtree(self.base)

    def leave(self) -> None:
        """End the indexer."""
        self.follower.leave()
        self.follower.indexer.database.dispose()

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self.root / "a" / name

    def some(self, count: int, parity: int) -> Content:
        """Return numbers that were never given out."""
        found: list[int] = []
        while len(found) < count:
            number = next(self.numbers)
            if number % 2 == parity:
                found.append(number)
        return tuple(found)

    def changed(self, name: str) -> None:
        """Give a file a modification time that no other has: real clocks tick too slowly for us."""
        self.clock += 1
        os.utime(self.path(name), ns=(10**18 + self.clock,) * 2)
        self.looked = False

    def written(self, name: str, points: int) -> None:
        """Make a file."""
        self.disk[name] = self.some(1, 0) + self.some(points, 1)
        self.path(name).write_bytes(encoded(self.disk[name]))
        self.changed(name)

    there = precondition(lambda self: bool(self.disk))
    counts = st.integers(0, 4)
    picks = st.integers(0, 3)

    def pick(self, number: int) -> str:
        """Return a file that is there."""
        return sorted(self.disk)[number % len(self.disk)]

    @rule(name=st.sampled_from(NAMES), points=counts, fresh=st.booleans())
    def write(self, name: str, points: int, fresh: bool) -> None:
        """Create a file, truncate and write one anew, or put another one in its place."""
        if fresh or name not in self.disk:
            self.path(name).unlink(missing_ok=True)
            self.inodes[name] = next(self.numbers)
        self.written(name, points)

    @there
    @rule(number=picks, points=counts)
    def append(self, number: int, points: int) -> None:
        """Append to a file."""
        name = self.pick(number)
        more = self.some(points, 1)
        with self.path(name).open("ab") as file:
            file.write(encoded(more))
        self.disk[name] += more
        self.changed(name)

    @there
    @rule(number=picks, left=st.integers(0, 6))
    def truncate(self, number: int, left: int) -> None:
        """Cut a file behind one of its records."""
        name = self.pick(number)
        self.disk[name] = self.disk[name][:left]
        os.truncate(self.path(name), len(encoded(self.disk[name])))
        self.changed(name)

    @there
    @rule(number=picks, to=st.sampled_from(NAMES))
    def rename(self, number: int, to: str) -> None:
        """Give a file another name, perhaps another one's."""
        name = self.pick(number)
        self.path(name).replace(self.path(to))
        self.disk[to], self.inodes[to] = self.disk.pop(name), self.inodes.pop(name)
        self.looked = False

    @there
    @rule(number=picks, to=st.sampled_from(NAMES), points=counts)
    def copy_and_cut(self, number: int, to: str, points: int) -> None:
        """Copy a file away, cut it, and write on."""
        name = self.pick(number)
        if name == to:
            return
        if to not in self.disk:
            self.inodes[to] = next(self.numbers)
        shutil.copyfile(self.path(name), self.path(to))
        self.disk[to] = self.disk[name]
        self.changed(to)
        self.written(name, points)

    @there
    @rule(number=picks)
    def delete(self, number: int) -> None:
        """Delete a file."""
        name = self.pick(number)
        self.path(name).unlink()
        del self.disk[name], self.inodes[name]
        self.looked = False

    @rule()
    def look(self) -> None:
        """Scan and load."""
        self.follower.scan()
        self.model.look(self.disk, self.inodes)
        self.looked = True

    @rule()
    def start_again(self) -> None:
        """Have another indexer go on."""
        self.leave()
        self.follower = Follower(self.engine, self.root, config=self.config)

    @invariant()
    def same(self) -> None:
        """After each look the tables hold the points of the list, and count them rightly."""
        if not self.looked:
            return
        with self.engine.connect() as conn:
            found = Counter(conn.execute(text("SELECT value FROM tensor_points")).scalars())
            tags = conn.execute(text("SELECT sum(point_count), sum(nan_count) FROM tags")).one()
            jobs = conn.execute(text("SELECT sum(point_count), count(*) FROM jobs WHERE cache_status = 'CACHED'")).one()
            segments = conn.execute(text("SELECT sum(count) FROM tag_segments")).scalar_one()
        assert self.model.values == found
        count = found.total()
        assert (count, count, count) == (tags[0] or 0, jobs[0] or 0, segments or 0)
        assert not tags[1]


def run(engine: Engine, **chosen: Any) -> None:
    """Tell stories."""
    machine = type("Told", (Stories,), {"engine": engine})
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    run_state_machine_as_test(machine, settings=settings(deadline=None, suppress_health_check=checks, **chosen))


@pytest.fixture
def sqlite(request: pytest.FixtureRequest, backend: str) -> bool:
    """Tell whether the database is SQLite."""
    return backend == "sqlite"


def test_any_story(engine: Engine, sqlite: bool) -> None:
    """Appended, cut, replaced, renamed, copied, deleted, made again, with restarts in between."""
    run(engine, max_examples=40 if sqlite else 8, stateful_step_count=20)


@pytest.mark.slow
def test_many_long_stories(engine: Engine, sqlite: bool) -> None:
    """The same for longer."""
    run(engine, max_examples=500 if sqlite else 100, stateful_step_count=60)
