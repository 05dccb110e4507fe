"""HTML of tables and curves for notebooks. Every name and text is escaped: who trained chose it, not who looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

CELL_CHARACTERS = 80
WIDTH, HEIGHT = 480, 120
"""Of a curve, pixels."""
BUCKETS = 240
"""Of a curve: each shows its lowest and highest value."""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> str:
    """Return a table with a line below it."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell(value)}</td>' for value in row)}</tr>" for row in rows)
    below = f"<p>{escape(note)}</p>" if note else ""
    return f"<div><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>{below}</div>"


def facts(title: str, pairs: Sequence[tuple[str, Any]]) -> str:
    """Return a title with facts below it, a row each."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{cell(value)}</td></tr>" for name, value in pairs)
    return f"<div><strong>{escape(title)}</strong><table><tbody>{body}</tbody></table></div>"


def cell(value: Any) -> str:
    """Return a value as it stands in a table, escaped and cut."""
    if value is None:
        return ""
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return escape(shown if len(shown) <= CELL_CHARACTERS else f"{shown[: CELL_CHARACTERS - 1]}…")


def curve(steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> str:
    """Return a series as a picture (SVG): what is not finite is a gap. Empty where nothing can be drawn."""
    finite = np.isfinite(values)
    if not finite.any():
        return ""
    low, high = float(values[finite].min()), float(values[finite].max())
    first, last = int(steps[0]), int(steps[-1])
    wide, tall = (last - first) or 1, (high - low) or 1.0
    if not math.isfinite(tall):
        return ""
    lines: list[list[str]] = [[]]
    for place in _chosen(values):
        if not finite[place]:
            lines.append([])
            continue
        x = (int(steps[place]) - first) / wide * WIDTH
        y = HEIGHT - (float(values[place]) - low) / tall * HEIGHT
        lines[-1].append(f"{x:.1f},{y:.1f}")
    drawn = "".join(
        f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor"/>' for points in lines if points
    )
    box = f'viewBox="-2 -2 {WIDTH + 4} {HEIGHT + 4}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{drawn}</svg>'


def _chosen(values: npt.NDArray[np.float64]) -> list[int]:
    """Return places of a series that show its shape: of each bucket the lowest and the highest, and what is missing."""
    count = len(values)
    if count <= 2 * BUCKETS:
        return list(range(count))
    chosen = {0, count - 1}
    for places in np.array_split(np.arange(count), BUCKETS):
        part = values[places]
        finite = np.isfinite(part)
        if not finite.all():
            chosen.add(int(places[int(np.argmin(finite))]))
        if finite.any():
            chosen.add(int(places[int(np.argmin(np.where(finite, part, np.inf)))]))
            chosen.add(int(places[int(np.argmax(np.where(finite, part, -np.inf)))]))
    return sorted(chosen)


def link(url: str) -> str:
    """Return a link that opens in a window of its own."""
    return f'<a href="{escape(url)}" target="_blank" rel="noopener">{escape(url)}</a>'
