"""Figures, their targets, and the tables they become: on the terminal as they come, and in docs/benchmarks.md."""

from __future__ import annotations

import math
import os
import platform
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

UNITS: dict[str, Callable[[float], str]] = {
    "s": lambda x: f"{x:.2f} s" if x >= 0.1 else f"{x * 1e3:.1f} ms",
    "ms": lambda x: f"{x * 1e3:.1f} ms",  # of seconds
    "x": lambda x: f"{x:.2f} ×",
    "MB": lambda x: f"{x / 1e6:.0f} MB",  # of bytes
    "B": lambda x: f"{x:.1f} B",
    "M/s": lambda x: f"{x / 1e6:.2f} M/s",
    "": lambda x: f"{x:.3f}",
}
"""How a figure in each unit is written."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A target: a figure is at most `bound`, or with `least` at least."""

    bound: float
    least: bool = False

    def reached(self, figure: float) -> bool:
        """Tell whether `figure` keeps it."""
        return figure >= self.bound if self.least else figure <= self.bound


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table: the median of `samples`, or what `value` says (a percentile, a fit)."""

    what: str
    unit: str  # a key of UNITS
    samples: Sequence[float]
    limit: Limit | None = None
    value: float | None = None

    @property
    def shown(self) -> float:
        """The number that stands for all samples, and that a target is held against."""
        return median(self.samples) if self.value is None else self.value

    def cells(self) -> list[str]:
        """Return what, figure, spread, number of samples, target, verdict."""
        write = UNITS[self.unit]
        low, high = min(self.samples), max(self.samples)
        spread = f"{write(low)} – {write(high)}" if len(self.samples) > 1 else ""
        cells = [self.what, write(self.shown), spread, str(len(self.samples)), "", ""]
        if self.limit is not None:
            cells[4] = f"{'≥' if self.limit.least else '≤'} {write(self.limit.bound)}"
            cells[5] = "reached" if self.limit.reached(self.shown) else "**not reached**"
        return cells


@dataclass(slots=True)
class Section:
    """What one scenario found."""

    name: str
    about: str
    figures: list[Figure] = field(default_factory=list)
    error: str | None = None


HEADER = ("what", "median", "min – max", "samples", "target", "verdict")


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours / theirs for runs that followed each other: a slow spell of the machine is in both."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def percentile(samples: Iterable[float], share: float) -> float:
    """Return the smallest sample that at least `share` (0 to 1) of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def line(figure: Figure) -> str:
    """Return a figure as one line for the terminal."""
    what, shown, spread, count, target, verdict = figure.cells()
    spread = f"({spread}, {count})" if spread else ""
    target = f"target {target}: {verdict.strip('*')}" if target else ""
    return f"  {what:<62} {shown:>12} {spread:<34} {target}".rstrip()


def table(figures: Iterable[Figure]) -> str:
    """Return figures as a Markdown table."""
    rows = [HEADER, tuple("---" for _ in HEADER), *(figure.cells() for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(sections: Sequence[Section], *, method: str, left_out: Sequence[str], options: str, seconds: float) -> str:
    """Return docs/benchmarks.md. `left_out`: names of scenarios that were not run; `seconds`: what the run took."""
    judged = [(section, figure) for section in sections for figure in section.figures if figure.limit is not None]
    missed = [
        (section, figure) for section, figure in judged if figure.limit and not figure.limit.reached(figure.shown)
    ]
    failed = [section for section in sections if section.error is not None]
    parts = [
        "# Benchmarks",
        f"Written by `python -m benchmarks --write{options}`, {datetime.now(UTC):%Y-%m-%d}, in {seconds / 60:.0f} min.",
        "## Targets",
        f"{len(judged) - len(missed)} of {len(judged)} targets measured here are reached."
        + (" Not reached:" if missed else ""),
    ]
    if missed:
        parts.append("\n".join(f"- {section.name}: {_in_words(figure)}" for section, figure in missed))
    if failed:
        parts.append("Failed: " + ", ".join(section.name for section in failed) + ".")
    if left_out:
        parts.append("Not run: " + ", ".join(left_out) + ".")
    parts += [
        "## Method",
        method,
        "## Machine and versions",
        "\n".join(f"- {fact}" for fact in [*machine(), *versions()]),
    ]
    for section in sections:
        parts += [f"## {section.name}", section.about]
        if section.figures:
            parts.append(table(section.figures))
        if section.error is not None:
            parts.append(f"**Failed:** {section.error.splitlines()[0]}")
    return "\n\n".join(parts) + "\n"


def machine() -> list[str]:
    """Return what the figures depend on, without the machine's name."""
    facts = [f"{os.cpu_count()} cores, {_cpu()}"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory")
    return [*facts, f"{platform.system()} {platform.release()}"]


def versions() -> list[str]:
    """Return the versions of what was measured."""
    facts = [f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"]
    for name in (
        "summarydb",
        "numpy",
        "numba",
        "sqlalchemy",
        "psycopg",
        "tensorboard",
        "tensorboard-data-server",
        "tbparse",
    ):
        try:
            facts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            facts.append(f"{name}: from a checkout" if name == "summarydb" else f"{name}: not installed")
    return facts


def _in_words(figure: Figure) -> str:
    """Return one figure and its target as words."""
    what, shown, _, _, target, _ = figure.cells()
    return f"{what}: {shown}, target {target}"


def _cpu() -> str:
    """Return the processor's name as the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for text in path.read_text().splitlines():
            if text.startswith("model name"):
                return text.partition(":")[2].strip()
    return platform.processor() or platform.machine()
