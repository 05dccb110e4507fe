"""Graphs scope by scope, their nodes by name, one node with the way to it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text

from indexer import graphs as graph_kinds
from webapi import blobs
from webapi.mindinsight import catalogue, errors, tree
from webapi.mindinsight.answers import Long
from webapi.mindinsight.catalogue import GRAPH, TagRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.kept import Graph, Trees
from webapi.mindinsight.parameters import Page, Query
from webapi.mindinsight.tree import Tree

OPTIMIZED = "optimized_graph"
MODES = {"normal": GRAPH, "optimize": OPTIMIZED}
SUFFIX = " (optimized)"
FIRST = "ms_output_optimize.pb"
"""Comes before all others."""
_EMBEDDED = re.compile(r"summary\.(\d+)")
_CONTENTS = frozenset({graph_kinds.MINDSPORE_GRAPH, graph_kinds.MINDSPORE_MODEL})


Published = Mapping[int, Mapping[str, Mapping[str, Graph]]]
"""By job and plugin: the graphs that are shown, by tag in the order of answers."""


# Which graphs there are -----------------------------------------------------------------------------------------------
def published(trees: Trees, conn: Connection, tags: Sequence[TagRow]) -> Published:
    """Return the graphs of jobs that MindInsight shows. One statement, some more where graphs are small."""
    by_job: dict[int, list[Graph]] = defaultdict(list)
    for graph in _graphs(conn, tags):
        by_job[graph.tag.job_id].append(graph)
    return {job: _of_job(trees, conn, found) for job, found in by_job.items()}


def _of_job(trees: Trees, conn: Connection, found: Sequence[Graph]) -> Mapping[str, Mapping[str, Graph]]:
    """Return graphs by plugin and tag: of those in event files the newest, optimised all of them."""
    embedded = [graph for graph in found if _EMBEDDED.search(graph.tag.name)]
    newest = max(embedded, key=_load_order, default=None)
    current = [graph for graph in found if graph is newest or graph not in embedded]
    return {
        GRAPH: _by_tag({one.tag.name: one for one in current if trees.draws(conn, one, optimize=False)}, ""),
        OPTIMIZED: _by_tag({one.tag.name: one for one in found if trees.draws(conn, one, optimize=True)}, SUFFIX),
    }


def _by_tag(graphs: Mapping[str, Graph], suffix: str) -> dict[str, Graph]:
    tags = sorted((name + suffix, graph) for name, graph in graphs.items())
    tags.sort(key=lambda item: item[0] != FIRST + suffix)
    return dict(tags)


def _load_order(graph: Graph) -> tuple[int, tuple[int, ...]]:
    """Return what says which of two event files is loaded later: equal timestamps go by name, descending."""
    match = _EMBEDDED.search(graph.tag.name)
    timestamp = int(match.group(1)) if match else 0
    return timestamp, (*(-ord(character) for character in graph.tag.name), 1)


def _graphs(conn: Connection, tags: Sequence[TagRow]) -> list[Graph]:
    """Return the newest graph of each tag. One statement."""
    if not tags:
        return []
    by_id = {tag.id: tag for tag in tags}
    query = text(
        "SELECT b.tag_id, b.step, b.seq, b.digest, b.facts, g.nodes FROM blobs b JOIN graph_stats g"
        " ON g.tag_id = b.tag_id AND g.step = b.step AND g.seq = b.seq"
        " WHERE b.tag_id IN :tags AND b.kind = 'graph' AND b.ordinal = 0 AND b.error IS NULL ORDER BY b.seq, b.step"
    )
    newest: dict[int, Graph] = {}
    for tag_id, step, seq, digest, facts, nodes in conn.execute(
        query.bindparams(bindparam("tags", expanding=True)), {"tags": list(by_id)}
    ):
        stated = blobs.facts_of(facts).get("content")
        if stated in _CONTENTS:
            newest[tag_id] = Graph(by_id[tag_id], (tag_id, step, seq, 0), bytes(digest), stated, nodes)
    return list(newest.values())


# Views ----------------------------------------------------------------------------------------------------------------
def _named(context: Context, conn: Connection, query: Query) -> Tree:
    """Return the graph that a request names."""
    mode = query.text("mode")
    mode = "normal" if mode is None else mode
    if mode not in MODES:
        raise errors.wrong_value("Invalid mode")
    train_id = query.required("train_id")
    job = catalogue.listed_job(conn, catalogue.root(conn), train_id)
    if not job.loaded:
        raise errors.no_job()
    tags = [tag for tag in catalogue.tags(conn, [job.id]) if tag.shown_by == GRAPH]
    graphs = published(context.trees, conn, tags).get(job.id, {}).get(MODES[mode], {})
    tag = query.text("tag")
    graph = graphs.get(tag) if tag else graphs[min(graphs)] if graphs else None
    if graph is None:
        raise errors.no_graph()
    return context.trees.get(conn, graph, optimize=MODES[mode] == OPTIMIZED)


def _scope(graph: Tree, query: Query) -> str:
    name = query.text("name") or ""
    if name and name not in graph.nodes:
        raise errors.no_node(name)
    return name


def nodes(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show what lies directly in a scope."""
    graph = _named(context, conn, query)
    return {"nodes": _level(graph, _scope(graph, query))}


def names(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Search nodes by name."""
    graph, page = _named(context, conn, query), _page(query)
    found = graph.search(query.text("search") or "")
    return {"nodes": graph.forest(found[page.slice])}


def _page(query: Query) -> Page:
    return query.page(limit=100, most=1_000)


def single_node(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show the scopes around a node, from the top down."""
    graph = _named(context, conn, query)
    name = query.required("name")
    if name not in graph.nodes:
        raise errors.no_node(name)
    shown: dict[str, Any] = {}
    for scope in reversed(["", *_scopes(name)]):
        shown = {"nodes": _level(graph, scope), "scope_name": scope, "children": shown}
    return shown


def _scopes(name: str) -> Iterable[str]:
    return (name[: match.start()] for match in re.finditer("/", name))


def every_node(context: Context, conn: Connection, query: Query) -> Long:
    """Show all operators below a scope."""
    graph = _named(context, conn, query)
    return Long("all_nodes_detail", (tree.render(graph, node) for node in graph.leaves(_scope(graph, query))))


def _level(graph: Tree, scope: str) -> list[dict[str, Any]]:
    return [tree.render(graph, node) for node in graph.scope(scope)]
