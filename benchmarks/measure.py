"""Run a program as a subprocess of its own group, and measure it: wall time, proportional memory, output with times."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

REPOSITORY = Path(__file__).resolve().parents[1]
DEADLINE_SECONDS = 1_800.0
SAMPLE_SECONDS = 0.02
_STOP_SECONDS = 5.0


class Failed(Exception):
    """A program ended otherwise than it should, took too long, or gave wrong answers. The text holds its last lines."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A program that ended well."""

    seconds: float  # from before it was started until it was gone
    pss: int | None  # bytes: peak of the sum over its processes; None where it was not watched
    max_rss: int  # bytes, of the largest single process, shared pages counted whole
    output: str
    cpu_seconds: float = 0.0  # of the process and those that it waited for


class Program:
    """A running program. Leaving the context ends it and all that it started."""

    def __init__(
        self, command: Sequence[str | Path], *, env: dict[str, str] | None = None, watch_memory: bool = False
    ) -> None:
        self.started = time.perf_counter()
        self.process = subprocess.Popen(
            [str(word) for word in command],
            cwd=REPOSITORY,
            env=environment() | (env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, so that we can end all of it
        )
        self.output: list[str] = []
        self._arrived: queue.SimpleQueue[tuple[float, str] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.memory = Memory(self.process.pid) if watch_memory else None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text = line.decode(errors="replace").rstrip()
            self.output.append(text)
            self._arrived.put((time.perf_counter(), text))
        self._arrived.put(None)

    def wait_for(self, pattern: str, *, seconds: float = DEADLINE_SECONDS) -> tuple[float, re.Match[str]]:
        """Return when (seconds since the start) a line that holds `pattern` came, and the match."""
        deadline = self.started + seconds
        while True:
            try:
                line = self._arrived.get(timeout=max(0.0, deadline - time.perf_counter()))
            except queue.Empty:
                raise self.failed(f"printed no line with {pattern!r} in {seconds:.0f} s") from None
            if line is None:
                raise self.failed(f"ended before it printed a line with {pattern!r}")
            if match := re.search(pattern, line[1]):
                return line[0] - self.started, match

    def finish(self, *, seconds: float = DEADLINE_SECONDS) -> Outcome:
        """Wait until the program ends by itself with exit code 0."""
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.start()
        try:
            _, status, usage = os.wait4(self.process.pid, 0)
            took = time.perf_counter() - self.started
        finally:
            watchdog.cancel()  # or it would hold up our own end
        self.process.returncode = os.waitstatus_to_exitcode(status)
        pss = self.memory.stop() if self.memory else None
        self._reader.join(_STOP_SECONDS)
        if self.process.returncode != 0:
            raise self.failed(f"ended with code {self.process.returncode} after {took:.1f} s")
        unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
        cpu = usage.ru_utime + usage.ru_stime
        return Outcome(took, pss, usage.ru_maxrss * unit, "\n".join(self.output), cpu)

    def read_bytes(self) -> int:
        """Return the bytes that the program and all below it have read so far; 0 where the system does not tell.

        Source: proc(5), rchar: also what came from the page cache.
        """
        return sum(_read_so_far(pid) for pid in _tree(self.process.pid))

    def failed(self, what: str) -> Failed:
        """Return an error that says which program, what, and its last lines."""
        words = [Path(str(word)).name for word in self.process.args] if isinstance(self.process.args, list) else []
        return Failed(f"{' '.join(words[:6])}: {what}\n" + "\n".join(self.output[-15:]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.memory:
            self.memory.stop()
        if self.process.returncode is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):  # what it started and left behind
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(_STOP_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Memory:
    """Samples the proportional set size of a process and all below it. Source: proc(5), smaps_rollup."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.peak: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while True:
            total = sum(_pss(pid) for pid in _tree(self.pid))
            if total:
                self.peak = max(self.peak or 0, total)
            if self._stopped.wait(SAMPLE_SECONDS):
                return

    def stop(self) -> int | None:
        """End the sampling and return the peak in bytes; None where the system does not tell."""
        self._stopped.set()
        self._thread.join()
        return self.peak


def environment() -> dict[str, str]:
    """Return our environment for subprocesses: bytecode may be cached, as where a package is installed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _tree(pid: int) -> Iterator[int]:
    """Yield `pid` and all processes below it."""
    yield pid
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _tree(int(child))


def _pss(pid: int) -> int:
    """Return the proportional set size of one process in bytes; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _read_so_far(pid: int) -> int:
    """Return the bytes that one process has read; 0 where it is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/io").read_text().split()[1])
    return 0
