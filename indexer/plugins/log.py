"""Records about a training, not of it: session starts and stops, checkpoints, log lines.

The serialized message as written; what it says is in the facts, long texts cut.
"""

from __future__ import annotations

from indexer.payload import Example, Kind, Message, Stored, shown
from indexer.types import Blob
from indexer.walk import Field, Fields, read

MAX_SHOWN = 500
"""Characters of a text in the facts; the bytes have all."""

_LEVELS = {0: "UNKNOWN", 10: "DEBUGGING", 20: "INFO", 30: "WARN", 40: "ERROR", 50: "FATAL"}
_STATUSES = {0: "STATUS_UNSPECIFIED", 1: "START", 2: "STOP", 3: "CHECKPOINT"}
MESSAGES: dict[str, Fields] = {
    "session_log": {1: Field("status", _STATUSES), 2: Field("checkpoint_path", str), 3: Field("message", str)},
    "log_message": {1: Field("level", _LEVELS), 2: Field("message", str)},
}
"""By the field of an Event that holds them. Source: tensorflow's event.proto."""


def decode(value: Message) -> list[Blob] | None:
    """Return the record."""
    if value.name not in MESSAGES:
        return None
    facts: dict[str, object] = {"field": value.name}
    for name, said in read(value.data, MESSAGES[value.name]).items():
        facts[name] = said[:MAX_SHOWN]
        if len(said) > MAX_SHOWN:
            facts["cut"] = True
    return [Blob("log", value.data, facts=facts, packs=True)]


def describe(stored: Stored) -> dict[str, object]:
    """Return what the record says."""
    return shown(**stored.facts)


_TEXT = {"type": "string"}

KIND = Kind(
    name="log",
    path="/logs",
    title="Logs",
    about="What TensorBoard's files say beside values: sessions, checkpoints, log lines. `url` gives the message as"
    " written.",
    takes={Message: frozenset(MESSAGES)},
    decode=decode,
    metadata={
        "field": {**_TEXT, "description": f"What it is: {', '.join(MESSAGES)}."},
        "status": {**_TEXT, "description": "Of a session: START, STOP, CHECKPOINT."},
        "checkpoint_path": {**_TEXT, "description": "Where a checkpoint is."},
        "level": {**_TEXT, "description": f"Of a log line: {', '.join(_LEVELS.values())}."},
        "message": {**_TEXT, "description": f"Its text; the first {MAX_SHOWN} characters, as of all texts here."},
        "cut": {"type": "boolean", "description": "A text is longer; the bytes have all of it."},
    },
    describe=describe,
    superseded=True,
    examples=(
        Example(
            Message("session_log", b"\x08\x03\x12\x06ckpt-1"),
            "session_log",
            {"metadata": {"field": "session_log", "status": "CHECKPOINT", "checkpoint_path": "ckpt-1"}},
        ),
        Example(
            Message("log_message", b"\x08\x14\x12\x05hello"),
            "log_message",
            {"metadata": {"field": "log_message", "level": "INFO", "message": "hello"}},
        ),
    ),
)
