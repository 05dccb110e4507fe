"""Train jobs, how far they are loaded, and which tags they have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from indexer.types import CacheStatus
from webapi.mindinsight import catalogue, errors, graphs
from webapi.mindinsight.answers import when
from webapi.mindinsight.catalogue import JobRow, TagRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.parameters import Query, with_type
from webapi.v1 import Site

MOST_JOBS = 999
"""A page has at most so many, as MindInsight's."""
Plugins = dict[str, list[str]]


# Views ----------------------------------------------------------------------------------------------------------------
def train_jobs(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """List train jobs, those changed last first, or one."""
    page = query.page(limit=10, most=MOST_JOBS)
    train_id = query.text("train_id")
    root = catalogue.root(conn)
    if train_id is None:
        rows, total = catalogue.page(conn, root, limit=page.limit, first=page.first)
    else:
        rows = [row for row in [catalogue.train_job(conn, root, train_id)] if row is not None]
        total = len(rows)
    plugins = plugins_of(context, conn, rows)
    return {
        "name": root.name,
        "total": total,
        "train_jobs": [_job(row, plugins[row.id]) for row in rows],
        "load_status": "loaded" if catalogue.ready(conn) else "loading" if rows else "init",
    }


def plugins(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """List the tags of a job; with `manual_update` have it loaded first."""
    train_id = query.required("train_id")
    wanted = query.flag("manual_update")
    if "\0" in train_id:
        raise errors.null_byte(train_id)
    row = catalogue.listed_job(conn, catalogue.root(conn), train_id)
    if wanted:
        _load(context.site, [row])
    return {"plugins": plugins_of(context, conn, [row])[row.id]}


def single_job(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """List the tags of a plugin in a job."""
    plugin, train_id = query.required("plugin_name"), query.required("train_id")
    if plugin not in errors.PLUGINS:
        raise errors.no_plugin()
    row = catalogue.listed_job(conn, catalogue.root(conn), train_id)
    if not row.loaded:
        raise errors.no_job()
    tags = sorted(plugins_of(context, conn, [row])[row.id][plugin])
    return {"train_jobs": [{"id": train_id, "name": train_id, "tags": tags}]}


def train_job_caches(context: Context, conn: Connection, data: bytes, content_type: str | None) -> Mapping[str, Any]:
    """Have jobs loaded first, and say how far they were."""
    try:
        given = with_type(data, content_type)
    except ValueError:
        given = None
    train_ids = given.get("train_ids") if isinstance(given, dict) else None
    if train_ids is None:
        raise errors.missing("train_ids")
    if not isinstance(train_ids, list):
        raise errors.wrong_type("train_ids", "<class 'list'>")
    for train_id in train_ids:
        if not isinstance(train_id, str):
            raise errors.wrong_type("train_id", "<class 'str'>")
    known = catalogue.train_jobs(conn, catalogue.root(conn), train_ids)
    _load(context.site, list(known.values()))
    return {
        "cache_result": [
            {"train_id": train_id, "cache_status": known[train_id].status}
            for train_id in train_ids
            if train_id in known
        ]
    }


def _load(site: Site, rows: Sequence[JobRow]) -> None:
    """Tell the indexer, where there is one, that people look at jobs, and ask it to load them before others."""
    if site.ask is None:
        return
    waiting = [row.id for row in rows if row.status is not CacheStatus.CACHED]
    for wish, ids in (("load", waiting), ("access", [row.id for row in rows])):
        if ids:
            site.ask({"ask": wish, "jobs": ids})


# Rendering ------------------------------------------------------------------------------------------------------------
def _job(row: JobRow, plugins: Plugins) -> dict[str, Any]:
    shown = {
        "train_id": row.train_id,
        "relative_path": row.train_id,
        "create_time": when(row.create_time),
        "update_time": when(row.update_time),
        "profiler_dir": row.profiler_dir,
        "cache_status": row.status,
        "profiler_type": row.profiler_type or "",
        "summary_files": row.summary_files,
        "graph_files": row.graph_files,
        "lineage_files": row.lineage_files,
        "dump_dir": row.dump_dir,
        "is_integrity": not (row.loaded and row.torn),
        "plugins": plugins,
    }
    if row.profiler_type:
        shown["graph_mode"] = row.graph_mode or "static"
    return shown


def plugins_of(context: Context, conn: Connection, rows: Sequence[JobRow]) -> dict[int, Plugins]:
    """Return the tags of jobs, none of those that are not loaded. Three statements, one where no job is loaded."""
    by_job: dict[int, list[TagRow]] = defaultdict(list)
    for tag in catalogue.tags(conn, [row.id for row in rows if row.loaded]):
        by_job[tag.job_id].append(tag)
    published = graphs.published(
        context.trees, conn, [tag for tags in by_job.values() for tag in tags if tag.shown_by == "graph"]
    )
    return {row.id: _plugins(by_job[row.id], published) for row in rows}


def _plugins(tags: Sequence[TagRow], published: graphs.Published) -> Plugins:
    found: Plugins = {plugin: [] for plugin in errors.PLUGINS}
    for tag in tags:
        if tag.shown_by == "graph":
            continue
        found[tag.shown_by].append(tag.tag)
    for job_id in {tag.job_id for tag in tags}:
        for plugin, names in published.get(job_id, {}).items():
            found[plugin] = list(names)
    return {plugin: names if "graph" in plugin else sorted(set(names)) for plugin, names in found.items()}
