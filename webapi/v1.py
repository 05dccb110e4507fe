"""REST v1: parse the query string, query, render. Every route is declared in ROUTES, which the document shows too."""

from __future__ import annotations

import base64
import math
import tempfile
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from types import NoneType
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

from sqlalchemy import Connection, Engine
from werkzeug.wrappers import Response

from indexer import content
from indexer import text as names
from indexer.config import Config
from indexer.db.engine import read_only, server_time
from indexer.db.health import IndexerRow, alive, problems
from indexer.payload import finite
from indexer.types import CacheStatus, DataClass
from indexer.version import REVISION
from webapi import attached, queries, respond
from webapi.address import root
from webapi.curves import Curve, Point, curve
from webapi.curves import points as points_of
from webapi.parameters import MAX_NAME, Kind, Parameter, Values

BASE = "/api/v1"
MAX_LIMIT = 10_000
DEFAULT_LIMIT = 100
DEFAULT_POINTS = 1_000
MAX_POINTS = 1_000_000
STREAM_POINTS = 20_000
"""Points of a streamed series read at once: one transaction, so that no slow client holds a snapshot open."""
SERIES_AT_ONCE = 400
"""Short series read by one statement."""
TAGS_AT_ONCE = 500
"""Tags made into JSON at once."""
STREAM_BYTES = 1 << 18
"""JSON of whole series made in one transaction before it is sent."""

PAYLOAD_BYTES = 8 * 2**20
"""Payloads in a page of points, decoded. Unit: bytes."""
PAYLOADS = 10_000
"""Payloads in a page of points; of one point more are in its kind's list."""

Ask = Callable[[dict[str, object]], None]
"""Takes a wish to the indexer: `{"ask": "access", "jobs": [id, ...]}` says that people look at these jobs. It must
neither block nor raise."""


@dataclass(frozen=True, slots=True)
class Site:
    """What every request shares; nothing of it changes."""

    config: Config
    engine: Engine  # cannot write: indexer.db.engine.open_reader
    version: str
    ask: Ask | None = None
    now: Callable[[], float] = time.time
    waiting: Callable[[], str | None] = lambda: None
    """What the indexer beside us waits for; it cannot write that into a database that is full or away."""

    def tell(self, jobs: Sequence[queries.JobRef]) -> None:
        """Tell the indexer, where there is one to ask, that people look at these jobs."""
        if self.ask is not None and jobs:
            self.ask({"ask": "access", "jobs": [job.id for job in jobs]})

    def tell_of_tag(self, conn: Connection, tag_id: int) -> None:
        """Tell the same of the job of a tag."""
        if self.ask is not None:
            self.tell(queries.job_of_tag(conn, tag_id))


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the API: where it is, what it takes, what it answers."""

    path: str  # below BASE, as OpenAPI writes it
    name: str
    summary: str
    description: str
    parameters: tuple[Parameter, ...]
    answer: str  # name of a schema in webapi.openapi
    errors: tuple[int, ...]  # beside those of every route
    conditional: bool = True  # answers carry an entity tag
    of_jobs: bool = False  # with `job=` an answer derives from what is stored of these jobs, and from nothing else


# Parameters -----------------------------------------------------------------------------------------------------------
LIMIT = Parameter("limit", Kind.INTEGER, "How many items at most.", default=DEFAULT_LIMIT, minimum=1, maximum=MAX_LIMIT)
AFTER = Parameter(
    "after", Kind.TEXT, "`next` of the page before: go on behind it. With the same sort and filters.", max_length=2**17
)
JOB = Parameter(
    "job",
    Kind.TEXT,
    "A job: its id, its train_id (`./a/b`), or `root:./a/b` where several roots have it. Absent: all jobs.",
    repeatable=True,
    max_length=MAX_NAME,
)
TAG = Parameter("tag", Kind.TEXT, "Name of a tag. Absent: all tags.", repeatable=True, max_length=MAX_NAME)
PLUGIN = Parameter("plugin", Kind.TEXT, "Only this plugin, for instance `scalars`.")
FROM_STEP = Parameter("from_step", Kind.INTEGER, "Smallest step, included.")
TO_STEP = Parameter("to_step", Kind.INTEGER, "Largest step, included.")
JOB_FILTERS = (
    Parameter("root", Kind.TEXT, "Only jobs of the root with this name."),
    Parameter(
        "q",
        Kind.TEXT,
        "Only jobs whose train_id holds this text; upper and lower case alike (on SQLite in ASCII letters only).",
    ),
    Parameter(
        "cache_status", Kind.CHOICE, "Only jobs in this state.", choices=tuple(status.value for status in CacheStatus)
    ),
    Parameter("plugin", Kind.TEXT, "Only jobs that have a tag of this plugin."),
    Parameter(
        "sort",
        Kind.CHOICE,
        "Column to sort by, descending with `-` before it. NULL comes last either way, and ids decide between equals.",
        default="-update_time",
        choices=tuple(sign + name for name in queries.SORTS for sign in ("", "-")),
    ),
    LIMIT,
    AFTER,
)


def restarts(default: str) -> Parameter:
    """Return the parameter that tells whether superseded points are shown."""
    return Parameter(
        "restarts",
        Kind.CHOICE,
        "`current` leaves out points that a later file or session start superseded, `all` shows them.",
        default=default,
        choices=("current", "all"),
    )


def shape(default: str) -> Parameter:
    """Return the parameter that says how JSON is laid out."""
    return Parameter(
        "shape",
        Kind.CHOICE,
        "Of JSON. `records`: `items` are objects, one a row; `columns`: an object with a list a column; `rows`:"
        " `columns` are names and `rows` are lists.",
        default=default,
        choices=("records", "columns", "rows"),
    )


# Routes ---------------------------------------------------------------------------------------------------------------
HEALTH = Route(
    "/health",
    "health",
    "Is it well",
    "Whether the database can be read, what its indexers do, how many jobs are loaded, and what room there is."
    " `status` is `ok` also where no indexer runs; it is `degraded`, and `problems` says why, where an indexer ended"
    " without a word or hangs, waits for something, or the disk is nearly full. The HTTP status is 200 in either case,"
    " 503 where the database cannot be read.",
    (),
    "Health",
    (),
    conditional=False,
)
JOBS = Route("/jobs", "jobs", "List jobs", "Train jobs, newest first.", JOB_FILTERS, "JobPage", ())
JOB_DETAIL = Route("/jobs/{id}", "job", "One job", "A job by its id or its train_id.", (), "Job", (404,))
JOB_FILES = Route(
    "/jobs/{id}/files",
    "files",
    "Files of a job",
    f"Event files with how far they are read and the damage in them: the first {queries.ERRORS_A_FILE} errors a file.",
    (LIMIT, AFTER),
    "FilePage",
    (404,),
)
JOB_TAGS = Route(
    "/jobs/{id}/tags",
    "tags",
    "Tags of a job",
    "Tags with their statistics, by name. Statistics are over all stored points, superseded ones too; minimum and"
    " maximum over finite values.",
    (PLUGIN, Parameter("q", Kind.TEXT, "Only tags whose name holds this text; case as for jobs."), LIMIT, AFTER),
    "TagPage",
    (404,),
)
SERIES = Route(
    "/series",
    "series",
    "Curves",
    "Points of series as columns, by step, then seq. `total` counts the points of the range before thinning. Thinning"
    " keeps the first and the last point and the extremes. A value is null where the point is no number, a wall_time"
    " is null where the file's is NaN.",
    (
        JOB,
        TAG,
        PLUGIN,
        Parameter(
            "max_points",
            Kind.INTEGER,
            "How many points a series at most; 0: all of them, streamed.",
            default=DEFAULT_POINTS,
            minimum=0,
            maximum=MAX_POINTS,
        ),
        FROM_STEP,
        TO_STEP,
        Parameter(
            "x",
            Kind.CHOICE,
            "Adds a column `x` to draw over: the step, the wall_time, or seconds since the series' first wall_time.",
            choices=("step", "wall_time", "relative"),
        ),
        restarts("current"),
        shape("columns"),
        LIMIT,
        AFTER,
    ),
    "SeriesPage",
    (404,),
    of_jobs=True,
)
POINTS = Route(
    "/points",
    "points",
    "Points",
    "Every raw point, by tag id, step and seq, with what there is beside its number: `payloads`. A page may hold fewer"
    " items than `limit`: go on while there is `next`.",
    (
        JOB,
        TAG,
        PLUGIN,
        FROM_STEP,
        TO_STEP,
        restarts("all"),
        Parameter(
            "payload",
            Kind.CHOICE,
            f"`base64` adds the bytes of payloads, {PAYLOAD_BYTES // 2**20} MiB a page at most; null where they do not"
            " fit, or are in a file: `url` gives them.",
            default="none",
            choices=("none", "base64"),
        ),
        shape("records"),
        LIMIT,
        AFTER,
    ),
    "PointPage",
    (404,),
    of_jobs=True,
)
ROUTES = (HEALTH, JOBS, JOB_DETAIL, JOB_FILES, JOB_TAGS, SERIES, POINTS)
OF_A_JOB = {"": JOB_DETAIL, "/files": JOB_FILES, "/tags": JOB_TAGS}

Answer = Response | Iterator[bytes]
"""What a view returns: a whole response, or JSON in chunks of which the first is made already."""


class Conditional(Protocol):
    """Answers with a view unless the client has the answer; see webapi.app."""

    def __call__(
        self,
        view: Callable[[Connection], Answer],
        jobs: Callable[[Connection], Iterable[queries.JobRef]] | None = None,
        /,
    ) -> Response:
        """Return the answer, or 304."""
        ...


# Views ----------------------------------------------------------------------------------------------------------------
def health(site: Site, conn: Connection) -> Response:
    """Render `/health`."""
    found = queries.health(conn)
    now = server_time(conn) or site.now()
    known = told(site, found.indexers)
    wrong = list(problems(known, found.space, now))
    body = {
        "status": "degraded" if wrong else "ok",
        "problems": wrong,
        "version": site.version,
        "database": {
            "dialect": conn.dialect.name,
            "revision": REVISION,
            "id": found.state.database_id,
            "change_counter": found.state.change_counter,
            "size_bytes": found.space.size,
            "wal_bytes": found.space.wal,
            "checkpoint_starved": found.space.starved,
            "free_bytes": found.space.free,
            "disk_bytes": found.space.disk,
        },
        "indexer": _indexer(known[0], now) if known else None,
        "indexers": [_indexer(one, now) for one in known],
        "scanned_at": found.scanned_at,
        "bytes_behind": found.bytes_behind,
        "jobs": found.jobs,
    }
    answer = Response(respond.encode(body), content_type=respond.JSON)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _indexer(heard: IndexerRow, now: float) -> dict[str, Any]:
    return {
        "alive": alive(heard, now),
        "heartbeat": heard.heartbeat,
        "lag": max(0.0, now - heard.heartbeat),
        "state": heard.state,
        "message": heard.message,
        "holder": f"{heard.host}:{heard.pid}",
        "version": heard.version,
        "started_at": heard.started_at,
    }


def well(conn: Connection) -> Response:
    """Render `/health` for those without a token: that the database can be read, and nothing of it."""
    queries.state(conn)
    answer = Response(respond.encode({"status": "ok"}), content_type=respond.JSON)
    answer.headers["Cache-Control"] = "no-store"
    return answer


def told(site: Site, known: list[IndexerRow]) -> list[IndexerRow]:
    """Return indexers with what the one beside us waits for, where it does: its row may be older."""
    waiting = site.waiting()
    return known if waiting is None or not known else [known[0]._replace(state="waiting", message=waiting), *known[1:]]


def jobs_wanted(values: Values) -> queries.JobsWanted:
    """Return the request that JOB_FILTERS describe."""
    order = values.word("sort")
    sort = order.removeprefix("-")
    after = None
    if (text := values.text("after")) is not None:
        kind = queries.SORTS[sort]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        key, row_id = respond.position(text, f"jobs {order}", (*kinds, NoneType), respond.Small)
        after = (key, row_id)
    return queries.JobsWanted(
        limit=values.count("limit"),
        root=values.text("root"),
        q=values.text("q"),
        cache_status=values.text("cache_status"),
        plugin=values.text("plugin"),
        sort=sort,
        descending=order.startswith("-"),
        after=after,
    )


def jobs_page(conn: Connection, values: Values) -> tuple[list[queries.JobRow], str | None]:
    """Return a page of jobs and the cursor of the next."""
    wanted = jobs_wanted(values)
    rows, more = queries.jobs(conn, wanted)
    if not more:
        return rows, None
    key = queries.sorted_part(getattr(rows[-1], wanted.sort))
    return rows, respond.cursor(f"jobs {values.word('sort')}", key, rows[-1].id)


def jobs(_site: Site, conn: Connection, values: Values) -> Response:
    """Render `/jobs`."""
    rows, following = jobs_page(conn, values)
    return _page([row._asdict() for row in rows], following, strict=not respond.infinite(rows, _JOB_TIMES))


_JOB_TIMES = [place for place, name in enumerate(queries.JobRow._fields) if name.endswith(("_time", "_since", "_at"))]


def job_in_path(conn: Connection, rest: str) -> tuple[queries.JobRef, str]:
    """Return the job that a path below `/jobs/` names, and what of it: a key of OF_A_JOB."""
    return queries.in_path(conn, rest, [suffix for suffix in OF_A_JOB if suffix])


def of_named_jobs(route: Route, values: Values) -> Callable[[Connection], list[queries.JobRef]] | None:
    """Return what finds the jobs that an answer derives from alone; None where it derives from more."""
    if not route.of_jobs or not (references := values.texts("job")):
        return None
    return lambda conn: queries.jobs_of(conn, queries.SeriesWanted(1, references)) or []


def of_a_job(
    site: Site, conn: Connection, ref: queries.JobRef, suffix: str, parse: Callable[[Route], Values]
) -> Answer:
    """Render `/jobs/{id}`, `/jobs/{id}/files` or `/jobs/{id}/tags`; `parse` reads the query string for the route."""
    route = OF_A_JOB[suffix]
    values = parse(route)
    site.tell([ref])
    if route is JOB_FILES:
        return _files(conn, ref, values)
    if route is JOB_TAGS:
        return _tags(conn, ref, values)
    return Response(respond.encode(queries.job(conn, ref.id)._asdict()), content_type=respond.JSON)


def _files(conn: Connection, ref: queries.JobRef, values: Values) -> Response:
    after = values.text("after")
    found, more = queries.shards(
        conn,
        ref.id,
        limit=values.count("limit"),
        after=None if after is None else respond.position(after, "files", respond.Small)[0],
    )
    items = []
    for row in found:
        errors = [{"offset": offset, "length": length, "reason": reason} for offset, length, reason in row.errors]
        items.append(row._asdict() | {"errors": errors})
    return _page(items, respond.cursor("files", found[-1].id) if more else None)


def _tags(conn: Connection, ref: queries.JobRef, values: Values) -> Iterator[bytes]:
    after = None
    if (text := values.text("after")) is not None:
        name, plugin, tag_id = respond.position(text, "tags", str, str, respond.Small)
        after = (name, plugin, tag_id)
    wanted = queries.TagsWanted(ref.id, values.count("limit"), values.text("plugin"), values.text("q"), after)
    found, more = queries.tags(conn, wanted)
    following = None
    if more:
        last = queries.TagRow._make(found[-1])
        following = respond.cursor("tags", queries.sorted_part(last.name), queries.sorted_part(last.plugin), last.id)
    return _tag_page(found, following)


_PLUGIN = queries.TagRow._fields.index("plugin")
_METADATA = queries.TagRow._fields.index("data_class")  # from here on: what a tag's metadata is made of
_SHOWN = queries.TagRow._fields[: _METADATA + 1]
_FLOATS = [place for place, name in enumerate(_SHOWN) if name.endswith(("_wall_time", "_value"))]


def _tag_page(rows: Sequence[tuple[Any, ...]], following: str | None) -> Iterator[bytes]:
    """Yield a page of tags in pieces, so that ten thousand are sent while they are made."""
    separator = b'{"items":['
    for start in range(0, len(rows), TAGS_AT_ONCE):
        yield separator + respond.encode_finite(_tag_items(rows[start : start + TAGS_AT_ONCE]))[1:-1]
        separator = b","
    yield (b"" if rows else separator) + b'],"next":' + respond.encode(following) + b"}"


def _tag_items(rows: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return rows of TagRow's fields as JSON shows them; most are alike in what describes them."""
    items: list[dict[str, Any]] = []
    described: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        item = dict(zip(_SHOWN, row, strict=False))
        if item["last_value"] is None and item["data_class"] == DataClass.SCALAR and item["point_count"] > 0:
            item["last_value"] = "NaN"  # stored as NULL
        key = (row[_PLUGIN], *row[_METADATA:])
        if key not in described:
            described[key] = _metadata(*key)
        item["metadata"] = described[key]
        items.append(item)
    if any(names.ESCAPE in text for text in {row[2] for row in rows} | {"".join([row[1] for row in rows])}):
        for item in items:
            item["name"], item["plugin"] = names.show(item["name"]), names.show(item["plugin"])
    if respond.infinite(rows, _FLOATS):
        return [cast("dict[str, Any]", finite(item)) for item in items]
    return items


def _metadata(
    plugin: str, data_class: str, written: bytes | None, display_name: str | None, description: str | None
) -> dict[str, Any]:
    return {
        "data_class": data_class,
        "display_name": None if display_name is None else names.show(display_name),
        "description": None if description is None else names.show(description),
        "plugin_content": None if written is None else base64.b64encode(written).decode(),
        "plugin_data": None if written is None else content.decoded(plugin, written),
    }


class PointsPage(NamedTuple):
    """A page of points with what is beside them."""

    found: Sequence[queries.PointRow]
    series_of: Mapping[int, tuple[queries.SeriesRow, str, str]]  # tag id → its row, name and plugin as they are shown
    payloads: attached.Page
    data: Mapping[tuple[int, int, int, int], bytes] | None
    following: str | None

    def payloads_of(self, point: queries.PointRow) -> list[dict[str, object]] | None:
        """Return the payloads of a point as they are shown, None where it has none."""
        of_point = self.payloads.of.get(point[:3])
        return None if of_point is None else [_payload(one, self.data) for one in of_point]

    def value_of(self, point: queries.PointRow) -> float | None:
        """Return the number of a point: NaN is stored as NULL."""
        stored = point[4]
        return math.nan if stored is None and self.series_of[point[0]][0].data_class == DataClass.SCALAR else stored


def points_page(site: Site, conn: Connection, values: Values) -> PointsPage:
    """Return a page of `/points`."""
    after = None
    if (text := values.text("after")) is not None:
        tag_id, step, seq = respond.position(text, "points", respond.Small, int, respond.Small)
        after = (tag_id, step, seq)
    limit = values.count("limit")
    wanted = _series_wanted(values, after=None if after is None else queries.series_before(after))
    among = queries.jobs_of(conn, wanted)
    site.tell(among or ())
    rows, more = queries.series(conn, wanted, among)
    found, following = queries.points(conn, rows, range_of(values), limit=limit, after=after)
    if following is None and more:
        following = queries.after_series(rows[-1].id)
    with_payloads = attached.page(conn, found, limit=PAYLOADS)
    data: dict[tuple[int, int, int, int], bytes] | None = None
    if values.word("payload") == "base64":
        with_payloads, data = attached.with_bytes(conn, found, with_payloads, most=PAYLOAD_BYTES)
    if with_payloads.points < len(found):
        found = found[: with_payloads.points]
        following = found[-1][:3]
    series_of = {row.id: (row, names.show(row.name), names.show(row.plugin)) for row in rows}
    next_ = None if following is None else respond.cursor("points", *following)
    return PointsPage(found, series_of, with_payloads, data, next_)


def points(site: Site, conn: Connection, values: Values) -> Response:
    """Render `/points`."""
    page = points_page(site, conn, values)
    return _page(point_items(page), page.following, strict=not respond.infinite(page.found, (3, 4)))


def point_items(page: PointsPage) -> list[dict[str, Any]]:
    """Return points as JSON shows them."""
    items: list[dict[str, Any]] = []
    for point in page.found:
        tag_id, step, seq, wall_time, stored = point
        row, tag, plugin = page.series_of[tag_id]
        value: float | str | None = stored
        if value is None and row.data_class == DataClass.SCALAR:
            value = "NaN"
        items.append(
            {
                "job": row.job_id,
                "train_id": row.train_id,
                "tag": tag,
                "plugin": plugin,
                "step": step,
                "seq": seq,
                "wall_time": wall_time,
                "value": value,
            }
        )
        if (payloads := page.payloads_of(point)) is not None:
            items[-1]["payloads"] = payloads
    return items


def _payload(one: attached.Attached, data: Mapping[tuple[int, int, int, int], bytes] | None) -> dict[str, object]:
    """Return a payload as an item of `/points` shows it, with its bytes where `data` has them."""
    row = one.row
    shown: dict[str, object] = {
        "kind": one.kind,
        "ordinal": row.key[3],
        "content_type": row.stored.content_type,
        "length": row.stored.length,
        "sha256": row.digest.hex(),
        "error": row.stored.error,
        "url": address(row.key),
    }
    if data is not None:
        bytes_ = data.get(row.key)
        shown["base64"] = None if bytes_ is None else base64.b64encode(bytes_).decode()
    return shown


def address(key: tuple[int, int, int, int]) -> str:
    """Return the path of a payload's bytes."""
    return f"{root()}{BASE}/blobs/" + "/".join(map(str, key))


def series_page(site: Site, conn: Connection, values: Values) -> tuple[list[queries.SeriesRow], str | None]:
    """Return the series of a page and the cursor of the next."""
    after = values.text("after")
    wanted = _series_wanted(
        values, after=None if after is None else respond.position(after, "series", respond.Small)[0]
    )
    among = queries.jobs_of(conn, wanted)
    site.tell(among or ())
    rows, more = queries.series(conn, wanted, among)
    return rows, respond.cursor("series", rows[-1].id) if more else None


def series(site: Site, conn: Connection, values: Values) -> Iterator[bytes]:
    """Render `/series`. The first chunk is made within the caller's transaction, the others each in their own."""
    rows, following = series_page(site, conn, values)
    reads = Reads(site, conn)
    chunks = _series(reads, rows, values, following)
    first = next(chunks)
    reads.first = None
    return chain([first], chunks)


def _series_wanted(values: Values, after: int | None) -> queries.SeriesWanted:
    return queries.SeriesWanted(
        values.count("limit"), values.texts("job"), values.texts("tag"), values.text("plugin"), after
    )


def range_of(values: Values) -> queries.Range:
    """Return which points of a series are wanted."""
    return queries.Range(values.integer("from_step"), values.integer("to_step"), values.word("restarts") == "all")


def _page(items: Sequence[object], following: str | None, *, strict: bool = False) -> Response:
    """Return a page of a list; `strict`: all floats in it are finite."""
    encode = respond.encode_finite if strict else respond.encode
    return Response(encode({"items": items, "next": following}), content_type=respond.JSON)


# Curves ---------------------------------------------------------------------------------------------------------------
class Reads:
    """Connections for a streamed answer: first the one of the request, then a new transaction each time."""

    def __init__(self, site: Site, first: Connection) -> None:
        self.site = site
        self.first: Connection | None = first

    @contextmanager
    def open(self) -> Iterator[Connection]:
        """Lend a connection. It is given back before a chunk is sent, so that no client holds a snapshot open."""
        if self.first is not None:
            first, self.first = self.first, None
            yield first
        else:
            with read_only(self.site.engine, seconds=self.site.config.query_seconds) as conn:
                yield conn


def _series(reads: Reads, rows: Sequence[queries.SeriesRow], values: Values, following: str | None) -> Iterator[bytes]:
    """Yield the answer's text: short series together, long ones that are wanted whole in pieces."""
    separator = b'{"series":['
    max_points, chosen, x = values.count("max_points"), range_of(values), values.text("x")
    waiting = deque(rows)
    while waiting:
        if is_long(waiting[0], max_points):
            yield separator
            yield from _whole(reads, waiting.popleft(), chosen, x)
        else:
            texts: list[bytes] = []
            size = 0
            with reads.open() as conn:
                while waiting and size < STREAM_BYTES and not is_long(waiting[0], max_points):
                    short = take_short(waiting, max_points)
                    curves = curves_of(conn, short, max_points, chosen)
                    made = [_curve(row, found, x) for row, found in zip(short, curves, strict=True)]
                    texts += made
                    size += sum(map(len, made))
            yield separator + b",".join(texts)
        separator = b","
    if not rows:
        yield separator
    yield b'],"next":' + respond.encode(following) + b"}"


def is_long(row: queries.SeriesRow, max_points: int) -> bool:
    """Tell whether a series is wanted whole and too long to hold in memory."""
    return row.point_count > STREAM_POINTS and (max_points == 0 or max_points >= row.point_count)


def _head(row: queries.SeriesRow) -> bytes:
    facts = {
        "job": row.job_id,
        "train_id": row.train_id,
        "tag": names.show(row.name),
        "plugin": names.show(row.plugin),
    }
    return respond.encode_finite(facts)[:-1]


def take_short(waiting: deque[queries.SeriesRow], max_points: int) -> list[queries.SeriesRow]:
    """Take the next series, and with a short one those behind it that one statement reads whole with it."""
    taken = [waiting.popleft()]
    total = taken[0].point_count
    while (
        waiting
        and len(taken) < SERIES_AT_ONCE
        and (max_points == 0 or max(taken[0].point_count, waiting[0].point_count) <= max_points)
        and total + waiting[0].point_count <= STREAM_POINTS
    ):
        taken.append(waiting.popleft())
        total += taken[-1].point_count
    return taken


def curves_of(
    conn: Connection, rows: Sequence[queries.SeriesRow], max_points: int, chosen: queries.Range
) -> list[Curve]:
    """Return the curves of series; several are short, and read whole by one statement."""
    total = sum(row.point_count for row in rows)
    if len(rows) > 1:
        page = queries.page_of_points(conn, [row.id for row in rows], chosen, limit=total + 1)
        if len(page) <= total:  # else they grew meanwhile
            of_tag = {tag_id: list(points) for tag_id, points in groupby(page, itemgetter(0))}
            return [_whole_curve(of_tag.get(row.id, ())) for row in rows]
    return [
        curve(
            conn,
            row,
            max_points=max_points or max(row.point_count, 1),
            from_step=chosen.first,
            to_step=chosen.last,
            restarts=chosen.superseded,
        )
        for row in rows
    ]


def _whole_curve(page: Sequence[queries.PointRow]) -> Curve:
    return Curve([p[1] for p in page], [p[3] for p in page], [p[4] for p in page], len(page), False)


def _curve(row: queries.SeriesRow, found: Curve, x: str | None) -> bytes:
    columns = [
        _head(row),
        b'"total":%d' % found.total,
        b'"downsampled":' + (b"true" if found.downsampled else b"false"),
        b'"step":' + respond.column(found.step),
        b'"wall_time":' + respond.column(found.wall_time),
        b'"value":' + respond.column(found.value, null=_null(row)),
    ]
    if x is not None:
        columns.append(b'"x":' + respond.column(x_of(row, x, found.step, found.wall_time)))
    return b",".join(columns) + b"}"


def _null(row: queries.SeriesRow) -> bytes:
    """Return what a stored NULL is in JSON: of a scalar series NaN."""
    return b'"NaN"' if row.data_class == DataClass.SCALAR else b"null"


def x_of(
    row: queries.SeriesRow, x: str, steps: Sequence[int], wall_times: Sequence[float | None]
) -> Sequence[float | None]:
    """Return what points are drawn over."""
    match x:
        case "step":
            return steps
        case "wall_time":
            return wall_times
    origin = row.first_wall_time
    if origin is None:
        return [None] * len(wall_times)
    return [None if time_ is None else time_ - origin for time_ in wall_times]


def pages_of(reads: Reads, row: queries.SeriesRow, chosen: queries.Range) -> Iterator[list[Point]]:
    """Yield the points of a long series, a page of STREAM_POINTS a transaction; no page is empty."""
    after: tuple[int, int] | None = None
    while True:
        with reads.open() as conn:
            page = points_of(
                conn,
                row.id,
                after=after,
                limit=STREAM_POINTS,
                from_step=chosen.first,
                to_step=chosen.last,
                restarts=chosen.superseded,
            )
        if page:
            yield page
        if len(page) < STREAM_POINTS:
            return
        after = page[-1][:2]


def _whole(reads: Reads, row: queries.SeriesRow, chosen: queries.Range, x: str | None) -> Iterator[bytes]:
    """Yield a long series whole, in memory for one page.

    JSON wants one column after the other, a page holds them all: so steps go out as they are read, and the rest waits
    in files, NULL as NaN. `total` is what was sent. Points indexed meanwhile may be in it.
    """
    yield _head(row) + b',"downsampled":false,"step":['
    total = 0
    with tempfile.TemporaryFile() as steps, tempfile.TemporaryFile() as times, tempfile.TemporaryFile() as numbers:
        for page in pages_of(reads, row, chosen):
            step = [point[0] for point in page]
            yield (b"," if total else b"") + respond.column(step)[1:-1]
            if x == "step":
                array("q", step).tofile(steps)
            _doubles([point[2] for point in page]).tofile(times)
            _doubles([point[3] for point in page]).tofile(numbers)
            total += len(page)
        yield b'],"wall_time":['
        yield from _spooled(times, respond.column)
        yield b'],"value":['
        yield from _spooled(numbers, lambda part: respond.column(part, null=_null(row)))
        if x is not None:
            yield b'],"x":['
            if x == "step":
                yield from _spooled(steps, respond.column, code="q")
            else:
                yield from _spooled(
                    times, lambda part: respond.column(x_of(row, x, (), [None if math.isnan(t) else t for t in part]))
                )
    yield b'],"total":%d}' % total


def _doubles(numbers: Sequence[float | None]) -> array[float]:
    """Return numbers as an array, None as NaN."""
    try:
        return array("d", cast("Sequence[float]", numbers))
    except TypeError:
        return array("d", [math.nan if number is None else number for number in numbers])


def _spooled(file: BinaryIO, render: Callable[[Sequence[float]], bytes], code: str = "d") -> Iterator[bytes]:
    """Yield the numbers in `file` (8 bytes each, of array's type `code`) as the inside of JSON lists."""
    file.seek(0)
    comma = b""
    while part := file.read(8 * STREAM_POINTS):
        yield comma + render(array(code, part).tolist())[1:-1]
        comma = b","
