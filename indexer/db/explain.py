"""Rows of explain files into the tables: plain SQL, in the transaction of their file's cursor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from indexer.db.connection import Connection, among
from indexer.text import show

_AT_ONCE = 500  # values of one statement
_KEY = ("shard_id", "sample_id")

FILE = (
    "shard_id",
    "job_id",
    "latest",
    "status",
    "label_count",
    "sample_count",
    "record_count",
    "error_count",
    "uncertainty",
    "wall_time",
    "manifest",
)
RECORD = ("shard_id", "offset", "length", "wall_time", "step", "sample_id", "error", "data")
SAMPLE = (*_KEY, "image_path", "step", "wall_time", "has_truth", "has_inference")
INFERENCE = (*_KEY, "role", "ordinal", "label", "probability", "sd", "low", "high")
SALIENCY = (*_KEY, "label", "explainer_key", "explainer", "path", "record_offset", "position")
HOC = (*_KEY, "label", "layer", "mask", "probability", "boxes")
BENCHMARK = (
    "shard_id",
    "explainer_key",
    "metric_key",
    "label",
    "explainer",
    "metric",
    "score",
    "record_offset",
    "position",
)

Rows = Iterable[Sequence[Any]]


def _upsert(table: str, columns: Sequence[str], key: int, changes: str) -> str:
    """Return an insert of `columns`, the first `key` of which are the key; a row that is there `changes`."""
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join("?" * len(columns))
    keys = ", ".join(columns[:key])
    return f"INSERT INTO {table} AS t ({names}) VALUES ({marks}) ON CONFLICT ({keys}) DO UPDATE SET {changes}"


def _replaced(*columns: str) -> str:
    return ", ".join(f"{name} = excluded.{name}" for name in columns)


_ADD_FILE = _upsert("explain_files", FILE, 1, _replaced(*FILE[3:]))
_ADD_RECORD = (
    f"INSERT INTO explain_records ({', '.join(chr(34) + c + chr(34) for c in RECORD)})"
    f" VALUES ({', '.join('?' * len(RECORD))})"
)
_ADD_SAMPLE = _upsert("explain_samples", SAMPLE, 2, _replaced("image_path", "has_truth", "has_inference"))
_ADD_INFERENCE = _upsert(
    "explain_inferences",
    INFERENCE,
    4,
    ", ".join(f"{name} = coalesce(excluded.{name}, t.{name})" for name in INFERENCE[4:]),
)
_ADD_SALIENCY = _upsert("explain_saliency", SALIENCY, 4, _replaced("path"))
_ADD_HOC = f"INSERT INTO explain_hoc ({', '.join(HOC)}) VALUES ({', '.join('?' * len(HOC))})"
_ADD_BENCHMARK = _upsert("explain_benchmarks", BENCHMARK, 4, _replaced("score"))


def file(conn: Connection, shard_id: int) -> tuple[Any, ...] | None:
    """Return the row of an explain file, None where there is none yet."""
    found: tuple[Any, ...] | None = conn.execute(
        f"SELECT {', '.join(FILE)} FROM explain_files WHERE shard_id = ?", (shard_id,)
    ).fetchone()
    return found


def add_file(conn: Connection, row: Sequence[Any]) -> None:
    """Insert or update an explain file, given by FILE; which one is the latest is said apart."""
    conn.execute(_ADD_FILE, row)


def files_of(conn: Connection, job_id: int) -> list[tuple[int, str]]:
    """Return id and name of the explain files of a job."""
    query = "SELECT f.shard_id, s.name FROM explain_files f JOIN shards s ON s.id = f.shard_id WHERE f.job_id = ?"
    return conn.execute(query, (job_id,)).fetchall()


def set_latest(conn: Connection, job_id: int, shard_id: int) -> None:
    """Say which explain file of a job is the latest."""
    conn.execute("UPDATE explain_files SET latest = (shard_id = ?) WHERE job_id = ?", (shard_id, job_id))


def add_records(conn: Connection, rows: Rows) -> None:
    """Insert records, given by RECORD; a duplicate key is a bug and raises."""
    conn.many(_ADD_RECORD, rows)


def labels(conn: Connection, shard_id: int) -> list[str]:
    """Return the names of the labels of a file, as stored, by number."""
    query = "SELECT name FROM explain_labels WHERE shard_id = ? ORDER BY label"
    return [row[0] for row in conn.execute(query, (shard_id,))]


def methods(conn: Connection, shard_id: int, kind: str) -> list[str]:
    """Return the names of the explainers or metrics of a file, as stored, in their order."""
    query = "SELECT name FROM explain_methods WHERE shard_id = ? AND kind = ? ORDER BY ordinal"
    return [row[0] for row in conn.execute(query, (shard_id, kind))]


def add_labels(conn: Connection, rows: Rows) -> None:
    """Insert labels: (shard_id, label, name)."""
    conn.many("INSERT INTO explain_labels (shard_id, label, name) VALUES (?, ?, ?)", rows)


def add_methods(conn: Connection, rows: Rows) -> None:
    """Insert explainers and metrics: (shard_id, kind, ordinal, name)."""
    conn.many("INSERT INTO explain_methods (shard_id, kind, ordinal, name) VALUES (?, ?, ?, ?)", rows)


def samples(conn: Connection, shard_id: int, sample_ids: Collection[int]) -> dict[int, tuple[Any, ...]]:
    """Return those of the samples that are there, by number: the values of SAMPLE."""
    wanted = sorted(sample_ids)
    found = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = wanted[start : start + _AT_ONCE]
        marks = ", ".join("?" * len(part))
        query = f"SELECT {', '.join(SAMPLE)} FROM explain_samples WHERE shard_id = ? AND sample_id IN ({marks})"
        found.update({row[1]: row for row in conn.execute(query, (shard_id, *part))})
    return found


def add_samples(conn: Connection, rows: Rows) -> None:
    """Insert or update samples, given by SAMPLE; step and clock stay those of the first record."""
    conn.many(_ADD_SAMPLE, rows)


def add_inferences(conn: Connection, rows: Rows) -> None:
    """Insert inferences, given by INFERENCE, or fill in what a row has not got yet."""
    conn.many(_ADD_INFERENCE, rows)


def add_saliency(conn: Connection, rows: Rows) -> None:
    """Insert saliency maps, given by SALIENCY; one of the same explainer and label gets another path."""
    conn.many(_ADD_SALIENCY, rows)


def replace_hoc(conn: Connection, keys: Rows, rows: Rows) -> None:
    """Put `rows`, given by HOC, in place of what there is of (shard_id, sample_id, label)."""
    conn.many("DELETE FROM explain_hoc WHERE shard_id = ? AND sample_id = ? AND label = ?", keys)
    conn.many(_ADD_HOC, rows)


def add_benchmarks(conn: Connection, rows: Rows, ends: Rows) -> None:
    """Insert scores, given by BENCHMARK, or put them in place of others.

    ends: (shard_id, explainer_key, metric_key, n): the scores of labels from n on are no more.
    """
    conn.many(_ADD_BENCHMARK, rows)
    old = "DELETE FROM explain_benchmarks WHERE shard_id = ? AND explainer_key = ? AND metric_key = ? AND label >= ?"
    conn.many(old, ends)


def choose_latest(conn: Connection, job_id: int, order: Callable[[str], Any]) -> None:
    """Say which explain file of a job is the latest, by the key by which its files are read, of their names."""
    found = files_of(conn, job_id)
    if found:
        set_latest(conn, job_id, max(found, key=lambda file: order(show(file[1])))[0])


def forget(conn: Connection, job_id: int, *, but: Sequence[int] = ()) -> None:
    """Delete all that the explain files of a job said, but for some files."""
    conn.execute(f"DELETE FROM explain_files WHERE job_id = ? AND shard_id NOT IN ({among(but or [0])})", (job_id,))
