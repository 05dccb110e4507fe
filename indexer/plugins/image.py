"""Images: the encoded bytes as the writer made them. Format and size are read from the header; no pixel is decoded."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from indexer.payload import OCTETS, Example, Kind, Picture, Stored, Strings, shown
from indexer.types import Blob

_LARGEST = 2**31 - 1
_HEADER_BYTES = 2**20  # a JPEG's size may lie behind a thumbnail and a colour profile
_UNKNOWN = "the bytes begin like no PNG, JPEG, GIF, WebP or BMP image"
_NO_SIZE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a segment
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that hold the size


class Header(NamedTuple):
    """What an image says of itself."""

    content_type: str
    width: int = 0
    height: int = 0
    error: str | None = None


def sniff(data: bytes) -> Header:
    """Return what the first bytes of an image say. Sources: PNG (ISO 15948), JFIF, GIF89a, RFC 9649 (WebP), BMP."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _sized("image/png", _png(data))
    if data[:3] == b"\xff\xd8\xff":
        return _sized("image/jpeg", _jpeg(data[:_HEADER_BYTES]))
    if data[:6] in {b"GIF87a", b"GIF89a"}:
        return _sized("image/gif", struct.unpack_from("<HH", data, 6) if len(data) >= 10 else None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _sized("image/webp", _webp(data))
    if data[:2] == b"BM" and len(data) >= 26:
        width, height = struct.unpack_from("<ii", data, 18)
        return _sized("image/bmp", (width, abs(height)))
    return Header(OCTETS, error=_UNKNOWN)


def _sized(content_type: str, size: tuple[int, int] | None) -> Header:
    if size is None or not all(0 < pixels <= _LARGEST for pixels in size):
        return Header(OCTETS, error=f"the header of an {content_type} is damaged")
    return Header(content_type, *size)


def _png(data: bytes) -> tuple[int, int] | None:
    if data[8:16] != b"\x00\x00\x00\rIHDR" or len(data) < 33:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    (check,) = struct.unpack_from(">I", data, 29)
    return (width, height) if zlib.crc32(data[12:29]) == check else None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _NO_SIZE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _FRAMES:
            if at + 9 > len(data):
                return None
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if length < 2:
            return None
        at += 2 + length
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    if len(data) < 30:
        return None
    match data[12:16]:
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None


def decode(value: Picture | Strings) -> list[Blob] | None:
    """Return a blob an image. The columns have the size in the header; where there is none, the recorded one."""
    if isinstance(value, Picture):
        return [_blob(value.data, value.width, value.height, value.colorspace)]
    if len(value.shape) != 1 or len(value.items) < 3 or not all(item.isdigit() for item in value.items[:2]):
        return None  # not [width, height, image ...]
    width, height = (int(item[:19]) for item in value.items[:2])
    return [_blob(data, width, height, None) for data in value.items[2:]]


def _blob(data: bytes, width: int, height: int, colorspace: int | None) -> Blob:
    header = sniff(data)
    facts = None
    if header.error is not None:
        size = (width if 0 <= width <= _LARGEST else None, height if 0 <= height <= _LARGEST else None)
    else:
        size = (header.width, header.height)
        if size != (width, height):
            facts = {"recorded_width": width, "recorded_height": height}
    return Blob("image", data, header.content_type, *size, colorspace, facts=facts, error=header.error)


def describe(stored: Stored) -> dict[str, object]:
    """Return an image's size and colour space."""
    return shown(width=stored.width, height=stored.height, colorspace=stored.colorspace, **stored.facts)


_DOT = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU\x00\x00\x00\nIDAT"
    b"x\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
)

KIND = Kind(
    name="image",
    path="/images",
    title="Images",
    about="Images of MindSpore and TensorBoard. `url` gives the bytes as the writer encoded them.",
    takes={Picture: None, Strings: frozenset({"images"})},
    decode=decode,
    metadata={
        "width": {"type": "integer", "description": "Pixels, as the image's own header says."},
        "height": {"type": "integer", "description": "Pixels."},
        "colorspace": {"type": "integer", "description": "As recorded: 1 grey, 2 grey+alpha, 3 RGB, 4 RGBA, 5, 6."},
        "recorded_width": {"type": "integer", "description": "What the record says, where the image says otherwise."},
        "recorded_height": {"type": "integer", "description": "Likewise."},
    },
    describe=describe,
    examples=(
        Example(Picture(_DOT, 1, 1, 1), "image", {"metadata": {"width": 1, "height": 1, "colorspace": 1}}),
        Example(Strings((3,), (b"1", b"1", _DOT)), "images", {"metadata": {"width": 1, "height": 1}}),
    ),
)
