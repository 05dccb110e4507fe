"""Curves of scalars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from webapi import queries, respond
from webapi.curves import Curve, curve
from webapi.mindinsight import catalogue, current, errors, jobs
from webapi.mindinsight.answers import Content, Long, chunks, number
from webapi.mindinsight.catalogue import TagRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.parameters import Query

KEPT_POINTS = 1_000
"""Of a tag, by MindInsight."""
MOST_POINTS = 10 * KEPT_POINTS
"""Of a tag here; more are thinned by shape."""
MOST_TOGETHER = 2_000_000
MOST_CURVES = 20_000
"""In an answer."""
SHORT_POINTS = 1_000
TAGS_AT_ONCE = 200
"""Short curves read by one statement."""


def metadata(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show one curve."""
    train_id, tag = query.required("train_id"), query.required("tag")
    job = catalogue.loaded_job(conn, catalogue.root(conn), train_id)
    row = catalogue.named(conn, [job.id], [tag]).get((job.id, tag))
    if row is None or row.shown_by != "scalar":
        if any(tag in tags for tags in jobs.plugins_of(context, conn, [job])[job.id].values()):
            raise errors.wrong_type("scalar_value", "number")  # as there, of whatever other plugin
        raise errors.no_scalar()
    return {"metadatas": values(_read(conn, row))}


def scalars(_context: Context, conn: Connection, query: Query) -> Content:
    """Show curves of several jobs and tags; what there is not is left out.

    Many curves share MOST_TOGETHER points, but each may have as many as MindInsight keeps.
    """
    train_ids, tags = query.every("train_id"), query.every("tag")
    known = catalogue.train_jobs(conn, catalogue.root(conn), train_ids)
    loaded = {train_id: job.id for train_id, job in known.items() if job.loaded}
    found = catalogue.named(conn, list(loaded.values()), tags)
    wanted = [
        (train_id, tag, row)
        for train_id in train_ids
        for tag in tags
        if train_id in loaded and (row := found.get((loaded[train_id], tag))) is not None and row.shown_by == "scalar"
    ]
    if len(wanted) > MOST_CURVES:
        raise errors.too_much(f"{len(wanted)} curves exceed max value: {MOST_CURVES}.")
    most = max(KEPT_POINTS, min(MOST_POINTS, MOST_TOGETHER // max(1, len(wanted))))
    short = _short(conn, [row for _, _, row in wanted], most)
    items = (
        {"train_id": train_id, "tag": tag, "values": values(short.get(row.id) or _read(conn, row, most))}
        for train_id, tag, row in wanted
    )
    return Content(b"".join(chunks(Long("scalars", items, at_once=1))), respond.JSON)


def _short(conn: Connection, tags: Sequence[TagRow], most: int) -> dict[int, Curve]:
    """Return those curves that are shown whole and never went back. A statement for TAGS_AT_ONCE of them."""
    whole = list({tag.id: tag for tag in tags if not tag.seq and tag.point_count <= SHORT_POINTS <= most}.values())
    found: dict[int, list[queries.PointRow]] = {tag.id: [] for tag in whole}
    for start in range(0, len(whole), TAGS_AT_ONCE):
        part = whole[start : start + TAGS_AT_ONCE]
        count = sum(tag.point_count for tag in part)
        every = queries.Range(superseded=True)
        for point in queries.page_of_points(conn, [tag.id for tag in part], every, limit=count):
            found[point[0]].append(point)
    return {
        tag: Curve([p[1] for p in points], [p[3] for p in points], [p[4] for p in points], len(points), False)
        for tag, points in found.items()
    }


def _read(conn: Connection, tag: TagRow, most: int = MOST_POINTS) -> Curve:
    only = current.condition(conn, tag) if tag.point_count <= current.EXACT_POINTS else None
    return curve(conn, tag, max_points=most, only=only)


def values(found: Curve) -> list[dict[str, Any]]:
    """Return points as answers have them: a value that is not finite is null."""
    return [
        {
            "wall_time": time if time is not None and math.isfinite(time) else number(time),
            "step": step,
            "value": value if value is not None and math.isfinite(value) else None,
        }
        for time, step, value in zip(found.wall_time, found.step, found.value, strict=True)
    ]
