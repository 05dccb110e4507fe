"""Everything that has no kind of its own yet: the serialized message as written."""

from __future__ import annotations

from indexer.payload import PLUGIN_CONTENT, Example, Kind, Message, Stored, of_plugin, shown
from indexer.types import Blob


def decode(value: Message) -> list[Blob]:
    """Return the message as it is."""
    return [Blob("message", value.data, facts={"field": value.name}, packs=True)]


def describe(stored: Stored) -> dict[str, object]:
    """Return the field that holds the message, and what the plugin says of the series."""
    return shown(**stored.facts) | of_plugin(stored)


KIND = Kind(
    name="message",
    path="/messages",
    title="Messages",
    about="Values that have no kind of their own: the serialized protobuf message, as the writer made it.",
    takes={Message: None},
    decode=decode,
    metadata={
        "field": {"type": "string", "description": "The field of the file's format that holds it."},
        **PLUGIN_CONTENT,
    },
    describe=describe,
    examples=(Example(Message("hologram", b"\x0a\x00"), "", {"metadata": {"field": "hologram"}}),),
)
