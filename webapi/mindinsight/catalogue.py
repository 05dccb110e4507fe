"""Which jobs and tags there are for MindInsight: those of the root with the smallest id, at most one level deep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from sqlalchemy import Connection, bindparam, text

from indexer import text as names
from indexer.db.dialect import POSTGRESQL
from indexer.types import CacheStatus, ShardKind
from webapi import queries
from webapi.mindinsight import errors

NO_ROOT = 0
"""Id of a root where there is none yet."""
SUFFIXED = {"scalar": "scalar", "image": "image", "histogram": "histogram", "tensor": "tensor"} | {
    "loss_landscape": "loss_landscape",
    "scalars": "scalar",  # TensorBoard's
    "images": "image",
    "histograms": "histogram",
}
"""Plugins of series, and the plugins of MindInsight that show them: their tags are called `name/plugin`."""
GRAPH = "graph"
KIND_OF = {"image": "image", "histogram": "histogram", "tensor": "tensor", "loss_landscape": "landscape"}
"""Plugin of MindInsight, and the kind of payload that it shows."""
_LISTED = "j.root_id = :root AND j.train_id NOT LIKE './%/%'"


class Root(NamedTuple):
    """The directory that is shown."""

    id: int
    path: Path

    @property
    def name(self) -> str:
        """What answers call it."""
        return self.path.name


class JobRow(NamedTuple):
    """A train job as it is listed."""

    id: int
    train_id: str
    cache_status: str
    create_time: float | None
    update_time: float | None
    profiler_dir: str | None
    profiler_type: str | None
    graph_mode: str | None
    dump_dir: str | None
    missing: bool
    revision: int
    summary_files: int = 0
    graph_files: int = 0
    lineage_files: int = 0
    torn: bool = False

    @property
    def status(self) -> CacheStatus:
        """How far it is loaded; one without summary and graph files never is."""
        loadable = self.summary_files or self.graph_files
        return CacheStatus(self.cache_status) if loadable else CacheStatus.NOT_IN_CACHE

    @property
    def loaded(self) -> bool:
        """Whether its tags are shown."""
        return self.status is not CacheStatus.NOT_IN_CACHE


class TagRow(NamedTuple):
    """A series as MindInsight shows it."""

    id: int
    job_id: int
    plugin: str  # as stored
    name: str  # as in the file
    data_class: str
    seq: int
    point_count: int
    rolled_count: int

    @property
    def shown_by(self) -> str:
        """The plugin of MindInsight that shows it."""
        return SUFFIXED.get(self.plugin, GRAPH)

    @property
    def tag(self) -> str:
        """Its name in answers."""
        return f"{self.name}/{self.shown_by}" if self.plugin in SUFFIXED else self.name


_JOB = """j.id, j.train_id, j.cache_status, coalesce(j.listed_create_time, j.create_time), j.listed_update_time,
    j.profiler_dir, j.profiler_type, j.graph_mode, j.dump_dir, j.missing_since IS NOT NULL, j.revision"""
_TAG = ", ".join(f"t.{name}" for name in TagRow._fields)


# Roots and jobs -------------------------------------------------------------------------------------------------------
def root(conn: Connection) -> Root:
    """Return the directory that is shown. Two statements; Refuse where the schema is not ours."""
    queries.state(conn)
    row = conn.execute(text("SELECT id, path FROM roots ORDER BY id LIMIT 1")).first()
    return Root(NO_ROOT, Path("/")) if row is None else Root(row[0], Path(names.show(row[1])))


def ready(conn: Connection) -> bool:
    """Tell whether a scan of the directories ever ended. One statement."""
    return conn.execute(text("SELECT scanned_at FROM index_state")).scalar() is not None


def page(conn: Connection, of: Root, *, limit: int, first: int) -> tuple[list[JobRow], int]:
    """Return a page of train jobs, those changed last first, and how many there are. Three statements."""
    where = f"{_LISTED} AND j.listed_update_time IS NOT NULL"
    total = conn.execute(text(f"SELECT count(*) FROM jobs j WHERE {where}"), {"root": of.id}).scalar_one()
    query = f"SELECT {_JOB} FROM jobs j WHERE {where} ORDER BY j.listed_update_time DESC, {bytewise(conn)} LIMIT :limit"
    rows = conn.execute(text(f"{query} OFFSET :first"), {"root": of.id, "limit": limit, "first": first})
    return _with_files(conn, rows), total


def train_jobs(conn: Connection, of: Root, train_ids: Iterable[str]) -> dict[str, JobRow]:
    """Return those of the train jobs that there are, by id as given. Two statements."""
    return {train_id: row for train_id, row in _known(conn, of, train_ids).items() if row.update_time is not None}


def train_job(conn: Connection, of: Root, train_id: str) -> JobRow | None:
    """Return a train job, None where there is none."""
    return train_jobs(conn, of, [train_id]).get(train_id)


def directory(conn: Connection, of: Root, train_id: str) -> JobRow | None:
    """Return a job of whatever files, None where there is none. An empty id is the root's own."""
    return _known(conn, of, [train_id or "./"]).get(train_id or "./")


def _known(conn: Connection, of: Root, train_ids: Iterable[str]) -> dict[str, JobRow]:
    """Return jobs by id as given: as it is, or quoted once more."""
    spelled = {given: dict.fromkeys((given, unquote(given))) for given in train_ids}
    wanted = {i for several in spelled.values() for i in several if i.startswith("./") and i.count("/") == 1}
    if not wanted:
        return {}
    query = text(f"SELECT {_JOB} FROM jobs j WHERE j.root_id = :root AND j.train_key IN :keys")
    rows = conn.execute(
        query.bindparams(bindparam("keys", expanding=True)),
        {"root": of.id, "keys": [names.key(names.store(i)) for i in wanted]},
    )
    found = {row.train_id: row for row in _with_files(conn, rows)}
    matches = {given: next((found[i] for i in several if i in found), None) for given, several in spelled.items()}
    return {given: row for given, row in matches.items() if row is not None}


def bytewise(conn: Connection) -> str:
    """Return the order of train ids by their bytes."""
    return 'j.train_id COLLATE "C"' if conn.dialect.name == POSTGRESQL else "j.train_id"


def _with_files(conn: Connection, rows: Iterable[Any]) -> list[JobRow]:
    """Add how many files of each kind jobs have: of those gone from disk what they had. One statement."""
    jobs = [JobRow(*row)._replace(missing=bool(row[9])) for row in rows]
    if not jobs:
        return []
    query = text(
        "SELECT s.job_id, s.kind, s.state = 'missing', count(*),"
        " sum(CASE WHEN s.state = 'torn' OR s.lost_since IS NOT NULL THEN 1 ELSE 0 END)"
        " FROM shards s WHERE s.job_id IN :jobs AND s.state <> 'replaced' GROUP BY 1, 2, 3"
    )
    counts: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    bound = query.bindparams(bindparam("jobs", expanding=True))
    missing = {job.id: job.missing for job in jobs}
    for job_id, kind, gone, count, torn in conn.execute(bound, {"jobs": list(missing)}):
        if not gone or missing[job_id]:
            counts[job_id][kind] += count
            counts[job_id]["torn"] += 0 if kind == ShardKind.EXPLAIN else int(torn)
    return [
        job._replace(
            train_id=names.show(job.train_id),
            profiler_dir=_shown(job.profiler_dir),
            dump_dir=_shown(job.dump_dir),
            summary_files=counts[job.id][ShardKind.SUMMARY],
            graph_files=counts[job.id][ShardKind.GRAPH],
            lineage_files=counts[job.id][ShardKind.LINEAGE],
            torn=counts[job.id]["torn"] > 0,
        )
        for job in jobs
    ]


def _shown(name: str | None) -> str | None:
    return None if name is None else names.show(name)


# Tags -----------------------------------------------------------------------------------------------------------------
def tags(conn: Connection, jobs: Sequence[int]) -> list[TagRow]:
    """Return all series that MindInsight shows, of these jobs. One statement."""
    if not jobs:
        return []
    query = text(f"SELECT {_TAG} FROM tags t WHERE t.job_id IN :jobs AND t.plugin IN :plugins AND t.point_count > 0")
    bound = query.bindparams(bindparam("jobs", expanding=True), bindparam("plugins", expanding=True))
    return _tags(conn, bound, {"jobs": list(jobs), "plugins": [*SUFFIXED, GRAPH]})


def named(conn: Connection, jobs: Sequence[int], wanted: Iterable[str]) -> dict[tuple[int, str], TagRow]:
    """Return series by job and tag, where there are such. One statement."""
    found: dict[tuple[int, str], TagRow] = {}
    keys = set()
    for tag in wanted:
        keys.add(names.short_key(names.store(tag)))  # a graph has no suffix
        name, slash, plugin = tag.rpartition("/")
        if slash and plugin in errors.PLUGINS:
            keys.add(names.short_key(names.store(name)))
    if not jobs or not keys:
        return found
    query = text(
        f"SELECT {_TAG} FROM tags t WHERE t.job_id IN :jobs AND t.name_key IN :keys AND t.plugin IN :plugins"
        " AND t.point_count > 0"
    )
    bound = query.bindparams(*(bindparam(name, expanding=True) for name in ("jobs", "keys", "plugins")))
    values = {"jobs": list(jobs), "keys": list(keys), "plugins": [*SUFFIXED, GRAPH]}
    for row in _tags(conn, bound, values):
        found[row.job_id, row.tag] = row
    return found


def _tags(conn: Connection, query: Any, values: dict[str, Any]) -> list[TagRow]:
    """Return series; of a MindSpore and a TensorBoard series of one tag the former comes last, for it is shown."""
    rows = queries.tuples(conn, query, values)
    made = [row._replace(name=names.show(row.name)) for row in map(TagRow._make, rows)]
    return sorted((row for row in made if _sound(row)), key=lambda row: row.plugin not in errors.PLUGINS, reverse=True)


def _sound(row: TagRow) -> bool:
    return row.shown_by != "scalar" or row.data_class == "scalar"


# What a request names -------------------------------------------------------------------------------------------------
def loaded_job(conn: Connection, of: Root, train_id: str) -> JobRow:
    """Return a job whose data can be shown, as the routes of data have it."""
    row = train_job(conn, of, train_id)
    if row is None or not row.loaded:
        must_be_ready(conn, of)
        raise errors.no_job(errors.NOT_IN_CACHE)
    return row


def listed_job(conn: Connection, of: Root, train_id: str) -> JobRow:
    """Return a job, as the routes of jobs have it."""
    row = train_job(conn, of, train_id)
    if row is None:
        must_be_ready(conn, of)
        raise errors.no_job(errors.NOT_LISTED)
    return row


def must_be_ready(conn: Connection, of: Root) -> None:
    """Say that data is loading where nothing was ever indexed."""
    if not ready(conn):
        query = text("SELECT 1 FROM jobs WHERE root_id = :root LIMIT 1")
        if conn.execute(query, {"root": of.id}).first() is None:
            raise errors.loading()
