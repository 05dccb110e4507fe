"""Curves of scalars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from webapi.curves import Curve, curve
from webapi.mindinsight import catalogue, current, errors, jobs
from webapi.mindinsight.answers import number
from webapi.mindinsight.catalogue import TagRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.parameters import Query

MOST_POINTS = 10_000
"""Of a tag: ten times what MindInsight keeps; more are thinned by shape."""


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


def scalars(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show curves of several jobs and tags; what there is not is left out."""
    train_ids, tags = query.every("train_id"), query.every("tag")
    known = catalogue.train_jobs(conn, catalogue.root(conn), train_ids)
    loaded = {train_id: job.id for train_id, job in known.items() if job.loaded}
    rows = catalogue.named(conn, list(loaded.values()), tags)
    shown = []
    for train_id in train_ids:
        for tag in tags:
            row = rows.get((loaded[train_id], tag)) if train_id in loaded else None
            if row is not None and row.shown_by == "scalar":
                shown.append({"train_id": train_id, "tag": tag, "values": values(_read(conn, row))})
    return {"scalars": shown}


def _read(conn: Connection, tag: TagRow) -> Curve:
    only = current.condition(conn, tag) if tag.point_count <= current.EXACT_POINTS else None
    return curve(conn, tag, max_points=MOST_POINTS, only=only)


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
