"""Explain files and loss landscapes of the sample data against the truth; growth, damage, replacement, history."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db.connection import Connection
from indexer.db.overview import overview
from indexer.ingest import explain
from indexer.text import show
from tests.conftest import DATA
from tests.db.test_truth import number, truth
from tests.support.explaining import benchmark, hoc, inference, metadata, saliency, sample
from tests.support.following import SMALL, Follower, empty, index_once, make
from tests.support.records import bytes_field, frame, ms_event, ms_version
from tests.support.tables import differences, dump

FIRST, SECOND = (f"events.out.events.summary.{stamp}.0.x_explain" for stamp in (99, 100))
Rows = list[tuple[Any, ...]]


def query(engine: Engine, statement: str, **values: object) -> Rows:
    """Return the rows of a statement."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(statement), values)]


# Truth ----------------------------------------------------------------------------------------------------------------
EXPLAINED = ["./explain-saliency", "./explain-hoc"]
_SUFFIXES = {"_prob": 0, "_prob_sd": 1, "_prob_itl95_low": 2, "_prob_itl95_hi": 3}


def expected(records: Sequence[dict[str, Any]]) -> dict[str, Rows]:
    """Return the rows that the records of the truth become, with what each table leaves to others."""
    rows: dict[str, Rows] = {
        name: [] for name in ("labels", "methods", "samples", "inferences", "saliency", "hoc", "benchmarks")
    }
    truths = {r["sample_id"]: r["ground_truth_label"] for r in records if "ground_truth_label" in r}
    for r in records:
        for place, name in enumerate(r.get("metadata", {}).get("label", [])):
            rows["labels"].append((place, name))
        for kind, field in (("explainer", "explain_method"), ("metric", "benchmark_method")):
            rows["methods"] += [(kind, i, name) for i, name in enumerate(r.get("metadata", {}).get(field, []))]
        if "image_path" in r:
            rows["samples"].append((r["sample_id"], r["image_path"]))
        if "inference" in r:
            said, sample_id = r["inference"], r["sample_id"]
            for role, labels in (("ground_truth", truths[sample_id]), ("predicted", said["predicted_label"])):
                for i, label in enumerate(labels):
                    columns = [said.get(role + suffix) for suffix in _SUFFIXES]
                    values = [None if column is None else number(column[i]) for column in columns]
                    rows["inferences"].append((sample_id, role, i, label, *values))
        for x in r.get("explanation", []):
            rows["saliency"].append((r["sample_id"], x["label"], x["explain_method"], x["heatmap_path"]))
        for h in r.get("hoc", []):
            for i, layer in enumerate(h["layer"]):
                boxes = [layer["box"][k : k + 4] for k in range(0, len(layer["box"]), 4)]
                rows["hoc"].append((r["sample_id"], h["label"], i, h["mask"], layer["prob"], json.dumps(boxes)))
        for b in r.get("benchmark", []):
            for i, score in enumerate([b["total_score"], *b["label_score"]], -1):
                rows["benchmarks"].append((b["explain_method"], b["benchmark_method"], i, number(score)))
    return {name: sorted(found, key=repr) for name, found in rows.items()}


COLUMNS = {
    "labels": "label, name",
    "methods": "kind, ordinal, name",
    "samples": "sample_id, image_path",
    "inferences": "sample_id, role, ordinal, label, probability, sd, low, high",
    "saliency": "sample_id, label, explainer, path",
    "hoc": "sample_id, label, layer, mask, probability, boxes",
    "benchmarks": "explainer, metric, label, score",
}


def said(engine: Engine, job: str, *, latest: bool = True) -> dict[str, Rows]:
    """Return what the tables hold of a job's explain files that are the latest, or are not."""
    of_job = (
        "JOIN explain_files f ON f.shard_id = t.shard_id JOIN jobs j ON j.id = f.job_id"
        f" WHERE j.train_id = :job AND {'' if latest else 'NOT '}f.latest"
    )
    return {
        name: sorted(query(engine, f"SELECT {columns} FROM explain_{name} t {of_job}", job=job), key=repr)
        for name, columns in ((n, ", ".join(f"t.{c}" for c in cs.split(", "))) for n, cs in COLUMNS.items())
    }


@pytest.mark.parametrize(("slice_bytes", "kernel"), [(300, False), (2**20, True)])
def test_explain_files_equal_the_truth(engine: Engine, slice_bytes: int, kernel: bool) -> None:
    """Labels, samples, inferences, maps, occlusion and scores are what an independent reader found, however read."""
    index_once(engine, DATA / "mindspore", config=replace(SMALL, slice_bytes=slice_bytes, kernel=kernel))
    for job in EXPLAINED:
        assert expected(truth("mindspore")[job]["explain"]) == said(engine, job)
    files = query(
        engine,
        "SELECT j.train_id, f.latest, f.status, f.label_count, f.sample_count, f.record_count, f.error_count,"
        " f.uncertainty, f.manifest FROM explain_files f JOIN jobs j ON j.id = f.job_id ORDER BY 1",
    )
    assert [
        ("./explain-hoc", 1, "run", 2, 4, 13, 0, 1, '{"saliency_map": false, "hierarchical_occlusion": true}'),
        ("./explain-saliency", 1, "run", 3, 6, 27, 0, 0, '{"saliency_map": true, "hierarchical_occlusion": false}'),
    ] == files
    assert [] == query(engine, "SELECT * FROM tags t JOIN explain_files f ON f.job_id = t.job_id")


def test_records_are_kept_as_written(engine: Engine) -> None:
    """The payload of every explain record comes out again, byte for byte, at its offset in the file."""
    index_once(engine, DATA / "mindspore")
    rows = query(
        engine,
        'SELECT j.train_id, s.name, r."offset", r.length, r.data FROM explain_records r'
        " JOIN shards s ON s.id = r.shard_id JOIN jobs j ON j.id = s.job_id",
    )
    assert 13 + 27 == len(rows)
    for train_id, name, offset, length, data in rows:
        whole = (DATA / "mindspore" / train_id / name).read_bytes()
        assert frame(bytes(data)) == whole[offset : offset + length + 16]


def test_the_views_show_the_latest_file(engine: Engine) -> None:
    """v_explain_inferences and v_explain_scores name labels, and hold what the tables hold."""
    index_once(engine, DATA / "mindspore")
    found = query(engine, "SELECT label_name, probability FROM v_explain_inferences WHERE job = './explain-saliency'")
    names = {"cat", "dog", "bird"}
    assert (names, len(said(engine, EXPLAINED[0])["inferences"])) == ({row[0] for row in found}, len(found))
    scores = query(
        engine,
        "SELECT explainer, metric FROM v_explain_scores WHERE job = './explain-saliency' AND label = -1 ORDER BY 1, 2",
    )
    assert [(e, m) for e in ("GradCAM", "Gradient") for m in ("Faithfulness", "Localization")] == scores


def test_landscapes_equal_the_truth(engine: Engine) -> None:
    """Each array of each landscape, its intervals and metadata are what an independent reader found."""
    index_once(engine, DATA / "mindspore")
    rows = query(
        engine,
        "SELECT t.name, b.encoding, b.data, b.facts, b.error FROM blobs b JOIN tags t ON t.id = b.tag_id"
        " WHERE b.kind = 'landscape'",
    )
    blobs = {show(name): (zlib.decompress(data) if how == "zlib" else bytes(data), json.loads(facts), error)
             for name, how, data, facts, error in rows}  # fmt: skip
    series = [s for s in truth("mindspore")["./landscape"]["series"] if s["kind"] == "loss_landscape"]
    assert {s["tag"] for s in series} == blobs.keys()
    for s in series:
        data, facts, error = blobs[s["tag"]]
        wanted = s["first"]
        assert error is None
        assert wanted["intervals"] == facts["intervals"]
        assert wanted["metadata"] == {name: facts[name] for name in wanted["metadata"]}
        at = 0
        found = {}
        for name, shape in facts["arrays"].items():
            size = math.prod(shape)
            found[name] = (shape, list(struct.unpack_from(f"<{size}d", data, at)))
            at += 8 * size
        assert len(data) == at
        for part, prefix in (("landscape", ""), ("path", "path_"), ("convergence", "convergence_")):
            for axis in "xyz":
                array = wanted[part][axis]
                if array["elements"]:
                    assert (array["dims"], [number(v) for v in array["values"]]) == found[prefix + axis]
                else:
                    assert found.get(prefix + axis, ([], []))[1] == []


# Rules ----------------------------------------------------------------------------------------------------------------
def loaded(engine: Engine, root: Path, *records: bytes, slice_bytes: int = 2**16) -> dict[str, Rows]:
    """Return what the tables say of one explain file of these records."""
    make(root, {f"a/{FIRST}": ms_version(1.0) + b"".join(records)})
    index_once(engine, root, config=replace(SMALL, slice_bytes=slice_bytes))
    return said(engine, "./a")


@pytest.mark.parametrize("slice_bytes", [40, 2**16])
def test_records_of_a_sample_are_merged(engine: Engine, tmp_path: Path, slice_bytes: int) -> None:
    """First labels and inference, last image, map and occlusion count, whether in one batch or in several."""
    found = loaded(
        engine,
        tmp_path,
        metadata(["a"]),
        inference(0, [1], [0.5], [0.25]),
        sample(0, "one.png", [1]),
        sample(0, "two.png", [0, 1], "run"),
        sample(0),
        inference(0, [0, 1], [0.125, 0.75]),
        saliency(0, "G", 1, "m1.png"),
        saliency(0, "H", 1, "m2.png"),
        saliency(0, "G", 1, "m3.png"),
        hoc(0, 1, (0.5, [1, 2, 3, 4]), (0.25, [])),
        hoc(0, 1, (1.0, [1, 2, 3, 4, 5, 6, 7, 8])),
        benchmark("G", "F", 0.5, [0.25, 0.75]),
        benchmark("G", "F", float("nan"), [1.0]),
        metadata(["b", "a", "c"], ["G"], ["F", "F"]),
        slice_bytes=slice_bytes,
    )
    assert [(0, "two.png")] == found["samples"]
    assert [
        (0, "ground_truth", 0, 1, 0.25, None, None, None),
        (0, "predicted", 0, 1, 0.5, None, None, None),
    ] == found["inferences"]
    assert [(0, 1, "G", "m3.png"), (0, 1, "H", "m2.png")] == found["saliency"]
    assert [(0, 1, 0, "gaussian", 1.0, "[[1, 2, 3, 4], [5, 6, 7, 8]]")] == found["hoc"]
    assert [("G", "F", -1, None), ("G", "F", 0, 1.0)] == found["benchmarks"]
    assert [(0, "a"), (1, "b"), (2, "c")] == found["labels"]
    assert [("explainer", 0, "G"), ("metric", 0, "F")] == found["methods"]
    order = query(engine, "SELECT explainer FROM explain_saliency ORDER BY record_offset, position")
    assert [("G",), ("H",)] == order
    assert [(1, "run")] == query(engine, "SELECT sample_count, status FROM explain_files")


def test_records_before_the_metadata_do_not_count(engine: Engine, tmp_path: Path) -> None:
    """They are kept as written, with the reason, counted as undecodable, and the rest is loaded."""
    found = loaded(engine, tmp_path, sample(3, "early.png"), metadata(["a"]), sample(4, "late.png"))
    assert [(4, "late.png")] == found["samples"]
    errors = query(engine, "SELECT error FROM explain_records ORDER BY sample_id, length")
    assert 1 == sum(error is not None and "before the metadata" in error for (error,) in errors)
    with engine.connect() as conn:
        (job,) = overview(conn).jobs
    assert 1 == job["bad_payloads"]


def test_what_makes_no_sense_costs_no_more_than_itself(engine: Engine, tmp_path: Path) -> None:
    """Lengths that disagree are flagged and the rest of the record counts; an event that does not parse is damage."""
    found = loaded(
        engine,
        tmp_path,
        metadata([b"caf\xe9", "nul\0"]),
        inference(-1, [5, 6], [0.5]),
        ms_event(1.0, bytes_field(6, b"\xff")),
        hoc(-1, 5, (0.5, [1, 2, 3, 4, 5])),
        sample(-1, "x.png"),
    )
    assert [(0, "caf␛e9"), (1, "nul␛00")] == found["labels"]
    assert [5, 6] == [row[3] for row in found["inferences"]]
    assert ["[[1, 2, 3, 4]]"] == [row[-1] for row in found["hoc"]]
    assert [(-1, "x.png")] == found["samples"]
    errors = {row[0] for row in query(engine, "SELECT error FROM explain_records")}
    assert {None, "1 probabilities for 2 predicted labels", "5 numbers for boxes of four"} == errors
    assert [(5, 1)] == query(engine, "SELECT record_count, bad_records FROM shards")


def test_a_long_record_stays_in_its_file(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above max_blob_bytes a record is referred to; above what can be made into rows it is kept and not applied."""
    monkeypatch.setattr(explain, "APPLIED_BYTES", 150)
    make(tmp_path, {f"a/{FIRST}": metadata(["a"]) + sample(1, "i" * 150) + sample(2, "i" * 300) + sample(3, "i")})
    index_once(engine, tmp_path, config=replace(SMALL, max_blob_bytes=200))
    assert [(3, "i")] == said(engine, "./a")["samples"]
    rows = query(engine, 'SELECT error IS NULL, data IS NULL FROM explain_records ORDER BY "offset"')
    assert [(True, False), (False, False), (False, True), (True, False)] == [tuple(map(bool, row)) for row in rows]


def test_long_files_are_written_in_batches(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes end a batch and a chunk where there are no points, and what is loaded is the same."""
    records = [metadata(["a"])] + [sample(n, f"{n}.png", [0]) for n in range(50)]
    monkeypatch.setattr("indexer.ingest.payloads.BATCH_BYTES", 2_000)
    monkeypatch.setattr(explain, "CHUNK_BYTES", 1_500)
    batches, store = [], explain.store

    def counted(conn: Connection, parts: Sequence[explain.Loaded]) -> None:
        batches.append(sum(len(part.records) for part in parts))
        store(conn, parts)

    monkeypatch.setattr(explain, "store", counted)
    found = loaded(engine, tmp_path, *records, slice_bytes=300)
    assert sorted((n, f"{n}.png") for n in range(50)) == sorted(found["samples"])
    assert [(51,)] == query(engine, "SELECT record_count FROM explain_files")
    assert (51, True) == (sum(batches), max(batches) < 10)


@pytest.mark.parametrize("first", [FIRST, SECOND])
def test_the_last_file_is_the_latest(engine: Engine, tmp_path: Path, first: str) -> None:
    """Of two files that with the larger timestamp counts, whichever came first; rows of the other stay."""
    second = SECOND if first == FIRST else FIRST
    content = {name: metadata(["a"]) + sample(1, f"{name}.png") for name in (first, second)}
    make(tmp_path, {f"a/{first}": content[first]})
    follower = Follower(engine, tmp_path)
    follower.scan()
    assert [(1, f"{first}.png")] == said(engine, "./a")["samples"]
    make(tmp_path, {f"a/{second}": content[second]})
    follower.scan()
    assert [(1, f"{SECOND}.png")] == said(engine, "./a")["samples"]
    assert [(1, f"{FIRST}.png")] == said(engine, "./a", latest=False)["samples"]


def test_of_files_of_one_second_the_smaller_name_is_the_latest(engine: Engine, tmp_path: Path) -> None:
    """Equal timestamps are read by name descending, so the smallest name comes last."""
    names = [f"events.out.events.summary.100.{rank}.x_explain" for rank in (0, 1)]
    make(tmp_path, {f"a/{name}": metadata(["a"]) + sample(1, f"{name}.png") for name in names})
    index_once(engine, tmp_path)
    assert [(1, f"{names[0]}.png")] == said(engine, "./a")["samples"]


def test_a_growing_file_gives_the_tables_of_a_whole_one(engine: Engine, tmp_path: Path) -> None:
    """However its bytes arrive, and over restarts of the indexer, the tables are those of one whole read."""
    source = DATA / "mindspore" / "explain-saliency"
    (name,) = (path.name for path in source.glob("*_explain"))
    whole = (source / name).read_bytes()
    root = tmp_path / "runs"
    for end in range(0, len(whole) + 1, 331):
        make(root, {f"a/{name}": whole[:end]})
        index_once(engine, root)
    make(root, {f"a/{name}": whole})
    index_once(engine, root)
    grown = dump(engine, disk=False)
    empty(engine)
    index_once(engine, root)
    assert [] == differences(dump(engine, disk=False), grown)
    assert expected(truth("mindspore")["./explain-saliency"]["explain"]) == said(engine, "./a")


def test_a_replaced_file_leaves_nothing_behind(engine: Engine, tmp_path: Path) -> None:
    """Another file of the same name: what the old one said is gone, what the new one says is there once."""
    make(tmp_path, {f"a/{FIRST}": metadata(["a"]) + sample(1, "old.png") + saliency(1, "G", 0, "old.png")})
    follower = Follower(engine, tmp_path)
    follower.scan()
    make(tmp_path, {f"a/{FIRST}": metadata(["b"]) + sample(2, "new.png")})
    follower.scan()
    found = said(engine, "./a")
    assert ([(0, "b")], [(2, "new.png")], []) == (found["labels"], found["samples"], found["saliency"])
    assert [(2,)] == query(engine, "SELECT record_count FROM explain_files")


@pytest.mark.parametrize(
    ("content", "kept"),
    [(b'{"a": [1]}', '{"a": [1]}'), (b"[1]", None), (b"{", None), (b'{"a": NaN}', None), (b" " * 2**17, None)],
)
def test_a_manifest_is_an_object(engine: Engine, tmp_path: Path, content: bytes, kept: str | None) -> None:
    """What lies beside an explain file is kept where it is a JSON object of a sensible size."""
    make(tmp_path, {f"a/{FIRST}": metadata(["a"]), "a/_explain_99/manifest.json": content})
    index_once(engine, tmp_path)
    assert [(kept,)] == query(engine, "SELECT manifest FROM explain_files")
