"""`doctor`: each check tells a machine that is well from one that is not, and says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.db.condition import Condition, Indexer, Server
from indexer.ingest.lock import writer_lock
from indexer.version import REVISION
from summarydb import doctor
from summarydb.doctor import Check, Machine, Status, file_system, wal_reset_bug

NOW = 2e9
MOUNTS = (
    "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "30 21 0:40 / /net rw,relatime shared:1 - nfs4 server:/x rw\n"
    "31 21 0:41 / /net/local rw - xfs /dev/sdb1 rw\n"
    "32 21 0:42 / /with\\040space rw - tmpfs tmpfs rw\n"
    "33 21 0:43 / /twice rw - ext4 /dev/sdc rw\n"
    "34 21 0:44 / /twice rw - fuse.sshfs host: rw\n"
    "nonsense\n"
)
WELL = Machine(
    now=lambda: NOW,
    mounts=lambda: MOUNTS,
    inotify=lambda _name: 100_000,
    free=lambda _path: 10**12,
    open_files=lambda: 4096,
    sqlite_version=(3, 51, 3),
    sqlite_options=list,
    images_work=lambda: True,
    versions=lambda: versions(),
)
SERVER = Server(160003, "UTF8", "writer", False, 100, 5, NOW, False)


def versions(*, numba: str | None = "0.61", psycopg: str | None = "3.2", pyarrow: str | None = "16") -> dict[str, Any]:
    """Return what `summarydb --version --json` says of packages."""
    return {
        "packages": {"numba": numba},
        "extras": {"postgres": {"psycopg": psycopg}, "arrow": {"pyarrow": pyarrow}},
    }


def only(checks: Iterable[Check], name: str) -> Check:
    """Return the check of this name."""
    (found,) = [check for check in checks if check.name == name]
    assert (found.do is None) == (found.status is Status.OK) or name == "indexer"
    return found


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/net", "nfs4"),
        ("/net/runs/a", "nfs4"),
        ("/net/local/db", "xfs"),
        ("/network", "ext4"),
        ("/with space/x", "tmpfs"),
        ("/twice/x", "fuse.sshfs"),
    ],
)
def test_a_file_system_is_that_of_the_deepest_mount(path: str, kind: str) -> None:
    """The longest mount point counts, of two at one place the later one; names may hold spaces."""
    assert kind == file_system(Path(path), MOUNTS)


def test_a_file_system_may_be_unknown(tmp_path: Path) -> None:
    """Where the system does not say what is mounted, no check fails for that."""
    assert file_system(tmp_path, "") is None
    checks = doctor.place(tmp_path / "x.db", None, replace(WELL, mounts=str))
    assert Status.OK is only(checks, "file system").status


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("ext4", Status.OK),
        ("btrfs", Status.OK),
        ("overlay", Status.OK),
        ("nfs", Status.PROBLEM),
        ("nfs4", Status.PROBLEM),
        ("cifs", Status.PROBLEM),
        ("smb3", Status.PROBLEM),
        ("9p", Status.PROBLEM),
        ("lustre", Status.PROBLEM),
        ("fuse.sshfs", Status.PROBLEM),
        ("fuse.mine", Status.WARNING),
        ("fuseblk", Status.WARNING),
        ("tmpfs", Status.WARNING),
    ],
)
def test_a_database_on_a_network_is_a_problem(tmp_path: Path, kind: str, status: Status) -> None:
    """SQLite's WAL shares memory between processes, which no network file system does."""
    machine = replace(WELL, mounts=lambda: f"1 0 8:1 / / rw - {kind} x rw")
    assert status is only(doctor.place(tmp_path / "x.db", None, machine), "file system").status


@pytest.mark.parametrize(
    ("version", "buggy"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(version: tuple[int, int, int], buggy: bool) -> None:
    """Two older branches have the correction too; with the bug a line says so, and what to install."""
    assert buggy is wal_reset_bug(version)
    if version >= (3, 35):
        found = only(doctor.sqlite(replace(WELL, sqlite_version=version)), "sqlite")
        assert (Status.WARNING if buggy else Status.OK) is found.status


def test_a_sqlite_that_cannot_do_is_a_problem() -> None:
    """Too old, without threads, without the fast way in: three lines."""
    assert Status.PROBLEM is only(doctor.sqlite(replace(WELL, sqlite_version=(3, 34, 1))), "sqlite").status
    machine = replace(WELL, sqlite_options=lambda: ["THREADSAFE=0"])
    assert Status.PROBLEM is only(doctor.sqlite(machine), "sqlite options").status
    machine = replace(WELL, images_work=lambda: False)
    assert Status.WARNING is only(doctor.sqlite(machine), "sqlite options").status
    assert Status.OK is only(doctor.sqlite(WELL), "sqlite options").status


@pytest.mark.parametrize(
    ("found", "status", "do"),
    [
        (REVISION, Status.OK, None),
        (None, Status.OK, None),
        ("0001", Status.PROBLEM, "run `summarydb db upgrade`"),
        ("9999", Status.PROBLEM, "install a newer summarydb"),
    ],
)
def test_another_schema_is_a_problem(found: str | None, status: Status, do: str | None) -> None:
    """An older one is brought up to date, a newer one needs a newer program."""
    check = only(doctor.schema(Condition(revision=found)), "schema")
    assert (status, do) == (check.status, check.do)


@pytest.mark.parametrize(("ahead", "status"), [(0.0, Status.OK), (59.0, Status.OK), (3600.0, Status.WARNING)])
def test_times_in_the_future_are_told(ahead: float, status: Status) -> None:
    """Of files, of heartbeats, and of the server, whose clock may be behind, too."""
    heart = Indexer(1, "h", NOW + ahead, "watching")
    for condition in (
        Condition(newest_mtime_ns=int((NOW + ahead) * 1e9)),
        Condition(indexers=[heart]),
        Condition(server=replace_clock(NOW + ahead)),
        Condition(server=replace_clock(NOW - ahead)),
    ):
        assert status is only(doctor.clock(condition, WELL), "clock").status


def replace_clock(now: float) -> Server:
    """Return a server whose clock shows `now`."""
    return replace(SERVER, now=now)


def test_whoever_holds_the_lock_is_told(tmp_path: Path) -> None:
    """An indexer that lives is well; one that holds the lock and says nothing hangs; one that was cut does no harm."""
    path = tmp_path / "x.db"
    lively, silent = (Condition(indexers=[Indexer(7, "host", NOW - age, "watching")]) for age in (1.0, 300.0))
    assert "process 7 on host is watching" == only(doctor.indexers(lively, path, WELL), "indexer").says
    assert Status.OK is only(doctor.indexers(silent, path, WELL), "indexer").status
    waits = Condition(indexers=[Indexer(7, "host", NOW - 1.0, "waiting", "the disk is full")])
    waiting = only(doctor.indexers(waits, path, WELL), "indexer")
    assert (Status.WARNING, "process 7 on host waits: the disk is full") == (waiting.status, waiting.says)
    assert "none is running" == only(doctor.indexers(Condition(), path, WELL), "indexer").says
    with writer_lock(f"sqlite:///{path}"):
        hangs = only(doctor.indexers(silent, path, WELL), "indexer")
        assert (Status.PROBLEM, "process 7 on host holds the lock and said nothing for 300 s") == (
            hangs.status,
            hangs.says,
        )
        assert Status.WARNING is only(doctor.indexers(Condition(), path, WELL), "indexer").status
    assert "none is running" == only(doctor.indexers(Condition(), path, WELL), "indexer").says


@pytest.mark.parametrize(
    ("free", "status"), [(10**12, Status.OK), (5 * 10**8, Status.WARNING), (10**6, Status.PROBLEM)]
)
def test_a_disk_that_fills_is_told(tmp_path: Path, free: int, status: Status) -> None:
    """The line has what is free and what the database takes; a large database wants a tenth of its size."""
    machine = replace(WELL, free=lambda _path: free)
    check = only(doctor.place(tmp_path / "x.db", Condition(bytes=3 * 10**9), machine), "disk")
    assert status is check.status
    assert "the database has 3.0 GB" in check.says
    large = only(doctor.place(tmp_path / "x.db", Condition(bytes=10**14), WELL), "disk")
    assert Status.WARNING is large.status


@pytest.mark.parametrize("suffix", ["", "-wal", ".lock", None])
def test_what_may_not_be_written_is_named(tmp_path: Path, suffix: str | None) -> None:
    """The file, what lies beside it, or the directory."""
    path = tmp_path / "x.db"
    forbidden = tmp_path if suffix is None else Path(f"{path}{suffix}")
    path.touch()
    if suffix:
        forbidden.touch()
    machine = replace(WELL, access=lambda one, _mode: one != forbidden)
    check = only(doctor.place(path, None, machine), "permissions")
    assert Status.PROBLEM is check.status
    assert str(forbidden) in check.says
    assert Status.OK is only(doctor.place(path, None, WELL), "permissions").status


def test_a_directory_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    """Nothing else of it is asked then."""
    (check,) = doctor.place(tmp_path / "no" / "x.db", None, WELL)
    assert (Status.PROBLEM, "create it, or give another --db") == (check.status, check.do)


def test_more_directories_than_watches_are_told(tmp_path: Path) -> None:
    """The line names the setting and a number that is enough."""
    for i in range(9):
        (tmp_path / f"{i}").mkdir()
    assert Status.OK is only(doctor.watches([tmp_path], WELL), "notifications").status
    check = only(doctor.watches([tmp_path], replace(WELL, inotify=lambda _name: 10)), "notifications")
    assert Status.WARNING is check.status
    assert "fs.inotify.max_user_watches=20" in (check.do or "")
    few = replace(WELL, inotify=lambda name: 1 if name == "max_user_instances" else 10**6)
    assert Status.WARNING is only(doctor.watches([tmp_path], few), "notifications").status
    none = replace(WELL, inotify=lambda _name: None)
    assert Status.OK is only(doctor.watches([tmp_path], none), "notifications").status


def test_a_directory_of_runs_is_looked_at(tmp_path: Path) -> None:
    """Gone, forbidden, on a network: each has its line."""
    name = f"logdir {tmp_path}"
    assert Status.OK is only(doctor.logdir(tmp_path, WELL), name).status
    forbidden = replace(WELL, access=lambda _path, _mode: False)
    assert Status.PROBLEM is only(doctor.logdir(tmp_path, forbidden), name).status
    network = replace(WELL, mounts=lambda: "1 0 8:1 / / rw - nfs4 x rw")
    assert Status.WARNING is only(doctor.logdir(tmp_path, network), name).status
    (gone,) = doctor.logdir(tmp_path / "gone", WELL)
    assert Status.WARNING is gone.status


@pytest.mark.parametrize(
    ("server", "name", "status"),
    [
        (SERVER, "postgresql", Status.OK),
        (replace(SERVER, version=110022), "postgresql", Status.PROBLEM),
        (SERVER, "encoding", Status.OK),
        (replace(SERVER, encoding="LATIN1"), "encoding", Status.PROBLEM),
        (SERVER, "role", Status.OK),
        (replace(SERVER, superuser=True), "role", Status.WARNING),
        (SERVER, "connections", Status.OK),
        (replace(SERVER, connections=95), "connections", Status.WARNING),
        (replace(SERVER, without_key=True), "key", Status.WARNING),
    ],
)
def test_a_server_is_looked_at(server: Server, name: str, status: Status) -> None:
    """Version, encoding, rights and connections."""
    assert status is only(doctor.postgresql(Condition(server=server)), name).status


def test_limits_and_packages() -> None:
    """Few open files, no kernel, and the driver of a database that is asked for."""
    assert Status.WARNING is only(doctor.limits(replace(WELL, open_files=lambda: 256)), "open files").status
    assert Status.OK is only(doctor.limits(replace(WELL, open_files=lambda: None)), "open files").status
    without = replace(WELL, versions=lambda: versions(numba=None, psycopg=None))
    assert Status.WARNING is only(doctor.packages(without, postgresql=False), "kernel").status
    assert Status.OK is only(doctor.packages(without, postgresql=False), "extras").status
    assert Status.PROBLEM is only(doctor.packages(without, postgresql=True), "extras").status
    assert Status.OK is only(doctor.packages(WELL, postgresql=True), "extras").status


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    """What the real machine says is understood: no check fails for want of an answer."""
    machine = Machine()
    names = {check.name for check in doctor.place(tmp_path / "x.db", None, machine)}
    assert {"file system", "permissions", "disk"} == names
    assert [Status.OK] == [
        check.status for check in doctor.packages(machine, postgresql=True) if check.name == "extras"
    ]
    assert "THREADSAFE=1" in machine.sqlite_options()
    if Path("/proc/self/mountinfo").exists():
        assert file_system(tmp_path, machine.mounts()) is not None
