"""MindSpore's payloads in the forms that TensorBoard's plugins read: histograms, lineage, graphs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from indexer.db.connection import Connection
from indexer.graphs import CONSTANT, NODE, PARAMETER, Chunk, Edge
from webapi.dataprovider import answers
from webapi.dataprovider.series import GRAPHS, Series

CHUNKS_AT_ONCE = 64
_OPERATIONS = {PARAMETER: b"Parameter", CONSTANT: b"Const"}
_MAX_INPUTS = 10_000


def is_graph(series: Series) -> bool:
    """Tell whether a series holds graphs of MindSpore's form."""
    return series.plugin == GRAPHS and series.source != GRAPHS


def edges(rows: bytes) -> bytes:
    """Return rows of (left, width, count) as (left, right, count). Little-endian float64, shape (k, 3)."""
    found = np.frombuffer(rows, "<f8").reshape(-1, 3).copy()
    found[:, 1] += found[:, 0]
    return found.tobytes()


def table(said: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Return the facts of a lineage record as a table of two columns: TensorBoard shows it as one."""
    rows = [(b"name", b"value")]
    for name, value in _leaves("", said.get("content")):
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append((name.encode("utf-8", "replace"), shown.encode("utf-8", "replace")))
    return rows


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and value of all that a JSON value holds; a list of plain values is one."""
    inner: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        inner = [(str(name), one) for name, one in value.items()]
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        inner = [(str(i) if len(value) > 1 else "", one) for i, one in enumerate(value)]
    if not inner:
        yield prefix, value
    for name, one in inner:
        yield from _leaves("/".join(part for part in (prefix, name) if part), one)


def graph_def(conn: Connection, key: tuple[int, int, int]) -> Iterator[bytes]:
    """Yield a graph as a GraphDef message, in parts: its operators, parameters and constants with their inputs.

    key: tag_id, step, seq.  Two passes over its chunks: an input is named, and may lie behind the node that has it.
    """
    names: list[bytes] = []
    taken: dict[bytes, int] = {}
    for chunk in _chunks(conn, key):
        for number in range(chunk.start, chunk.stop):
            name = chunk.name(number)
            same = taken.get(name, 0)
            taken[name] = same + 1
            names.append(b"%b_%d" % (name, same) if same else name)  # TensorBoard takes a name once
    for chunk in _chunks(conn, key):
        parts = []
        for number in range(chunk.start, chunk.stop):
            entry = chunk.entry(number)
            if entry.what in {NODE, PARAMETER, CONSTANT}:
                inputs, _ = chunk.ends(number, "ins", _MAX_INPUTS)
                operation = entry.type or _OPERATIONS.get(entry.what, b"")
                parts.append(_node(names[number], operation, (_input(names, edge) for edge in inputs)))
        yield b"".join(parts)


def _node(name: bytes, operation: bytes, inputs: Iterator[bytes | None]) -> bytes:
    content = answers.block(1, name) + answers.block(2, operation)
    return answers.block(1, content + b"".join(answers.block(3, one) for one in inputs if one is not None))


def _input(names: list[bytes], edge: Edge) -> bytes | None:
    """Return an input as GraphDef has it; None where no node has its name."""
    if edge.number is None:
        return None
    return b"^" + names[edge.number] if edge.control else names[edge.number]


def _chunks(conn: Connection, key: tuple[int, int, int]) -> Iterator[Chunk]:
    start = -1
    while True:
        rows = conn.execute(
            "SELECT start, data FROM graph_chunks WHERE tag_id = ? AND step = ? AND seq = ? AND start > ?"
            f" ORDER BY start LIMIT {CHUNKS_AT_ONCE}",
            (*key, start),
        ).fetchall()
        if not rows:
            return
        for start, data in rows:
            yield Chunk(start, bytes(data))  # the next rows begin behind the last
