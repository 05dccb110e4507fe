"""What explain files say, as MindInsight has it: of each job the file that counts, samples with their inferences."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text

from indexer import fields
from indexer import text as names
from indexer.types import CacheStatus
from webapi.mindinsight.catalogue import Root, bytewise

CONFIDENT = 0.5
"""A label of at least this probability is taken for the answer."""
SAMPLES_AT_ONCE = 500
_EXPLAIN, _TRUTH, _INFERENCE = 6, 3, 4
"""Numbers of fields: of an event, and of the explanation in it."""
_DEFAULT = {"saliency_map": True, "hierarchical_occlusion": False}


class ExplainJob(NamedTuple):
    """An explain job as it is listed."""

    train_id: str
    create_time: float | None
    update_time: float
    saliency_map: Any
    hierarchical_occlusion: Any


class File(NamedTuple):
    """The explain file of a job that counts."""

    shard_id: int
    sample_count: int
    uncertainty: bool


class Inference(NamedTuple):
    """What the network thinks of a label of a sample."""

    label: int
    confidence: float
    sd: float | None
    low: float | None
    high: float | None
    prediction_type: str | None


class Sample(NamedTuple):
    """A sample with an image."""

    id: int
    image_path: str
    inferences: Sequence[Inference]


class Layer(NamedTuple):
    """A layer of hierarchical occlusion."""

    confidence: float | None
    boxes: Any
    mask: str


Maps = Mapping[tuple[int, int], Sequence[tuple[str, str]]]
"""By sample and label: explainer and path of each saliency map."""
Layers = Mapping[tuple[int, int], Sequence[Layer]]


def jobs(conn: Connection, root: Root) -> list[ExplainJob]:
    """Return all explain jobs, those changed last first. One statement."""
    query = text(
        "SELECT j.train_id, coalesce(j.explain_create_time, j.create_time), j.explain_update_time, f.manifest"
        " FROM jobs j LEFT JOIN explain_files f ON f.job_id = j.id AND f.latest"
        " WHERE j.root_id = :root AND j.train_id NOT LIKE './%/%' AND j.explain_update_time IS NOT NULL"
        f" ORDER BY {bytewise(conn)}"  # our own words
    )
    found = []
    for train_id, create_time, update_time, manifest in conn.execute(query, {"root": root.id}):
        said = _DEFAULT | ({} if manifest is None else json.loads(manifest))
        found.append(
            ExplainJob(
                names.show(train_id), create_time, update_time, said["saliency_map"], said["hierarchical_occlusion"]
            )
        )
    return sorted(found, key=lambda job: -int(job.update_time))


def file(conn: Connection, job_id: int) -> File | None:
    """Return the file of a job that counts, None where none is read yet. One statement."""
    query = text("SELECT shard_id, sample_count, uncertainty FROM explain_files WHERE job_id = :job AND latest")
    row = conn.execute(query, {"job": job_id}).first()
    return None if row is None else File(row[0], row[1], bool(row[2]))


def status(cache_status: str, found: File | None) -> str:
    """Return how far a job is loaded, in the explainer's words."""
    if found is None or cache_status == CacheStatus.NOT_IN_CACHE:
        return "PENDING"
    return "LOADED" if cache_status == CacheStatus.CACHED else "LOADING"


def labels(conn: Connection, of: File) -> dict[int, str]:
    """Return the names of labels. One statement."""
    query = text("SELECT label, name FROM explain_labels WHERE shard_id = :file ORDER BY label")
    return {label: names.show(name) for label, name in conn.execute(query, {"file": of.shard_id})}


def methods(conn: Connection, of: File) -> dict[str, list[str]]:
    """Return the names of explainers and of metrics. One statement."""
    query = text("SELECT kind, name FROM explain_methods WHERE shard_id = :file ORDER BY kind, ordinal")
    found: dict[str, list[str]] = {"explainer": [], "metric": []}
    for kind, name in conn.execute(query, {"file": of.shard_id}):
        found[kind].append(names.show(name))
    return found


def class_counts(conn: Connection, of: File) -> dict[int, tuple[int, int, int]]:
    """Return of each label how many samples have it, and of these a saliency map, or a layer. One statement."""
    query = text("""WITH w AS (SELECT DISTINCT i.label, i.sample_id FROM explain_inferences i JOIN explain_samples s
            ON s.shard_id = i.shard_id AND s.sample_id = i.sample_id AND s.image_path IS NOT NULL
            WHERE i.shard_id = :file AND i.label IS NOT NULL)
        SELECT w.label, count(*),
            sum(CASE WHEN EXISTS (SELECT 1 FROM explain_saliency x WHERE x.shard_id = :file
                AND x.sample_id = w.sample_id AND x.label = w.label) THEN 1 ELSE 0 END),
            sum(CASE WHEN EXISTS (SELECT 1 FROM explain_hoc x WHERE x.shard_id = :file
                AND x.sample_id = w.sample_id AND x.label = w.label) THEN 1 ELSE 0 END)
        FROM w GROUP BY w.label""")
    rows = conn.execute(query, {"file": of.shard_id})
    return {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in rows}


def samples(conn: Connection, of: File) -> list[Sample]:
    """Return all samples with an image, in the order in which they came. Three statements."""
    query = text(
        "SELECT sample_id, image_path FROM explain_samples WHERE shard_id = :file AND image_path IS NOT NULL"
        " ORDER BY sample_id"
    )
    rows = conn.execute(query, {"file": of.shard_id}).all()
    found: dict[int, list[Any]] = defaultdict(list)
    for sample_id, *rest in conn.execute(
        text(
            "SELECT sample_id, role, label, probability, sd, low, high FROM explain_inferences"
            " WHERE shard_id = :file ORDER BY sample_id, role, ordinal"
        ),
        {"file": of.shard_id},
    ):
        found[sample_id].append(rest)
    whole = _with_truth(conn, of)
    came = {sample_id: place for place, sample_id in enumerate(whole)}
    rows = sorted(rows, key=lambda row: came.get(row[0], len(came)))
    return [
        Sample(row[0], names.show(row[1]), inferences(found[row[0]], truth=bool(whole.get(row[0])))) for row in rows
    ]


def _with_truth(conn: Connection, of: File) -> dict[int, bool | None]:
    """Return the samples in the order in which they came, and whether their true labels came with their inference.

    None: there is no inference. One statement.
    """
    query = text(
        "SELECT sample_id, data FROM explain_records WHERE shard_id = :file AND sample_id IS NOT NULL"
        ' AND error IS NULL AND data IS NOT NULL ORDER BY "offset"'
    )
    found: dict[int, bool | None] = {}
    for sample_id, data in conn.execute(query, {"file": of.shard_id}):
        if found.setdefault(sample_id, None) is None:
            said = _fields_of(bytes(data))
            found[sample_id] = _TRUTH in said if _INFERENCE in said else None
    return found


def _fields_of(event: bytes) -> set[int]:
    """Return which fields the explanation in an event has."""
    try:
        return {
            inner
            for number, wire, a, b in fields.walk(event)
            if (number, wire) == (_EXPLAIN, fields.BYTES)
            for inner, _, _, _ in fields.walk(event, a, b)
        }
    except ValueError:
        return set()


def inferences(rows: Sequence[Any], *, truth: bool) -> list[Inference]:
    """Return the inferences of a sample: true labels first; of a label in both the probability as predicted.

    MindInsight pairs the labels of the record that holds the inference with all its probabilities, those of true labels
    first. So where the true labels came in another record (truth: they did not), the predicted ones get these.

    rows: role, label, probability, sd, low, high of each.
    """
    true = [row for row in rows if row[0] == "ground_truth"]
    predicted = [row for row in rows if row[0] == "predicted"]
    labels = [row[1] for row in (*(true if truth else ()), *predicted) if row[1] is not None]
    numbers = [row[2:] for row in (*(row for row in true if row[2] is not None), *predicted)]
    by_label = dict(zip(labels, numbers, strict=False))  # what has no partner is left out, as there
    known = {row[1] for row in true} if truth else set()
    return [
        Inference(label, probability, sd, low, high, _prediction(label, probability, known))
        for label, (probability, sd, low, high) in by_label.items()
        if probability is not None
    ]


def _prediction(label: int, confidence: float, truth: set[int]) -> str | None:
    if not truth:
        return None
    if confidence < CONFIDENT:
        return "FN"
    return "TP" if label in truth else "FP"


def maps(conn: Connection, of: File, among: Sequence[Sample]) -> Maps:
    """Return the saliency maps of samples as they were written. A statement for SAMPLES_AT_ONCE of them."""
    found: dict[tuple[int, int], list[tuple[str, str]]] = defaultdict(list)
    query = "sample_id, label, explainer, path FROM explain_saliency", "sample_id, record_offset, position"
    for sample_id, label, explainer, path in _of_samples(conn, of, among, *query):
        found[sample_id, label].append((names.show(explainer), names.show(path)))
    return found


def layers(conn: Connection, of: File, among: Sequence[Sample]) -> Layers:
    """Return the layers of samples. A statement for SAMPLES_AT_ONCE of them."""
    found: dict[tuple[int, int], list[Layer]] = defaultdict(list)
    query = "sample_id, label, probability, boxes, mask FROM explain_hoc", "sample_id, label, layer"
    for sample_id, label, probability, boxes, mask in _of_samples(conn, of, among, *query):
        found[sample_id, label].append(Layer(probability, json.loads(boxes), names.show(mask)))
    return found


def _of_samples(conn: Connection, of: File, among: Sequence[Sample], what: str, order: str) -> list[Any]:
    query = text(f"SELECT {what} WHERE shard_id = :file AND sample_id IN :samples ORDER BY {order}")
    bound = query.bindparams(bindparam("samples", expanding=True))
    rows: list[Any] = []
    for start in range(0, len(among), SAMPLES_AT_ONCE):
        ids = [sample.id for sample in among[start : start + SAMPLES_AT_ONCE]]
        rows += conn.execute(bound, {"file": of.shard_id, "samples": ids})
    return rows


def occluded(conn: Connection, of: File) -> set[tuple[int, int]]:
    """Return the samples and labels that have layers. One statement."""
    query = text("SELECT DISTINCT sample_id, label FROM explain_hoc WHERE shard_id = :file")
    return {(row[0], row[1]) for row in conn.execute(query, {"file": of.shard_id})}


def one(conn: Connection, of: File, sample_id: int) -> Sample | None:
    """Return a sample with an image, without its inferences. One statement."""
    query = text("SELECT image_path FROM explain_samples WHERE shard_id = :file AND sample_id = :sample")
    path = conn.execute(query, {"file": of.shard_id, "sample": sample_id}).scalar()
    return None if path is None else Sample(sample_id, names.show(path), [])


def scores(conn: Connection, of: File) -> list[tuple[str, str, int, float | None]]:
    """Return explainer, metric, label (-1: all) and score as they were written. One statement."""
    query = text(
        "SELECT explainer, metric, label, score FROM explain_benchmarks WHERE shard_id = :file"
        " ORDER BY record_offset, position, label"
    )
    rows = conn.execute(query, {"file": of.shard_id})
    return [(names.show(explainer), names.show(metric), label, score) for explainer, metric, label, score in rows]
