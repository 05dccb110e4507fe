"""Our text of a message equals protobuf's own."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.nodes import MINDSPORE_TYPES
from indexer.prototext import MESSAGES, render

_F = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "bool": _F.TYPE_BOOL,
    "int64": _F.TYPE_INT64,
    "uint64": _F.TYPE_UINT64,
    "float": _F.TYPE_FLOAT,
    "double": _F.TYPE_DOUBLE,
    "string": _F.TYPE_BYTES,
    "type": _F.TYPE_ENUM,
    "edge": _F.TYPE_ENUM,
}
_ENUMS = {"type": [f"DT_{word}" for word in MINDSPORE_TYPES], "edge": ["DATA_EDGE", "CONTROL_EDGE"]}


def _classes() -> dict[str, Any]:
    """Return protobuf's classes of the messages, made from the same tables."""
    file = descriptor_pb2.FileDescriptorProto(name="graph.proto", package="g", syntax="proto2")
    for name, words in _ENUMS.items():
        enum = file.enum_type.add(name=f"Enum_{name}")
        for number, word in enumerate(words):
            enum.value.add(name=word, number=number)
    for message, fields in MESSAGES.items():
        made = file.message_type.add(name=message)
        for number, field in fields.items():
            label = _F.LABEL_REPEATED if field.many else _F.LABEL_OPTIONAL
            one = made.field.add(name=field.name, number=number, label=label)
            if field.kind in MESSAGES:
                one.type, one.type_name = _F.TYPE_MESSAGE, f".g.{field.kind}"
            else:
                one.type = _KINDS[field.kind]
                if field.kind in _ENUMS:
                    one.type_name = f".g.Enum_{field.kind}"
                elif field.many and field.kind != "string" and message == "Tensor":
                    one.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"g.{name}")) for name in MESSAGES}


CLASSES = _classes()
_VALUES = {
    "bool": st.booleans(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "float": st.floats(width=32),
    "double": st.floats(),
    "string": st.binary(max_size=8),
    "type": st.integers(0, len(MINDSPORE_TYPES) - 1),
    "edge": st.integers(0, 1),
}


def messages(name: str, depth: int) -> st.SearchStrategy[Any]:
    """Return messages of a kind."""
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for field in MESSAGES[name].values():
        if field.kind in MESSAGES:
            if not depth:
                continue
            inner = st.deferred(lambda kind=field.kind: messages(kind, depth - 1))  # type: ignore[misc]
        else:
            inner = _VALUES[field.kind]
        parts[field.name] = st.lists(inner, max_size=2) if field.many else inner
    return st.fixed_dictionaries({}, optional=parts).map(lambda given: CLASSES[name](**given))


@settings(max_examples=200, deadline=None)
@given(messages("Value", 2))
def test_text_is_protobufs(message: Any) -> None:
    """Fields, order, indents, escapes and the digits of numbers are those of protobuf's text format."""
    assert text_format.MessageToString(message, as_utf8=False) == render(message.SerializeToString(), "Value")


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_is_written(name: str) -> None:
    """An empty message is an empty text, whatever it is."""
    assert "" == render(b"", name)


def test_what_nobody_knows_is_left_out() -> None:
    """Unknown fields, enum values without a name and what is cut off are passed over, the rest stays."""
    data = b"\x08\x63\x10\x01\xf8\x07\x05" + b"\x3a\x09abc"
    assert "bool_val: true\n" == render(data, "Value")


def test_the_last_of_several_counts() -> None:
    """A field that is not repeated, and yet comes twice, is the later one."""
    assert "int_val: 2\n" == render(b"\x18\x01\x18\x02", "Value")
