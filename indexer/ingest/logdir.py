"""Root → jobs → shards: what lies on disk, by one walk that reads no file.

A failed listing is an error that names the directory, never "no jobs". Rules of recognition and order:
docs/formats/mindspore.md and docs/formats/tensorboard.md.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from indexer.ports import Files, Stat, stat_of
from indexer.types import Format, ShardKind

_SUMMARY = re.compile(r"summary\.(\d+)")
_TFEVENTS = re.compile(r"tfevents(?:\.(\d+))?")
_GRAPH = re.compile(r"\.pb$")
_NO_GRAPH = re.compile(r"^memory_usage_\d+\.pb$")
NO_FILE = "not a regular file"
_LAST_SECOND = 253402300799  # of the year 9999
_PROFILER = re.compile(r"^profiler")
_PROFILED = re.compile(r"^profiler_info_.+\.json$")
_PROFILERS = {  # what a profiler directory holds says where the training ran
    "ascend": ("ascend_timeline_display", "output_op_compute_time"),
    "gpu": ("gpu_op_detail_info", "gpu_activity_data", "gpu_op_type_info"),
    "cpu": ("cpu_op_detail_info", "cpu_op_type_info"),
}
_RANK = re.compile(r"^rank_\d+$")
_DUMPED = ".dump_metadata"


@dataclass(frozen=True, slots=True)
class Name:
    """What a file's name promises."""

    kind: ShardKind
    format: Format | None  # None: it fits both, the version record decides
    timestamp: int | None  # as written in it


@dataclass(slots=True)
class FoundShard:
    """A file on disk."""

    name: str
    what: Name
    stat: Stat
    links: int = 1  # names that the file has, here or elsewhere; of a symbolic link 2
    changed: float = 0.0  # inode change time, seconds


@dataclass(slots=True)
class Beside:
    """Directories of other tools in that of a job; they are only named, never read."""

    profiler_dir: str | None = None  # "./profiler", relative to the job
    profiler_type: str = ""  # ascend, gpu, cpu
    graph_mode: str | None = None  # of a profiler whose type is known: static, dynamic
    dump_dir: str | None = None  # "./job/dump", relative to the root
    first: tuple[float, float] | None = None  # modification and change time of the directory modified first, seconds

    def __bool__(self) -> bool:
        """Tell whether there is any."""
        return self.profiler_dir is not None or self.dump_dir is not None


NOTHING = Beside()
"""Somebody looked, and there was none. Shared, so not to be changed."""


@dataclass(slots=True)
class FoundJob:
    """A directory on disk that is a train job."""

    train_id: str  # './a/b'
    shards: dict[str, FoundShard] = field(default_factory=dict)
    beside: Beside | None = None  # None: nobody looked

    @property
    def there(self) -> bool:
        """Tell whether anything of it is on disk."""
        return bool(self.shards) or self.beside is None or bool(self.beside)


@dataclass(slots=True)
class Listing:
    """What a walk saw."""

    jobs: dict[str, FoundJob] = field(default_factory=dict)  # by train_id
    unreadable: dict[str, str] = field(default_factory=dict)  # path → why; what lies below is not known
    failed: list[str] = field(default_factory=list)  # train_ids of directories that could not be listed


def recognise(name: str) -> Name | None:
    """Return what a file of this name is, None where it is none of ours."""
    tfevents = _TFEVENTS.search(name)
    summary = _SUMMARY.search(name)
    if summary is not None:
        timestamp = int(summary.group(1))
        if name.endswith("_lineage"):
            return Name(ShardKind.LINEAGE, Format.MINDSPORE, timestamp)
        if name.endswith("_explain"):
            return Name(ShardKind.EXPLAIN, Format.MINDSPORE, timestamp)
        return Name(ShardKind.SUMMARY, None if tfevents else Format.MINDSPORE, timestamp)
    if tfevents is not None:
        digits = tfevents.group(1)
        return Name(ShardKind.SUMMARY, Format.TENSORBOARD, int(digits) if digits else None)
    if _GRAPH.search(name) and not _NO_GRAPH.search(name):
        return Name(ShardKind.GRAPH, Format.MINDSPORE, None)
    return None


def created(what: Name, stat: Stat) -> float:
    """Return when a file was created, in seconds: the timestamp in its name, else its mtime.

    A number beyond the year 9999 is milliseconds, and no timestamp where that is beyond it too.
    """
    if what.timestamp is not None:
        if what.timestamp <= _LAST_SECOND:
            return float(what.timestamp)
        if what.timestamp <= _LAST_SECOND * 1000:
            return what.timestamp / 1000
    return stat.mtime_ns / 1e9


def load_order(name: str) -> tuple[int, int, tuple[int, ...]]:
    """Return the key by which a job's shards are loaded.

    MindSpore: by timestamp, equal ones by name descending. TensorBoard: by name in byte order, after the others.
    """
    raw = os.fsencode(name)
    what = recognise(name)
    if what is not None and what.format is Format.TENSORBOARD:
        return (1, 0, tuple(raw))
    timestamp = what.timestamp if what is not None and what.timestamp is not None else 0
    return (0, timestamp, (*(-byte for byte in raw), 1))


def walk(root: Path, files: Files, *, start: str = "./", follow_symlinks: bool = False) -> Listing:
    """List all jobs at and below the train_id `start` of `root`, at any depth.

    Raises OSError where `root` itself cannot be listed.
    """
    listing = Listing()
    beside: dict[str, Beside] = {}
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[str, str]] = [(str(root / start), start)]  # plain text: of tens of thousands, Path is most
    while pending:
        path, train_id = pending.pop()
        if follow_symlinks:
            try:
                status = os.stat(path)  # noqa: PTH116
            except OSError:
                if train_id == "./":
                    raise
                continue  # vanished since its parent was listed
            if (status.st_dev, status.st_ino) in seen:
                continue  # a link to a directory above it
            seen.add((status.st_dev, status.st_ino))
        prefix = "./" if train_id == "./" else train_id + "/"
        names = _list(path, train_id, files, listing, follow_symlinks=follow_symlinks)
        below = os.path.join(path, "")  # noqa: PTH118
        pending.extend((below + name, prefix + name) for name in names)
        if names:
            _look_beside(beside, Path(path), train_id, names, files)
    for train_id, found in beside.items():
        listing.jobs.setdefault(train_id, FoundJob(train_id))
        listing.jobs[train_id].beside = found
    for job in listing.jobs.values():
        if job.beside is None:
            job.beside = NOTHING
    return listing


def _look_beside(beside: dict[str, Beside], path: Path, train_id: str, names: list[str], files: Files) -> None:
    """Note profiler directories in `path`, and that `path` is a directory of dumps. MindInsight looks one level deep.

    Source of the rules: docs/formats/mindspore.md.
    """
    depth = 0 if train_id == "./" else train_id.count("/")
    if depth <= 1:
        profilers = [(seen, name) for name in names if _PROFILER.search(name) if (seen := _times(path / name))]
        for seen, name in sorted(profilers):
            inside = _names_in(path / name, files)
            if any(_PROFILED.search(other) for other in inside):
                found = _beside(beside, train_id, seen)
                found.profiler_dir = f"./{name}"
                found.profiler_type = next(
                    (kind for kind, prefixes in _PROFILERS.items() if any(o.startswith(prefixes) for o in inside)), ""
                )
                found.graph_mode = None
                if found.profiler_type:
                    dynamic = any(other.startswith("dynamic_shape_info") for other in inside)
                    found.graph_mode = "dynamic" if dynamic else "static"
    if 1 <= depth <= 2 and any(_RANK.search(name) and os.path.lexists(path / name / _DUMPED) for name in names):
        above = train_id.rpartition("/")[0]
        seen_here = _times(path)
        if seen_here is not None:
            _beside(beside, "./" if above == "." else above, seen_here).dump_dir = train_id


def _beside(beside: dict[str, Beside], train_id: str, seen: tuple[float, float]) -> Beside:
    found = beside.setdefault(train_id, Beside())
    found.first = seen if found.first is None else min(found.first, seen)
    return found


def _times(path: Path) -> tuple[float, float] | None:
    """Return when a directory was modified, and when its inode was changed; None where it vanished."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_mtime, status.st_ctime


def _names_in(path: Path, files: Files) -> list[str]:
    try:
        return [entry.name for entry in files.scandir(path)]
    except OSError:
        return []  # the walk itself says so


def look(path: Path, train_id: str, files: Files, *, follow_symlinks: bool = False) -> Listing:
    """List the one job in `path`, if it is one."""
    listing = Listing()
    _list(str(path), train_id, files, listing, follow_symlinks=follow_symlinks)
    return listing


def _list(path: str, train_id: str, files: Files, listing: Listing, *, follow_symlinks: bool) -> list[str]:
    """Add the job in `path` to `listing`; return the names of its subdirectories."""
    job = FoundJob(train_id)
    below: list[str] = []
    try:
        for entry in files.scandir(path):
            try:
                if entry.is_dir(follow_symlinks=follow_symlinks):
                    below.append(entry.name)
                    continue
            except OSError:
                if not entry.is_symlink():
                    raise
                continue  # a link to itself
            what = recognise(entry.name)
            if what is None or (entry.is_symlink() and not follow_symlinks):
                continue
            try:
                status = entry.stat(follow_symlinks=follow_symlinks)
            except FileNotFoundError:
                continue  # vanished since it was listed, or a link to nothing
            except OSError as e:
                listing.unreadable[entry.path] = e.strerror or str(e)
                continue
            if not entry.is_file(follow_symlinks=follow_symlinks):
                listing.unreadable[entry.path] = NO_FILE
                continue
            links = 2 if entry.is_symlink() else status.st_nlink
            job.shards[entry.name] = FoundShard(entry.name, what, stat_of(status), links, status.st_ctime)
    except FileNotFoundError:
        if train_id == "./":
            raise
        return []  # vanished since its parent was listed
    except OSError as e:
        if train_id == "./":
            raise
        listing.unreadable[path] = e.strerror or str(e)
        listing.failed.append(train_id)
        return []
    if train_id.count("/") > 1 and all(shard.what.kind is ShardKind.GRAPH for shard in job.shards.values()):
        job.shards.clear()  # MindInsight looks for lone graph files one level deep only
    if job.shards:
        listing.jobs[train_id] = job
    return below
