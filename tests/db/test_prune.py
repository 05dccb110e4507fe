"""Pruning by rule: what was chosen is gone, all else is as it was, whoever indexes or dies meanwhile."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from indexer.db import retention, rollups
from indexer.db.connection import Database
from indexer.errors import Refuse, UsageError
from indexer.ingest.retention import Plan, Rules, check, plan, prune, thinned
from indexer.ingest.watch import LEASE_SECONDS, Indexer
from tests.support.crashing import Crash, When, crashing
from tests.support.engines import writer
from tests.support.following import SMALL, Follower, StillClock, empty, index_once, make
from tests.support.following import given as roots_of
from tests.support.program import eventually
from tests.support.records import png, tb_histogram, tb_image, tb_scalar, tb_version
from tests.support.tables import Tables, differences, dump

FIRST, SECOND = "events.out.tfevents.1700000000.x", "events.out.tfevents.1700000001.x"
POINTS = "FROM jobs j JOIN tags t ON t.job_id = j.id JOIN tensor_points p ON p.tag_id = t.id"
DAY = 86_400.0
NOW = 2e9


def scalars(*steps: int, tag: str = "loss", wall_time: float = 1.7e9) -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step / 4, wall_time + step) for step in steps)


def runs(root: Path) -> Path:
    """Write runs of different ages, with payloads and restarts."""
    kinds = tb_image("sample", 1, png(2, 2), 1.7e9) + tb_histogram("spread", 1, (1.0, 2.0), (3.0, 4.0), 1.7e9)
    tree = {
        f"old/{FIRST}": tb_version(1.7e9) + scalars(1, 2, 3) + kinds,
        f"old/{SECOND}": tb_version(1.7e9) + scalars(2, 3) + b"\xff" * 50 + scalars(4),
        f"mid/{FIRST}": tb_version(1.7e9) + scalars(1, 2) + scalars(5, tag="acc") + kinds,
        f"new/{FIRST}": tb_version(1.7e9) + scalars(1) + scalars(1, 2, tag="acc"),
    }
    make(root, tree)
    for name, days in (("old", 100), ("mid", 50), ("new", 1)):
        for file in (root / name).iterdir():
            os.utime(file, (NOW - days * DAY, NOW - days * DAY))
    return root


def do(engine: Engine, rules: Rules, now: float = NOW) -> Plan:
    """Plan and prune."""
    database = writer(engine)
    return prune(database, plan(database.connect(), rules, now), lambda: now)


def ask(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query answers."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def jobs(engine: Engine) -> list[str]:
    """Return all train_ids."""
    return [row[0] for row in ask(engine, "SELECT train_id FROM jobs ORDER BY 1")]


def without(tables: Tables, gone: Callable[[str, tuple[Any, ...]], bool]) -> Tables:
    """Return tables without the rows that `gone` says of by table and key."""
    return {name: {key: row for key, row in rows.items() if not gone(name, key)} for name, rows in tables.items()}


def test_a_dry_run_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    """A plan says what would go, and all of it is still there."""
    index_once(engine, runs(tmp_path / "runs"))
    before = dump(engine)
    found = plan(writer(engine).connect(), Rules(older_than=60 * DAY), NOW)
    assert ["./old"] == [job.train_id for job in found.jobs]
    assert (3, 8) == (found.tag_count, found.points)
    assert found.bytes > 8 * 30
    assert [] == differences(before, dump(engine))


def test_a_job_goes_with_all_its_rows(engine: Engine, tmp_path: Path) -> None:
    """All tables are what they were without that job, no point is left behind, and its files are untouched."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    before = dump(engine)
    done = do(engine, Rules(jobs=("./old",)))
    expected = without(before, lambda _, key: "./old" in key)
    assert [] == differences(expected, dump(engine))
    assert 8 == done.points
    assert [] == ask(engine, "SELECT * FROM loose_tags")
    assert 2 == len(list((root / "old").iterdir()))


def test_a_pruned_job_does_not_come_back(engine: Engine, tmp_path: Path) -> None:
    """Neither the next scan nor a new start loads it, and growing files do not either; others are loaded as ever."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    do(engine, Rules(jobs=("./old", "./mid")))
    follower = Follower(engine, root)
    follower.scan()
    make(root, {f"later/{FIRST}": tb_version(1.7e9) + scalars(1)})
    with (root / "old" / SECOND).open("ab") as file:
        file.write(scalars(5))
    follower.scan()
    assert ["./later", "./new"] == jobs(engine)


def test_a_pruned_job_comes_back_when_it_is_asked_for(engine: Engine, tmp_path: Path) -> None:
    """Its tombstone is taken away: a running indexer loads it as if it were new."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    before = dump(engine)
    follower = Follower(engine, root)
    do(engine, Rules(jobs=("./old",)))
    follower.scan()
    assert "./old" not in jobs(engine)
    with retention.outside(writer(engine)) as (conn, _):
        assert 1 == len(retention.restore(conn, "runs", "./old"))
    follower.clock.time += 6
    follower.scan()
    follower.settle()
    assert [] == differences(before, dump(engine))


def test_jobs_are_chosen_by_all_rules(engine: Engine, tmp_path: Path) -> None:
    """Age, number of runs, gone files and names: each narrows what the others leave."""
    root = runs(tmp_path / "runs")
    other = runs(tmp_path / "other")
    index_once(engine, root, other)
    (root / "mid" / FIRST).unlink()
    index_once(engine, root, other)
    conn = writer(engine).connect()

    def chosen(rules: Rules) -> list[str]:
        return [f"{job.root}:{job.train_id}" for job in plan(conn, rules, NOW).jobs]

    assert sorted(["runs:./old", "other:./old"]) == sorted(chosen(Rules(older_than=60 * DAY)))
    assert sorted(["runs:./old", "other:./old"]) == sorted(chosen(Rules(keep_runs=2)))
    assert ["runs:./mid"] == chosen(Rules(missing=True))
    assert [] == chosen(Rules(missing=True, older_than=60 * DAY))
    assert ["other:./mid"] == chosen(Rules(jobs=("other:./mid", "other:./new"), keep_runs=1))
    with pytest.raises(Refuse, match="several roots"):
        chosen(Rules(jobs=("./old",)))
    with pytest.raises(Refuse, match="no job"):
        chosen(Rules(jobs=("./none",)))
    with pytest.raises(UsageError, match="nothing is chosen"):
        chosen(Rules())
    with pytest.raises(UsageError, match="go together"):
        check(Rules(thin_to=100))


def test_tags_go_by_pattern(engine: Engine, tmp_path: Path) -> None:
    """A tag goes with its points and payloads; the job stays, and what its file gets later is loaded."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root)
    follower.scan()
    before = dump(engine)
    done = do(engine, Rules(tags=("a*", "sam?le")))
    assert ["acc", "acc", "sample", "sample"] == sorted(tag.name for tag in done.tags)
    after = dump(engine)
    expected = without(
        before, lambda name, key: name not in {"jobs", "disk_jobs"} and bool({"acc", "sample"} & set(key))
    )
    expected["jobs"] = after["jobs"]
    assert [] == differences(expected, after)
    assert ask(engine, "SELECT id, point_count FROM jobs ORDER BY id") == ask(
        engine, "SELECT job_id, sum(point_count) FROM tags GROUP BY job_id ORDER BY job_id"
    )
    follower.scan()
    assert [] == differences(expected, dump(engine))
    with (root / "new" / FIRST).open("ab") as file:
        file.write(scalars(7, tag="acc"))
    follower.scan()
    follower.settle()
    assert [(7, 0)] == ask(
        engine, "SELECT p.step, p.seq FROM tensor_points p JOIN tags t ON t.id = p.tag_id WHERE t.name = 'acc'"
    )


def test_a_job_that_changed_since_the_plan_stays(engine: Engine, tmp_path: Path) -> None:
    """Training goes on between looking and dropping: the job is no longer what the rule chose."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    database = writer(engine)
    found = plan(database.connect(), Rules(older_than=60 * DAY), NOW)
    with (root / "old" / SECOND).open("ab") as file:
        file.write(scalars(5))
    os.utime(root / "old" / SECOND, (NOW, NOW))
    index_once(engine, root)
    told: list[str] = []
    done = prune(database, found, lambda: NOW, told.append)
    assert [] == done.jobs
    assert ["runs:./old changed meanwhile, and stays"] == told
    assert "./old" in jobs(engine)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_prune_that_dies_is_taken_up(engine: Engine, tmp_path: Path, when: When) -> None:
    """It dies at any of its commits: an indexer meets whole jobs or none, and a second prune ends where one would."""
    root = runs(tmp_path / "runs")
    rules = Rules(keep_runs=1)
    index_once(engine, root)
    with crashing() as reached:
        do(engine, rules)
    expected = dump(engine)
    assert len(reached) >= 4
    for fatal in range(len(reached)):
        empty(engine)
        index_once(engine, root)
        whole = dict(ask(engine, "SELECT train_id, point_count FROM jobs"))
        with crashing(fatal, when), pytest.raises(Crash):
            do(engine, rules)
        assert all(whole[job] == count for job, count in ask(engine, f"SELECT train_id, count(*) {POINTS} GROUP BY 1"))
        index_once(engine, root)
        do(engine, rules)
        assert (fatal, []) == (fatal, differences(expected, dump(engine)))
        assert [] == ask(engine, "SELECT * FROM loose_tags")


def test_an_indexer_sweeps_what_a_dead_prune_left(engine: Engine, tmp_path: Path) -> None:
    """Points whose job is gone already are deleted by whoever indexes next."""
    root = runs(tmp_path / "runs")
    index_once(engine, root)
    with retention.outside(writer(engine)) as (conn, _):
        retention.drop_job(conn, retention.named(conn, "./old")[0].id, NOW - 1)
    assert ask(engine, "SELECT 1 FROM tensor_points WHERE tag_id NOT IN (SELECT id FROM tags)")
    follower = Follower(engine, root)
    follower.scan()
    dump(engine)  # says so where a point is left
    assert [] == ask(engine, "SELECT * FROM loose_tags")


def test_new_tags_get_ids_that_no_old_point_has(engine: Engine, tmp_path: Path) -> None:
    """The newest tags are gone and their points not yet: what is loaded meanwhile is not swept with them."""
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars(1, 2)})
    follower = Follower(engine, root)
    follower.scan()
    with retention.outside(writer(engine)) as (conn, _):
        retention.drop_job(conn, retention.named(conn, "./a")[0].id, 1e12)  # not swept before long
    make(root, {f"b/{FIRST}": tb_version(1.7e9) + scalars(1, 2, 3)})
    follower.scan()
    follower.settle()
    do(engine, Rules(jobs=("./b",)), now=2e12)
    assert [] == ask(engine, "SELECT * FROM tensor_points")
    make(root, {f"c/{FIRST}": tb_version(1.7e9) + scalars(1, 2, 3)})
    follower.scan()
    follower.settle()
    assert [("./c", 3)] == ask(engine, "SELECT train_id, point_count FROM jobs")
    dump(engine)


def test_a_large_series_is_swept_in_parts(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction deletes more than so many rows; nothing is left in the end."""
    monkeypatch.setattr(retention, "SWEEP_ROWS", 10)
    monkeypatch.setattr(retention, "_SWEEP_PAYLOADS", 3)
    kinds = b"".join(tb_image("sample", step, png(1, 1), 1.7e9) for step in range(12))
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + scalars(*range(35), 1, 2) + kinds})
    index_once(engine, root)
    database = writer(engine)
    with retention.outside(database) as (conn, _):
        retention.drop_job(conn, 1, NOW)
    counts = []
    while retention.sweep(database, NOW):
        counts.append(ask(engine, "SELECT count(*) FROM tensor_points")[0][0])
    assert all(before - after <= 22 for before, after in zip([49, *counts], counts, strict=False))
    assert len(counts) >= 4
    assert 0 == counts[-1]
    assert [] == ask(engine, "SELECT * FROM blobs")


def test_prune_beside_an_indexer_that_loads(engine: Engine, url: str, tmp_path: Path) -> None:
    """Jobs go while a real indexer loads them and files grow: in the end each job is wholly there or wholly gone."""
    root = tmp_path / "runs"
    names = [f"job{i}" for i in range(12)]
    for name in names:
        make(root, {f"{name}/{FIRST}": tb_version(1.7e9) + scalars(*range(300)) + scalars(*range(100), tag="acc")})
    config = replace(SMALL, batch_points=150, roots=roots_of([root]), reconcile=0.2)
    database = Database(url)
    stop = threading.Event()
    failed: list[BaseException] = []

    def index() -> None:
        try:
            Indexer(config, database).run(stop)
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=index)
    thread.start()
    try:
        other = Database(url)
        for i, name in enumerate(names[::2]):
            eventually(lambda name=name: ask(engine, f"SELECT 1 FROM jobs WHERE train_id = './{name}'"))  # type: ignore[misc]
            rules = Rules(jobs=(f"./{name}",), tags=("acc",) if i % 3 == 2 else ())
            retention.patiently(lambda rules=rules: prune(other, plan(other.connect(), rules, NOW), lambda: NOW))  # type: ignore[misc]
            with (root / names[2 * i + 1] / FIRST).open("ab") as file:
                file.write(scalars(300 + i))
        other.dispose()
        whole = {f"./{name}": 401 for name in names[1::2]} | {
            f"./{name}": None for i, name in enumerate(names[::2]) if i % 3 == 2
        }
        eventually(
            lambda: (
                set(whole) == set(jobs(engine))
                and all(
                    row == "CACHED" and whole[job] in {None, count}
                    for job, row, count in ask(engine, "SELECT train_id, cache_status, point_count FROM jobs")
                )
            )
        )
    finally:
        stop.set()
        thread.join()
        database.dispose()
    assert [] == failed
    for name in names[1::2]:
        assert 301 == len(ask(engine, f"SELECT DISTINCT step {POINTS} WHERE train_id = './{name}' AND t.name = 'loss'"))
    do(engine, Rules(jobs=(f"./{names[1]}",)))
    dump(engine)


def test_an_idle_indexer_notices(engine: Engine, tmp_path: Path) -> None:
    """Without any change on disk it has forgotten a pruned job after its next heartbeat."""
    root = runs(tmp_path / "runs")
    follower = Follower(engine, root)
    follower.scan()
    do(engine, Rules(jobs=("./old",)))
    assert 3 == len(follower.indexer.jobs)
    follower.clock.time += 6
    follower.settle()
    follower.settle()
    assert 2 == len(follower.indexer.jobs)


# Thinning


def long_run(root: Path, count: int, *, young: int = 0, again: int = 0) -> Path:
    """Write a job with one long noisy series, some of it young, and a restart at step `again`."""
    rng = np.random.default_rng(7)
    values = rng.normal(size=count) + np.linspace(5, 0, count)
    records = [tb_version(1.7e9)]
    for step in range(count):
        value = math.nan if step == 77 else math.inf if step == 99 else float(values[step])
        records.append(tb_scalar("loss", step, value, 1.7e9 + step / 1000))
    tree = {f"a/{FIRST}": b"".join(records)}
    if again:
        more = [tb_scalar("loss", step, 10.0 + step % 7, 1.7e9 + 100 + step / 1000) for step in range(again, count)]
        fresh = [tb_scalar("loss", count + i, 0.5, NOW - 10 + i / 1000) for i in range(young)]
        tree[f"a/{SECOND}"] = b"".join([tb_version(1.7e9), *more, *fresh])
    return make(root, tree)


THIN = Rules(thin_older_than=30 * DAY, thin_to=200)
STATISTICS = (
    "SELECT first_step, last_step, min_step, max_step, first_wall_time, last_wall_time, max_wall_time, last_value, "
    "min_value, max_value, nan_count, pos_inf_count, neg_inf_count, seq, segments FROM tags"
)


def computed(engine: Engine) -> tuple[Any, ...]:
    """Return what the table of points itself says of its one tag."""
    points = ask(engine, "SELECT step, seq, wall_time, value FROM tensor_points ORDER BY seq, step")
    finite = [p[3] for p in points if p[3] is not None and math.isfinite(p[3])]
    first, last = points[0], points[-1]
    steps = [p[0] for p in points]
    return (
        *(first[0], last[0], min(steps), max(steps), first[2], last[2], max(p[2] for p in points), last[3]),
        *(min(finite), max(finite), sum(p[3] is None for p in points), sum(p[3] == math.inf for p in points)),
        *(0, max(p[1] for p in points)),
    )


def test_thinning_keeps_the_shape(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long series with a restart about as many old points stay as asked for; all that counts them fits."""
    monkeypatch.setattr("indexer.ingest.retention._PAGE_POINTS", 3_000)
    monkeypatch.setattr(rollups, "LONG", 256)
    root = long_run(tmp_path / "runs", 12_000, young=300, again=8_000)
    index_once(engine, root)
    before = ask(engine, STATISTICS)
    young = ask(engine, f"SELECT step, seq FROM tensor_points WHERE wall_time > {NOW - 100} ORDER BY 1, 2")
    assert 300 == len(young)
    database = writer(engine)
    planned = plan(database.connect(), THIN, NOW)
    done = do(engine, THIN)
    assert planned.points == done.points == done.thinned[0].points
    ((stored,),) = ask(engine, "SELECT count(*) FROM tensor_points")
    assert 16_300 - done.points == stored
    assert 350 <= stored <= 900
    assert before == ask(engine, STATISTICS)
    assert computed(engine) == before[0][:14]
    assert [(stored, stored)] == ask(
        engine, "SELECT t.point_count, j.point_count FROM tags t JOIN jobs j ON j.id = t.job_id"
    )
    assert stored == ask(engine, "SELECT sum(count) FROM tag_segments")[0][0]
    assert young == ask(engine, f"SELECT step, seq FROM tensor_points WHERE wall_time > {NOW - 100} ORDER BY 1, 2")
    assert {(77, None), (99, math.inf)} <= set(ask(engine, "SELECT step, value FROM tensor_points WHERE seq = 0"))
    assert [(7_999,)] == ask(engine, "SELECT max(step) FROM tensor_points WHERE seq = 0 AND step < 8000")
    now = dump(engine)
    with database.begin() as conn:
        rollups.rebuild(conn, 1)
    assert [] == differences(now, dump(engine))
    assert now["point_rollups"]
    assert 0 == do(engine, THIN).points, "what was thinned stays as it is"


def test_a_thinned_series_grows_on(engine: Engine, tmp_path: Path) -> None:
    """An indexer that remembers the series from before goes on behind it: numbers and counts fit."""
    root = long_run(tmp_path / "runs", 3_000)
    follower = Follower(engine, root)
    follower.scan()
    with (root / "a" / FIRST).open("ab") as file:
        file.write(scalars(3_000))
    follower.scan()
    do(engine, THIN)
    with (root / "a" / FIRST).open("ab") as file:
        file.write(scalars(3_001, 3_001, 2_000))
    follower.scan()
    follower.settle()
    ((stored,),) = ask(engine, "SELECT count(*) FROM tensor_points")
    assert [(stored, 2, 2_000)] == ask(engine, "SELECT point_count, seq, last_step FROM tags")
    assert [(stored,)] == ask(engine, "SELECT point_count FROM jobs")
    assert [(3_001, 0), (3_001, 1), (2_000, 2)] == ask(
        engine, "SELECT step, seq FROM tensor_points WHERE seq > 0 OR step = 3001 ORDER BY seq, step"
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_thinning_that_dies_leaves_whole_tables(
    engine: Engine, tmp_path: Path, when: When, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its commits counts, segments and rollups are those of the points that are stored."""
    monkeypatch.setattr("indexer.ingest.retention._PAGE_POINTS", 1_000)
    monkeypatch.setattr(rollups, "LONG", 256)
    index_once(engine, long_run(tmp_path / "runs", 4_000))
    fatal = 0
    while True:
        try:
            with crashing(fatal, when):
                do(engine, THIN)
            break
        except Crash:
            fatal = 1
        now = dump(engine)
        with writer(engine).begin() as conn:
            rollups.rebuild(conn, 1)
        assert [] == differences(now, dump(engine))
        assert ask(engine, "SELECT count(*) FROM tensor_points") == ask(engine, "SELECT point_count FROM tags")
    assert ask(engine, "SELECT count(*) FROM tensor_points")[0][0] <= 500


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(-1e300, 1e300)), max_size=60).map(
        lambda points: sorted(points, key=lambda p: p[0])
    ),
    st.integers(1, 9),
)
def test_thinned_keeps_extremes(points: list[tuple[int, float]], width: int) -> None:
    """Of each bucket of a seq the smallest and the largest value stay, and nothing else."""
    seq, value = np.array([p[0] for p in points], np.int64), np.array([p[1] for p in points], np.float64)
    kept = set(thinned(seq, value, width).tolist())
    expected = 0
    for number in sorted(set(seq.tolist())):
        places = np.flatnonzero(seq == number).tolist()
        for start in range(0, len(places), width):
            bucket = places[start : start + width]
            values = [value[i] for i in bucket]
            stay = kept & set(bucket)
            assert {min(values), max(values)} == {value[i] for i in stay}
            assert len(stay) <= 2
            expected += len(stay)
    assert expected == len(kept)


def test_leases_do_not_hold_up_a_prune(engine: Engine, tmp_path: Path) -> None:
    """A job that an indexer holds is pruned all the same; the indexer forgets it, whatever it was about to write."""
    root = runs(tmp_path / "runs")
    clock = StillClock()
    follower = Follower(engine, root, clock=clock)
    follower.scan()
    with (root / "old" / SECOND).open("ab") as file:
        file.write(scalars(5))
    follower.scan()  # holds the lease now
    do(engine, Rules(jobs=("./old",)))
    with (root / "old" / SECOND).open("ab") as file:
        file.write(scalars(6))
    clock.time += LEASE_SECONDS / 2
    follower.scan()
    follower.settle()
    assert ["./mid", "./new"] == jobs(engine)
    dump(engine)
