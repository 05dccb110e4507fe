"""Runs and series as the data provider lists them, kept ready: a commit of the indexer makes only its jobs stale.

A page asks for lists again and again; a list is joined from what each run's answer was. Nothing in here is older than
the snapshot it is asked with.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from indexer import text
from indexer.db.connection import Connection, among
from indexer.errors import Refuse
from indexer.version import REVISION, VERSION_TABLE
from webapi.dataprovider import answers, payloads, sampling
from webapi.dataprovider.requests import Wanted
from webapi.dataprovider.series import GRAPHS, LINEAGE, RUN_GRAPH, DataClass, Series, TagRow, mindspore, shape_of

MAX_SERIES = 500_000
"""Series in memory; those of the runs that nobody asked for longest go."""
_JOBS_AT_ONCE = 500

_STATE = f"""SELECT database_id, change_counter, (SELECT version_num FROM {VERSION_TABLE}) FROM index_state"""
# A job of a graph file alone has no clock, but something to show.
_JOBS = """SELECT id, root_id, train_id, coalesce(start_time, CASE WHEN point_count > 0 THEN create_time END), revision
FROM jobs"""
_TAGS = """SELECT id, job_id, plugin, name, data_class, metadata, content, point_count, last_step, last_wall_time,
    max_wall_time, last_value, max_length, seq, rolled_count,
    min_value IS NOT NULL OR nan_count + pos_inf_count + neg_inf_count > 0
FROM tags WHERE job_id IN ({}) ORDER BY job_id, id"""
_BLOBS = (
    """SELECT tag_id, kind, count, errors FROM blob_counts WHERE tag_id IN (SELECT id FROM tags WHERE job_id IN ({}))"""
)


JobRow = tuple[int, int, str, float | None, int]
"""Columns of `_JOBS`."""
Kinds = dict[str, tuple[int, int]]
"""Payloads of a series by kind: how many there are, and how many of them with an error."""


@dataclass(slots=True)
class Run:
    """A job as TensorBoard has it. It never changes, but for `entries`, which whoever fills them fills alike."""

    id: int
    version: tuple[str, int]  # database and revision: what is the same in them is the same
    name: str
    start_time: float | None
    groups: dict[tuple[str, DataClass], tuple[Series, ...]] | None = None  # by plugin; None: not looked up yet
    entries: dict[tuple[str, DataClass], bytes] = field(default_factory=dict)  # in a List of everything

    def of(self, wanted: Wanted, data_class: DataClass) -> Sequence[Series]:
        """Return the series that are asked for, by name, those without any point too."""
        group = (self.groups or {}).get((wanted.plugin, data_class), ())
        return group if wanted.tags is None else [one for one in group if one.name in wanted.tags]


class Catalogue:
    """What is known of one database. Many threads may ask at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = ""
        self._counter = -1
        self._roots: dict[int, str] = {}
        self._runs: dict[int, Run] = {}  # by job
        self._order: tuple[Run, ...] = ()  # those with an event, by start and name
        self._loaded: OrderedDict[int, int] = OrderedDict()  # job → number of its series; asked for last comes last

    @property
    def seen(self) -> bool:
        """Tell whether there was a database, ever."""
        return bool(self._database)

    def runs(self, conn: Connection) -> tuple[Run, ...]:
        """Return all runs with an event, by the time they began, then by name; their series may be missing."""
        with self._lock:
            self._refresh(conn)
            return self._order

    def with_series(self, conn: Connection, wanted: frozenset[str] | None = None) -> list[Run]:
        """Return the runs of these names (None: all) with their series, in the same order."""
        with self._lock:
            self._refresh(conn)
            chosen = [run for run in self._order if wanted is None or run.name in wanted]
            missing = [run for run in chosen if run.groups is None]
            for start in range(0, len(missing), _JOBS_AT_ONCE):
                self._look_up(conn, missing[start : start + _JOBS_AT_ONCE])
            if missing or len(self._loaded) > len(chosen):
                self._keep(chosen)
            return [self._runs[run.id] for run in chosen] if missing else chosen

    def _refresh(self, conn: Connection) -> None:
        """Bring runs to the state of `conn`. One statement where nothing was committed since."""
        row = conn.execute(_STATE).fetchone()
        if row is None:
            raise Refuse("the database is empty: run `summarydb up LOGDIR` or `summarydb db upgrade` first")
        database, counter, version = row
        if version != REVISION:
            raise Refuse(f"the database has schema {version}, this program needs {REVISION}: it may be being migrated")
        if database != self._database:
            self._database, self._counter, self._runs, self._roots = database, -1, {}, {}
            self._loaded.clear()
        if counter == self._counter:
            return
        roots = {key: text.show(name) for key, name in conn.execute("SELECT id, name FROM roots").fetchall()}
        # A snapshot may be older than what another thread has seen: then all is read anew, as of that snapshot.
        whole = roots != self._roots or counter < self._counter
        if not whole:
            self._take(conn.execute(f"{_JOBS} WHERE revision > ?", (self._counter,)).fetchall(), roots)
            whole = conn.execute("SELECT count(*) FROM jobs").fetchone()[0] != len(self._runs)
        if whole:
            rows = conn.execute(_JOBS).fetchall()
            gone = set(self._runs).difference(row[0] for row in rows)
            for job in gone:
                del self._runs[job]
                self._loaded.pop(job, None)
            self._take(rows, roots)
        self._roots, self._counter = roots, counter
        begun = [run for run in self._runs.values() if run.start_time is not None]
        self._order = tuple(sorted(begun, key=lambda run: (run.start_time or 0.0, run.name)))

    def _take(self, rows: Iterable[JobRow], roots: dict[int, str]) -> None:
        """Note rows of `_JOBS`; a run whose row is as it was keeps its series."""
        for job, root, train_id, start_time, revision in rows:
            name = _run_name(train_id, roots[root] if len(roots) > 1 else None)
            known = self._runs.get(job)
            version = (self._database, revision)
            if known is not None and (known.version, known.name, known.start_time) == (version, name, start_time):
                continue
            self._runs[job] = Run(job, version, name, start_time)
            self._loaded.pop(job, None)

    def _look_up(self, conn: Connection, runs: Sequence[Run]) -> None:
        """Read the series of runs. A fixed number of statements, and one a series whose points are to be looked at."""
        ids = among(run.id for run in runs)
        rows = [TagRow(*row) for row in conn.execute(_TAGS.format(ids)).fetchall()]
        kinds: dict[int, Kinds] = {}
        for tag, kind, count, errors in conn.execute(_BLOBS.format(ids)).fetchall():
            kinds.setdefault(tag, {})[kind] = (count, errors)
        found: dict[int, dict[tuple[str, str], Series]] = {run.id: {} for run in runs}
        for row in rows:
            made = _series(row, kinds.get(row.id, {}))
            if made is not None:  # the first value of a tag decides what it is; MindSpore's plugins each have theirs
                found[row.job_id].setdefault((made.name, made.source if mindspore(row) else ""), made)
        every = [one for of_run in found.values() for one in of_run.values()]
        _look_at_points(conn, every)
        for run in runs:
            groups: dict[tuple[str, DataClass], list[Series]] = {}
            for one in sorted(found[run.id].values(), key=lambda one: one.name):
                groups.setdefault((one.plugin, one.data_class), []).append(one)
            sorted_ = {key: tuple(group) for key, group in groups.items()}
            self._runs[run.id] = Run(run.id, run.version, run.name, run.start_time, sorted_)
            self._loaded[run.id] = len(found[run.id])
        self._order = tuple(self._runs[run.id] for run in self._order)

    def _keep(self, asked: Sequence[Run]) -> None:
        """Forget series of other runs where there are too many."""
        for run in asked:
            self._loaded.move_to_end(run.id)
        total = sum(self._loaded.values())
        while total > MAX_SERIES and len(self._loaded) > len(asked):
            job, count = self._loaded.popitem(last=False)
            total -= count
            run = self._runs[job]
            self._runs[job] = Run(run.id, run.version, run.name, run.start_time)
        self._order = tuple(self._runs[run.id] for run in self._order)


def listed(run: Run, wanted: Wanted, data_class: DataClass) -> bytes:
    """Return a run's part of a List answer; nothing where it has none of the series."""
    key = (wanted.plugin, data_class)
    if wanted.tags is None and key in run.entries:
        return run.entries[key]
    entries = [
        answers.entry(
            one.name,
            answers.metadata(
                one.last_step,
                one.max_wall_time,
                one.summary,
                one.max_length if data_class is DataClass.BLOB_SEQUENCE else None,
            ),
        )
        for one in run.of(wanted, data_class)
        if one.shown
    ]
    answer = answers.run_entry(run.name, entries) if entries else b""
    if wanted.tags is None:
        run.entries[key] = answer
    return answer


def _run_name(train_id: str, root: str | None) -> str:
    """Return TensorBoard's name of a job: its path below the root, behind the root's name where there are several."""
    path = _utf8(train_id).removeprefix("./") or "."
    if root is None:
        return path
    return _utf8(root) if path == "." else f"{_utf8(root)}/{path}"


def _utf8(stored: str) -> str:
    """Return a stored name as the file has it; as it is stored where that is no text of protobuf."""
    shown = text.show(stored)
    try:
        shown.encode()
    except UnicodeEncodeError:
        return stored
    return shown


def _series(row: TagRow, kinds: Kinds) -> Series | None:
    shape = shape_of(row)
    if shape is None:
        return None
    name, source = _utf8(row.name), row.plugin
    if mindspore(row):
        if row.plugin == GRAPHS.removesuffix("s"):
            name = RUN_GRAPH
        elif row.plugin == LINEAGE:
            name = f"{LINEAGE}/{name}"
    made = Series(
        row.id,
        name,
        _utf8(shape.plugin),
        shape.data_class,
        shape.summary,
        source,
        row.point_count,
        row.last_step or 0,
        0.0 if row.last_wall_time is None else row.last_wall_time,
        float("nan") if row.last_value is None else row.last_value,
        0.0 if row.max_wall_time is None else row.max_wall_time,
        row.max_length,
        disturbed=row.seq > 0,
        rolled_count=row.rolled_count,
        numbers=bool(row.numbers) and shape.data_class is not DataClass.SCALAR,
    )
    made.mixed = payloads.doubtful(made, kinds)
    return made


def _look_at_points(conn: Connection, every: Sequence[Series]) -> None:
    """Say of series what only their points tell."""
    for one in every:
        if one.mixed:
            valid = payloads.valid_points(conn, one)
            one.valid = len(valid)
            if one.valid:
                one.last_step, one.max_wall_time = int(valid.step[-1]), valid.max_wall_time
                one.max_length = valid.max_length
    # Where the newest clock is the latest, which points are superseded does not matter.
    back = {one.id: one for one in every if one.disturbed and not one.mixed and one.last_wall_time < one.max_wall_time}
    for tag, wall_time in sampling.latest(conn, list(back)).items():
        back[tag].max_wall_time = wall_time
