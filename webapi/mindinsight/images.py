"""Images: their sizes, and their bytes as the writer encoded them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from indexer.payload import OCTETS
from indexer.plugins import image
from webapi import blobs
from webapi.mindinsight import catalogue, current, errors
from webapi.mindinsight.answers import Content, number
from webapi.mindinsight.catalogue import TagRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.kept import content
from webapi.mindinsight.parameters import Query, integer

MOST_IMAGES = 100
"""Of a tag: ten times what MindInsight keeps; of more there are some, evenly."""
LAST = -1
"""Step that stands for the greatest there is."""
_NO_STEP = "Can not find the step with given train job id and tag."


def metadata(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """List the images of a tag."""
    train_id, tag = query.required("train_id"), query.required("tag")
    rows = current.payloads(conn, _tag(conn, train_id, tag), image.KIND, most=MOST_IMAGES)
    return {"metadatas": [_shown(row) for row in rows]}


def _shown(row: blobs.BlobRow) -> dict[str, Any]:
    facts = row.stored.facts  # sizes as recorded, not as the image has them
    return {
        "wall_time": number(row.wall_time),
        "step": row.key[1],
        "width": facts.get("recorded_width", row.stored.width),
        "height": facts.get("recorded_height", row.stored.height),
    }


def single_image(_context: Context, conn: Connection, query: Query) -> Content:
    """Return an image."""
    train_id, tag, given = query.required("train_id"), query.required("tag"), query.required("step")
    step = integer("step", given)
    found = _tag(conn, train_id, tag)
    if step == LAST:
        last = current.last_step(conn, found, image.KIND)
        step = step if last is None else last
    row = current.at_step(conn, found, image.KIND, step)
    if row is None:
        raise errors.no_image(_NO_STEP)
    data = content(conn, row)
    return Content(data, content_type(data))


def content_type(data: bytes) -> str:
    """Return what the first bytes of an image say."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[6:10] in {b"JFIF", b"Exif"} or data.startswith(b"\xff\xd8\xff\xdb"):
        return "image/jpeg"
    if data[:6] in {b"GIF87a", b"GIF89a"}:
        return "image/gif"
    return "image/bmp" if data[:2] == b"BM" else OCTETS


def _tag(conn: Connection, train_id: str, tag: str) -> TagRow:
    job = catalogue.loaded_job(conn, catalogue.root(conn), train_id)
    row = catalogue.named(conn, [job.id], [tag]).get((job.id, tag))
    if row is None or row.shown_by != "image":
        raise errors.no_image(errors.UNKNOWN_TAG)
    return row
