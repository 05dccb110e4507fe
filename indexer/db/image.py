"""Rows as the bytes of a throw-away SQLite database, so that SQLite copies them and Python touches none.

The database has one rowid table `p`, no index and pages of 64 KiB. Its columns are 32- and 64-bit integers and doubles,
so every cell has the same size, and a page is a constant with columns written into it. A stored NaN is read back as
NULL. Source of the format: https://www.sqlite.org/fileformat2.html, sections 1.3, 1.6 and 2.1.

    cell = payload length (1 or 2) · rowid, a 4-byte varint · record header (1 + columns) · the columns, big-endian

A column of 32-bit integers that are all 0 takes no bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Columns = Mapping[str, npt.NDArray[Any]]
Layout = tuple[tuple[str, str], ...]
"""Names of columns and what they hold: a key of `_STORED`."""

PAGE = 65536  # bytes: the largest there is, so that few pages need a header
_LEAF, _INTERIOR = 13, 5  # page types
_LEAF_HEADER, _INTERIOR_HEADER = 8, 12  # bytes
_CHILD = 8  # bytes of an interior cell: page number (4), largest rowid below it, a 4-byte varint
_ROWID = 4  # bytes
_FIRST_ROWID = 1 << 21  # from here to 2**28 - 1 a varint takes 4 bytes
_STORED = {"i4": (4, ">i4"), "i8": (6, ">i8"), "f8": (7, ">f8"), "zero": (8, None)}  # serial type, big-endian kind


def build(columns: Columns) -> Bytes:
    """Return the image of rows given as columns of equal length: int32, int64 or float64; shape (bytes,).

    ValueError where there are no rows, or more than one root page holds.
    """
    n = len(next(iter(columns.values())))
    layout = tuple((name, _kind(column)) for name, column in columns.items())
    leaf, dtype = _leaf(layout), _cell(layout)
    per_page = _per_page(dtype)
    pages = -(-n // per_page)
    root = int(pages > 1)  # a single leaf is the root itself: an interior page without cells is malformed
    if not 0 < pages <= (PAGE - _INTERIOR_HEADER) // (_CHILD + 2):
        raise ValueError(f"an image holds 1 to {(PAGE - _INTERIOR_HEADER) // (_CHILD + 2) * per_page} rows, not {n}")

    image = np.empty((1 + root + pages, PAGE), np.uint8)
    image[0] = _first_page(tuple(columns))
    image[0, 28:32] = _big(len(image), 4)
    leaves = image[1 + root :]
    leaves[:] = leaf
    rowids = _varints(n)
    full, rest = divmod(n, per_page)
    _fill(leaves[:full, PAGE - per_page * dtype.itemsize :].view(dtype), columns, rowids, slice(0, full * per_page))
    if rest:
        _head(leaves[full], _LEAF, rest, dtype.itemsize)
        _fill(leaves[full, PAGE - rest * dtype.itemsize :].view(dtype), columns, rowids, slice(full * per_page, n))
    if root:
        _head(image[1], _INTERIOR, pages - 1, _CHILD)
        image[1, 8:12] = _big(len(image), 4)  # the last leaf is the page's right-most child
        cells = image[1, PAGE - _CHILD * (pages - 1) :].reshape(-1, _CHILD)
        cells[:, :4] = np.arange(3, 2 + pages, dtype=">u4").view(np.uint8).reshape(-1, 4)
        cells[:, 4:] = rowids[per_page - 1 :: per_page][: pages - 1]
    return image.reshape(-1)


def _kind(column: npt.NDArray[Any]) -> str:
    kind = f"{column.dtype.kind}{column.dtype.itemsize}"
    return "zero" if kind == "i4" and not column.any() else kind


def _fill(cells: npt.NDArray[np.void], columns: Columns, rowids: Bytes, part: slice) -> None:
    cells["+rowid"] = rowids[part].reshape(*cells.shape, _ROWID)
    for name, column in columns.items():
        if name in (cells.dtype.names or ()):
            cells[name] = column[part].reshape(cells.shape)


def _varints(n: int) -> Bytes:
    """Return n rowids, shape (n, 4), in SQLite's varints: 7 bits a byte, high ones first, bit 8 says more follow."""
    rowid = np.arange(_FIRST_ROWID, _FIRST_ROWID + n, dtype=np.uint32)
    out = np.empty((n, _ROWID), np.uint8)
    for i, shift in enumerate((21, 14, 7, 0)):
        out[:, i] = (rowid >> np.uint32(shift)) & np.uint32(127) | np.uint32(128 if shift else 0)
    return out


def _head(page: Bytes, kind: int, cells: int, size: int) -> None:
    """Write the page header and the pointers to `cells` cells of `size` bytes that end with the page."""
    start = PAGE - cells * size
    page[:8] = 0
    page[0] = kind
    page[3:5] = _big(cells, 2)
    page[5:7] = _big(start, 2)
    first = _LEAF_HEADER if kind == _LEAF else _INTERIOR_HEADER
    page[first : first + 2 * cells] = np.arange(start, PAGE, size).astype(">u2").view(np.uint8)


def _big(number: int, size: int) -> Bytes:
    return np.frombuffer(number.to_bytes(size, "big"), np.uint8)


def _per_page(dtype: np.dtype[np.void]) -> int:
    return (PAGE - _LEAF_HEADER) // (dtype.itemsize + 2)


@cache
def _cell(layout: Layout) -> np.dtype[np.void]:
    fields = [(name, stored) for name, kind in layout if (stored := _STORED[kind][1]) is not None]
    payload = 1 + len(layout) + sum(np.dtype(stored).itemsize for _, stored in fields)
    length = 1 if payload < 128 else 2
    return np.dtype(
        [("+length", "u1", (length,)), ("+rowid", "u1", (_ROWID,)), ("+header", "u1", (1 + len(layout),)), *fields]
    )


@cache
def _leaf(layout: Layout) -> Bytes:
    """Return a full leaf page without numbers."""
    dtype = _cell(layout)
    count = _per_page(dtype)
    page = np.zeros(PAGE, np.uint8)
    _head(page, _LEAF, count, dtype.itemsize)
    cells = page[PAGE - count * dtype.itemsize :].view(dtype)
    width = cells["+length"].shape[1]
    payload = dtype.itemsize - width - _ROWID
    cells["+length"] = [payload] if width == 1 else [payload >> 7 | 128, payload & 127]
    cells["+header"] = [1 + len(layout), *(_STORED[kind][0] for _, kind in layout)]
    return page


@cache
def _first_page(names: tuple[str, ...]) -> Bytes:
    """Return page 1 as SQLite itself writes it: file header and schema, the table's root on page 2."""
    conn = sqlite3.connect(":memory:")
    try:
        conn.execute(f"PRAGMA page_size = {PAGE}")
        conn.execute(f"CREATE TABLE p({', '.join(names)})")
        conn.commit()
        return np.frombuffer(conn.serialize()[:PAGE], np.uint8)
    finally:
        conn.close()
