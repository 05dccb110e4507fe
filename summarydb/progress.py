"""How far a load is: a bar on a terminal, a plain line now and then elsewhere, both on standard error."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from indexer.log import Unfailing

_BAR = 24  # characters
_PLAIN_SECONDS = 5.0  # between two plain lines
_BAR_SECONDS = 0.1  # between two looks of a bar


class ProgressLine:
    """Shows a load until everything on disk is loaded once; then it says so and keeps quiet."""

    def __init__(self, out: TextIO, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.out = Unfailing(out)
        self.terminal = out.isatty()
        self.monotonic = monotonic
        self.shown = monotonic()
        self.drawn = False
        self.over = False

    def show(self, *, jobs: int, cached: int, bytes_on_disk: int, bytes_indexed: int, points: int) -> None:
        """Show counts of the whole database. Does nothing once all was loaded."""
        if self.over:
            return
        share = min(bytes_indexed / bytes_on_disk, 1.0) if bytes_on_disk else 1.0
        text = f"{cached:,} of {jobs:,} jobs, {size(bytes_indexed)} of {size(bytes_on_disk)}, {points:,} points"
        if jobs and cached == jobs:
            self.close()
            self.over = True
            self._line(f"loaded {text}")
        elif self.terminal:
            filled = int(share * _BAR)
            self.drawn = True
            # The cursor goes back to the left, so that a log line overwrites the bar.
            bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%}  {text}"
            self.out.write(f"\r\x1b[2K{bar[: shutil.get_terminal_size().columns - 1]}\r")
            self.out.flush()
        elif self.monotonic() - self.shown >= _PLAIN_SECONDS:
            self._line(f"loading: {share:.0%}, {text}")

    def close(self) -> None:
        """Remove the bar, so that what follows starts on an empty line."""
        if self.drawn:
            self.drawn = False
            self.out.write("\r\x1b[2K")
            self.out.flush()

    def _line(self, text: str) -> None:
        self.shown = self.monotonic()
        self.out.write(f"{text}\n")
        self.out.flush()


class ShareLine:
    """Shows how far any other work is."""

    def __init__(self, out: TextIO, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.out = out
        self.terminal = out.isatty()
        self.monotonic = monotonic
        self.shown = monotonic()
        self.drawn = False

    def show(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` is done, and what is at work just now."""
        now = self.monotonic()
        if now - self.shown < (_BAR_SECONDS if self.terminal else _PLAIN_SECONDS):
            return
        self.shown = now
        share = min(done / total, 1.0) if total else 1.0
        if self.terminal:
            filled = int(share * _BAR)
            self.drawn = True
            bar = f"[{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%}  {what}"
            self.out.write(f"\r\x1b[2K{bar[: shutil.get_terminal_size().columns - 1]}\r")
        else:
            self.out.write(f"{share:.0%} {what}\n")
        self.out.flush()

    def close(self) -> None:
        """Remove the bar."""
        if self.drawn:
            self.drawn = False
            self.out.write("\r\x1b[2K")
            self.out.flush()


def size(count: int) -> str:
    """Return bytes as people read them: `1.5 MB`, decimal units."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
