"""A file once more from its first byte to its cursor, by the pure decoder, in pieces of bounded size.

Nothing here knows what was loaded: no cursor but as the end, no kernel, no batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from indexer.decode.reader import Decoder
from indexer.ingest.logdir import recognise
from indexer.ingest.tail import Opened
from indexer.types import Damage, Decoded, Format, ShardKind, Slice, Span

_PIECE_BYTES = 2**20


@dataclass(slots=True)
class Reread:
    """What was read so far; `pieces` moves it on."""

    name: str
    kind: ShardKind
    offset: int = 0  # everything before it is decided
    records: int = 0  # good ones
    damages: list[Damage] = field(default_factory=list)
    lost_since: int | None = None  # damage that nothing good ended yet
    lost_reason: str | None = None
    start_time: float | None = None
    starts: int = 0  # session starts
    format: Format | None = None

    def pieces(self, decoder: Decoder, job: int, opened: Opened, stop: int) -> Iterator[Decoded]:
        """Yield what the bytes from `offset` to `stop` hold, in file order."""
        if self.offset == 0:
            what = recognise(self.name)
            self.format = None if what is None else what.format
        need = 0
        while self.offset < stop:
            wanted = min(stop - self.offset, max(need, _PIECE_BYTES))
            data = opened.read(self.offset, wanted)
            span = Span(
                job, self.kind, self.format, 0, len(data), self.offset, self.lost_since, self.lost_reason, self.name
            )
            decoded = decoder.decode(data, [span])
            (found,) = decoded.slices
            self._take(found)
            yield decoded
            need = found.need
            if found.oversize and self.offset + need <= stop:
                self._pass_over(need)
                need = 0
            if self.offset + need > stop or len(data) < wanted:
                return

    def _take(self, found: Slice) -> None:
        self.offset = found.end
        self.records += found.records
        self.damages += found.damages
        self.lost_since, self.lost_reason, self.format = found.lost_since, found.lost_reason, found.format
        self.starts += len(found.starts)
        if found.start_time is not None:
            self.start_time = found.start_time if self.start_time is None else min(self.start_time, found.start_time)

    def _pass_over(self, length: int) -> None:
        """A record is longer than may be read."""
        if self.lost_since is not None:
            self.damages.append(Damage(self.lost_since, self.offset - self.lost_since, self.lost_reason or ""))
            self.lost_since = self.lost_reason = None
        self.damages.append(Damage(self.offset, length, "longer than max_record_bytes"))
        self.offset += length
