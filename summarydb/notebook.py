"""`summarydb.up(...)` in a notebook's cell: the program in a process of its own, which ends with the notebook's."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from indexer.errors import Refuse, Wait
from summarydb import markup
from summarydb.client import Connection, connect

START_SECONDS = 60.0
END_SECONDS = 5.0
KEPT_LINES = 50
"""Of what the program says of itself."""


def up(
    *logdirs: str | os.PathLike[str],
    db: str | None = None,
    port: int = 0,
    token: str | None = None,
    options: Sequence[str] = (),
    seconds: float = START_SECONDS,
) -> Running:
    """Start `summarydb up LOGDIR...` and return as soon as it answers; the first load may still run.

    db: its database, as the flag.  port: 0 for any free one.  token: asked of whoever reads; it is in no command line.
    options: more flags, as `["--reconcile", "2"]`.  seconds: given to the start.
    Refuse where it will not start, with its own line; Wait where it does not answer in time.
    It ends with `stop()`, at the end of a `with` block, and at the latest with this process, however that ends.
    """
    flags = ["--port", str(port), "--json", *(["--db", db] if db is not None else []), *options]
    # The child sees the same modules as we do, whatever the current directory holds.
    code = f"import sys; sys.path[:] = {sys.path!r}; from summarydb.__main__ import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "_up", *flags, "--", *(str(os.fspath(logdir)) for logdir in logdirs)],
        stdin=subprocess.PIPE,  # closed when we end, even by a kill: that is what ends it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=None if token is None else os.environ | {"SUMMARYDB_TOKEN": token},
        start_new_session=True,  # an interrupted cell does not interrupt it
    )
    running = Running(process, token)
    try:
        running.wait_until_it_answers(seconds)
    except BaseException:
        running.stop()
        raise
    return running


class Running:
    """A program that runs beside the notebook."""

    def __init__(self, process: subprocess.Popen[str], token: str | None) -> None:
        self._process = process
        self._token = token
        self._url: str | None = None
        self._said: deque[str] = deque(maxlen=KEPT_LINES)
        self._news = threading.Event()  # it answers, or it ended
        self._readers = [
            threading.Thread(target=self._hear, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._keep, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        atexit.register(self.stop)

    @property
    def url(self) -> str:
        """Where it answers, `http://HOST:PORT`."""
        if self._url is None:
            raise Wait("summarydb up does not answer yet: wait for up() to return")
        return self._url

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def log(self) -> list[str]:
        """What it said of itself last: progress, and what went wrong."""
        return list(self._said)

    def connect(self) -> Connection:
        """Return a connection to it."""
        return connect(self.url, token=self._token)

    def stop(self) -> None:
        """End it; does nothing where it ended."""
        atexit.unregister(self.stop)
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(END_SECONDS)

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_it_answers(self, seconds: float) -> None:
        """Return when it does. Refuse where it ends first, Wait where it takes longer."""
        if not self._news.wait(seconds):
            raise Wait(f"summarydb up does not answer after {seconds:g} s: its last line is {self._last()!r}")
        if self._url is None:
            self._process.wait()
            self._readers[1].join(END_SECONDS)
            raise Refuse(f"summarydb up ended with {self._process.returncode}: {self._last()}")

    def __repr__(self) -> str:
        return f"<summarydb up at {self._url}>" if self.running else "<summarydb up, stopped>"

    def _repr_html_(self) -> str:
        if not self.running:
            return markup.facts("summarydb up, stopped", [("last line", self._last())])
        return markup.facts("summarydb up", []) + markup.link(self.url)

    def _last(self) -> str:
        return self._said[-1].removeprefix("summarydb: ") if self._said else "it said nothing"

    def _hear(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                if self._url is None:
                    self._url = json.loads(line)["url"]
                    self._news.set()
        self._news.set()

    def _keep(self, lines: IO[str]) -> None:
        with lines:
            self._said.extend(line.rstrip() for line in lines)
