"""Rows as a table for people: columns side by side, nothing in a cell that a terminal would obey."""

from __future__ import annotations

from collections.abc import Sequence


def lines(rows: Sequence[Sequence[str]], *, right: Sequence[bool], widths: Sequence[int]) -> list[str]:
    """Return one line a row. right: columns of numbers.  widths: characters of each column at least."""
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, number, width in zip(row, right, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column, for rows that are all of one length."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def printable(text: str) -> str:
    """Return `text` with control characters and what is not printable as escapes: names come from files."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
