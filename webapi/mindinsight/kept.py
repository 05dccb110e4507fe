"""Graphs that were asked for last, as they are drawn: an answer needs all of a graph, and few look at many.

A graph is read when it is first asked for, and kept while others are not asked for more: building it takes a second for
some 30,000 nodes, an answer from it milliseconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from sqlalchemy import Connection

from indexer import graphs as graph_kinds
from indexer.plugins import graph as graph_kind
from webapi import blobs, kinds
from webapi.errors import Unknown
from webapi.mindinsight import tree
from webapi.mindinsight.catalogue import TagRow
from webapi.mindinsight.tree import Tree

KEPT_NODES = 250_000
"""Of graphs that are kept, altogether."""
KEPT_GRAPHS = 64
KEPT_ANSWERS = 100_000
"""Graphs of which it is known whether there is anything to draw."""
SMALL_NODES = 64
"""A graph of more nodes has some left, also when it is optimised."""


class Graph(NamedTuple):
    """A serialized graph."""

    tag: TagRow
    key: blobs.Key
    digest: bytes
    content: str
    nodes: int


class _Kept:
    """A graph that is, or is being, read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tree: Tree | None = None


class Trees:
    """Graphs that were asked for last. For all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[bytes, bool], _Kept] = OrderedDict()
        self._drawn: dict[tuple[bytes, bool], bool] = {}

    def get(self, conn: Connection, graph: Graph, *, optimize: bool) -> Tree:
        """Return a graph as it is drawn; it is read where it is not kept."""
        key = (graph.digest, optimize)
        with self._lock:
            kept = self._kept.setdefault(key, _Kept())
            self._kept.move_to_end(key)
        with kept.lock:
            if kept.tree is None:
                kept.tree = _built(conn, graph, optimize=optimize)
                self._forget(key)
            return kept.tree

    def draws(self, conn: Connection, graph: Graph, *, optimize: bool) -> bool:
        """Tell whether there is anything to draw. Of a large graph there is; another is read, once."""
        if graph.nodes > SMALL_NODES:
            return True
        key = (graph.digest, optimize)
        drawn = self._drawn.get(key)
        if drawn is None:
            drawn = _built(conn, graph, optimize=optimize).published
            if len(self._drawn) >= KEPT_ANSWERS:
                self._drawn.clear()
            self._drawn[key] = drawn
        return drawn

    def _forget(self, newest: tuple[bytes, bool]) -> None:
        with self._lock:
            total = sum(len(kept.tree.nodes) for kept in self._kept.values() if kept.tree is not None)
            for key in list(self._kept):
                if (total <= KEPT_NODES and len(self._kept) <= KEPT_GRAPHS) or key == newest:
                    return
                gone = self._kept.pop(key).tree
                total -= 0 if gone is None else len(gone.nodes)


def _built(conn: Connection, graph: Graph, *, optimize: bool) -> Tree:
    rows = blobs.by_key(conn, graph_kind.KIND, [graph.key])
    data = b"".join(content(conn, row) for row in rows)
    if graph.content == graph_kinds.MINDSPORE_MODEL:
        return tree.build(data, *tree.graph_in(data), optimize=optimize)
    return tree.build(data, 0, len(data), optimize=optimize)


def content(conn: Connection, row: blobs.BlobRow) -> bytes:
    """Return the bytes of a payload, wherever they are; none where its file is gone."""
    if row.encoding != "ref":
        return blobs.data(conn, [row]).get(row.key, b"")
    try:
        return kinds.part(conn, row, 0, row.stored.length)
    except Unknown:
        return b""
