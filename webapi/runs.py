"""REST v1 for what is said of whole jobs: their lineage and their hyperparameters, an item a job.

Both lists filter and sort by any key in the database. A key is found in a table of rows (job, name, value, number), in
a column of the job, or (`metric/TAG`) among the last values of the job's tags.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text
from werkzeug.wrappers import Response

from indexer import text as names
from indexer.db.dialect import POSTGRESQL
from indexer.plugins import lineage
from webapi import queries, respond
from webapi.errors import Malformed
from webapi.parameters import MAX_NAME, Kind, Parameter, Values
from webapi.queries import SORTED_CHARACTERS
from webapi.v1 import AFTER, JOB, LIMIT, Route, Site, shape

PAGE_BYTES = 8 * 2**20
"""JSON of rows that a page shows, at most, but for one job's. Unit: bytes."""
MAX_CONDITIONS = 20
MAX_CHOICES = 100
"""Values of `in`."""
ROW_BYTES = 100
"""Of a row in an answer, beside its JSON."""

_OPERATORS = {"lt": "<", "gt": ">", "le": "<=", "ge": ">="}
_CONDITION = re.compile(r"(.+?):(eq|ne|lt|gt|le|ge|in):(.*)", re.DOTALL)
OF_JOBS = {"update_time": "j.update_time", "create_time": "j.create_time", "start_time": "j.start_time"}


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of jobs by what is said of them."""

    view: str
    rows: str  # table of (job_id, name, value, number)
    order: str  # of several rows of one name the first counts
    jobs: str  # what is selected from: the jobs as j, and what belongs to them
    only: str  # which of these are listed
    numbers: Mapping[str, str]  # key → column that holds numbers
    texts: Mapping[str, str]  # key → column that holds text
    prefix: str  # a key that begins so is a row's, whatever else bears its name
    tags: bool  # `metric/TAG` is the last value of a tag
    id: str = "j.id"  # what is listed, where that is not the job
    bound: Mapping[str, Any] = field(default_factory=dict)  # values that the above name


LINEAGE = Listing(
    "lineage",
    "lineage",
    "x.ordinal",
    "jobs j",
    "EXISTS (SELECT 1 FROM lineage l WHERE l.job_id = j.id)",
    OF_JOBS,
    {"train_id": "j.train_id"},
    "",
    tags=False,
)
HPARAMS = Listing(
    "hparams",
    "hparams",
    "x.source DESC, x.ordinal",  # the session before the lineage
    "hparam_runs r JOIN jobs j ON j.id = r.job_id",
    "r.hparams IS NOT NULL",
    {**OF_JOBS, "start_time": "r.start_time", "end_time": "r.end_time"},
    {"train_id": "j.train_id", "status": "r.status", "group_name": "r.group_name"},
    "hparam/",
    tags=True,
)


Page = Callable[[Site, Connection, Values], tuple[list[dict[str, Any]], str | None]]
"""Items of a list, and the cursor of the next page."""


class Condition(NamedTuple):
    """One of the conditions that all must hold."""

    key: str
    operator: str
    values: tuple[str, ...]


# Parameters -----------------------------------------------------------------------------------------------------------
def where(keys: str) -> Parameter:
    """Return the parameter that chooses jobs by keys."""
    return Parameter(
        "where",
        Kind.TEXT,
        f"`KEY:OPERATOR:VALUE`, all of which must hold, at most {MAX_CONDITIONS}. Operators: eq, ne, lt, gt, le, ge, in"
        f" (up to {MAX_CHOICES} values with commas between, or a JSON list). lt, gt, le, ge compare numbers; eq, ne and"
        f" in numbers or whole texts; ne also holds where there is no such key. Keys: {keys}",
        repeatable=True,
        max_length=MAX_NAME,
    )


def sort_by(keys: str) -> Parameter:
    """Return the parameter that orders jobs by a key."""
    return Parameter(
        "sort",
        Kind.TEXT,
        f"Key to sort by, descending with `-` before it: numbers, then texts. Jobs without it come last either way, and"
        f" ids decide between equals. Keys: {keys}",
        default="-update_time",
        max_length=MAX_NAME,
    )


LINEAGE_KEYS = (
    f"{', '.join(lineage.NAMES.values())}, `metric/NAME`, `user_defined/NAME`; update_time, create_time, start_time and"
    " train_id of the job."
)
_HPARAM_KEYS = (
    "names of hyperparameters (or `hparam/NAME`); `metric/TAG`, the last value of a tag of the job; status, group_name,"
    " start_time and end_time of the session; update_time, create_time and train_id of the job."
)
LINEAGE_ROUTE = Route(
    "/lineage",
    "lineage",
    "Lineage of jobs",
    "Where trained models come from, an item a job: what its lineage files say, merged as MindInsight merges them. A"
    " page may hold fewer items than `limit`: go on while there is `next`. The records: `/lineage-records`.",
    (JOB, where(LINEAGE_KEYS), sort_by(LINEAGE_KEYS), shape("records"), LIMIT, AFTER),
    "LineagePage",
    (404,),
    of_jobs=True,
)
HPARAMS_ROUTE = Route(
    "/hparams",
    "hparams",
    "Hyperparameters of jobs",
    "An item a run: what TensorBoard's plugin hparams or a lineage says that it was given, and the last values of the"
    " metrics that its experiment names, a hundred at most. An experiment is that of the run or of the nearest"
    " directory above it. A page may hold fewer items than `limit`: go on while there is `next`. The records:"
    " `/hparam-records`.",
    (JOB, where(_HPARAM_KEYS), sort_by(_HPARAM_KEYS), shape("records"), LIMIT, AFTER),
    "HParamsPage",
    (404,),
)
ROUTES = (LINEAGE_ROUTE, HPARAMS_ROUTE)


def conditions(given: Sequence[str]) -> list[Condition]:
    """Return conditions as they are written. Malformed names `where`."""
    if len(given) > MAX_CONDITIONS:
        raise Malformed("where", f"is given at most {MAX_CONDITIONS} times")
    found = []
    for one in given:
        match = _CONDITION.fullmatch(one)
        if match is None:
            raise Malformed("where", "is KEY:OPERATOR:VALUE with one of eq, ne, lt, gt, le, ge, in")
        key, operator, value = match.groups()
        values = _choices(value) if operator == "in" else (value,)
        if operator in _OPERATORS and number(value) is None:
            raise Malformed("where", f"compares numbers with {operator}, and {value[:80]!r} is none")
        found.append(Condition(key, operator, values))
    return found


def _choices(value: str) -> tuple[str, ...]:
    if value.startswith("["):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, list) or not all(isinstance(item, (str, int, float)) for item in found):
            raise Malformed("where", "takes numbers and texts in the JSON list of `in`")
        values = tuple(item if isinstance(item, str) else json.dumps(item) for item in found)
    else:
        values = tuple(value.split(","))
    if len(values) > MAX_CHOICES:
        raise Malformed("where", f"takes at most {MAX_CHOICES} values for `in`")
    return values


def number(value: str) -> float | None:
    """Return the number that a text is; None where it is none, or no number has an order."""
    if len(value) > 400 or not value.isascii() or "_" in value:
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return None if math.isnan(found) else found


# Queries --------------------------------------------------------------------------------------------------------------
class _Query:
    """SQL while it is put together: values are bound, never written."""

    def __init__(self, conn: Connection, listing: Listing) -> None:
        self.listing = listing
        self.postgresql = conn.dialect.name == POSTGRESQL
        self.values: dict[str, Any] = dict(listing.bound)
        self.expanding: list[str] = []
        self.joins: dict[str, str] = {}  # tag → what its values are joined as
        self.metrics = ""  # these joins

    def bind(self, value: Any) -> str:
        """Return the mark of a value."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        if isinstance(value, float):
            return f"CAST(:{name} AS DOUBLE PRECISION)"
        return f"CAST(:{name} AS TEXT)" if isinstance(value, str) else f":{name}"

    def several(self, values: Sequence[Any]) -> str:
        """Return the mark of a list."""
        name = f"p{len(self.values)}"
        self.values[name] = list(values)
        self.expanding.append(name)
        return f":{name}"

    def of_key(self, key: str) -> tuple[str, str, str]:
        """Return where the values of a key are: what to select them from, their number and their text."""
        listing = self.listing
        if listing.prefix and key.startswith(listing.prefix):
            return self._of_row(key.removeprefix(listing.prefix))
        if key in listing.numbers:
            return "", listing.numbers[key], "CAST(NULL AS TEXT)"
        if key in listing.texts:
            return "", "CAST(NULL AS DOUBLE PRECISION)", listing.texts[key]
        if listing.tags and key.startswith("metric/"):
            return "", f"{self._of_tag(names.store(key.removeprefix('metric/')))}.last_value", "CAST(NULL AS TEXT)"
        return self._of_row(key)

    def _of_tag(self, stored: str) -> str:
        """Return what the last values of a tag are joined as: looked up once for all jobs."""
        if stored not in self.joins:
            self.joins[stored] = f"m{len(self.joins)}"
            one = "max(last_value) AS last_value"  # where several plugins have a tag of this name
            self.metrics += (
                f" LEFT JOIN (SELECT job_id, {one} FROM tags"  # noqa: S608  # values are bound
                f" WHERE name_key = {self.bind(names.short_key(stored))} AND name = {self.bind(stored)}"
                " AND data_class = 'scalar' AND last_value IS NOT NULL GROUP BY job_id)"
                f" {self.joins[stored]} ON {self.joins[stored]}.job_id = j.id"
            )
        return self.joins[stored]

    def _of_row(self, name: str) -> tuple[str, str, str]:
        where = f"FROM {self.listing.rows} x WHERE x.job_id = j.id AND x.name = {self.bind(names.store(name))}"
        return f"{where} ORDER BY {self.listing.order}", "x.number", "x.value"

    def one(self, key: str) -> tuple[str, str]:
        """Return expressions of a key's number and text, for sorting."""
        source, as_number, as_text = self.of_key(key)
        if not source:
            return as_number, as_text
        return f"(SELECT {as_number} {source} LIMIT 1)", f"(SELECT {as_text} {source} LIMIT 1)"

    def condition(self, wanted: Condition) -> str:
        """Return a condition on a job."""
        source, as_number, as_text = self.of_key(wanted.key)
        if wanted.operator in _OPERATORS:
            bound = number(wanted.values[0])
            test = f"{as_number} {_OPERATORS[wanted.operator]} {self.bind(bound)}"
        else:
            numbers = [n for n in map(number, wanted.values) if n is not None]
            store = queries.stored if wanted.key == "train_id" else names.store  # directories are shown as stored
            parts = [f"{as_text} IN ({', '.join(self.bind(store(value)) for value in wanted.values)})"]
            if numbers:
                parts.append(f"{as_number} IN ({', '.join(map(self.bind, numbers))})")
            test = f"({' OR '.join(parts)})"
        if source:
            held = f"EXISTS (SELECT 1 {source.partition(' ORDER BY ')[0]} AND {test})"
        else:
            held = f"({test}) IS TRUE" if self.postgresql else f"coalesce({test}, 0)"
        return f"NOT ({held})" if wanted.operator == "ne" else held


Position = tuple[int, float, str, int]
"""Where a job is in a list: whether numbers, texts or nothing comes first, its number, its text, its id."""


def jobs(
    conn: Connection,
    listing: Listing,
    *,
    among: Sequence[queries.JobRef] | None,
    where: Sequence[Condition],
    sort: str,
    limit: int,
    after: Position | None,
) -> list[Position]:
    """Return the next `limit` jobs of a list. One statement."""
    query = _Query(conn, listing)
    descending, key = sort.startswith("-"), sort.removeprefix("-")
    as_number, as_text = query.one(key)
    tests = [query.condition(one) for one in where]
    if among is not None:
        tests.append(f"j.id IN {query.several([ref.id for ref in among])}")
    first, second = (1, 0) if descending else (0, 1)
    collate = ' COLLATE "C"' if query.postgresql else ""
    source = f"FROM {listing.jobs}{query.metrics} WHERE {' AND '.join([listing.only, *tests])}"  # values are bound
    statement = (
        f"WITH found AS (SELECT {listing.id} AS id, {as_number} AS number, {as_text} AS value {source}), "  # noqa: S608
        f"placed AS (SELECT id, CASE WHEN number IS NOT NULL THEN {first} WHEN value IS NOT NULL THEN {second} ELSE 2"
        " END AS place, coalesce(number, 0) AS number, CASE WHEN number IS NULL"
        f" THEN coalesce(substr(value, 1, {SORTED_CHARACTERS}), '') ELSE '' END{collate} AS value FROM found) "
        "SELECT place, number, value, id FROM placed"
    )
    if after is not None:
        place, *rest = after
        key_ = f"({', '.join(query.bind(part) for part in rest)})"
        at = query.bind(place)
        beyond = f"(number, value, id) {'<' if descending else '>'} {key_}"
        statement += f" WHERE place > {at} OR (place = {at} AND {beyond})"
    way = " DESC" if descending else ""
    statement += f" ORDER BY place, number{way}, value{way}, id{way} LIMIT {query.bind(limit)}"
    made = text(statement).bindparams(*(bindparam(name, expanding=True) for name in query.expanding))
    return [(row[0], float(row[1]), row[2], row[3]) for row in conn.execute(made, query.values)]


def places(site: Site, conn: Connection, listing: Listing, values: Values) -> tuple[list[Position], str]:
    """Return where the jobs of a page are, and of the next where there is one, and what its cursor is named by."""
    sort = values.word("sort")
    if not sort.removeprefix("-"):
        raise Malformed("sort", "is a key, with or without `-` before it")
    view, after = f"{listing.view} {sort}", None
    if (given := values.text("after")) is not None:
        place, as_number, value, job = respond.position(
            given, view, respond.Small, (float, int, str), str, respond.Small
        )
        found = number(as_number) if isinstance(as_number, str) else float(as_number)
        if found is None:
            raise Malformed("after", "is no cursor of this list: take `next` of an earlier page, with the same sort")
        after = (place, found, value, job)
    among = queries.jobs_of(conn, queries.SeriesWanted(1, values.texts("job")))
    site.tell(among or ())
    limit = values.count("limit")
    where = conditions(values.texts("where"))
    return jobs(conn, listing, among=among, where=where, sort=sort, limit=limit + 1, after=after), view


def _page(
    site: Site, conn: Connection, listing: Listing, values: Values
) -> tuple[list[int], dict[int, queries.JobRef], str | None]:
    """Return the jobs of a page in their order, who they are, and the cursor of the next."""
    found_jobs, view = places(site, conn, listing, values)
    limit = values.count("limit")
    fits = _fitting(conn, listing, [job[-1] for job in found_jobs[:limit]])
    shown = found_jobs[:fits]
    following = respond.cursor(view, *shown[-1]) if len(found_jobs) > fits else None
    ids = [job[-1] for job in shown]
    return ids, _refs(conn, ids), following


def _fitting(conn: Connection, listing: Listing, ids: Sequence[int]) -> int:
    """Return how many of the jobs, from the first on, one answer may show: one at least, where there are any."""
    if not ids:
        return 0
    weigh = text(
        f"SELECT job_id, sum(length(json) + length(name) + {ROW_BYTES}) FROM {listing.rows}"  # noqa: S608  # our names
        " WHERE job_id IN :ids GROUP BY job_id"
    ).bindparams(bindparam("ids", expanding=True))
    weights = {job: int(weight) for job, weight in conn.execute(weigh, {"ids": list(ids)})}
    total = 0
    for i, job in enumerate(ids):
        total += weights.get(job, 0)
        if total > PAGE_BYTES and i:
            return i
    return len(ids)


def _refs(conn: Connection, ids: Sequence[int]) -> dict[int, queries.JobRef]:
    query = text(
        "SELECT j.id, r.name, j.train_id FROM jobs j JOIN roots r ON r.id = j.root_id WHERE j.id IN :ids"
    ).bindparams(bindparam("ids", expanding=True))
    return {row[0]: queries.JobRef(*row) for row in conn.execute(query, {"ids": list(ids)})}


# Lineage --------------------------------------------------------------------------------------------------------------
def lineages(site: Site, conn: Connection, values: Values) -> tuple[list[dict[str, Any]], str | None]:
    """Return a page of `/lineage`, and the cursor of the next."""
    ids, refs, following = _page(site, conn, LINEAGE, values)
    query = text(
        "SELECT l.job_id, l.section, l.key, l.name, l.json, l.wall_time FROM lineage l WHERE l.job_id IN :ids"
        " ORDER BY l.job_id, l.ordinal"
    ).bindparams(bindparam("ids", expanding=True))
    items: dict[int, dict[str, Any]] = {}
    for job in ids:
        items[job] = {
            "job": job,
            "root": refs[job].root,
            "train_id": refs[job].train_id,
            "wall_time": None,
            **{section: {} for section in SECTIONS},
            "dataset_graph": None,
            "values": {},
        }
    for job, section, key, name, value, wall_time in conn.execute(query, {"ids": ids}) if ids else ():
        item = items[job]
        if wall_time is not None and (item["wall_time"] is None or wall_time > item["wall_time"]):
            item["wall_time"] = wall_time
        if name:
            item[section][names.show(key)] = item["values"][names.show(name)] = json.loads(value)
        elif section == lineage.DATASET:
            item["dataset_graph"] = lineage.dataset_graph(json.loads(value))
    return [items[job] for job in ids], following


SECTIONS = (*dict.fromkeys(section for section, _ in lineage.NAMES), "metric", "user_defined")


# Hyperparameters ------------------------------------------------------------------------------------------------------
def hparams(site: Site, conn: Connection, values: Values) -> tuple[list[dict[str, Any]], str | None]:
    """Return a page of `/hparams`, and the cursor of the next."""
    ids, refs, following = _page(site, conn, HPARAMS, values)
    if not ids:
        return [], following
    query = text(
        "SELECT r.job_id, j.root_id, r.hparams, r.group_name, r.status, r.start_time, r.end_time, r.model_uri,"
        " r.monitor_url FROM hparam_runs r JOIN jobs j ON j.id = r.job_id WHERE r.job_id IN :ids"
    ).bindparams(bindparam("ids", expanding=True))
    rows = {row.job_id: row for row in conn.execute(query, {"ids": ids})}
    roots = {job: rows[job].root_id for job in ids}
    experiments = _experiments(conn, {job: (roots[job], refs[job].train_id) for job in ids})
    metrics = _metrics(conn, {job: (roots[job], refs[job].train_id) for job in ids}, experiments)
    items = []
    for job in ids:
        row = rows[job]
        experiment = experiments.get(job)
        items.append(
            {
                "job": job,
                "root": refs[job].root,
                "train_id": refs[job].train_id,
                "group_name": None if row.group_name is None else names.show(row.group_name),
                "status": row.status,
                "start_time": row.start_time,
                "end_time": row.end_time,
                "model_uri": None if row.model_uri is None else names.show(row.model_uri),
                "monitor_url": None if row.monitor_url is None else names.show(row.monitor_url),
                "hparams": json.loads(row.hparams),
                "metrics": metrics.get(job, {}),
                "experiment": None if experiment is None else experiment.job,
            }
        )
    return items, following


class Experiment(NamedTuple):
    """What runs are compared by."""

    job: int  # that holds it
    metrics: tuple[tuple[str, str], ...]  # group and tag


Place = tuple[int, str]
"""Root and train_id of a job."""

MAX_METRICS = 100
"""Of an experiment that are looked up."""


def _above(train_id: str) -> list[str]:
    """Return a job and the directories above it, nearest first."""
    parts = train_id.split("/")
    found = ["/".join(parts[:n]) for n in range(len(parts), 1, -1)]
    return [*(place for place in found if place != "./"), "./"]


def _experiments(conn: Connection, places: Mapping[int, Place]) -> dict[int, Experiment]:
    """Return the experiment of each job that has one."""
    above = {place: _above(place[1]) for place in set(places.values())}
    wanted = sorted({names.key(train_id) for found in above.values() for train_id in found})
    known: dict[Place, Experiment] = {}
    query = text(
        "SELECT j.root_id, j.train_id, r.job_id, r.experiment FROM jobs j JOIN hparam_runs r ON r.job_id = j.id"
        " WHERE j.train_key IN :keys AND r.experiment IS NOT NULL"
    ).bindparams(bindparam("keys", expanding=True))
    for i in range(0, len(wanted), _EXPERIMENTS_AT_ONCE):
        some = wanted[i : i + _EXPERIMENTS_AT_ONCE]
        for root, train_id, job, experiment in conn.execute(query, {"keys": some}):
            metrics = tuple((one["group"], one["tag"]) for one in json.loads(experiment)["metrics"][:MAX_METRICS])
            known[root, train_id] = Experiment(job, metrics)
    found = {}
    for job, (root, train_id) in places.items():
        nearest = next((known[root, up] for up in above[root, train_id] if (root, up) in known), None)
        if nearest is not None:
            found[job] = nearest
    return found


_AT_ONCE = 500
_EXPERIMENTS_AT_ONCE = 50  # they may be long


def _metrics(
    conn: Connection, places: Mapping[int, Place], experiments: Mapping[int, Experiment]
) -> dict[int, dict[str, float | None]]:
    """Return the last values of the metrics that experiments name: `group/tag`, or `tag` where there is no group.

    A group is a directory below that of the run.
    """
    jobs_: dict[Place, int] = {place: job for job, place in places.items()}
    grouped = {
        (root, _below(train_id, group))
        for job, (root, train_id) in places.items()
        if job in experiments
        for group, _ in experiments[job].metrics
        if group
    }
    of_groups = text("SELECT root_id, train_id, id FROM jobs WHERE train_key IN :keys").bindparams(
        bindparam("keys", expanding=True)
    )
    keys = sorted({names.key(train_id) for _, train_id in grouped})
    for i in range(0, len(keys), _AT_ONCE):
        for root, train_id, job in conn.execute(of_groups, {"keys": keys[i : i + _AT_ONCE]}):
            jobs_.setdefault((root, train_id), job)
    tags = sorted({names.store(tag) for one in experiments.values() for _, tag in one.metrics})
    asked = sorted(jobs_.values())
    query = text(
        "SELECT job_id, name, last_value FROM tags WHERE job_id IN :jobs AND name_key IN :keys AND name IN :names"
        " AND data_class = 'scalar' AND point_count > 0 ORDER BY id DESC"  # the first series of a name counts
    ).bindparams(*(bindparam(name, expanding=True) for name in ("jobs", "keys", "names")))
    last: dict[tuple[int, str], float | None] = {}
    for i in range(0, len(asked), _AT_ONCE):
        for k in range(0, len(tags), _AT_ONCE):
            some = tags[k : k + _AT_ONCE]
            values = {"jobs": asked[i : i + _AT_ONCE], "keys": [names.short_key(tag) for tag in some], "names": some}
            last |= {(job, name): value for job, name, value in conn.execute(query, values)}
    found: dict[int, dict[str, float | None]] = {}
    for job, (root, train_id) in places.items():
        for group, tag in experiments[job].metrics if job in experiments else ():
            owner = jobs_.get((root, _below(train_id, group))) if group else job
            key = (owner, names.store(tag))
            if owner is not None and key in last:
                value = last[owner, key[1]]
                found.setdefault(job, {})[f"{group}/{tag}" if group else tag] = math.nan if value is None else value
    return found


def _below(train_id: str, group: str) -> str:
    """Return the job of a metric's group."""
    return f"{train_id.rstrip('/')}/{names.store(group)}"


def view(page: Page) -> Callable[[Site, Connection, Values], Response]:
    """Return what renders pages as JSON."""

    def render(site: Site, conn: Connection, values: Values) -> Response:
        items, following = page(site, conn, values)
        return Response(respond.encode({"items": items, "next": following}), content_type=respond.JSON)

    return render


VIEWS = {LINEAGE_ROUTE: view(lineages), HPARAMS_ROUTE: view(hparams)}
