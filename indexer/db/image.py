"""Rows as the bytes of a throw-away SQLite database, so that SQLite copies them and Python touches none.

The database has one rowid table `p(tag_id, step, seq, wall_time, value)`, no index and pages of 64 KiB. Every cell has
the same size, so a page is a constant with columns written into it. A stored NaN is read back as NULL.
Source of the format: https://www.sqlite.org/fileformat2.html, sections 1.3, 1.6 and 2.1.

    cell = payload length (1) · rowid, a 4-byte varint · record header (6) · tag_id (4) · step (8) · seq (0 or 4)
           · wall_time (8) · value (8), numbers big-endian
"""

from __future__ import annotations

import sqlite3
from functools import cache

import numpy as np
import numpy.typing as npt

from indexer.types import Rows

Bytes = npt.NDArray[np.uint8]

PAGE = 65536  # bytes: the largest there is, so that few pages need a header
_LEAF, _INTERIOR = 13, 5  # page types
_LEAF_HEADER, _INTERIOR_HEADER = 8, 12  # bytes
_CHILD = 8  # bytes of an interior cell: page number (4), largest rowid below it, a 4-byte varint
_FIRST_ROWID = 1 << 21  # from here to 2**28 - 1 a varint takes 4 bytes
_INT32, _INT64, _ZERO, _DOUBLE = 4, 6, 8, 7  # serial types; _ZERO is the number 0 in no bytes
_FIELDS = [("length", "u1"), ("rowid", "u1", (4,)), ("header", "u1", (6,)), ("tag_id", ">i4"), ("step", ">i8")]
_TAIL = [("wall_time", ">f8"), ("value", ">f8")]


def build(rows: Rows) -> Bytes:
    """Return the image of `rows`, shape (bytes,). ValueError where there are none, or more than one root page holds."""
    n = len(rows)
    with_seq = bool(rows.seq.any())
    leaf = _leaf(with_seq)
    dtype = _cell(with_seq)
    per_page = _per_page(dtype)
    pages = -(-n // per_page)
    root = int(pages > 1)  # a single leaf is the root itself: an interior page without cells is malformed
    if not 0 < pages <= (PAGE - _INTERIOR_HEADER) // (_CHILD + 2):
        raise ValueError(f"an image holds 1 to {(PAGE - _INTERIOR_HEADER) // (_CHILD + 2) * per_page} rows, not {n}")

    image = np.empty((1 + root + pages, PAGE), np.uint8)
    image[0] = _first_page()
    image[0, 28:32] = _big(len(image), 4)
    leaves = image[1 + root :]
    leaves[:] = leaf
    rowids = _varints(n)
    full, rest = divmod(n, per_page)
    _fill(leaves[:full, PAGE - per_page * dtype.itemsize :].view(dtype), rows, rowids, slice(0, full * per_page))
    if rest:
        _head(leaves[full], _LEAF, rest, dtype.itemsize)
        _fill(leaves[full, PAGE - rest * dtype.itemsize :].view(dtype), rows, rowids, slice(full * per_page, n))
    if root:
        _head(image[1], _INTERIOR, pages - 1, _CHILD)
        image[1, 8:12] = _big(len(image), 4)  # the last leaf is the page's right-most child
        cells = image[1, PAGE - _CHILD * (pages - 1) :].reshape(-1, _CHILD)
        cells[:, :4] = np.arange(3, 2 + pages, dtype=">u4").view(np.uint8).reshape(-1, 4)
        cells[:, 4:] = rowids[per_page - 1 :: per_page][: pages - 1]
    return image.reshape(-1)


def _fill(cells: npt.NDArray[np.void], rows: Rows, rowids: Bytes, part: slice) -> None:
    cells["rowid"] = rowids[part].reshape(*cells.shape, 4)
    for name in cells.dtype.names or ():
        if name in {"tag_id", "step", "seq", "wall_time", "value"}:
            cells[name] = getattr(rows, name)[part].reshape(cells.shape)


def _varints(n: int) -> Bytes:
    """Return n rowids, shape (n, 4), in SQLite's varints: 7 bits a byte, high ones first, bit 8 says more follow."""
    rowid = np.arange(_FIRST_ROWID, _FIRST_ROWID + n, dtype=np.uint32)
    out = np.empty((n, 4), np.uint8)
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
def _cell(with_seq: bool) -> np.dtype[np.void]:
    return np.dtype([*_FIELDS, *([("seq", ">i4")] if with_seq else []), *_TAIL])


@cache
def _leaf(with_seq: bool) -> Bytes:
    """Return a full leaf page without numbers."""
    dtype = _cell(with_seq)
    count = _per_page(dtype)
    page = np.zeros(PAGE, np.uint8)
    _head(page, _LEAF, count, dtype.itemsize)
    cells = page[PAGE - count * dtype.itemsize :].view(dtype)
    cells["length"] = dtype.itemsize - 5
    cells["header"] = [6, _INT32, _INT64, _INT32 if with_seq else _ZERO, _DOUBLE, _DOUBLE]
    return page


@cache
def _first_page() -> Bytes:
    """Return page 1 as SQLite itself writes it: file header and schema, the table's root on page 2."""
    conn = sqlite3.connect(":memory:")
    try:
        conn.execute(f"PRAGMA page_size = {PAGE}")
        conn.execute("CREATE TABLE p(tag_id, step, seq, wall_time, value)")
        conn.commit()
        return np.frombuffer(conn.serialize()[:PAGE], np.uint8)
    finally:
        conn.close()
