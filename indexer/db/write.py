"""Statements of the indexer: roots, jobs, shards, tags, restarts, state. One transaction is the caller's affair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain, count
from typing import Any, NamedTuple

from indexer.config import Root as RootConfig
from indexer.db import postgresql
from indexer.db.connection import Connection, Row, among
from indexer.errors import Refuse, Retry
from indexer.text import key, short_key, store
from indexer.types import CacheStatus, RestartCause
from indexer.version import REVISION, VERSION_TABLE

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

UNREAD = {
    "cursor": 0,
    "mtime_ns": 0,
    "file_id": None,
    "fingerprint": None,
    "tail": None,
    "record_count": 0,
    "bad_records": 0,
    "bad_bytes": 0,
    "lost_since": None,
}
"""Columns of a shard of which nothing is read."""

_VALUES = 999  # parameters of one statement that every SQLite takes

Values = Mapping[str, Any]


class JobRow(NamedTuple):
    """What the indexer remembers of a job."""

    id: int
    root_id: int
    train_id: str
    cache_status: str
    create_time: float | None
    update_time: float | None
    start_time: float | None
    point_count: int
    missing_since: float | None
    last_error: str | None
    access_time: float | None
    evicted_at: float | None
    pruned_at: float | None
    revision: int
    listed_create_time: float | None
    listed_update_time: float | None
    explain_create_time: float | None
    explain_update_time: float | None
    profiler_dir: str | None
    profiler_type: str | None
    graph_mode: str | None
    dump_dir: str | None


class ShardRow(NamedTuple):
    """What the indexer remembers of a file."""

    id: int
    job_id: int
    name: str
    generation: int
    kind: str
    format: str
    cursor: int
    size: int
    mtime_ns: int
    file_id: str | None
    fingerprint: bytes | None
    tail: bytes | None
    state: str
    record_count: int
    bad_records: int
    bad_bytes: int
    lost_since: int | None
    kept: bool  # points of it are aside, see db/kept.py


class TagRow(NamedTuple):
    """A tag with its last segment and, while no point followed it, the session start behind it."""

    id: int
    job_id: int
    plugin: str
    name: str
    data_class: str
    metadata: bytes | None
    content: bytes | None
    display_name: str | None
    description: str | None
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
    seq: int
    segments: int
    rolled_count: int
    rolled_step: int | None
    segment_shard_id: int | None
    segment_first_step: int
    segment_first_seq: int
    segment_last_step: int
    segment_last_seq: int
    segment_count: int
    start_step: int | None


_OF_TAG = TagRow._fields[: TagRow._fields.index("segment_shard_id")]
_OF_SEGMENT = ("shard_id", "first_step", "first_seq", "last_step", "last_seq", "count")
_JOBS = f"SELECT {', '.join(JobRow._fields)} FROM jobs"
_KEPT = "EXISTS (SELECT 1 FROM {} k WHERE k.shard_id = s.id)"
_SHARDS = (
    f"SELECT {', '.join(f's.{name}' for name in ShardRow._fields[:-1])}, "
    f"{_KEPT.format('kept_segments')} OR {_KEPT.format('kept_starts')} FROM shards s"
)


# How statements are written -------------------------------------------------------------------------------------------
def _names(columns: Iterable[str]) -> str:
    """Return columns as SQL; `offset` is a word of its own on PostgreSQL."""
    return ", ".join(f'"{name}"' for name in columns)


@lru_cache(maxsize=64)
def _insert(table: str, columns: Sequence[str], rows: int = 1) -> str:
    one = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({_names(columns)}) VALUES {', '.join([one] * rows)}"


@lru_cache(maxsize=64)
def _upsert(table: str, columns: Sequence[str], keys: Sequence[str], changed: Sequence[str]) -> str:
    """Return an INSERT that updates the columns `changed` where a row with these keys exists."""
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in changed)
    return f"{_insert(table, columns)} ON CONFLICT ({_names(keys)}) DO UPDATE SET {changes}"


@lru_cache(maxsize=64)
def _update(table: str, columns: Sequence[str], by: Sequence[str]) -> str:
    changes = ", ".join(f'"{name}" = ?' for name in columns)
    return f"UPDATE {table} SET {changes} WHERE {' AND '.join(f'{name} = ?' for name in by)}"


def _turned(rows: Sequence[Values], last: Sequence[str]) -> tuple[tuple[str, ...], list[Row]]:
    """Return the columns of mappings that are alike, without `last`, and their values, those of `last` at the end."""
    names = tuple(name for name in rows[0] if name not in last)
    order = (*names, *last)
    return names, [tuple([row[name] for name in order]) for row in rows]


# Roots, jobs and shards -----------------------------------------------------------------------------------------------
def register_root(conn: Connection, root: RootConfig) -> int:
    """Return the id of `root`, new or known: a named one by its name, another by its real path."""
    path = store(str(root.path))
    known = conn.execute("SELECT id, name, path, named FROM roots").fetchall()
    if root.named:
        for id_, name, _, named in known:
            if name == root.name and named:
                conn.execute("UPDATE roots SET path = ? WHERE id = ?", (path, id_))
                return int(id_)
        for id_, name, _, _ in known:
            if name == root.name:  # had by chance: the one who chose it gets it
                other = _free_name(root.name, {row[1] for row in known})
                conn.execute("UPDATE roots SET name = ? WHERE id = ?", (other, id_))
        wanted = root.name
    else:
        for id_, _, known_path, named in known:
            if known_path == path and not named:
                return int(id_)
        wanted = _free_name(root.name, {row[1] for row in known})
    insert = "INSERT INTO roots (name, path, named) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING id"
    made = conn.execute(insert, (wanted, path, root.named)).fetchall()
    if not made:
        raise Retry(f"another indexer registered a root {wanted} at this moment; it is looked at again")
    return int(made[0][0])


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or with a number behind it where that is taken."""
    numbered = (f"{name}-{number}" for number in count(2))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def known_jobs(conn: Connection, root_ids: Sequence[int], *, above: int = 0) -> list[JobRow]:
    """Return the jobs below the roots with an id greater than `above`."""
    query = f"{_JOBS} WHERE root_id IN ({among(root_ids)}) AND id > ?"
    return [JobRow._make(row) for row in conn.execute(query, (above,))]


def known_shards(conn: Connection, root_ids: Sequence[int], *, above: int = 0) -> list[ShardRow]:
    """Return the shards below the roots, with an id greater than `above`, that no other file replaced."""
    query = (
        f"{_SHARDS} JOIN jobs j ON j.id = s.job_id "
        f"WHERE j.root_id IN ({among(root_ids)}) AND s.id > ? AND s.state <> 'replaced'"
    )
    return [ShardRow._make(row) for row in conn.execute(query, (above,))]


def jobs_by_id(conn: Connection, job_ids: Sequence[int]) -> list[JobRow]:
    """Return jobs."""
    return [JobRow._make(row) for row in conn.execute(f"{_JOBS} WHERE id IN ({among(job_ids)})")]


def shards_of(conn: Connection, job_ids: Sequence[int]) -> list[ShardRow]:
    """Return the shards of jobs that no other file replaced."""
    query = f"{_SHARDS} WHERE s.job_id IN ({among(job_ids)}) AND s.state <> 'replaced'"
    return [ShardRow._make(row) for row in conn.execute(query)]


def add_jobs(conn: Connection, jobs: Iterable[tuple[int, str, Values]]) -> None:
    """Insert jobs, given as (root_id, train_id, columns); one that another indexer was quicker to insert stays."""
    rows = [
        {"root_id": root, "train_id": store(train_id), "train_key": key(store(train_id)), **values}
        for root, train_id, values in jobs
    ]
    _add(conn, "jobs", rows)


def add_shards(conn: Connection, rows: Sequence[Values]) -> None:
    """Insert shards; one that another indexer was quicker to insert stays."""
    _add(conn, "shards", rows)


def _add(conn: Connection, table: str, rows: Sequence[Values]) -> None:
    if rows:
        names, values = _turned(rows, ())
        if not postgresql.insert_new(conn, table, names, values):
            conn.many(f"{_insert(table, names)} ON CONFLICT DO NOTHING", values)


def update_jobs(conn: Connection, rows: Sequence[Values]) -> None:
    """Update jobs by id; all rows have the same keys, of which `id` is one."""
    _update_by_id(conn, "jobs", rows)


def update_shards(conn: Connection, rows: Sequence[Values]) -> None:
    """Update shards by id; all rows have the same keys, of which `id` is one."""
    _update_by_id(conn, "shards", rows)


def rename_shards(conn: Connection, names: Sequence[tuple[int, str]]) -> None:
    """Give shards, by id, the names their files have now, in this order; those of which nothing is read give way."""
    of_job = "job_id = (SELECT job_id FROM shards WHERE id = ?)"
    taken = f"SELECT 1 FROM shards WHERE {of_job} AND name = ? AND id <> ?"
    for shard_id, name in names:
        key = (shard_id, store(name), shard_id)
        conn.execute(f"DELETE FROM shards WHERE {of_job} AND name = ? AND id <> ? AND cursor = 0", key)
        values = (store(name), shard_id, *key)
        if conn.execute(f"UPDATE shards SET name = ? WHERE id = ? AND NOT EXISTS ({taken})", values).rowcount != 1:
            raise Retry(f"a file is called {name} now, and another indexer knows another one so; it is looked at again")


def set_done(conn: Connection, shard_ids: Sequence[int]) -> None:
    """Say of shards that are read to their ends that they are done."""
    conn.execute(f"UPDATE shards SET state = 'done' WHERE state = 'growing' AND id IN ({among(shard_ids)})")


def _update_by_id(conn: Connection, table: str, rows: Sequence[Values]) -> None:
    if rows:
        names, values = _turned(rows, ("id",))
        if postgresql.update(conn, table, names, values) is None:
            conn.many(_update(table, names, ("id",)), values)


def move_cursors(conn: Connection, rows: Sequence[Values]) -> None:
    """Update shards that are still where we left them (`was` = the cursor we know); Retry where one is not."""
    if not rows:
        return
    names, values = _turned(rows, ("id", "was"))
    met = postgresql.update(conn, "shards", names, values, was="cursor")
    if met is None:
        met = conn.many(_update("shards", names, ("id", "cursor")), values)
    if met != len(rows):
        raise Retry("another indexer moved a cursor; this batch is dropped and read again")


def cursors_of(conn: Connection, shard_ids: Sequence[int]) -> dict[int, int]:
    """Return how far shards are read, by id."""
    return dict(conn.execute(f"SELECT id, cursor FROM shards WHERE id IN ({among(shard_ids)})"))


def set_status(conn: Connection, job_ids: Sequence[int], to: CacheStatus) -> None:
    """Move jobs to a cache_status: the one place that does, and only along legal transitions."""
    if not job_ids:
        return
    legal = ", ".join(f"'{status}'" for status in CacheStatus if status.may_become(to))
    statement = f"UPDATE jobs SET cache_status = '{to}' WHERE id IN ({among(job_ids)}) AND cache_status IN ({legal})"
    if conn.execute(statement).rowcount != len(job_ids):
        raise Retry(f"a job could not become {to}: another indexer works on it; it is looked at again")


def set_revision(conn: Connection, job_ids: Sequence[int], revision: int) -> None:
    """Say of jobs that they changed with the commit of this number."""
    if job_ids:
        conn.execute(f"UPDATE jobs SET revision = ? WHERE id IN ({among(job_ids)})", (revision,))


def bump(conn: Connection) -> int:
    """Raise the change counter; last in a transaction, since on PostgreSQL it queues the writers.

    Retry where another program changed what an indexer remembers (see indexer.db.retention.outside).
    """
    statement = "UPDATE index_state SET change_counter = change_counter + 1 RETURNING change_counter, outside_writes"
    ((counter, outside),) = conn.execute(statement).fetchall()
    if conn.outside_writes not in {None, outside}:
        raise Retry(CHANGED_OUTSIDE)
    return int(counter)


CHANGED_OUTSIDE = "another program changed what is stored; it is looked at again"


def outside_writes(conn: Connection) -> int:
    """Return how often other programs changed what indexers remember."""
    return int(conn.value("SELECT outside_writes FROM index_state"))


# Tags -----------------------------------------------------------------------------------------------------------------
def next_tag_ids(conn: Connection, count: int) -> list[int]:
    """Return ids for new tags that nobody else gets. PostgreSQL only."""
    query = (
        "WITH s(name) AS MATERIALIZED (SELECT CAST(pg_get_serial_sequence('tags', 'id') AS regclass)) "
        "SELECT nextval(s.name) FROM s CROSS JOIN generate_series(1, ?)"
    )
    return sorted(row[0] for row in conn.execute(query, (count,)))


def last_tag_id(conn: Connection) -> int:
    """Return the largest id of a tag, 0 where there is none; points of one that is gone may still be there.

    Also under minus its id: a tag of that id would have them swept, or put back, as if they were its own.
    """
    known = "SELECT coalesce(max(id), 0) FROM tags", "SELECT coalesce(max(abs(tag_id)), 0) FROM loose_tags"
    return max(int(conn.value(query)) for query in known)


def tags_of(conn: Connection, job_ids: Sequence[int]) -> list[TagRow]:
    """Return all tags of the jobs, in id order."""
    columns = [f"t.{name}" for name in _OF_TAG] + [f"g.{name}" for name in _OF_SEGMENT]
    query = (
        f"SELECT {', '.join(columns)}, r.step FROM tags t "
        "LEFT JOIN tag_segments g ON g.tag_id = t.id AND g.ordinal = t.segments - 1 "
        "LEFT JOIN restarts r ON r.tag_id = t.id AND r.seq = t.seq AND g.last_seq < t.seq "
        f"WHERE t.job_id IN ({among(job_ids)}) ORDER BY t.id"
    )
    return [TagRow._make(row) for row in conn.execute(query)]


TAG_IDENTITY = ("job_id", "plugin", "name", "series_key", "name_key")


def tag_identity(job_id: int, plugin: str, name: str) -> tuple[int, str, str, bytes, int]:
    """Return the values of TAG_IDENTITY; `plugin` and `name` as in the file."""
    return job_id, *_named(plugin, name)


@lru_cache(maxsize=4_096)  # runs of a sweep have the same tags
def _named(plugin: str, name: str) -> tuple[str, str, bytes, int]:
    plugin, name = store(plugin), store(name)
    return plugin, name, key(plugin, name), short_key(name)


def add_tags(conn: Connection, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert tags with their statistics. PostgreSQL takes them faster from `postgresql.pack`."""
    columns = tuple(columns)
    many = _VALUES // len(columns)
    whole = len(rows) - len(rows) % many
    if whole and many > 1:
        # Each execution gives up Python's global lock and waits for it again, while another thread prepares a batch.
        flat = list(chain.from_iterable(rows[:whole]))
        width = many * len(columns)
        conn.many(_insert("tags", columns, many), (flat[i : i + width] for i in range(0, len(flat), width)))
        rows = rows[whole:]
    if rows:
        conn.many(_insert("tags", columns), rows)


def update_tags(conn: Connection, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Update tags; `columns` begin with `id`."""
    if rows:
        conn.many(_update("tags", tuple(columns[1:]), ("id",)), [(*row[1:], row[0]) for row in rows])


def lengthen_segments(conn: Connection, rows: Sequence[Row]) -> None:
    """Update segments that exist. The values are those of SEGMENT_COLUMNS."""
    if rows:
        statement = _update("tag_segments", ("last_step", "last_seq", "count"), ("tag_id", "ordinal"))
        conn.many(statement, [(row[4], row[6], row[7], row[0], row[1]) for row in rows])


def add_errors(conn: Connection, rows: Sequence[Values]) -> None:
    """Insert damage seen; what is known of an offset already keeps its reason, and its length follows the file."""
    if rows:
        names, values = _turned(rows, ())
        conn.many(_upsert("shard_errors", names, ("shard_id", "offset"), ("length",)), values)


RESTART_COLUMNS = ("tag_id", "seq", "step", "shard_id", "cause")


def add_restarts(conn: Connection, rows: Sequence[tuple[int, int, int, int, str]]) -> None:
    """Insert restarts (the same (tag, seq) again: its step reaches further down) and drop those they dominate.

    The values are those of RESTART_COLUMNS. A restart dominates an earlier one at the same or a higher step, unless the
    earlier one hides points in our views and the later one (same_file) does not.
    """
    if not rows:
        return
    conn.many(_upsert("restarts", RESTART_COLUMNS, ("tag_id", "seq"), RESTART_COLUMNS[2:]), rows)
    dominated = "DELETE FROM restarts WHERE tag_id = ? AND seq < ? AND step >= ?"
    for hides, statement in ((True, dominated), (False, dominated + " AND cause = 'same_file'")):
        chosen = [row[:3] for row in rows if (row[4] != RestartCause.SAME_FILE) is hides]
        if chosen:
            conn.many(statement, chosen)


def tags_above(conn: Connection, job_id: int, step: int) -> list[int]:
    """Return the tags of a job with a current point at or above `step`: those a session start there supersedes."""
    query = (
        "SELECT t.id FROM tags t WHERE t.job_id = ? AND t.max_step >= ? AND EXISTS ("
        "SELECT 1 FROM tensor_points p WHERE p.tag_id = t.id AND p.step >= ? AND NOT EXISTS ("
        "SELECT 1 FROM restarts r WHERE r.tag_id = p.tag_id AND r.seq > p.seq AND r.step <= p.step "
        "AND r.cause <> 'same_file'))"
    )
    return [row[0] for row in conn.execute(query, (job_id, step, step))]


def forget_tags(conn: Connection, job_id: int) -> None:
    """Delete all points of a job with their payloads and what those say of it, tags, restarts, segments and rollups."""
    from indexer.db import blobs, explain, facts  # rare, and their imports cost every start

    blobs.forget(conn, job_id)
    explain.forget(conn, job_id)
    facts.forget(conn, job_id)
    for table in ("tensor_points", "point_rollups"):
        conn.execute(f"DELETE FROM {table} WHERE tag_id IN ({blobs.OWN})", (job_id, job_id))
    conn.execute("DELETE FROM tags WHERE job_id = ?", (job_id,))


def forget_errors(conn: Connection, shard_ids: Sequence[int]) -> None:
    """Delete the damage seen in shards that are read again from their beginning."""
    conn.execute(f"DELETE FROM shard_errors WHERE shard_id IN ({among(shard_ids)})")


# Indexers and their leases --------------------------------------------------------------------------------------------
LEASE_SECONDS = 15.0
"""How long a lease lasts from its last renewal."""

SILENT_SECONDS = 2 * LEASE_SECONDS
"""An indexer that said nothing for so long takes no share; times further ahead than this are of a clock gone back."""

_RUN_OUT = "(lease_expires < ? OR lease_expires > ?)"


def _run_out(now: float) -> tuple[float, float]:
    """Return the values of _RUN_OUT.

    No lease lasts longer than the second: the clock was ahead, and the holder has renewed it since, if it lives.
    """
    return now, now + SILENT_SECONDS


def server_time(conn: Connection) -> float:
    """Return seconds since the epoch by PostgreSQL's clock, which all its indexers share."""
    return float(conn.value("SELECT CAST(extract(epoch FROM clock_timestamp()) AS double precision)"))


def claim(conn: Connection, owner: int, job_ids: Sequence[int], now: float) -> dict[int, int]:
    """Lease jobs to an indexer; return those it holds now with their revision. PostgreSQL only.

    A job is free when nobody holds it, or the holder's lease has run out. Others that claim at the same moment skip it.
    """
    statement = (
        "UPDATE jobs SET lease_owner = ?, lease_expires = ?, lease_generation = lease_generation + 1 WHERE id IN ("
        f"SELECT id FROM jobs WHERE id IN ({among(job_ids)}) "
        f"AND (lease_owner IS NULL OR lease_owner = ? OR {_RUN_OUT}) FOR UPDATE SKIP LOCKED"
        ") RETURNING id, revision"
    )
    return dict(conn.execute(statement, (owner, now + LEASE_SECONDS, owner, *_run_out(now))))


def release(conn: Connection, owner: int, job_ids: Sequence[int] | None = None) -> None:
    """Give leases back: of `job_ids`, or all the indexer holds."""
    some = "" if job_ids is None else f" AND id IN ({among(job_ids)})"
    conn.execute(f"UPDATE jobs SET lease_owner = NULL, lease_expires = NULL WHERE lease_owner = ?{some}", (owner,))


def renew(conn: Connection, owner: int, now: float) -> None:
    """Keep the leases an indexer holds."""
    conn.execute("UPDATE jobs SET lease_expires = ? WHERE lease_owner = ?", (now + LEASE_SECONDS, owner))


def abandoned(conn: Connection, root_ids: Sequence[int], now: float) -> None:
    """Say of jobs that a dead indexer left in CACHING that nobody loads them."""
    query = (
        f"SELECT id FROM jobs WHERE root_id IN ({among(root_ids)}) AND cache_status = '{CacheStatus.CACHING}' "
        f"AND (lease_owner IS NULL OR {_RUN_OUT})"
    )
    ids = [row[0] for row in conn.execute(query, _run_out(now))]
    if ids:
        set_status(conn, ids, CacheStatus.NOT_IN_CACHE)
        set_revision(conn, ids, bump(conn))  # or views of them, and whoever follows, would not hear of it


def enter(conn: Connection, host: str, pid: int, version: str, now: float, *, again: int | None = None) -> int:
    """Register an indexer; rows of ended, long silent and future ones go. Return its id.

    again: its id of before, where somebody whose clock was ahead took it for silent.
    """
    gone = "DELETE FROM indexers WHERE state = 'stopped' OR heartbeat < ? OR heartbeat > ?"
    conn.execute(gone, (now - 86_400, now + SILENT_SECONDS))
    row: dict[str, object] = {"host": host, "pid": pid, "version": version, "started_at": now, "heartbeat": now}
    row["state"] = "scanning"
    if again is not None:
        row["id"] = again
    return int(conn.value(f"{_insert('indexers', tuple(row))} RETURNING id", tuple(row.values())))


def beat(conn: Connection, indexer: int, now: float, state: str, message: str | None) -> bool:
    """Say that an indexer lives, and what it does; tell whether it is registered."""
    statement = "UPDATE indexers SET heartbeat = ?, state = ?, message = ? WHERE id = ?"
    return conn.execute(statement, (now, state, message, indexer)).rowcount > 0


def require_schema(conn: Connection) -> None:
    """Refuse where somebody changed the schema since we began."""
    found = conn.value(f"SELECT version_num FROM {VERSION_TABLE}")
    if found != REVISION:
        raise Refuse(
            f"the database was taken to schema {found} while we ran, and this program speaks {REVISION}: start it again"
            " as the version that changed it"
        )


def others_live(conn: Connection, indexer: int, now: float) -> bool:
    """Tell whether another indexer gave a sign of life lately and has not said that it ended."""
    query = "SELECT count(*) FROM indexers WHERE id <> ? AND heartbeat > ? AND heartbeat < ? AND state <> 'stopped'"
    return bool(conn.value(query, (indexer, now - SILENT_SECONDS, now + SILENT_SECONDS)))


def others_load(conn: Connection, indexer: int, now: float) -> bool:
    """Tell whether another indexer that lives is loading jobs. PostgreSQL only."""
    loading = f"cache_status = '{CacheStatus.CACHING}' AND lease_owner <> ? AND NOT {_RUN_OUT}"
    query = f"SELECT count(*) FROM jobs WHERE {loading}"
    return bool(conn.value(query, (indexer, *_run_out(now))))


def scanned(conn: Connection, now: float) -> None:
    """Note the end of a whole scan."""
    conn.execute("UPDATE index_state SET scanned_at = ?", (now,))
