"""What the parent of `up` decides: start again, later and later, or end with a line. No process is started here."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from indexer.config import Config
from summarydb import ending
from summarydb.parent import LAST_PAUSE, Child, Up, cause
from summarydb.settings import Settings


@pytest.fixture
def up() -> Up:
    """A parent that started nothing yet."""
    return Up(Settings(Config()), as_json=False)


def test_pauses_double_up_to_a_bound(up: Up) -> None:
    """A child that dies again and again does not keep the machine busy."""
    up.web.born = float("inf")  # it lived for no time
    pauses = []
    for _ in range(9):
        pauses.append(up.web.pause)
        up.bury(up.web, -9)
    assert [0.5, 1, 2, 4, 8, 16, LAST_PAUSE, LAST_PAUSE, LAST_PAUSE] == pauses


def test_a_child_that_lived_long_starts_at_once_again(up: Up) -> None:
    """What happened an hour ago does not count."""
    up.web.pause = LAST_PAUSE
    up.web.born = float("-inf")
    up.bury(up.web, 70)
    assert 1.0 == up.web.pause  # the next one; this one was the shortest


@pytest.mark.parametrize(
    ("code", "ready", "expected"),
    [
        (ending.REFUSED, True, ending.REFUSED),
        (ending.USAGE, False, ending.USAGE),
        (ending.LATER, False, ending.REFUSED),
        (ending.LATER, True, None),
        (ending.BROKEN, False, None),
        (ending.OK, True, None),
        (-9, False, None),
    ],
)
def test_only_a_refusal_ends_the_whole(up: Up, code: int, ready: bool, expected: int | None) -> None:
    """A database that went away for a moment is waited for, but not at the first start."""
    up.indexer.was_ready = ready
    up.indexer.last_words = "why"
    up.bury(up.indexer, code)
    assert expected == (None if up.refusal is None else up.refusal[0])
    assert (up.indexer.start_at is None) == (expected is not None)


def test_the_indexers_refusal_is_the_one_told(up: Up) -> None:
    """Whoever started us twice learns about the database, not about the port."""
    up.web.last_words, up.indexer.last_words = "port in use", "held by another"
    up.bury(up.web, ending.REFUSED)
    up.bury(up.indexer, ending.REFUSED)
    assert (ending.REFUSED, "held by another") == up.refusal


def test_the_next_web_process_keeps_the_port(up: Up) -> None:
    """Port 0 is any free one the first time only."""
    up.hear(up.web, {"port": 4711})
    assert 4711 == up.settings.config.port


def test_messages_to_a_dead_child_are_lost_in_silence() -> None:
    """A wish to an indexer that is being started again is a hint that nobody takes."""
    Child("indexer").tell(ask={"ask": "load", "jobs": [1]})


@pytest.mark.parametrize(
    ("code", "text"), [(3, "exit code 3"), (-9, "killed by SIGKILL"), (-200, "killed by signal 200")]
)
def test_causes_in_words(code: int, text: str) -> None:
    """A signal has a name where the system knows one."""
    assert text == cause(code)


class Listener(Child):
    """A child that only listens."""

    told: list[dict[str, Any]]

    def tell(self, **message: object) -> None:
        """Note a message."""
        self.told.append(message)


def listening(up: Up) -> Listener:
    """Have a web process that only listens."""
    up.web = web = Listener("web")
    web.told = []
    return web


def test_the_web_learns_what_the_indexer_waits_for(up: Up) -> None:
    """The database cannot say it while it is full or away; nor can an indexer that died."""
    told = listening(up).told
    up.hear(up.indexer, {"migrated": True})
    up.hear(up.indexer, {"waiting": "the disk is full"})
    up.hear(up.indexer, {"waiting": None})
    up.bury(up.indexer, -9)
    up.hear(up.indexer, {"migrated": True})
    died = "the indexer process ended (killed by SIGKILL); it is started again in 0.5 s"
    start = {"migrated": True, "waiting": None}
    assert [start, {"waiting": "the disk is full"}, {"waiting": None}, {"waiting": died}, start] == told


def test_a_web_process_that_starts_again_is_told_what_is_amiss(up: Up) -> None:
    """It was not there when the indexer said so."""
    up.hear(up.indexer, {"migrated": True})
    up.hear(up.indexer, {"waiting": "the disk is full"})
    told = listening(up).told
    up.send_settings(up.web)
    assert {"migrated": True, "waiting": "the disk is full"} == told[-1]


def test_a_child_that_cannot_be_started_is_tried_again(
    up: Up, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The machine may have no process or descriptor left just now; the other child goes on."""

    def none_left(*_args: object, **_more: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    told = listening(up).told
    monkeypatch.setattr("subprocess.Popen", none_left)
    up.start(up.indexer)
    why = "the indexer process cannot be started (Resource temporarily unavailable); it is tried again in 0.5 s"
    assert f"summarydb: {why}\n" == capsys.readouterr().err
    assert [{"waiting": why}] == told
    assert up.indexer.start_at is not None
    assert 1.0 == up.indexer.pause
