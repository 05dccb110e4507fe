"""`/metrics` in Prometheus' text format: of the database, its indexers, and the requests to this process.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/. A hundred lines of text need no library: its
registry is global, and its values would be set from rows all the same.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection
from werkzeug.wrappers import Response

from indexer import log
from indexer.db import health
from indexer.db.engine import read_only, server_time
from indexer.db.space import space
from indexer.db.totals import totals
from indexer.errors import SummaryDBError
from indexer.version import REVISION
from webapi import live, queries, v1
from webapi.parameters import parse
from webapi.tally import BOUNDS, Tally

if TYPE_CHECKING:
    from flask import Flask

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES = ("scanning", "loading", "watching", "waiting", "stopped")

Kind = Literal["gauge", "counter", "histogram"]
Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]  # name, labels, value


@dataclass(frozen=True, slots=True)
class Metric:
    """What one name means; docs/metrics.md lists them all."""

    name: str
    kind: Kind
    help: str


_READABLE = Metric("summarydb_database_readable", "gauge", "1 while the database can be read, else 0.")
_BUILD = Metric("summarydb_build_info", "gauge", "Always 1; its labels tell version, schema, database and Python.")
_WELL = Metric("summarydb_problems", "gauge", "How many problems /api/v1/health names; 0: all is well.")
_JOBS = Metric("summarydb_jobs", "gauge", "Jobs by cache_status.")
_MISSING = Metric("summarydb_jobs_missing", "gauge", "Jobs whose files are gone from disk.")
_FAILED = Metric("summarydb_jobs_failed", "gauge", "Jobs whose last pass failed: last_error says why.")
_POINTS = Metric("summarydb_points", "gauge", "Stored points.")
_ON_DISK = Metric("summarydb_summary_bytes", "gauge", "Bytes of summary files on disk.")
_INDEXED = Metric("summarydb_indexed_bytes", "gauge", "Bytes of summary files that were read into the database.")
_BEHIND = Metric("summarydb_behind_bytes", "gauge", "Bytes on disk and not in the database yet: the lag.")
_FILES = Metric("summarydb_files", "gauge", "Summary files by state.")
_BAD_RECORDS = Metric("summarydb_bad_records", "gauge", "Damaged records that were skipped in the files known now.")
_BAD_BYTES = Metric("summarydb_bad_bytes", "gauge", "Bytes that were skipped as damaged in the files known now.")
_CHANGES = Metric("summarydb_changes_total", "counter", "The change counter: commits that changed what readers see.")
_SCANNED = Metric("summarydb_last_scan_timestamp_seconds", "gauge", "When directories were last looked through.")
_AGE = Metric("summarydb_indexer_heartbeat_age_seconds", "gauge", "Since when nothing was heard of an indexer.")
_STATE = Metric("summarydb_indexer_state", "gauge", "1 for what an indexer said it does, 0 for what it does not.")
_ALIVE = Metric("summarydb_indexers_alive", "gauge", "Indexers that were heard of lately and did not stop.")
_SIZE = Metric("summarydb_database_bytes", "gauge", "Bytes of the database.")
_FREE = Metric("summarydb_disk_free_bytes", "gauge", "Free bytes on the database's disk; SQLite only.")
_DISK = Metric("summarydb_disk_bytes", "gauge", "Bytes of the database's disk; SQLite only.")
_WAL = Metric("summarydb_wal_bytes", "gauge", "Bytes of the write-ahead log; SQLite only.")
_REQUESTS = Metric("summarydb_http_requests_total", "counter", "Requests answered by this process.")
_SECONDS = Metric("summarydb_http_request_duration_seconds", "histogram", "From the start of an answer to its end.")
_REFUSED = Metric("summarydb_http_requests_refused_total", "counter", "Requests refused because there were too many.")
_CLIENTS = Metric("summarydb_events_clients", "gauge", "Clients that wait for events now.")

METRICS = (
    _READABLE, _BUILD, _WELL, _JOBS, _MISSING, _FAILED, _POINTS, _ON_DISK, _INDEXED, _BEHIND, _FILES, _BAD_RECORDS,
    _BAD_BYTES, _CHANGES, _SCANNED, _AGE, _STATE, _ALIVE, _SIZE, _FREE, _DISK, _WAL, _REQUESTS, _SECONDS, _REFUSED,
    _CLIENTS,
)  # fmt: skip
"""All there are, in the order they are shown."""


def mount(app: Flask, site: v1.Site, tally: Tally, query_string: Callable[[], str]) -> None:
    """Answer at PATH. A database that cannot be read is a fact, too: the rest is told all the same."""

    @app.get(PATH)
    def metrics() -> Response:
        parse((), query_string())
        samples: dict[str, list[Sample]] = {metric.name: [] for metric in METRICS}
        readable = 1
        try:
            with read_only(site.engine, seconds=site.config.query_seconds) as conn:
                for metric, labels, value in of_the_database(site, conn):
                    samples[metric.name].append((metric.name, labels, value))
        except SummaryDBError as e:
            log.get().warning("metrics_unread", why=str(e))
            samples = {metric.name: [] for metric in METRICS}
            readable = 0
        samples[_READABLE.name].append((_READABLE.name, {}, readable))
        facts = {"version": site.version, "schema": REVISION, "database": site.engine.dialect.name}
        samples[_BUILD.name].append((_BUILD.name, facts | {"python": platform.python_version()}, 1))
        samples[_CLIENTS.name].append((_CLIENTS.name, {}, app.extensions[live.EXTENSION].clients))
        for metric, sample in of_requests(tally):
            samples[metric.name].append(sample)
        answer = Response(render(samples), content_type=CONTENT_TYPE)
        answer.headers["Cache-Control"] = "no-store"
        return answer


def of_the_database(site: v1.Site, conn: Connection) -> Iterator[tuple[Metric, Labels, float]]:
    """Yield what the tables tell, by a fixed number of statements."""
    queries.state(conn)  # refuses a schema that is not ours
    found, room = totals(conn), space(conn)
    now = server_time(conn) or site.now()
    known = v1.told(site, health.indexers(conn))
    yield _WELL, {}, len(list(health.problems(known, room, now)))
    for status, count in found.jobs.items():
        yield _JOBS, {"cache_status": status}, count
    for state, count in found.files.items():
        yield _FILES, {"state": state}, count
    yield _MISSING, {}, found.missing_jobs
    yield _FAILED, {}, found.failed_jobs
    yield _POINTS, {}, found.points
    yield _ON_DISK, {}, found.bytes_on_disk
    yield _INDEXED, {}, found.bytes_indexed
    yield _BEHIND, {}, max(0, found.bytes_on_disk - found.bytes_indexed)
    yield _BAD_RECORDS, {}, found.bad_records
    yield _BAD_BYTES, {}, found.bad_bytes
    yield _CHANGES, {}, found.change_counter
    if found.scanned_at is not None:
        yield _SCANNED, {}, found.scanned_at
    for indexer in known:
        who = {"holder": f"{indexer.host}:{indexer.pid}"}
        yield _AGE, who, max(0.0, now - indexer.heartbeat)
        for state in STATES:
            yield _STATE, {**who, "state": state}, float(indexer.state == state)
    yield _ALIVE, {}, sum(health.alive(indexer, now) for indexer in known)
    yield _SIZE, {}, room.size
    for metric, value in ((_FREE, room.free), (_DISK, room.disk), (_WAL, room.wal)):
        if value is not None:
            yield metric, {}, value


def of_requests(tally: Tally) -> Iterator[tuple[Metric, Sample]]:
    """Yield what this process was asked for."""
    requests, durations, refused = tally.seen()
    for (route, status), count in sorted(requests.items()):
        yield _REQUESTS, (_REQUESTS.name, {"route": route, "status": str(status)}, count)
    for status, count in sorted(refused.items()):
        yield _REFUSED, (_REFUSED.name, {"status": str(status)}, count)
    for route, taken in sorted(durations.items()):
        bounds = [*map(str, BOUNDS), "+Inf"]
        for bound, below in zip(bounds, accumulate(taken.buckets), strict=True):
            yield _SECONDS, (f"{_SECONDS.name}_bucket", {"route": route, "le": bound}, below)
        yield _SECONDS, (f"{_SECONDS.name}_sum", {"route": route}, taken.seconds)
        yield _SECONDS, (f"{_SECONDS.name}_count", {"route": route}, sum(taken.buckets))


def render(samples: Mapping[str, list[Sample]]) -> bytes:
    """Return samples, by metric, in the text format; metrics without any are left out."""
    lines = []
    for metric in METRICS:
        if samples[metric.name]:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
            lines += [f"{name}{_labels(labels)} {value!r}" for name, labels, value in samples[metric.name]]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
