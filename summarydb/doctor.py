"""`summarydb doctor`: what is wrong with this installation, in words, and what to do about it, a line a check.

What it looks at is handed in (`Machine`), so every check can be tried without such a machine.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from indexer.db import bulk
from indexer.db.condition import Condition, examine, sqlite_options
from indexer.db.dialect import sqlite_file
from indexer.errors import SummaryDBError
from indexer.text import show
from indexer.version import REVISION
from summarydb.progress import size
from summarydb.versions import everything
from summarydb.work import shown

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|ncpfs|9p|afs|ceph|lustre|glusterfs|gpfs|beegfs|orangefs|drvfs|vboxsf|prl_fs|"
    r"fuse\.(sshfs|s3fs|gcsfuse|glusterfs|ceph\S*|juicefs|rclone|vmhgfs-fuse|goofys|mount-s3)"
)
_MEMORY = frozenset({"tmpfs", "ramfs"})
_OLDEST_SQLITE = (3, 35, 0)  # RETURNING
_WAL_RESET = (3, 7, 0), (3, 51, 2)
"""Versions that may, rarely, damage a WAL database that one connection writes while another makes a checkpoint.

Source: https://www.sqlite.org/wal.html#walresetbug; fixed in 3.51.3, and in these of older branches.
"""
_WAL_RESET_FIXED = {(3, 44): 6, (3, 50): 7}
_OLDEST_POSTGRESQL = 120000
_SPARE_BYTES = 2**30
_LEAST_BYTES = 100 * 2**20
_FUTURE_SECONDS = 60.0
_SILENT_SECONDS = 30.0
_OPEN_FILES = 1024
_CONNECTIONS = 20  # of the web's pool, the indexer and a few people
_WATCH_SHARE = 0.8


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"  # it works, with a drawback
    PROBLEM = "problem"  # it does not, or not safely


@dataclass(frozen=True, slots=True)
class Check:
    """A line."""

    name: str
    status: Status
    says: str
    do: str | None = None  # the next step, where there is one

    def __str__(self) -> str:
        return f"{self.status:7}  {self.name}: {self.says}" + (f"; {self.do}" if self.do else "")


def _ok(name: str, says: str) -> Check:
    return Check(name, Status.OK, says)


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _inotify(name: str) -> int | None:
    try:
        return int(Path(f"/proc/sys/fs/inotify/{name}").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


@dataclass(frozen=True)
class Machine:
    """What checks look at beside files and the database."""

    now: Callable[[], float] = time.time
    mounts: Callable[[], str] = _mounts  # as /proc/self/mountinfo; empty: not known
    inotify: Callable[[str], int | None] = _inotify  # limit by name; None: there is none
    free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free  # bytes
    access: Callable[[Path, int], bool] = os.access
    open_files: Callable[[], int | None] = _open_files
    sqlite_version: tuple[int, int, int] = sqlite3.sqlite_version_info[:3]
    sqlite_options: Callable[[], list[str]] = sqlite_options
    images_work: Callable[[], bool] = bulk.images_work
    versions: Callable[[], dict[str, Any]] = everything


@dataclass(slots=True)
class Report:
    """All checks of an installation."""

    database: str
    checks: list[Check] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing is a problem; there may be warnings."""
        return all(check.status is not Status.PROBLEM for check in self.checks)

    def facts(self) -> dict[str, Any]:
        """Return values for JSON."""
        return {"database": self.database, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def run(url: str, logdirs: Sequence[Path], machine: Machine | None = None) -> Report:
    """Check the database at `url`, the machine, and `logdirs`; none: those that the database knows."""
    machine = machine or Machine()
    report = Report(shown(url))
    file = sqlite_file(url)
    path = None if file is None else Path(file).absolute()
    condition: Condition | None = None
    if path is not None and not path.exists():
        report.checks.append(_ok("database", f"{path} is not there yet: `summarydb up LOGDIR` makes it"))
    else:
        try:
            condition = examine(url)
        except SummaryDBError as e:
            report.checks.append(Check("database", Status.PROBLEM, str(e)))
    if condition is not None:
        report.checks += schema(condition)
        report.checks += indexers(condition, path, machine)
        report.checks += clock(condition, machine)
    if path is not None:
        report.checks += place(path, condition, machine)
        report.checks += sqlite(machine)
    elif condition is not None and condition.server is not None:
        report.checks += postgresql(condition)
    roots = list(logdirs) or [Path(show(root)) for root in (condition.roots if condition else [])]
    for root in roots:
        report.checks += logdir(root, machine)
    report.checks += watches(roots, machine)
    report.checks += limits(machine)
    report.checks += packages(machine, postgresql=path is None)
    return report


# The database ---------------------------------------------------------------------------------------------------------
def schema(condition: Condition) -> Iterator[Check]:
    """The schema is the one that this program speaks."""
    found = condition.revision
    if found is None:
        yield _ok("schema", "the database is empty: `summarydb up LOGDIR` fills it")
    elif found < REVISION:
        yield Check("schema", Status.PROBLEM, f"{found}, this program needs {REVISION}", "run `summarydb db upgrade`")
    elif found > REVISION:
        says = f"{found} is newer than {REVISION}, which this program knows"
        yield Check("schema", Status.PROBLEM, says, "install a newer summarydb")
    else:
        yield _ok("schema", found)


def indexers(condition: Condition, path: Path | None, machine: Machine) -> Iterator[Check]:
    """Who holds the right to write, and whether that process lives."""
    held = None if path is None else _held(path)
    newest = condition.indexers[0] if condition.indexers else None
    who = "" if newest is None else f"process {newest.pid} on {newest.host}"
    silent = None if newest is None else machine.now() - newest.heartbeat
    if newest is None or silent is None:
        if held:
            yield Check("indexer", Status.WARNING, "the lock is held, by a process that is starting or no indexer")
        else:
            yield _ok("indexer", "none is running")
    elif silent <= _SILENT_SECONDS and newest.state == "waiting":
        says = f"{who} waits: {newest.message or 'it does not say for what'}"
        yield Check("indexer", Status.WARNING, says, "it goes on by itself when that is over")
    elif silent <= _SILENT_SECONDS:
        yield _ok("indexer", f"{who} is {newest.state}")
    elif held:
        says = f"{who} holds the lock and said nothing for {silent:.0f} s"
        yield Check("indexer", Status.PROBLEM, says, "look what holds it up, or end it: another one takes over")
    else:
        yield _ok("indexer", f"none is running; {who} was cut {silent:.0f} s ago, the next one goes on from there")


def _held(path: Path) -> bool:
    """Tell whether somebody holds the lock of a SQLite database."""
    lock_file = Path(f"{path}.lock")
    if not lock_file.exists():
        return False
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    except OSError:  # it may not be opened: the permissions are told elsewhere
        return False
    lock.release()
    return False


def clock(condition: Condition, machine: Machine) -> Iterator[Check]:
    """This machine's clock agrees with those whose times are stored; a few seconds do no harm."""
    now = machine.now()
    times = {
        "a file's modification time": condition.newest_mtime_ns / 1e9,
        "an indexer's heartbeat": max((indexer.heartbeat for indexer in condition.indexers), default=0.0),
    }
    if condition.server is not None:
        times["the server's clock"] = condition.server.now
        if now - condition.server.now > _FUTURE_SECONDS:
            says = f"{now - condition.server.now:.0f} s ahead of the server's"
            yield Check("clock", Status.WARNING, says, "set both by NTP: leases and `status` compare them")
            return
    what, latest = max(times.items(), key=lambda item: item[1])
    if latest - now > _FUTURE_SECONDS:
        says = f"{what} is {latest - now:.0f} s in the future"
        yield Check("clock", Status.WARNING, says, "set the clocks of all machines by NTP")
    else:
        yield _ok("clock", "no stored time is in the future")


def place(path: Path, condition: Condition | None, machine: Machine) -> Iterator[Check]:
    """The file system, its free space, and what we may do there."""
    directory = path.parent
    if not directory.is_dir():
        yield Check("directory", Status.PROBLEM, f"{directory} is no directory", "create it, or give another --db")
        return
    kind = file_system(directory, machine.mounts())
    if kind is None:
        yield _ok("file system", "not known on this system; the database must be on a local disk")
    elif _NETWORK.fullmatch(kind):
        says = f"{directory} is on {kind}: SQLite's WAL is not safe on a network"
        yield Check("file system", Status.PROBLEM, says, "move the database to a local disk, or use PostgreSQL")
    elif kind in _MEMORY:
        says = f"{directory} is on {kind}: the database is lost when the machine restarts"
        yield Check("file system", Status.WARNING, says, "move it to a disk")
    elif kind.startswith("fuse"):
        says = f"{directory} is on {kind}, which may not lock files as SQLite needs it"
        yield Check("file system", Status.WARNING, says, "move the database to a local disk")
    else:
        yield _ok("file system", f"{directory} is on {kind}")
    yield from _may_write(path, machine)
    if condition is not None and condition.revision is not None and condition.journal_mode not in (None, "wal"):
        yield _ok("journal", f"{condition.journal_mode}: a snapshot, which becomes a WAL database when it is indexed")
    yield _room(directory, condition, machine)


def _may_write(path: Path, machine: Machine) -> Iterator[Check]:
    wanted = [(path.parent, "the directory, where SQLite keeps its WAL beside the database")]
    wanted += [(Path(f"{path}{suffix}"), "the file") for suffix in ("", "-wal", "-shm", ".lock")]
    for one, what in wanted:
        if one.exists() and not machine.access(one, os.R_OK | os.W_OK):
            says = f"{one} may not be written: {what}"
            yield Check("permissions", Status.PROBLEM, says, "change its owner or mode, or run as its owner")
            return
    yield _ok("permissions", "the database and its directory may be written")


def _room(directory: Path, condition: Condition | None, machine: Machine) -> Check:
    free, used = machine.free(directory), condition.bytes if condition else 0
    says = f"{size(free)} free, the database has {size(used)}"
    if free < _LEAST_BYTES:
        return Check("disk", Status.PROBLEM, says, "free some: loading stops when it is full")
    if free < max(_SPARE_BYTES, used // 10):
        return Check("disk", Status.WARNING, says, "free some before it is full")
    return _ok("disk", says)


def sqlite(machine: Machine) -> Iterator[Check]:
    """The SQLite that Python brings."""
    version = machine.sqlite_version
    named = ".".join(map(str, version))
    if version < _OLDEST_SQLITE:
        least = ".".join(map(str, _OLDEST_SQLITE[:2]))
        yield Check("sqlite", Status.PROBLEM, f"{named} is older than {least}", "use a newer Python, or PostgreSQL")
    elif wal_reset_bug(version):
        says = f"{named} has the WAL-reset bug, which in rare moments damages a database that is written and read"
        yield Check("sqlite", Status.WARNING, says, "use a Python with SQLite 3.51.3 or newer, and keep snapshots")
    else:
        yield _ok("sqlite", named)
    options = machine.sqlite_options()
    if "THREADSAFE=0" in options:
        says = "it was compiled without threads (THREADSAFE=0)"
        yield Check("sqlite options", Status.PROBLEM, says, "use another Python: the web and the indexer have threads")
    elif not machine.images_work():
        says = "it cannot attach tables that are made in memory, so loading takes the slow path"
        yield Check("sqlite options", Status.WARNING, says, "use a Python whose sqlite3 has `deserialize`")
    else:
        yield _ok("sqlite options", "as needed")


def wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Tell whether a version of SQLite has the WAL-reset bug."""
    first, last = _WAL_RESET
    fixed = _WAL_RESET_FIXED.get(version[:2])
    return first <= version <= last and (fixed is None or version[2] < fixed)


def postgresql(condition: Condition) -> Iterator[Check]:
    """The server, and what our role may do there."""
    server = condition.server
    assert server is not None  # noqa: S101  # the caller looked
    named = f"{server.version // 10000}.{server.version % 10000}"
    if server.version < _OLDEST_POSTGRESQL:
        yield Check("postgresql", Status.PROBLEM, f"{named} is too old", "use version 12 or newer")
    else:
        yield _ok("postgresql", f"{named}, the database has {size(condition.bytes)}")
    if server.encoding != "UTF8":
        says = f"the database's encoding is {server.encoding}: names of other scripts cannot be stored"
        yield Check("encoding", Status.PROBLEM, says, "make a database with ENCODING 'UTF8' TEMPLATE template0")
    else:
        yield _ok("encoding", server.encoding)
    if server.superuser:
        says = f"{server.role} is a superuser"
        do = "serve with a role that only reads: `summarydb db create-reader NAME`; index with the tables' owner"
        yield Check("role", Status.WARNING, says, do)
    else:
        yield _ok("role", f"{server.role} is no superuser")
    left = server.max_connections - server.connections
    says = f"{server.connections} of max_connections = {server.max_connections} are in use"
    if left < _CONNECTIONS:
        yield Check("connections", Status.WARNING, says, "raise it, or put a pooler before the server")
    else:
        yield _ok("connections", says)
    if server.without_key:
        says = "the largest table has no key just now: a first load runs, or was cut"
        yield Check("key", Status.WARNING, says, "`summarydb index` builds it at its end, and at its start")


# Directories and limits -----------------------------------------------------------------------------------------------
def logdir(root: Path, machine: Machine) -> Iterator[Check]:
    """A directory of runs can be read, and says when it changes."""
    name = f"logdir {root}"
    if not root.is_dir():
        yield Check(name, Status.WARNING, "is not there", "mount it: points of vanished files stay in the database")
        return
    if not machine.access(root, os.R_OK | os.X_OK):
        yield Check(name, Status.PROBLEM, "may not be read", "change its mode, or run as somebody who may")
        return
    kind = file_system(root, machine.mounts())
    if kind is not None and (_NETWORK.fullmatch(kind) or kind.startswith("fuse")):
        says = f"is on {kind}: notifications of what other machines write do not arrive, a scan finds it"
        yield Check(name, Status.WARNING, says, "give --reconcile fewer seconds if that is too late")
    else:
        yield _ok(name, "can be read" + ("" if kind is None else f", on {kind}"))


def watches(roots: Sequence[Path], machine: Machine) -> Iterator[Check]:
    """There are as many inotify watches as directories; each user has so many."""
    limit, instances = machine.inotify("max_user_watches"), machine.inotify("max_user_instances")
    if limit is None:
        yield _ok("notifications", "no inotify on this system")
        return
    count = sum(1 for root in roots for _ in _directories(root))
    says = f"{count:,} directories, fs.inotify.max_user_watches = {limit:,}"
    if count > limit * _WATCH_SHARE:
        wanted = max(2 * count, limit)
        do = f"sysctl fs.inotify.max_user_watches={wanted}; until then changes are seen at the next scan"
        yield Check("notifications", Status.WARNING, says, do)
    elif instances is not None and instances < 2:
        says = f"fs.inotify.max_user_instances = {instances}"
        yield Check("notifications", Status.WARNING, says, "sysctl fs.inotify.max_user_instances=128")
    else:
        yield _ok("notifications", says)


def _directories(root: Path) -> Iterator[str]:
    return (path for path, _, _ in os.walk(root))


def limits(machine: Machine) -> Iterator[Check]:
    """Enough files may be open."""
    limit = machine.open_files()
    if limit is not None and limit < _OPEN_FILES:
        yield Check("open files", Status.WARNING, f"at most {limit}", f"`ulimit -n {_OPEN_FILES}` before the start")
    else:
        yield _ok("open files", "no limit" if limit is None else f"at most {limit:,}")


def packages(machine: Machine, *, postgresql: bool) -> Iterator[Check]:
    """What is installed beside the program."""
    found = machine.versions()
    if found["packages"]["numba"] is None:
        says = "numba is missing: files are decoded by the plain path, slowly"
        yield Check("kernel", Status.WARNING, says, "pip install numba, with a Python that has wheels of it")
    else:
        yield _ok("kernel", f"numba {found['packages']['numba']}")
    missing = [extra for extra, names in found["extras"].items() if any(v is None for v in names.values())]
    if postgresql and "postgres" in missing:
        yield Check("extras", Status.PROBLEM, "postgres is missing", "pip install 'summarydb[postgres]'")
    elif missing:
        names = ", ".join(missing)
        yield _ok("extras", f"not installed: {names}; pip install 'summarydb[{missing[0]}]' where you need it")
    else:
        yield _ok("extras", "all installed")


def file_system(path: Path, mounts: str) -> str | None:
    """Return the type of the file system that `path` is on, None where nobody knows. mounts: as mountinfo."""
    best: tuple[int, str] | None = None
    parts = path.resolve().parts
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), fields[4])
        own = Path(point).parts
        if parts[: len(own)] == own and (best is None or len(own) >= best[0]):  # a later one lies over it
            best = (len(own), after.split(" ")[0])
    return None if best is None else best[1]


def render(report: Report) -> str:
    """Return the report for people."""
    counts = [sum(check.status is status for check in report.checks) for status in (Status.PROBLEM, Status.WARNING)]
    lines = [report.database, *map(str, report.checks)]
    return "\n".join([*lines, f"problems: {counts[0]}, warnings: {counts[1]}"])
