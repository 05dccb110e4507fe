"""Log lines: every event is documented with its fields, and a rotated file loses none."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from indexer import log
from indexer.errors import Refuse
from indexer.logfile import LogFile
from tests.support.program import CHECKOUT

LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def calls() -> Iterator[tuple[Path, ast.Call]]:
    """Yield each call of a logger: `log.get().level(...)` or `self.log.level(...)`."""
    for package in ("indexer", "webapi", "summarydb", "migrations"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if node.func.attr in LEVELS and re.search(r"\blog(\.get\(\))?$", ast.unparse(node.func.value)):
                    yield path, node


def test_every_event_is_documented() -> None:
    """The page lists the events in the code, each with its level and fields, and no other."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path, call in calls():
        (event,) = call.args
        assert isinstance(event, ast.Constant), (path, call.lineno)
        assert isinstance(event.value, str)
        assert re.fullmatch("[a-z]+(_[a-z]+)*", event.value), event.value
        assert isinstance(call.func, ast.Attribute)
        found[event.value, call.func.attr] |= {str(keyword.arg) for keyword in call.keywords}
    page = (CHECKOUT / "docs/logs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    assert sorted(rows) == rows
    assert {(event, level): set(re.findall(r"`(\w+)`", fields)) for event, level, fields in rows} == dict(found)


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Path]:
    """A file that log lines go to, and afterwards no more."""
    structlog.reset_defaults()
    path = tmp_path / "x.log"
    log.configure(json=True, file=str(path))
    yield path
    log.configure()
    structlog.reset_defaults()


def events(path: Path) -> list[str]:
    """Return the events in a file, a JSON object a line."""
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="an open file is not moved there")
def test_a_log_that_is_moved_away_goes_on_anew(configured: Path) -> None:
    """As logrotate does it: lines are in one file or the other, and nobody had to be told."""
    log.get().warning("first")
    configured.rename(configured.with_suffix(".1"))
    log.get().warning("second")
    log.get().warning("third")
    assert (["first"], ["second", "third"]) == (events(configured.with_suffix(".1")), events(configured))
    configured.unlink()
    log.get().warning("fourth")
    assert ["fourth"] == events(configured)


def test_a_log_that_is_emptied_begins_again(configured: Path) -> None:
    """As logrotate's copytruncate does it: no hole stands before what follows."""
    log.get().warning("first")
    os.truncate(configured, 0)
    log.get().warning("second")
    assert ["second"] == events(configured)


@pytest.mark.skipif(sys.platform == "win32", reason="modes as POSIX has them")
def test_a_log_is_not_for_everybody(configured: Path) -> None:
    """It holds names of runs and addresses of clients."""
    assert 0 == configured.stat().st_mode & 0o007


def test_a_log_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """At the start, in words; later it is no reason to stop."""
    with pytest.raises(Refuse, match=r"--log-file .*no/x\.log cannot be written \(No such file or directory\)"):
        log.configure(file=str(tmp_path / "no" / "x.log"))


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    """Each line is written at once, at the end: none overwrites another's."""
    one, other = LogFile(tmp_path / "x"), LogFile(tmp_path / "x")
    for number in range(3):
        one.write(f"one {number}\n")
        other.write(f"other {number}\n")
    assert [f"{who} {n}" for n in range(3) for who in ("one", "other")] == (tmp_path / "x").read_text().splitlines()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
def test_a_log_that_is_full_is_no_reason_to_stop(configured: Path) -> None:
    """The line is lost, the work goes on."""
    configured.unlink()
    configured.symlink_to("/dev/full")
    log.get().warning("lost")
    configured.unlink()
    log.get().warning("kept")
    assert ["kept"] == events(configured)
