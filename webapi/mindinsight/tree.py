"""A MindSpore graph as MindInsight draws it: names, scopes, groups of like operators, parameters drawn apart.

Pure: the bytes of a serialized graph in, nodes out. The steps, and their order, are MindInsight's; nodes stand in the
table in the order in which they are drawn. A graph is read once, its attributes only when a node is shown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from indexer import fields, prototext
from indexer.fields import BYTES, VARINT
from indexer.nodes import MINDSPORE_TYPES

PARAMETER, CONST, NAME_SCOPE, AGGREGATION = "Parameter", "Const", "name_scope", "aggregation_scope"
GROUP = {False: 5, True: 10}
"""So many operators of one type in a scope become a group: as the graph is, and optimised."""
ATTRIBUTE_BYTES = 1024
"""Longer attributes are left out."""
_TENSOR, _TUPLE = 14, 31
_MAX_DEPTH = 32
_PLUGIN = re.compile(r"\[:(scalar|image|tensor|histogram|graph|optimized_graph|loss_landscape)\]\Z", re.IGNORECASE)
_THROUGH = frozenset({"Load", "TupleGetItem", "MakeTuple", "UpdateState"})
"""Operators that the optimised graph looks through."""

Shapes = list[list[int]]


@dataclass(slots=True)
class Edge:
    """An edge from a node to another, as one of them has it. Its shapes are those of the node it comes from.

    A group has the edges of its members, not others like them: what is drawn apart is so in both.
    """

    shapes: Shapes
    control: bool
    data_type: str
    independent: bool = False

    @property
    def dynamic(self) -> bool:
        """Whether a size is not known."""
        return any(size in {-1, -2} for shape in self.shapes for size in shape)


class Node:
    """A node of the table."""

    __slots__ = (
        "bounds",
        "children",
        "dynamic",
        "id",
        "independent",
        "inputs",
        "name",
        "output_i",
        "outputs",
        "proxy_inputs",
        "proxy_outputs",
        "scope",
        "shapes",
        "type",
        "type_text",
        "written",
    )

    def __init__(self, name: str, type_: str, scope: str, own: str = "") -> None:
        self.name, self.type, self.scope, self.id = name, type_, scope, own
        self.inputs: dict[str, Edge] = {}
        self.outputs: dict[str, Edge] = {}
        self.proxy_inputs: dict[str, bool] = {}  # other end → whether it is a control edge
        self.proxy_outputs: dict[str, bool] = {}
        self.shapes: Shapes = []
        self.type_text = ""
        self.output_i = 0
        self.children = 0
        self.dynamic = self.independent = False
        self.bounds = (0, 0)  # of its message in the payload
        self.written: list[tuple[str, bool]] = []  # ids that its inputs name, while the graph is built

    def add(self, edges: dict[str, Edge], other: str, edge: Edge) -> None:
        """Note an edge: where its shapes are not known, neither are the node's."""
        edges[other] = edge
        if edge.dynamic:
            self.dynamic = True


class Tree:
    """A graph as it is drawn."""

    def __init__(self, data: bytes, table: dict[str, Node]) -> None:
        self._data = data
        self.nodes = table
        self.lower = [(name.lower(), name) for name in table]
        self._scopes: dict[str, list[Node]] = defaultdict(list)
        for node in table.values():
            self._scopes[node.scope].append(node)
        for node in table.values():
            node.children = len(self._scopes.get(node.name, ()))

    @property
    def published(self) -> bool:
        """Whether there is anything to draw: a node at the top."""
        return bool(self._scopes.get(""))

    def scope(self, name: str) -> list[Node]:
        """Return what lies directly in a scope; empty: at the top."""
        return self._scopes.get(name, [])

    def leaves(self, name: str) -> Iterator[Node]:
        """Yield all nodes below a scope that are no scopes, in the order in which they are drawn."""
        pending = [iter(self.scope(name))]
        while pending:
            node = next(pending[-1], None)
            if node is None:
                pending.pop()
            elif node.children:
                pending.append(iter(self.scope(node.name)))
            else:
                yield node

    def search(self, wanted: str) -> list[str]:
        """Return the names that hold a text, upper and lower case alike, in their last part."""
        wanted = wanted.lower()
        if wanted in {"", "/"}:
            return []
        found = []
        for lower, name in self.lower:
            at = lower.rfind(wanted)
            if at >= 0 and "/" not in lower[at + len(wanted) :]:
                found.append(name)
        return found

    def forest(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return nodes below their scopes. A scope that comes after what is in it takes its place, without it."""
        top: dict[str, dict[str, Any]] = {}
        for name in names:
            node, level, at = self.nodes[name], top, name.find("/", 1)
            while at > 0:
                above = name[:at]
                if above not in level:
                    level[above] = self._found(above, node.dynamic)
                level = level[above]["nodes"]
                at = name.find("/", at + 1)
            level[name] = self._found(name, node.dynamic)
        return _listed(top)

    def _found(self, name: str, dynamic: bool) -> dict[str, Any]:
        node = self.nodes.get(name)
        shown = NAME_SCOPE if node is None else node.type
        return {"name": name, "type": shown, "is_dynamic_shape_node": dynamic, "nodes": {}}

    def attributes(self, node: Node) -> dict[str, str]:
        """Return the attributes of a node as text."""
        start, stop = node.bounds
        if node.type == PARAMETER:
            return {"type": node.type_text, "shape": str(node.shapes)}
        if node.type == CONST:
            return {node.id: _constant(self._data, start, stop)}
        found = {}
        for number, wire, a, b in _walk(self._data, start, stop):
            if (number, wire) == (5, BYTES):
                name, value = _named(self._data, a, b)
                if value[1] - value[0] <= ATTRIBUTE_BYTES:
                    found[name] = prototext.render(self._data, "Value", *value)
        return found


def _listed(level: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**node, "nodes": _listed(node["nodes"])} for node in level.values()]


# Building -------------------------------------------------------------------------------------------------------------
def build(data: bytes, start: int, stop: int, *, optimize: bool) -> Tree:
    """Return the graph whose message lies in data[start:stop]."""
    table: dict[str, Node] = {}
    parameters: list[Node] = []
    constants: list[Node] = []
    types: dict[bytes, tuple[Shapes, str]] = {}
    for number, wire, a, b in _walk(data, start, stop):
        if wire != BYTES:
            continue
        if number == 1:
            node = _operator(data, a, b, types, optimize=optimize)
            if node is not None:
                table[node.name] = node
        elif number in {3, 5}:
            made = _parameter(data, a, b, types) if number == 3 else _const(data, a, b)
            if made.name:
                (parameters if number == 3 else constants).append(made)
    table |= {node.name: node for node in (*parameters, *constants)}
    _resolve(table)
    if optimize:
        _look_through(table)
    _add_outputs(table)
    if optimize:
        _remove_loose(table)
        _flatten(table)
    _into_scopes(table, PARAMETER)
    groups = _group(table, GROUP[optimize])
    _draw_apart(table, groups)
    _add_scopes(table)
    _into_scopes(table, CONST)
    return Tree(data, table)


def graph_in(data: bytes) -> tuple[int, int]:
    """Return where the graph of a serialized model lies; 0, 0 where it has none."""
    return next(((a, b) for number, wire, a, b in _walk(data, 0, len(data)) if (number, wire) == (4, BYTES)), (0, 0))


def join(scope: str, base: str) -> str:
    """Return the name of what lies in a scope."""
    return f"{scope}/{base}" if scope else base


def _walk(data: bytes, start: int, stop: int) -> Iterator[fields.Field]:
    """Yield fields as far as they can be read."""
    try:
        yield from fields.walk(data, start, stop)
    except ValueError:
        return


def _text(data: bytes, a: int, b: int) -> str:
    return data[a:b].decode("utf-8", "replace")


# Step 1 to 3: operators, parameters, constants
def _operator(
    data: bytes, start: int, stop: int, types: dict[bytes, tuple[Shapes, str]], *, optimize: bool
) -> Node | None:
    """Return an operator, None where it is not drawn."""
    name = type_ = scope = full = instance = ""
    output_i, kind, dynamic = 0, (0, 0), False
    inputs: list[tuple[str, bool]] = []
    for number, wire, a, b in _walk(data, start, stop):
        if wire == BYTES:
            match number:
                case 1:
                    inputs.append(_input(data, a, b))
                case 2:
                    name = _text(data, a, b)
                case 3:
                    type_ = _text(data, a, b)
                case 4:
                    scope = _text(data, a, b)
                case 5:
                    dynamic = dynamic or _says_dynamic(data, a, b)
                case 6:
                    kind = (a, b)
                case 8:
                    full = _text(data, a, b)
                case 10:
                    instance = _text(data, a, b)
        elif (number, wire) == (7, VARINT):
            output_i = a
    if not name or (optimize and (full.startswith("Gradients") or "optimizer" in full or "opt" in instance)):
        return None  # the latter belong to the training, not to the network
    own = _id(name.rpartition("/")[2])
    shown = full or join(scope, f"{type_}-op{own}")
    if _PLUGIN.search(full):
        shown = join(scope, f"{type_}-op{name}")
    node = Node(shown, type_, scope, own)
    node.output_i, node.dynamic, node.bounds = output_i, dynamic, (start, stop)
    node.shapes, node.type_text = _type(data, *kind, types)
    node.written = [(key, control) for key, control in inputs if key]
    return node


def _id(base: str) -> str:
    """Return what follows the last `op`, all of it where there is none."""
    return base.rpartition("op")[2]


def _input(data: bytes, start: int, stop: int) -> tuple[str, bool]:
    """Return which node an input is from, by its id, and whether it is a control edge."""
    name, control = "", False
    for number, wire, a, b in _walk(data, start, stop):
        if (number, wire) == (1, BYTES):
            name = _text(data, a, b)
        elif (number, wire) == (2, VARINT):
            control = a == 1
    return (_id(name) if "/" in name else name), control


def _says_dynamic(data: bytes, start: int, stop: int) -> bool:
    """Tell whether an attribute says that shapes are not known."""
    if data.find(b"put_is_dynamic_shape", start, stop) < 0:
        return False
    name, value = _named(data, start, stop)
    return name in {"input_is_dynamic_shape", "output_is_dynamic_shape"} and any(
        (number, wire) == (2, VARINT) and a for number, wire, a, _ in _walk(data, *value)
    )


def _named(data: bytes, start: int, stop: int) -> tuple[str, tuple[int, int]]:
    """Return name and bounds of the value in an attribute or a constant."""
    name, value = "", (0, 0)
    for number, wire, a, b in _walk(data, start, stop):
        if (number, wire) == (1, BYTES):
            name = _text(data, a, b)
        elif (number, wire) == (2, BYTES):
            value = (a, b)
    return name, value


def _parameter(data: bytes, start: int, stop: int, types: dict[bytes, tuple[Shapes, str]]) -> Node:
    name, kind = "", (0, 0)
    for number, wire, a, b in _walk(data, start, stop):
        if (number, wire) == (1, BYTES):
            name = _text(data, a, b)
        elif (number, wire) == (2, BYTES):
            kind = (a, b)
    node = Node(name, PARAMETER, "", name)
    node.bounds = (start, stop)
    node.shapes, node.type_text = _type(data, *kind, types)
    return node


def _const(data: bytes, start: int, stop: int) -> Node:
    name, value = _named(data, start, stop)
    node = Node(name, CONST, "", name)
    node.bounds = value
    dims = [_dims(data, a, b) for number, wire, a, b in _walk(data, *value) if (number, wire) == (8, BYTES)]
    node.shapes = dims[-1:] or [[]]
    return node


def _constant(data: bytes, start: int, stop: int) -> str:
    """Return the value of a constant as text, of a long one its type alone."""
    if stop - start <= ATTRIBUTE_BYTES:
        return prototext.render(data, "Value", start, stop)
    codes = [a for number, wire, a, _ in _walk(data, start, stop) if (number, wire) == (1, VARINT)]
    return f"dtype: {_type_name(codes[-1] if codes else 0)}"


def _type(data: bytes, start: int, stop: int, known: dict[bytes, tuple[Shapes, str]]) -> tuple[Shapes, str]:
    """Return the shapes of a type, and the type as text. Types are few: each is read once."""
    message = data[start:stop]
    if message not in known:
        known[message] = _read_type(message, 0, len(message), 0)
    return known[message]


def _read_type(data: bytes, start: int, stop: int, depth: int) -> tuple[Shapes, str]:
    code: int | None = None
    element = 0
    dims: list[int] = []
    inner: list[tuple[Shapes, str]] = []
    for number, wire, a, b in _walk(data, start, stop):
        if (number, wire) == (1, VARINT):
            code = a if a < len(MINDSPORE_TYPES) else code  # protobuf drops values that it does not know
        elif (number, wire) == (2, BYTES):
            for n, w, c, d in _walk(data, a, b):
                if (n, w) == (1, VARINT):
                    element = c
                elif (n, w) == (2, BYTES):
                    dims += [_size(data, e, f) for m, v, e, f in _walk(data, c, d) if (m, v) == (1, BYTES)]
        elif (number, wire) == (3, BYTES) and depth < _MAX_DEPTH:
            inner += [_read_type(data, c, d, depth + 1) for n, w, c, d in _walk(data, a, b) if (n, w) == (1, BYTES)]
    if code == _TENSOR:
        return [dims], f"DT_TENSOR[{_type_name(element)}]"
    if code == _TUPLE:
        return [shape for shapes, _ in inner for shape in shapes], f"DT_TUPLE{[text for _, text in inner]}"
    return ([] if code is None else [[]]), _type_name(code or 0)


def _size(data: bytes, start: int, stop: int) -> int:
    sizes = [a for number, wire, a, _ in _walk(data, start, stop) if (number, wire) == (1, VARINT)]
    return fields.signed(sizes[-1]) if sizes else 0


def _dims(data: bytes, start: int, stop: int) -> list[int]:
    """Return the dims of a tensor, packed or not."""
    found: list[int] = []
    for number, wire, a, b in _walk(data, start, stop):
        if (number, wire) == (1, VARINT):
            found.append(fields.signed(a))
        elif (number, wire) == (1, BYTES):
            while a < b:
                try:
                    value, a = fields.varint(data, a, b)
                except ValueError:
                    break
                found.append(fields.signed(value))
    return found


def _type_name(code: int) -> str:
    return f"DT_{MINDSPORE_TYPES[code]}" if code < len(MINDSPORE_TYPES) else "DT_UNDEFINED"


# Step 4: edges
def _resolve(table: dict[str, Node]) -> None:
    """Find the nodes that inputs come from; an input that no node has is dropped."""
    by_id = {node.id: node for node in table.values()}
    for node in table.values():
        for key, control in node.written:
            source = by_id.get(key)
            if source is not None:
                node.add(node.inputs, source.name, Edge(source.shapes, control, _edge_type(source)))
        node.written = []


def _edge_type(source: Node) -> str:
    return "" if source.type == CONST else source.type_text


def _add_outputs(table: dict[str, Node]) -> None:
    for node in table.values():
        for name, edge in node.inputs.items():
            source = table.get(name)
            if source is not None and source.type not in {PARAMETER, CONST}:
                source.add(source.outputs, node.name, replace(edge))


# Step 5 and 9: parameters and constants
def _into_scopes(table: dict[str, Node], kind: str) -> None:
    """Put a copy of each parameter, or constant, into every scope that has an input from it; the originals go."""
    copies: dict[str, Node] = {}
    originals = [node for node in table.values() if node.type == kind]
    names = {node.name for node in originals}
    for node in table.values():
        for name in [name for name in node.inputs if name in names]:
            source, edge = table[name], node.inputs.pop(name)
            own = join(node.scope, source.name)
            copy = copies.get(own)
            if copy is None:
                copy = copies[own] = _copied(source, own, node.scope)
            copy.add(copy.outputs, node.name, replace(edge))
            node.add(node.inputs, own, edge)
    for node in originals:
        if node.name not in copies:
            del table[node.name]
    table |= copies


def _copied(source: Node, name: str, scope: str) -> Node:
    copy = Node(name, source.type, scope, source.id)
    copy.shapes, copy.type_text, copy.bounds = source.shapes, source.type_text, source.bounds
    return copy


# Step 6 and 7: groups
def _rename(table: dict[str, Node], node: Node, name: str) -> None:
    """Give a node another name, and so another scope: it moves to the end, and so does it in its neighbours."""
    old = node.name
    for others, back in _ends(node):
        for other in others:
            neighbour = table.get(other)
            if neighbour is not None:
                edges = back(neighbour)
                if old in edges:
                    edges[name] = edges.pop(old)
    del table[old]
    node.name, node.scope = name, name.rpartition("/")[0]
    table[name] = node


def _ends(node: Node) -> Iterable[tuple[list[str], Callable[[Node], dict[str, Any]]]]:
    """Return the neighbours of a node on each side, and where they keep the edge."""
    return (
        (list(node.inputs), lambda other: other.outputs),
        (list(node.outputs), lambda other: other.inputs),
        (list(node.proxy_inputs), lambda other: other.proxy_outputs),
        (list(node.proxy_outputs), lambda other: other.proxy_inputs),
    )


def _inherit(table: dict[str, Node], scope: Node, children: Iterable[Node]) -> None:
    """Give a scope the edges of its children that lead out of it, but for those to constants."""
    prefix = scope.name + "/"

    def leads_out(name: str) -> bool:
        other = table.get(name)
        return not name.startswith(prefix) and other is not None and other.type != CONST

    children = list(children)
    for side in ("inputs", "outputs"):
        for child in children:
            for name, edge in getattr(child, side).items():
                if leads_out(name):
                    scope.add(getattr(scope, side), name, edge)
    for side in ("proxy_inputs", "proxy_outputs"):
        for child in children:
            for name, control in getattr(child, side).items():
                if leads_out(name):
                    getattr(scope, side)[name] = control


def _group(table: dict[str, Node], enough: int) -> list[tuple[Node, list[Node]]]:
    """Put many nodes of one type in one scope into a group; return the groups."""
    alike: dict[tuple[str, str], list[Node]] = defaultdict(list)
    for node in table.values():
        if node.type != CONST:
            alike[node.scope, node.type].append(node)
    groups: list[tuple[Node, list[Node]]] = []
    for (scope, type_), members in alike.items():
        if len(members) < enough:
            continue
        group = Node(join(scope, f"{type_}[{len(members)}]_{len(groups)}"), AGGREGATION, scope)
        for member in members:
            _rename(table, member, f"{group.name}/{member.name.rpartition('/')[2]}")
        table[group.name] = group
        groups.append((group, members))
    for group, members in groups:
        _inherit(table, group, members)
    return groups


def _draw_apart(table: dict[str, Node], groups: list[tuple[Node, list[Node]]]) -> None:
    """Draw groups of parameters apart from what they go into."""
    for group, members in groups:
        if PARAMETER not in group.name.rpartition("/")[2]:
            continue
        group.independent = True
        for name, edge in list(group.outputs.items()):
            target = table[name]
            target.proxy_inputs[group.name] = edge.control
            if target.scope == group.scope:
                group.proxy_outputs[name] = edge.control
            elif target.scope in table:
                group.proxy_outputs[target.scope] = edge.control
                table[target.scope].proxy_inputs[group.name] = edge.control
        for member in members:
            member.independent = True
            for name, edge in member.outputs.items():
                user = table.get(name)
                if user is None:
                    continue
                member.proxy_outputs[name if user.scope == group.scope else user.scope] = edge.control
                if member.name in user.inputs:
                    user.inputs[member.name].independent = True


# Step 8: scopes
def _prefixes(name: str) -> Iterator[str]:
    at = name.find("/")
    while at >= 0:
        if at:
            yield name[:at]
        at = name.find("/", at + 1)


def _add_scopes(table: dict[str, Node]) -> None:
    """Make a node of each part of a name; it has the edges that lead out of it."""
    wanted = {prefix for name in table for prefix in _prefixes(name)}
    for name in [name for name, node in table.items() if name in wanted and node.type != AGGREGATION]:
        node = table[name]  # an operator in the place of a scope
        _rename(table, node, join(node.scope, f"({name.rpartition('/')[2]})"))
    scopes: dict[str, Node] = {}
    for node in table.values():
        above = ""
        for prefix in _prefixes(node.name):
            if prefix not in table:
                scope = scopes.get(prefix)
                if scope is None:
                    scope = scopes[prefix] = Node(prefix, NAME_SCOPE, above)
                _inherit(table, scope, (node,))
            above = prefix
    table |= scopes


# The optimised graph
def _look_through(table: dict[str, Node]) -> None:
    """Replace inputs from operators that only hand on by what these have as inputs."""
    for node in [node for node in table.values() if node.type not in {PARAMETER, CONST}]:
        for name in list(node.inputs):
            source = table.get(name)
            if source is None or source.type not in _THROUGH:
                continue
            del node.inputs[name]
            for other, edge in list(source.inputs.items()):
                node.add(node.inputs, other, replace(edge))


def _remove_loose(table: dict[str, Node]) -> None:
    """Remove operators that only hand on, then those that nothing leads to or from."""
    through = {name for name, node in table.items() if node.type in _THROUGH}
    for node in table.values():
        for name in through.intersection(node.outputs):
            del node.outputs[name]
    for name in through:
        del table[name]
    loose = [
        name
        for name, node in table.items()
        if node.type not in {PARAMETER, CONST} and not node.inputs and not node.outputs
    ]
    for name in loose:
        del table[name]


def _flatten(table: dict[str, Node]) -> None:
    """Move the operators of a scope that holds only one type, and is called after it, one level up."""
    members: dict[str, list[Node]] = defaultdict(list)
    for node in table.values():
        if node.type not in {PARAMETER, CONST} and "/" in node.scope:
            members[node.scope].append(node)
    for scope, nodes in members.items():
        types = {node.type for node in nodes}
        below = any(other.startswith(scope + "/") for other in members)
        if len(nodes) > 1 and len(types) == 1 and types.pop() in scope and not below:
            up = scope.rpartition("/")[0]
            for node in nodes:
                _rename(table, node, join(up, node.name.rpartition("/")[2]))


# Rendering ------------------------------------------------------------------------------------------------------------
def render(tree: Tree, node: Node) -> dict[str, Any]:
    """Return a node as answers have it."""
    return {
        "name": node.name,
        "type": node.type,
        "is_dynamic_shape_node": node.dynamic,
        "attr": {} if node.type in {NAME_SCOPE, AGGREGATION} else tree.attributes(node),
        "input": {name: _edge(edge) for name, edge in node.inputs.items()},
        "output_i": node.output_i,
        "output": {name: _edge(edge) for name, edge in node.outputs.items()},
        "proxy_input": {name: {"edge_type": _word(control)} for name, control in node.proxy_inputs.items()},
        "proxy_output": {name: {"edge_type": _word(control)} for name, control in node.proxy_outputs.items()},
        "subnode_count": node.children,
        "independent_layout": node.independent,
        "stack_info": [],
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "shape": edge.shapes,
        "edge_type": _word(edge.control),
        "independent_layout": edge.independent,
        "data_type": edge.data_type,
    }


def _word(control: bool) -> str:
    return "control" if control else "data"
