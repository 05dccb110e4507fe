"""A job is read again beside its curves, and what came of it takes their place in one commit.

1. A thread loads the job, as ever, into a database of its own: its shadow. Points of files that are gone, or are not to
   be read again, come from the tables, in their place in the order of files.
2. The indexer copies the shadow's points into the tables under ids that no tag has, some in each transaction.
3. What the files got meanwhile is loaded into the shadow and copied; then one transaction exchanges tags and cursors.

Whoever is killed leaves the old curves, a wish that is taken up again, and points that are swept.
Decision: docs/decisions/0025-reindex.md.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from indexer import log
from indexer.config import Config, Root
from indexer.db import bulk, facts, migrate, retention, rollups, shadow, write
from indexer.db.connection import Connection, Database, among, transaction
from indexer.db.dialect import sqlite_file
from indexer.db.shadow import Exchange, Wish
from indexer.errors import Refuse, Report, Retry, SummaryDBError, UnreadableFile, Wait
from indexer.ingest.batch import Batch, Part, Reader
from indexer.ingest.load import Loader
from indexer.ingest.logdir import load_order
from indexer.ingest.state import Job, Shard
from indexer.ports import Stat
from indexer.text import show, store
from indexer.types import (
    Blob,
    CacheStatus,
    DataClass,
    Decoded,
    Format,
    RestartCause,
    Rows,
    Series,
    ShardKind,
    ShardState,
)

ROUNDS = 5
"""How often what the files got meanwhile is fetched before the exchange."""

_ATTEMPTS = 3  # where the database is busy or away
_END_SECONDS = 1.0  # the thread has to end, between two reads
_YOUNG_SECONDS = 60.0  # a directory that is not locked yet
_KEPT_POINTS = 100_000  # of a file that is not read again, in one transaction
_KEPT_BYTES = 8 * 2**20  # likewise, of payloads
_NO_ROWS = Rows(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0))


class Alone(Protocol):
    """An indexer of one job, as far as a shadow needs it: indexer.ingest.watch.Indexer."""

    loader: Loader
    bulk: Reader
    database: Database
    unreadable: dict[str, str]

    def look_alone(self, train_id: str) -> Job | None:
        """Look at one job and at nothing else, from now on; None where it has no files."""
        ...

    def load_alone(self, job: Job, stop: threading.Event) -> None:
        """Load what is new in it."""
        ...


@dataclass(slots=True)
class Reload:
    """One job that is read again, from the wish to the exchange."""

    wish: Wish
    job: Job  # as the indexer remembers it when it begins
    root: Root
    config: Config
    make: Callable[[Config, Database], Alone]
    done: Callable[[], None]  # called by the thread when the shadow is loaded
    stop: threading.Event = field(default_factory=threading.Event)
    error: SummaryDBError | None = None
    kept: set[str] = field(default_factory=set)  # names of files that are not read again
    alone: Alone | None = None
    tags: dict[int, int] = field(default_factory=dict)  # ids in the shadow → ids in the tables
    shards: dict[int, int] = field(default_factory=dict)
    copied: dict[int, shadow.TagState] = field(default_factory=dict)  # by id in the shadow
    resets: int = 0  # of the shadow, when it was loaded
    directory: Path | None = None
    _lock: Any = None
    _thread: threading.Thread | None = None

    # The shadow is loaded, in a thread

    def begin(self) -> None:
        """Start to load the shadow."""
        self._thread = threading.Thread(target=self._load, name="reindex", daemon=True)
        self._thread.start()

    @property
    def loading(self) -> bool:
        """Tell whether the thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def end(self) -> None:
        """Give everything up that is not in the tables."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
            if self._thread.is_alive():
                return  # the process ends; the next reading removes what is left
        if self.alone is not None:
            self.alone.database.dispose()
        if self._lock is not None:
            self._lock.release()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _load(self) -> None:
        source = Database(self.config.url)
        try:
            self.directory, self._lock = _directory(self.config.url)
            self._fill(source)
        except SummaryDBError as e:
            self.error = e
        except Exception as e:  # the indexer goes on, whatever this job holds
            log.get().exception("reindex_failed", job=self.job.train_id)
            self.error = Report(f"{type(e).__name__}: {e}")
        finally:
            source.dispose()
            self.done()

    def _fill(self, source: Database) -> None:
        assert self.directory is not None  # noqa: S101  # it was made just now
        url = f"sqlite:///{self.directory / 'shadow.db'}"
        database = Database(url)
        migrate.upgrade(database)
        config = replace(self.config, url=url, roots=(self.root,), max_cached_jobs=0)
        self.alone = alone = self.make(config, database)
        job = alone.look_alone(self.job.train_id)
        there = {} if job is None else {s.name: s for s in job.shards.values() if s.on_disk is not None}
        if job is None or not there:
            raise Report(f"the files of {self.job.train_id} are gone, so there is nothing to read; its points stay")
        wanted = None if self.wish.file is None else show(self.wish.file)
        if wanted is not None and wanted not in there:
            raise Report(f"{self.job.train_id} has no file {wanted} on disk; its points stay")
        with source.snapshot() as conn:
            if retention.status(conn, self.job.id) != CacheStatus.CACHED:
                wanted = None  # the others are not wholly loaded, or their points are aside
            rows = {show(row.name): row for row in write.shards_of(conn, [self.job.id])}
            kept = {
                name: row
                for name, row in rows.items()
                if row.cursor
                and (
                    name not in there
                    or (wanted not in {None, name} and row.kind != ShardKind.EXPLAIN)
                    or self._emptied(alone, job, there[name], row)
                )
            }
            self.kept = set(kept)
            if kept:
                _Keeper(conn, alone, job, self.stop).load(self.job.id, kept)
            else:
                alone.load_alone(job, self.stop)
        if self.stop.is_set():
            raise Retry("it was asked to end")
        self._check(alone, job)
        self.resets = alone.loader.resets
        if kept and (self.resets or any(job.shards[name].cursor < row.cursor for name, row in kept.items())):
            raise Retry(self._replaced)

    def _emptied(self, alone: Alone, job: Job, there: Shard, row: write.ShardRow) -> bool:
        """Tell whether a file that was read holds nothing to read any more; then its points stay."""
        kind = ShardKind(row.kind)
        if kind is ShardKind.EXPLAIN:
            return False
        known = Shard(row.id, there.name, row.generation, kind, Format(row.format), row.cursor)
        known.fingerprint, known.tail, known.on_disk = row.fingerprint, row.tail, there.on_disk
        try:
            return alone.bulk.holds(job, known) is None
        except UnreadableFile:  # loading it says so
            return False

    @property
    def _replaced(self) -> str:
        return f"files of {self.job.train_id} were replaced while they were read; they are read once more"

    def _check(self, alone: Alone, job: Job) -> None:
        unread = [f"{path}: {why}" for path, why in alone.unreadable.items()]
        if unread or any(shard.held for shard in job.shards.values()):
            raise Report(f"{'; '.join(unread) or job.train_id + ' cannot be read'}; its points stay as they were")

    # Its points come into the tables

    def copy(self, database: Database, ids: Callable[[int], list[int]], now: float) -> Iterator[None]:
        """Bring all points of the shadow into the tables, and what the files get meanwhile; stop after each commit.

        ids: gives so many ids for tags.
        """
        alone = self.alone
        assert alone is not None  # noqa: S101  # it is loaded
        with transaction(database) as conn:
            shadow.give_up(conn, self.wish.id, now)
        yield
        for round_ in range(ROUNDS):
            job = alone.look_alone(self.job.train_id)
            if job is None:
                raise Report(f"the files of {self.job.train_id} are gone; its points stay")
            alone.load_alone(job, self.stop)
            self._check(alone, job)
            if alone.loader.resets != self.resets:  # what is copied of it is of files that are no more
                raise Retry(self._replaced)
            self._map_shards(database, job)
            moved = False
            for _ in self._copy_changed(database, ids, now):
                moved = True
                yield
            if not moved and round_:
                break

    def _map_shards(self, database: Database, job: Job) -> None:
        """Find the files of the shadow in the tables; one that is new there is added."""
        with transaction(database) as conn:
            shadow.hold(conn, self.wish.id)
            rows = {row.name: row for row in write.shards_of(self._shadow, [job.id])}
            new = [
                {"job_id": self.job.id, "name": name, "kind": row.kind, "format": row.format, "size": row.size}
                for name, row in rows.items()
            ]
            write.add_shards(conn, new)
            real = {row.name: row.id for row in write.shards_of(conn, [self.job.id])}
        self.shards = {row.id: real[name] for name, row in rows.items() if name in real}

    @property
    def _shadow(self) -> Connection:
        assert self.alone is not None  # noqa: S101  # it is loaded
        return self.alone.database.connect()

    def _copy_changed(self, database: Database, ids: Callable[[int], list[int]], now: float) -> Iterator[None]:
        """Copy what is in the shadow and was not when it was copied last."""
        states = shadow.tag_states(self._shadow)
        new = [tag for tag in states if tag not in self.tags]
        grown = [tag for tag in self.tags if states[tag].points != self.copied[tag].points]
        if not new and not grown:
            return
        if new:
            given = ids(len(new))
            with transaction(database) as conn:
                shadow.hold(conn, self.wish.id)
                points = [states[tag].points for tag in new]
                shadow.reserve(conn, self.wish.id, list(zip(given, points, strict=True)), now)
            self.tags.update(zip(new, given, strict=True))
            yield
            yield from self._copy_rows(database, f"tag_id IN ({among(new)})")
        for tag in grown:  # in load order, that is by (seq, step), what is new comes behind what was
            _, seq, step = self.copied[tag]
            yield from self._copy_rows(database, f"tag_id = {tag} AND (seq > {seq} OR (seq = {seq} AND step > {step}))")
        yield from self._copy_rollups(database, new, grown)
        self.copied = {tag: states[tag] for tag in self.tags}

    def _copy_rows(self, database: Database, where: str) -> Iterator[None]:
        """Copy points and payloads, in transactions of bounded size."""
        from indexer.plugins import TABLES  # rare, and the kinds cost every start 50 ms

        tags = np.array(sorted(self.tags), np.int64)
        real = np.array([self.tags[tag] for tag in sorted(self.tags)], np.int32)
        for rows in shadow.points(self._shadow, where):
            rows.tag_id = real[np.searchsorted(tags, rows.tag_id)]
            packed = bulk.pack_points(database.dialect, rows)
            with bulk.load(database, packed) as conn:
                self._hold(conn)
                bulk.insert(conn, packed)
            yield
        names = {"tag_id": self.tags, "shard_id": self.shards}
        for table in ("blobs", *(known.name for known in TABLES)):
            for listed, payloads in shadow.read(self._shadow, table, where, names):
                with transaction(database) as conn:
                    self._hold(conn)
                    shadow.insert(conn, table, listed, payloads)
                yield

    def _copy_rollups(self, database: Database, new: Sequence[int], grown: Sequence[int]) -> Iterator[None]:
        """Copy the buckets of tags whole: what came last may have changed some."""
        with transaction(database) as conn:
            self._hold(conn)
            shadow.forget_rollups(conn, [self.tags[tag] for tag in grown])
        where = f"tag_id IN ({among([*new, *grown])})"
        at_once = shadow.ROWS_AT_ONCE // 4
        for listed, rows in shadow.read(self._shadow, "point_rollups", where, {"tag_id": self.tags}, at_once=at_once):
            with transaction(database) as conn:
                self._hold(conn)
                shadow.insert(conn, "point_rollups", listed, rows)
            yield

    def _hold(self, conn: Connection) -> None:
        """See that nobody sweeps what is copied: all ids were reserved, and are given up, at once."""
        shadow.hold(conn, self.wish.id, min(self.tags.values(), default=None))

    # It takes the place of what was

    def exchange(self, conn: Connection, now: float) -> int:
        """Exchange tags, cursors and all else that the job's files said; return the revision."""
        alone = self.alone
        assert alone is not None  # noqa: S101  # it is loaded
        self._hold(conn)
        mirror = shadow.mirror(self._shadow)
        rows = write.shards_of(self._shadow, [mirror.id])
        gone = frozenset(row.id for row in rows if row.state == ShardState.MISSING)
        same = gone | {row.id for row in rows if show(row.name) in self.kept}
        what = Exchange(self.wish.id, self.job.id, mirror.id, self.tags, self.shards, same, gone)
        (known,) = write.jobs_by_id(conn, [self.job.id])
        revision = shadow.exchange(conn, self._shadow, what, now, _latest)
        starts = [start for start in (mirror.start_time, known.start_time if same else None) if start is not None]
        row = mirror._asdict() | {"id": self.job.id, "start_time": min(starts, default=None), "revision": revision}
        pruned_at = known.pruned_at if self.kept else None  # of files that were not read again it is still missing
        write.update_jobs(conn, [row | {"evicted_at": None, "pruned_at": pruned_at}])
        for status in (CacheStatus.CACHING, CacheStatus.CACHED):
            if known.cache_status != CacheStatus.CACHED:
                write.set_status(conn, [self.job.id], status)
        return revision


def _latest(files: list[tuple[int, str]]) -> int:
    """Return the explain file that counts."""
    return max(files, key=lambda found: load_order(show(found[1])))[0]


def _directory(url: str) -> tuple[Path, Any]:
    """Return a new directory for a shadow, and the lock that says it is in use; those of the dead are removed."""
    from filelock import FileLock, Timeout

    file = sqlite_file(url)
    parent, prefix = Path(tempfile.gettempdir()), "summarydb-reindex-"
    if file is not None:  # beside the database: there is room, as it is for the curves
        path = Path(file).absolute()
        parent, prefix = path.parent, f"{path.name}.reindex-"
    for old in parent.iterdir():
        if not old.name.startswith(prefix):
            continue
        lock = FileLock(old / "lock", timeout=0)
        with suppress(Timeout, OSError):
            if file is None and time.time() - old.stat().st_mtime < _YOUNG_SECONDS:
                continue  # another indexer makes it just now
            lock.acquire()
            lock.release()
            shutil.rmtree(old, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = FileLock(made / "lock", timeout=0)
    lock.acquire()
    return made, lock


# One wish after the other -------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Reloads:
    """What an indexer is asked to read again."""

    database: Database
    ids: Callable[[int], list[int]]  # gives so many ids for tags
    make: Callable[[Wish], Reload | None]  # None: the job is none of ours, or somebody else writes it just now
    claim: Callable[[Connection, int], bool]  # may we write this job?
    exchanged: Callable[[Connection, int], None]  # what memory holds of the job is old
    give_back: Callable[[Connection, int], None]  # nothing came of it
    wishes: list[Wish] = field(default_factory=list)  # that are known
    current: Reload | None = None
    steps: Iterator[None] | None = None
    failed: Counter[int] = field(default_factory=Counter)  # attempts, by wish

    def turn(self, now: float) -> bool:
        """Go one step on; tell whether there is more to do at once."""
        if self.current is None:
            self._begin()
            return False
        if self.current.loading:
            return False
        try:
            return self._go_on(self.current, now)
        except (Retry, Wait) as e:
            wish = self.current.wish
            self.failed[wish.id] += 1
            if self.failed[wish.id] < _ATTEMPTS:
                self.end()  # the wish is still there
                raise
            self._fail(wish, now, e)
        except (Report, Refuse) as e:
            self._fail(self.current.wish, now, e)
        except BaseException:
            self.end()
            raise
        return True

    def _fail(self, wish: Wish, now: float, error: SummaryDBError) -> None:
        self.end()
        with transaction(self.database) as conn:
            shadow.finish(conn, wish.id, now, store(str(error)))
            self.give_back(conn, wish.job_id)

    def end(self) -> None:
        """Give up what is under way."""
        current, self.current, self.steps = self.current, None, None
        if current is not None:
            current.end()

    def _begin(self) -> None:
        while self.wishes and self.current is None:
            self.current = self.make(self.wishes.pop(0))
        if self.current is not None:
            self.current.begin()

    def _go_on(self, current: Reload, now: float) -> bool:
        if isinstance(current.error, Retry | Wait):
            raise current.error
        if current.error is not None:
            raise Report(str(current.error))
        self.steps = self.steps or current.copy(self.database, self.ids, now)
        for _ in self.steps:
            return True
        with transaction(self.database) as conn:
            if not self.claim(conn, current.job.id):
                return False
            current.exchange(conn, now)
            self.exchanged(conn, current.job.id)
        self.end()
        return True


# Files that are not read again -------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Keeper:
    """Loads a shadow of which some files come from the tables."""

    conn: Connection  # to the tables: one state of them
    alone: Alone
    job: Job  # of the shadow
    stop: threading.Event

    def load(self, job_id: int, kept: dict[str, write.ShardRow]) -> None:
        """Load all files in their order. job_id: in the tables."""
        for shard in self.job.shards.values():
            shard.held = True
        self._add_gone([row for name, row in kept.items() if name not in self.job.shards])
        tags = {tag.id: tag for tag in write.tags_of(self.conn, [job_id])}
        for shard in sorted(self.job.shards.values(), key=lambda shard: load_order(shard.name)):
            if self.stop.is_set():
                return
            shard.held = False
            if (row := kept.get(shard.name)) is not None:
                self._keep(shard, row, tags)
            else:
                self.alone.load_alone(self.job, self.stop)
        self._keep_lineage({row.id: self.job.shards[name].id for name, row in kept.items()})
        self.alone.load_alone(self.job, self.stop)

    def _add_gone(self, rows: Sequence[write.ShardRow]) -> None:
        """Add files that are not on disk."""
        with transaction(self.alone.database) as conn:
            values = [
                {"job_id": self.job.id, "name": row.name, "kind": row.kind, "format": row.format, "state": "missing"}
                for row in rows
            ]
            write.add_shards(conn, values)
            for row in write.shards_of(conn, [self.job.id]):
                name = show(row.name)
                if name not in self.job.shards:
                    kind, fmt = ShardKind(row.kind), Format(row.format)
                    made = Shard(row.id, name, row.generation, kind, fmt, state=ShardState.MISSING)
                    self.job.shards[name] = made

    def _keep(self, shard: Shard, row: write.ShardRow, tags: dict[int, write.TagRow]) -> None:
        """Load the points that the tables have of a file, tag after tag, and say how far it is read."""
        shard.record_count, shard.bad_records, shard.bad_bytes = row.record_count, row.bad_records, row.bad_bytes
        shard.lost_since = row.lost_since
        if row.lost_since is not None:
            shard.lost_bytes = (row.size if row.mtime_ns else row.cursor) - row.lost_since
        loader = self.alone.loader
        loader.remember([self.job])
        self._commit(shard, row, None)
        segments, starts = shadow.stretches(self.conn, row), shadow.starts(self.conn, row)
        for tag_id in sorted(segments.keys() | starts.keys()):
            if self.stop.is_set():
                return
            tag, waiting = tags[tag_id], starts.get(tag_id, [])
            with loader.lock:
                (number,) = loader.decoder.prime(self.job.id, [_series(tag, self.job.id)])
            lie = -tag_id if row.kept else tag_id  # under this id
            count, size = shadow.extent(self.conn, lie)
            limit = max(1, min(2_000, _KEPT_BYTES * count // size)) if size else _KEPT_POINTS
            for segment in segments.get(tag_id, ()):
                for points in shadow.in_load_order(self.conn, lie, segment, limit):
                    for part in self._between_starts(points, waiting, number, shard):
                        payloads = _payloads(self.conn, lie, part) if size else []
                        self._commit(shard, row, self._decoded(tag, number, part, payloads))
            for _, step in waiting:
                self._start(number, step, shard)
        loader.forget([self.job])

    def _between_starts(
        self, points: retention.Rows, waiting: list[tuple[int, int]], number: int, shard: Shard
    ) -> Iterator[retention.Rows]:
        """Yield points up to each session start; the start takes place before the next ones are asked for."""
        while waiting:
            place = int(np.searchsorted(points["seq"], waiting[0][0]))
            if place == len(points):
                break
            if place:
                yield points[:place]
            points = points[place:]
            self._start(number, waiting.pop(0)[1], shard)
        if len(points):
            yield points

    def _start(self, number: int, step: int, shard: Shard) -> None:
        """A session start that superseded points of a tag."""
        loader = self.alone.loader
        tag = loader.tags.get(number)
        if tag is None:
            return  # it has no points before
        seq = tag.seq + (tag.start_step is None)
        with transaction(self.alone.database) as conn:
            write.add_restarts(conn, [(tag.id, seq, step, shard.id, RestartCause.SESSION_START.value)])
            if tag.rolled_count:
                was = rollups.Rolled(tag.id, tag.point_count, tag.rolled_count, tag.rolled_step, step)
                (rolled,) = rollups.fold(conn, [was], _NO_ROWS, loader.tails)
                tag.rolled_count, tag.rolled_step = rolled.rolled_count, rolled.rolled_step
            write.update_tags(
                conn, ("id", "seq", "rolled_count", "rolled_step"), [(tag.id, seq, tag.rolled_count, tag.rolled_step)]
            )
        tag.seq, tag.start_step = seq, step

    def _decoded(self, tag: write.TagRow, number: int, points: retention.Rows, payloads: list[Blob]) -> Decoded:
        """Return points of a tag, with their payloads, as if they were decoded just now."""
        count = len(points)
        value = np.ascontiguousarray(points["value"])
        scalar = tag.data_class == DataClass.SCALAR
        return Decoded(
            np.full(count, number, np.int32),
            np.ascontiguousarray(points["step"]),
            np.ascontiguousarray(points["wall_time"]),
            value,
            [],
            {number: tag.max_length} if tag.max_length else {},
            np.zeros(count, np.bool_) if scalar else np.isnan(value),
            payloads=payloads,
        )

    def _commit(self, shard: Shard, row: write.ShardRow, decoded: Decoded | None) -> None:
        count = 0 if decoded is None else len(decoded.step)
        seen = Stat(row.size, row.mtime_ns, row.file_id or "") if row.mtime_ns else None
        part = Part(self.job, shard, shard.cursor, row.cursor, points=count, format=Format(row.format), size=row.size)
        part.fingerprint, part.tail, part.seen = row.fingerprint, row.tail, seen
        part.state, part.lost_since = ShardState(row.state), row.lost_since
        if part.lost_since is not None:
            part.lost_reason = "as it was found before"
        batch = Batch(parts=[part], points=count)
        if decoded is not None:
            batch.pieces.append((decoded, 0, count))
        self.alone.loader.commit(self.alone.loader.prepare(batch))

    def _keep_lineage(self, shards: dict[int, int]) -> None:
        """Take over what lineage files say that are not read again. shards: ids in the tables → in the shadow."""
        states = shadow.lineage_states(self.conn, shards)
        if not states:
            return
        with transaction(self.alone.database) as conn:
            shadow.insert(
                conn,
                "lineage_files",
                ("shard_id", "job_id", "state"),
                [(shards[shard_id], self.job.id, state) for shard_id, state in states],
            )
            facts.merge_again(conn, self.job.id, load_order)


def _series(tag: write.TagRow, job: int) -> Series:
    names = (None if name is None else show(name) for name in (tag.display_name, tag.description))
    kind = DataClass(tag.data_class)
    return Series(job, show(tag.plugin), show(tag.name), kind, tag.metadata, tag.content, *names)


def _payloads(conn: Connection, tag_id: int, points: retention.Rows) -> list[Blob]:
    """Return the payloads that the tables have of points of a tag, in the order of the points."""
    from indexer.db import blobs  # rare, and their imports cost every start
    from indexer.plugins import TABLES, hparams

    place = {key: i for i, key in enumerate(zip(points["step"].tolist(), points["seq"].tolist(), strict=True))}
    between = (tag_id, int(points["step"].min()), int(points["step"].max()))
    more: dict[tuple[int, int], dict[str, list[tuple[Any, ...]]]] = defaultdict(dict)
    for table in TABLES:
        for step, seq, *own in shadow.payload_rows(conn, table.name, ("step", "seq", *table.columns), *between):
            more[step, seq].setdefault(table.name, []).append(tuple(own))
    found: list[Blob] = []
    for row in shadow.payload_rows(conn, "blobs", blobs.COLUMNS, *between):
        values = dict(zip(blobs.COLUMNS, row, strict=True))
        key = (values["step"], values["seq"])
        if key not in place:
            continue  # of another file
        found.append(
            Blob(
                values["kind"],
                None if values["data"] is None else bytes(values["data"]),
                values["content_type"],
                values["width"],
                values["height"],
                values["colorspace"],
                values["dtype"],
                None if values["shape"] is None else tuple(json.loads(values["shape"])),
                values["facts"],
                says=values["kind"] == hparams.KIND.name and values["error"] is None,
                error=values["error"],
                rows=more.pop(key, None),
                ordinal=values["ordinal"],
                point=place[key],
                encoding=values["encoding"],
                length=values["length"],
                digest=bytes(values["digest"]),
                offset=values["offset"],
            )
        )
    return sorted(found, key=lambda blob: (blob.point, blob.ordinal))
