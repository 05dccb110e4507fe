"""A child of `up`: settings come in on standard input, messages go both ways as JSON lines, the end is its end.

From the parent: the settings, then {"migrated": true} and {"waiting": TEXT or null} to the web and {"ask": {...}} to
the indexer. Standard input closes when the parent asks us to end, and also when it dies in whatever way: that is how
nobody is left behind.
To the parent: {"migrated": true}, {"progress": {...}}, {"port": N}, {"ready": URL}, {"ask": {...}}, {"waiting": TEXT or
null}, {"turned": true} every few seconds while the indexer's loop turns, {"refused": LINE}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from indexer.errors import Retry, SummaryDBError, Wait
from summarydb import ending, work
from summarydb.settings import Settings, from_json

if TYPE_CHECKING:
    from indexer.ingest.watch import Indexer, Progress

GRACE_SECONDS = 0.8
"""Given to work in hand when standard input closes; less than `up` gives its children."""


class Parent:
    """Both pipes to `up`, as its child holds them."""

    def __init__(self, settings: Settings, given: TextIO, out: TextIO) -> None:
        self.settings = settings
        self.given = given
        self.out = out
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def tell(self, **message: object) -> None:
        """Send one message; a parent that is gone needs none."""
        with self.lock:
            try:
                self.out.write(json.dumps(message) + "\n")
                self.out.flush()
            except OSError:
                self.stop.set()

    def listen(self, heard: Callable[[dict[str, Any]], None]) -> None:
        """Call `heard` with every message, in a thread; when there are no more, end."""

        def hear() -> None:
            for line in self.given:
                heard(json.loads(line))
            ending.end_soon(self.stop, seconds=GRACE_SECONDS)

        threading.Thread(target=hear, daemon=True).start()


def run(task: Callable[[Parent], None]) -> int:
    """Run a child's `task`; return the exit code, which tells the parent whether to start it again."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the parent too, who ends us
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints must not look like a message
    first = sys.stdin.readline()
    if not first:
        return ending.OK  # the parent is gone already
    parent = Parent(from_json(json.loads(first)), sys.stdin, out)
    try:
        task(parent)
    except SummaryDBError as e:
        parent.tell(refused=str(e))
        return ending.LATER if isinstance(e, Retry | Wait) else ending.code_of(e)
    except Exception as e:
        parent.tell(refused=ending.describe_bug(e, verbose=parent.settings.verbose))
        return ending.BROKEN
    return ending.OK


def index(parent: Parent, *, once: bool = False) -> None:
    """Index until the parent ends; with `once`, one pass."""
    indexers: list[Indexer] = []

    def heard(message: dict[str, Any]) -> None:
        for indexer in indexers:  # none before it is ready
            if "ask" in message:
                indexer.request(message["ask"])

    def report(progress: Progress) -> None:
        parent.tell(progress=asdict(progress))

    parent.listen(heard)
    work.index(
        parent.settings,
        parent.stop,
        once=once,
        report=report,
        migrated=lambda: parent.tell(migrated=True),
        ready=indexers.append,
        waiting=lambda why: parent.tell(waiting=why),
        turned=lambda: parent.tell(turned=True),
    )


def serve(parent: Parent) -> None:
    """Serve until the parent ends. The socket listens at once: whoever comes early waits, and is answered."""
    migrated = threading.Event()
    waiting: list[str | None] = [None]  # what the indexer waits for

    def heard(message: dict[str, Any]) -> None:
        if "migrated" in message:
            migrated.set()
        if "waiting" in message:
            waiting[0] = message["waiting"]

    parent.listen(heard)
    config = parent.settings.config
    with work.listen(config.host, config.port) as sock:
        parent.tell(port=sock.getsockname()[1])
        with work.importing():
            import webapi.app  # while the schema is made
            import webapi.server  # noqa: F401

        while not migrated.wait(0.1):
            if parent.stop.is_set():
                return
        work.serve(
            parent.settings,
            sock,
            parent.stop,
            ready=lambda grpc: parent.tell(ready=work.address_of(config, sock), grpc=grpc),
            ask=lambda message: parent.tell(ask=message),
            waiting=lambda: waiting[0],
        )
