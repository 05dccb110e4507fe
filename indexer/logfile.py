"""A file that lines are appended to while others rotate it: moved away, it is made anew; emptied, it begins again."""

from __future__ import annotations

import os
import threading
from pathlib import Path

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
_MODE = 0o640  # names of runs, addresses of clients: not for everybody


class LogFile:
    """Writes whole lines, each by one call: several processes may share the file.

    Before each line it looks whether the name still leads to the file it has open, so nobody has to tell it when
    `logrotate` moved it away. It appends, so that after `copytruncate` the file does not begin with a hole.
    """

    def __init__(self, path: Path) -> None:
        """Open it. OSError where that cannot be done."""
        self._path = path
        self._lock = threading.Lock()
        self._fd = os.open(path, _FLAGS, _MODE)

    def write(self, text: str) -> int:
        """Append `text`. OSError where it cannot be written."""
        with self._lock:
            if self._moved():
                fd = os.open(self._path, _FLAGS, _MODE)
                os.close(self._fd)
                self._fd = fd
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Do nothing: each line is written at once."""

    def isatty(self) -> bool:
        """Tell that no terminal shows it."""
        return False

    def _moved(self) -> bool:
        mine = os.fstat(self._fd)
        try:
            named = self._path.stat()
        except FileNotFoundError:
            return True
        return (mine.st_dev, mine.st_ino) != (named.st_dev, named.st_ino)
