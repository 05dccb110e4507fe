"""Which file is which: names change, content stays. A name and an inode are hints, the digests of a cursor decide.

Table of what happens to files, and what the index does: docs/files.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from indexer.decode import frames
from indexer.errors import UnreadableFile
from indexer.ingest.logdir import FoundShard, load_order
from indexer.ingest.state import Job, Shard
from indexer.ingest.tail import EDGE_BYTES, Opened, digest, open_shard
from indexer.ports import Files
from indexer.types import ShardKind

_PROBE_BYTES = 2**20  # looked through at once
_SEARCH_BYTES = 64 * 2**20  # read at most beyond a record that a search found the beginning of

_MAGIC = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
}
_SUFFIXES = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00"}
COMPRESSED = "compressed with "
"""How the reason of a file begins that holds compressed records."""


def compression(head: bytes | memoryview, name: str) -> str | None:
    """Say of a file that begins with `head`, and not with a record, how it is compressed; None: it is not."""
    start = bytes(head[:8])
    magic = next((magic for magic in _MAGIC if start.startswith(magic)), None)
    magic = magic or next((_SUFFIXES[suffix] for suffix in _SUFFIXES if name.endswith(suffix)), None)
    if magic is None:
        return None
    method, command = _MAGIC[magic]
    return f"{COMPRESSED}{method}: decompress it ({command}), and it is read"


def one_name_each(found: dict[str, FoundShard], known: Mapping[str, Shard]) -> None:
    """Drop from the files of a directory the further names of links: one that is known stays, else the first."""
    linked: dict[str, list[str]] = {file.stat.file_id: [] for file in found.values() if file.links > 1}
    for name, file in found.items() if linked else ():
        if file.stat.file_id in linked:
            linked[file.stat.file_id].append(name)
    for names in linked.values():
        ids = {name: known[name].id for name in names if name in known}
        first = min(ids, key=ids.__getitem__) if ids else min(names, key=load_order)
        for name in names:
            if name != first:
                del found[name]


def renamed(files: Files, job: Job, found: Mapping[str, FoundShard]) -> list[tuple[Shard, FoundShard]]:
    """Return files of a job that have another name now, each with what lies there.

    found: the files of the job's directory.  Only names of which nothing is read are looked at, and only while a known
    file is gone or changed: then each costs an open and a read of 4 KiB. What the old name holds now is another file,
    which may be a third one's (logs that are rotated). In this order no two files ever have one name.
    """
    read = {name for name, shard in job.shards.items() if shard.cursor}
    new = [found[name] for name in sorted(found.keys() - read, key=load_order)]
    gone = {s.id: s for s in job.shards.values() if s.cursor and _may_be_elsewhere(s, found.get(s.name))}
    pairs = []
    for file in new:  # it grows meanwhile
        if not gone:
            break
        alike = (s for s in gone.values() if s.kind is file.what.kind and file.what.format in (None, s.format))
        for shard in holding(files, job.path / file.name, alike, hint=file.stat.file_id):
            here = found.get(shard.name)
            if here is None or not list(holding(files, job.path / shard.name, [shard])):
                pairs.append((gone.pop(shard.id), file))
                if here is not None:
                    new.append(here)
                break
    return pairs


def _may_be_elsewhere(shard: Shard, here: FoundShard | None) -> bool:
    return here is None or (here.stat != shard.seen and not shard.held)


def holding(files: Files, path: Path, shards: Iterable[Shard], *, hint: str = "") -> Iterator[Shard]:
    """Yield those of `shards` whose consumed bytes the file at `path` begins with; nothing where it cannot be read.

    Those with the inode `hint` come first, then those of which most was read.
    """
    wanted = [s for s in shards if s.cursor]
    if not wanted:
        return
    with suppress(UnreadableFile):
        opened = open_shard(files, path, 0, None, None)
        with closing(opened):
            head = opened.read(0, EDGE_BYTES)
            likely = [s for s in wanted if s.cursor <= opened.stat.size and _begins_with(opened, head, s)]
            likely.sort(key=lambda s: (s.seen is None or s.seen.file_id != hint, -s.cursor))
            for shard in likely:
                size = min(shard.cursor, EDGE_BYTES)
                whole = shard.kind is ShardKind.GRAPH
                if whole or digest(opened.read(shard.cursor - size, size)) == shard.tail:
                    yield shard


def _begins_with(opened: Opened, head: bytes, shard: Shard) -> bool:
    if shard.kind is ShardKind.GRAPH:  # its digest is of all of it
        return opened.stat.size == shard.cursor and digest(opened.whole()) == shard.fingerprint
    return digest(head[: shard.cursor]) == shard.fingerprint


def reach(need: int, *, searching: bool) -> int:
    """Return how many bytes to read for a record of `need` bytes.

    While searching its beginning may be a false one, with another a few bytes on: those are decided in the same read,
    else each would cost one.
    """
    return need + min(need, _SEARCH_BYTES) if searching else need


def has_record(opened: Opened, limit: int) -> bool:
    """Tell whether anything in a file checks, in linear time; a record longer than `limit` bytes does not count."""
    offset, need, lost_since = 0, 0, None
    size = opened.stat.size
    while offset + max(need, 1) <= size:
        wanted = min(max(reach(need, searching=lost_since is not None), _PROBE_BYTES), size - offset)
        data = opened.read(offset, wanted)
        found = frames.split(data, base=offset, lost_since=lost_since, limit=limit)
        if found.records:
            return True
        if len(data) < wanted:
            return False  # it shrank meanwhile
        if found.oversize:
            offset, need, lost_since = offset + found.end + found.need, 0, None
            continue
        if offset + len(data) >= size:
            return False
        offset, need, lost_since = offset + found.end, found.need, found.lost_since
    return False


def orphans(files: Files, job: Job, candidates: Collection[Shard], replaced: Sequence[Shard]) -> list[Shard]:
    """Return those of `candidates`, whose names hold their content no more, that no file of the job holds.

    replaced: files of the job that are not those that were read.
    """
    left = {shard.id: shard for shard in candidates}
    for shard in replaced:
        for found in list(holding(files, job.path / shard.name, left.values())):
            del left[found.id]
    return list(left.values())
