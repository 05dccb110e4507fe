"""The parent of `up`: one indexer and one web process, started, told, restarted and ended; it imports little.

The web asks the indexer through here, never through the database. A child that dies is started again; one that
refuses (exit code 1 or 2: an operator must act) ends the whole with its line.
"""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from summarydb import ending, systemd
from summarydb.progress import ProgressLine
from summarydb.settings import Settings, to_json
from summarydb.work import how_to_open

FIRST_PAUSE = 0.5  # seconds before a child is started again; doubles up to LAST_PAUSE
LAST_PAUSE = 30.0
STEADY_SECONDS = 60.0  # a child that lived this long starts at FIRST_PAUSE again
CHILD_SECONDS = 1.5  # given to the children to end, before they are killed

Task = Literal["indexer", "web"]
_COMMANDS: dict[Task, str] = {"indexer": "_index", "web": "_serve"}


@dataclass(frozen=True, slots=True)
class Exited:
    """A child's last message, made here: it ended with `code`, negative for a signal."""

    code: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants us to end."""


@dataclass(slots=True)
class Child:
    """One of the two processes, over all its lives."""

    task: Task
    process: subprocess.Popen[str] | None = None
    born: float = 0.0
    pause: float = FIRST_PAUSE
    start_at: float | None = None  # monotonic, seconds; None: it runs
    was_ready: bool = False  # ever
    last_words: str = ""

    def tell(self, **message: object) -> None:
        """Send one message; a child that is gone needs none."""
        if self.process is None or self.process.stdin is None:
            return
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except (OSError, ValueError):  # ValueError: closed already
            return


Inbox = queue.SimpleQueue[tuple[Child, dict[str, Any] | Exited] | Asked]
"""SimpleQueue, because its put may be called while the same thread is inside its get."""


def run(settings: Settings, *, as_json: bool = False) -> int:
    """Run until a signal or a refusal; return the exit code."""
    up = Up(settings, as_json=as_json)
    with ending.signals(lambda: up.inbox.put(Asked())):
        try:
            return up.run()
        finally:
            up.end()


class Up:
    """What the parent knows."""

    def __init__(self, settings: Settings, *, as_json: bool) -> None:
        self.settings = settings
        self.as_json = as_json
        self.inbox: Inbox = queue.SimpleQueue()
        self.indexer = Child("indexer")
        self.web = Child("web")
        self.progress = ProgressLine(sys.stderr)
        self.migrated = False
        self.announced = False
        self.waiting: str | None = None  # what the indexer waits for, or waits of it
        self.refusal: tuple[int, str] | None = None

    def run(self) -> int:
        """Run until a signal or a refusal; return the exit code."""
        for child in (self.indexer, self.web):
            self.start(child)
        while True:
            try:
                found = self.inbox.get(timeout=self.until_next_start())
            except queue.Empty:
                self.start_due()
                continue
            if isinstance(found, Asked):
                return ending.OK
            child, message = found
            if isinstance(message, Exited):
                self.bury(child, message.code)
            else:
                self.hear(child, message)
            # Whoever finds the port taken may have started us twice: the line about the database says more.
            if self.refusal is not None and (self.migrated or self.indexer.process is None):
                code, line = self.refusal
                self.progress.close()
                ending.say(line)
                return code
            self.start_due()

    def start(self, child: Child) -> None:
        """Start `child`."""
        try:
            child.process = spawn(_COMMANDS[child.task])
        except OSError as e:  # no descriptor, no memory, too many processes: that passes
            self.start_later(child, f"cannot be started ({e.strerror or e}); it is tried")
            return
        child.born = time.monotonic()
        child.start_at = None
        child.last_words = ""
        self.send_settings(child)
        threading.Thread(target=self.listen, args=(child, child.process), daemon=True).start()

    def send_settings(self, child: Child) -> None:
        """Send what a child needs first, as one line; the web also whether the schema is there, and what is amiss."""
        child.tell(**to_json(self.settings))
        if child is self.web and self.migrated:
            child.tell(migrated=True, waiting=self.waiting)

    def listen(self, child: Child, process: subprocess.Popen[str]) -> None:
        """Put all that `process` says into the inbox, and its end."""
        if process.stdout is not None:
            with process.stdout as lines:
                for line in lines:
                    self.inbox.put((child, json.loads(line)))
        self.inbox.put((child, Exited(process.wait())))

    def hear(self, child: Child, message: dict[str, Any]) -> None:
        """Act on one message of a child."""
        match message:
            case {"migrated": True}:
                self.migrated = child.was_ready = True
                self.waiting = None
                self.web.tell(migrated=True, waiting=None)
            case {"waiting": str() | None as why}:
                self.waiting = why
                self.web.tell(waiting=why)
            case {"progress": dict(progress)}:
                self.progress.show(**progress)
            case {"port": int(port)}:  # the next life of the web keeps the address
                self.settings = replace(self.settings, config=replace(self.settings.config, port=port))
            case {"turned": True}:
                systemd.tell(systemd.ALIVE)
            case {"ready": str(url), **more}:
                child.was_ready = True
                self.announce(url, more.get("grpc"))
            case {"ask": dict(wish)}:
                self.indexer.tell(ask=wish)
            case {"refused": str(line)}:
                child.last_words = line

    def announce(self, url: str, grpc: str | None) -> None:
        """Print where we answer, once."""
        if self.announced:
            return
        self.announced = True
        systemd.tell(systemd.READY)
        self.progress.close()
        try:
            sys.stdout.write(ending.served(url, grpc, as_json=self.as_json) + "\n")
            sys.stdout.flush()
        except OSError:
            return  # nobody reads it
        if (line := how_to_open(self.settings.config, url)) is not None:
            ending.say(line)

    def bury(self, child: Child, code: int) -> None:
        """Note that `child` ended: a refusal ends us, anything else starts it again after a pause."""
        child.process = None
        if code in {ending.REFUSED, ending.USAGE} or (code == ending.LATER and not child.was_ready):
            if self.refusal is None or child is self.indexer:
                words = child.last_words or f"the {child.task} process"
            self.refusal = (ending.USAGE if code == ending.USAGE else ending.REFUSED, words)
            return
        if time.monotonic() - child.born > STEADY_SECONDS:
            child.pause = FIRST_PAUSE
        self.start_later(child, f"ended ({child.last_words or cause(code)}); it is started")

    def start_later(self, child: Child, why: str) -> None:
        """Start `child` after its pause, and say so; the web is told what the indexer lacks."""
        self.progress.close()
        news = f"the {child.task} process {why} again in {child.pause:g} s"
        ending.say(news)
        if child is self.indexer:
            self.waiting = news
            self.web.tell(waiting=news)
        child.start_at = time.monotonic() + child.pause
        child.pause = min(child.pause * 2, LAST_PAUSE)

    def start_due(self) -> None:
        """Start every child whose pause is over."""
        for child in (self.indexer, self.web):
            if child.start_at is not None and time.monotonic() >= child.start_at:
                self.start(child)

    def until_next_start(self) -> float:
        """Return seconds to wait for messages; never long, for on Windows a wait does not see Ctrl-C."""
        waits = [child.start_at - time.monotonic() for child in (self.indexer, self.web) if child.start_at is not None]
        return max(0.0, min([0.5, *waits]))

    def end(self) -> None:
        """End both children: their standard input closes, and who does not mind that is killed."""
        systemd.tell(systemd.ENDING)
        self.progress.close()
        running = [child.process for child in (self.indexer, self.web) if child.process is not None]
        for process in running:
            try:
                if process.stdin is not None:
                    process.stdin.close()
            except OSError:
                continue  # it is gone already
        deadline = time.monotonic() + CHILD_SECONDS
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def spawn(*arguments: str) -> subprocess.Popen[str]:
    """Start a child of this program; it sees the same modules as we do, whatever the current directory holds."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from summarydb.__main__ import main; main()"
    with _terminal_signals_blocked():
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # Windows: no Ctrl-C for children
        )


@contextmanager
def _terminal_signals_blocked() -> Iterator[None]:
    """Have what is started here ignore the terminal's Ctrl-C from its first moment: it is ended by us."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cause(code: int) -> str:
    """Return an exit code as words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
