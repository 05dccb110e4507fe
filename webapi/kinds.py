"""REST v1 for payloads: one list for all kinds of indexer.plugins, and their bytes.

A kind says what is particular to it (its metadata, its options, its other forms); nothing here knows one by name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

from sqlalchemy import Connection
from werkzeug.wrappers import Response

from indexer import text as names
from indexer.payload import OCTETS, PLAIN_TEXT, Kind, Option, Options
from indexer.plugins import BY_NAME, KINDS
from webapi import blobs, headers, queries, respond, v1
from webapi.address import root
from webapi.errors import Malformed, Unknown
from webapi.parameters import Kind as ParameterKind
from webapi.parameters import Parameter, Values
from webapi.v1 import AFTER, FROM_STEP, JOB, LIMIT, PLUGIN, TAG, TO_STEP, Route, Site

PAGE_BYTES = 8 * 2**20
"""Payloads that an answer shows decoded, at most; those that do not fit are shown without. Unit: bytes."""
TAGS_A_PAGE = 1_000
SAFE = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/bmp",
        "audio/wav",
        "audio/ogg",
        "audio/flac",
        "audio/mpeg",
        PLAIN_TEXT,
    }
)
"""What a browser may show in place. Anything else is saved: markup must not run as a page of ours."""
_CHUNK_BYTES = 2**18
_FORMS = tuple(dict.fromkeys(name for kind in KINDS for name in kind.forms))


def _parameter(option: Option) -> Parameter:
    if option.minimum is None or option.maximum is None:
        return Parameter(option.name, ParameterKind.TEXT, option.description)
    kind = ParameterKind.INTEGER
    return Parameter(option.name, kind, option.description, minimum=option.minimum, maximum=option.maximum)


def _route(kind: Kind) -> Route:
    own = tuple(_parameter(option) for option in kind.options)
    about = (
        f"{kind.about} By tag id, step, seq and ordinal. `error` says why one could not be decoded. A page may hold"
        " fewer items than `limit`: go on while there is `next`."
    )
    parameters = (
        JOB,
        TAG,
        PLUGIN,
        FROM_STEP,
        TO_STEP,
        *own,
        v1.restarts("all" if kind.superseded else "current"),
        LIMIT,
        AFTER,
    )
    return Route(
        kind.path, kind.path.strip("/"), kind.title, about, parameters, f"{kind.name}Items", (404,), of_jobs=True
    )


ROUTES = {_route(kind): kind for kind in KINDS}
BLOB = Route(
    "/blobs/{tag}/{step}/{seq}/{ordinal}",
    "blob",
    "Bytes of a payload",
    "The bytes behind `url` of a list. Images, sounds and text are sent as what they are; all else, markup too, as"
    " `application/octet-stream` to be saved. What is not in the database is read from its file while that exists.",
    (
        Parameter(
            "form",
            ParameterKind.CHOICE,
            "`raw`: the bytes as they are; others only of kinds that have them.",
            default="raw",
            choices=("raw", *_FORMS),
        ),
        *{option.name: _parameter(option) for kind in KINDS if kind.forms for option in kind.options}.values(),
    ),
    "",
    (404,),
)


# Lists ----------------------------------------------------------------------------------------------------------------
def page(site: Site, conn: Connection, kind: Kind, values: Values) -> Response:
    """Render the list of a kind."""
    view = kind.path.strip("/")
    after = None
    if (given := values.text("after")) is not None:
        tag, step, seq, ordinal = respond.position(given, view, respond.Small, int, respond.Small, respond.Small)
        after = (tag, step, seq, ordinal)
    series = queries.SeriesWanted(1, values.texts("job"), values.texts("tag"))
    among = queries.jobs_of(conn, series)
    site.tell(among or ())
    if series.tags:
        queries.series(conn, series, among)  # a tag that nobody has is 404
    chosen = queries.Range(values.integer("from_step"), values.integer("to_step"), values.word("restarts") == "all")
    wanted = blobs.Wanted(kind, values.count("limit"), chosen, among, series.tags, values.text("plugin"), after)
    tags, more = blobs.tags(conn, wanted, limit=TAGS_A_PAGE)
    rows, following = blobs.page(conn, wanted, tags)
    if following is None and more:
        following = (*queries.after_series(tags[-1].id), 2**31 - 1)
    options = _options(kind, values)
    items = _items(conn, kind, rows, {tag.id: tag for tag in tags}, options)
    body = {"items": items, "next": None if following is None else respond.cursor(view, *following)}
    return Response(respond.encode(body), content_type=respond.JSON)


def _options(kind: Kind, values: Values) -> Options:
    return {
        option.name: values.text(option.name) if option.minimum is None else values.integer(option.name)
        for option in kind.options
    }


def _items(
    conn: Connection, kind: Kind, rows: list[blobs.BlobRow], tags: dict[int, blobs.TagRow], options: Options
) -> list[dict[str, Any]]:
    heavy, weight = [], 0
    for row in rows:
        own = kind.weigh(row.stored.length, options)
        if own and weight + own <= PAGE_BYTES and row.stored.error is None and row.encoding != "ref":
            heavy.append(row)
            weight += own
    data = blobs.data(conn, heavy)
    items = []
    room = PAGE_BYTES
    for row in rows:
        tag = tags[row.key[0]]
        content = tag.content if tag.content is not None and len(tag.content) <= room else None
        room -= len(content or b"")
        stored = replace(row.stored, data=data.get(row.key), content=content)
        items.append(
            {
                "job": tag.job_id,
                "train_id": tag.train_id,
                "tag": names.show(tag.name),
                "plugin": names.show(tag.plugin),
                "step": row.key[1],
                "seq": row.key[2],
                "wall_time": row.wall_time,
                "ordinal": row.key[3],
                "content_type": stored.content_type,
                "bytes": stored.length,
                "sha256": row.digest.hex(),
                "stored": "file" if row.encoding == "ref" else "database",
                "error": stored.error,
                "metadata": kind.describe(stored),
                "url": v1.address(row.key),
                **{name: root() + v1.BASE + path.format(*row.key) for name, (path, _) in kind.links.items()},
                **_rendered(kind, stored, options),
            }
        )
    return items


def _rendered(kind: Kind, stored: Any, options: Options) -> dict[str, Any]:
    try:
        return kind.render(stored, options)
    except ValueError as e:
        raise Malformed(kind.options[0].name, str(e)) from e


# Bytes ----------------------------------------------------------------------------------------------------------------
def found(conn: Connection, key: blobs.Key) -> tuple[Kind, blobs.BlobRow]:
    """Return a payload's kind and row. Unknown where there is none."""
    in_range = all(0 <= number < 2**31 for number in (key[0], *key[2:])) and -(2**63) <= key[1] < 2**63
    one = blobs.one(conn, key) if in_range else None
    if one is None or one[0] not in BY_NAME:
        raise Unknown("tag", f"there is no payload at {v1.address(key)}: the lists of each kind name those there are")
    return BY_NAME[one[0]], one[1]


def content(conn: Connection, kind: Kind, row: blobs.BlobRow, values: Values) -> Response:
    """Return a payload's bytes, or another form of them."""
    form = values.word("form")
    if form == "raw":
        if row.encoding == "ref":
            return _from_file(conn, row)
        return _bytes(blobs.data(conn, [row]).get(row.key, b""), row.stored.content_type, row.key, "bin")
    if form not in kind.forms:
        raise Malformed("form", f"is raw for payloads of this kind ({kind.name})")
    if row.stored.error is not None:
        raise Malformed("form", f"is raw for this payload, which could not be decoded: {row.stored.error}")
    if row.encoding == "ref":
        with opened(blobs.place(conn, row.key), row) as file:
            stored = replace(row.stored, data=file.read(row.stored.length))
    else:
        stored = replace(row.stored, data=blobs.data(conn, [row]).get(row.key, b""))
    try:
        made = kind.forms[form](stored, _options(kind, values))
    except ValueError as e:
        raise Malformed(kind.options[0].name, str(e)) from e
    return _bytes(made.data, made.content_type, row.key, made.suffix)


def _bytes(data: bytes, content_type: str, key: blobs.Key, suffix: str) -> Response:
    return _inline_or_saved(Response(data, content_type=OCTETS), content_type, key, suffix)


def _inline_or_saved(answer: Response, content_type: str, key: blobs.Key, suffix: str) -> Response:
    answer.headers["Content-Security-Policy"] = headers.PAYLOAD_POLICY
    if content_type in SAFE or content_type == respond.JSON:
        answer.headers["Content-Type"] = content_type
    else:
        name = "-".join(map(str, key))
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}.{suffix}"'
    return answer


def opened(where: blobs.Place | None, row: blobs.BlobRow) -> BinaryIO:
    """Return the file that holds a payload, at its first byte. Unknown where it is gone, or holds something else."""
    gone = Unknown("tag", "this payload was too long for the database, and its file is not what it was or not here")
    if where is None:
        raise gone
    try:
        if not where.path.is_file():  # a pipe would make us wait
            raise gone
        file = where.path.open("rb")
    except (OSError, ValueError) as e:
        raise gone from e
    try:
        digest, left = hashlib.sha256(), row.stored.length
        file.seek(where.offset)
        while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if left or digest.digest() != row.digest:
            raise gone
        file.seek(where.offset)
    except BaseException:
        file.close()
        raise
    return file


def part(conn: Connection, row: blobs.BlobRow, offset: int, length: int) -> bytes:
    """Return some bytes of a payload that is in its file. Unknown where that is gone, or holds something else."""
    with opened(blobs.place(conn, row.key), row) as file:
        file.seek(offset, os.SEEK_CUR)
        return file.read(length)


def _from_file(conn: Connection, row: blobs.BlobRow) -> Response:
    file = opened(blobs.place(conn, row.key), row)

    def chunks() -> Iterator[bytes]:
        left = row.stored.length
        while left and (chunk := file.read(min(left, _CHUNK_BYTES))):
            yield chunk
            left -= len(chunk)

    answer = Response(chunks(), content_type=OCTETS)
    answer.call_on_close(file.close)
    answer.headers["Content-Length"] = str(row.stored.length)
    return _inline_or_saved(answer, row.stored.content_type, row.key, "bin")
