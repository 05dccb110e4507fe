"""What MindInsight's data manager and its caches know, from Python: over the database, without a server or a file.

    with mindinsight.open_directory("sqlite:///summarydb.db") as shown:
        for job in shown.jobs().items:
            print(job.train_id, job.cache_status, job.tags["scalar"])
        shown.points("./lenet", "loss/scalar")

It shows what MindInsight's routes show: the root with the smallest id, jobs at most one level deep. What cannot be
answered raises Failure with MindInsight's `code`. docs/mindinsight-ui.md says which of its names is which of these.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlencode

from sqlalchemy import Connection, Engine

from indexer.config import Config
from indexer.db.engine import read_only
from indexer.types import CacheStatus
from indexer.version import __version__
from summarydb import work
from webapi import queries
from webapi.mindinsight import catalogue, errors, explainer, histograms, images, jobs, lineage, scalars, tensors
from webapi.mindinsight.catalogue import JobRow
from webapi.mindinsight.context import Context
from webapi.mindinsight.errors import Failure as Failure
from webapi.mindinsight.kept import Trees
from webapi.mindinsight.lineages import Lineages
from webapi.mindinsight.parameters import Query, integer, page
from webapi.mindinsight.routes import PREFIX, View
from webapi.v1 import Site

SECONDS = 60.0
"""A call may take."""
SHARDS_AT_ONCE = 1_000
ALL = 999
"""Jobs that a page holds at most."""


class Status(StrEnum):
    """How far the directory is loaded, in the words of MindInsight's data manager."""

    INIT = "INIT"  # no scan ever ended, and no job is known: /health has no `scanned_at`
    LOADING = "LOADING"  # the first scan goes on, or a job is CACHING
    DONE = "DONE"  # scanned, and no job is CACHING
    INVALID = "INVALID"  # scanned, and there is no job


@dataclass(frozen=True, slots=True)
class Job:
    """A train job. Times in seconds since the epoch, UTC, None where not known."""

    train_id: str  # ./ or ./name
    cache_status: CacheStatus
    create_time: float | None
    update_time: float | None
    summary_files: int
    graph_files: int
    lineage_files: int
    profiler_dir: str | None
    profiler_type: str | None
    dump_dir: str | None
    complete: bool  # no file that is read ends inside a record
    tags: Mapping[str, list[str]]  # by plugin, all seven; empty where the job is not loaded


class Page(NamedTuple):
    """Some of a list, and how many there are."""

    items: list[Job]
    total: int


class Point(NamedTuple):
    """A value of a tag: of a scalar its number, None where that is not finite; else what there is to know of it."""

    step: int
    wall_time: float | str
    value: Any


class File(NamedTuple):
    """A file of a job."""

    name: str
    kind: str  # summary, lineage, explain, graph
    size: int  # bytes
    read: int  # bytes of them that are in the database
    state: str


def open_directory(url: str | os.PathLike[str] | None = None, *, seconds: float = SECONDS) -> Directory:
    """Open the directory that a database shows.

    url: sqlite:///FILE, a path, or postgresql://...; None: what SUMMARYDB_DB or summarydb.toml names, else
    summarydb.db in the current directory.  seconds: what a call may take.  Refuse where it cannot be used.
    """
    if url is None:
        from summarydb.settings import load

        url = load({}).config.url
    place = os.fspath(url)
    place = place if "://" in place else f"sqlite:///{place}"
    with work.naming(place):
        made = Directory(Config(url=place, query_seconds=seconds), work.open_existing(place))
        try:
            made.status()  # speaks our schema
        except BaseException:
            made.close()
            raise
    return made


class Directory:
    """A directory of train jobs. A context manager; for one thread at a time."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._engine = engine
        self._seconds = config.query_seconds
        self._context = Context(Site(config, engine, __version__), Trees(), Lineages(), PREFIX)

    def __enter__(self) -> Directory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held open."""
        self._engine.dispose()

    # The directory and its jobs ---------------------------------------------------------------------------------------
    @property
    def path(self) -> Path:
        """Where it is, or was."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            return catalogue.root(conn).path

    def status(self) -> Status:
        """Return how far it is loaded: what /health says, in one word."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            found = queries.health(conn)
        if found.scanned_at is None:
            return Status.LOADING if any(found.jobs.values()) else Status.INIT
        if not any(found.jobs.values()):
            return Status.INVALID
        return Status.LOADING if found.jobs.get(CacheStatus.CACHING) else Status.DONE

    def jobs(self, *, offset: int = 0, limit: int = 10) -> Page:
        """Return a page of jobs, those changed last first. `offset` counts pages; `limit` is at most 999."""
        wanted = page(_whole("offset", offset), _whole("limit", limit), ALL)
        with read_only(self._engine, seconds=self._seconds) as conn:
            rows, total = catalogue.page(conn, catalogue.root(conn), limit=wanted.limit, first=wanted.first)
            return Page(self._made(conn, rows), total)

    def job(self, train_id: str) -> Job:
        """Return a job. Failure where there is none, or nothing was ever indexed."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            row = catalogue.listed_job(conn, catalogue.root(conn), _checked(train_id))
            return self._made(conn, [row])[0]

    def holds(self, train_id: str) -> bool:
        """Tell whether a relative path, `./` or `./name`, is a directory of a train job."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            return catalogue.train_job(conn, catalogue.root(conn), _checked(train_id)) is not None

    def files(self, train_id: str) -> list[File]:
        """Return the files of a job, as they were found."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            job = catalogue.listed_job(conn, catalogue.root(conn), _checked(train_id))
            found: list[File] = []
            after: int | None = None
            while True:
                rows, more = queries.shards(conn, job.id, limit=SHARDS_AT_ONCE, after=after)
                found += [File(row.name, row.kind, row.size, row.cursor, row.state) for row in rows]
                if not more:
                    return found
                after = rows[-1].id

    # Tags and points --------------------------------------------------------------------------------------------------
    def tags(self, train_id: str, plugin: str) -> list[str]:
        """Return the tags of a plugin in a job. Failure where one of both is unknown, or the job is not loaded."""
        (found,) = self._ask(jobs.single_job, train_id=_checked(train_id), plugin_name=plugin)["train_jobs"]
        return list(found["tags"])

    def points(self, train_id: str, tag: str) -> list[Point]:
        """Return the points of a tag `name/plugin` (scalar, image, histogram, tensor), by step.

        As many as MindInsight's routes show. Failure where there is no such tag, or the job is not loaded.
        """
        with read_only(self._engine, seconds=self._seconds) as conn:
            job = catalogue.loaded_job(conn, catalogue.root(conn), _checked(train_id))
            row = catalogue.named(conn, [job.id], [tag]).get((job.id, tag))
        asked = {"train_id": train_id, "tag": tag}
        match None if row is None else row.shown_by:
            case "scalar":
                rows = self._ask(scalars.metadata, **asked)["metadatas"]
            case "image":
                rows = self._ask(images.metadata, **asked)["metadatas"]
            case "histogram":
                rows = self._ask(histograms.histograms, **asked)["histograms"]
            case "tensor":
                (found,) = self._ask(tensors.tensors, **asked)["tensors"]
                rows = found["values"]
            case _:
                raise errors.wrong_value("Can not find any data in this train job by given tag.")
        return [_point(one) for one in rows]

    # Explanations and lineages ----------------------------------------------------------------------------------------
    def explain_jobs(self, *, offset: int = 0, limit: int = 10) -> Mapping[str, Any]:
        """Return a page of jobs with explanations, those changed last first."""
        return self._ask(explainer.explain_jobs, offset=offset, limit=limit)

    def explain_job(self, train_id: str) -> Mapping[str, Any]:
        """Return what an explanation is about: its labels, explainers, metrics and how far it is loaded."""
        return self._ask(explainer.explain_job, train_id=_checked(train_id))

    def explain_scores(self, train_id: str) -> Mapping[str, Any]:
        """Return how well explainers did."""
        return self._ask(explainer.evaluation, train_id=_checked(train_id))

    def saliency(self, train_id: str, **wanted: Any) -> Mapping[str, Any]:
        """Return samples with what the network thinks of them and why; `wanted` as MindInsight's route takes it."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            return explainer.saliency(self._context, conn, _body({"train_id": _checked(train_id), **wanted}))

    def occlusion(self, train_id: str, **wanted: Any) -> Mapping[str, Any]:
        """Return samples with what is left of them layer by layer; `wanted` as MindInsight's route takes it."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            return explainer.occlusion(self._context, conn, _body({"train_id": _checked(train_id), **wanted}))

    def lineages(self, condition: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Return the lineages that fit a condition of MindInsight's, sorted and paged as it says."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            return lineage.table(self._context, conn, _body(condition or {}))

    def lineage(self, train_id: str) -> Mapping[str, Any] | None:
        """Return where the model and the data of a job come from, its tag and remark; None where nothing is known."""
        found = self.lineages({"summary_dir": {"in": [_checked(train_id)]}})["object"]
        return dict(found[0]) if found else None

    # ------------------------------------------------------------------------------------------------------------------
    def _made(self, conn: Connection, rows: list[JobRow]) -> list[Job]:
        tags = jobs.plugins_of(self._context, conn, rows)
        return [
            Job(
                train_id=row.train_id,
                cache_status=row.status,
                create_time=row.create_time,
                update_time=row.update_time,
                summary_files=row.summary_files,
                graph_files=row.graph_files,
                lineage_files=row.lineage_files,
                profiler_dir=row.profiler_dir,
                profiler_type=row.profiler_type,
                dump_dir=row.dump_dir,
                complete=not (row.loaded and row.torn),
                tags=tags[row.id],
            )
            for row in rows
        ]

    def _ask(self, view: View, **query: object) -> Mapping[str, Any]:
        """Return what a view answers."""
        with read_only(self._engine, seconds=self._seconds) as conn:
            found = view(self._context, conn, Query(urlencode(query, errors="surrogateescape")))
        assert isinstance(found, Mapping)  # noqa: S101  # those asked here answer with JSON
        return found


def _point(one: Mapping[str, Any]) -> Point:
    rest = {name: value for name, value in one.items() if name not in {"step", "wall_time"}}
    return Point(one["step"], one["wall_time"], rest.get("value", rest))


def _body(wanted: Mapping[str, Any]) -> bytes:
    """Return what a route would get. Failure where a condition is no JSON."""
    try:
        return json.dumps(wanted).encode()
    except (TypeError, ValueError):
        raise errors.wrong_type("search_condition", "dict") from None


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool):
        raise errors.wrong_type(name, "Integer")
    return integer(name, value)


def _checked(train_id: object) -> str:
    """Return a train id. Failure where it is no text, or holds NUL."""
    if not isinstance(train_id, str):
        raise errors.wrong_type("train_id", "<class 'str'>")
    if "\0" in train_id:
        raise errors.null_byte(train_id)
    return train_id
