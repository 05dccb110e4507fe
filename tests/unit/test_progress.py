"""Progress: a bar on a terminal, plain lines elsewhere, and an end to both."""

from __future__ import annotations

import io
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from summarydb.progress import ProgressLine, ShareLine, size


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def show(line: ProgressLine, *, cached: int, indexed: int) -> None:
    """Show a load of 2 jobs and 1000 bytes."""
    line.show(jobs=2, cached=cached, bytes_on_disk=1000, bytes_indexed=indexed, points=1234)


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is drawn over itself, and nothing of it is left at the end."""
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    line = ProgressLine(out)
    show(line, cached=1, indexed=500)
    assert "[############............]  50%  1 of 2 jobs, 500 B of 1.0 kB, 1,234 points\r" in out.getvalue()
    assert "\n" not in out.getvalue()
    show(line, cached=2, indexed=1000)
    assert out.getvalue().endswith("\r\x1b[2Kloaded 2 of 2 jobs, 1.0 kB of 1.0 kB, 1,234 points\n")


def test_elsewhere_a_line_now_and_then() -> None:
    """A log file gets a line each five seconds at most, and one at the end."""
    out = io.StringIO()
    now = 0.0
    line = ProgressLine(out, monotonic=lambda: now)
    for second in range(12):
        now = float(second)
        show(line, cached=1, indexed=100 * second // 2)
    show(line, cached=2, indexed=1000)
    shown = [text.partition(",")[0] for text in out.getvalue().splitlines()]
    assert ["loading: 25%", "loading: 50%", "loaded 2 of 2 jobs"] == shown
    assert "\x1b" not in out.getvalue()


def test_it_is_quiet_once_all_was_loaded() -> None:
    """What a live training appends later is no load any more."""
    out = io.StringIO()
    line = ProgressLine(out)
    show(line, cached=2, indexed=1000)
    before = out.getvalue()
    show(line, cached=2, indexed=900)
    assert before == out.getvalue()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (2 * 10**15, "2000.0 TB")]
)
def test_sizes_as_people_read_them(count: int, text: str) -> None:
    """Decimal units, one digit."""
    assert text == size(count)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_bar_stays_within_its_line(on_disk: int, indexed: int) -> None:
    """Whatever is counted, also a file that shrank, the bar is no wider than the terminal."""
    out = Terminal()
    ProgressLine(out).show(jobs=2, cached=1, bytes_on_disk=on_disk, bytes_indexed=indexed, points=10**12)
    shown = out.getvalue().strip("\r").removeprefix("\x1b[2K")
    assert len(shown) < shutil.get_terminal_size().columns
    assert shown.startswith("[")


def test_other_work_shows_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that goes away on a terminal, a line now and then elsewhere, neither more often than is useful."""
    monkeypatch.setenv("COLUMNS", "100")
    now = 0.0
    screen, file = Terminal(), io.StringIO()
    lines = [ShareLine(out, monotonic=lambda: now) for out in (screen, file)]
    for tenth in range(1, 101):
        now = tenth / 10
        for line in lines:
            line.show("tags", tenth, 100)
    for line in lines:
        line.close()
    assert "[######..................]  25%  tags\r" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[2K")
    assert ["50% tags", "100% tags"] == file.getvalue().splitlines()
    now += 10
    lines[1].show("nothing to do", 0, 0)
    assert "100% nothing to do" == file.getvalue().splitlines()[-1]
