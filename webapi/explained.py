"""Every SELECT of what explain files say: plain SQL, a fixed number of statements for a request, bounded rows out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text

from indexer import text as names
from webapi.queries import JobRef

FILES_A_PAGE = 1_000
"""Files whose samples or records one page may come from."""
SAMPLES_AT_ONCE = 500
"""Samples whose inferences one statement reads."""

Values = dict[str, Any]


class FileRow(NamedTuple):
    """An explain file."""

    shard_id: int
    job_id: int
    train_id: str
    cache_status: str
    name: str
    state: str
    latest: bool
    status: str | None
    label_count: int
    sample_count: int
    record_count: int
    error_count: int
    uncertainty: bool
    wall_time: float | None
    manifest: str | None
    saliency: bool  # there is a map
    hoc: bool  # there is a layer


class SampleRow(NamedTuple):
    """A sample."""

    shard_id: int
    sample_id: int
    image_path: str | None
    step: int
    wall_time: float | None


class InferenceRow(NamedTuple):
    """What is thought of a label of a sample."""

    role: str
    label: int | None
    name: str | None
    probability: float | None
    sd: float | None
    low: float | None
    high: float | None


class SaliencyRow(NamedTuple):
    """A saliency map."""

    label: int
    name: str | None
    explainer: str
    path: str


class HocRow(NamedTuple):
    """A layer of hierarchical occlusion."""

    label: int
    name: str | None
    mask: str
    layer: int
    probability: float | None
    boxes: str


class ScoreRow(NamedTuple):
    """A score of an explainer by a metric; label -1: of all together."""

    explainer: str
    metric: str
    label: int
    name: str | None
    score: float | None


class RecordRow(NamedTuple):
    """A record as written, without its bytes."""

    shard_id: int
    offset: int
    length: int
    step: int
    wall_time: float | None
    sample_id: int | None
    error: str | None
    stored: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Explain files: of jobs (None: all), of these names (none: all), the latest of each job only."""

    jobs: Sequence[JobRef] | None = None
    tags: tuple[str, ...] = ()
    latest: bool = True


@dataclass(frozen=True, slots=True)
class Samples:
    """A page of samples, behind the key `after` (file, sample)."""

    limit: int
    first: int | None = None  # steps
    last: int | None = None
    label: str | None = None  # only those with an inference of it
    after: tuple[int, int] | None = None


_FILES = """SELECT f.shard_id, f.job_id, j.train_id, j.cache_status, s.name, s.state, f.latest, f.status, f.label_count,
    f.sample_count, f.record_count, f.error_count, f.uncertainty, f.wall_time, f.manifest,
    EXISTS (SELECT 1 FROM explain_saliency x WHERE x.shard_id = f.shard_id),
    EXISTS (SELECT 1 FROM explain_hoc x WHERE x.shard_id = f.shard_id)
    FROM explain_files f JOIN jobs j ON j.id = f.job_id JOIN shards s ON s.id = f.shard_id"""


def files(conn: Connection, wanted: Wanted, *, limit: int, behind: int) -> tuple[list[FileRow], bool]:
    """Return files by id, greater than `behind`, and whether more follow. One statement."""
    where, values, expanding = ["f.shard_id > :behind"], Values(behind=behind, limit=limit + 1), []
    if wanted.latest:
        where.append("f.latest")
    if wanted.jobs is not None:
        where.append("f.job_id IN :jobs")
        values["jobs"] = [ref.id for ref in wanted.jobs]
        expanding.append("jobs")
    if wanted.tags:
        where.append("s.name IN :names")
        values["names"] = [names.store(tag) for tag in wanted.tags]
        expanding.append("names")
    query = text(f"{_FILES} WHERE {' AND '.join(where)} ORDER BY f.shard_id LIMIT :limit").bindparams(
        *(bindparam(name, expanding=True) for name in expanding)
    )
    rows = [_file(row) for row in conn.execute(query, values)]
    return rows[:limit], len(rows) > limit


def file(conn: Connection, shard_id: int) -> FileRow | None:
    """Return one file, None where there is none. One statement."""
    row = conn.execute(text(f"{_FILES} WHERE f.shard_id = :id"), {"id": shard_id}).first()
    return None if row is None else _file(row)


def _file(row: Any) -> FileRow:
    """Return a row; SQLite has no boolean of its own."""
    made = FileRow(*row)
    return made._replace(
        latest=bool(made.latest), uncertainty=bool(made.uncertainty), saliency=bool(made.saliency), hoc=bool(made.hoc)
    )


_SAMPLE = "SELECT p.shard_id, p.sample_id, p.image_path, p.step, p.wall_time FROM explain_samples p"


def samples(conn: Connection, wanted: Samples, among: Sequence[FileRow]) -> tuple[list[SampleRow], bool]:
    """Return a page of samples of files, by file and number, and whether more follow. One statement."""
    if not among:
        return [], False
    where, values = ["p.shard_id IN :files"], Values(files=[f.shard_id for f in among], limit=wanted.limit + 1)
    if wanted.after is not None:
        where.append("(p.shard_id, p.sample_id) > (:file, :sample)")
        values |= {"file": wanted.after[0], "sample": wanted.after[1]}
    for name, sign, step in (("first", ">=", wanted.first), ("last", "<=", wanted.last)):
        if step is not None:
            where.append(f"p.step {sign} :{name}")
            values[name] = step
    if wanted.label is not None:
        where.append(
            "EXISTS (SELECT 1 FROM explain_labels l JOIN explain_inferences i"
            " ON i.shard_id = l.shard_id AND i.label = l.label"
            " WHERE l.shard_id = p.shard_id AND l.name = :label AND i.sample_id = p.sample_id)"
        )
        values["label"] = names.store(wanted.label)
    query = text(f"{_SAMPLE} WHERE {' AND '.join(where)} ORDER BY p.shard_id, p.sample_id LIMIT :limit")
    rows = [SampleRow(*row) for row in conn.execute(query.bindparams(bindparam("files", expanding=True)), values)]
    return rows[: wanted.limit], len(rows) > wanted.limit


def sample(conn: Connection, shard_id: int, sample_id: int) -> SampleRow | None:
    """Return one sample, None where there is none. One statement."""
    query = text(f"{_SAMPLE} WHERE p.shard_id = :file AND p.sample_id = :sample")
    row = conn.execute(query, {"file": shard_id, "sample": sample_id}).first()
    return None if row is None else SampleRow(*row)


def inferences(conn: Connection, among: Sequence[SampleRow], *, most: int) -> dict[tuple[int, int], list[InferenceRow]]:
    """Return the inferences of samples by file and number, as long as they are `most` altogether.

    A sample that is missing has some that were too many. A statement for SAMPLES_AT_ONCE samples.
    """
    found: dict[tuple[int, int], list[InferenceRow]] = {}
    for start in range(0, len(among), SAMPLES_AT_ONCE):
        part = among[start : start + SAMPLES_AT_ONCE]
        keys = ", ".join(f"(:f{i}, :s{i})" for i in range(len(part)))
        values = Values(limit=most + 1)
        for i, row in enumerate(part):
            values |= {f"f{i}": row.shard_id, f"s{i}": row.sample_id}
        query = text(
            "SELECT i.shard_id, i.sample_id, i.role, i.label, l.name, i.probability, i.sd, i.low, i.high"  # noqa: S608  # values are bound
            f" FROM (VALUES {keys}) v JOIN explain_inferences i ON i.shard_id = v.column1 AND i.sample_id = v.column2"
            " LEFT JOIN explain_labels l ON l.shard_id = i.shard_id AND l.label = i.label"
            " WHERE i.label IS NOT NULL ORDER BY i.shard_id, i.sample_id, i.role, i.ordinal LIMIT :limit"
        )
        rows = conn.execute(query, values).all()
        known: dict[tuple[int, int], list[InferenceRow]] = {(row.shard_id, row.sample_id): [] for row in part}
        for shard_id, sample_id, *rest in rows[:most]:
            known[shard_id, sample_id].append(InferenceRow(*rest))
        if len(rows) > most:
            cut = (rows[most][0], rows[most][1])
            return found | {key: those for key, those in known.items() if key < cut}
        found |= known
        most -= len(rows)
    return found


def saliency(conn: Connection, row: SampleRow, *, limit: int) -> list[SaliencyRow]:
    """Return the saliency maps of a sample as they were written. One statement."""
    return [
        SaliencyRow(*found)
        for found in _of_sample(
            conn,
            "x.label, l.name, x.explainer, x.path FROM explain_saliency x",
            "x.record_offset, x.position",
            row,
            limit,
        )
    ]


def hoc(conn: Connection, row: SampleRow, *, limit: int) -> list[HocRow]:
    """Return the layers of hierarchical occlusion of a sample. One statement."""
    columns = "x.label, l.name, x.mask, x.layer, x.probability, x.boxes FROM explain_hoc x"
    return [HocRow(*found) for found in _of_sample(conn, columns, "x.label, x.layer", row, limit)]


def _of_sample(conn: Connection, what: str, order: str, row: SampleRow, limit: int) -> Sequence[Any]:
    query = text(
        f"SELECT {what} LEFT JOIN explain_labels l ON l.shard_id = x.shard_id AND l.label = x.label"
        f" WHERE x.shard_id = :file AND x.sample_id = :sample ORDER BY {order} LIMIT :limit"
    )
    return conn.execute(query, {"file": row.shard_id, "sample": row.sample_id, "limit": limit}).all()


def labels(conn: Connection, shard_id: int, *, limit: int) -> list[tuple[int, str]]:
    """Return number and name of a file's labels. One statement."""
    query = text("SELECT label, name FROM explain_labels WHERE shard_id = :file ORDER BY label LIMIT :limit")
    return [(row[0], row[1]) for row in conn.execute(query, {"file": shard_id, "limit": limit})]


def methods(conn: Connection, shard_id: int, *, limit: int) -> list[tuple[str, str]]:
    """Return kind (explainer, metric) and name of a file's methods in their order. One statement."""
    query = text("SELECT kind, name FROM explain_methods WHERE shard_id = :file ORDER BY kind, ordinal LIMIT :limit")
    return [(row[0], row[1]) for row in conn.execute(query, {"file": shard_id, "limit": limit})]


def scores(conn: Connection, shard_id: int, *, limit: int) -> list[ScoreRow]:
    """Return the scores of a file as they were written. One statement."""
    query = text(
        "SELECT b.explainer, b.metric, b.label, l.name, b.score FROM explain_benchmarks b"
        " LEFT JOIN explain_labels l ON l.shard_id = b.shard_id AND l.label = b.label"
        " WHERE b.shard_id = :file ORDER BY b.record_offset, b.position, b.label LIMIT :limit"
    )
    return [ScoreRow(*row) for row in conn.execute(query, {"file": shard_id, "limit": limit})]


_RECORD = """SELECT r.shard_id, r."offset", r.length, r.step, r.wall_time, r.sample_id, r.error, r.data IS NOT NULL
    FROM explain_records r"""


def records(
    conn: Connection, among: Sequence[FileRow], *, limit: int, after: tuple[int, int] | None, wrong: bool
) -> tuple[list[RecordRow], bool]:
    """Return records of files in file order, behind the key `after` (file, offset), and whether more follow."""
    if not among:
        return [], False
    where, values = ["r.shard_id IN :files"], Values(files=[f.shard_id for f in among], limit=limit + 1)
    if after is not None:
        where.append('(r.shard_id, r."offset") > (:file, :after)')
        values |= {"file": after[0], "after": after[1]}
    if wrong:
        where.append("r.error IS NOT NULL")
    query = text(f'{_RECORD} WHERE {" AND ".join(where)} ORDER BY r.shard_id, r."offset" LIMIT :limit')
    rows = [_record(row) for row in conn.execute(query.bindparams(bindparam("files", expanding=True)), values)]
    return rows[:limit], len(rows) > limit


def record(conn: Connection, shard_id: int, offset: int) -> RecordRow | None:
    """Return one record, None where there is none. One statement."""
    query = text(f'{_RECORD} WHERE r.shard_id = :file AND r."offset" = :offset')
    row = conn.execute(query, {"file": shard_id, "offset": offset}).first()
    return None if row is None else _record(row)


def _record(row: Any) -> RecordRow:
    made = RecordRow(*row)
    return made._replace(stored=bool(made.stored))


def payload(conn: Connection, row: RecordRow) -> bytes:
    """Return the bytes of a record that is in the database. One statement."""
    query = text('SELECT data FROM explain_records WHERE shard_id = :file AND "offset" = :offset')
    return bytes(conn.execute(query, {"file": row.shard_id, "offset": row.offset}).scalar_one())


def map_path(conn: Connection, shard_id: int, sample_id: int, label: int, explainer: str) -> str | None:
    """Return the path of a saliency map as stored, None where there is none. One statement."""
    query = text(
        "SELECT path FROM explain_saliency WHERE shard_id = :file AND sample_id = :sample AND label = :label"
        " AND explainer_key = :key"
    )
    values = {"file": shard_id, "sample": sample_id, "label": label, "key": names.key(names.store(explainer))}
    found: str | None = conn.execute(query, values).scalar()
    return found


def place(conn: Connection, shard_id: int) -> tuple[Path, str] | None:
    """Return the directory of the job that a file is of, and the file's name. One statement."""
    query = text(
        "SELECT r.path, j.train_id, s.name FROM shards s JOIN jobs j ON j.id = s.job_id"
        " JOIN roots r ON r.id = j.root_id WHERE s.id = :id"
    )
    row = conn.execute(query, {"id": shard_id}).first()
    if row is None:
        return None
    root, train_id, name = map(names.show, row)
    return Path(root, train_id), name


def boxes(row: HocRow) -> list[list[int]]:
    """Return the boxes of a layer."""
    found: list[list[int]] = json.loads(row.boxes)
    return found
