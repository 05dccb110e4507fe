"""`db copy`: a database moves between the two kinds, whole, compared, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Engine, text

from indexer.db import copy, migrate, retention, shadow, snapshot
from indexer.db.connection import Connection
from indexer.db.dialect import sqlite_file
from indexer.db.engine import open_engine
from indexer.db.rows import SHAPES, Shape, Tally
from indexer.errors import Refuse, Wait
from indexer.ingest.retention import Rules, plan, prune
from indexer.ingest.watch import LEASE_SECONDS
from summarydb import copying
from tests.conftest import DATA, migrate_empty
from tests.support.crashing import Crash, crashing
from tests.support.engines import transaction, writer
from tests.support.following import SMALL, Follower, StillClock, index_once, make
from tests.support.postgres import PostgresServer
from tests.support.records import tb_scalar, tb_version
from tests.support.tables import differences, dump
from tests.support.verifying import compare


def silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address to copy to: a file that is not there, or a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'copy.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made = server.create()
    yield made
    server.drop(made)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Runs with whatever tables can hold: images, lineage, explain files, restarts, numbers that are none, a damage."""
    root = tmp_path / "runs"
    for kind in ("mindspore", "tensorboard"):
        for path in (DATA / kind).iterdir():
            if path.name in {"explain-hoc", "lineage-only", "non-finite", "hist-old", "preempt", "graph", "hparams"}:
                (root / kind).mkdir(parents=True, exist_ok=True)
                (root / kind / path.name).symlink_to(path)
    scalars = b"".join(tb_scalar("loss", step, -0.0, 1.7e9 + step) for step in (1, 2, 3, 2, 3))
    make(root, {"torn/events.out.tfevents.1700000000.x": tb_version(1.7e9) + scalars + b"\x00" * 40})
    return root


def loaded(engine: Engine, runs: Path) -> None:
    """Index the runs, links and all."""
    index_once(engine, runs, config=replace(SMALL, follow_symlinks=True))


def test_every_row_arrives(engine: Engine, url: str, target: str, runs: Path) -> None:
    """Whatever the two databases are, the copy has the rows of the source, with their ids, and says how many."""
    loaded(engine, runs)
    facts = copying.copy_database(url, target, show=silent, stop=Event())
    made = open_engine(target)
    assert [] == differences(plain(engine), plain(made))
    with engine.connect() as one, made.connect() as other:
        for shape in SHAPES:
            count = text(f"SELECT count(*) FROM {shape.name}")
            assert one.execute(count).scalar() == other.execute(count).scalar()
        ids = text("SELECT id, job_id, name FROM tags ORDER BY id")
        assert one.execute(ids).all() == other.execute(ids).all()
        state = text("SELECT * FROM index_state")
        assert one.execute(state).one() == other.execute(state).one()
    filled = {table["table"] for table in facts["tables"] if table["rows"]}
    assert {"tensor_points", "blobs", "lineage", "explain_records", "restarts", "graph_chunks", "hparams"} <= filled
    migrate.require(made)
    made.dispose()


def plain(engine: Engine) -> dict[str, dict[tuple[object, ...], tuple[object, ...]]]:
    """Return all rows, zeros without a sign: SQLite keeps none."""
    tables = dump(engine)
    return {
        name: {key: tuple(v + 0.0 if isinstance(v, float) else v for v in row) for key, row in rows.items()}
        for name, rows in tables.items()
    }


def test_indexing_goes_on_in_the_copy(engine: Engine, url: str, target: str, tmp_path: Path) -> None:
    """New rows get new ids there, and what was loaded is not loaded again."""
    name = "a/events.out.tfevents.1700000000.x"
    root = make(tmp_path / "runs", {name: tb_version(1.7e9) + tb_scalar("loss", 1, 0.5, 1.7e9)})
    index_once(engine, root)
    copying.copy_database(url, target, show=silent, stop=Event())
    more = {"b/events.out.tfevents.1700000001.x": tb_version(1.7e9) + tb_scalar("other", 1, 0.5, 1.7e9)}
    make(root, more)
    with (root / name).open("ab") as file:
        file.write(tb_scalar("loss", 2, 0.25, 1.7e9))
    made = open_engine(target)
    index_once(engine, root)
    index_once(made, root)
    assert [] == differences(dump(engine), dump(made))
    made.dispose()


def test_a_database_that_holds_rows_is_left_alone(engine: Engine, url: str, target: str, runs: Path) -> None:
    """Copying twice into one database is refused, in words, and changes nothing."""
    loaded(engine, runs)
    copying.copy_database(url, target, show=silent, stop=Event())
    made = open_engine(target)
    before = dump(made)
    with pytest.raises(Refuse, match="holds rows already"):
        copying.copy_database(url, target, show=silent, stop=Event())
    assert [] == differences(before, dump(made))
    made.dispose()


def test_an_empty_schema_may_be_copied_into(engine: Engine, url: str, target: str, runs: Path) -> None:
    """`db upgrade` before the copy does no harm."""
    loaded(engine, runs)
    migrate_empty(target)
    copying.copy_database(url, target, show=silent, stop=Event())
    made = open_engine(target)
    assert [] == differences(plain(engine), plain(made))
    made.dispose()


@pytest.mark.parametrize("when", ["tensor_points", "second half"])
def test_a_copy_that_is_cut_leaves_nothing(
    engine: Engine, url: str, target: str, runs: Path, tmp_path: Path, when: str
) -> None:
    """Asked to end half-way, or while it compares, the target is as it was, and the copy can be made again."""
    loaded(engine, runs)
    stop = Event()

    def show(what: str, done: int, total: int) -> None:
        if what == when or (when == "second half" and done > total / 2):
            stop.set()

    with pytest.raises(Wait, match="run it again"):
        copying.copy_database(url, target, show=show, stop=stop)
    file = sqlite_file(target)
    if file is None:
        made = open_engine(target)
        assert migrate.current(made) is None
        made.dispose()
    else:
        assert not Path(file).exists()
        assert [] == list(tmp_path.glob("*.part*"))
    assert copying.copy_database(url, target, show=silent, stop=Event())["rows"] > 0


def test_rows_that_arrive_otherwise_are_noticed(
    engine: Engine, url: str, target: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit that is lost on the way makes the copy fail, table named, and nothing is kept."""
    loaded(engine, runs)
    write = copy._write

    def damage(conn: Connection, shape: Shape, rows: Iterator[tuple[object, ...]]) -> None:
        write(conn, shape, rows)
        if shape.name == "tensor_points":
            one = "SELECT max(value) FROM tensor_points"
            conn.execute(f"UPDATE tensor_points SET value = 0.5000001 WHERE value = ({one})")

    monkeypatch.setattr(copy, "_write", damage)
    with pytest.raises(Refuse, match="tensor_points was not copied as it is"):
        copying.copy_database(url, target, show=silent, stop=Event())
    file = sqlite_file(target)
    assert file is None or not Path(file).exists()


def test_the_copy_is_of_one_moment(engine: Engine, url: str, target: str, tmp_path: Path) -> None:
    """What is indexed while the copy runs is not in it: neither a point without its statistics nor the reverse."""
    name = "a/events.out.tfevents.1700000000.x"
    root = make(tmp_path / "runs", {name: tb_version(1.7e9) + tb_scalar("loss", 1, 0.5, 1.7e9)})
    index_once(engine, root)
    before = dump(engine)
    written = Event()

    def show(what: str, _done: int, _total: int) -> None:
        if what == "tags" and not written.is_set():
            with (root / name).open("ab") as file:
                file.write(tb_scalar("loss", 2, 0.25, 1.7e9))
            index_once(engine, root)
            written.set()

    copying.copy_database(url, target, show=show, stop=Event())
    assert written.is_set()
    assert before["tensor_points"] != dump(engine)["tensor_points"]
    made = open_engine(target)
    assert [] == differences(before, dump(made))
    made.dispose()


def test_an_older_schema_is_refused(engine: Engine, url: str, target: str) -> None:
    """The source is migrated first, by whoever decides that."""
    with transaction(engine) as conn:
        conn.execute(text("UPDATE summarydb_version SET version_num = '0001'"))
    with pytest.raises(Refuse, match="db upgrade"):
        copying.copy_database(url, target, show=silent, stop=Event())


def test_sums_are_of_rows_in_any_order() -> None:
    """Two databases sort rows differently; that must not look like a difference, but a row twice must."""
    rows = [(1, "a", None), (2, "b", 0.5), (2, "c", 0.25)]
    one, other, twice = Tally(), Tally(), Tally()
    for row in rows:
        one.add(row)
    for row in reversed(rows):
        other.add(row)
    for row in [rows[0], rows[0], rows[2]]:
        twice.add(row)
    assert (one.rows, one.checksum) == (other.rows, other.checksum)
    assert one.checksum != twice.checksum


@pytest.fixture
def halfway(engine: Engine, tmp_path: Path) -> Path:
    """Runs, and a database in the midst of everything: points are loose, aside and pruned, a wish waits, a job went."""
    names = [f"events.out.tfevents.170000000{i}.x" for i in range(3)]
    tree = {f"{job}/{name}": run(i, range(30)) for job in ("a", "b", "d") for i, name in enumerate(names)}
    root = make(tmp_path / "halfway", tree)
    config = replace(SMALL, batch_points=5, slice_bytes=4096)
    index_once(engine, root, config=config)
    make(root, {f"c/{names[0]}": run(8, range(3))})  # its tag has the largest id
    index_once(engine, root, config=config)
    other = writer(engine)
    prune(other, plan(other.connect(), Rules(("./d",)), 2e9), lambda: 2e9)
    (root / "a" / names[2]).unlink()
    (root / "a" / names[0]).write_bytes(run(7, range(30, 70)))
    for fatal in count():
        clock = StillClock(2e9 + fatal * (LEASE_SECONDS + 1))
        with pytest.raises(Crash), crashing(fatal, "after"):
            Follower(engine, root, config=config, clock=clock).scan()
        with transaction(engine) as conn:
            if conn.execute(text("SELECT count(*) FROM kept_segments")).scalar_one():
                break
    with retention.outside(other) as (conn, _):
        (job,) = retention.named(conn, "./b")
        shadow.ask(conn, job.id, None, 2e9)
        (last,) = retention.named(conn, "./c")
        retention.drop_tags(conn, last.id, [tag.id for tag in retention.tags(conn, [last.id])], 9e9, 1)
    return root


def run(number: int, steps: Iterable[int]) -> bytes:
    """Return an event file."""
    return tb_version(1.7e9 + number) + b"".join(tb_scalar("loss", step, step / 4 + number, 1.7e9) for step in steps)


@pytest.mark.parametrize("how", ["copy", "snapshot"])
def test_all_that_waits_goes_on_in_the_copy(
    engine: Engine, url: str, target: str, halfway: Path, tmp_path: Path, how: str
) -> None:
    """An indexer of the copy ends what that of the source began; ids of points that are gone are not given out."""
    if how == "snapshot":
        if not target.startswith("sqlite"):
            pytest.skip("a snapshot is a SQLite file")
        target = f"sqlite:///{tmp_path / 'snapshot.db'}"
        snapshot.write(url, tmp_path / "snapshot.db", silent)
    else:
        copying.copy_database(url, target, show=silent, stop=Event())
    assert [] == compare(target)[1]
    made = open_engine(target)
    with made.connect() as conn:
        loose = conn.execute(text("SELECT max(tag_id) FROM loose_tags")).scalar_one()
        assert loose > conn.execute(text("SELECT max(id) FROM tags")).scalar_one()
        ((removed, noted),) = conn.execute(text("SELECT count(*), max(id) FROM removed_jobs")).all()
    make(halfway, {"e/events.out.tfevents.1700000000.x": run(9, range(3))})
    clock = StillClock(2.1e9)
    follower = Follower(made, halfway, clock=clock)
    for _ in range(20):
        clock.time += retention.GRACE_SECONDS + 6
        follower.scan()
        if (current := follower.indexer.reloads.current) is not None and current._thread is not None:
            current._thread.join()
    follower.leave()
    with made.begin() as conn:
        assert (
            loose
            < conn.execute(
                text("SELECT max(t.id) FROM tags t JOIN jobs j ON j.id = t.job_id WHERE j.train_id = './e'")
            ).scalar_one()
        )
        assert [(None,)] == [tuple(row) for row in conn.execute(text("SELECT error FROM reindexes"))]
        assert [("./d",)] == [tuple(row) for row in conn.execute(text("SELECT train_id FROM pruned_jobs"))]
        left = conn.execute(text("SELECT tag_id FROM loose_tags WHERE sweep_after < 9e9")).all()
        assert ([], []) == (left, conn.execute(text("SELECT tag_id FROM kept_segments")).all())
        assert 0 == conn.execute(text("SELECT count(*) FROM tensor_points WHERE tag_id < 0")).scalar_one()
        points = "SELECT count(*) FROM tensor_points p JOIN tags t ON t.id = p.tag_id JOIN jobs j ON j.id = t.job_id "
        assert 100 == conn.execute(text(f"{points} WHERE j.train_id = './a'")).scalar_one()
        assert 3 == conn.execute(text(f"{points} WHERE j.train_id = './e'")).scalar_one()
        own = "SELECT t.id FROM tags t JOIN jobs j ON j.id = t.job_id WHERE j.train_id = './e'"
        conn.execute(text(f"DELETE FROM tensor_points WHERE tag_id IN ({own})"))
        conn.execute(text("DELETE FROM jobs WHERE train_id = './e'"))  # the trigger notes it, behind those before
        assert (removed + 1, noted + 1) == tuple(conn.execute(text("SELECT count(*), max(id) FROM removed_jobs")).one())
    assert [] == compare(target)[1]
    made.dispose()
