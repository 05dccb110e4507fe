"""Where the outside comes in: time and files. Tests pass their own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


class Clock(Protocol):
    """Time as a parameter."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def wait(self, wake: threading.Event, seconds: float) -> bool:
        """Wait until `wake` is set or `seconds` are over; tell whether it was set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def wait(self, wake: threading.Event, seconds: float) -> bool:
        """Wait until `wake` is set or `seconds` are over; tell whether it was set."""
        return wake.wait(seconds)


@dataclass(frozen=True, slots=True)
class Stat:
    """What identifies a file and its state on disk."""

    size: int  # bytes
    mtime_ns: int
    file_id: str  # "device:inode", in decimal


class Files(Protocol):
    """A file system, as far as the indexer needs one."""

    def scandir(self, path: Path | str) -> Iterator[os.DirEntry[str]]:
        """List `path`; OSError where it cannot be listed."""
        ...

    def open(self, path: Path) -> BinaryIO:
        """Open a regular file for unbuffered reading; OSError where it is none."""
        ...


class SystemFiles:
    """The machine's file system."""

    def scandir(self, path: Path | str) -> Iterator[os.DirEntry[str]]:
        """List `path`."""
        with os.scandir(path) as entries:
            return iter([*entries])

    def open(self, path: Path) -> BinaryIO:
        """Open for reading, unbuffered; never blocks on a FIFO."""
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.fdopen(os.open(path, flags), "rb", buffering=0)


def stat_of(status: os.stat_result) -> Stat:
    """Return the part of `status` we compare."""
    return Stat(status.st_size, status.st_mtime_ns, f"{status.st_dev}:{status.st_ino}")
