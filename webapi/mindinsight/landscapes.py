"""Loss landscapes: those over intervals of the training, and the one at its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from indexer.plugins import landscape
from webapi import blobs
from webapi.mindinsight import catalogue, current, errors
from webapi.mindinsight.catalogue import JobRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.kept import content
from webapi.mindinsight.parameters import Query

MOST_LANDSCAPES = 5_000
"""Of a tag: ten times what MindInsight keeps; of more there are some, evenly."""
_AXES = ("x", "y", "z")
_WORDS = ("network", "learning_rate", "optimizer", "metric", "loss")


def intervals(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """List the intervals that a job has landscapes over."""
    train_id = query.required("train_id")
    job = catalogue.listed_job(conn, catalogue.root(conn), train_id)
    if not job.loaded:
        raise errors.no_job()
    found = [row.stored.facts["intervals"] for row in _landscapes(conn, job) if row.stored.facts["intervals"]]
    return {
        "intervals": [
            {"id": interval_id(steps), "value": [steps[0], steps[-1]]} for steps in sorted(found, key=lambda s: s[0])
        ]
    }


def interval_id(steps: list[int]) -> str:
    """Return what names an interval, in every process and at any time."""
    digest = hashlib.blake2b(json.dumps(steps).encode(), digest_size=8).digest()
    return str(int.from_bytes(digest, "big", signed=True))


def landscapes(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show a landscape of each job; what is wrong with one of them is said in its place."""
    final, wanted = query.text("type") == "final", query.text("interval_id")
    known = query.text("type") in {None, "interval", "final"}
    root = catalogue.root(conn)
    shown: list[dict[str, Any]] = []
    for train_id in query.every("train_id"):
        if not train_id.startswith("./"):
            shown.append({"error_code": f"{errors.PARAMETER_VALUE:08X}", "train_id": train_id})
            continue
        job = catalogue.listed_job(conn, root, train_id)
        if not job.loaded:
            shown.append({"error_code": f"{errors.NO_JOB:08X}", "train_id": train_id})
            continue
        row = next(
            (row for row in _landscapes(conn, job) if known and _wanted(row, wanted, final=final)),
            None,
        )
        if row is None:
            shown.append({"error_code": f"{errors.LANDSCAPE_NOT_FOUND:08X}", "train_id": train_id})
        else:
            shown.append({"train_id": train_id, **_item(context, conn, job, row)})
    return {"landscapes": shown}


def _wanted(row: blobs.BlobRow, interval: str | None, *, final: bool) -> bool:
    steps = row.stored.facts["intervals"]
    return not steps if final else bool(steps) and interval_id(steps) == interval


def _landscapes(conn: Connection, job: JobRow) -> list[blobs.BlobRow]:
    """Return the landscapes of a job by tag, then step."""
    tags = [tag for tag in catalogue.tags(conn, [job.id]) if tag.shown_by == "loss_landscape"]
    found: list[blobs.BlobRow] = []
    for tag in sorted(tags, key=lambda tag: tag.tag):
        found += current.payloads(conn, tag, landscape.KIND, most=MOST_LANDSCAPES, where="b.error IS NULL")
    return found


def _item(context: Context, conn: Connection, job: JobRow, row: blobs.BlobRow) -> dict[str, Any]:
    drawn = landscape.render(replace(row.stored, data=content(conn, row)), {})
    facts = row.stored.facts
    surface, path, end = (drawn[name] or {} for name in ("landscape", "path", "convergence_point"))
    shown: dict[str, Any] = {"points": _points(surface)}
    if facts["intervals"]:
        shown["path"] = {**_points(path), "intervals": facts["intervals"]}
    shown["metadata"] = {
        "decomposition": facts.get("decomposition", ""),
        "unit": facts.get("unit", ""),
        "step_per_epoch": facts.get("step_per_epoch", 0),
        **_trained(context, conn, job),
    }
    point = [end.get(axis, []) for axis in _AXES]
    firsts = [_first(values) for values in point]
    shown["convergence_point"] = [0, 0, 0] if None in firsts else firsts
    return shown


def _points(found: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: found.get(axis, []) for axis in _AXES}


def _first(values: Any) -> Any:
    """Return the first element of nested lists, None where they are empty."""
    while isinstance(values, list):
        if not values:
            return None
        values = values[0]
    return values


def _trained(context: Context, conn: Connection, job: JobRow) -> dict[str, Any]:
    """Return what the lineage of a job says of its training."""
    lineage = context.lineages.of(conn, {job.id: job.revision}).get(job.id)
    if lineage is None:
        return {"network": None, "learning_rate": None, "optimizer": None, "metric": {}}
    model = lineage.model()
    return {name: _exponent(model[name]) if name in {"learning_rate", "loss"} else model[name] for name in _WORDS}


def _exponent(value: Any) -> str | None:
    if value is None:
        return None
    return f"{float(value):e}" if isinstance(value, int | float) else str(value).lower()
