"""What the indexer remembers of jobs and shards between two commits: mirrors of their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from indexer.ingest.listing import Listed
from indexer.ingest.sequence import TagState
from indexer.ports import Stat
from indexer.types import CacheStatus, Format, ShardKind, ShardState


@dataclass(slots=True, eq=False)
class Shard:
    """A file of a job, as far as it is in the database."""

    id: int
    name: str
    generation: int
    kind: ShardKind
    format: Format | None  # None until a version record decided
    cursor: int = 0
    seen: Stat | None = None  # when it was last read; None: never
    fingerprint: bytes | None = None
    tail: bytes | None = None
    state: ShardState = ShardState.GROWING
    record_count: int = 0
    bad_records: int = 0
    bad_bytes: int = 0
    lost_since: int | None = None
    lost_bytes: int = 0  # of the damage there that nothing good ended yet: counted in `bad_bytes`
    on_disk: Stat | None = None  # as the last look saw it; None: gone
    kept: bool = False  # its points are aside while its job is read again, see db/kept.py
    held: bool = False  # it could not be read, or somebody else writes it: left alone until the next scan

    @property
    def dirty(self) -> bool:
        """There may be something in it that is not in the database."""
        return self.on_disk is not None and self.on_disk != self.seen and not self.held

    @property
    def waits(self) -> bool:
        """Its points are to be put back."""
        return self.kept and not self.held


@dataclass(slots=True, eq=False)
class Job:
    """A train job, as far as it is in the database."""

    id: int
    root_id: int
    train_id: str
    path: Path
    cache_status: CacheStatus
    point_count: int = 0
    start_time: float | None = None
    revision: int = 0
    missing_since: float | None = None
    last_error: str | None = None
    update_time: float | None = None
    create_time: float | None = None
    access_time: float | None = None  # when somebody last looked at it
    evicted_at: float | None = None  # left out of the cache since; it is not loaded unless that changes
    shards: dict[str, Shard] = field(default_factory=dict)  # by name; replaced ones left out
    listed: Listed = field(default_factory=Listed)
    newest: str | None = None  # file that `listed` takes its update time from, and
    newest_explain: str | None = None  # the same of explain files
    tags: dict[int, TagState] | None = None  # by series number; None: not loaded into memory
    leased_until: float = 0.0  # PostgreSQL only

    @property
    def dirty(self) -> bool:
        """There is something to load of it, and it is wanted."""
        return self.evicted_at is None and self.changed

    @property
    def changed(self) -> bool:
        """One of its shards is; or all are read, and the pass that read the last of them did not live to say so."""
        if any(shard.dirty or shard.waits for shard in self.shards.values()):
            return True
        there = [shard for shard in self.shards.values() if shard.on_disk is not None]
        return self.cache_status is not CacheStatus.CACHED and bool(there) and not any(shard.held for shard in there)

    @property
    def backlog(self) -> int:
        """Bytes on disk that are not indexed."""
        return sum(max(0, s.on_disk.size - s.cursor) for s in self.shards.values() if s.on_disk is not None and s.dirty)

    @property
    def bytes_on_disk(self) -> int:
        """Sizes of its files."""
        return sum(shard.on_disk.size for shard in self.shards.values() if shard.on_disk is not None)

    @property
    def bytes_indexed(self) -> int:
        """Consumed bytes of files that are on disk."""
        return sum(min(shard.cursor, shard.on_disk.size) for shard in self.shards.values() if shard.on_disk is not None)

    def modified(self, name: str | None, otherwise: float | None) -> float | None:
        """Return when a file was modified as it lies on disk, seconds; `otherwise` where it does not."""
        shard = None if name is None else self.shards.get(name)
        return otherwise if shard is None or shard.on_disk is None else shard.on_disk.mtime_ns / 1e9

    @property
    def max_step(self) -> int | None:
        """Largest step of any point, where its tags are loaded."""
        steps = [t.max_step for t in (self.tags or {}).values() if t.max_step is not None]
        return max(steps) if steps else None
