"""One shard: prove that it is the file its cursor describes, then read from there.

A file is its content, not its name: the digests of the bytes at its head and just before the cursor must be those of
the bytes that were consumed. The path may hold another file tomorrow.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from indexer.errors import UnreadableFile
from indexer.ports import Files, Stat, stat_of

EDGE_BYTES = 4096


def digest(edge: bytes) -> bytes:
    """Return 16 bytes that stand for `edge`. Source: BLAKE2b, RFC 7693."""
    return hashlib.blake2b(edge, digest_size=16).digest()


@dataclass(slots=True)
class Opened:
    """A shard open for reading, seen at one moment: what is appended later belongs to the next pass."""

    path: Path
    file: BinaryIO
    stat: Stat
    same: bool  # it is the file its cursor describes
    before: bytes  # the last min(cursor, 4 KiB) bytes before the cursor

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill `target` with the bytes from `offset` on; return how many there were."""
        try:
            self.file.seek(offset)
            count = 0
            while count < len(target):
                got = self.file.readinto(target[count:])  # type: ignore[attr-defined]  # raw file
                if not got:
                    break
                count += got
        except OSError as e:
            raise UnreadableFile(self.path, e.strerror or str(e)) from e
        return count

    def read(self, offset: int, size: int) -> bytes:
        """Return the `size` bytes from `offset` on, fewer at the end of the file."""
        target = bytearray(size)
        return bytes(target[: self.read_into(offset, memoryview(target))])

    def whole(self) -> bytes:
        """Return all bytes that the file had when it was opened, fewer where it shrank since."""
        parts: list[bytes] = []
        left = self.stat.size
        try:
            self.file.seek(0)
            while left and (part := self.file.read(left)):
                parts.append(part)
                left -= len(part)
        except OSError as e:
            raise UnreadableFile(self.path, e.strerror or str(e)) from e
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_shard(files: Files, path: Path, cursor: int, fingerprint: bytes | None, tail: bytes | None) -> Opened:
    """Open the shard at `path` and compare it with what its cursor describes.

    Raises UnreadableFile where it cannot be opened, or has vanished.
    """
    try:
        file = files.open(path)
        status = os.fstat(file.fileno())
    except OSError as e:
        raise UnreadableFile(path, e.strerror or str(e)) from e
    opened = Opened(path, file, stat_of(status), same=True, before=b"")
    if cursor > 0:
        try:
            size = min(cursor, EDGE_BYTES)
            opened.before = opened.read(cursor - size, size)
            head = opened.before if cursor <= EDGE_BYTES else opened.read(0, size)
        except UnreadableFile:
            file.close()
            raise
        opened.same = opened.stat.size >= cursor and (digest(head), digest(opened.before)) == (fingerprint, tail)
    return opened
