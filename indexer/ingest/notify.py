"""The system's notifications as hints: which directories to look at. Nothing is read or parsed here."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from indexer import log
from indexer.ingest.logdir import recognise

_POLL_SECONDS = 1.0
_WANTED: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]
"""The rest is not even asked for: each of our own scans and reads would come back as several events a file."""


class Hints(FileSystemEventHandler):
    """Directories that changed since they were last taken; sets `wake` when there is one."""

    def __init__(self, wake: threading.Event) -> None:
        self.wake = wake
        self.lock = threading.Lock()
        self.watched: Path | None = None  # a root that the system tells us of
        self.directories: set[str] = set()  # a file of ours in it changed
        self.trees: set[str] = set()  # it is new, or gone: what lies below is not known

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note where something happened."""
        with self.lock:
            for path in filter(None, (os.fsdecode(event.src_path), os.fsdecode(event.dest_path))):
                if event.is_directory:
                    self.trees.add(path)
                elif recognise(os.path.basename(path)) is not None:  # noqa: PTH119  # a million times an hour
                    self.directories.add(os.path.dirname(path))  # noqa: PTH120
            if not self.directories and not self.trees:
                return
        self.wake.set()

    def suspect(self, trees: Sequence[Path]) -> None:
        """Have `trees` looked at, for something in them may have gone unnoticed."""
        with self.lock:
            self.trees.update(map(str, trees))
        self.wake.set()

    def probe(self) -> None:
        """Say once that the system has no watches left: watchdog passes over directories that it could not watch."""
        with self.lock:
            root, self.watched = self.watched, None
        if root is None:
            return
        if _exhausted(root):
            _say(root, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        else:
            self.watched = root

    def take(self) -> tuple[set[str], set[str]]:
        """Return and forget what changed: directories, and trees."""
        with self.lock:
            taken = self.directories, self.trees
            self.directories, self.trees = set(), set()
        return taken


def observe(hints: Hints, roots: Sequence[Path], *, polling: bool) -> Callable[[], None]:
    """Watch `roots` in the background; return what ends it.

    Setting it up walks every directory, so that happens in a thread. Where the system has no watches left, one line
    says so and the scans go on alone.
    """
    observer: BaseObserver = PollingObserver(timeout=_POLL_SECONDS) if polling else Observer()
    ended = threading.Event()

    def start() -> None:
        for root in roots:
            try:
                observer.schedule(hints, str(root), recursive=True, event_filter=_WANTED)
            except OSError as e:
                _say(root, e)
        if not ended.is_set():
            try:
                observer.start()
            except OSError as e:
                _say(roots[0], e)
            else:
                hints.watched = None if polling else roots[0]
                hints.probe()
        hints.suspect(roots)  # what happened while it was set up

    thread = threading.Thread(target=start, name="observe", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join(timeout=1.0)
        if observer.is_alive():
            observer.stop()
            observer.join(timeout=1.0)

    return end


def _exhausted(path: Path) -> bool:
    """Tell whether Linux refuses one more watch to this user."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC)
    if fd < 0:
        return False  # no instance left for us to ask with; the observer has its own
    try:
        modified = 2
        return libc.inotify_add_watch(fd, os.fsencode(path), modified) < 0 and ctypes.get_errno() == errno.ENOSPC
    finally:
        os.close(fd)


def _say(root: Path, error: OSError) -> None:
    if error.errno in {errno.ENOSPC, errno.EMFILE}:
        hint = "raise it: sysctl fs.inotify.max_user_watches=1048576 fs.inotify.max_user_instances=1024"
        log.get().warning(
            "watch_limit_reached", root=str(root), hint=hint, instead="scanning every --reconcile seconds"
        )
    else:
        log.get().warning("watch_failed", root=str(root), why=str(error), instead="scanning every --reconcile seconds")
