"""The program as a user runs it: a process of its own, in a directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

CHECKOUT = Path(__file__).resolve().parents[2]
T = TypeVar("T")
PATIENCE_SECONDS = 30.0
"""How long a test waits for what should take a moment, on a machine that is busy."""


class Running:
    """A started `summarydb` whose output goes to files, so that it never waits for us to read it."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self.out = out
        self.err = err

    @property
    def url(self) -> str:
        """The address it printed, without `/` at its end; waits for it."""
        line = eventually(self.printed)
        return line[line.index("http://") :].strip()

    def printed(self) -> str:
        """Return its first line on standard output, empty where there is none yet."""
        if self.process.poll() is not None and not self.out.read_text():
            raise AssertionError(f"ended with {self.process.returncode}: {self.err.read_text()}")
        text = self.out.read_text()
        return text if text.endswith("\n") else ""

    def get(self, path: str) -> Any:
        """Return the JSON at `path`, below the API."""
        with urllib.request.urlopen(f"{self.url}/api/v1{path}", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def child(self, command: str) -> psutil.Process:
        """Return the child that runs `_index` or `_serve`; waits for it."""

        def look() -> psutil.Process | None:
            for child in psutil.Process(self.process.pid).children():
                try:
                    if command in child.cmdline():
                        return child
                except psutil.Error:
                    continue  # it ended meanwhile
            return None

        found = eventually(look)
        assert found is not None
        return found


def environment() -> dict[str, str]:
    """Return an environment that finds this checkout, and no settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUMMARYDB_")}
    before = kept.get("PYTHONPATH")
    return {**kept, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *([before] if before else [])])}


def command(*arguments: str) -> list[str]:
    """Return a command line of the program."""
    return [sys.executable, "-m", "summarydb", *arguments]


def run(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end. given: its standard input."""
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env={**environment(), **(env or {})},
        input=given,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )


@contextmanager
def started(*arguments: str, cwd: Path) -> Iterator[Running]:
    """Run the program until the block ends; then it is killed, if it still runs, and its children with it."""
    number = len(list(cwd.glob("*.out")))
    out, err = cwd / f"{number}.out", cwd / f"{number}.err"
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = subprocess.Popen(
            command(*arguments),
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=to_out,
            stderr=to_err,
            start_new_session=True,  # so that a test may signal all of it, as a terminal does
        )
    try:
        yield Running(process, out, err)
    finally:
        if process.poll() is None:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
            for one in family:
                one.kill()
        process.wait(PATIENCE_SECONDS)


def eventually(look: Callable[[], T], *, seconds: float = PATIENCE_SECONDS) -> T:
    """Return what `look` returns as soon as that is true; fail when it is not in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"still {found!r} after {seconds} s")
        time.sleep(0.01)


def append(path: Path, records: Sequence[bytes]) -> None:
    """Append records to an event file, as a training does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(records))
