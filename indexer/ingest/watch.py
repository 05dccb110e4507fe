"""The indexer's loop: hints and scans say which jobs changed; small appends go first, then the newest jobs.

A notification is a hint, the scan is the truth: with every notification lost, nothing is, but some seconds.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from indexer import log
from indexer.config import Config
from indexer.config import Root as RootConfig
from indexer.db import bulk, postgresql, retention, rollups, shadow, write
from indexer.db.connection import Connection, Database, transaction
from indexer.db.dialect import POSTGRESQL
from indexer.decode import kernel
from indexer.decode.reader import Decoder
from indexer.errors import Retry, SummaryDBError, Unreachable, Wait
from indexer.ingest import cache, identity
from indexer.ingest.batch import Batch, Reader
from indexer.ingest.listing import Listed, listed
from indexer.ingest.load import Loader, Prepared
from indexer.ingest.logdir import NO_FILE, Beside, FoundJob, FoundShard, Listing, created, look, recognise, walk
from indexer.ingest.notify import Hints, observe
from indexer.ingest.reload import Reload, Reloads
from indexer.ingest.state import Job, Shard
from indexer.ports import Clock, Files, Stat, SystemClock, SystemFiles
from indexer.shortage import shortage
from indexer.text import show, store
from indexer.types import CacheStatus, Format, ShardKind, ShardState
from indexer.version import __version__

LIVE_BYTES = 4 * 2**20
"""A loaded job that grew by less than this stays CACHED and is served before any backlog."""

LEASE_SECONDS = write.LEASE_SECONDS
_LEASE_LOOK_SECONDS = 1.0
_GROUP_JOBS = 1_000  # of a backlog loaded in one go; jobs that appear meanwhile come with the next
_SHARED_JOBS = 200  # the same where several indexers share the work
_BEAT_SECONDS = 5.0
_SWEEP_LOOK_SECONDS = 5.0  # between two looks at points that wait for their time to be deleted
_REPORT_SECONDS = 0.2
_ACTIVE_SECONDS = 60.0  # a file that grew is looked at every second for so long, should notifications be lost
_ACTIVE_LOOK_SECONDS = 1.0
_ACTIVE_LOOK_SHARE = 0.05  # of the time at most: ten thousand runs may have been copied here just now
_BACK_OFF_SECONDS = (0.1, 10.0)  # at most, so that a heartbeat that can be written is never taken for none
_SCAN_SHARE = 0.015  # of the time at most, for scans of everything, ...
_LATEST_SCAN_SECONDS = 15.0  # ... but they are never further apart than this, unless --reconcile says so
_POINT_BYTES = 50  # of a file, roughly, to guess how many points lie ahead


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the load is."""

    jobs: int
    cached: int
    bytes_on_disk: int
    bytes_indexed: int
    points: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is in the database at the end of a run, and what could not be read."""

    jobs: int
    points: int
    bad_records: int
    bad_bytes: int
    unreadable: list[str]


@dataclass(slots=True)
class _Root:
    id: int
    config: RootConfig
    jobs: dict[str, Job] = field(default_factory=dict)  # by train_id
    unreadable: dict[str, str] = field(default_factory=dict)
    pruned: set[str] = field(default_factory=set)  # train_ids to pass over


class Indexer:
    """Follows directories and keeps the database equal to what lies in them."""

    def __init__(
        self,
        config: Config,
        database: Database,
        *,
        clock: Clock | None = None,
        files: Files | None = None,
        report: Callable[[Progress], None] | None = None,
        waiting: Callable[[str | None], None] | None = None,
        turned: Callable[[], None] | None = None,
    ) -> None:
        """Take what it needs. A `clock` given here is also what indexers share, where it is else the server's.

        waiting: told what is waited for, when the database cannot be written, and None when it can again.
        turned: called every few seconds, by the loop itself: whoever does not hear it any more knows that it hangs.
        """
        self.config = config
        self.database = database
        self.clock: Clock = clock or SystemClock()
        self.files: Files = files or SystemFiles()
        self.report = report
        self.told_waiting = waiting
        self.turned = turned
        self.log = log.get()
        self.wake = threading.Event()
        self.hints = Hints(self.wake)
        self.wanted: deque[int] = deque(maxlen=1_000)  # jobs somebody waits for
        self.accessed: set[int] = set()  # jobs somebody looked at since the last beat
        lock = threading.Lock()
        decoder = Decoder(
            kernel=config.kernel, max_record_bytes=config.max_record_bytes, max_blob_bytes=config.max_blob_bytes
        )
        self.loader = Loader(database, decoder, lock)
        self.live = Reader(decoder, self.files, config, lock, LIVE_BYTES)
        self.bulk = Reader(decoder, self.files, config, lock, config.slice_bytes)
        self.leased = database.dialect == POSTGRESQL
        self.server_time = self.leased and clock is None
        self.id = 0
        self.roots: list[_Root] = []
        self.jobs: dict[int, Job] = {}
        self.dirty: dict[int, Job] = {}
        self.active: dict[int, float] = {}  # job → when it last grew, monotonic
        self.unreadable: dict[str, str] = {}  # files, path → why
        self.keyless = False  # a backlog was loaded, and perhaps the key of its points is still missing
        self.elsewhere: set[int] = set()  # jobs that another indexer holds, as of the last scan
        self.crowded = True  # which jobs stay loaded is to be decided again
        self.loose = True  # there may be points to delete that belong to nobody any more
        self.reloads = Reloads(
            database, self.loader.ids.give, self._reload, self._claim_alone, self._exchanged, self._give_back
        )
        self.state = "scanning"
        self.waiting: str | None = None  # what for
        self.resumed = 0.0  # when work was taken up again after a wait, monotonic
        self.restless = False  # there was a scan or a load: files may be done
        self.next_scan = self.next_beat = self.next_report = self.next_active = self.next_sweep = 0.0

    def run(self, stop: threading.Event, *, once: bool = False) -> Outcome:
        """Index until `stop` is set, or with `once` until all that is on disk is loaded."""
        self._patiently(stop, self._enter)
        end = None
        if not once and not stop.is_set():
            if self.config.kernel:
                kernel.warm(compile_only=True)  # on its first start; a large file may come while small ones are served
            roots = [root.config.path for root in self.roots]
            end = observe(self.hints, roots, polling=self.config.polling)
            threading.Thread(target=self._wake_at, args=(stop,), name="stop", daemon=True).start()
        try:
            while not stop.is_set():
                if self._patiently(stop, lambda: self._turn(stop)):
                    continue
                if once and not self.elsewhere and self.reloads.current is None:
                    break
                if once:  # another indexer loads some of it, or died holding it: its lease tells
                    self.next_scan = min(self.next_scan, self.clock.monotonic() + _LEASE_LOOK_SECONDS)
                self.clock.wait(self.wake, self._idle_seconds())
        finally:
            if end is not None:
                end()
            self.reloads.end()
            self._leave()
        return self._outcome()

    def _wake_at(self, stop: threading.Event) -> None:
        """An idle indexer waits for news; being asked to end is some."""
        stop.wait()
        self.wake.set()

    def request(self, message: dict[str, Any]) -> None:
        """Take a wish of the web, from any thread.

        `{"ask": "load", "jobs": [id, ...]}` brings jobs to the front; `{"ask": "access", "jobs": [...]}` says that
        people look at them, and does so, too, where they are not loaded yet. Anything else is passed over.
        """
        ids = message.get("jobs")
        jobs = [job for i in ids if (job := self.jobs.get(i))] if isinstance(ids, list) else []
        if message.get("ask") == "access":
            self.accessed.update(job.id for job in jobs)
        elif message.get("ask") != "load":
            return
        for job in jobs:
            job.access_time = self.clock.now()
        waited_for = [job.id for job in jobs if job.cache_status is not CacheStatus.CACHED]
        if waited_for:
            self.wanted.extend(waited_for)
            self.crowded = True
            self.wake.set()

    # one turn

    def _turn(self, stop: threading.Event) -> bool:
        """Look at what changed and load some of it; tell whether there was anything to do."""
        self.wake.clear()
        self._tend()
        self._make_room()
        busy = self._sweep() | self.reloads.turn(self.clock.now())
        if not self.dirty:
            self._end_load()
            self._rest()
            return busy
        live, backlog = self._work()
        if live:
            self._load_live(live, stop)
        if backlog:
            self._load_backlog(backlog, stop)
            self._report(always=True)
        # Others may hold this share: then the next one is looked at, not this one again after the next scan.
        more = busy or bool(live or backlog) or any(job.dirty for job in self.dirty.values())
        if not more:
            self._end_load()
            self._rest()
        return more

    def _tend(self) -> None:
        """Do what is due: take hints, look at active files, scan, say that we live."""
        now = self.clock.monotonic()
        directories, trees = self.hints.take()
        if now >= self.next_scan:
            self._scan()
            self.next_scan = self._after_scan(now)
            if self.state != "loading":
                self._say("watching")
        else:
            for path in sorted(trees):
                self._look(Path(path), tree=True)
            for path in sorted(directories):
                self._look(Path(path), tree=False)
        if now >= self.next_active:
            self._look_at_active(now)
            done = self.clock.monotonic()
            self.next_active = done + max(_ACTIVE_LOOK_SECONDS, (done - now) / _ACTIVE_LOOK_SHARE)
        if now >= self.next_beat:
            self._beat()
        self._report()

    def _after_scan(self, began: float) -> float:
        """Return when to scan next, after a scan that `began` then: many idle directories must not cost a core."""
        if not self.config.reconcile:
            return float("inf")
        done = self.clock.monotonic()
        return done + max(self.config.reconcile, min((done - began) / _SCAN_SHARE, _LATEST_SCAN_SECONDS))

    def _make_room(self) -> None:
        """Decide which jobs stay loaded, where that is limited."""
        if not self.crowded:
            return
        self.crowded = False
        now = self.clock.now()
        gone, come = cache.choose(self.jobs.values(), self.config.max_cached_jobs, now)
        if not gone and not come:
            return
        with transaction(self.database) as conn:
            jobs = gone + come
            if self.leased:
                held = write.claim(conn, self.id, [job.id for job in jobs], self._common_now(conn))
                same = [job for job in jobs if held.get(job.id) == job.revision]
                gone, come = ([job for job in some if job in same] for some in (gone, come))
            cache.change(conn, gone, come, now)
            self._reread(conn, jobs)
            if self.leased:
                write.release(conn, self.id, sorted(held))
        for job in jobs:
            job.leased_until = 0.0
            if job.dirty:
                self.dirty[job.id] = job
        self.loose = self.loose or bool(gone)

    def _sweep(self) -> bool:
        """Delete some of the points that belong to nobody any more; tell whether there were any."""
        if not self.loose or self.clock.monotonic() < self.next_sweep:
            return False
        swept = retention.sweep(self.database, self.clock.now())
        if not swept:
            with transaction(self.database) as conn:
                self.loose = retention.loose(conn)  # some may wait for their time
            self.next_sweep = self.clock.monotonic() + _SWEEP_LOOK_SECONDS
        return swept

    # one job alone

    def look_alone(self, train_id: str) -> Job | None:
        """Look at one job of the first root, and at nothing else from now on; None where it has no files."""
        if not self.roots:
            self._enter()
        self.next_scan = self.next_active = float("inf")
        root = self.roots[0]
        self._look(root.config.path / train_id, tree=False)
        return root.jobs.get(train_id)

    def load_alone(self, job: Job, stop: threading.Event) -> None:
        """Load what is new in a job that was looked at alone."""
        if job.dirty:
            self._load_backlog([job], stop)

    def load_only(self, train_id: str, stop: threading.Event) -> bool:
        """Load one job of the first root, and end; tell whether it has files."""
        self._patiently(stop, self._enter)
        job: Job | None = None

        def step() -> None:
            nonlocal job
            job = self.look_alone(train_id)
            if job is not None and self._claim([job]):
                self.load_alone(job, stop)
            self._end_load()

        try:
            self._patiently(stop, step)
        finally:
            self._leave()
        return job is not None

    def fulfil(self, stop: threading.Event, ended: Callable[[], bool]) -> None:
        """Read jobs again as it is wished, look at nothing else, and end when that has `ended`."""
        self._patiently(stop, self._enter)

        def step() -> bool:
            self.wake.clear()
            if self.clock.monotonic() >= self.next_beat or self.reloads.current is None:
                self._beat()  # it asks for wishes, too
            return self.reloads.turn(self.clock.now())

        try:
            while not stop.is_set() and not ended():
                if not self._patiently(stop, step):
                    self.clock.wait(self.wake, _REPORT_SECONDS)
            while self._patiently(stop, self._sweep):
                pass
        finally:
            self.reloads.end()
            self._leave()

    def _reload(self, wish: shadow.Wish) -> Reload | None:
        job = self.jobs.get(wish.job_id)
        if job is None:
            return None
        with transaction(self.database) as conn:
            if shadow.outcome(conn, wish.id)[0] or not self._claim_alone(conn, job.id):
                return None
        job.leased_until = self.clock.monotonic() + LEASE_SECONDS if self.leased else 0.0  # renewed with every beat
        (root,) = (root.config for root in self.roots if root.id == job.root_id)

        def make(config: Config, database: Database) -> Indexer:
            return Indexer(config, database, clock=self.clock, files=self.files)

        return Reload(wish, job, root, replace(self.config, url=self.database.url), make, self.wake.set)

    def _claim_alone(self, conn: Any, job_id: int) -> bool:
        """Tell whether this indexer may write a job, now and for the time of a lease."""
        return not self.leased or job_id in write.claim(conn, self.id, [job_id], self._common_now(conn))

    def _exchanged(self, conn: Any, job_id: int) -> None:
        """A job was read again: what memory holds of it is old."""
        job = self.jobs[job_id]
        self._reread(conn, [job])
        if self.leased:
            write.release(conn, self.id, [job_id])
            job.leased_until = 0.0
        for shard in job.shards.values():  # what we saw of them may be older than what was read
            shard.on_disk = shard.on_disk and shard.seen
        self.hints.suspect([job.path])
        self.loose = True

    def _give_back(self, conn: Any, job_id: int) -> None:
        """Nothing came of reading a job again."""
        if self.leased:
            write.release(conn, self.id, [job_id])
            if job_id in self.jobs:
                self.jobs[job_id].leased_until = 0.0

    def _work(self) -> tuple[list[Job], list[Job]]:
        """Return the small appends, and the newest of the backlog, both in the order to load them."""
        for job_id in [job_id for job_id, job in self.dirty.items() if not job.dirty]:
            del self.dirty[job_id]
        wanted = {job_id: -place for place, job_id in enumerate(reversed(self.wanted), 1)}
        jobs = sorted(self.dirty.values(), key=lambda j: (wanted.get(j.id, 0), -(j.update_time or 0.0), j.train_id))
        self.wanted.clear()
        live = [job for job in jobs if _is_live(job)]
        backlog = [job for job in jobs if not _is_live(job)][:_GROUP_JOBS]
        if len(backlog) > _SHARED_JOBS and self._shared():
            backlog = backlog[:_SHARED_JOBS]
        return self._claim(live), self._claim(backlog)

    def _shared(self) -> bool:
        """Tell whether other indexers may take jobs of the backlog."""
        if not self.leased:
            return False
        with transaction(self.database) as conn:
            return write.others_live(conn, self.id, self._common_now(conn))

    def _load_live(self, jobs: Sequence[Job], stop: threading.Event) -> None:
        self.loader.remember(jobs)
        for batch in self.live.batches(jobs, stop):
            self._commit(self.loader.prepare(batch))
        now = self.clock.monotonic()
        self.active.update(dict.fromkeys((job.id for job in jobs), now))

    def _load_backlog(self, jobs: Sequence[Job], stop: threading.Event) -> None:
        """Load jobs: one thread reads ahead, this one writes and serves small appends of other jobs between."""
        self._say("loading")
        self._beat()
        starting = [job for job in jobs if job.cache_status is not CacheStatus.CACHING]
        with transaction(self.database) as conn:
            write.set_status(conn, [job.id for job in starting], CacheStatus.CACHING)
            revision = write.bump(conn)
            write.set_revision(conn, [job.id for job in starting], revision)
        for job in starting:
            job.cache_status, job.revision = CacheStatus.CACHING, revision
        self.loader.remember(jobs)
        bulk.suspend_index(self.database, sum(job.backlog for job in jobs) // _POINT_BYTES)
        loading = {job.id for job in jobs}
        waiting = deque(jobs)
        try:
            with (
                postgresql.unhurried(self.database),
                _ahead(self.bulk.batches(_taken(waiting), stop), self.loader.prepare) as batches,
            ):
                for prepared in batches:
                    self._commit(prepared)
                    self._between(loading, stop)
                    if len(waiting) > _SHARED_JOBS and self._shared():
                        loading -= self._hand_back(waiting)
        finally:
            self._say("watching")
        self.keyless = self.restless = True
        if all(_is_live(job) for job in self.dirty.values() if job.dirty):
            self._end_load()
        self._release(jobs)
        recent = [job for job in jobs if self._recently_written(job)]
        self.active.update(dict.fromkeys((job.id for job in recent), self.clock.monotonic()))
        self.loader.forget(job for job in jobs if job.id not in self.active)

    def _hand_back(self, waiting: deque[Job]) -> set[int]:
        """Give up the last of the jobs that nobody read yet, for another indexer has come; return their ids."""
        back: list[Job] = []
        with suppress(IndexError):  # the thread that reads may be quicker
            while len(waiting) > _SHARED_JOBS:
                back.append(waiting.pop())
        if not back:
            return set()
        ids = [job.id for job in back]
        with transaction(self.database) as conn:
            write.set_status(conn, ids, CacheStatus.NOT_IN_CACHE)
            revision = write.bump(conn)
            write.set_revision(conn, ids, revision)
            write.release(conn, self.id, ids)
        for job in back:
            job.cache_status, job.revision, job.leased_until = CacheStatus.NOT_IN_CACHE, revision, 0.0
        self.loader.forget(back)
        return set(ids)

    def _between(self, loading: set[int], stop: threading.Event) -> None:
        """Between two batches of a load: what is new elsewhere must not wait for its end."""
        self._tend()
        live = [job for job in self.dirty.values() if job.id not in loading and _is_live(job) and job.dirty]
        if live:
            self._load_live(self._claim(live), stop)

    def _commit(self, prepared: Prepared) -> None:
        batch = prepared.batch
        for replaced in batch.replaced:
            job, shard = replaced.job, replaced.shard
            self.log.warning("file_replaced", job=job.train_id, file=shard.name, then="its job is read again")
            self.loader.reset(job, replaced.gone)
        if batch.kept is not None:
            self.loader.put_back(*batch.kept)
        for job, error in batch.unreadable:
            job.shards[error.path.name].held = True
            if self.unreadable.get(str(error.path)) != error.why:
                self.log.warning("file_unreadable", job=job.train_id, file=error.path.name, why=error.why)
            self.unreadable[str(error.path)] = error.why
        if batch.parts or batch.finished or batch.unreadable:
            self.loader.commit(prepared)
            if self.waiting is not None and self.clock.monotonic() - self.resumed > _BEAT_SECONDS:
                self._wait_no_more()  # not at the first commit: into a disk that is full, a small one may still fit
        prepared.written.set()
        for part in batch.parts:
            if part.seen is not None and self.unreadable:
                self.unreadable.pop(str(part.job.path / part.shard.name), None)
            if part.damages:
                first = part.damages[0]
                self.log.warning(
                    "records_damaged",
                    job=part.job.train_id,
                    file=part.shard.name,
                    offset=first.offset,
                    reason=first.reason,
                    records=len(part.damages),
                )
        for job in batch.finished:
            if not job.dirty:
                self.dirty.pop(job.id, None)

    # what lies on disk

    def _scan(self) -> None:
        """Walk all roots and note what changed. No file is read."""
        self.hints.probe()
        for job in self.jobs.values():
            for shard in job.shards.values():
                shard.held = False
        self.elsewhere.clear()
        for root in self.roots:
            try:
                listing = walk(root.config.path, self.files, follow_symlinks=self.config.follow_symlinks)
            except OSError as e:
                why = e.strerror or str(e)
                if str(root.config.path) not in root.unreadable:
                    self.log.warning("root_unreadable", root=str(root.config.path), why=why)
                root.unreadable = {str(root.config.path): why}
                continue
            for path in listing.unreadable.keys() - root.unreadable.keys():
                self.log.warning("path_unreadable", path=path, why=listing.unreadable[path])
            root.unreadable = listing.unreadable
            known = [job for job in root.jobs.values() if not _below(job.train_id, listing.failed)]
            self._compare(root, listing, known)
        self.restless = True
        with transaction(self.database) as conn:
            write.scanned(conn, self.clock.now())
        self.crowded = True

    def _look(self, path: Path, *, tree: bool) -> None:
        """Look at one directory, or at a whole tree, that a notification named."""
        for root in self.roots:
            if not path.is_relative_to(root.config.path):
                continue
            parts = path.relative_to(root.config.path).parts
            train_id = "./" + "/".join(parts)
            if tree:
                try:
                    listing = walk(root.config.path, self.files, start=train_id, follow_symlinks=self._follow)
                except OSError:
                    continue  # the root itself; the next scan says so
                known = [job for job in root.jobs.values() if _below(job.train_id, [train_id])]
                known = [job for job in known if not _below(job.train_id, listing.failed)]
            else:
                try:
                    listing = look(path, train_id, self.files, follow_symlinks=self._follow)
                except OSError:
                    continue
                known = [job for job in (root.jobs.get(train_id),) if job is not None and not listing.failed]
                if known and known[0].listed.beside and path.is_dir():  # a scan looks whether that is still there
                    listing.jobs.setdefault(train_id, FoundJob(train_id))
            self._compare(root, listing, known)

    @property
    def _follow(self) -> bool:
        return self.config.follow_symlinks

    def _look_at_active(self, now: float) -> None:
        for job_id, grew in list(self.active.items()):
            if now - grew > _ACTIVE_SECONDS:
                del self.active[job_id]
                if self.jobs[job_id].cache_status is CacheStatus.CACHED:  # else a load is at it
                    self.loader.forget([self.jobs[job_id]])
            elif now - grew > _ACTIVE_LOOK_SECONDS:
                self._look(self.jobs[job_id].path, tree=False)

    def _compare(self, root: _Root, listing: Listing, known: Sequence[Job]) -> None:
        """Bring the jobs of `root` up to a listing; those `known` that it lacks are gone from disk."""
        if listing.unreadable:
            _keep(listing, known)
        for found in listing.jobs.values():
            job = root.jobs.get(found.train_id)
            identity.one_name_each(found.shards, {} if job is None else job.shards)
        passed_over = root.jobs.keys() | root.pruned
        fresh = [found for found in listing.jobs.values() if found.train_id not in passed_over]
        grown = [(root.jobs[f.train_id], f) for f in listing.jobs.values() if f.train_id in root.jobs]
        gone = [(job, FoundJob(job.train_id, beside=Beside())) for job in known if job.train_id not in listing.jobs]
        changed = [(job, found) for job, found in grown + gone if self._differs(job, found)]
        if not fresh and not changed:
            return
        renamed = [
            self._rename(job, *pair) for job, f in changed for pair in identity.renamed(self.files, job, f.shards)
        ]
        others = {job.id for job, found in changed if found.shards.keys() != _on_disk(job)}
        added = [(job, f) for job, found in changed for f in found.shards.values() if f.name not in job.shards]
        with transaction(self.database) as conn:
            write.rename_shards(conn, renamed)
            write.add_jobs(conn, ((root.id, f.train_id, _new_job_row(f)) for f in fresh))
            if fresh:
                self._recall(root, write.known_jobs(conn, [root.id], above=max(self.jobs, default=0)))
                if any(f.train_id not in root.jobs for f in fresh):  # another indexer's, under a smaller id
                    self._recall(root, write.known_jobs(conn, [root.id]))
            added += [(root.jobs[f.train_id], s) for f in fresh for s in f.shards.values()]
            write.add_shards(conn, [_shard_row(job.id, shard) for job, shard in added])
            if added:
                self._recall_shards(write.shards_of(conn, sorted({job.id for job, _ in added})))
            seen = changed + [(root.jobs[f.train_id], f) for f in fresh]
            rows = [row for job, found in seen if (row := self._see(job, found, others=job.id in others)) is not None]
            states = [shard for job, _ in changed for shard in job.shards.values()]
            write.update_shards(conn, [{"id": s.id, "state": s.state.value} for s in states])
            revision = write.bump(conn)
            write.update_jobs(conn, [{**row, "revision": revision} for row in rows])
        for row in rows:
            self.jobs[row["id"]].revision = revision
        self.crowded = True

    def _rename(self, job: Job, shard: Shard, file: FoundShard) -> tuple[int, str]:
        """Have a file go under the name it has now; return its id and that name."""
        self.log.info("file_renamed", job=job.train_id, file=shard.name, now=file.name)
        del job.shards[shard.name]
        shard.name = file.name
        job.shards[file.name] = shard  # in place of one of which nothing was read
        return shard.id, file.name

    def _differs(self, job: Job, found: FoundJob) -> bool:
        """Tell whether the tables must know; what is loaded anyway is noted on the way."""
        if found.shards.keys() != _on_disk(job):
            return True
        if job.evicted_at is not None:  # else what changed is noted with what is loaded
            return any(job.shards[name].on_disk != shard.stat for name, shard in found.shards.items())
        for name, shard in found.shards.items():
            job.shards[name].on_disk = shard.stat
        if not found.there:
            return job.missing_since is None
        if found.beside is not None:
            row, job.newest, job.newest_explain = listed(found, found.beside)
            if not row.same(job.listed) or (found.beside and job.missing_since is not None):
                return True
        if job.dirty:
            job.update_time = max(s.stat.mtime_ns for s in found.shards.values()) / 1e9
            self.dirty[job.id] = job
        return False

    def _see(self, job: Job, found: FoundJob, *, others: bool) -> dict[str, Any] | None:
        """Note in memory what is on disk; return the columns of the job's row that follow from it.

        others: there are not the same files as before.
        """
        for shard in job.shards.values():
            there = found.shards.get(shard.name)
            shard.on_disk = None if there is None else there.stat
            if there is None:
                shard.state = ShardState.MISSING
                path = str(job.path / shard.name)
                self.unreadable.pop(path, None)
                if job.last_error is not None and job.last_error.startswith(store(f"{path}: ")):
                    job.last_error = None  # it was about this file
            elif shard.state is ShardState.MISSING:
                shard.state = ShardState.GROWING if shard.record_count or not shard.bad_records else ShardState.DEAD
                shard.seen = None  # it may be another file
        if found.there:
            job.missing_since = None
            beside = job.listed.beside if found.beside is None else found.beside
            job.listed, job.newest, job.newest_explain = listed(found, beside)
            # Else loading the files says when they were modified; those of a job that is left out are not loaded.
            if others or not found.shards or job.evicted_at is not None:
                row = _job_row(found.shards.values(), job.listed)
                job.update_time, job.create_time = row["update_time"], row["create_time"]
        elif job.missing_since is None:
            job.missing_since = self.clock.now()
        if job.dirty:
            self.dirty[job.id] = job
        return {
            "id": job.id,
            "update_time": job.update_time,
            "create_time": job.create_time,
            "missing_since": job.missing_since,
            "bytes_on_disk": job.bytes_on_disk,
            "bytes_indexed": job.bytes_indexed,
            "last_error": job.last_error,
            **_stored(job.listed),
        }

    # memory and database

    def _enter(self) -> None:
        """Register, and recall what the database knows."""
        self._ensure_index()
        with transaction(self.database) as conn:
            now = self._common_now(conn)
            self.id = write.enter(conn, socket.gethostname(), os.getpid(), __version__, now)
            write.require_schema(conn)
            self.roots = [_Root(write.register_root(conn, root), root) for root in self.config.roots]
            write.abandoned(conn, [root.id for root in self.roots], now)
            self._recall_all(conn)

    def _recall_all(self, conn: Any) -> None:
        self.database.outside_writes = write.outside_writes(conn)  # first: what comes behind is met at the next write
        for root in self.roots:
            root.pruned = retention.pruned(conn, root.id)
            self._recall(root, write.known_jobs(conn, [root.id]))
        self._recall_shards(write.known_shards(conn, [root.id for root in self.roots]))

    def _ensure_index(self) -> None:
        """After a load without the key of the points: build it, and the rollups that had to wait for it."""
        if bulk.ensure_index(self.database) and rollups.catch_up(self.database):
            self.loader.forget([job for job in self.jobs.values() if job.tags is not None])

    def _end_load(self) -> None:
        """Behind a load, build the key; where others load on, the last of them does: with the key they were slow."""
        if not self.keyless:
            return
        if self.leased:
            with transaction(self.database) as conn:
                if write.others_load(conn, self.id, self._common_now(conn)):
                    return
        self._ensure_index()
        self.keyless = False

    def _rest(self) -> None:
        """After a scan or a load: say of files that are read to their ends and long quiet that they are done."""
        if not self.restless:
            return
        before = (self.clock.now() - self.config.done_after) * 1e9  # ns
        quiet = [
            shard
            for job in self.jobs.values()
            for shard in job.shards.values()
            if shard.state is ShardState.GROWING
            and shard.seen == shard.on_disk
            and shard.seen
            and shard.seen.mtime_ns < before
        ]
        if quiet:
            with transaction(self.database) as conn:
                write.set_done(conn, [shard.id for shard in quiet])
            for shard in quiet:
                shard.state = ShardState.DONE
        self.restless = False

    def _leave(self) -> None:
        try:
            now = self.clock.monotonic()
            mine = [job for job in self.jobs.values() if not self.leased or job.leased_until > now]
            cut = [job.id for job in mine if job.cache_status is CacheStatus.CACHING]
            with transaction(self.database) as conn:
                write.set_status(conn, cut, CacheStatus.NOT_IN_CACHE)
                revision = write.bump(conn) if cut else 0
                write.set_revision(conn, cut, revision)
                if self.leased:
                    write.release(conn, self.id)
                write.beat(conn, self.id, self._common_now(conn), "stopped", None)
        except (Retry, Wait) as e:
            self.log.warning("left_unsaid", why=str(e))  # the heartbeat tells it a little later

    def _recall(self, root: _Root, rows: Sequence[Any]) -> None:
        for row in rows:
            train_id = show(row.train_id)
            job = root.jobs.get(train_id)
            if job is None:
                job = Job(row.id, root.id, train_id, root.config.path / train_id, CacheStatus(row.cache_status))
                root.jobs[train_id] = self.jobs[row.id] = job
            job.cache_status, job.point_count = CacheStatus(row.cache_status), row.point_count
            job.start_time, job.revision, job.missing_since = row.start_time, row.revision, row.missing_since
            job.last_error, job.update_time, job.create_time = row.last_error, row.update_time, row.create_time
            job.access_time = max(filter(None, (job.access_time, row.access_time)), default=None)
            job.evicted_at = row.evicted_at
            job.listed = Listed(*(_shown(getattr(row, name)) for name in Listed._fields))

    def _recall_shards(self, rows: Sequence[Any]) -> None:
        for row in rows:
            job = self.jobs.get(row.job_id)
            if job is None:  # another indexer added it since we asked for jobs; the next scan does again
                continue
            name = show(row.name)
            shard = job.shards.get(name)
            if shard is None or shard.id != row.id:
                for old in [n for n, s in job.shards.items() if s.id == row.id]:
                    del job.shards[old]  # another indexer saw that it has another name
                what = recognise(name)
                fmt = Format(row.format) if row.record_count or what is None else what.format
                shard = job.shards[name] = Shard(row.id, name, row.generation, ShardKind(row.kind), fmt)
                if row.state != ShardState.MISSING:
                    shard.on_disk = Stat(row.size, row.mtime_ns, row.file_id or "")
            shard.cursor, shard.fingerprint, shard.tail = row.cursor, row.fingerprint, row.tail
            shard.seen = Stat(row.size, row.mtime_ns, row.file_id) if row.mtime_ns else None
            shard.state, shard.record_count, shard.lost_since = ShardState(row.state), row.record_count, row.lost_since
            shard.bad_records, shard.bad_bytes, shard.kept = row.bad_records, row.bad_bytes, bool(row.kept)
            end = row.cursor if shard.seen is None else row.size  # as far as was looked
            shard.lost_bytes = 0 if row.lost_since is None else end - row.lost_since

    def _claim(self, jobs: list[Job]) -> list[Job]:
        """Return those of `jobs` this indexer may write; on PostgreSQL by lease."""
        if not self.leased or not jobs:
            return jobs
        now = self.clock.monotonic()
        wanted = [job for job in jobs if job.leased_until < now + LEASE_SECONDS / 3]
        if wanted:
            with transaction(self.database) as conn:
                held = write.claim(conn, self.id, [job.id for job in wanted], self._common_now(conn))
                stale = [job for job in wanted if held.get(job.id) != job.revision]
                if stale:
                    self._reread(conn, stale)
                # Others loaded these. Kept, a lease would be renewed for ever, and they would wait for it.
                done = {job.id for job in stale if not job.dirty}
                if done & held.keys():
                    write.release(conn, self.id, sorted(done & held.keys()))
            for job in wanted:
                if job.id in done:
                    job.leased_until = 0.0
                elif job.id in held:
                    job.leased_until = now + LEASE_SECONDS
                else:
                    for shard in job.shards.values():
                        shard.held = True  # somebody else loads it; the next scan asks again
                    self.elsewhere.add(job.id)
        return [job for job in jobs if job.dirty]

    def _release(self, jobs: Sequence[Job]) -> None:
        """Give back the leases on those of `jobs` that are loaded."""
        loaded = [job for job in jobs if job.cache_status is not CacheStatus.CACHING]
        if self.leased and loaded:
            with transaction(self.database) as conn:
                write.release(conn, self.id, [job.id for job in loaded])
            for job in loaded:
                job.leased_until = 0.0

    def _reread(self, conn: Any, jobs: Sequence[Job]) -> None:
        """Another indexer wrote these jobs since we looked: what we remember of them is old."""
        self.loader.forget(jobs)
        by_root = {root.id: root for root in self.roots}
        ids = [job.id for job in jobs]
        for row in write.jobs_by_id(conn, ids):
            self._recall(by_root[row.root_id], [row])
        rows = write.shards_of(conn, ids)
        there = {row.id for row in rows}
        for job in jobs:
            job.shards = {name: shard for name, shard in job.shards.items() if shard.id in there}
        self._recall_shards(rows)

    def _recover(self) -> None:
        """After a failure memory may know what was rolled back: read all of it again from the tables."""
        self.loader.forget(self.jobs.values())
        self.loader.ids.recount()
        self.jobs.clear()
        self.dirty.clear()
        for root in self.roots:
            root.jobs.clear()
        with transaction(self.database) as conn:
            self._recall_all(conn)
        self.active = {job_id: grew for job_id, grew in self.active.items() if job_id in self.jobs}
        self.next_scan = 0.0  # hints that were taken may be lost
        self.crowded = self.loose = True

    def _patiently(self, stop: threading.Event, step: Callable[[], bool | None]) -> bool:
        """Do `step`; where the database is busy or away, wait ever longer and do it again."""
        pause, most = _BACK_OFF_SECONDS
        recovering = False
        while not stop.is_set():
            try:
                if recovering:
                    self._recover()
                    recovering = False
                done = bool(step())
            except (Retry, Wait) as e:
                self._wait(e, pause)
            except OSError as e:
                if shortage(e) is None:
                    raise
                self._wait(Wait(shortage(e)), pause)
            else:
                self._wait_no_more()
                return done
            recovering = True
            stop.wait(pause)
            self.resumed = self.clock.monotonic()
            pause = min(2 * pause, most)
        return False

    def _wait(self, why: Retry | Wait, seconds: float) -> None:
        """Say what is waited for: to whoever listens, in the log, and in the heartbeat as far as it can be written."""
        if self.waiting != str(why):
            self.waiting = str(why)
            if self.told_waiting is not None:
                self.told_waiting(self.waiting)
        self.log.warning("database_waited_for", why=self.waiting, seconds=seconds)
        if self.turned is not None:
            self.turned()
        if self.id and not isinstance(why, Unreachable):
            with suppress(SummaryDBError):
                self._beat()

    def _wait_no_more(self) -> None:
        if self.waiting is not None:
            self.log.info("database_answers", after=self.waiting)
            self.waiting, self.next_beat = None, 0.0
            if self.told_waiting is not None:
                self.told_waiting(None)

    def _say(self, state: str) -> None:
        """Change what the heartbeat tells; it goes out at the next occasion."""
        if state != self.state:
            self.state, self.next_beat = state, 0.0

    def _common_now(self, conn: Connection) -> float:
        """Return the time that all indexers of this database share: on PostgreSQL its server's, whatever ours does."""
        return write.server_time(conn) if self.server_time else self.clock.now()

    def _beat(self) -> None:
        accessed, self.accessed = self.accessed, set()
        began = self.clock.monotonic()
        with transaction(self.database) as conn:
            now = self._common_now(conn)
            state = self.state if self.waiting is None else "waiting"
            if not write.beat(conn, self.id, now, state, self.waiting):
                write.enter(conn, socket.gethostname(), os.getpid(), __version__, now, again=self.id)
            write.require_schema(conn)  # behind the beat, which waits while the schema is being changed
            # The change counter stays: who only looks must not make every view look changed.
            write.update_jobs(conn, [{"id": job, "access_time": now} for job in accessed])
            if self.leased:
                write.renew(conn, self.id, now)
            outdated = write.outside_writes(conn) != self.database.outside_writes
            self.reloads.wishes = shadow.wishes(conn)
        for job in self.jobs.values():
            if job.leased_until > began:
                job.leased_until = began + LEASE_SECONDS
        self.next_beat = self.clock.monotonic() + _BEAT_SECONDS
        if self.turned is not None:
            self.turned()
        if outdated:
            raise Retry(write.CHANGED_OUTSIDE)

    def _recently_written(self, job: Job) -> bool:
        """A job that may still be written keeps its tags in memory."""
        return job.update_time is not None and self.clock.now() - job.update_time < _ACTIVE_SECONDS

    def _idle_seconds(self) -> float:
        due = min(self.next_scan, self.next_beat, self.next_active if self.active else float("inf"))
        return max(0.0, due - self.clock.monotonic())

    def _report(self, *, always: bool = False) -> None:
        now = self.clock.monotonic()
        if self.report is None or (now < self.next_report and not always):
            return
        self.next_report = now + _REPORT_SECONDS
        jobs = list(self.jobs.values())
        self.report(
            Progress(
                len(jobs),
                sum(job.cache_status is CacheStatus.CACHED for job in jobs),
                sum(job.bytes_on_disk for job in jobs),
                sum(job.bytes_indexed for job in jobs),
                sum(job.point_count for job in jobs),
            )
        )

    def _outcome(self) -> Outcome:
        shards = [shard for job in self.jobs.values() for shard in job.shards.values()]
        unreadable = dict(self.unreadable)
        for root in self.roots:
            unreadable |= root.unreadable
        return Outcome(
            len(self.jobs),
            sum(job.point_count for job in self.jobs.values()),
            sum(shard.bad_records for shard in shards),
            sum(shard.bad_bytes for shard in shards),
            [f"{path}: {why}" for path, why in sorted(unreadable.items())],
        )


def _taken(waiting: deque[Job]) -> Iterator[Job]:
    """Take jobs off the front until none is left; others may meanwhile take some off the end."""
    while True:
        try:
            job = waiting.popleft()
        except IndexError:
            return
        yield job


@contextmanager
def _ahead(batches: Iterator[Batch], prepare: Callable[[Batch], Prepared]) -> Iterator[Iterator[Prepared]]:
    """Read and prepare in a thread, one batch ahead. Its failure is raised here; leaving early ends it."""
    channel: queue.Queue[Prepared | BaseException | None] = queue.Queue(maxsize=1)
    left = threading.Event()

    def put(item: Prepared | BaseException | None) -> bool:
        while not left.is_set():
            try:
                channel.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for batch in batches:
                prepared = prepare(batch)
                if not put(prepared):
                    return
                while prepared.decides and not prepared.written.wait(0.1):
                    if left.is_set():
                        return
            put(None)
        except BaseException as e:  # it is raised again by whoever takes it
            put(e)

    def taken() -> Iterator[Prepared]:
        while (item := channel.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        left.set()
        thread.join()


def _keep(listing: Listing, known: Sequence[Job]) -> None:
    """Have files that are there, and cannot be looked at just now, stay as they were last seen."""
    for job in known:
        for shard in job.shards.values():
            why, what = listing.unreadable.get(str(job.path / shard.name), NO_FILE), recognise(shard.name)
            if why != NO_FILE and what is not None and shard.on_disk is not None:
                found = listing.jobs.setdefault(job.train_id, FoundJob(job.train_id))
                found.shards[shard.name] = FoundShard(shard.name, what, shard.on_disk)


def _on_disk(job: Job) -> set[str]:
    """Return the names of a job's files as the last look saw them."""
    return {name for name, shard in job.shards.items() if shard.on_disk is not None}


def _is_live(job: Job) -> bool:
    return job.cache_status is CacheStatus.CACHED and job.backlog <= LIVE_BYTES


def _below(train_id: str, prefixes: Sequence[str]) -> bool:
    return any(p == "./" or train_id == p or train_id.startswith(p + "/") for p in prefixes)


def _job_row(shards: Any, as_listed: Listed) -> dict[str, Any]:
    """Return the columns of a job that its files on disk decide; without files, what other tools left there."""
    found: list[FoundShard] = list(shards)
    if not found:
        return {
            "create_time": as_listed.listed_create_time,
            "update_time": as_listed.listed_update_time,
            "bytes_on_disk": 0,
        }
    return {
        "create_time": max(created(shard.what, shard.stat) for shard in found),
        "update_time": max(shard.stat.mtime_ns for shard in found) / 1e9,
        "bytes_on_disk": sum(shard.stat.size for shard in found),
    }


def _new_job_row(found: FoundJob) -> dict[str, Any]:
    """Return the columns of a job that was not known before. One without files has nothing that is to be loaded."""
    as_listed, _, _ = listed(found, found.beside or Beside())
    status = CacheStatus.NOT_IN_CACHE if found.shards else CacheStatus.CACHED
    return {**_job_row(found.shards.values(), as_listed), **_stored(as_listed), "cache_status": status.value}


def _shown(value: Any) -> Any:
    """Return a column of `jobs` as `_stored` was given it."""
    return show(value) if isinstance(value, str) else value


def _stored(as_listed: Listed) -> dict[str, Any]:
    """Return columns of `jobs`; directories may be named in any bytes."""
    return {name: store(value) if isinstance(value, str) else value for name, value in as_listed._asdict().items()}


def _shard_row(job_id: int, shard: FoundShard) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "name": store(shard.name),
        "kind": shard.what.kind.value,
        "format": (shard.what.format or Format.TENSORBOARD).value,
        "size": shard.stat.size,
    }
