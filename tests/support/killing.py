"""Indexers that are killed at a commit: each is a process of its own, forked from one that has imported everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from indexer.config import Config
from indexer.db.connection import Database
from indexer.ingest.watch import Indexer
from tests.support.faults import commits
from tests.support.following import StillClock, given
from tests.support.program import CHECKOUT, environment

NEVER = -1


@dataclass(frozen=True, slots=True)
class Life:
    """How an indexer ended: killed or not, and after how many commits."""

    killed: bool
    commits: int


class Nursery:
    """Starts indexers, one after the other, that load what is on disk."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, url: str, root: Path, *, config: Config, now: float, kill_at: int = NEVER) -> Life:
        """Load all there is; with `kill_at` the process kills itself before the commit of this number."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"url": url, "root": str(root), "config": asdict(config), "now": now, "kill_at": kill_at}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["status"] in {0, -signal.SIGKILL}, answer
        return Life(answer["status"] != 0, answer["commits"])


@contextmanager
def nursery() -> Iterator[Nursery]:
    """Start the process that others are forked from."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.killing"],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()


def _main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _load(order, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as counted:
            count = len(counted.read())  # a byte a commit
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status), "commits": count}) + "\n")
        sys.stdout.flush()


def _load(order: dict[str, Any], counter: int) -> None:
    """Be the child; its only ways out are the end of this process."""
    status = 1
    try:

        def each(number: int, when: str, _raw: object) -> None:
            if when == "after":
                os.write(counter, b".")
            elif number == order["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)

        config = replace(Config(**order["config"]), roots=given([Path(order["root"])]))
        database = Database(order["url"])
        with commits(each):
            Indexer(config, database, clock=StillClock(order["now"])).run(threading.Event(), once=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _main()
