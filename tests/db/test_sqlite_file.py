"""A SQLite file: what a loss of power leaves of it, where it may lie, who holds it, and what readers do to its WAL."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from indexer.config import Config
from indexer.db import connection, filesystem, space
from indexer.db.connection import Database, transaction
from indexer.db.dialect import SQLITE_PAGE_BYTES
from indexer.db.engine import open_engine, open_reader, read_only
from indexer.errors import Refuse, Retry, SummaryDBError
from indexer.ingest.lock import writer_lock
from tests.support.faults import Patience, When, commits
from tests.support.following import Follower, index_once
from tests.support.loads import CONFIG, calm, runs
from tests.support.program import environment
from tests.support.tables import differences, dump
from webapi.app import create_app

ANYBODY = 65534
"""A user without rights: root may write everywhere."""


# Loss of power --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Image:
    """Both files as they were at some moment, and how much of the WAL was certainly on disk."""

    database: bytes
    before: bytes  # the database file before the last checkpoint began: any of its pages may still be that one's
    wal: bytes
    synced: int  # bytes of `wal`

    def put(self, path: Path, chance: random.Random) -> None:
        """Write what a loss of power at this moment may leave: the rest of the WAL is there in part, or zeros."""
        cut = chance.choice([self.synced, len(self.wal), chance.randint(self.synced, len(self.wal))])
        tail = bytes(len(self.wal) - cut) if chance.random() < 0.3 else b""
        size = SQLITE_PAGE_BYTES
        pages = [
            chance.choice([self.before[at : at + size] or new, new])
            for at in range(0, len(self.database), size)
            for new in [self.database[at : at + size]]
        ]
        path.write_bytes(b"".join(pages))
        Path(f"{path}-wal").write_bytes(self.wal[:cut] + tail)


def images(path: Path, root: Path) -> Iterator[Image]:
    """Load all of `root` into the database at `path`; yield images of it at its commits, with checkpoints between."""
    found: list[Image] = []
    generation, synced, before = b"", 0, path.read_bytes()
    engine = open_engine(f"sqlite:///{path}")

    def take(number: int, when: When, raw: sqlite3.Connection) -> None:
        nonlocal generation, synced, before
        if when == "before":
            return
        if number % 5 == 4:
            before = path.read_bytes()
            _, _, copied = raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            synced = 32 + copied * (24 + SQLITE_PAGE_BYTES)
            generation = Path(f"{path}-wal").read_bytes()[16:24]
        wal = Path(f"{path}-wal").read_bytes()
        if wal[16:24] != generation:  # it began again: what it held before is synced in the database file
            generation, synced, before = wal[16:24], 0, path.read_bytes()
        found.append(Image(path.read_bytes(), before, wal, synced))

    with commits(take):
        Follower(engine, root, config=CONFIG).scan()
    engine.dispose()
    yield from found


def test_a_loss_of_power_leaves_a_whole_database_of_some_moment(sqlite_template: Path, tmp_path: Path) -> None:
    """Whatever part of the WAL got to the disk: the file is whole, counts agree, and indexing on gives all the rows."""
    root = runs(tmp_path / "runs")
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    path = tmp_path / "x.db"
    path.write_bytes(sqlite_template.read_bytes())
    chance = random.Random(7)
    lost = 0
    left = tmp_path / "left.db"
    for image in images(path, root):
        image.put(left, chance)
        with closing(sqlite3.connect(left)) as conn:
            assert [("ok",)] == conn.execute("PRAGMA integrity_check").fetchall()
            assert [] == conn.execute("PRAGMA foreign_key_check").fetchall()
            stored = conn.execute("SELECT count(*) FROM tensor_points").fetchone()
            assert stored == conn.execute("SELECT coalesce(sum(point_count), 0) FROM jobs").fetchone()
            assert stored == conn.execute("SELECT coalesce(sum(point_count), 0) FROM tags").fetchone()
        engine = open_engine(f"sqlite:///{left}")
        index_once(engine, root, config=CONFIG)
        assert [] == differences(expected, dump(engine))
        engine.dispose()
        lost += stored[0] < 4_500
    assert lost > 5


# Where it lies --------------------------------------------------------------------------------------------------------
@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that mounts a kind of file system at a path, as the kernel's list of mounts has it."""
    listed = tmp_path / "mountinfo"
    lines = ["22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/root rw"]
    monkeypatch.setattr(filesystem, "MOUNTS", listed)

    def mount(at: Path, kind: str) -> None:
        escaped = str(at).replace(" ", "\\040")
        lines.append(f"40 22 0:44 / {escaped} rw,relatime shared:2 master:1 - {kind} server:/export rw,vers=4.2")
        listed.write_text("\n".join(lines) + "\n")

    mount(Path("/proc"), "proc")
    return mount


@pytest.mark.parametrize(
    ("kind", "found"), [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("xfs", False), ("fuse.ntfs-3g", False)]
)
def test_a_network_file_system_is_known_by_its_mount(mounted: Any, tmp_path: Path, kind: str, found: bool) -> None:
    """The mount nearest to the file decides, whatever is in its name; of two at one point the later."""
    share = tmp_path / "a share"
    (share / "local").mkdir(parents=True)
    mounted(share, "ext4")
    mounted(share, kind)
    mounted(share / "local", "tmpfs")
    assert (kind if found else None) == filesystem.network(share / "x.db")
    assert filesystem.network(share / "local" / "x.db") is None
    assert filesystem.network(tmp_path / "x.db") is None


def test_where_nobody_knows_of_mounts_all_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems have no such list."""
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "none")
    assert filesystem.network(tmp_path / "x.db") is None


def test_on_a_network_file_system_it_goes_without_wal(mounted: Any, sqlite_template: Path, tmp_path: Path) -> None:
    """With words in the log, every commit synced, and the same tables; a file that had a WAL loses it."""
    root = runs(tmp_path / "runs", 300)
    expected = calm(f"sqlite:///{tmp_path / 'calm.db'}", root)
    share = tmp_path / "share"
    share.mkdir()
    path = share / "x.db"
    path.write_bytes(sqlite_template.read_bytes())
    assert filesystem.in_wal_mode(path)
    mounted(share, "nfs4")
    engine = open_engine(f"sqlite:///{path}")
    with capture_logs() as lines:
        index_once(engine, root, config=CONFIG)
    assert ["the database lies on nfs4, a network file system"] == [
        line["why"] for line in lines if line["event"] == "opened_without_wal"
    ]
    assert [] == differences(expected, dump(engine))
    with engine.connect() as conn:
        assert ("delete", 2) == tuple(
            conn.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous")
        )
    engine.dispose()
    assert not filesystem.in_wal_mode(path)
    assert ["x.db"] == [file.name for file in share.iterdir()]
    reader = open_reader(f"sqlite:///{path}")
    with read_only(reader, seconds=5) as conn:
        assert 900 == conn.exec_driver_sql("SELECT count(*) FROM tensor_points").scalar_one()
    reader.dispose()


def test_without_wal_a_reader_is_waited_for(
    mounted: Any, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that a long read holds up is made again, and the indexer goes on as soon as the read ends."""
    monkeypatch.setattr(connection, "BUSY_MS", 1)
    root = runs(tmp_path / "runs", 300)
    path = tmp_path / "x.db"
    path.write_bytes(sqlite_template.read_bytes())
    mounted(tmp_path, "nfs")
    engine = open_engine(f"sqlite:///{path}")
    told: list[str | None] = []
    follower = Follower(engine, root, config=CONFIG)
    with closing(sqlite3.connect(path, isolation_level=None)) as slow:
        slow.execute("BEGIN")
        slow.execute("SELECT * FROM jobs").fetchall()

        def waited(count: int) -> None:
            if count == 3:
                slow.execute("COMMIT")

        follower.indexer.told_waiting = told.append
        follower.stop = Patience(waited)
        follower.scan()
    assert ["another writer holds the database (database is locked); the call may be repeated", None] == told
    with engine.connect() as conn:
        assert 900 == conn.exec_driver_sql("SELECT count(*) FROM tensor_points").scalar_one()
    engine.dispose()


def test_a_reader_keeps_away_from_a_wal_on_a_network(mounted: Any, sqlite_template: Path, tmp_path: Path) -> None:
    """It would share memory with the indexer's machine, and cannot."""
    path = tmp_path / "x.db"
    path.write_bytes(sqlite_template.read_bytes())
    mounted(tmp_path, "nfs")
    reader = open_reader(f"sqlite:///{path}")
    with pytest.raises(Refuse, match=r"WAL mode on nfs.*summarydb snapshot"), read_only(reader, seconds=5):
        pass
    reader.dispose()


def test_a_wal_in_use_is_not_taken_away(
    mounted: Any, sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who starts an indexer there while a reader has the file open is told to try again."""
    monkeypatch.setattr(connection, "BUSY_MS", 1)
    path = tmp_path / "x.db"
    path.write_bytes(sqlite_template.read_bytes())
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT * FROM jobs").fetchall()
        mounted(tmp_path, "nfs")
        with pytest.raises((Retry, Refuse)), transaction(Database(f"sqlite:///{path}")):
            pass
    assert filesystem.in_wal_mode(path)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions as POSIX has them")
def test_a_read_only_directory_is_told_of_with_what_to_do(sqlite_template: Path) -> None:
    """SQLite cannot read a file in WAL mode where nothing may be put beside it; a copy made for that can be read."""
    directory = Path(tempfile.mkdtemp(prefix="ro"))  # pytest's own is closed to others
    path = directory / "x.db"
    shutil.copy(sqlite_template, path)
    path.chmod(0o644)
    directory.chmod(0o555)
    code = (
        "import os, sys; from indexer.db.engine import open_reader, read_only\n"
        "from indexer.errors import Refuse\n"
        "reader = open_reader(sys.argv[1])\n"
        "if os.geteuid() == 0:\n"  # who may write everywhere
        f"    os.setgroups([]); os.setgid({ANYBODY}); os.setuid({ANYBODY})\n"
        "try:\n"
        "    with read_only(reader, seconds=5) as conn:\n"
        "        print(conn.exec_driver_sql('SELECT count(*) FROM jobs').scalar_one())\n"
        "except Refuse as e:\n"
        "    print(e)\n"
    )

    def read() -> str:
        arguments = [sys.executable, "-c", code, f"sqlite:///{path}"]
        return subprocess.run(arguments, env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout

    try:
        said = read()
        assert "summarydb snapshot" in said, said
        directory.chmod(0o755)
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("PRAGMA journal_mode = DELETE")  # as a snapshot is
        path.chmod(0o644)
        directory.chmod(0o555)
        assert "0\n" == read()
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


# Who holds it ---------------------------------------------------------------------------------------------------------
HOLD = (
    "import sys; from indexer.ingest.lock import writer_lock\n"
    "with writer_lock(sys.argv[1]):\n"
    "    print('held', flush=True); sys.stdin.read()\n"
)


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    """From the first moment, with nothing in the database yet; after SIGKILL the file stays, and holds nobody up."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert "held\n" == holder.stdout.readline()
        words = rf"x\.db is being indexed by process {holder.pid} on \S+: stop it first"
        if sys.platform != "win32":
            with pytest.raises(Refuse, match=words), writer_lock(url, timeout=0.05):
                pass
        holder.kill()
    assert (tmp_path / "x.db.lock").exists()
    with writer_lock(url, timeout=0.05):
        pass


# Readers and the WAL --------------------------------------------------------------------------------------------------
def test_a_reader_that_holds_up_checkpoints_shows_in_health(
    sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer goes on; the WAL grows, health says why, and behind the reader it is short again."""
    monkeypatch.setattr(connection, "WAL_BYTES", 400_000)
    monkeypatch.setattr(space, "STARVED_BYTES", 800_000)
    path = tmp_path / "x.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    database, reader = Database(url), open_reader(url)
    app = create_app(Config(url=url), reader).test_client()

    def write(commits: int) -> None:
        for _ in range(commits):
            with transaction(database) as conn:
                conn.execute("UPDATE index_state SET change_counter = change_counter + 1")

    def health() -> tuple[bool, int]:
        found = app.get("/api/v1/health").get_json()["database"]
        return found["checkpoint_starved"], found["wal_bytes"]

    write(10)
    database.settle()
    assert health()[0] is False
    with closing(sqlite3.connect(path, isolation_level=None)) as slow:
        slow.execute("BEGIN")
        slow.execute("SELECT * FROM jobs").fetchall()
        for _ in range(10):
            write(10)
            database.settle()
        starved, length = health()
        assert starved
        assert length > 800_000
    database.settle()
    write(1)
    assert (False, True) == (health()[0], health()[1] <= 400_000)
    database.dispose()
    reader.dispose()


def test_readers_keep_no_writer_waiting(sqlite_template: Path, tmp_path: Path) -> None:
    """While many read without a pause, no commit of the writer is refused or waits for them."""
    path = tmp_path / "x.db"
    path.write_bytes(sqlite_template.read_bytes())
    url = f"sqlite:///{path}"
    reader = open_reader(url)
    over = threading.Event()
    reads: list[int] = []

    def read() -> None:
        while not over.is_set():
            with read_only(reader, seconds=5) as conn:
                reads.append(conn.exec_driver_sql("SELECT change_counter FROM index_state").scalar_one())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    database = Database(url)
    database.connect().raw.execute("PRAGMA busy_timeout = 0")  # to wait at all would be an error
    failures: list[SummaryDBError] = []
    for _ in range(200):
        try:
            with transaction(database) as conn:
                conn.execute("UPDATE index_state SET change_counter = change_counter + 1")
        except SummaryDBError as e:
            failures.append(e)
    over.set()
    for thread in threads:
        thread.join()
    database.dispose()
    reader.dispose()
    assert [] == failures
    assert len(reads) > 4
