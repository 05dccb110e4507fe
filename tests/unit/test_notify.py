"""Hints: what is told of changes, and nothing of what we do ourselves; where the system tells nothing, in words."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from watchdog.events import FileSystemEvent

from indexer.ingest.notify import Hints, observe
from tests.support.program import PATIENCE_SECONDS, command, environment, eventually
from tests.support.records import tb_scalar, tb_version

EVENTS = "events.out.tfevents.1700000000.h"


class Noted(Hints):
    """Hints that keep what they were told."""

    def __init__(self) -> None:
        super().__init__(threading.Event())
        self.told: list[FileSystemEvent] = []

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Keep it."""
        self.told.append(event)
        super().on_any_event(event)


@contextmanager
def observed(root: Path) -> Iterator[Noted]:
    """Give the hints about a root, from the moment that it is watched."""
    hints = Noted()
    end = observe(hints, [root], polling=False)
    try:
        assert hints.wake.wait(PATIENCE_SECONDS)
        assert (set(), {str(root)}) == hints.take()
        yield hints
    finally:
        end()


def test_what_we_read_is_no_news(tmp_path: Path) -> None:
    """Ten thousand idle directories, listed every few seconds, would else keep a core busy with our own traces."""
    run = tmp_path / "a"
    run.mkdir()
    (run / EVENTS).write_bytes(b"x")
    with observed(tmp_path) as hints:
        for _ in range(3):
            assert [EVENTS] == [path.name for path in run.iterdir()]
            assert b"x" == (run / EVENTS).read_bytes()
        with (run / EVENTS).open("ab") as file:
            file.write(b"y")
        eventually(lambda: str(run) in hints.take()[0])
        assert {("modified", False)} == {(event.event_type, event.is_directory) for event in hints.told}


def test_changes_are_news(tmp_path: Path) -> None:
    """New, renamed and deleted directories are trees to look at; files of ours name their directory, others nothing."""
    seen: set[str] = set()
    trees: set[str] = set()

    def look(path: Path, *, tree: bool = False) -> bool:
        directories, below = hints.take()
        seen.update(directories)
        trees.update(below)
        return str(path) in (trees if tree else seen)

    with observed(tmp_path) as hints:
        (tmp_path / "a").mkdir()
        eventually(lambda: look(tmp_path / "a", tree=True))
        (tmp_path / "a" / "notes.txt").write_text("x")
        (tmp_path / "a" / EVENTS).write_bytes(b"x")
        eventually(lambda: look(tmp_path / "a"))
        seen.clear()
        (tmp_path / "a" / EVENTS).unlink()
        eventually(lambda: look(tmp_path / "a"))
        (tmp_path / "a").rename(tmp_path / "b")
        eventually(lambda: look(tmp_path / "b", tree=True))
        trees.clear()
        shutil.rmtree(tmp_path / "b")
        eventually(lambda: look(tmp_path / "b", tree=True))


def limited(watches: int, *arguments: str) -> list[str]:
    """Return a command line that runs in a user namespace of its own, with so few inotify watches."""
    script = f'echo {watches} > /proc/sys/user/max_inotify_watches && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *arguments]


def may_be_limited() -> bool:
    """Tell whether this machine lets us set that limit for ourselves."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(limited(5, "true"), capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_be_limited(), reason="no namespace in which inotify can be limited")
def test_without_watches_polling_goes_on(tmp_path: Path) -> None:
    """One line says what to raise, and what is appended is found all the same."""
    runs = tmp_path / "runs"
    for number in range(20):
        (runs / f"r{number}").mkdir(parents=True)
        (runs / f"r{number}" / EVENTS).write_bytes(tb_version(1.0))
    arguments = ("index", "runs", "--db", "sqlite:///x.db", "--reconcile", "0.2", "--no-kernel")
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            limited(5, *command(*arguments)), cwd=tmp_path, env=environment(), stdout=out, stderr=out
        )
    try:
        eventually(lambda: "watch_limit_reached" in log.read_text())
        with (runs / "r7" / EVENTS).open("ab") as file:
            file.write(tb_scalar("loss", 1, 0.5, 1.0))
        query = ("sql", "SELECT step FROM v_scalars", "--db", "sqlite:///x.db", "--format", "csv")

        def shown() -> bool:
            found = subprocess.run(
                command(*query), cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
            )
            return found.stdout.split() == ["step", "1"]

        eventually(shown)
        lines = [line for line in log.read_text().splitlines() if "watch_limit_reached" in line]
        assert 1 == len(lines)
        assert "sysctl fs.inotify.max_user_watches=" in lines[0]
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
