"""The ten calls of `tensorboard.data.TensorBoardDataProvider`: a request's bytes in, an answer's bytes out.

Nothing here knows gRPC. Errors are ours: Malformed, Unknown, TooLarge, and the families of indexer.errors.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from indexer.db.connection import Connection
from indexer.db.reader import Reader
from indexer.errors import Refuse, Wait
from webapi.dataprovider import answers, keys, mindspore, payloads, requests, sampling
from webapi.dataprovider.catalogue import Catalogue, Run, listed
from webapi.dataprovider.keys import BlobKey
from webapi.dataprovider.payloads import Head, Place
from webapi.dataprovider.requests import Wanted
from webapi.dataprovider.sampling import Points
from webapi.dataprovider.series import DataClass, Series
from webapi.errors import Unknown

CHUNK_BYTES = 8 * 2**20
"""Of a blob in one message of its stream."""
KEPT_BYTES = 128 * 2**20
"""Answers about single series of numbers that are kept for the next call."""

T = TypeVar("T")


class Answered(NamedTuple):
    """A series in an answer of ReadScalars."""

    version: tuple[str, int]  # of its run
    entry: bytes


class Service:
    """Answers over one database, which may be missing, or be replaced, at any time.

    empty: until there is a database (its first indexer has only begun) lists are empty; else that is an error.
    """

    def __init__(self, reader: Reader, *, location: str, seconds: float, empty: bool = False) -> None:
        self._reader = reader
        self._location = location
        self._seconds = seconds
        self._empty = empty
        self._catalogue = Catalogue()
        self._kept: OrderedDict[tuple[int, int], Answered] = OrderedDict()  # by series and number of points
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def check(self) -> None:
        """Raise what every call would: Wait where there is no database, Refuse where it is of another schema."""
        with self._reader.snapshot(self._seconds) as conn:
            self._catalogue.runs(conn)

    # Lists ------------------------------------------------------------------------------------------------------------
    def experiment(self, _message: bytes, _seconds: float | None = None) -> bytes:
        """GetExperiment: answered without the database, for it is asked before anything is loaded."""
        return answers.text(1, self._location)

    def plugins(self, _message: bytes, seconds: float | None = None) -> bytes:
        """ListPlugins: those of all series, the ones without points too."""

        def answer(conn: Connection) -> bytes:
            found = {plugin for run in self._catalogue.with_series(conn) for plugin, _ in run.groups or ()}
            return b"".join(answers.block(1, answers.text(1, plugin)) for plugin in sorted(found))

        return self._within(seconds, answer, b"")

    def runs(self, _message: bytes, seconds: float | None = None) -> bytes:
        """ListRuns: those with an event, in the order they began."""

        def answer(conn: Connection) -> bytes:
            return b"".join(
                answers.block(1, answers.text(2, run.name) + answers.double(3, run.start_time or 0.0))
                for run in self._catalogue.runs(conn)
            )

        return self._within(seconds, answer, b"")

    def list_scalars(self, message: bytes, seconds: float | None = None) -> bytes:
        """ListScalars."""
        return self._list(message, DataClass.SCALAR, seconds)

    def list_tensors(self, message: bytes, seconds: float | None = None) -> bytes:
        """ListTensors."""
        return self._list(message, DataClass.TENSOR, seconds)

    def list_blob_sequences(self, message: bytes, seconds: float | None = None) -> bytes:
        """ListBlobSequences."""
        return self._list(message, DataClass.BLOB_SEQUENCE, seconds)

    def _list(self, message: bytes, data_class: DataClass, seconds: float | None) -> bytes:
        wanted = requests.series_wanted(message)

        def answer(conn: Connection) -> bytes:
            runs = self._catalogue.with_series(conn, wanted.runs)
            return b"".join(listed(run, wanted, data_class) for run in runs)

        return self._within(seconds, answer, b"")

    # Points -----------------------------------------------------------------------------------------------------------
    def read_scalars(self, message: bytes, seconds: float | None = None) -> bytes:
        """ReadScalars."""
        wanted, k = requests.points_wanted(message)

        def answer(conn: Connection) -> bytes:
            chosen = self._chosen(conn, wanted, DataClass.SCALAR)
            entries = self._scalars(conn, chosen, k)
            return b"".join(answers.run_entry(run.name, [entries[one.id] for one in series]) for run, series in chosen)

        return self._within(seconds, answer, b"")

    def read_tensors(self, message: bytes, seconds: float | None = None) -> bytes:
        """ReadTensors."""
        wanted, k = requests.points_wanted(message)

        def answer(conn: Connection) -> bytes:
            chosen = self._chosen(conn, wanted, DataClass.TENSOR)
            points = self._points(conn, [one for _, series in chosen for one in series], k)
            made = payloads.tensors(conn, {one.id: (one, points[one.id]) for _, series in chosen for one in series})
            return _joined(chosen, points, lambda _, one: made[one.id])

        return self._within(seconds, answer, b"")

    def read_blob_sequences(self, message: bytes, seconds: float | None = None) -> bytes:
        """ReadBlobSequences: keys only, ReadBlob has the bytes."""
        wanted, k = requests.points_wanted(message)

        def answer(conn: Connection) -> bytes:
            chosen = self._chosen(conn, wanted, DataClass.BLOB_SEQUENCE)
            points = self._points(conn, [one for _, series in chosen for one in series], k)
            heads = payloads.heads(conn, [key for tag, found in points.items() for key in payloads.keys_of(tag, found)])
            return _joined(chosen, points, lambda run, one: _sequences(run, one, points[one.id], heads))

        return self._within(seconds, answer, b"")

    def _chosen(self, conn: Connection, wanted: Wanted, data_class: DataClass) -> list[tuple[Run, Sequence[Series]]]:
        runs = self._catalogue.with_series(conn, wanted.runs)
        return [(run, series) for run in runs if (series := run.of(wanted, data_class))]

    def _points(self, conn: Connection, series: Sequence[Series], k: int) -> dict[int, Points]:
        """Return k points of each series, by its id."""
        found = sampling.read(conn, [one for one in series if not one.mixed], k)
        for one in series:
            if one.mixed:
                valid = payloads.valid_points(conn, one)
                found[one.id] = valid.points.at(sampling.evenly(len(valid), k))
        return found

    def _scalars(self, conn: Connection, chosen: Sequence[tuple[Run, Sequence[Series]]], k: int) -> dict[int, bytes]:
        """Return an entry a series, by its id; what is read is kept until its job changes."""
        found: dict[int, bytes] = {}
        missing: list[tuple[Run, Series]] = []
        with self._lock:
            for run, series in chosen:
                for one in series:
                    kept = self._kept.get((one.id, k))
                    if kept is not None and kept.version == run.version:
                        found[one.id] = kept.entry
                        self._kept.move_to_end((one.id, k))
                    else:
                        missing.append((run, one))
        if not missing:
            return found
        points = self._points(conn, [one for _, one in missing], k)
        columns = [points[one.id] for _, one in missing]
        made = answers.scalar_data(
            [len(column) for column in columns],
            np.concatenate([column.step for column in columns]),
            np.concatenate([column.wall_time for column in columns]),
            np.concatenate([column.value for column in columns]),
        )
        with self._lock:
            for (run, one), content in zip(missing, made, strict=True):
                found[one.id] = answers.entry(one.name, content)
                self._keep((one.id, k), Answered(run.version, found[one.id]))
        return found

    def _keep(self, key: tuple[int, int], answered: Answered) -> None:
        before = self._kept.pop(key, None)
        self._kept[key] = answered
        self._kept_bytes += len(answered.entry) - (len(before.entry) if before else 0)
        while self._kept_bytes > KEPT_BYTES:
            _, gone = self._kept.popitem(last=False)
            self._kept_bytes -= len(gone.entry)

    # Blobs ------------------------------------------------------------------------------------------------------------
    def blob(self, message: bytes, seconds: float | None = None) -> Iterator[bytes]:
        """ReadBlob: yields messages. Malformed where the key is none, Unknown where it names nothing."""
        key = keys.decode(requests.blob_wanted(message))
        content = self._within(seconds, lambda conn: self._blob(conn, key), None)
        match content:
            case Place():
                if not content.intact():
                    raise Unknown("blob_key", f"the file that holds the blob is gone, or is another: {content.path}")
                parts = content.read()
            case bytes():
                parts = (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))
            case None:
                raise Unknown("blob_key", "there is no such blob: its run, tag, step or number is not in the database")
        return (answers.block(1, part) for part in parts)

    def _blob(self, conn: Connection, key: BlobKey) -> bytes | Place | None:
        series = next(
            (
                one
                for run in self._catalogue.with_series(conn, frozenset({key.run}))
                for (_, data_class), group in (run.groups or {}).items()
                for one in group
                if data_class is DataClass.BLOB_SEQUENCE and one.name == key.tag
            ),
            None,
        )
        point = None if series is None else sampling.at_step(conn, series.id, key.step)
        if series is None or point is None:
            return None
        heads = payloads.heads(conn, [point]).get(point, [])
        if key.number >= payloads.count(heads):
            return None
        first = heads[0]
        if first.kind == "image":
            return payloads.sizes(first)[key.number] if key.number < 2 else payloads.stored(conn, heads[key.number - 2])
        if first.dtype == "string":
            return payloads.string(conn, first, key.number)
        if mindspore.is_graph(series):
            return b"".join(mindspore.graph_def(conn, point))
        return payloads.stored(conn, heads[key.number])

    def _within(self, seconds: float | None, work: Callable[[Connection], T], nothing: T) -> T:
        """Return what `work` makes of one snapshot; `nothing` where there is no database yet and that is no error."""
        limit = self._seconds if seconds is None else max(0.001, min(self._seconds, seconds))
        try:
            with self._reader.snapshot(limit) as conn:
                return work(conn)
        except (Wait, Refuse):
            if self._empty and not self._catalogue.seen:
                return nothing
            raise


def _joined(
    chosen: Sequence[tuple[Run, Sequence[Series]]],
    points: Mapping[int, Points],
    values: Callable[[Run, Series], Iterable[bytes]],
) -> bytes:
    """Return an answer of the points of series; `values` makes a message a point."""
    return b"".join(
        answers.run_entry(
            run.name,
            [
                answers.entry(
                    one.name, answers.columns(points[one.id].step, points[one.id].wall_time, values(run, one))
                )
                for one in series
            ],
        )
        for run, series in chosen
    )


def _sequences(
    run: Run, series: Series, points: Points, heads: Mapping[payloads.PointKey, list[Head]]
) -> Iterator[bytes]:
    """Yield the references of each point."""
    for key in payloads.keys_of(series.id, points):
        indices = range(payloads.count(heads.get(key, [])))
        yield answers.blob_references(keys.encode(BlobKey("", run.name, series.name, key[1], i)) for i in indices)
