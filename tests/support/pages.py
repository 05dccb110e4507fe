"""TensorBoard's own web server as a process, and what its routes answer."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from tests.support.program import PATIENCE_SECONDS, environment, eventually

_ADDRESS = re.compile(r"at (http://\S+?)/? ")
SAMPLES = ",".join(
    f"{name}={count}"
    for name, count in (
        ("scalars", 100_000),
        ("images", 1000),
        ("audio", 1000),
        ("text", 1000),
        ("histograms", 1000),
        ("pr_curves", 1000),
        ("mesh", 1000),
    )
)
DATA_SERVER = "from summarydb.dataserver import main; main()"


class Pages:
    """A running TensorBoard."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def url(self) -> str:
        """Its address; waits for it."""

        def look() -> str:
            assert self.process.poll() is None, self.log.read_text()
            found = _ADDRESS.search(self.log.read_text())
            return found[1] if found else ""

        return eventually(look)

    def get(self, path: str, given: object = None, /, **parameters: object) -> Any:
        """Return what a route answers: JSON where it is JSON, else its bytes. given: JSON to post."""
        query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
        data = None if given is None else json.dumps(given).encode()
        asked = urllib.request.Request(f"{self.url}{path}{query}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS) as answer:
            content: bytes = answer.read()
            return json.loads(content) if "json" in answer.headers["Content-Type"] else content

    def plugin(self, path: str, given: object = None, /, **parameters: object) -> Any:
        """Return what a plugin's route answers."""
        return self.get(f"/data/plugin/{path}", given, **parameters)

    def family(self) -> list[psutil.Process]:
        """Return it and all that it started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]


@contextmanager
def pages(
    arguments: Sequence[str], directory: Path, name: str, *, env: Mapping[str, str] | None = None
) -> Iterator[Pages]:
    """Run a command that serves TensorBoard's pages until the block ends."""
    log = directory / f"{name}.log"
    with log.open("wb") as to_log:
        process = subprocess.Popen(
            list(arguments),
            cwd=directory,
            env=environment() | {"XDG_CACHE_HOME": str(directory / "cache")} | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=to_log,
            stderr=to_log,
            start_new_session=True,
        )
    try:
        yield Pages(process, log)
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_SECONDS / 3)
            except subprocess.TimeoutExpired:
                process.kill()
            psutil.wait_procs(family, PATIENCE_SECONDS / 3)
        process.wait(PATIENCE_SECONDS)


def tensorboard(*flags: str) -> list[str]:
    """Return TensorBoard's own command line, on any free port."""
    return [sys.executable, "-P", "-m", "tensorboard.main", "--port=0", f"--samples_per_plugin={SAMPLES}", *flags]


def data_server(directory: Path) -> Path:
    """Return an executable file that is our data server, as an installed console script is one."""
    path = directory / "summarydb-data-server"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -P -c "{DATA_SERVER}" "$@"\n')
    path.chmod(0o755)
    return path


def error_of(url: str) -> int:
    """Return the status that an address answers with."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as e:
        return e.code
