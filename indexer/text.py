"""Names from files as database text, and back.

PostgreSQL text holds no NUL, and neither database holds bytes that are not UTF-8 (Python shows those of a file name as
lone surrogates). One character of our own escapes them, so that every name survives a round trip and plain names are
stored as they are: `␛` (U+241B) + two hex digits is that byte, `␛␛` is the character itself.
"""

from __future__ import annotations

import hashlib
import re

ESCAPE = "␛"
_STORE = re.compile("[\x00␛\ud800-\udfff]")
_SHOW = re.compile("␛(␛|[0-9a-f]{2})")


def store(name: str) -> str:
    """Return `name` as both databases can hold it. Lone surrogates outside U+DC80..DCFF become U+FFFD."""
    return _STORE.sub(_escape, name) if _STORE.search(name) else name


def show(stored: str) -> str:
    """Return the name that `store` was given; bytes that are not UTF-8 come back as lone surrogates."""
    if ESCAPE not in stored:
        return stored
    return _SHOW.sub(_unescape, stored)


def key(*names: str) -> bytes:
    """Return 16 bytes that stand for stored `names` in an index.

    PostgreSQL's B-tree refuses entries above 2,704 bytes, and names have no such limit. Source: BLAKE2b, RFC 7693.
    """
    return hashlib.blake2b("\x00".join(names).encode(), digest_size=16).digest()


def short_key(name: str) -> int:
    """Return a signed 64-bit number for stored `name`: an index to find it by, not unique."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char == ESCAPE:
        return ESCAPE + ESCAPE
    code = ord(char)
    if code == 0:
        return ESCAPE + "00"
    if 0xDC80 <= code <= 0xDCFF:
        return f"{ESCAPE}{code - 0xDC00:02x}"
    return "\ufffd"


def _unescape(match: re.Match[str]) -> str:
    what = match.group(1)
    if what == ESCAPE:
        return ESCAPE
    byte = int(what, 16)
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
