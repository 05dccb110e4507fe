"""Read what is indexed, from Python: the same objects over a database and over REST.

    with summarydb.connect("sqlite:///summarydb.db") as db:   # or a path, postgresql://..., http://HOST:PORT
        curve = db.job("./lenet").series("train/loss")
        curve.step, curve.value                               # numpy; .to_pandas(), .to_arrow(), .to_polars()

Errors are the four families of indexer.errors, in words: Report (what was asked for cannot be: no such job or tag),
Retry (the same call may succeed), Wait (something outside must change first), Refuse (an operator must act).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import quote

import numpy as np

from indexer.errors import Report, UsageError
from summarydb import markup
from summarydb.columns import Table, floats, objects, table
from summarydb.payloads import Payload
from summarydb.series import Series
from summarydb.source import PAGE, Chosen, Params, Points, Source

if TYPE_CHECKING:  # none of them is needed
    import pandas
    import polars
    import pyarrow

SECONDS = 60.0
"""A request or a query may take."""
SHOWN_JOBS = 20
"""In a notebook."""
_KIND = re.compile("[a-z][a-z-]*")
_TIMES = ("create_time", "update_time", "start_time", "missing_since", "access_time", "evicted_at")
_OF_TAGS = (
    "first_wall_time",
    "last_wall_time",
    "max_wall_time",
    "last_value",
    "min_value",
    "max_value",
)
_OF_RUNS = ("start_time", "end_time", "wall_time")


def connect(
    url: str | os.PathLike[str] | None = None, *, token: str | None = None, seconds: float = SECONDS
) -> Connection:
    """Open a database (`sqlite:///FILE`, a path, `postgresql://...`) or a server (`http://HOST:PORT[/PREFIX]`) to read.

    url: None for what SUMMARYDB_DB or summarydb.toml names, else summarydb.db in the current directory.
    token: of a server that asks for one.  seconds: what a request or a query may take.
    Refuse where it cannot be used, Unreachable (a Wait) where nobody answers. The connection is a context manager.
    """
    if url is None:
        from summarydb.settings import load

        url = load({}).config.url
    place = os.fspath(url)
    if place.startswith(("http://", "https://")):
        from summarydb.remote import Remote

        made = Connection(Remote(place, token=token, seconds=seconds))
        made.health()
        return made
    if token is not None:
        raise UsageError(f"{place!r} is no server: a token is for http://HOST:PORT only")
    from summarydb.stored import Stored, url_of

    return Connection(Stored(url_of(place), seconds=seconds))


class Connection:
    """What is indexed, to read. `job` arguments take a Job, an id, a train id, or `root:train_id`."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back what is held open."""
        self._source.close()

    def __repr__(self) -> str:
        return f"<summarydb at {self._source.name}>"

    def _repr_html_(self) -> str:
        found = self.health()
        pairs = [(status, count) for status, count in found.get("jobs", {}).items()]
        return markup.facts(f"summarydb at {self._source.name}", [("version", found.get("version")), *pairs])

    def health(self) -> dict[str, Any]:
        """Return how the database and its indexer are, and how many jobs are loaded."""
        found: dict[str, Any] = self._source.get("/health", {})
        return found

    def jobs(
        self,
        *,
        root: str | None = None,
        q: str | None = None,
        cache_status: str | None = None,
        plugin: str | None = None,
        sort: str = "-update_time",
        limit: int | None = None,
    ) -> Jobs:
        """Return jobs, newest first: of a root, with a text in the train id, in a state, with tags of a plugin.

        sort: a column, descending with `-` before it.  limit: how many at most, None for all.
        """
        wanted: dict[str, Any] = {"root": root, "q": q, "cache_status": cache_status, "plugin": plugin, "sort": sort}
        return Jobs([Job(item, self) for item in self._items("/jobs", wanted, limit)])

    def job(self, job: JobName) -> Job:
        """Return one job. Report where there is none, or several roots have it."""
        return Job(self._source.get(_path(job), {}), self)

    def files(self, job: JobName) -> Table:
        """Return the files of a job, how far each is read, and the first errors in it."""
        return table(list(self._items(f"{_path(job)}/files", {})))

    def tags(self, job: JobName, *, plugin: str | None = None, q: str | None = None) -> Table:
        """Return the tags of a job with their statistics, by name."""
        wanted = {"plugin": plugin, "q": q}
        return table(list(self._items(f"{_path(job)}/tags", wanted)), numbers=_OF_TAGS)

    def series(
        self,
        job: JobName,
        tag: str,
        *,
        plugin: str | None = None,
        max_points: int = 0,
        from_step: int | None = None,
        to_step: int | None = None,
        restarts: str = "current",
    ) -> Series:
        """Return a curve: all its points, or with `max_points` at most so many that keep its shape.

        restarts: `all` shows also points that a later file or session start superseded.
        Report where the job has no such tag, or several plugins have it and none is named, or it is no number.
        """
        wanted: dict[str, Any] = {
            "job": [_reference(job)],
            "tag": [tag],
            "plugin": plugin,
            "from_step": from_step,
            "to_step": to_step,
            "restarts": restarts,
        }
        found = self._source.get("/series", {**wanted, "max_points": max_points or 1})["series"]
        if not found:
            raise Report(f"{_reference(job)!r} has no tag {tag!r} of plugin {plugin!r}: tags() lists what there is")
        if len(found) > 1:
            several = ", ".join(repr(one["plugin"]) for one in found)
            raise Report(f"{tag!r} of {_reference(job)!r} is of several plugins: give plugin=, one of {several}")
        head = found[0]
        if any(value is None for value in head["value"]):
            raise Report(f"{tag!r} of {head['train_id']!r} holds no numbers: payloads() reads what it holds")
        facts = (head["job"], head["train_id"], head["tag"], head["plugin"])
        if max_points or head["total"] <= 1:
            step = np.array(head["step"], np.int64)
            columns = step, floats(head["wall_time"]), floats(head["value"])
            return Series(*facts, *columns, head["total"], head["downsampled"])
        chosen = Chosen((str(head["job"]),), (tag,), head["plugin"], from_step, to_step, restarts)
        pages = list(self._source.points(chosen))
        step = np.concatenate([page.step for page in pages] or [np.empty(0, np.int64)])
        wall_time = np.concatenate([page.wall_time for page in pages] or [np.empty(0)])
        value = np.concatenate([page.value for page in pages] or [np.empty(0)])
        return Series(*facts, step, wall_time, value, len(step), downsampled=False)

    def scalars(
        self,
        jobs: Names = (),
        tags: Sequence[str] | str = (),
        *,
        plugin: str | None = None,
        from_step: int | None = None,
        to_step: int | None = None,
        restarts: str = "current",
    ) -> Table:
        """Return numbers of many jobs and tags as one long table: a row a point, by series, then step and seq.

        No jobs: all of them; no tags: all of them. Columns: job, train_id, tag, plugin, step, seq, wall_time, value.
        """
        named = (tags,) if isinstance(tags, str) else tuple(tags)
        chosen = Chosen(_references(jobs), named, plugin, from_step, to_step, restarts)
        pages = list(self._source.points(chosen)) or [_NOTHING]
        numbers = ("job", "step", "seq", "wall_time", "value")
        data = {
            name: np.concatenate(columns) if name in numbers else objects([cell for cells in columns for cell in cells])
            for name, columns in zip(Points._fields, zip(*pages, strict=True), strict=True)
        }
        return Table(data)

    def payloads(
        self,
        kind: str,
        jobs: Names = (),
        tags: Sequence[str] | str = (),
        *,
        plugin: str | None = None,
        from_step: int | None = None,
        to_step: int | None = None,
        restarts: str | None = None,
        **options: str | int,
    ) -> Iterator[Payload]:
        """Yield payloads of a kind: `images`, `histograms`, `tensors`, `texts`, `audio`, `graphs`, `pr-curves` ...

        options: parameters of the kind's own, as in REST (`bins` of histograms, `dims` of tensors).
        """
        if _KIND.fullmatch(kind) is None:
            raise Report(f"{kind!r} is no kind of payload: images, histograms, tensors, texts, audio ... are")
        wanted: dict[str, Any] = {
            "job": _references(jobs),
            "tag": (tags,) if isinstance(tags, str) else tuple(tags),
            "plugin": plugin,
            "from_step": from_step,
            "to_step": to_step,
            "restarts": restarts,
            **options,
        }
        for item in self._items(f"/{kind}", wanted, limit=None, page=100):
            yield Payload(kind, item, self._source)

    def compare(
        self,
        tag: str,
        *,
        jobs: Names = (),
        plugin: str | None = None,
        best: str = "min",
        where: Sequence[str] = (),
        sort: str | None = None,
    ) -> Table:
        """Return last, smallest, largest and best value of one tag in each job, and the steps they are at.

        best: `min` or `max`.  where: conditions on hyperparameters and lineage, as `learning_rate:lt:0.1`.
        """
        wanted: dict[str, Any] = {"tag": tag, "job": _references(jobs), "plugin": plugin, "best": best}
        wanted |= {"where": tuple(where), "sort": sort}
        numbers = [f"{which}_{what}" for which in ("last", "min", "max", "best") for what in ("value", "wall_time")]
        return table(list(self._items("/compare", wanted)), numbers=numbers)

    def lineage(self, jobs: Names = (), *, where: Sequence[str] = (), sort: str | None = None) -> Table:
        """Return where models come from, a row a job, a column a key; `dataset_graph` holds an object."""
        wanted: dict[str, Any] = {"job": _references(jobs), "where": tuple(where), "sort": sort}
        kept = ("job", "root", "train_id", "wall_time")
        rows = []
        for item in self._items("/lineage", wanted):
            own = {name: item[name] for name in kept}
            rows.append(_beside(own, item["values"], "lineage") | {"dataset_graph": item["dataset_graph"]})
        return table(rows, numbers=_OF_RUNS)

    def hparams(self, jobs: Names = (), *, where: Sequence[str] = (), sort: str | None = None) -> Table:
        """Return hyperparameters, a row a run, a column a name, then `metric/TAG`: last values of its metrics."""
        wanted: dict[str, Any] = {"job": _references(jobs), "where": tuple(where), "sort": sort}
        rows = []
        for item in self._items("/hparams", wanted):
            own = {name: value for name, value in item.items() if name not in {"hparams", "metrics", "experiment"}}
            metrics = {f"metric/{name}": value for name, value in item["metrics"].items()}
            rows.append(_beside(own, item["hparams"], "hparam") | metrics)
        return table(rows, numbers=_OF_RUNS)

    def sql(self, query: str, *, limit: int = PAGE) -> Table:
        """Return the rows of one SELECT or WITH; `truncated` tells whether there are more than `limit`.

        limit: 0 for as many as can be had (over REST a million, and 32 MiB). Times are text, as ISO 8601.
        """
        from webapi.formats import unique

        columns, rows, truncated = self._source.sql(query, limit)
        names = unique(columns)
        if not rows:
            return Table({name: objects([]) for name in names}, truncated)
        return table([dict(zip(names, row, strict=True)) for row in rows], truncated=truncated)

    def _items(self, path: str, wanted: Params, limit: int | None = None, page: int = PAGE) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list, `limit` at most."""

        def every() -> Iterator[dict[str, Any]]:
            after = None
            while True:
                size = page if limit is None else max(1, min(page, limit))
                found = self._source.get(path, {**wanted, "limit": size, "after": after})
                yield from found["items"]
                after = found["next"]
                if after is None:
                    return

        return islice(every(), limit)


@dataclass(frozen=True, eq=False)
class Job:
    """A training. `facts` are all that `GET /api/v1/jobs/{id}` says of it."""

    facts: Mapping[str, Any]
    connection: Connection = field(repr=False)

    @property
    def id(self) -> int:
        """Its id."""
        return int(self.facts["id"])

    @property
    def train_id(self) -> str:
        """Its directory below its root, with `./` before it."""
        return str(self.facts["train_id"])

    @property
    def root(self) -> str:
        """The name of its root."""
        return str(self.facts["root"])

    @property
    def cache_status(self) -> str:
        """How far it is loaded: NOT_IN_CACHE, CACHING, CACHED."""
        return str(self.facts["cache_status"])

    @property
    def point_count(self) -> int:
        """How many points are stored."""
        return int(self.facts["point_count"])

    def files(self) -> Table:
        """Return its files; see Connection.files."""
        return self.connection.files(self)

    def tags(self, **filters: Any) -> Table:
        """Return its tags; see Connection.tags."""
        return self.connection.tags(self, **filters)

    def series(self, tag: str, **options: Any) -> Series:
        """Return a curve of it; see Connection.series."""
        return self.connection.series(self, tag, **options)

    def scalars(self, tags: Sequence[str] | str = (), **options: Any) -> Table:
        """Return its numbers as one long table; see Connection.scalars."""
        return self.connection.scalars([self], tags, **options)

    def payloads(self, kind: str, tags: Sequence[str] | str = (), **options: Any) -> Iterator[Payload]:
        """Yield its payloads of a kind; see Connection.payloads."""
        return self.connection.payloads(kind, [self], tags, **options)

    def lineage(self) -> Table:
        """Return where its model comes from; see Connection.lineage."""
        return self.connection.lineage([self])

    def hparams(self) -> Table:
        """Return its hyperparameters; see Connection.hparams."""
        return self.connection.hparams([self])

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.train_id!r} of {self.root!r}: {self.cache_status}, {self.point_count:,} points>"

    def _repr_html_(self) -> str:
        return markup.facts(self.train_id, [(name, value) for name, value in self.facts.items() if value is not None])


class Jobs(Sequence[Job]):
    """Jobs in a list's order; as a table they show all columns."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = tuple(jobs)

    @overload
    def __getitem__(self, place: int) -> Job: ...
    @overload
    def __getitem__(self, place: slice) -> Jobs: ...
    def __getitem__(self, place: int | slice) -> Job | Jobs:
        """Return a job, or some."""
        return Jobs(self._jobs[place]) if isinstance(place, slice) else self._jobs[place]

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def table(self) -> Table:
        """A row a job."""
        return table([job.facts for job in self._jobs], numbers=_TIMES)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame of pandas, a row a job."""
        return self.table.to_pandas()

    def to_arrow(self) -> pyarrow.Table:
        """Return a Table of pyarrow, a row a job."""
        return self.table.to_arrow()

    def to_polars(self) -> polars.DataFrame:
        """Return a DataFrame of polars, a row a job."""
        return self.table.to_polars()

    def __repr__(self) -> str:
        names = ", ".join(job.train_id for job in self._jobs[:5])
        return f"<{len(self):,} jobs: {names}{', ...' if len(self) > 5 else ''}>"

    def _repr_html_(self) -> str:
        names = ("id", "root", "train_id", "cache_status", "point_count", "last_error")
        rows = [[job.facts.get(name) for name in names] for job in self._jobs[:SHOWN_JOBS]]
        return markup.table(names, rows, f"{len(self):,} jobs")


JobName = Job | int | str
Names = Sequence[JobName] | JobName

_NOTHING = Points(
    np.empty(0, np.int64), [], [], [], np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0)
)


def _reference(job: JobName) -> str:
    return str(job.id if isinstance(job, Job) else job)


def _references(jobs: Names) -> tuple[str, ...]:
    return (_reference(jobs),) if isinstance(jobs, Job | int | str) else tuple(map(_reference, jobs))


def _path(job: JobName) -> str:
    return f"/jobs/{quote(_reference(job), safe='', errors='surrogateescape')}"


def _beside(own: dict[str, Any], keys: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return facts and what is said by key; a key that is called as a fact gets a prefix."""
    return own | {f"{prefix}/{key}" if key in own else key: value for key, value in keys.items()}
