"""Whatever happens to jobs in whatever order: read again in the end, the tables are those of a first load."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from indexer.db import retention, shadow
from indexer.db.connection import transaction
from indexer.errors import Refuse
from indexer.ingest.retention import Rules, plan, prune
from indexer.ingest.watch import LEASE_SECONDS
from tests.support.crashing import Crash, crashing
from tests.support.engines import writer
from tests.support.following import SMALL, Follower, StillClock, empty, index_once, make
from tests.support.records import png, tb_histogram, tb_image, tb_scalar, tb_session_start, tb_version
from tests.support.tables import differences, dump
from tests.support.verifying import compare

FILES = tuple(f"events.out.tfevents.170000000{i}.x" for i in range(3))
JOBS = ("a", "b", "c")
STEPS = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(JOBS), st.sampled_from(FILES), st.integers(1, 6)),
    st.tuples(st.just("start"), st.sampled_from(JOBS), st.sampled_from(FILES), st.integers(1, 30)),
    st.tuples(st.just("replace"), st.sampled_from(JOBS), st.sampled_from(FILES), st.integers(1, 6)),
    st.tuples(st.just("rename"), st.sampled_from(JOBS), st.sampled_from(FILES), st.sampled_from(FILES)),
    st.tuples(st.just("prune"), st.sampled_from(JOBS)),
    st.tuples(st.just("restore"), st.sampled_from(JOBS)),
    st.tuples(st.just("tags"), st.sampled_from(("loss", "im*", "?pread"))),
    st.tuples(st.just("thin"), st.just(0)),
    st.tuples(st.just("reindex"), st.sampled_from(JOBS), st.sampled_from((None, *FILES))),
    st.tuples(st.just("look"), st.sampled_from(JOBS)),
    st.tuples(st.just("limit"), st.integers(0, 2)),
    st.tuples(st.just("die"), st.just(0)),
    st.tuples(st.just("crash"), st.integers(0, 12)),
)


class Life:
    """An indexer, files that grow, and somebody who prunes."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.engine, self.root = engine, root
        self.clock = StillClock()
        self.limit = 0
        self.written = self.begun = 0
        self.fatal: int | None = None  # the commit behind which it dies
        self.other = writer(engine)  # of whoever prunes and wishes
        self.start()

    def start(self) -> None:
        """Begin to index."""
        config = replace(SMALL, batch_points=5, slice_bytes=4096, max_cached_jobs=self.limit)
        self.follower = Follower(self.engine, self.root, config=config, clock=self.clock)
        self.work()

    def end(self) -> None:
        """End without a word."""
        self.follower.indexer.reloads.end()
        self.follower.indexer.database.dispose()

    def work(self) -> None:
        """Index until there is nothing to do, and no wish is left."""
        for _ in range(200):
            self.clock.time += 6
            self.follower.scan()
            current = self.follower.indexer.reloads.current
            if current is None:
                with transaction(self.follower.indexer.database) as conn:
                    if not shadow.wishes(conn):
                        break
            elif current._thread is not None:
                current._thread.join()
        else:
            raise AssertionError("it never ends")
        dump(self.engine)  # says so where a point is left, or there twice

    def append(self, job: str, file: str, count: int) -> None:
        """Write some steps, now and then back."""
        path = self.root / job / file
        content = self.head(path)
        for _ in range(count):
            self.written += 1
            step = self.written % 17
            content += tb_scalar("loss", step, self.written / 8, 1.7e9 + self.written)
            if step % 5 == 0:
                content += tb_image("image", step, png(1, 1, step), 1.7e9)
                content += tb_histogram("spread", step, (1.0, 2.0), (3.0, step), 1.7e9)
        self.grow(path, content)

    def replace(self, job: str, file: str, count: int) -> None:
        """Put another file in the place of one."""
        path = self.root / job / file
        if path.exists():
            path.rename(self.root / "old")
            self.append(job, file, count)
            (self.root / "old").unlink()

    def rename(self, job: str, file: str, other: str) -> None:
        """Give a file another name, perhaps that of another file."""
        path = self.root / job / file
        if path.exists():
            path.replace(self.root / job / other)

    def verify(self) -> None:
        """Compare files and tables: whatever was pruned or evicted, what is stored is right."""
        assert [] == compare(self.engine.url.render_as_string(hide_password=False))[1]

    def session(self, job: str, file: str, step: int) -> None:
        """Write a session start."""
        path = self.root / job / file
        self.grow(path, self.head(path) + tb_session_start(step, 1.7e9))

    def head(self, path: Path) -> bytes:
        """Return how a file begins that is not there yet: at a time of its own, which tells it apart."""
        self.begun += 1
        return b"" if path.exists() else tb_version(1.7e9 + self.begun)

    def grow(self, path: Path, content: bytes) -> None:
        """Append to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as out:
            out.write(content)

    def prune(self, rules: Rules) -> None:
        """Prune, where there is anything that rules name."""
        with suppress(Refuse):  # there is no such job just now
            prune(self.other, plan(self.other.connect(), rules, self.clock.time), self.clock.now)

    def restore(self, job: str) -> None:
        """Let a pruned job come back."""
        with retention.outside(self.other) as (conn, _):
            retention.restore(conn, None, f"./{job}")

    def reindex(self, job: str, file: str | None = None) -> None:
        """Wish that a job is read again."""
        with transaction(self.other) as conn:
            for found in retention.named(conn, f"./{job}"):
                shadow.ask(conn, found.id, file, self.clock.time)

    def do(self, step: tuple[object, ...]) -> None:
        """Do one step, and let the indexer work."""
        match step:
            case ("append", str(job), str(file), int(count)):
                self.append(job, file, count)
            case ("replace", str(job), str(file), int(count)):
                self.replace(job, file, count)
            case ("rename", str(job), str(file), str(other)):
                self.rename(job, file, other)
            case ("start", str(job), str(file), int(at)):
                self.session(job, file, at)
            case ("prune", str(job)):
                self.prune(Rules(jobs=(f"./{job}",)))
            case ("restore", str(job)):
                self.restore(job)
            case ("tags", str(pattern)):
                self.prune(Rules(tags=(pattern,)))
            case ("thin", _):
                self.prune(Rules(thin_older_than=1.0, thin_to=100))
            case ("reindex", str(job), file):
                self.reindex(job, None if file is None else str(file))
            case ("look", str(job)):
                ids = [found.id for found in self.follower.indexer.jobs.values() if found.train_id == f"./{job}"]
                self.follower.indexer.request({"ask": "access", "jobs": ids})
            case ("limit", int(limit)):
                self.limit = limit
                self.follower.leave()
                self.end()
                self.start()
            case ("crash", int(at)):
                self.fatal = at
                return  # in the midst of what comes next
            case _:
                self.die()
        fatal, self.fatal = self.fatal, None
        try:
            with nullcontext() if fatal is None else crashing(fatal, "after", besides="shadow.db"):
                self.work()
        except Crash:
            self.die()

    def die(self) -> None:
        """The indexer is gone, and another takes its place."""
        self.end()
        self.clock.time += LEASE_SECONDS + 1
        self.start()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=12))
def test_in_the_end_all_is_as_the_files_are(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, ...]]
) -> None:
    """Prune, evict, thin, look, die and grow in any order, then bring all back: nothing is lost or doubled."""
    empty(engine)
    root = make(tmp_path_factory.mktemp("life"), {f"{job}/{FILES[0]}": tb_version(1.7e9) for job in JOBS})
    life = Life(engine, root)
    for number, step in enumerate([("append", "a", FILES[1], 6), ("append", "b", FILES[0], 3), *steps]):
        life.do(step)
        for place, job in enumerate(JOBS):  # who was written last is not for the machine's clock to say
            os.utime(root / job, (1e9 + number, 1e9 + place))
    life.verify()
    life.do(("limit", 0))
    for job in JOBS:
        life.restore(job)
    life.work()
    for job in JOBS:
        life.reindex(job)
    life.work()
    life.clock.time += retention.GRACE_SECONDS + 1
    life.work()
    life.verify()
    actual = dump(engine)
    with engine.connect() as conn:
        errors = [row[0] for row in conn.execute(text("SELECT error FROM reindexes WHERE error IS NOT NULL"))]
        assert all("has no file" in error for error in errors)
        assert 0 == conn.execute(text("SELECT count(*) FROM loose_tags")).scalar_one()
    life.follower.leave()
    life.end()
    life.other.dispose()
    empty(engine)
    index_once(engine, root)
    assert [] == (d := differences(dump(engine), actual)), "\n".join([*map(str, steps), *d[:14]])
