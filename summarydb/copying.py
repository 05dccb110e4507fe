"""`summarydb snapshot` and `summarydb db copy`: where to, whether there is room, and who holds the target."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from indexer.db import copy, migrate, snapshot
from indexer.db.connection import Connection, translated
from indexer.db.copy import Report
from indexer.db.dialect import SQLITE, sqlite_file
from indexer.db.reading import open_read_only, reading
from indexer.errors import Refuse, Wait
from indexer.ingest.lock import writer_lock
from indexer.version import REVISION
from summarydb.progress import size
from summarydb.work import LOCK_SECONDS, naming, shown

_SPARE_BYTES = 16 * 2**20  # of the disk, that a copy leaves free


def take_snapshot(url: str, path: Path, *, force: bool, show: Report, stop: threading.Event) -> dict[str, Any]:
    """Write a SQLite copy of the database at `url` to `path`; return what it is. Refuse says what is in the way."""
    _require_other(url, path)
    if path.is_dir():
        raise Refuse(f"{path} is a directory: name the file to write")
    if path.exists() and not force:
        raise Refuse(f"{path} is there already: give another name, or --force to replace it")
    _require_directory(path)
    # What --force replaces may be a database that is being indexed.
    lock = writer_lock(f"sqlite:///{path.absolute()}", timeout=0.1) if path.exists() else nullcontext()
    with naming(url), lock:
        _require_room(path, snapshot.size_of(url))
        snapshot.write(url, path, _until(stop, show))
    return {"database": shown(url), "file": str(path), "bytes": path.stat().st_size}


def copy_database(url: str, target: str, *, show: Report, stop: threading.Event) -> dict[str, Any]:
    """Copy the database at `url` to the one at `target`, which is empty or not there; return what was copied."""
    file = sqlite_file(target)
    report = _until(stop, show)
    with naming(url), reading(url) as source:
        if file is None:
            with naming(target):
                copied = copy.into_postgresql(source, target, report)
        else:
            path = Path(file)
            _require_other(url, path)
            _require_directory(path)
            with writer_lock(target, timeout=LOCK_SECONDS):
                _require_empty(path)
                _require_room(path, snapshot.size_of(url))
                with snapshot.partial(path) as part:
                    copied = copy.into_sqlite(source, part, report)
    return {
        "database": shown(url),
        "to": shown(target),
        "schema": REVISION,
        "rows": sum(table.rows for table in copied),
        "tables": [{"table": t.table, "rows": t.rows, "checksum": t.checksum} for t in copied],
    }


def _until(stop: threading.Event, show: Report) -> Report:
    """Return `show`, which from now on ends the work, too, when somebody asks for an end."""

    def report(what: str, done: int, total: int) -> None:
        if stop.is_set():
            raise Wait("asked to end: nothing is kept of the copy; run it again")
        show(what, done, total)

    return report


def _require_other(url: str, path: Path) -> None:
    file = sqlite_file(url)
    if file is not None and path.exists() and Path(file).exists() and path.samefile(file):
        raise Refuse(f"{path} is the database itself: give another file")


def _require_directory(path: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise Refuse(f"{path.absolute().parent} is no directory: create it first")


def _require_empty(path: Path) -> None:
    """Refuse where a SQLite file holds anything but an empty database of the newest schema."""
    if not path.exists():
        return
    with translated(), closing(open_read_only(path)) as raw:
        conn = Connection(SQLITE, raw)
        found = migrate.current_of(conn)
        if found is None:
            return
        if found != REVISION:
            raise Refuse(f"{path} has schema {found}, this program needs {REVISION}: give a file that is not there yet")
        copy.require_empty(conn, str(path))


def _require_room(path: Path, wanted: int) -> None:
    free = shutil.disk_usage(path.absolute().parent).free
    if free < wanted + _SPARE_BYTES:
        raise Refuse(
            f"{path} needs about {size(wanted)} and its disk has {size(free)} free: free some, or give another place"
        )
