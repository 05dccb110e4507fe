"""An indexer that a test drives turn by turn: a clock that stands still, files that count, fail and vanish."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

from sqlalchemy import Engine, text

from indexer.config import Config, Root
from indexer.db.schema import METADATA
from indexer.ingest.watch import Indexer, Outcome
from indexer.ports import Files, SystemFiles
from tests.support.engines import transaction, writer

SMALL = Config(kernel=False, slice_bytes=2**16, done_after=float("inf"))
"""A configuration for small files; the compiled decoder has tests of its own. No file is ever done."""


class StillClock:
    """Time that passes only when a test says so."""

    def __init__(self, now: float = 2e9) -> None:
        self.time = now

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self.time

    def monotonic(self) -> float:
        """Return the same seconds."""
        return self.time

    def wait(self, wake: threading.Event, seconds: float) -> bool:
        """Let `seconds` pass at once."""
        if not wake.is_set():
            self.time += seconds
        return wake.is_set()


class WatchedFiles:
    """The machine's files, with what was opened and read counted, and failures as a test wants them."""

    def __init__(self) -> None:
        self.real: Files = SystemFiles()
        self.opened: Counter[str] = Counter()  # by name
        self.read_bytes = 0
        self.before_open: Callable[[Path], None] = lambda _path: None  # may raise OSError, or change files
        self.before_list: Callable[[Path], None] = lambda _path: None
        self.before_stat: Callable[[Path], None] = lambda _path: None
        self.before_read: Callable[[Path], None] = lambda _path: None

    def scandir(self, path: Path | str) -> Iterator[os.DirEntry[str]]:
        """List `path`."""
        self.before_list(Path(path))
        for entry in self.real.scandir(path):
            yield cast("os.DirEntry[str]", _Entry(self, entry))

    def open(self, path: Path) -> BinaryIO:
        """Open a file, and count it."""
        self.before_open(path)
        self.opened[path.name] += 1
        return cast("BinaryIO", _File(self, path, self.real.open(path)))


class _Entry:
    """A directory entry whose `stat` may fail."""

    def __init__(self, files: WatchedFiles, entry: os.DirEntry[str]) -> None:
        self._files = files
        self._entry = entry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._entry, name)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        self._files.before_stat(Path(self._entry.path))
        return self._entry.stat(follow_symlinks=follow_symlinks)


class _File(RawIOBase):
    """A file whose bytes are counted and whose reads may fail."""

    def __init__(self, files: WatchedFiles, path: Path, file: BinaryIO) -> None:
        self._files = files
        self._path = path
        self._file = file

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, target: Any) -> int:
        self._files.before_read(self._path)
        count: int = self._file.readinto(target)  # type: ignore[attr-defined]  # a raw file
        self._files.read_bytes += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class Follower:
    """An indexer between its start and its end, without threads of its own and without waiting."""

    def __init__(
        self,
        engine: Engine,
        *roots: Path | Root,
        config: Config = SMALL,
        clock: StillClock | None = None,
        files: WatchedFiles | None = None,
    ) -> None:
        self.clock = clock or StillClock()
        self.files = files or WatchedFiles()
        self.engine = engine
        self.stop = threading.Event()
        self.indexer = Indexer(replace(config, roots=given(roots)), writer(engine), clock=self.clock, files=self.files)
        self.indexer._patiently(self.stop, self.indexer._enter)

    def scan(self) -> None:
        """Look at everything, and load until there is nothing left to do."""
        self.indexer.next_scan = 0.0
        self.settle()

    def settle(self) -> None:
        """Load until there is nothing left to do."""
        for _ in range(1_000):
            if not self.indexer._patiently(self.stop, lambda: self.indexer._turn(self.stop)):
                return
        raise AssertionError("it never comes to rest")

    def leave(self) -> Outcome:
        """End as a run ends."""
        self.indexer._leave()
        return self.indexer._outcome()


def index_once(
    engine: Engine, *roots: Path | Root, config: Config = SMALL, files: WatchedFiles | None = None
) -> Outcome:
    """Index all there is, as `index --once` does."""
    database = writer(engine)
    try:
        indexer = Indexer(replace(config, roots=given(roots)), database, clock=StillClock(), files=files)
        return indexer.run(threading.Event(), once=True)
    finally:
        database.dispose()


def given(roots: Sequence[Path | Root]) -> tuple[Root, ...]:
    """Return roots as the command line makes them of paths."""
    return tuple(root if isinstance(root, Root) else Root(root.name, root.resolve(), named=False) for root in roots)


def empty(engine: Engine) -> None:
    """Delete all rows, as in a fresh database."""
    with transaction(engine) as conn:
        for table in reversed(METADATA.sorted_tables):
            if table.name != "index_state":
                conn.execute(table.delete())
        conn.execute(text("UPDATE index_state SET change_counter = 0, scanned_at = NULL"))


def make(root: Path, tree: Mapping[str, bytes]) -> Path:
    """Write files, given as path → content; return `root`."""
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    root.mkdir(parents=True, exist_ok=True)
    return root
