"""Lists as tables: `/points`, `/series`, `/compare`, `/lineage` and `/hparams` in every format of webapi.formats.

Without `limit` all of a list is sent, page by page, each read in a transaction of its own: in memory is one page,
whoever takes it slowly holds no snapshot, and what is indexed meanwhile may be in it. JSON stays a page with `next`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sqlalchemy import Connection, text
from werkzeug.wrappers import Response

from indexer import text as names
from indexer.plugins import lineage
from indexer.types import DataClass
from webapi import compare, formats, queries, respond, runs, v1
from webapi.address import root
from webapi.formats import Column, Kind, Rows
from webapi.parameters import Values
from webapi.v1 import Reads, Route, Site

PAGE = v1.MAX_LIMIT
"""Rows that are read at once."""
MAX_KEYS = 1_000
"""Keys of lineages or hyperparameters that get columns of their own; of more of them none does."""

Items = tuple[list[dict[str, Any]], str | None]
"""Items of a page, and the cursor of the next."""


@dataclass(frozen=True, slots=True)
class Table:
    """A list that has every format."""

    route: Route
    columns: Callable[[Connection, Values], list[Column]]
    rows: Callable[[Site, Connection, Values, Sequence[Column]], tuple[Rows, str | None]]  # a page
    items: Callable[[Site, Connection, Values], Items]  # the same page as JSON has it


# Answers --------------------------------------------------------------------------------------------------------------
def plain(route: Route, form: str, values: Values) -> bool:
    """Tell whether the route's own JSON is wanted."""
    default = next(parameter.default for parameter in route.parameters if parameter.name == "shape")
    return form == "json" and values.word("shape") == default


def answer(site: Site, conn: Connection, route: Route, values: Values, form: str, query_string: str) -> Response:
    """Return a list in another form than its own JSON. What comes first is read with `conn`."""
    formats.require(form)
    reads = Reads(site, conn)
    if route.name == "series":
        following, chunks = _series(site, reads, values, form)
    elif form == "json" or "limit" in values.given:
        following, chunks = _limited(site, conn, BY_NAME[route.name], values, form)
    else:
        following, chunks = None, _all(site, reads, BY_NAME[route.name], values, form)
    made = respond.stream(chunks, content_type=formats.CONTENT_TYPES[form])
    reads.first = None
    if following is not None and form != "json":
        pairs = [(name, value) for name, value in parse_qsl(query_string, errors="surrogateescape") if name != "after"]
        query = urlencode([*pairs, ("after", following)], errors="surrogateescape")
        made.headers["Link"] = f'<{root()}{v1.BASE}{route.path}.{form}?{query}>; rel="next"'
    return made


def _limited(
    site: Site, conn: Connection, table: Table, values: Values, form: str
) -> tuple[str | None, Iterator[bytes]]:
    """Return a page, and the cursor of the next."""
    encode = _Encoding(table, conn, values, form)
    chunk, following = encode.page(site, conn, values)
    return following, iter((encode.begin(), chunk, encode.end({"next": following})))


def _all(site: Site, reads: Reads, table: Table, values: Values, form: str) -> Iterator[bytes]:
    """Yield the whole list."""
    with reads.open() as conn:
        encode = _Encoding(table, conn, values, form)
        yield encode.begin()
        chunk, following = encode.page(site, conn, values.replaced(limit=PAGE))
    yield chunk
    quiet = replace(site, ask=None)  # the indexer knows now who is looked at
    while following is not None:
        with reads.open() as conn:
            chunk, following = encode.page(quiet, conn, values.replaced(limit=PAGE, after=following))
        yield chunk
    yield encode.end({})


class _Encoding:
    """Pages of a table as bytes. Lines of ndjson are items as JSON has them, else rows are flat."""

    def __init__(self, table: Table, conn: Connection, values: Values, form: str) -> None:
        self._table = table
        self._columns = [] if form == "ndjson" else table.columns(conn, values)
        self._lines = form == "ndjson"
        self._encoder = formats.encoder(form, self._columns, values.word("shape"))
        self.begin = self._encoder.begin
        self.end = self._encoder.end

    def page(self, site: Site, conn: Connection, values: Values) -> tuple[bytes, str | None]:
        """Return a page, and the cursor of the next."""
        if self._lines:
            items, following = self._table.items(site, conn, values)
            return b"".join(map(_line, items)), following
        rows, following = self._table.rows(site, conn, values, self._columns)
        return self._encoder.rows(rows), following


def _line(item: Mapping[str, Any]) -> bytes:
    encode = respond.encode_finite if all(map(_plain, item.values())) else respond.encode
    return encode(item) + b"\n"


def _plain(value: object) -> bool:
    """Tell whether a value is nothing that the fast way to JSON has no word for."""
    return math.isfinite(value) if isinstance(value, float) else not isinstance(value, (dict, list))


# Points ---------------------------------------------------------------------------------------------------------------
_SERIES_COLUMNS = [
    Column("job", Kind.INTEGER),
    Column("train_id", Kind.TEXT),
    Column("tag", Kind.TEXT),
    Column("plugin", Kind.TEXT),
]
_POINT_COLUMNS = [
    *_SERIES_COLUMNS,
    Column("step", Kind.INTEGER),
    Column("seq", Kind.INTEGER),
    Column("wall_time", Kind.NUMBER),
    Column("value", Kind.NUMBER),
    Column("payloads", Kind.TEXT),  # JSON
]


def _point_rows(site: Site, conn: Connection, values: Values, _columns: Sequence[Column]) -> tuple[Rows, str | None]:
    page = v1.points_page(site, conn, values)
    heads = {tag: (row.job_id, row.train_id, name, plugin) for tag, (row, name, plugin) in page.series_of.items()}
    if not page.payloads.of and all(point[4] is not None for point in page.found):  # nearly always
        return [(*heads[point[0]], *point[1:], None) for point in page.found], page.following
    rows = []
    for point in page.found:
        payloads = page.payloads_of(point)
        shown = None if payloads is None else formats.as_text(payloads)
        rows.append((*heads[point[0]], *point[1:4], page.value_of(point), shown))
    return rows, page.following


def _point_items(site: Site, conn: Connection, values: Values) -> Items:
    page = v1.points_page(site, conn, values)
    return v1.point_items(page), page.following


# Series ---------------------------------------------------------------------------------------------------------------
def _series(site: Site, reads: Reads, values: Values, form: str) -> tuple[str | None, Iterator[bytes]]:
    """Return points of series as rows, and the cursor of the next page where there is a limit.

    Without one JSON has a page, every other format all series.
    """
    x = values.text("x")
    columns = [
        *_SERIES_COLUMNS,
        Column("step", Kind.INTEGER),
        Column("wall_time", Kind.NUMBER),
        Column("value", Kind.NUMBER),
    ]
    if x is not None:
        columns.append(Column("x", Kind.NUMBER))
    encoder = formats.encoder(form, columns, values.word("shape"))
    one = form == "json" or "limit" in values.given
    with reads.open() as conn:
        rows, following = v1.series_page(site, conn, values if one else values.replaced(limit=PAGE))
    last = following if one else None

    def chunks() -> Iterator[bytes]:
        yield encoder.begin()
        page, after = rows, following
        while True:
            for some in _series_rows(reads, page, values):
                yield encoder.rows(some)
            if one or after is None:
                break
            with reads.open() as conn:
                page, after = v1.series_page(replace(site, ask=None), conn, values.replaced(limit=PAGE, after=after))
        yield encoder.end({"next": last})

    return last, chunks()


def _series_rows(reads: Reads, rows: Sequence[queries.SeriesRow], values: Values) -> Iterator[Rows]:
    """Yield the points of series, some at a time."""
    max_points, chosen, x = values.count("max_points"), v1.range_of(values), values.text("x")
    waiting = deque(rows)
    while waiting:
        if v1.is_long(waiting[0], max_points):
            yield from _whole(reads, waiting.popleft(), chosen, x)
            continue
        short = v1.take_short(waiting, max_points)
        with reads.open() as conn:
            curves = v1.curves_of(conn, short, max_points, chosen)
        for row, found in zip(short, curves, strict=True):
            yield _points(row, found.step, found.wall_time, found.value, x)


def _whole(reads: Reads, row: queries.SeriesRow, chosen: queries.Range, x: str | None) -> Iterator[Rows]:
    """Yield all points of a long series."""
    for page in v1.pages_of(reads, row, chosen):
        yield _points(row, [p[0] for p in page], [p[2] for p in page], [p[3] for p in page], x)


def _points(
    row: queries.SeriesRow,
    steps: Sequence[int],
    wall_times: Sequence[float | None],
    stored: Sequence[float | None],
    x: str | None,
) -> Rows:
    head = (row.job_id, row.train_id, names.show(row.name), names.show(row.plugin))
    if row.data_class == DataClass.SCALAR and None in stored:
        stored = [math.nan if value is None else value for value in stored]
    columns: list[Sequence[Any]] = [steps, wall_times, stored]
    if x is not None:
        columns.append(v1.x_of(row, x, steps, wall_times))
    return [head + point for point in zip(*columns, strict=True)]


# Jobs -----------------------------------------------------------------------------------------------------------------
_JOB_COLUMNS = [Column("job", Kind.INTEGER), Column("root", Kind.TEXT), Column("train_id", Kind.TEXT)]
_COMPARED = [
    *_JOB_COLUMNS,
    Column("tag", Kind.TEXT),
    Column("plugin", Kind.TEXT),
    Column("points", Kind.INTEGER),
    *(
        Column(f"{which}_{name}", kind)
        for which in ("last", "min", "max", "best")
        for name, kind in (("value", Kind.NUMBER), ("step", Kind.INTEGER), ("wall_time", Kind.NUMBER))
    ),
]


def _compare_rows(site: Site, conn: Connection, values: Values, columns: Sequence[Column]) -> tuple[Rows, str | None]:
    items, following = compare.page(site, conn, values)
    return [[item[column.name] for column in columns] for item in items], following


def _keys(conn: Connection, table: str, values: Values) -> dict[str, Kind] | None:
    """Return the names in a table of runs with what they hold, None where they are too many for columns.

    Of the jobs that are named, or of all.
    """
    named = queries.jobs_of(conn, queries.SeriesWanted(1, values.texts("job")))
    among = "" if named is None else f" AND job_id IN ({', '.join(str(ref.id) for ref in named)})"
    query = text(
        f"SELECT name, count(*), sum(CASE WHEN kind IN ('number', 'null') THEN 1 ELSE 0 END) FROM {table}"  # noqa: S608
        f" WHERE name <> ''{among} GROUP BY name ORDER BY name LIMIT :most"
    )
    found = conn.execute(query, {"most": MAX_KEYS + 1}).all()
    if len(found) > MAX_KEYS:
        return None
    return {names.show(name): Kind.NUMBER if count == numbers else Kind.TEXT for name, count, numbers in found}


@dataclass(frozen=True, slots=True)
class KeyColumn(Column):
    """The column of a key, which may be called otherwise where a field has its name."""

    key: str = ""


def _run_columns(fixed: Sequence[Column], table: str, whole: str) -> Callable[[Connection, Values], list[Column]]:
    """Return what gives the columns of runs. whole: the object of all keys, where these are too many for columns."""
    taken = {whole, *(column.name for column in fixed)}

    def columns(conn: Connection, values: Values) -> list[Column]:
        keys = _keys(conn, table, values)
        if keys is None:
            return [*fixed, Column(whole, Kind.TEXT)]
        return [*fixed, *(KeyColumn(f"hparam/{key}" if key in taken else key, kind, key) for key, kind in keys.items())]

    return columns


def _run_rows(
    page: runs.Page, whole: str
) -> Callable[[Site, Connection, Values, Sequence[Column]], tuple[Rows, str | None]]:
    """Return what reads a page as rows."""

    def rows(site: Site, conn: Connection, values: Values, columns: Sequence[Column]) -> tuple[Rows, str | None]:
        items, following = page(site, conn, values)
        return [[_cell(item, column, whole) for column in columns] for item in items], following

    return rows


def _cell(item: Mapping[str, Any], column: Column, whole: str) -> Any:
    value = item[whole].get(column.key) if isinstance(column, KeyColumn) else item[column.name]
    if value is None or isinstance(value, str if column.kind == Kind.TEXT else (int, float)):
        return value
    return float(value) if column.kind == Kind.NUMBER else formats.as_text(value)  # "NaN" is a word of JSON


LINEAGE = Table(
    runs.LINEAGE_ROUTE,
    _run_columns(
        [*_JOB_COLUMNS, Column("wall_time", Kind.NUMBER), Column(lineage.DATASET, Kind.TEXT)], "lineage", "values"
    ),
    _run_rows(runs.lineages, "values"),
    runs.lineages,
)
HPARAMS = Table(
    runs.HPARAMS_ROUTE,
    _run_columns(
        [
            *_JOB_COLUMNS,
            *(Column(name, Kind.TEXT) for name in ("group_name", "status")),
            *(Column(name, Kind.NUMBER) for name in ("start_time", "end_time")),
            *(Column(name, Kind.TEXT) for name in ("model_uri", "monitor_url", "metrics")),
            Column("experiment", Kind.INTEGER),
        ],
        "hparams",
        "hparams",
    ),
    _run_rows(runs.hparams, "hparams"),
    runs.hparams,
)
TABLES = (
    Table(v1.POINTS, lambda _conn, _values: _POINT_COLUMNS, _point_rows, _point_items),
    Table(compare.ROUTE, lambda _conn, _values: _COMPARED, _compare_rows, compare.page),
    LINEAGE,
    HPARAMS,
)
BY_NAME = {table.route.name: table for table in TABLES}
ROUTES = (v1.SERIES, *(table.route for table in TABLES))
"""Routes that have every format."""
