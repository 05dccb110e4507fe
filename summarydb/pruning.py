"""`summarydb prune`: a plan, or what was done, as facts for programs and text for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from indexer.db import retention as stored
from indexer.ingest import retention
from indexer.ingest.retention import Plan, Rules
from summarydb import table
from summarydb.progress import size
from summarydb.work import short_write

_SHOWN = 20  # jobs or tags, for people


def run(
    url: str,
    rules: Rules,
    *,
    yes: bool,
    vacuum: bool = False,
    report: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """Return what would go; with `yes` what went. report: told of jobs that stay, as lines."""
    retention.check(rules)
    with short_write(url) as database:
        plan = retention.plan(database.connect(), rules, now())
        if yes:
            plan = retention.prune(database, plan, now, report)
            if vacuum:
                stored.vacuum(database)
    return facts(plan, done=yes)


def facts(plan: Plan, *, done: bool) -> dict[str, Any]:
    """Return a plan as values for JSON; `bytes` is a rough sum."""
    of = plan.of_jobs
    return {
        "dry_run": not done,
        "jobs": [
            {
                "id": job.id,
                "root": _plain(job.root),
                "train_id": _plain(job.train_id),
                "update_time": job.update_time,
                "missing_since": job.missing_since,
                "points": job.point_count,
            }
            for job in plan.jobs
        ],
        "tags": [_tag(of[tag.job_id], tag) | {"points": tag.point_count} for tag in plan.tags],
        "thinned": [
            _tag(of[one.tag.job_id], one.tag) | {"points": one.points, "of": one.tag.point_count}
            for one in plan.thinned
        ],
        "tag_count": plan.tag_count,
        "point_count": plan.points,
        "bytes": plan.bytes,
    }


def _tag(job: stored.JobFound, tag: stored.TagFound) -> dict[str, Any]:
    return {
        "root": _plain(job.root),
        "train_id": _plain(job.train_id),
        "job": job.id,
        "plugin": _plain(tag.plugin),
        "tag": _plain(tag.name),
    }


def render(facts: dict[str, Any]) -> str:
    """Return the facts for people."""
    dry = facts["dry_run"]
    lines = []
    for job in facts["jobs"][:_SHOWN]:
        gone = "" if job["missing_since"] is None else ", files gone"
        lines.append(
            f"{table.printable(job['root'])}:{table.printable(job['train_id'])}: {job['points']:,} points{gone}"
        )
    tags = Counter(tag["tag"] for tag in facts["tags"])
    lines += [f"{table.printable(name)} of {count:,} jobs" for name, count in tags.most_common(_SHOWN)]
    for one in facts["thinned"][:_SHOWN]:
        name = f"{table.printable(one['train_id'])} {table.printable(one['tag'])}"
        lines.append(f"{name}: {one['points']:,} of {one['of']:,} points")
    more = len(facts["jobs"]) + len(tags) + len(facts["thinned"]) - len(lines)
    if more > 0:
        lines.append(f"... and {more:,} more")
    counted = (
        f"{len(facts['jobs']):,} jobs, {facts['tag_count']:,} tags, {facts['point_count']:,} points, "
        f"about {size(facts['bytes'])}"
    )
    lines.append(f"would go: {counted}; add --yes to drop them" if dry else f"gone: {counted}")
    return "\n".join(lines)


def _plain(shown: str) -> str:
    """Return a name with bytes that are not UTF-8 shown as escapes."""
    return shown.encode("utf-8", "backslashreplace").decode()
