"""Sounds: the encoded bytes as the writer made them. The format is read from the header; nothing is decoded."""

from __future__ import annotations

import math
import struct

from indexer.payload import OCTETS, Example, Kind, Sound, Stored, Strings, shown
from indexer.types import Blob

_UNKNOWN = "the bytes begin like no WAV, Ogg, FLAC or MP3 file"
_TOO_SHORT = "the header of an audio/wav is damaged"


def sniff(data: bytes) -> tuple[str, str | None]:
    """Return the content type of a sound, and what is wrong with it. Sources: RIFF/WAVE, RFC 3533, RFC 9639."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return ("audio/wav", None) if wave(data) else (OCTETS, _TOO_SHORT)
    if data[:4] == b"OggS":
        return "audio/ogg", None
    if data[:4] == b"fLaC":
        return "audio/flac", None
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06):
        return "audio/mpeg", None
    return OCTETS, _UNKNOWN


def wave(data: bytes) -> tuple[int, int] | None:
    """Return channels and sample rate of a WAV file; None where its header is damaged."""
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt ":
            if size < 16 or at + 24 > len(data):
                return None
            channels, rate = struct.unpack_from("<HI", data, at + 10)
            return (channels, rate) if channels and rate else None
        at += 8 + size + size % 2
    return None


def decode(value: Sound | Strings) -> list[Blob] | None:
    """Return a blob a clip. A tensor is [clip ...] or [[clip, label] ...]."""
    if isinstance(value, Sound):
        rate = value.sample_rate if math.isfinite(value.sample_rate) else None
        facts = shown(sample_rate=rate, channels=value.channels, frames=value.frames)
        return [_blob(value.data, facts | shown(recorded_type=value.content_type or None))]
    if len(value.shape) == 2 and value.shape[1] == 2 and len(value.items) % 2 == 0:
        pairs = zip(value.items[::2], value.items[1::2], strict=True)
        return [_blob(data, {"label": label.decode("utf-8", "backslashreplace")}) for data, label in pairs]
    return [_blob(data, {}) for data in value.items] if len(value.shape) == 1 else None


def _blob(data: bytes, facts: dict[str, object]) -> Blob:
    content_type, error = sniff(data)
    if "sample_rate" not in facts and content_type == "audio/wav" and (found := wave(data)) is not None:
        facts = facts | {"channels": found[0], "sample_rate": found[1]}
    return Blob("audio", data, content_type, facts=facts or None, error=error)


def describe(stored: Stored) -> dict[str, object]:
    """Return what is known of a clip."""
    return shown(**stored.facts)


_WAVE = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", 0)

KIND = Kind(
    name="audio",
    path="/audio",
    title="Audio",
    about="Sounds of TensorBoard. `url` gives the bytes as the writer encoded them.",
    takes={Sound: None, Strings: frozenset({"audio"})},
    decode=decode,
    metadata={
        "sample_rate": {"type": "number", "description": "Hz; as recorded, else as a WAV header says."},
        "channels": {"type": "integer", "description": "Likewise."},
        "frames": {"type": "integer", "description": "As recorded."},
        "recorded_type": {"type": "string", "description": "Content type as recorded."},
        "label": {"type": "string", "description": "What the writer says of the clip; Markdown."},
    },
    describe=describe,
    examples=(
        Example(
            Strings((1, 2), (_WAVE, b"a tone")),
            "audio",
            {"metadata": {"label": "a tone", "channels": 1, "sample_rate": 8000}},
        ),
    ),
)
