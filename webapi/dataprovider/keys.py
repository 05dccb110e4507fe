"""Keys of blobs: opaque to TensorBoard, which puts them into addresses. They name a blob of this database, or nothing.

The form is that of TensorBoard's own data server: base64url without padding of a JSON list.
"""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64encode
from binascii import Error
from typing import NamedTuple

from webapi.errors import Malformed

MAX_CHARACTERS = 2**20
_LAST = 2**63


class BlobKey(NamedTuple):
    """Which blob of a sequence."""

    experiment: str  # whatever the client said: nobody looks at it
    run: str
    tag: str
    step: int
    number: int  # of the blob within its sequence


def encode(key: BlobKey) -> str:
    """Return a key as text."""
    return urlsafe_b64encode(json.dumps(key, separators=(",", ":")).encode()).rstrip(b"=").decode()


def decode(text: str) -> BlobKey:
    """Return what a key names. Malformed where it is none."""
    if len(text) > MAX_CHARACTERS:
        raise Malformed("blob_key", f"has {len(text)} characters: take a key that ReadBlobSequences gave")
    try:
        raw = text.encode("ascii").translate(_FROM_URL)
        parts = json.loads(b64decode(raw + b"=" * (-len(raw) % 4), validate=True))
    except (Error, ValueError, RecursionError):  # of Unicode and of JSON, too
        parts = None
    match parts:
        case [str(experiment), str(run), str(tag), int(step), int(index)] if (
            not isinstance(step, bool) and not isinstance(index, bool) and 0 <= index < _LAST and -_LAST <= step < _LAST
        ):
            return BlobKey(experiment, run, tag, step, index)
    raise Malformed("blob_key", "is none: take a key that ReadBlobSequences gave")


_FROM_URL = bytes.maketrans(b"-_+/", b"+/!!")  # `!` is in no alphabet
