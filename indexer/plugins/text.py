"""Texts: a payload each, UTF-8 as written. Markdown is for the reader to render."""

from __future__ import annotations

from indexer.payload import PLAIN_TEXT, Example, Kind, Options, Stored, Strings, shown
from indexer.types import Blob


def decode(value: Strings) -> list[Blob]:
    """Return a blob a string, in C order, each with the shape of the whole."""
    return [_blob(item, value.shape) for item in value.items]


def _blob(item: bytes, shape: tuple[int, ...]) -> Blob:
    try:
        item.decode()
    except UnicodeDecodeError as e:
        return Blob("text", item, shape=shape, error=f"byte {e.start} is no UTF-8")
    return Blob("text", item, PLAIN_TEXT, shape=shape)


def describe(stored: Stored) -> dict[str, object]:
    """Return the shape of the tensor that the text is from."""
    return shown(shape=None if stored.shape is None else list(stored.shape))


def render(stored: Stored, _options: Options) -> dict[str, object]:
    """Return the text."""
    return {"text": None if stored.data is None or stored.error is not None else stored.data.decode()}


KIND = Kind(
    name="text",
    path="/texts",
    title="Texts",
    about="Texts of TensorBoard, each of a tensor's an item of its own.",
    takes={Strings: frozenset({"text"})},
    decode=decode,
    metadata={
        "shape": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Of the tensor it is from: [2, 2] is a table of four texts, [] a single one.",
        }
    },
    describe=describe,
    fields={
        "text": {
            "type": ["string", "null"],
            "description": "The text, mostly Markdown; null where it is none, or too long for a list.",
        }
    },
    render=render,
    weigh=lambda length, _options: length or 1,
    examples=(Example(Strings((1,), (b"*hello*",)), "text", {"metadata": {"shape": [1]}, "text": "*hello*"}),),
)
