"""Clocks that are wrong, or jump: nobody loses his work for it, and nobody who is dead keeps any."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db import write
from indexer.db.connection import Database
from indexer.db.connection import transaction as writing
from indexer.db.engine import open_engine, open_reader, read_only, server_time
from indexer.ingest.watch import LEASE_SECONDS, Indexer
from tests.support.engines import writer
from tests.support.following import SMALL, Follower, StillClock, given, make
from tests.support.loads import runs
from tests.support.postgres import PostgresServer
from tests.support.records import tb_scalar, tb_version

DAY = 86_400.0
FILE = "events.out.tfevents.1700000000.x"


@dataclass
class WrongClock(StillClock):
    """A clock whose time of day is off by `wrong` seconds, while it measures rightly."""

    time: float = 2e9
    wrong: float = 0.0

    def now(self) -> float:
        """Return seconds since the epoch, as this machine believes."""
        return self.time + self.wrong


@pytest.fixture
def postgres_engine(postgres: PostgresServer, postgres_template: str) -> Iterator[Engine]:
    """An engine on a migrated, empty PostgreSQL database."""
    url = postgres.create(template=postgres_template)
    engine = open_engine(url)
    yield engine
    engine.dispose()
    postgres.drop(url)


def own_clock(engine: Engine, root: Path, wrong: float) -> Indexer:
    """Return an indexer as the program makes it, on a machine whose clock is wrong."""
    indexer = Indexer(replace(SMALL, roots=given([root])), writer(engine))
    indexer.clock = WrongClock(time.monotonic(), wrong)
    indexer._enter()
    return indexer


def settle(indexer: Indexer) -> None:
    """Scan, and load until there is nothing left to do."""
    indexer.next_scan = 0.0
    while indexer._turn(threading.Event()):
        pass


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query answers."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def hold(indexer: Indexer) -> None:
    """Have an indexer claim all jobs, as at the beginning of a load."""
    indexer._scan()
    assert indexer._claim(list(indexer.dirty.values()))


EXPIRES = "SELECT max(lease_expires) - extract(epoch FROM clock_timestamp()) FROM jobs"


@pytest.mark.parametrize("wrong", [DAY, -DAY])
def test_leases_go_by_the_servers_clock(postgres_engine: Engine, tmp_path: Path, wrong: float) -> None:
    """A machine that is a day ahead, or behind, holds its jobs as long as any other, and takes nobody else's."""
    root = runs(tmp_path / "runs", 5)
    odd, right = own_clock(postgres_engine, root, wrong), own_clock(postgres_engine, root, 0.0)
    for holder, other in ((odd, right), (right, odd)):
        hold(holder)
        ((left,),) = rows(postgres_engine, EXPIRES)
        assert 0 < left <= LEASE_SECONDS
        other._scan()
        assert [] == other._claim(list(other.dirty.values()))
        assert other.leased
        with writing(holder.database) as conn:
            assert write.others_live(conn, holder.id, write.server_time(conn))
            write.release(conn, holder.id)
        for one in (odd, right):
            for job in one.jobs.values():
                job.leased_until = 0.0
    settle(right)
    assert [("CACHED", 3)] == rows(postgres_engine, "SELECT cache_status, count(*) FROM jobs GROUP BY 1")


def test_a_lease_from_a_future_that_never_came_holds_nobody_up(postgres_engine: Engine, tmp_path: Path) -> None:
    """The server's clock was a day ahead when the holder died: no lease lasts so long, so this one is over."""
    root = runs(tmp_path / "runs", 5)
    dead, heir = own_clock(postgres_engine, root, 0.0), own_clock(postgres_engine, root, 0.0)
    hold(dead)
    with postgres_engine.begin() as conn:
        conn.execute(text(f"UPDATE jobs SET lease_expires = lease_expires + {DAY}, cache_status = 'CACHING'"))
        conn.execute(text(f"UPDATE indexers SET heartbeat = heartbeat + {DAY} WHERE id = {dead.id}"))
    with writing(heir.database) as conn:
        now = write.server_time(conn)
        assert not write.others_load(conn, heir.id, now)
        assert not write.others_live(conn, heir.id, now)
    settle(heir)
    assert [("CACHED", 3)] == rows(postgres_engine, "SELECT cache_status, count(*) FROM jobs GROUP BY 1")
    own_clock(postgres_engine, root, 0.0)
    assert [] == rows(postgres_engine, f"SELECT id FROM indexers WHERE id = {dead.id}")


def test_a_live_holder_corrects_its_lease_with_the_next_heartbeat(postgres_engine: Engine, tmp_path: Path) -> None:
    """After the server's clock went back its leases are as long as any, and its own again."""
    root = runs(tmp_path / "runs", 5)
    holder, other = own_clock(postgres_engine, root, 0.0), own_clock(postgres_engine, root, 0.0)
    hold(holder)
    with postgres_engine.begin() as conn:
        conn.execute(text(f"UPDATE jobs SET lease_expires = lease_expires + {DAY}"))
    holder._beat()
    other._scan()
    assert [] == other._claim(list(other.dirty.values()))
    ((left,),) = rows(postgres_engine, EXPIRES)
    assert 0 < left <= LEASE_SECONDS


def test_an_indexer_taken_for_silent_registers_again(postgres_engine: Engine, tmp_path: Path) -> None:
    """Somebody whose clock was days ahead swept it away; its next heartbeat is there again, under its id."""
    root = runs(tmp_path / "runs", 5)
    clock = WrongClock()
    follower = Follower(postgres_engine, root, clock=clock)
    follower.scan()
    ahead = Database(follower.indexer.database.url)
    with writing(ahead) as conn:
        write.enter(conn, "ahead", 1, "1", clock.now() + 2 * DAY)
    ahead.dispose()
    assert [("ahead",)] == rows(postgres_engine, "SELECT host FROM indexers")
    follower.indexer._beat()
    assert (follower.indexer.id,) in rows(postgres_engine, "SELECT id FROM indexers WHERE host <> 'ahead'")


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_that_jumps_stops_nothing(engine: Engine, tmp_path: Path, jump: float) -> None:
    """What is appended afterwards is loaded as before, and the heartbeat has the time that it is now."""
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.7e9) + tb_scalar("loss", 1, 1.0, 1.7e9)})
    clock = WrongClock()
    follower = Follower(engine, root, clock=clock)
    follower.scan()
    for step in (2, 3):
        clock.wrong += jump
        clock.time += 20.0
        with (root / "a" / FILE).open("ab") as file:
            file.write(tb_scalar("loss", step, 1.0, 1.7e9))
        follower.settle()
        assert [(step, "CACHED")] == rows(engine, "SELECT point_count, cache_status FROM jobs")
        assert [(clock.now(),)] == rows(engine, "SELECT heartbeat FROM indexers")
    clock.wrong = 0.0
    clock.time += 20.0
    follower.settle()
    assert [(clock.now(),)] == rows(engine, "SELECT heartbeat FROM indexers")
    follower.leave()


def test_only_a_server_has_a_time_of_its_own(engine: Engine, url: str) -> None:
    """Readers judge heartbeats by the clock that they were written by."""
    reader = open_reader(url)
    with read_only(reader, seconds=5) as conn:
        found = server_time(conn)
    reader.dispose()
    if engine.dialect.name == "sqlite":
        assert found is None
    else:
        assert found == pytest.approx(time.time(), abs=60)
