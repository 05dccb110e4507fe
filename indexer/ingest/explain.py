"""Explain records → rows. Each record is applied in file order to what the tables hold of its file.

Rules (docs/formats/mindspore.md): nothing counts before the metadata; labels and methods are numbered as they come
first; of a sample the first true labels and the first inference count, and the last image; maps and scores of the same
name replace one another. What no rule takes is still in explain_records, as written.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from indexer.db import explain
from indexer.db.connection import Connection
from indexer.decode.explain import Estimate, Explained, Metadata, read
from indexer.ingest.logdir import load_order, recognise
from indexer.ports import Files
from indexer.text import key, show
from indexer.text import store as stored
from indexer.types import ExplainRecord

APPLIED_BYTES = 16 * 2**20
"""A longer record is kept and not applied: made into rows it would take too much memory."""
CHUNK_BYTES = 2**20
"""Records made into rows at once."""
ALL_LABELS = -1
"""Label of a score of all labels together."""
_MANIFEST_BYTES = 2**16
_OVERHEAD_BYTES = 500  # of a record in memory, beside its data
_WRONG_CHARACTERS = 500
_EARLY = "it comes before the metadata, so it does not count"
_Row = tuple[Any, ...]


class Loaded(NamedTuple):
    """What a batch holds of an explain file."""

    job_id: int
    shard_id: int
    records: Sequence[ExplainRecord]
    manifest: str | None  # as `manifest` returns it; None: not read


def size(records: Sequence[ExplainRecord]) -> int:
    """Return the bytes that records take in memory."""
    return sum(len(record.data or b"") + _OVERHEAD_BYTES for record in records)


def manifest(files: Files, path: Path) -> str | None:
    """Return the JSON object in the manifest beside an explain file, None where there is no such thing."""
    what = recognise(path.name)
    if what is None or what.timestamp is None:
        return None
    try:
        with files.open(path.parent / f"_explain_{what.timestamp}" / "manifest.json") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MANIFEST_BYTES:
                return None
            content = file.read(_MANIFEST_BYTES)
        found = json.loads(content)
        return json.dumps(found, allow_nan=False) if isinstance(found, dict) else None
    except (OSError, ValueError, RecursionError):  # not there, or not what it should be
        return None


def store(conn: Connection, parts: Sequence[Loaded]) -> None:
    """Write what parts of explain files say, in the transaction of their cursors."""
    for part in parts:
        if part.records or part.manifest is not None:
            _store(conn, part)


def _store(conn: Connection, part: Loaded) -> None:
    row = explain.file(conn, part.shard_id)
    if row is None and not part.records:
        return
    file = _File(part, row)
    if row is None:
        explain.add_file(conn, file.row())  # before the rows that refer to it
    for chunk in _chunks(part.records):
        _Chunk(conn, file, chunk).write()
    explain.add_file(conn, file.row())
    if row is None:
        last = max(explain.files_of(conn, part.job_id), key=lambda found: load_order(show(found[1])))
        explain.set_latest(conn, part.job_id, last[0])


def _chunks(records: Sequence[ExplainRecord]) -> Iterator[list[ExplainRecord]]:
    chunk: list[ExplainRecord] = []
    taken = 0
    for record in records:
        own = size([record])
        if chunk and taken + own > CHUNK_BYTES:
            yield chunk
            chunk, taken = [], 0
        chunk.append(record)
        taken += own
    if chunk:
        yield chunk


class _File:
    """The row of a file while records are applied."""

    def __init__(self, part: Loaded, row: _Row | None) -> None:
        known = dict(zip(explain.FILE, row, strict=True)) if row is not None else {}
        self.job_id, self.shard_id = part.job_id, part.shard_id
        self.latest = bool(known.get("latest", False))
        self.status: str | None = known.get("status")
        self.labels: int = known.get("label_count", 0)
        self.samples: int = known.get("sample_count", 0)
        self.records: int = known.get("record_count", 0)
        self.errors: int = known.get("error_count", 0)
        self.uncertainty = bool(known.get("uncertainty", False))
        self.wall_time: float | None = known.get("wall_time")
        self._names: dict[str, set[str]] = {}
        self.manifest: str | None = known.get("manifest") if part.manifest is None else stored(part.manifest)

    def names(self, conn: Connection, kind: str) -> set[str]:
        """Return the names of labels, explainers or metrics; their numbers are the order in which they came."""
        known = self._names.get(kind)
        if known is None:
            label = kind == "label"
            found = explain.labels(conn, self.shard_id) if label else explain.methods(conn, self.shard_id, kind)
            known = self._names[kind] = set(found)
        return known

    def row(self) -> _Row:
        """Return the values of explain.FILE."""
        return (
            self.shard_id,
            self.job_id,
            self.latest,
            self.status,
            self.labels,
            self.samples,
            self.records,
            self.errors,
            self.uncertainty,
            self.wall_time,
            self.manifest,
        )


class _Sample:
    """The row of a sample while records are applied."""

    def __init__(self, record: ExplainRecord, row: _Row | None) -> None:
        self.image_path: str | None = None
        self.step, self.wall_time = record.step, _known(record.wall_time)
        self.has_truth = self.has_inference = False
        if row is not None:
            self.image_path, self.step, self.wall_time, truth, inference = row[2:]
            self.has_truth, self.has_inference = bool(truth), bool(inference)


class _Chunk:
    """Rows of some records: a dictionary a table, by key, so that the later one wins as it does in the tables."""

    def __init__(self, conn: Connection, file: _File, records: Sequence[ExplainRecord]) -> None:
        self.conn = conn
        self.file = file
        self.records: list[_Row] = []
        self.samples: dict[int, _Sample] = {}
        self.inferences: dict[tuple[int, str, int], list[Any]] = {}
        self.saliency: dict[tuple[int, int, bytes], list[Any]] = {}
        self.hoc: dict[tuple[int, int], list[_Row]] = {}
        self.benchmarks: dict[tuple[bytes, bytes, int], list[Any]] = {}
        self.ends: dict[tuple[bytes, bytes], int] = {}
        read_ones = [(record, *_read(record)) for record in records]
        ids = {said.sample_id for _, said, _ in read_ones if said is not None and said.has_sample}
        self.known = explain.samples(conn, file.shard_id, ids)
        for record, said, error in read_ones:
            self._take(record, said, error)

    def _take(self, record: ExplainRecord, said: Explained | None, error: str | None) -> None:
        file = self.file
        if said is not None:
            if said.metadata is not None:
                self._metadata(said.metadata)
            if not file.labels:
                error = _EARLY
            else:
                self._apply(record, said)
        file.records += 1
        file.errors += error is not None
        file.wall_time = _known(record.wall_time)
        sample_id = said.sample_id if said is not None and said.has_sample else None
        where = (record.offset, record.length, _known(record.wall_time), record.step)
        self.records.append((file.shard_id, *where, sample_id, error, record.data))

    def _metadata(self, said: Metadata) -> None:
        """Add the names that are new, behind those there are."""
        conn, file = self.conn, self.file
        if added := _new(said.labels, file.names(conn, "label")):
            explain.add_labels(conn, [(file.shard_id, number, name) for number, name in added])
        file.labels = len(file.names(conn, "label"))
        for kind, names in (("explainer", said.explainers), ("metric", said.metrics)):
            if added := _new(names, file.names(conn, kind)):
                explain.add_methods(conn, [(file.shard_id, kind, number, name) for number, name in added])

    def _apply(self, record: ExplainRecord, said: Explained) -> None:
        file = self.file
        if said.status is not None:
            file.status = stored(said.status)
        if said.has_sample:
            self._sample(record, said)
        for position, b in enumerate(said.benchmarks):
            explainer, metric = stored(b.explainer), stored(b.metric)
            pair = (key(explainer), key(metric))
            for label, score in enumerate((b.score, *b.label_scores), ALL_LABELS):
                row = [explainer, metric, _known(score), record.offset, position]
                self._again(self.benchmarks, (*pair, label), row, changed=2)
            end = len(b.label_scores)
            for label in range(end, self.ends.get(pair, end)):
                self.benchmarks.pop((*pair, label), None)
            self.ends[pair] = end

    def _sample(self, record: ExplainRecord, said: Explained) -> None:
        sample_id = said.sample_id
        sample = self.samples.get(sample_id)
        if sample is None:
            sample = self.samples[sample_id] = _Sample(record, self.known.get(sample_id))
        if said.image_path:
            self.file.samples += sample.image_path is None
            sample.image_path = stored(said.image_path)
        if said.truth and not sample.has_truth:
            sample.has_truth = True
            for ordinal, label in enumerate(said.truth):
                self._infer((sample_id, "ground_truth", ordinal), label, (None,) * 4)
        if said.inference is not None and not sample.has_inference:
            sample.has_inference = True
            estimates = [*said.inference.truth, *said.inference.predicted]
            self.file.uncertainty = self.file.uncertainty or any(e[1] is not None for e in estimates)
            for ordinal, estimate in enumerate(said.inference.truth):
                self._infer((sample_id, "ground_truth", ordinal), None, estimate)
            for ordinal, (label, estimate) in enumerate(
                zip(said.inference.labels, said.inference.predicted, strict=True)
            ):
                self._infer((sample_id, "predicted", ordinal), label, estimate)
        for position, s in enumerate(said.saliency):
            explainer = stored(s.explainer)
            row = [explainer, stored(s.path), record.offset, position]
            self._again(self.saliency, (sample_id, s.label, key(explainer)), row, changed=1)
        for h in said.hoc:
            self.hoc[sample_id, h.label] = [
                (layer, stored(h.mask), _known(probability), json.dumps(boxes))
                for layer, (probability, boxes) in enumerate(h.layers)
            ]

    def _infer(self, where: tuple[int, str, int], label: int | None, estimate: Estimate) -> None:
        """Fill in what is known of an inference."""
        row = self.inferences.setdefault(where, [None] * 5)
        for place, value in enumerate((label, *map(_known, estimate))):
            if value is not None:
                row[place] = value

    @staticmethod
    def _again(rows: dict[Any, list[Any]], where: Any, row: list[Any], *, changed: int) -> None:
        """Add a row; where there is one already it keeps its place and changes one value."""
        rows.setdefault(where, row)[changed] = row[changed]

    def write(self) -> None:
        """Write all rows."""
        conn, shard_id = self.conn, self.file.shard_id
        explain.add_records(conn, self.records)
        if self.samples:
            explain.add_samples(
                conn,
                [
                    (shard_id, number, s.image_path, s.step, s.wall_time, s.has_truth, s.has_inference)
                    for number, s in self.samples.items()
                ],
            )
        if self.inferences:
            explain.add_inferences(conn, [(shard_id, *where, *row) for where, row in self.inferences.items()])
        if self.saliency:
            explain.add_saliency(conn, [(shard_id, *where, *row) for where, row in self.saliency.items()])
        if self.hoc:
            explain.replace_hoc(
                conn,
                [(shard_id, *where) for where in self.hoc],
                [(shard_id, *where, *row) for where, rows in self.hoc.items() for row in rows],
            )
        if self.benchmarks:
            explain.add_benchmarks(
                conn,
                [(shard_id, *where, *row) for where, row in self.benchmarks.items()],
                [(shard_id, *pair, end) for pair, end in self.ends.items()],
            )


def _read(record: ExplainRecord) -> tuple[Explained | None, str | None]:
    """Return what a record says, and what is wrong with it."""
    if record.data is None or record.length > APPLIED_BYTES:
        return None, f"{record.length} bytes are too many to be made into rows"
    try:
        said = read(record.data)
    except Exception as e:  # one record must not stop the rest, whatever is wrong with it
        return None, str(e) if isinstance(e, ValueError) else repr(e)
    return said, stored("; ".join(said.wrong)[:_WRONG_CHARACTERS]) or None


def _new(names: Sequence[str], known: set[str]) -> list[tuple[int, str]]:
    """Return those names that are not known yet, as stored, with the numbers they get, and add them."""
    added = []
    for name in map(stored, names):
        if name not in known:
            added.append((len(known), name))
            known.add(name)
    return added


def _known(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else number
