"""Every SELECT of the web: a frozen request in, frozen rows out, a fixed number of statements each.

Lists come from statistics; points are only read by `points` and `page_of_points`, curves by webapi.curves. Text sorts
by its bytes on both databases (a PostgreSQL database may have any collation), and by its first `SORTED_CHARACTERS`, so
that a cursor stays short whatever a name holds. Where thousands of rows may come, they are the driver's tuples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Select,
    and_,
    bindparam,
    column,
    exists,
    func,
    or_,
    select,
    table,
    tuple_,
)
from sqlalchemy.exc import DBAPIError

from indexer import text as names
from indexer.db.dialect import POSTGRESQL
from indexer.db.health import IndexerRow, indexers
from indexer.db.schema import (
    INDEX_STATE,
    JOB,
    RESTART,
    ROOT,
    SHARD,
    SHARD_ERROR,
    TAG,
    TENSOR_POINT,
)
from indexer.db.space import Space, space
from indexer.errors import Refuse
from indexer.types import CacheStatus, RestartCause
from indexer.version import REVISION, VERSION_TABLE
from webapi.errors import Malformed, Unknown
from webapi.respond import Small

SORTED_CHARACTERS = 500
ERRORS_A_FILE = 100
ERRORS_A_PAGE = 10_000
POINT_ROUNDS = 16
"""How often `points` looks for more rows before it answers with a short page."""

_END = (2**63 - 1, 2**31 - 1)  # (step, seq) behind which a series has no point
_SUPERSEDES = (RestartCause.SESSION_START, RestartCause.NEW_FILE)
_ID = re.compile("[0-9]{1,18}", re.ASCII)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_VERSION = table(VERSION_TABLE, column("version_num"))


# Requests -------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class JobsWanted:
    """A page of jobs. `sort` is a field of JobRow; `after` is the sort key and id of the row before the page."""

    limit: int
    root: str | None = None
    q: str | None = None
    cache_status: str | None = None
    plugin: str | None = None
    sort: str = "update_time"
    descending: bool = True
    after: tuple[float | str | None, int] | None = None


@dataclass(frozen=True, slots=True)
class TagsWanted:
    """A page of a job's tags. `after` is name, plugin and id of the row before the page."""

    job: int
    limit: int
    plugin: str | None = None
    q: str | None = None
    after: tuple[str, str, int] | None = None


@dataclass(frozen=True, slots=True)
class SeriesWanted:
    """Some series. No jobs: all of them; no tags: all of them. Names as they are shown, not as they are stored."""

    limit: int
    jobs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    plugin: str | None = None
    after: int | None = None  # tag id


@dataclass(frozen=True, slots=True)
class Range:
    """Which points of a series: steps from `first` to `last`, both included; `superseded` ones too."""

    first: int | None = None
    last: int | None = None
    superseded: bool = False


# Rows -----------------------------------------------------------------------------------------------------------------
class State(NamedTuple):
    """What every answer derives from: it changes with every commit of the indexer."""

    database_id: str
    change_counter: int


class JobRef(NamedTuple):
    """A job as it is named, with the change counter of its last commit."""

    id: int
    root: str
    train_id: str
    revision: int = 0


class JobRow(NamedTuple):
    """A job with its root's name and the damage in its files."""

    id: int
    root_id: int
    root: str
    train_id: str
    cache_status: str
    create_time: float | None
    update_time: float | None
    start_time: float | None
    bytes_on_disk: int
    bytes_indexed: int
    point_count: int
    missing_since: float | None
    last_error: str | None
    access_time: float | None
    evicted_at: float | None
    pruned_at: float | None
    revision: int
    bad_records: int = 0
    bad_bytes: int = 0


class ShardRow(NamedTuple):
    """A file of a job; `errors` are the first of `error_count` (offset, length, reason)."""

    id: int
    name: str
    generation: int
    kind: str
    format: str
    state: str
    cursor: int
    size: int
    mtime_ns: int
    file_id: str | None
    record_count: int
    bad_records: int
    bad_bytes: int
    error_count: int = 0
    errors: tuple[tuple[int, int, str], ...] = ()


class TagRow(NamedTuple):
    """A tag with its statistics."""

    id: int
    name: str
    plugin: str
    point_count: int
    first_step: int | None
    last_step: int | None
    min_step: int | None
    max_step: int | None
    first_wall_time: float | None
    last_wall_time: float | None
    max_wall_time: float | None
    last_value: float | None
    min_value: float | None
    max_value: float | None
    nan_count: int
    pos_inf_count: int
    neg_inf_count: int
    max_length: int
    data_class: str
    content: bytes | None
    display_name: str | None
    description: str | None


class SeriesRow(NamedTuple):
    """A tag with its job: what reading its points needs to know."""

    id: int
    job_id: int
    train_id: str
    name: str
    plugin: str
    data_class: str
    point_count: int
    first_wall_time: float | None
    rolled_count: int


PointRow = tuple[int, int, int, float | None, float | None]
"""A point: tag_id, step, seq, wall_time, value."""


class Health(NamedTuple):
    """How the database and its indexer are."""

    state: State
    space: Space
    indexers: list[IndexerRow]  # the one heard of last first
    scanned_at: float | None
    jobs: dict[str, int]  # cache_status → how many
    bytes_behind: int  # on disk and not indexed


_JOB_COLUMNS: dict[str, ColumnElement[Any]] = {
    "id": JOB.c.id,
    "root_id": JOB.c.root_id,
    "root": ROOT.c.name,
    **{
        name: JOB.c[name]
        for name in JobRow._fields
        if name not in {"id", "root_id", "root", "bad_records", "bad_bytes"}
    },
}
SORTS: dict[str, type | tuple[type, ...]] = {
    "id": Small,
    "root_id": Small,
    "root": str,
    "train_id": str,
    "cache_status": str,
    "create_time": (float, int),
    "update_time": (float, int),
    "start_time": (float, int),
    "bytes_on_disk": int,
    "bytes_indexed": int,
    "point_count": int,
    "missing_since": (float, int),
    "last_error": str,
    "access_time": (float, int),
    "evicted_at": (float, int),
    "pruned_at": (float, int),
    "revision": int,
}
"""What `/jobs` sorts by, with the types a cursor may hold."""

_SHARD_COLUMNS = [SHARD.c[name] for name in ShardRow._fields if not name.startswith("error")]
_ERROR_COLUMNS = [SHARD_ERROR.c[name] for name in ("shard_id", "offset", "length", "reason")]
_TAG_COLUMNS = [TAG.c[name] for name in TagRow._fields]
_SERIES_COLUMNS = [
    TAG.c.id,
    TAG.c.job_id,
    JOB.c.train_id,
    *(TAG.c[name] for name in SeriesRow._fields if name not in {"id", "job_id", "train_id"}),
]
_RESTARTED = (
    select(RESTART.c.tag_id)
    .where(RESTART.c.tag_id.in_(bindparam("tags", expanding=True)), RESTART.c.cause.in_(_SUPERSEDES))
    .limit(1)
)


# The database ---------------------------------------------------------------------------------------------------------
def state(conn: Connection) -> State:
    """Return what answers derive from, in one statement. Refuse where the schema is not the one we speak."""
    speaks = select(_VERSION.c.version_num).scalar_subquery().label("version_num")
    row = conn.execute(select(INDEX_STATE.c.database_id, INDEX_STATE.c.change_counter, speaks)).first()
    if row is None:
        raise Refuse("the database is empty: run `summarydb up LOGDIR` or `summarydb db upgrade` first")
    if row.version_num != REVISION:
        remedy = "run `summarydb db upgrade`" if (row.version_num or "") < REVISION else "install a newer summarydb"
        raise Refuse(f"the database has schema {row.version_num}, this program needs {REVISION}: {remedy}")
    return State(row.database_id, row.change_counter)


def health(conn: Connection) -> Health:
    """Return how the database and its indexer are."""
    found = state(conn)
    behind = func.coalesce(func.sum(JOB.c.bytes_on_disk - JOB.c.bytes_indexed), 0)
    counts = conn.execute(select(JOB.c.cache_status, func.count(), behind).group_by(JOB.c.cache_status)).all()
    return Health(
        state=found,
        space=space(conn),
        indexers=indexers(conn),
        scanned_at=conn.execute(select(INDEX_STATE.c.scanned_at)).scalar(),
        jobs={status.value: 0 for status in CacheStatus} | {row[0]: row[1] for row in counts},
        bytes_behind=max(0, sum(int(row[2]) for row in counts)),
    )


# Jobs -----------------------------------------------------------------------------------------------------------------
def named(conn: Connection, references: Sequence[str]) -> dict[str, list[JobRef]]:
    """Return the jobs that each reference names: an id, a train_id, or `root:train_id`. At most two statements."""
    ids = {int(reference) for reference in references if _ID.fullmatch(reference) and int(reference) < 2**31}
    keys = {names.key(_split(reference)[1]) for reference in references if not _ID.fullmatch(reference)}
    found: list[JobRef] = []
    refs = select(JOB.c.id, ROOT.c.name, JOB.c.train_id, JOB.c.revision).join_from(JOB, ROOT).order_by(JOB.c.id)
    for condition in (JOB.c.id.in_(ids) if ids else None, JOB.c.train_key.in_(keys) if keys else None):
        if condition is not None:
            found += [JobRef(*row) for row in conn.execute(refs.where(condition))]
    matches: dict[str, list[JobRef]] = {}
    for reference in references:
        if _ID.fullmatch(reference):
            matches[reference] = [ref for ref in found if ref.id == int(reference)][:1]
        else:
            root, train_id = _split(reference)
            matches[reference] = [r for r in found if r.train_id == train_id and root in {None, r.root}]
    return matches


def job_of_tag(conn: Connection, tag_id: int) -> list[JobRef]:
    """Return the job of a tag, if it is still there."""
    refs = select(JOB.c.id, ROOT.c.name, JOB.c.train_id).join(ROOT, ROOT.c.id == JOB.c.root_id)
    return [JobRef(*row) for row in conn.execute(refs.join(TAG, TAG.c.job_id == JOB.c.id).where(TAG.c.id == tag_id))]


def only(reference: str, matches: Sequence[JobRef], parameter: str) -> JobRef:
    """Return the one job that `reference` names; Unknown where there is none, Malformed where there are several."""
    if not matches:
        raise Unknown(parameter, f"no job {_shown(reference)}: /api/v1/jobs lists them")
    if len(matches) > 1:
        candidates = ", ".join(f"{ref.root}:{ref.train_id}" for ref in matches)
        raise Malformed(parameter, f"names a job of several roots; write one of {candidates}, or its id")
    return matches[0]


def in_path(conn: Connection, rest: str, suffixes: Sequence[str]) -> tuple[JobRef, str]:
    """Return the job and the suffix ("" or one of `suffixes`) that the path below `/jobs/` names.

    A train_id may end like a suffix, so a job of the whole path goes first. Clients drop `./` from a path they are
    given unquoted, so it is put back where nothing else fits.
    """
    written = [(rest, ""), *((rest.removesuffix(suffix), suffix) for suffix in suffixes if rest.endswith(suffix))]
    candidates = [(ref, suffix) for ref, suffix in written if _ID.fullmatch(ref) or "./" in ref]
    candidates += [(f"./{ref}", suffix) for ref, suffix in written if not rest[:1].isdigit() and ref[:2] != "./"]
    matches = named(conn, [ref for ref, _ in candidates])
    for reference, suffix in candidates:
        if matches[reference]:
            return only(reference, matches[reference], "id"), suffix
    raise Unknown("id", f"no job {_shown(written[-1][0])}: /api/v1/jobs lists them")


def jobs(conn: Connection, wanted: JobsWanted) -> tuple[list[JobRow], bool]:
    """Return a page of jobs, and whether more follow. Two statements; NULLs sort last in both directions."""
    query = _jobs()
    if wanted.root is not None:
        query = query.where(ROOT.c.name == stored(wanted.root))
    if wanted.q is not None:
        query = query.where(JOB.c.train_id.icontains(stored(wanted.q), autoescape=True))
    if wanted.cache_status is not None:
        query = query.where(JOB.c.cache_status == wanted.cache_status)
    if wanted.plugin is not None:
        with_plugin = exists().where(TAG.c.job_id == JOB.c.id, TAG.c.plugin == names.store(wanted.plugin))
        query = query.where(with_plugin)
    key = _JOB_COLUMNS[wanted.sort]
    if SORTS[wanted.sort] is str:
        key = _bytewise(conn, key)
    if wanted.after is not None:
        query = query.where(_beyond(key, *wanted.after, descending=wanted.descending))
    order = (key.desc(), JOB.c.id.desc()) if wanted.descending else (key.asc(), JOB.c.id.asc())
    rows = conn.execute(query.order_by(order[0].nulls_last(), order[1]).limit(wanted.limit + 1)).all()
    return _with_damage(conn, [JobRow(*row) for row in rows[: wanted.limit]]), len(rows) > wanted.limit


def job(conn: Connection, job_id: int) -> JobRow:
    """Return one job."""
    rows = [JobRow(*row) for row in conn.execute(_jobs().where(JOB.c.id == job_id))]
    return _with_damage(conn, rows)[0]


def jobs_behind(conn: Connection, revision: int, job_id: int, *, limit: int) -> tuple[list[JobRow], bool]:
    """Return a page of jobs by revision and id behind these, and whether more follow. Two statements."""
    query = _jobs().where(tuple_(JOB.c.revision, JOB.c.id) > (revision, job_id))
    rows = conn.execute(query.order_by(JOB.c.revision, JOB.c.id).limit(limit + 1)).all()
    return _with_damage(conn, [JobRow(*row) for row in rows[:limit]]), len(rows) > limit


def _jobs() -> Select[Any]:
    return select(*_JOB_COLUMNS.values()).join_from(JOB, ROOT, ROOT.c.id == JOB.c.root_id)


def _with_damage(conn: Connection, rows: list[JobRow]) -> list[JobRow]:
    damaged = (
        select(SHARD.c.job_id, func.sum(SHARD.c.bad_records), func.sum(SHARD.c.bad_bytes))
        .where(SHARD.c.job_id.in_([row.id for row in rows]))
        .group_by(SHARD.c.job_id)
    )
    damage = {job_id: (int(records), int(size)) for job_id, records, size in conn.execute(damaged)} if rows else {}
    clean = (0, 0)
    return [
        row._replace(bad_records=damage.get(row.id, clean)[0], bad_bytes=damage.get(row.id, clean)[1]) for row in rows
    ]


# Files and tags of a job ----------------------------------------------------------------------------------------------
def shards(conn: Connection, job_id: int, *, limit: int, after: int | None) -> tuple[list[ShardRow], bool]:
    """Return a page of a job's files by id, and whether more follow. Three statements at most."""
    query = select(*_SHARD_COLUMNS).where(SHARD.c.job_id == job_id).order_by(SHARD.c.id).limit(limit + 1)
    if after is not None:
        query = query.where(SHARD.c.id > after)
    rows = [ShardRow(*row) for row in conn.execute(query).all()]
    more, rows = len(rows) > limit, rows[:limit]
    damaged = [row.id for row in rows if row.bad_records or row.bad_bytes]
    if not damaged:
        return rows, more
    of_them = SHARD_ERROR.c.shard_id.in_(damaged)
    counted = select(SHARD_ERROR.c.shard_id, func.count()).where(of_them).group_by(SHARD_ERROR.c.shard_id)
    counts = {row[0]: row[1] for row in conn.execute(counted)}
    within = func.row_number().over(partition_by=SHARD_ERROR.c.shard_id, order_by=SHARD_ERROR.c.offset)
    numbered = select(*_ERROR_COLUMNS, within.label("ordinal"))
    first = numbered.where(of_them).subquery()
    errors: dict[int, list[tuple[int, int, str]]] = {}
    for shard, offset, length, reason in conn.execute(
        select(first.c.shard_id, first.c.offset, first.c.length, first.c.reason)
        .where(first.c.ordinal <= ERRORS_A_FILE)
        .order_by(first.c.shard_id, first.c.offset)
        .limit(ERRORS_A_PAGE)
    ):
        errors.setdefault(shard, []).append((offset, length, reason))
    return [row._replace(error_count=counts.get(row.id, 0), errors=tuple(errors.get(row.id, ()))) for row in rows], more


def tags(conn: Connection, wanted: TagsWanted) -> tuple[list[tuple[Any, ...]], bool]:
    """Return a page of a job's tags by name, plugin and id, and whether more follow. One statement.

    The rows are plain tuples in the order of TagRow's fields.
    """
    query = select(*_TAG_COLUMNS).where(TAG.c.job_id == wanted.job)
    if wanted.plugin is not None:
        query = query.where(TAG.c.plugin == names.store(wanted.plugin))
    if wanted.q is not None:
        query = query.where(TAG.c.name.icontains(names.store(wanted.q), autoescape=True))
    key = (_bytewise(conn, TAG.c.name), _bytewise(conn, TAG.c.plugin), TAG.c.id)
    if wanted.after is not None:
        query = query.where(tuple_(*key) > wanted.after)
    rows = tuples(conn, query.order_by(*key).limit(wanted.limit + 1))
    return rows[: wanted.limit], len(rows) > wanted.limit


# Series and points ----------------------------------------------------------------------------------------------------
def jobs_of(conn: Connection, wanted: SeriesWanted) -> list[JobRef] | None:
    """Return the jobs that a request names, None where it names none. Two statements at most."""
    if not wanted.jobs:
        return None
    matches = named(conn, wanted.jobs)
    return [only(reference, matches[reference], "job") for reference in wanted.jobs]


def series(conn: Connection, wanted: SeriesWanted, among: Sequence[JobRef] | None) -> tuple[list[SeriesRow], bool]:
    """Return series of the jobs `among` (None: all) by tag id, and whether more follow. Two statements at most.

    Unknown where none of the jobs has a tag that is asked for.
    """
    shown = {names.store(tag): tag for tag in wanted.tags}
    chosen = []
    if among is not None:
        chosen.append(TAG.c.job_id.in_({ref.id for ref in among}))
    if shown:
        chosen.append(TAG.c.name_key.in_({names.short_key(name) for name in shown}))
        chosen.append(TAG.c.name.in_(shown))
    query = select(*_SERIES_COLUMNS).join_from(TAG, JOB, JOB.c.id == TAG.c.job_id).where(*chosen)
    if wanted.plugin is not None:
        query = query.where(TAG.c.plugin == names.store(wanted.plugin))
    if wanted.after is not None:
        query = query.where(TAG.c.id > wanted.after)
    rows = list(map(SeriesRow._make, tuples(conn, query.order_by(TAG.c.id).limit(wanted.limit + 1))))
    unseen = shown.keys() - {row.name for row in rows}
    if unseen:
        unseen -= set(conn.execute(select(TAG.c.name).where(*chosen).distinct()).scalars())
    if unseen:
        missing = next(name for name in shown if name in unseen)
        whose = "no job has" if among is None else "none of the named jobs has"
        raise Unknown("tag", f"{whose} a tag {_shown(shown[missing])}: /api/v1/jobs/{{id}}/tags lists them")
    return rows[: wanted.limit], len(rows) > wanted.limit


def page_of_points(
    conn: Connection, tags_: Sequence[int], chosen: Range, *, limit: int, after: tuple[int, int] | None = None
) -> list[PointRow]:
    """Return at most `limit` points of the tags, by tag, step and seq, behind the (step, seq) `after`.

    Of several tags only with few points in all: both databases may sort them then.
    """
    point = TENSOR_POINT.c
    query = select(point.tag_id, point.step, point.seq, point.wall_time, point.value)
    if len(tags_) == 1:
        query = query.where(point.tag_id == tags_[0]).order_by(point.step, point.seq)
    else:
        query = query.where(point.tag_id.in_(tags_)).order_by(point.tag_id, point.step, point.seq)
    if after is not None:
        query = query.where(tuple_(point.step, point.seq) > after)
    if chosen.first is not None:
        query = query.where(point.step >= chosen.first)
    if chosen.last is not None:
        query = query.where(point.step <= chosen.last)
    if not chosen.superseded and tuples(conn, _RESTARTED, {"tags": list(tags_)}):
        later = exists().where(
            RESTART.c.tag_id == point.tag_id,
            RESTART.c.seq > point.seq,
            RESTART.c.step <= point.step,
            RESTART.c.cause.in_(_SUPERSEDES),
        )
        query = query.where(~later)
    return tuples(conn, query.limit(limit))


def after_series(tag_id: int) -> tuple[int, int, int]:
    """Return the position behind every point of a series, as `points` takes it."""
    return tag_id, *_END


def series_before(position: tuple[int, int, int]) -> int:
    """Return the tag id behind which the series begin that have points behind `position`."""
    return position[0] if position[1:] == _END else position[0] - 1


def points(
    conn: Connection, rows: Sequence[SeriesRow], chosen: Range, *, limit: int, after: tuple[int, int, int] | None
) -> tuple[list[PointRow], tuple[int, int, int] | None]:
    """Return a page of points of the series `rows` (by tag id), and the (tag, step, seq) to go on behind.

    A page may be short, and even empty, where a range leaves out most points: it ends after POINT_ROUNDS rounds of at
    most two statements.
    """
    found: list[PointRow] = []
    waiting = [row for row in rows if row.point_count > 0 and (after is None or after_series(row.id) > after)]
    within = after[1:] if after is not None and waiting and waiting[0].id == after[0] else None
    for _ in range(POINT_ROUNDS):
        if not waiting:
            return found, None
        missing = limit - len(found)
        # Series that fit whole are read at once; the next one, or the one we are in, by its own range.
        several, fit = 0, 0
        if within is None:
            while several < len(waiting) and fit + waiting[several].point_count <= missing:
                fit += waiting[several].point_count
                several += 1
        if several:
            found += page_of_points(conn, [row.id for row in waiting[:several]], chosen, limit=missing)
            last = after_series(waiting[several - 1].id)
            waiting = waiting[several:]
        else:
            page = page_of_points(conn, [waiting[0].id], chosen, limit=missing + 1, after=within)
            found += page[:missing]
            if len(page) > missing:
                return found, found[-1][:3]
            last = after_series(waiting[0].id)
            waiting = waiting[1:]
        within = None
        if len(found) == limit and waiting:
            return found, last
    return found, last if waiting else None


# Parts ----------------------------------------------------------------------------------------------------------------
def tuples(conn: Connection, statement: Executable, values: Mapping[str, Any] | None = None) -> list[Any]:
    """Return all rows as the driver's tuples: SQLAlchemy's own take as long again as reading them."""
    cursor: Any = conn.execute(statement, values).cursor
    try:
        rows: list[Any] = cursor.fetchall()
    except conn.dialect.loaded_dbapi.Error as e:  # SQLite computes rows as they are fetched, where a deadline may cut
        raise DBAPIError.instance(None, None, e, conn.dialect.loaded_dbapi.Error, dialect=conn.dialect) from e
    return rows


def stored(name: str) -> str:
    """Return a name as the database holds it, given as we show it: file names go out as they are stored."""
    return names.store(name) if _UNSTORABLE.search(name) else name


def _split(reference: str) -> tuple[str | None, str]:
    """Return root and train_id of a reference that is no id."""
    if not reference.startswith("./"):
        root, colon, train_id = reference.partition(":./")
        if colon:
            return stored(root), stored(f"./{train_id}")
    return None, stored(reference)


def _shown(name: str) -> str:
    return repr(name if len(name) <= 200 else name[:200] + "...")


def sorted_part(value: float | str | None) -> float | str | None:
    """Return the part of a sort key that orders rows, and that a cursor holds."""
    return value[:SORTED_CHARACTERS] if isinstance(value, str) else value


def _bytewise(conn: Connection, text_column: ColumnElement[Any]) -> ColumnElement[Any]:
    part: ColumnElement[Any] = func.substr(text_column, 1, SORTED_CHARACTERS)
    return part.collate("C") if conn.dialect.name == POSTGRESQL else part


def _beyond(
    key: ColumnElement[Any], value: float | str | None, row_id: int, *, descending: bool
) -> ColumnElement[bool]:
    """Return the condition that a row comes after (value, row_id); NULLs come last."""
    later = JOB.c.id < row_id if descending else JOB.c.id > row_id
    if value is None:
        return and_(key.is_(None), later)
    return or_(key < value if descending else key > value, and_(key == value, later), key.is_(None))
