"""REST v1: one tag over all jobs, an item a series, chosen and ordered by its numbers or by what is known of its job.

Numbers are of current points. Where a series never went back they are the statistics of its tag; where it did, what a
new file or session superseded is left out (docs/decisions/0029-formats-and-compare.md).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text

from indexer import text as names
from indexer.types import RestartCause
from webapi import queries, respond, runs, v1
from webapi.curves import Curve, curve
from webapi.parameters import MAX_NAME, Kind, Parameter, Values
from webapi.v1 import AFTER, JOB, LIMIT, PLUGIN, Route, Site, shape

READ_WHOLE = 1_000
"""Points of a series that is read whole, together with others; of a longer one its rollups tell."""

_KEYS = (
    "last, min, max and best (of the tag), points; hyperparameters and lineage by their names, as in /hparams and"
    f" /lineage: {runs.LINEAGE_KEYS}"
)
_CAUSES = f"('{RestartCause.NEW_FILE}', '{RestartCause.SESSION_START}')"
_CURRENT = (
    "NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = p.tag_id AND r.seq > p.seq AND r.step <= p.step"  # noqa: S608
    f" AND r.cause IN {_CAUSES})"
)
_ROWS = (
    "(SELECT job_id, name, value, number, CASE source WHEN 'session' THEN 0 ELSE 1 END AS rank, ordinal FROM hparams"
    " UNION ALL SELECT job_id, name, value, number, 2 AS rank, ordinal FROM lineage)"
)
_LAST = (
    "CASE WHEN t.seq > 0 THEN (SELECT p.value FROM tensor_points p WHERE p.tag_id = t.id"  # noqa: S608
    f" AND {_CURRENT} ORDER BY p.step DESC, p.seq DESC LIMIT 1) ELSE t.last_value END"
)


def _extreme(name: str) -> str:
    """Return the smallest (`min`) or largest (`max`) finite value of a tag's current points: most from its rollups."""
    return (
        f"CASE WHEN t.seq > 0 THEN (SELECT {name}(u.v) FROM (SELECT {name}(b.{name}_value) AS v"  # noqa: S608
        " FROM point_rollups b WHERE b.tag_id = t.id AND b.level = 0"
        f" UNION ALL SELECT {name}(p.value) FROM tensor_points p WHERE p.tag_id = t.id"
        " AND p.step >= coalesce(t.rolled_step, CAST('-9223372036854775808' AS BIGINT))"
        f" AND p.value BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308 AND {_CURRENT}) u)"
        f" ELSE t.{name}_value END"
    )


ROUTE = Route(
    "/compare",
    "compare",
    "One tag over all jobs",
    "An item a series of numbers: its last, smallest, largest and best value, and their steps, of current points: what"
    " a later file or session start superseded is left out. Smallest and largest are of finite values.",
    (
        Parameter("tag", Kind.TEXT, "Name of the tag.", max_length=MAX_NAME, example="loss"),
        JOB,
        PLUGIN,
        Parameter("best", Kind.CHOICE, "Whether small or large is good.", default="min", choices=("min", "max")),
        runs.where(_KEYS),
        runs.sort_by(_KEYS),
        shape("records"),
        LIMIT,
        AFTER,
    ),
    "ComparePage",
    (404,),
    of_jobs=True,
)


def page(site: Site, conn: Connection, values: Values) -> tuple[list[dict[str, Any]], str | None]:
    """Return a page of `/compare`, and the cursor of the next."""
    tag, best = values.word("tag"), values.word("best")
    among = queries.jobs_of(conn, queries.SeriesWanted(1, values.texts("job")))
    plugin = values.text("plugin")
    found, view = runs.places(site, conn, _listing(tag, plugin, best), values)
    if not found:
        queries.series(conn, queries.SeriesWanted(1, tags=(tag,)), among)  # a tag that nobody has is 404
    limit = values.count("limit")
    shown = found[:limit]
    following = respond.cursor(view, *shown[-1]) if len(found) > limit else None
    rows = _series(conn, [place[-1] for place in shown])
    curves = _curves(conn, [row for _, row in rows])
    items = [_item(root, row, of_row, best) for (root, row), of_row in zip(rows, curves, strict=True)]
    return items, following


VIEWS = {ROUTE: runs.view(page)}


def _listing(tag: str, plugin: str | None, best: str) -> runs.Listing:
    stored = names.store(tag)
    only = "t.name_key = :tag_key AND t.name = CAST(:tag AS TEXT) AND t.data_class = 'scalar'"
    bound: dict[str, Any] = {"tag_key": names.short_key(stored), "tag": stored}
    if plugin is not None:
        only += " AND t.plugin = CAST(:plugin AS TEXT)"
        bound["plugin"] = names.store(plugin)
    extremes = {name: _extreme(name) for name in ("min", "max")}
    return runs.Listing(
        f"compare {best}",
        _ROWS,
        "x.rank, x.ordinal",
        "jobs j JOIN tags t ON t.job_id = j.id",
        only,
        {**runs.OF_JOBS, "last": _LAST, **extremes, "best": extremes[best], "points": "t.point_count"},
        {"train_id": "j.train_id"},
        "hparam/",
        tags=False,
        id="t.id",
        bound=bound,
    )


_SERIES = text(
    "SELECT r.name, t.id, t.job_id, j.train_id, t.name, t.plugin, t.data_class, t.point_count, t.first_wall_time,"
    " t.rolled_count FROM tags t JOIN jobs j ON j.id = t.job_id JOIN roots r ON r.id = j.root_id WHERE t.id IN :ids"
).bindparams(bindparam("ids", expanding=True))


def _series(conn: Connection, ids: Sequence[int]) -> list[tuple[str, queries.SeriesRow]]:
    """Return root and series of tags, in their order."""
    if not ids:
        return []
    found = {row[1]: (row[0], queries.SeriesRow(*row[1:])) for row in conn.execute(_SERIES, {"ids": list(ids)})}
    return [found[tag] for tag in ids]


def _curves(conn: Connection, rows: Sequence[queries.SeriesRow]) -> list[Curve]:
    """Return of each series its last, smallest and largest current point at least."""
    made: dict[int, Curve] = {}
    current = queries.Range()
    short = deque(row for row in rows if row.point_count <= READ_WHOLE)
    while short:
        some = v1.take_short(short, 0)
        made |= zip((row.id for row in some), v1.curves_of(conn, some, 0, current), strict=True)
    for row in rows:
        if row.id not in made:
            made[row.id] = curve(conn, row, max_points=4)
    return [made[row.id] for row in rows]


def _item(root: str, row: queries.SeriesRow, found: Curve, best: str) -> dict[str, Any]:
    finite = [n for n, value in enumerate(found.value) if value is not None and math.isfinite(value)]
    place: dict[str, int | None] = {
        "last": len(found.step) - 1 if found.step else None,
        "min": min(finite, key=lambda n: found.value[n] or 0.0, default=None),
        "max": max(finite, key=lambda n: found.value[n] or 0.0, default=None),
    }
    item: dict[str, Any] = {
        "job": row.job_id,
        "root": root,
        "train_id": row.train_id,
        "tag": names.show(row.name),
        "plugin": names.show(row.plugin),
        "points": found.total,
    }
    for name, n in {**place, "best": place[best]}.items():
        value = None if n is None else found.value[n]
        item[f"{name}_value"] = math.nan if n is not None and value is None else value
        item[f"{name}_step"] = None if n is None else found.step[n]
        item[f"{name}_wall_time"] = None if n is None else found.wall_time[n]
    return item
