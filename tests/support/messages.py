"""Builders of graph messages, by hand: none of these is a record, and none needs the code under test."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.records import bytes_field, varint_field


def ms_node(name: str, type_: str, inputs: Sequence[str] = (), *, scope: str = "", full_name: str = "") -> bytes:
    """Return a NodeProto of MindSpore; an input that begins with ^ is a control edge."""
    edges = b"".join(
        bytes_field(1, bytes_field(1, one.lstrip("^").encode()) + varint_field(2, int(one.startswith("^"))))
        for one in inputs
    )
    texts = ((2, name), (3, type_), (4, scope), (8, full_name))
    return edges + b"".join(bytes_field(number, text.encode()) for number, text in texts if text)


def ms_graph(nodes: Sequence[bytes], parameters: Sequence[str] = (), constants: Sequence[str] = ()) -> bytes:
    """Return a GraphProto of MindSpore."""
    return (
        b"".join(bytes_field(1, node) for node in nodes)
        + b"".join(bytes_field(3, bytes_field(1, name.encode())) for name in parameters)
        + b"".join(bytes_field(5, bytes_field(1, name.encode())) for name in constants)
    )


def ms_model(graph: bytes) -> bytes:
    """Return a ModelProto of MindSpore: the content of a graph file."""
    return varint_field(1, 3) + bytes_field(4, graph)


def tb_node(name: str, op: str, inputs: Sequence[str] = (), attributes: bytes = b"") -> bytes:
    """Return a NodeDef."""
    edges = b"".join(bytes_field(3, one.encode()) for one in inputs)
    return bytes_field(1, name.encode()) + bytes_field(2, op.encode()) + edges + attributes


def tb_graph(nodes: Sequence[bytes], functions: Sequence[tuple[str, Sequence[bytes]]] = ()) -> bytes:
    """Return a GraphDef, with functions by name."""
    library = b"".join(
        bytes_field(1, bytes_field(1, bytes_field(1, name.encode())) + b"".join(bytes_field(3, n) for n in inside))
        for name, inside in functions
    )
    return b"".join(bytes_field(1, node) for node in nodes) + (bytes_field(2, library) if library else b"")
