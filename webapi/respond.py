"""Answers: strict JSON, problems, cursors, entity tags, compression. Knows nothing of the database."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from werkzeug.datastructures import Headers
from werkzeug.wrappers import Request, Response

from indexer.payload import finite
from webapi.errors import Malformed

zstd: Any = None
"""The module that packs zstd: of Python 3.14, before it `backports.zstd` where that is installed."""
for _name in ("compression", "backports"):
    if find_spec(_name) is not None and find_spec(f"{_name}.zstd") is not None:
        zstd = import_module(f"{_name}.zstd")
        break

JSON = "application/json"
PROBLEM = "application/problem+json"
COMPRESS_ABOVE = 1_024
"""Smaller bodies are sent as they are. Unit: bytes."""
HELD_BYTES = 1 << 20
"""A streamed answer is held back so far: one that is shorter goes out whole, and an early error as a status."""

_GZIP_LEVEL = 1  # measured on points: level 5 takes three times as long for a tenth fewer bytes
_ZSTD_LEVEL = 3  # its default; level 1 of gzip takes longer for more bytes
_GZIP_WINDOW = 31  # zlib's way to say: gzip, largest window
_MAX_CURSOR = 4 * 32_768  # characters; a key may hold a name


# Strict JSON ----------------------------------------------------------------------------------------------------------
def encode(value: object) -> bytes:
    """Return `value` as JSON in UTF-8; floats that are not finite become "NaN", "Infinity", "-Infinity"."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates have no UTF-8 but an escape
        return json.dumps(json.loads(text), separators=(",", ":")).encode()


def encode_finite(value: object) -> bytes:
    """Return `value`, whose floats are all finite, as JSON: ten times as fast as `encode`, for long lists."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # lone surrogates
        return encode(value)


def infinite(rows: Sequence[Sequence[Any]], places: Iterable[int]) -> bool:
    """Tell whether a float at one of these places of the rows may be infinite: then a sum is not finite."""
    return not all(math.isfinite(sum(filter(None, map(itemgetter(place), rows)))) for place in places)


def column(numbers: Sequence[float | None], *, null: bytes = b"null") -> bytes:
    """Return a list of numbers as JSON, `null` (itself JSON) in place of None and NaN."""
    made = orjson.dumps(numbers)  # None and what is not finite are `null` there, and nothing else has an n
    if b"n" not in made:
        return made
    words = [_word(number, null) for number in numbers if number is None or not math.isfinite(number)]
    between = made.split(b"null")
    return b"".join(chain.from_iterable(zip(between, [*words, b""], strict=True)))


def _word(number: float | None, null: bytes) -> bytes:
    if number is None or math.isnan(number):
        return null
    return b'"Infinity"' if number > 0 else b'"-Infinity"'


# Cursors --------------------------------------------------------------------------------------------------------------
def cursor(view: str, *key: float | str | None) -> str:
    """Return the opaque text that `position` reads: the last row's sort key in the list `view`."""
    return base64.urlsafe_b64encode(encode([view, *key])).rstrip(b"=").decode()


class Small(int):
    """The kind of an integer in a cursor that a database holds in 32 bits: an id, a seq."""


def position(text: str, view: str, *kinds: type | tuple[type, ...]) -> list[Any]:
    """Return the key in a cursor of the list `view`, each part of its kind; Malformed names `after`.

    Integers are signed 64-bit (`Small`: not negative, 32-bit), floats finite, text free of what a database cannot hold.
    """
    wrong = Malformed("after", "is no cursor of this list: take `next` of an earlier page, with the same sort")
    if len(text) > _MAX_CURSOR or not re.fullmatch("[A-Za-z0-9_-]+", text, re.ASCII):
        raise wrong
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), parse_constant=_refuse)
    except (ValueError, binascii.Error, RecursionError) as e:
        raise wrong from e
    if not isinstance(found, list) or len(found) != len(kinds) + 1 or found[0] != view:
        raise wrong
    for value, kind in zip(found[1:], kinds, strict=True):
        small = kind is Small or (isinstance(kind, tuple) and Small in kind)
        if isinstance(value, bool) or not (isinstance(value, kind) or (small and isinstance(value, int))):
            raise wrong
        if small and isinstance(value, int) and not 0 <= value < 2**31:
            raise wrong
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise wrong
        if isinstance(value, float) and not math.isfinite(value):
            raise wrong
        if isinstance(value, str) and re.search("[\x00\ud800-\udfff]", value):
            raise wrong
    return found[1:]


def _refuse(constant: str) -> object:
    raise ValueError(constant)


# Problems -------------------------------------------------------------------------------------------------------------
def problem(status: int, detail: str, *, parameter: str | None = None, headers: Headers | None = None) -> Response:
    """Return the one shape of every error. Source: RFC 9457."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if parameter is not None:
        body["parameter"] = parameter
    answer = Response(encode(body), status, content_type=PROBLEM, headers=headers)
    answer.headers["Cache-Control"] = "no-store"
    return answer


# Entity tags ----------------------------------------------------------------------------------------------------------
def entity_tag(request: Request, *facts: object) -> str:
    """Return a strong tag for the answer to `request`: of the facts it derives from, its address and its encoding."""
    place = (request.root_path, request.path, request.environ.get("QUERY_STRING", ""))
    digest = hashlib.blake2b(repr((*facts, *place)).encode("utf-8", "replace"), digest_size=12)
    coding = encoding(request)
    return f"{digest.hexdigest()}-{coding}" if coding else digest.hexdigest()


def tagged(response: Response, tag: str) -> Response:
    """Set `tag`, and have caches ask before every use."""
    response.set_etag(tag)
    response.headers["Cache-Control"] = "no-cache"
    return response


def unchanged(tag: str, policy: str | None = None) -> Response:
    """Return 304 to one who has the answer with `tag`.

    policy: that of the answer, where it has one of its own: browsers put a 304's headers in place of those they kept.
    """
    answer = Response(status=304)
    if policy is not None:
        answer.headers["Content-Security-Policy"] = policy
    return tagged(answer, tag)


# Bodies ---------------------------------------------------------------------------------------------------------------
def stream(chunks: Iterator[bytes], content_type: str = JSON) -> Response:
    """Return an answer of `chunks`: whole where it is short, else sent as it is made.

    Errors before the first HELD_BYTES raise here, where they can still become a status; a later one cuts the
    connection, and the JSON with it.
    """
    held: list[bytes] = []
    size = 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size >= HELD_BYTES:
            return Response(chain(held, chunks), content_type=content_type)
    return Response(b"".join(held), content_type=content_type)


def encoding(request: Request) -> str:
    """Return the encoding that an answer's body gets where it is worth it: zstd, gzip, or "" for none.

    One that the client takes at least as gladly as no encoding; zstd where this Python has it and the client names it.
    """
    accepted = request.accept_encodings
    plain = accepted["identity"]
    best, coding = accepted["gzip"], "gzip"
    if zstd is not None and "zstd" in map(str.lower, accepted.values()) and accepted["zstd"] >= best:
        best, coding = accepted["zstd"], "zstd"
    return coding if best > 0 and best >= plain else ""


def compress(response: Response, request: Request) -> Response:
    """Compress the body where the client takes it and it is worth it."""
    response.vary.add("Accept-Encoding")
    coding = encoding(request)
    if not coding or response.direct_passthrough or "Content-Encoding" in response.headers:
        return response
    if response.is_streamed:
        response.response = _packed(coding, response.iter_encoded())
        response.headers.pop("Content-Length", None)
    else:
        body = response.get_data()
        if len(body) <= COMPRESS_ABOVE:
            return response
        response.set_data(b"".join(_packed(coding, [body])))
    response.headers["Content-Encoding"] = coding
    return response


def _packed(coding: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    packer: Any = (
        zstd.ZstdCompressor(_ZSTD_LEVEL)
        if coding == "zstd"
        else zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    )
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()
