"""What may be dropped, and dropping it: rules choose jobs, tags or old points; a plan says what would go.

Everything is done in transactions of bounded size, each of which leaves the tables whole, so a prune that is killed is
just not finished: the next one goes on. Decision: docs/decisions/0024-prune.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from indexer.db import bulk, retention, rollups
from indexer.db.connection import Connection, Database
from indexer.db.dialect import POSTGRESQL
from indexer.db.retention import JobFound, Place, Rows, TagFound
from indexer.errors import Refuse, Retry, UsageError
from indexer.types import DataClass

LEAST_POINTS = 100
"""A series is thinned to no fewer."""

_BYTES_A_POINT = {POSTGRESQL: 90}  # roughly, with its share of the index
_SQLITE_BYTES_A_POINT = 36
_PAGE_POINTS = 100_000  # looked at in one transaction
_TAGS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What to drop. All rules that choose jobs must hold; without `tags` and `thin_to` whole jobs go."""

    jobs: tuple[str, ...] = ()  # id, ./train/id or root:./train/id
    older_than: float | None = None  # seconds since the last change of its files
    keep_runs: int | None = None  # the newest so many of each root stay
    missing: bool = False  # only jobs whose files are gone
    tags: tuple[str, ...] = ()  # patterns with * and ?: only these tags
    thin_older_than: float | None = None  # seconds: only points written before
    thin_to: int | None = None  # points that stay of them, roughly; at least LEAST_POINTS


@dataclass(slots=True)
class Thinning:
    """A series of which many old points go."""

    tag: TagFound
    points: int  # that go


@dataclass(slots=True)
class Plan:
    """What would go."""

    rules: Rules
    jobs: list[JobFound] = field(default_factory=list)  # whole ones
    tags: list[TagFound] = field(default_factory=list)  # whole ones of other jobs
    thinned: list[Thinning] = field(default_factory=list)
    of_jobs: dict[int, JobFound] = field(default_factory=dict)  # jobs of `tags` and `thinned`
    tag_count: int = 0
    points: int = 0
    bytes: int = 0  # roughly


def check(rules: Rules) -> None:
    """UsageError where rules make no sense."""
    if rules == Rules():
        raise UsageError("nothing is chosen: give --older-than, --keep-runs, --missing, --job, --tag or --thin-to")
    if (rules.thin_to is None) != (rules.thin_older_than is None):
        raise UsageError("--thin-to and --thin-older-than go together: how many points stay, and of which age")
    if rules.thin_to is not None and rules.thin_to < LEAST_POINTS:
        raise UsageError(f"--thin-to {rules.thin_to}: a series keeps its shape with {LEAST_POINTS} points or more")


def plan(conn: Connection, rules: Rules, now: float) -> Plan:
    """Return what would go. Refuse where a job that is named does not exist."""
    check(rules)
    found = Plan(rules)
    jobs = _jobs(conn, rules, now)
    if rules.thin_to is None and not rules.tags:
        found.jobs = jobs
        found.tag_count, found.points, size = retention.sums(conn, [job.id for job in jobs])
        found.bytes = size + found.points * _bytes_a_point(conn)
        return found
    by_id = {job.id: job for job in jobs}
    for start in range(0, len(jobs), 100):
        tags = retention.tags(conn, [job.id for job in jobs[start : start + 100]])
        chosen = [tag for tag in tags if not rules.tags or _matches(tag.name, rules.tags)]
        if rules.thin_to is None:
            found.tags += chosen
        else:
            found.thinned += _to_thin(conn, chosen, rules, now)
    of_tags = [*found.tags, *(thinning.tag for thinning in found.thinned)]
    found.of_jobs = {tag.job_id: by_id[tag.job_id] for tag in of_tags}
    found.tag_count = len(found.tags)
    found.points = sum(tag.point_count for tag in found.tags) + sum(t.points for t in found.thinned)
    found.bytes = sum(tag.blob_bytes for tag in found.tags) + found.points * _bytes_a_point(conn)
    return found


def _bytes_a_point(conn: Connection) -> int:
    return _BYTES_A_POINT.get(conn.dialect, _SQLITE_BYTES_A_POINT)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _jobs(conn: Connection, rules: Rules, now: float) -> list[JobFound]:
    """Return the jobs that all rules choose."""
    everything = retention.jobs(conn)
    chosen = everything
    if rules.jobs:
        ids = {job.id for reference in rules.jobs for job in [_only(conn, reference)]}
        chosen = [job for job in chosen if job.id in ids]
    if rules.keep_runs is not None:
        kept: set[int] = set()
        for _, of_root in groupby(sorted(everything, key=attrgetter("root_id")), key=attrgetter("root_id")):
            newest = sorted(of_root, key=lambda job: (job.update_time or 0.0, job.id), reverse=True)
            kept.update(job.id for job in newest[: rules.keep_runs])
        chosen = [job for job in chosen if job.id not in kept]
    if rules.older_than is not None:
        chosen = [job for job in chosen if (job.update_time or 0.0) < now - rules.older_than]
    if rules.missing:
        chosen = [job for job in chosen if job.missing_since is not None]
    return chosen


def _only(conn: Connection, reference: str) -> JobFound:
    found = retention.named(conn, reference)
    if not found:
        raise Refuse(f"there is no job {reference}: `summarydb status` lists them")
    if len(found) > 1:
        names = ", ".join(f"{job.root}:{job.train_id}" for job in found)
        raise Refuse(f"{reference} is a job of several roots: write one of {names}, or its id")
    return found[0]


# Doing it -----------------------------------------------------------------------------------------------------------
def prune(
    database: Database, found: Plan, now: Callable[[], float], report: Callable[[str], None] = lambda _: None
) -> Plan:
    """Do what a plan says; return what was done. A job whose files changed meanwhile stays.

    report: told of every job that stays, as a line.
    """
    done = Plan(found.rules, of_jobs=found.of_jobs)
    dialect_bytes = _BYTES_A_POINT.get(database.dialect, _SQLITE_BYTES_A_POINT)
    for job in found.jobs:
        gone = retention.patiently(lambda job=job: _drop_job(database, job, now()))  # type: ignore[misc]
        if gone is None:
            report(f"{job.root}:{job.train_id} changed meanwhile, and stays")
            continue
        tags, points, size = gone
        done.jobs.append(job)
        done.tag_count += tags
        done.points += points
        done.bytes += size + points * dialect_bytes
        sweep(database, now())
    for job_id, of_job in groupby(found.tags, key=attrgetter("job_id")):
        tags_of_job = list(of_job)
        for start in range(0, len(tags_of_job), _TAGS_AT_ONCE):
            some = tags_of_job[start : start + _TAGS_AT_ONCE]
            retention.patiently(lambda job_id=job_id, some=some: _drop_tags(database, job_id, some, now()))  # type: ignore[misc]
            done.tags += some
            done.tag_count += len(some)
            points = sum(tag.point_count for tag in some)
            done.points += points
            done.bytes += sum(tag.blob_bytes for tag in some) + points * dialect_bytes
            sweep(database, now())
    for thinning in found.thinned:
        points = thin(database, thinning.tag.id, found.rules, now())
        done.thinned.append(Thinning(thinning.tag, points))
        done.points += points
        done.bytes += points * dialect_bytes
    sweep(database, now())  # also what an earlier one left
    return done


def sweep(database: Database, now: float) -> None:
    """Delete all points of tags that are gone, a bounded number at a time."""
    while retention.patiently(lambda: retention.sweep(database, now)):
        pass


def _drop_job(database: Database, job: JobFound, now: float) -> tuple[int, int, int] | None:
    """Delete a job; return its tags, points and bytes of payloads. None where it is not what it was."""
    with retention.outside(database) as (conn, _):
        (same,) = retention.jobs(conn, [job.id]) or (None,)
        if same is None or same.update_time != job.update_time:
            return None
        gone = retention.sums(conn, [job.id])
        retention.drop_job(conn, job.id, now)
    return gone


def _drop_tags(database: Database, job_id: int, tags: Sequence[TagFound], now: float) -> None:
    with retention.outside(database) as (conn, revision):
        retention.drop_tags(conn, job_id, [tag.id for tag in tags], now, revision)


# Thinning -----------------------------------------------------------------------------------------------------------
def _to_thin(conn: Connection, tags: Sequence[TagFound], rules: Rules, now: float) -> list[Thinning]:
    """Return the series that have many more old points than shall stay."""
    found = []
    for tag in tags:
        if tag.data_class == DataClass.SCALAR and tag.point_count > 2 * (rules.thin_to or 0):
            going = _Thinner.of(conn, tag.id, rules, now)
            if going is not None:
                found.append(Thinning(tag, going.count(conn)))
    return found


def thin(database: Database, tag_id: int, rules: Rules, now: float) -> int:
    """Thin a series, a page of it in each transaction; return how many points went."""
    thinner = _Thinner.of(database.connect(), tag_id, rules, now)
    gone = 0
    while thinner is not None and not thinner.done:
        gone += retention.patiently(lambda thinner=thinner: thinner.step(database))  # type: ignore[misc]
        if thinner.changed:  # somebody loaded more of it: look again at what must stay
            thinner = _Thinner.of(database.connect(), tag_id, rules, now)
    return gone


@dataclass(slots=True)
class _Thinner:
    """Goes through a series from its end to its beginning, so that what it did is behind the rollups it builds."""

    tag_id: int
    now: float
    before: float  # points written later are not touched
    corners: set[Place]  # stay
    width: int  # of a bucket, old points: two of each stay
    point_count: int  # of the tag, as far as we know
    below: Place | None = None  # where to go on
    done: bool = False
    changed: bool = False

    @staticmethod
    def of(conn: Connection, tag_id: int, rules: Rules, now: float) -> _Thinner | None:
        """Return what is to be done, None where the series has no more than twice the points that shall stay."""
        if bulk.index_missing(conn):
            raise Retry("a large load is under way, and points cannot be looked up before its end; try again then")
        most, before = rules.thin_to or LEAST_POINTS, now - (rules.thin_older_than or 0.0)
        stored = retention.point_count(conn, tag_id)
        if stored is None or stored <= 2 * most:
            return None
        old = retention.count_old(conn, tag_id, before)
        if old <= 2 * most:
            return None
        corners = retention.corners(conn, tag_id)
        left = old - len(corners)  # at least: some of them are not old, or not finite
        if left <= 2 * most:
            return None
        return _Thinner(tag_id, now, before, corners, -(-old // (most // 2)), stored)

    def count(self, conn: Connection) -> int:
        """Return how many points would go."""
        below: Place | None = None
        gone = 0
        while True:
            rows = retention.page(conn, self.tag_id, below, self._page)
            if not len(rows):
                return gone
            gone += int((~self._kept(rows)).sum())
            below = (int(rows[0]["step"]), int(rows[0]["seq"]))

    def step(self, database: Database) -> int:
        """Thin a page in one transaction; return how many points went."""
        with retention.outside(database) as (conn, revision):
            if bulk.index_missing(conn):
                raise Retry("a large load is under way, and points cannot be looked up before its end")
            stored = retention.point_count(conn, self.tag_id)
            if stored != self.point_count:
                self.changed = True
                return 0
            rows = retention.page(conn, self.tag_id, self.below, self._page)
            if not len(rows):
                self.done = True
                return 0
            kept = self._kept(rows)
            gone = int((~kept).sum())
            first = (int(rows[0]["step"]), int(rows[0]["seq"]))
            if gone:
                retention.replace_points(conn, self.tag_id, rows, kept)
                rollups.rebuild_from(conn, self.tag_id, first[0])
                job_id = int(conn.value("SELECT job_id FROM tags WHERE id = ?", (self.tag_id,)))
                retention.note_pruned(conn, job_id, self.now, revision)
        self.point_count -= gone  # committed
        self.below = first
        return gone

    @property
    def _page(self) -> int:
        return max(_PAGE_POINTS, self.width)

    def _kept(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Tell of consecutive points, by (step, seq), which stay; shape (n,)."""
        old_ones = rows["wall_time"] < self.before  # without a clock nobody knows: it stays
        kept: npt.NDArray[np.bool_] = ~(old_ones & np.isfinite(rows["value"]))
        for place, (step, seq) in enumerate(zip(rows["step"].tolist(), rows["seq"].tolist(), strict=True)):
            if (step, seq) in self.corners:
                kept[place] = True
        old = np.flatnonzero(~kept)
        old = old[np.lexsort((rows["step"][old], rows["seq"][old]))]  # what a restart overtook is a curve of its own
        kept[old[thinned(rows["seq"][old], rows["value"][old], self.width)]] = True
        return kept


def thinned(seq: npt.NDArray[np.int64], value: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.intp]:
    """Return the indices of the smallest and the largest of every `width` values of a seq, ascending.

    seq, value: shape (n,), seq ascending, values finite.
    """
    if not len(value):
        return np.empty(0, np.intp)
    new = np.diff(seq, prepend=seq[0] - 1) != 0
    firsts = np.flatnonzero(new)
    rank = np.arange(len(seq)) - firsts[np.cumsum(new) - 1]
    starts = np.flatnonzero(rank % width == 0)
    ends = np.append(starts[1:], len(value)) - 1
    order = np.lexsort((value, np.cumsum(rank % width == 0)))
    return np.unique(np.concatenate([order[starts], order[ends]]))
