"""Statements of the indexer: roots, jobs, shards, tags, restarts, state. One transaction is the caller's affair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, text, update
from sqlalchemy.engine import Row

from indexer.config import Root as RootConfig
from indexer.db import schema
from indexer.db.dialect import POSTGRESQL, insert_new, upsert
from indexer.errors import Retry
from indexer.text import key, short_key, store
from indexer.types import CacheStatus

_TABLES = schema.METADATA.tables
ROOT, JOB, SHARD, TAG = (_TABLES[name] for name in ("roots", "jobs", "shards", "tags"))
ERROR, POINT, RESTART = (_TABLES[name] for name in ("shard_errors", "tensor_points", "restarts"))
SEGMENT, ROLLUP = _TABLES["tag_segments"], _TABLES["point_rollups"]
STATE, INDEXER = _TABLES["index_state"], _TABLES["indexers"]

SEGMENT_COLUMNS = (
    "tag_id",
    "ordinal",
    "shard_id",
    "first_step",
    "last_step",
    "first_seq",
    "last_seq",
    "count",
)

ERRORS_KEPT = 1_000
"""Rows of shard_errors a shard has at most; `bad_records` counts on."""

Values = Mapping[str, Any]


def _many(conn: Connection, statement: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    """Execute a statement once a row; return how many rows of the table it met.

    The driver gets the rows as they are: they hold plain numbers, text and bytes only, and SQLAlchemy's work on each
    would take longer than the insert. `columns` are the statement's parameters, in the order of the rows.
    """
    compiled = statement.compile(dialect=conn.dialect, column_keys=list(columns))
    names = compiled.positiontup
    given: Any = rows
    if names is None:
        given = [dict(zip(columns, row, strict=True)) for row in rows]
    elif list(names) != list(columns):
        pick = itemgetter(*(columns.index(name) for name in names))
        given = [pick(row) for row in rows]
    return conn.exec_driver_sql(str(compiled), given).rowcount


def _columns(rows: Sequence[Values]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return the names of mappings that are alike, and their values."""
    names = list(rows[0])
    return names, [tuple([row[name] for name in names]) for row in rows]


def register_root(conn: Connection, root: RootConfig) -> int:
    """Return the id of `root`, new or known: a named one by its name, another by its real path."""
    path = store(str(root.path))
    known = conn.execute(select(ROOT.c.id, ROOT.c.name, ROOT.c.path, ROOT.c.named)).all()
    if root.named:
        for row in known:
            if row.name == root.name and row.named:
                conn.execute(update(ROOT).where(ROOT.c.id == row.id).values(path=path))
                return int(row.id)
        for row in known:
            if row.name == root.name:  # had by chance: the one who chose it gets it
                other = _free_name(root.name, {r.name for r in known})
                conn.execute(update(ROOT).where(ROOT.c.id == row.id).values(name=other))
        name = root.name
    else:
        for row in known:
            if row.path == path and not row.named:
                return int(row.id)
        name = _free_name(root.name, {row.name for row in known})
    statement = insert_new(conn.dialect, ROOT).values(name=name, path=path, named=root.named).returning(ROOT.c.id)
    made = conn.execute(statement).scalar()
    if made is None:
        raise Retry(f"another indexer registered a root {name} at this moment; it is looked at again")
    return int(made)


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or with a number behind it where that is taken."""
    numbered = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def known_jobs(conn: Connection, root_ids: Sequence[int], *, above: int = 0) -> Sequence[Row[Any]]:
    """Return the rows of jobs below the roots with an id greater than `above`."""
    return conn.execute(select(JOB).where(JOB.c.root_id.in_(root_ids), JOB.c.id > above)).all()


def known_shards(conn: Connection, root_ids: Sequence[int], *, above: int = 0) -> Sequence[Row[Any]]:
    """Return the rows of shards below the roots, with an id greater than `above`, that no other file replaced."""
    query = select(SHARD).join(JOB, JOB.c.id == SHARD.c.job_id)
    return conn.execute(query.where(JOB.c.root_id.in_(root_ids), SHARD.c.id > above, SHARD.c.state != "replaced")).all()


def jobs_by_id(conn: Connection, job_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return rows of jobs."""
    return conn.execute(select(JOB).where(JOB.c.id.in_(job_ids))).all()


def shards_of(conn: Connection, job_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return the rows of shards of jobs that no other file replaced."""
    return conn.execute(select(SHARD).where(SHARD.c.job_id.in_(job_ids), SHARD.c.state != "replaced")).all()


def add_jobs(conn: Connection, jobs: Iterable[tuple[int, str, Values]]) -> None:
    """Insert jobs, given as (root_id, train_id, columns); one that another indexer was quicker to insert stays."""
    rows = [
        {"root_id": root, "train_id": store(train_id), "train_key": key(store(train_id)), **values}
        for root, train_id, values in jobs
    ]
    if rows:
        _many(conn, insert_new(conn.dialect, JOB), *_columns(rows))


def add_shards(conn: Connection, rows: Sequence[Values]) -> None:
    """Insert shards; one that another indexer was quicker to insert stays."""
    if rows:
        _many(conn, insert_new(conn.dialect, SHARD), *_columns(rows))


def update_rows(conn: Connection, table: Any, rows: Sequence[Values]) -> None:
    """Update rows by id; all have the same keys, of which `id` is one."""
    if rows:
        _update(conn, table, *_columns(rows), by=("id",))


def update_tags(conn: Connection, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Update tags; `columns` begin with `id`."""
    if rows:
        _update(conn, TAG, columns, rows, by=("id",))


def move_cursors(conn: Connection, rows: Sequence[Values]) -> None:
    """Update shards that are still where we left them (`was` = the cursor we know); Retry where one is not."""
    if rows and _update(conn, SHARD, *_columns(rows), by=("id", "was")) != len(rows):
        raise Retry("another indexer moved a cursor; this batch is dropped and read again")


def _update(
    conn: Connection, table: Any, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, by: Sequence[str]
) -> int:
    """Update rows that equal in the columns `by` (`was` stands for the cursor before); return how many there were."""
    where = [table.c["cursor" if name == "was" else name] == bindparam(f"b_{name}") for name in by]
    values: dict[str, Any] = {name: bindparam(f"b_{name}") for name in columns if name not in by}
    return _many(conn, update(table).where(*where).values(values), [f"b_{name}" for name in columns], rows)


def set_status(conn: Connection, job_ids: Sequence[int], to: CacheStatus) -> None:
    """Move jobs to a cache_status: the one place that does, and only along legal transitions."""
    if not job_ids:
        return
    legal = [JOB.c.cache_status == status.value for status in CacheStatus if status.may_become(to)]
    statement = update(JOB).where(JOB.c.id == bindparam("b_id"), or_(*legal)).values(cache_status=to.value)
    done = conn.execute(statement, [{"b_id": job} for job in job_ids])
    if done.rowcount != len(job_ids):
        raise Retry(f"a job could not become {to}: another indexer works on it; it is looked at again")


def bump(conn: Connection) -> int:
    """Raise the change counter; last in a transaction, since on PostgreSQL it queues the writers."""
    statement = update(STATE).values(change_counter=STATE.c.change_counter + 1).returning(STATE.c.change_counter)
    return int(conn.execute(statement).scalar_one())


def next_tag_ids(conn: Connection, count: int) -> list[int]:
    """Return ids for new tags. Gaps are harmless; on SQLite there is one writer."""
    if conn.dialect.name == POSTGRESQL:
        query = text("SELECT nextval(pg_get_serial_sequence('tags', 'id')) FROM generate_series(1, :n)")
        return sorted(conn.execute(query, {"n": count}).scalars())
    top = conn.execute(select(func.max(TAG.c.id))).scalar() or 0
    return list(range(top + 1, top + 1 + count))


def tags_of(conn: Connection, job_ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return all rows of tags of the jobs, in id order, each with its last segment and, where pending, its start."""
    last = (SEGMENT.c.tag_id == TAG.c.id) & (SEGMENT.c.ordinal == TAG.c.segments - 1)
    start = (RESTART.c.tag_id == TAG.c.id) & (RESTART.c.seq == TAG.c.seq) & (SEGMENT.c.last_seq < TAG.c.seq)
    query = (
        select(
            TAG,
            SEGMENT.c.shard_id,
            SEGMENT.c.first_step.label("segment_first_step"),
            SEGMENT.c.first_seq.label("segment_first_seq"),
            SEGMENT.c.last_step.label("segment_last_step"),
            SEGMENT.c.last_seq.label("segment_last_seq"),
            SEGMENT.c.count.label("segment_count"),
            RESTART.c.step.label("start_step"),
        )
        .select_from(TAG.outerjoin(SEGMENT, last).outerjoin(RESTART, start))
        .where(TAG.c.job_id.in_(job_ids))
        .order_by(TAG.c.id)
    )
    return conn.execute(query).all()


TAG_IDENTITY = ("job_id", "plugin", "name", "series_key", "name_key")


def tag_identity(job_id: int, plugin: str, name: str) -> tuple[int, str, str, bytes, int]:
    """Return the values of TAG_IDENTITY; `plugin` and `name` as in the file."""
    return job_id, *_named(plugin, name)


@lru_cache(maxsize=4_096)  # runs of a sweep have the same tags
def _named(plugin: str, name: str) -> tuple[str, str, bytes, int]:
    plugin, name = store(plugin), store(name)
    return plugin, name, key(plugin, name), short_key(name)


def add_tags(conn: Connection, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Insert tags with their statistics."""
    if rows:
        _many(conn, insert(TAG), columns, rows)


def put_segments(conn: Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Insert segments, or lengthen those that exist. The values are those of SEGMENT_COLUMNS."""
    if rows:
        _many(conn, upsert(conn.dialect, SEGMENT, ("tag_id", "ordinal")), SEGMENT_COLUMNS, rows)


def put(conn: Connection, table: Any, keys: Sequence[str], rows: Sequence[Values]) -> None:
    """Insert whole rows, or update those whose `keys` exist."""
    if rows:
        _many(conn, upsert(conn.dialect, table, keys), *_columns(rows))


def cursors_of(conn: Connection, shard_ids: Sequence[int]) -> dict[int, int]:
    """Return how far shards are read, by id."""
    query = select(SHARD.c.id, SHARD.c.cursor).where(SHARD.c.id.in_(shard_ids))
    return {row.id: row.cursor for row in conn.execute(query)}


def add_errors(conn: Connection, rows: Sequence[Values]) -> None:
    """Insert damage seen; what is known of an offset already keeps its reason, and its length follows the file."""
    if rows:
        _many(conn, upsert(conn.dialect, ERROR, ("shard_id", "offset"), update=("length",)), *_columns(rows))


def add_restarts(conn: Connection, rows: Sequence[Values]) -> None:
    """Insert restarts (the same (tag, seq) again: its step reaches further down) and drop those they dominate.

    A restart dominates an earlier one at the same or a higher step, unless the earlier one hides points in our views
    and the later one (same_file) does not.
    """
    if not rows:
        return
    put(conn, RESTART, ("tag_id", "seq"), rows)
    dominated = delete(RESTART).where(
        RESTART.c.tag_id == bindparam("b_tag_id"),
        RESTART.c.seq < bindparam("b_seq"),
        RESTART.c.step >= bindparam("b_step"),
        (RESTART.c.cause == "same_file") | (bindparam("b_cause") != "same_file"),
    )
    conn.execute(dominated, [{f"b_{k}": row[k] for k in ("tag_id", "seq", "step", "cause")} for row in rows])


def tags_above(conn: Connection, job_id: int, step: int) -> list[int]:
    """Return the tags of a job with a current point at or above `step`: those a session start there supersedes."""
    later = (
        select(RESTART.c.seq)
        .where(
            RESTART.c.tag_id == POINT.c.tag_id,
            RESTART.c.seq > POINT.c.seq,
            RESTART.c.step <= POINT.c.step,
            RESTART.c.cause != "same_file",
        )
        .exists()
    )
    current = select(POINT.c.seq).where(POINT.c.tag_id == TAG.c.id, POINT.c.step >= step, ~later).exists()
    query = select(TAG.c.id).where(TAG.c.job_id == job_id, TAG.c.max_step >= step, current)
    return [int(tag) for tag in conn.execute(query).scalars()]


def forget_tags(conn: Connection, job_id: int) -> None:
    """Delete all points of a job with their tags, restarts, segments and rollups."""
    tags = select(TAG.c.id).where(TAG.c.job_id == job_id)
    conn.execute(delete(POINT).where(POINT.c.tag_id.in_(tags)))
    conn.execute(delete(ROLLUP).where(ROLLUP.c.tag_id.in_(tags)))
    conn.execute(delete(TAG).where(TAG.c.job_id == job_id))


def forget_errors(conn: Connection, shard_ids: Sequence[int]) -> None:
    """Delete the damage seen in shards that are read again from their beginning."""
    conn.execute(delete(ERROR).where(ERROR.c.shard_id.in_(shard_ids)))


def claim(conn: Connection, owner: int, job_ids: Sequence[int], now: float, until: float) -> dict[int, int]:
    """Lease jobs to an indexer; return those it holds now with their revision. PostgreSQL only.

    A job is free when nobody holds it, or the holder's lease has run out. Others that claim at the same moment skip it.
    """
    free = (
        select(JOB.c.id)
        .where(
            JOB.c.id.in_(job_ids),
            (JOB.c.lease_owner.is_(None)) | (JOB.c.lease_owner == owner) | (JOB.c.lease_expires < now),
        )
        .with_for_update(skip_locked=True)
    )
    statement = (
        update(JOB)
        .where(JOB.c.id.in_(free))
        .values(lease_owner=owner, lease_expires=until, lease_generation=JOB.c.lease_generation + 1)
        .returning(JOB.c.id, JOB.c.revision)
    )
    return {row.id: row.revision for row in conn.execute(statement)}


def release(conn: Connection, owner: int, job_ids: Sequence[int] | None = None) -> None:
    """Give leases back: of `job_ids`, or all the indexer holds."""
    statement = update(JOB).where(JOB.c.lease_owner == owner)
    if job_ids is not None:
        statement = statement.where(JOB.c.id.in_(job_ids))
    conn.execute(statement.values(lease_owner=None, lease_expires=None))


def renew(conn: Connection, owner: int, until: float) -> None:
    """Keep the leases an indexer holds."""
    conn.execute(update(JOB).where(JOB.c.lease_owner == owner).values(lease_expires=until))


def abandoned(conn: Connection, root_ids: Sequence[int], now: float) -> None:
    """Say of jobs that a dead indexer left in CACHING that nobody loads them."""
    jobs = select(JOB.c.id).where(
        JOB.c.root_id.in_(root_ids),
        JOB.c.cache_status == CacheStatus.CACHING.value,
        (JOB.c.lease_owner.is_(None)) | (JOB.c.lease_expires < now),
    )
    set_status(conn, list(conn.execute(jobs).scalars()), CacheStatus.NOT_IN_CACHE)


def enter(conn: Connection, host: str, pid: int, version: str, now: float) -> int:
    """Register an indexer; rows of ended or long silent ones go. Return its id."""
    conn.execute(delete(INDEXER).where((INDEXER.c.state == "stopped") | (INDEXER.c.heartbeat < now - 86_400)))
    row = {"host": host, "pid": pid, "version": version, "started_at": now, "heartbeat": now, "state": "scanning"}
    return int(conn.execute(insert(INDEXER).values(row).returning(INDEXER.c.id)).scalar_one())


def beat(conn: Connection, indexer: int, now: float, state: str, message: str | None) -> None:
    """Say that an indexer lives, and what it does."""
    conn.execute(update(INDEXER).where(INDEXER.c.id == indexer).values(heartbeat=now, state=state, message=message))


def scanned(conn: Connection, now: float) -> None:
    """Note the end of a whole scan."""
    conn.execute(update(STATE).values(scanned_at=now))
