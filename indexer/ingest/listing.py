"""What MindInsight lists of a job's directory, by its own rules: they differ from ours on what a job's times are.

It dates a job by the file with the newest creation time: the timestamp in its name, of a graph file its inode change
time. A job's update time is when that file was modified, whatever is newer. Source: docs/formats/mindspore.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from indexer.ingest.logdir import Beside, FoundJob, FoundShard, created
from indexer.types import ShardKind


class Listed(NamedTuple):
    """Columns of `jobs`. Times are seconds since the epoch; None where the job has no such files."""

    listed_create_time: float | None = None
    listed_update_time: float | None = None
    explain_create_time: float | None = None
    explain_update_time: float | None = None
    profiler_dir: str | None = None
    profiler_type: str | None = None
    graph_mode: str | None = None
    dump_dir: str | None = None

    @property
    def beside(self) -> Beside:
        """The directories of other tools, without their times."""
        return Beside(self.profiler_dir, self.profiler_type or "", self.graph_mode, self.dump_dir)

    def same(self, other: Listed) -> bool:
        """Tell whether both say the same, but for when files were modified: loading them writes that."""
        return self._replace(listed_update_time=None, explain_update_time=None) == other._replace(
            listed_update_time=None, explain_update_time=None
        )


def listed(found: FoundJob, beside: Beside) -> tuple[Listed, str | None, str | None]:
    """Return what is listed, and the names of the newest file and the newest explain file."""
    train = _newest(shard for shard in found.shards.values() if shard.what.kind is not ShardKind.EXPLAIN)
    explain = _newest(shard for shard in found.shards.values() if shard.what.kind is ShardKind.EXPLAIN)
    times, name = _times(train), None if train is None else train.name
    if beside.first is not None:
        modified, changed = beside.first
        files = (shard for shard in found.shards.values() if shard.what.kind is not ShardKind.EXPLAIN)
        earlier = all(modified < shard.stat.mtime_ns / 1e9 for shard in files)
        if times[0] is None or (earlier and changed >= times[0]):  # it is met first, and no file is newer
            times, name = (changed, modified), None
    row = Listed(
        *times,
        *_times(explain),
        beside.profiler_dir,
        beside.profiler_type or None,
        beside.graph_mode,
        beside.dump_dir,
    )
    return row, name, None if explain is None else explain.name


def _newest(shards: Iterable[FoundShard]) -> FoundShard | None:
    """Return the file with the newest creation time; of equal ones that which was modified first."""
    return max(shards, key=lambda shard: (_created(shard), -shard.stat.mtime_ns), default=None)


def _created(shard: FoundShard) -> float:
    return shard.changed if shard.what.timestamp is None and shard.changed else created(shard.what, shard.stat)


def _times(shard: FoundShard | None) -> tuple[float | None, float | None]:
    return (None, None) if shard is None else (_created(shard), shard.stat.mtime_ns / 1e9)
