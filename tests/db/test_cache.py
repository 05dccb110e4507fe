"""`max_cached_jobs`: so many jobs stay loaded, those looked at or written last; others come when asked for."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db.retention import GRACE_SECONDS
from indexer.ingest.cache import LOOK_SECONDS
from tests.support.crashing import Crash, When, crashing
from tests.support.explaining import inference, metadata, sample
from tests.support.following import SMALL, Follower, StillClock, empty, index_once, make
from tests.support.records import hparams_start, ms_train, png, tb_hparams, tb_image, tb_scalar, tb_version
from tests.support.tables import Tables, differences, dump

FIRST, SECOND = "events.out.tfevents.1700000000.x", "events.out.tfevents.1700000001.x"
EXPLAIN = "events.out.events.summary.1700000000.0.x_explain"
LINEAGE = "events.out.events.summary.1700000000.0.x_lineage"
NOW = 2e9
TWO = replace(SMALL, max_cached_jobs=2)


def scalars(*steps: int) -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar("loss", step, step / 4, 1.7e9 + step) for step in steps)


def aged(path: Path, seconds: float) -> None:
    """Say that files were written so long ago."""
    for file in path.iterdir():
        os.utime(file, (NOW - seconds, NOW - seconds))


def runs(root: Path) -> Path:
    """Write runs a (oldest) to e (newest), with everything that a job may have."""
    for place, name in enumerate("abcde"):
        said = tb_hparams("session_start_info", hparams_start({"lr": 0.5})) + tb_image("s", 1, png(2, 2), 1.7e9)
        explained = metadata(["cat"], ["G"], ["F"]) + sample(1, "1.png", [0]) + inference(1, [0], [0.5], [0.5])
        tree = {FIRST: tb_version(1.7e9) + scalars(1, 2, 2, place + 3) + said + b"\xff" * 40 + scalars(9)}
        make(root / name, tree | {EXPLAIN: explained, LINEAGE: ms_train(0.5)})
        aged(root / name, 10_000 - 1_000 * place)
    return root


def states(engine: Engine) -> dict[str, str]:
    """Return what jobs are, by the last letter of their names; `evicted` where they are left out."""
    query = "SELECT train_id, cache_status, evicted_at IS NOT NULL FROM jobs ORDER BY 1"
    with engine.connect() as conn:
        return {row[0][-1]: "evicted" if row[2] else row[1] for row in conn.execute(text(query))}


def count(engine: Engine, query: str) -> Any:
    """Return the only value of a query."""
    with engine.connect() as conn:
        return conn.execute(text(query)).scalar_one()


def loaded(engine: Engine) -> str:
    """Return which jobs are loaded."""
    return "".join(name for name, state in states(engine).items() if state == "CACHED")


def look(follower: Follower, engine: Engine, *names: str) -> None:
    """Look at jobs, as the web says it."""
    with engine.connect() as conn:
        ids = [conn.execute(text("SELECT id FROM jobs WHERE train_id = :t"), {"t": f"./{n}"}).scalar() for n in names]
    follower.indexer.request({"ask": "access", "jobs": ids})
    follower.settle()


def of(tables: Tables, names: str) -> Tables:
    """Return the rows of some jobs."""
    wanted = {f"./{name}" for name in names}
    return {table: {k: v for k, v in rows.items() if wanted & set(k)} for table, rows in tables.items()}


def test_only_the_newest_are_loaded(engine: Engine, tmp_path: Path) -> None:
    """The first load reads so many jobs and no file of the others; neither a scan nor a restart changes that."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    expected = of(dump(engine), "de")
    empty(engine)
    follower = Follower(engine, root, config=TWO)
    follower.scan()
    assert {"a": "evicted", "b": "evicted", "c": "evicted", "d": "CACHED", "e": "CACHED"} == states(engine)
    assert 2 == follower.files.opened[FIRST]
    assert [] == differences(expected, of(dump(engine), "de"))
    follower.scan()
    follower.leave()
    again = Follower(engine, root, config=TWO)
    again.scan()
    assert "de" == loaded(engine)
    assert 0 == sum(again.files.opened.values())


def test_a_look_loads_a_job_and_pushes_out_the_one_looked_at_longest_ago(engine: Engine, tmp_path: Path) -> None:
    """What is asked for is loaded as it would have been; of the rest the least recently used goes."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    expected = dump(engine)
    empty(engine)
    follower = Follower(engine, root, config=TWO)
    follower.scan()
    look(follower, engine, "a")
    assert "ae" == loaded(engine)
    assert [] == differences(of(expected, "ae"), of(dump(engine), "ae"))
    follower.clock.time += 1
    look(follower, engine, "b")
    assert "ab" == loaded(engine)
    follower.clock.time += 1
    look(follower, engine, "a")
    follower.clock.time += 1
    look(follower, engine, "c")
    assert "ac" == loaded(engine)
    follower.clock.time += GRACE_SECONDS + 1
    follower.scan()
    assert 0 == count(engine, "SELECT count(*) FROM loose_tags")
    tables = dump(engine)  # says so where a point is left
    assert [] == differences(of(expected, "ac"), of(tables, "ac"))
    assert {"jobs", "shards", "disk_jobs", "disk_shards"} == {
        table for table, rows in of(tables, "bde").items() if rows
    }


def test_without_a_limit_all_come_back(engine: Engine, tmp_path: Path) -> None:
    """A start without it, or with a larger one, loads what was left out; the tables are those of a plain load."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    expected = dump(engine)
    empty(engine)
    index_once(engine, root, config=TWO)
    assert "de" == loaded(engine)
    index_once(engine, root, config=replace(SMALL, max_cached_jobs=4))
    assert "bcde" == loaded(engine)
    index_once(engine, root)
    assert [] == differences(expected, dump(engine))


def test_a_limit_evicts_what_was_loaded_without(engine: Engine, tmp_path: Path) -> None:
    """The rows of the oldest go; they may come back as they were."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    expected = dump(engine)
    index_once(engine, root, config=TWO)
    assert "de" == loaded(engine)
    index_once(engine, root)
    clock = StillClock(NOW + 1_000)
    follower = Follower(engine, root, clock=clock)
    follower.scan()
    assert [] == differences(expected, dump(engine))


@pytest.mark.parametrize("how", ["all", "one"])
def test_a_job_whose_files_are_gone_stays(engine: Engine, tmp_path: Path, how: str) -> None:
    """It could not be loaded again: it is neither evicted nor counted."""
    root = runs(tmp_path / "runs")
    make(root, {f"a/{SECOND}": tb_version(1.7e9) + scalars(10)})
    aged(root / "a", 10_000)
    index_once(engine, root)
    before = of(dump(engine), "a")
    for file in [root / "a" / SECOND] if how == "one" else list((root / "a").iterdir()):
        file.unlink()
    follower = Follower(engine, root, config=TWO)
    follower.scan()
    assert "ade" == loaded(engine)
    points = ("tensor_points", "tags", "blobs", "lineage", "explain_records")
    after = of(dump(engine), "a")
    assert [] == differences({t: before[t] for t in points}, {t: after[t] for t in points})


def test_files_that_grow_in_turns_do_not_push_each_other_out(engine: Engine, tmp_path: Path) -> None:
    """Three trainings write and two may stay: the third is not loaded again and again."""
    root = runs(tmp_path / "runs")
    for name in "de":
        aged(root / name, 5)
    follower = Follower(engine, root, config=TWO, clock=StillClock(NOW))
    follower.scan()
    opened = follower.files.opened.total()
    for round_ in range(6):
        for name in "cde":
            with (root / name / FIRST).open("ab") as file:
                file.write(scalars(20 + round_))
            os.utime(root / name / FIRST, (NOW + 3 * round_, NOW + 3 * round_))
            follower.clock.time = NOW + 3 * round_ + 1
            follower.scan()
    assert "de" == loaded(engine)
    assert opened + 12 == follower.files.opened.total()
    look(follower, engine, "c")
    assert "c" in loaded(engine)


def test_a_job_written_long_after_the_others_comes_in(engine: Engine, tmp_path: Path) -> None:
    """A training that goes on is newer than what was loaded: it takes the place of the oldest."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=TWO, clock=StillClock(NOW))
    follower.scan()
    with (root / "a" / FIRST).open("ab") as file:
        file.write(scalars(20))
    os.utime(root / "a" / FIRST, (NOW, NOW))
    follower.scan()
    assert "ae" == loaded(engine)
    assert NOW == count(engine, "SELECT update_time FROM jobs WHERE train_id = './a'")


def test_an_old_look_counts_no_more(engine: Engine, tmp_path: Path) -> None:
    """Who was looked at once is pushed out by what is written later."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root, config=TWO, clock=StillClock(NOW))
    follower.scan()
    look(follower, engine, "a")
    later = NOW + LOOK_SECONDS + 100
    for name in "bc":
        with (root / name / FIRST).open("ab") as file:
            file.write(scalars(20))
        os.utime(root / name / FIRST, (later, later))
    follower.clock.time = later
    follower.scan()
    assert "bc" == loaded(engine)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_while_jobs_go_and_come_leaves_no_trace(engine: Engine, tmp_path: Path, when: When) -> None:
    """Whichever commit the indexer dies at: the next one has the same jobs loaded, with the rows they should have."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    expected = dump(engine)
    step = 1 if engine.dialect.name == "sqlite" else 3

    def story(clock: StillClock) -> Follower:
        follower = Follower(engine, root, config=TWO, clock=clock)
        look(follower, engine, "a")
        clock.time += GRACE_SECONDS + 1
        follower.scan()
        return follower

    def begin() -> None:
        empty(engine)
        index_once(engine, root)

    begin()
    with crashing() as reached:
        story(StillClock())
    for fatal in range(0, len(reached), step):
        begin()
        clock = StillClock()
        with crashing(fatal, when), pytest.raises(Crash):
            story(clock)
        clock.time += 100
        story(clock)
        assert (fatal, "ae") == (fatal, loaded(engine))
        assert (fatal, []) == (fatal, differences(of(expected, "ae"), of(dump(engine), "ae")))


def test_two_indexers_agree(engine: Engine, tmp_path: Path) -> None:
    """On PostgreSQL both keep the same jobs; what one has loaded because somebody looked, the other does not evict."""
    if engine.dialect.name == "sqlite":
        pytest.skip("one indexer writes to SQLite")
    root = runs(tmp_path / "runs")
    clock = StillClock()
    one, other = (Follower(engine, root, config=TWO, clock=clock) for _ in range(2))
    for follower in (one, other, one):
        follower.scan()
    assert "de" == loaded(engine)
    look(one, engine, "a")
    for follower in (other, one, other):
        follower.scan()
    assert "ae" == loaded(engine)


def test_every_reading_of_a_series_is_a_look(engine: Engine, tmp_path: Path) -> None:
    """Each list and curve of a job tells the indexer, also where the job is evicted and has nothing to show."""
    from indexer.config import Config
    from webapi.app import create_app

    root = runs(tmp_path / "runs")
    index_once(engine, root, config=TWO)
    with engine.connect() as conn:
        job, other = (conn.execute(text(f"SELECT id FROM jobs WHERE train_id = './{n}'")).scalar() for n in "ae")
        tags: dict[str, Any] = dict(conn.execute(text(f"SELECT name, id FROM tags WHERE job_id = {other}")).all())
    asked: list[dict[str, object]] = []
    client = create_app(Config(), engine, ask=asked.append).test_client()
    for path in (
        "/jobs/{}",
        "/jobs/{}/tags",
        "/jobs/{}/files",
        "/series?job={}",
        "/series?job={}&tag=loss",
        "/points?job={}",
        "/points?job={}&tag=loss",
        "/images?job={}",
        "/images?job={}&tag=s",
        "/lineage?job={}",
        "/hparams?job={}",
        "/explain?job={}",
    ):
        asked.clear()
        answer = client.get(f"/api/v1{path.format(job)}")
        assert answer.status_code in {200, 404}, path
        assert [{"ask": "access", "jobs": [job]}] == asked, path
    for path in (f"/blobs/{tags['s']}/1/0/0", f"/series?job={other}"):
        asked.clear()
        answer = client.get(f"/api/v1{path}")
        assert 200 == answer.status_code
        known = client.get(f"/api/v1{path}", headers={"If-None-Match": answer.headers["ETag"]})
        assert 304 == known.status_code
        assert 2 * [{"ask": "access", "jobs": [other]}] == asked
