"""`summarydb export`: points of chosen jobs and tags with their payloads, streamed.

Every page is read in a short transaction of its own, and written after it: however slow the one who takes it is, nobody
holds a snapshot open, and memory is that of a page. What is indexed meanwhile may or may not be in it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from indexer import text as names
from indexer.db.engine import read_only
from indexer.errors import Refuse, Report, UsageError
from indexer.types import DataClass
from summarydb.work import naming, open_existing
from webapi import attached, blobs, formats, kinds, queries, respond
from webapi.attached import Attached
from webapi.errors import Malformed, Unknown

SERIES = 1_000
POINTS = 5_000
PAYLOADS = 1_000
BYTES = 8 * 2**20
"""Of a page: series, points, payloads, and bytes of payloads; one payload may be longer."""
CHUNK_BYTES = 3 * 2**18  # a multiple of three: base64 of the parts is that of the whole
FORMATS = ("ndjson", "csv", "json", "arrow", "parquet")
SUFFIXES = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/bmp": "bmp",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "text/plain; charset=utf-8": "txt",
}
"""Of files: those of types that the bytes themselves say, `bin` for all else."""


_EVERYTHING = queries.Range()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which points, and how they are written. No jobs, tags or plugins: all of them."""

    jobs: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    steps: queries.Range = _EVERYTHING
    form: str = "ndjson"
    bytes: bool = True  # of payloads, in the lines
    files: Path | None = None  # a directory for them


class Payload(NamedTuple):
    """A payload on its way out."""

    one: Attached
    chunks: Iterator[bytes] | None  # None: not asked for, or its file is gone
    file: str | None  # below Wanted.files


class Row(NamedTuple):
    """A point on its way out."""

    series: queries.SeriesRow
    point: queries.PointRow
    payloads: Iterator[Payload] | None  # None: it has none; else to be read before the next row


class Writer(Protocol):
    """Writes rows in a format."""

    def row(self, row: Row) -> None:
        """Write a point."""

    def end(self) -> None:
        """Write what comes after the last one."""


def run(url: str, wanted: Wanted, out: BinaryIO, *, seconds: float) -> int:
    """Write points to `out`; return how many payloads could not be had, since their files are gone.

    UsageError where a job or tag does not exist, or a format needs what is not installed.
    """
    if wanted.form in {"arrow", "parquet"} and find_spec("pyarrow") is None:
        raise UsageError(
            f"--format {wanted.form} needs pyarrow, which is not installed: pip install 'summarydb[arrow]'"
        )
    with naming(url):
        engine = open_existing(url)
        try:
            reader = _Reader(engine, wanted, seconds)
            rows = reader.rows()
            first = next(rows, None)  # what cannot be right is told before anything is made
            if wanted.files is not None:
                _prepare(wanted.files)
            writer = _WRITERS[wanted.form](out, wanted)
            for row in chain(() if first is None else (first,), rows):
                writer.row(row)
            writer.end()
            return reader.gone
        except Unknown as e:
            raise UsageError(f"--{e.parameter}: {e.fact.partition(': /api')[0]}") from e
        except Malformed as e:
            raise UsageError(f"--{e.parameter} {e.fact}") from e
        finally:
            engine.dispose()


def _prepare(directory: Path) -> None:
    """Make the directory of payloads. UsageError where it holds something: nothing is written over."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UsageError(f"--files {directory} is not empty: give a new directory")
    except OSError as e:
        raise Refuse(f"--files {directory} cannot be used ({e.strerror}): give another directory") from e


# Reading --------------------------------------------------------------------------------------------------------------
class _Reader:
    """Reads pages, and bytes of payloads in groups."""

    def __init__(self, engine: Engine, wanted: Wanted, seconds: float) -> None:
        self.gone = 0
        self._engine = engine
        self._wanted = wanted
        self._seconds = seconds

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with read_only(self._engine, seconds=self._seconds) as conn:
            yield conn

    def rows(self) -> Iterator[Row]:
        """Yield all points, by tag id, step and seq."""
        wanted = queries.SeriesWanted(SERIES, self._wanted.jobs, self._wanted.tags)
        with self._read() as conn:
            queries.state(conn)  # Refuse where the schema is another
            among = queries.jobs_of(conn, wanted)
        more = True
        while more:
            with self._read() as conn:
                series, more = queries.series(conn, wanted, among)
            plugins = self._wanted.plugins
            yield from self._points([row for row in series if not plugins or names.show(row.plugin) in plugins])
            if more:
                wanted = replace(wanted, after=series[-1].id)

    def _points(self, series: Sequence[queries.SeriesRow]) -> Iterator[Row]:
        by_id = {row.id: row for row in series}
        after: tuple[int, int, int] | None = None
        while series:
            with self._read() as conn:
                found, following = queries.points(conn, series, self._wanted.steps, limit=POINTS, after=after)
                page = attached.page(conn, found, limit=PAYLOADS)
            if page.points < len(found):
                found = found[: page.points]
                following = found[-1][:3]
            every = [one for point in found for one in page.of.get(point[:3], ())]
            payloads = self._payloads(every)
            for point in found:
                own = page.of.get(point[:3])
                mine: Iterator[Payload] | None = None
                if own is not None:
                    mine = islice(payloads, len(own))
                    if page.cut:
                        mine = chain(mine, self._others(own[-1]))
                yield Row(by_id[point[0]], point, mine)
                for _ in mine or ():  # whoever took none of them
                    pass
            if following is None:
                return
            after = following

    def _others(self, last: Attached) -> Iterator[Payload]:
        """Yield the payloads of a point behind the first page of them."""
        while True:
            with self._read() as conn:
                found = attached.of_point(conn, last.row.key[:3], after=last.row.key[3], limit=PAYLOADS)
            if not found:
                return
            yield from self._payloads(found)
            last = found[-1]

    def _payloads(self, every: Sequence[Attached]) -> Iterator[Payload]:
        """Yield payloads with their bytes, read so many at once as BYTES allows."""
        if not self._wanted.bytes and self._wanted.files is None:
            yield from (Payload(one, None, None) for one in every)
            return
        start = 0
        while start < len(every):
            stop, size = start, 0
            while stop < len(every) and (stop == start or size + every[stop].row.stored.length <= BYTES):
                size += every[stop].row.stored.length
                stop += 1
            group = every[start:stop]
            with self._read() as conn:
                data = blobs.data(conn, [one.row for one in group if one.row.encoding != "ref"])
            for one in group:
                yield self._payload(one, data.pop(one.row.key, b""))
            start = stop

    def _payload(self, one: Attached, data: bytes) -> Payload:
        chunks: Iterator[bytes] | None = None
        if one.row.encoding != "ref":
            chunks = (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))
        else:
            with self._read() as conn:
                where = blobs.place(conn, one.row.key)
            try:
                chunks = _parts(kinds.opened(where, one.row), one.row.stored.length)
            except Report:
                self.gone += 1
        directory = self._wanted.files
        if directory is None or chunks is None:
            return Payload(one, chunks, None)
        name = _name(one)
        path = directory / name
        try:
            path.parent.mkdir(exist_ok=True)
            with path.open("xb") as file:
                file.writelines(chunks)
        except OSError as e:
            raise Refuse(f"--files: {path} cannot be written ({e.strerror})") from e
        return Payload(one, None, name)


def _parts(file: BinaryIO, length: int) -> Iterator[bytes]:
    with file:
        while length and (part := file.read(min(length, CHUNK_BYTES))):
            length -= len(part)
            yield part


def _name(one: Attached) -> str:
    """Return the name of a payload's file: made of numbers, never of names from files."""
    tag, step, seq, ordinal = one.row.key
    return f"{tag}/{step}-{seq}-{ordinal}.{SUFFIXES.get(one.row.stored.content_type, 'bin')}"


# Writing --------------------------------------------------------------------------------------------------------------
POINT = ("job", "train_id", "tag", "plugin", "step", "seq", "wall_time", "value")
PAYLOAD = ("kind", "ordinal", "content_type", "dtype", "shape", "length", "sha256", "stored", "error")


def _point(row: Row) -> tuple[Any, ...]:
    """Return the values of POINT."""
    series = row.series
    _, step, seq, wall_time, value = row.point
    if value is None and series.data_class == DataClass.SCALAR:
        value = math.nan  # stored as NULL
    tag, plugin = names.show(series.name), names.show(series.plugin)
    return (series.job_id, series.train_id, tag, plugin, step, seq, wall_time, value)


def _facts(one: Attached) -> tuple[Any, ...]:
    """Return the values of PAYLOAD."""
    row, stored = one.row, one.row.stored
    shape = None if stored.shape is None else list(stored.shape)
    where = "file" if row.encoding == "ref" else "database"
    digest = row.digest.hex()
    return (one.kind, row.key[3], stored.content_type, stored.dtype, shape, stored.length, digest, where, stored.error)


def _base64(out: BinaryIO, chunks: Iterator[bytes]) -> None:
    out.writelines(base64.b64encode(chunk) for chunk in chunks)


class _Ndjson:
    """A line a point, as `/points` shows it: `payloads` is a list, where it has any."""

    def __init__(self, out: BinaryIO, wanted: Wanted) -> None:
        self._out = out
        self._wanted = wanted

    def row(self, row: Row) -> None:
        """Write a line."""
        out = self._out
        facts = dict(zip(POINT, _point(row), strict=True))
        plain = all(math.isfinite(number) for number in (facts["wall_time"], facts["value"]) if number is not None)
        out.write((respond.encode_finite if plain else respond.encode)(facts)[:-1])
        if row.payloads is not None:
            out.write(b',"payloads":[')
            for number, payload in enumerate(row.payloads):
                facts = dict(zip(PAYLOAD, _facts(payload.one), strict=True))
                if self._wanted.files is not None:
                    facts["file"] = payload.file
                out.write(b"," * (number > 0) + respond.encode(facts)[:-1])
                if self._wanted.bytes:
                    _quoted(out, payload, b',"base64":')
                out.write(b"}")
            out.write(b"]")
        out.write(b"}\n")

    def end(self) -> None:
        """Nothing comes after the last line."""


def _quoted(out: BinaryIO, payload: Payload, before: bytes) -> None:
    """Write the bytes of a payload as a JSON string, null where there are none."""
    if payload.chunks is None:
        out.write(before + b"null")
        return
    out.write(before + b'"')
    _base64(out, payload.chunks)
    out.write(b'"')


class _Flat:
    """Rows of one table: a point without payloads is a row, else each payload is one, with its point."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.columns = [*POINT, *PAYLOAD]
        if wanted.files is not None:
            self.columns.append("file")

    def rows(self, row: Row) -> Iterator[tuple[list[Any], Payload | None]]:
        """Yield the values of `columns`, and the payload whose bytes come behind them."""
        point, nothing = _point(row), [None] * (len(self.columns) - len(POINT))
        some = False
        for payload in row.payloads or ():
            some = True
            yield [*point, *_facts(payload.one), *([payload.file] if self.wanted.files is not None else ())], payload
        if not some:
            yield [*point, *nothing], None


class _Csv:
    """Comma-separated values as RFC 4180 has them, NULL as nothing."""

    def __init__(self, out: BinaryIO, wanted: Wanted) -> None:
        self._out = out
        self._flat = _Flat(wanted)
        self._line([*self._flat.columns, *(["base64"] if wanted.bytes else [])])
        out.write(b"\n")

    def _line(self, values: Sequence[Any]) -> None:
        self._out.write(formats.csv_line([formats.csv_cell(value) for value in values]))

    def row(self, row: Row) -> None:
        """Write a line, or one a payload."""
        for values, payload in self._flat.rows(row):
            self._line(values)
            if self._flat.wanted.bytes:
                self._out.write(b",")
                if payload is not None and payload.chunks is not None:
                    _base64(self._out, payload.chunks)
            self._out.write(b"\n")

    def end(self) -> None:
        """Nothing comes after the last line."""


class _Json:
    """One document, as `summarydb sql --json` writes it."""

    def __init__(self, out: BinaryIO, wanted: Wanted) -> None:
        self._out = out
        self._flat = _Flat(wanted)
        self._first = True
        columns = [*self._flat.columns, *(["base64"] if wanted.bytes else [])]
        out.write(b'{"columns":' + respond.encode(columns) + b',"rows":[')

    def row(self, row: Row) -> None:
        """Write a row, or one a payload."""
        for values, payload in self._flat.rows(row):
            self._out.write((b"\n" if self._first else b",\n") + respond.encode(values)[:-1])
            self._first = False
            if self._flat.wanted.bytes and payload is not None:
                _quoted(self._out, payload, b",")
            elif self._flat.wanted.bytes:
                self._out.write(b",null")
            self._out.write(b"]")

    def end(self) -> None:
        """Close the document."""
        self._out.write(b'],"truncated":false}\n')


class _Arrow:
    """Batches of columns: an Arrow stream, or a Parquet file. Bytes are bytes there."""

    def __init__(self, out: BinaryIO, wanted: Wanted) -> None:
        import pyarrow as pa

        self._flat = _Flat(wanted)
        types: dict[str, Any] = dict.fromkeys(("job", "step", "seq", "ordinal", "length"), pa.int64())
        types |= dict.fromkeys(("wall_time", "value"), pa.float64()) | {"shape": pa.list_(pa.int64())}
        fields = [(name, types.get(name, pa.string())) for name in self._flat.columns]
        if wanted.bytes:
            fields.append(("data", pa.large_binary()))
        self._schema = pa.schema(fields)
        if wanted.form == "parquet":
            from pyarrow import parquet

            self._writer: Any = parquet.ParquetWriter(out, self._schema)
        else:
            self._writer = pa.ipc.new_stream(out, self._schema)
        self._rows: list[list[Any]] = []
        self._bytes = 0

    def row(self, row: Row) -> None:
        """Take a row, or one a payload; write a batch where there are enough."""
        for values, payload in self._flat.rows(row):
            shown = [value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
                     for value in values]  # fmt: skip
            if self._flat.wanted.bytes:
                data = None if payload is None or payload.chunks is None else b"".join(payload.chunks)
                self._bytes += len(data or b"")
                shown.append(data)
            self._rows.append(shown)
            if len(self._rows) >= POINTS or self._bytes >= BYTES:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._rows, self._bytes = [], 0

    def end(self) -> None:
        """Write the last batch and what closes the file."""
        if self._rows:
            self._flush()
        self._writer.close()


_WRITERS: dict[str, Callable[[BinaryIO, Wanted], Writer]] = {
    "ndjson": _Ndjson,
    "csv": _Csv,
    "json": _Json,
    "arrow": _Arrow,
    "parquet": _Arrow,
}
