"""`snapshot`: one moment of a database as a file of its own, whatever is written meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine

from indexer.db import snapshot
from indexer.db.connection import Database, transaction
from indexer.db.copy import Report
from indexer.db.engine import open_engine
from indexer.db.migrate import require
from indexer.errors import Refuse, Wait
from indexer.ingest.lock import writer_lock
from summarydb import copying, verify
from tests.conftest import DATA, Backend
from tests.support.following import SMALL, index_once, make
from tests.support.records import tb_scalar, tb_version
from tests.support.tables import differences, dump


def silent(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


def take(url: str, path: Path, *, force: bool = False, show: Report = silent) -> dict[str, object]:
    """Take a snapshot."""
    return copying.take_snapshot(url, path, force=force, show=show, stop=Event())


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A database with runs in it."""
    index_once(engine, DATA / "mindspore")
    return engine


def test_a_snapshot_is_a_database_of_its_own(filled: Engine, url: str, tmp_path: Path) -> None:
    """It has all rows, needs no file beside it, is sound, and can be opened where nobody may write."""
    path = tmp_path / "alone" / "copy.db"
    path.parent.mkdir()
    facts = take(url, path)
    assert [path] == list(path.parent.iterdir())
    assert path.stat().st_size == facts["bytes"]
    moved = tmp_path / "elsewhere.db"
    shutil.copyfile(path, moved)
    moved.chmod(0o444)
    with closing(sqlite3.connect(f"file:{moved}?mode=ro", uri=True)) as raw:
        assert [("delete",)] == raw.execute("PRAGMA journal_mode").fetchall()
        assert [("ok",)] == raw.execute("PRAGMA integrity_check").fetchall()
    made = open_engine(f"sqlite:///{path}")
    require(made)
    assert [] == differences(dump(filled), dump(made))
    made.dispose()


def test_what_is_written_meanwhile_is_not_in_it(
    filled: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer goes on between two pages, and so do its checkpoints; the snapshot stays the one of its moment."""
    before = dump(filled)
    monkeypatch.setattr(snapshot, "_PAGES", 1)
    writer = Database(url)
    rows = 0

    def show(_what: str, done: int, total: int) -> None:
        nonlocal rows
        if rows < 500 and done < total:  # at most as often as there are pages
            with transaction(writer) as conn:
                points = [(10_000 + rows, step, 0, 1.0, 2.0) for step in range(200)]
                conn.many("INSERT INTO tensor_points VALUES (?, ?, ?, ?, ?)", points)
                conn.execute("UPDATE jobs SET point_count = point_count + 1")
            writer.settle()
            rows += 1

    path = tmp_path / "copy.db"
    take(url, path, show=show)
    writer.dispose()
    assert rows > 5
    made = open_engine(f"sqlite:///{path}")
    assert [] == differences(before, dump(made))
    made.dispose()


def test_a_snapshot_of_a_load_is_one_of_its_commits(
    engine: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken while runs are loaded, it has just the points, statistics and cursors of one moment: `verify` agrees."""
    monkeypatch.setattr(snapshot, "_PAGES", 1)
    record = [tb_scalar("loss", step, step / 2, 1.7e9 + step) for step in range(60)]
    names = [f"{job}/events.out.tfevents.1700000000.x" for job in "abc"]
    root = make(tmp_path / "runs", {name: tb_version(1.7e9) + b"".join(record[:20]) for name in names})
    index_once(engine, root)
    written = 20

    def show(_what: str, _done: int, _total: int) -> None:
        nonlocal written
        if written < len(record):
            for name in names:
                with (root / name).open("ab") as file:
                    file.write(b"".join(record[written : written + 10]))
            written += 10
            index_once(engine, root)

    path = tmp_path / "copy.db"
    take(url, path, show=show)
    assert written > 20
    config = replace(SMALL, url=f"sqlite:///{path}")
    found: list[object] = []
    facts = verify.run(config, limit=0, tell=found.append, show_progress=silent, stop=Event())
    assert ([], 60) == (found, facts["points"])
    assert 180 == verify.run(replace(SMALL, url=url), limit=0, tell=print, show_progress=silent, stop=Event())["points"]


def test_a_file_that_is_there_is_replaced_only_when_told(filled: Engine, url: str, tmp_path: Path) -> None:
    """Without --force nothing happens to it; with it a WAL that lay beside it is gone, too."""
    path = tmp_path / "copy.db"
    old = sqlite3.connect(path)
    old.execute("PRAGMA journal_mode = WAL")
    old.execute("CREATE TABLE mine (x)")
    old.commit()
    with pytest.raises(Refuse, match="--force"):
        take(url, path)
    assert [("mine",)] == old.execute("SELECT name FROM sqlite_master").fetchall()
    take(url, path, force=True)  # while somebody has the old one open, so that its WAL is not empty
    made = open_engine(f"sqlite:///{path}")
    assert [] == differences(dump(filled), dump(made))
    made.dispose()
    old.close()


def test_a_database_in_use_is_not_replaced(filled: Engine, url: str, tmp_path: Path) -> None:
    """--force never takes a database from the indexer that writes it, nor the source from itself."""
    path = tmp_path / "live.db"
    take(url, path)
    with writer_lock(f"sqlite:///{path}"), pytest.raises(Refuse, match="is being indexed"):
        take(url, path, force=True)
    with pytest.raises(Refuse, match="is the database itself"):
        take(f"sqlite:///{path}", path, force=True)


def test_a_full_disk_is_told_before(filled: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room nothing is begun."""
    usage = SimpleNamespace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(Refuse, match=r"its disk has 1\.0 MB free"):
        take(url, tmp_path / "copy.db")
    assert [] == list(tmp_path.glob("copy.db*"))


def test_a_snapshot_that_is_cut_leaves_nothing(
    filled: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to end, it takes away what it began."""
    monkeypatch.setattr(snapshot, "_PAGES", 1)
    stop = Event()
    with pytest.raises(Wait, match="run it again"):
        copying.take_snapshot(url, tmp_path / "c.db", force=False, show=lambda *_: stop.set(), stop=stop)
    assert [] == list(tmp_path.glob("c.db*"))


def test_an_empty_file_has_no_snapshot(backend: Backend, empty_url: str, tmp_path: Path) -> None:
    """Nothing to copy is said, not copied."""
    if backend == "sqlite":
        (tmp_path / "empty.db").touch()
    with pytest.raises(Refuse, match="empty"):
        take(empty_url, tmp_path / "copy.db")
