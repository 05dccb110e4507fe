"""Lineage and hyperparameters in the tables: the sample data against the truth, and what files come to as they grow."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db.overview import overview
from indexer.ingest import payloads
from indexer.text import show
from tests.conftest import DATA
from tests.db.test_kinds import bytes_of
from tests.db.test_truth import LINEAGE, truth
from tests.support.following import SMALL, Follower, index_once, make
from tests.support.records import (
    bytes_field,
    double_field,
    hparams_end,
    hparams_experiment,
    hparams_start,
    ms_evaluation,
    ms_lineage,
    ms_train,
    ms_user_defined,
    tb_event,
    tb_hparams,
    tb_metadata,
    tb_tensor,
    tb_value,
    tb_version,
)
from tests.support.tables import differences, dump

FILE = "events.out.tfevents.1700000000.x"
FIRST, SECOND, THIRD = (f"events.out.events.summary.{stamp}.0.x_lineage" for stamp in (99, 100, 101))


def as_float32(value: Any) -> Any:
    """Return what the lineage says with its floats as the truth has them: float32 as float64."""
    if isinstance(value, dict):
        return {
            key: struct.unpack("<f", struct.pack("<f", inner))[0]
            if key in {"learning_rate", "loss"} and isinstance(inner, float)
            else as_float32(inner)
            for key, inner in value.items()
        }
    return value


def values(engine: Engine, job: str = "./a") -> dict[str, str]:
    """Return the merged lineage of a job, by name."""
    query = text(
        "SELECT l.name, l.value FROM lineage l JOIN jobs j ON j.id = l.job_id WHERE j.train_id = :job AND l.name <> ''"
    )
    with engine.connect() as conn:
        return {show(row.name): row.value for row in conn.execute(query, {"job": job})}


def given(engine: Engine, job: str = "./a") -> dict[str, Any]:
    """Return the hyperparameters of a job."""
    query = text("SELECT hparams FROM v_hparams WHERE job = :job")
    with engine.connect() as conn:
        found = conn.execute(query, {"job": job}).scalar_one_or_none()
    made: dict[str, Any] = {} if found is None else json.loads(found)
    return made


# The sample data ------------------------------------------------------------------------------------------------------
def test_every_lineage_record_equals_the_truth(engine: Engine) -> None:
    """Each record is a payload with its bytes as in the file, and says what independent readers found in it."""
    index_once(engine, DATA / "mindspore")
    query = text(
        "SELECT b.*, t.name, s.name AS file, p.wall_time FROM blobs b JOIN tags t ON t.id = b.tag_id"
        " JOIN jobs j ON j.id = t.job_id JOIN tag_segments g ON g.tag_id = t.id AND b.seq BETWEEN g.first_seq AND"
        " g.last_seq JOIN shards s ON s.id = g.shard_id"
        " JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq"
        " WHERE b.kind = 'lineage' AND j.train_id = :job"
    )
    count = 0
    with engine.connect() as conn:
        for name, run in truth("mindspore").items():
            rows = conn.execute(query, {"job": name}).all()
            found = sorted(((r.name, r.wall_time, json.loads(r.facts)["content"]) for r in rows), key=repr)
            parts = [(part, r["wall_time"], r[part]) for r in run["lineage"] for part in r if part in LINEAGE]
            assert sorted(parts, key=repr) == [(part, clock, as_float32(said)) for part, clock, said in found]
            for row in rows:
                data = bytes_of(row)
                assert hashlib.sha256(data).digest() == bytes(row.digest)
                assert data in (DATA / "mindspore" / name / row.file).read_bytes()
                count += 1
    assert count > 15


def test_the_lineage_of_a_job_is_merged_as_by_mindinsight(engine: Engine) -> None:
    """v_lineage has a row a job; a resumed training has the values of its newest file, and the evaluation after it."""
    index_once(engine, DATA / "mindspore")
    with engine.connect() as conn:
        rows = {row.job: row for row in conn.execute(text("SELECT * FROM v_lineage"))}
    assert {name for name, run in truth("mindspore").items() if run["lineage"]} == rows.keys()
    row = rows["./lineage-adam-0.01"]
    assert ("Adam", 0.005, 1.0, 64.0, 64.0, 0.9268845) == (
        row.optimizer,
        row.learning_rate,
        row.epoch,
        row.train_dataset_size,
        row.valid_dataset_size,
        row.loss,
    )
    assert {"Accuracy": 0.515625, "loss": 1.0916597098112106} == json.loads(row.metric)
    assert {"experiment": "resumed", "workers": 9} == json.loads(row.user_defined)
    assert "Batch" == json.loads(row.dataset_graph)["parameter"]["mapStr"]["op_type"]
    assert (None, None) == (rows["./lineage-partial"].metric, rows["./lineage-only"].dataset_graph)
    assert {"kept": "lineage"} == json.loads(rows["./lineage-only"].user_defined)


def test_a_value_names_the_record_it_is_from(engine: Engine) -> None:
    """File and offset of each row lead to the record that says so."""
    index_once(engine, DATA / "mindspore")
    query = text('SELECT l.*, l."offset" AS at, j.train_id, s.name AS file FROM lineage l JOIN jobs j'
                 ' ON j.id = l.job_id JOIN shards s ON s.id = l.shard_id WHERE l.name <> \'\'')  # fmt: skip
    with engine.connect() as conn:
        rows = conn.execute(query).all()
    assert len(rows) > 80
    for row in rows:
        content = (DATA / "mindspore" / row.train_id / row.file).read_bytes()
        (length,) = struct.unpack_from("<Q", content, row.at)
        record = content[row.at + 12 : row.at + 12 + length]
        assert struct.pack("<d", row.wall_time) in record
        assert row.kind != "string" or row.value.encode() in record or row.section == "metric"


def test_hyperparameters_equal_the_truth(engine: Engine) -> None:
    """Content is kept as written, also of values without any field; each session is a run with its values."""
    index_once(engine, DATA / "tensorboard")
    query = text("SELECT b.digest, b.length, b.error, t.content FROM blobs b JOIN tags t ON t.id = b.tag_id"
                 " JOIN jobs j ON j.id = t.job_id WHERE j.train_id = :job AND t.name = :tag")  # fmt: skip
    count = 0
    with engine.connect() as conn:
        for name, run in truth("tensorboard").items():
            for series in run["series"]:
                if series["plugin"] != "hparams":
                    continue
                (row,) = conn.execute(query, {"job": name, "tag": series["tag"]})
                expected = series["metadata"]["plugin_content"]
                assert (expected["sha256"], expected["bytes"], None) == (bytes(row.digest).hex(), row.length, row.error)
                assert expected["sha256"] == hashlib.sha256(row.content).hexdigest()
                count += 1
        runs = {row.job: row for row in conn.execute(text("SELECT * FROM v_hparams"))}
        flat = text("SELECT h.name, h.kind, h.value, h.number FROM hparams h JOIN jobs j ON j.id = h.job_id"
                    " WHERE j.train_id = './hparams/trial-0' ORDER BY h.ordinal")  # fmt: skip
        rows = [tuple(row) for row in conn.execute(flat)]
    assert 10 == count
    assert {"./hparams/torch/session-0", "./hparams/torch/session-1"} <= runs.keys()
    assert "./hparams" not in runs
    assert [("lr", "number"), ("norm", "bool"), ("units", "number"), ("opt", "string")] == [row[:2] for row in rows]
    assert [("false", None), ("32.0", 32.0), ("adam", None)] == [row[2:] for row in rows[1:]]
    assert {"lr": rows[0][3], "norm": False, "units": 32.0, "opt": "adam"} == given(engine, "./hparams/trial-0")
    trial, torch = runs["./hparams/trial-0"], runs["./hparams/torch/session-1"]
    assert ("t0", "unknown", 1700190002.5, None) == (trial.group_name, trial.status, trial.start_time, trial.ended)
    assert "2023-11-17 03:00:02" in str(trial.started)
    assert (None, "success", {"lr": 0.2, "name": "x1", "flag": 1.0, "bsize": 1.0}) == (
        torch.group_name,
        torch.status,
        json.loads(torch.hparams),
    )


# Files that grow, are damaged, are replaced ---------------------------------------------------------------------------
def test_files_are_merged_by_their_timestamps(engine: Engine, tmp_path: Path) -> None:
    """Whenever records come, and whatever sorts as text: file 100 lies between 99 and 101."""
    root = make(
        tmp_path / "runs",
        {
            f"a/{FIRST}": ms_train(0.5) + ms_user_defined({"k": "first"}),
            f"a/{SECOND}": ms_train(0.25, "Adam"),
            f"a/{THIRD}": ms_evaluation('{"accuracy": 0.5}'),
        },
    )
    follower = Follower(engine, root)
    follower.scan()
    expected = {"optimizer": "Adam", "learning_rate": "0.25", "metric/accuracy": "0.5"}
    assert expected == values(engine)
    with (root / "a" / FIRST).open("ab") as file:
        file.write(ms_train(0.125))
    follower.scan()
    assert expected == values(engine)
    with (root / "a" / SECOND).open("ab") as file:
        file.write(ms_user_defined({"nul\0\ud800".encode("utf-8", "replace").decode(): "x"}))
    follower.scan()
    assert expected | {"user_defined/nul\0?": "x"} == values(engine)
    assert {"optimizer": "Adam", "learning_rate": 0.25} == given(engine)


def test_damaged_records_stop_nothing(engine: Engine, tmp_path: Path) -> None:
    """A flipped byte is damage, a torn end is waited for, what is no lineage is a payload with an error and counted."""
    torn = ms_user_defined({"late": "1"})
    flipped = bytearray(ms_train(0.125))
    flipped[20] ^= 1
    bad = ms_evaluation("no JSON")
    root = make(tmp_path / "runs", {f"a/{FIRST}": ms_train(0.5) + bytes(flipped) + bad + torn[:-1]})
    follower = Follower(engine, root)
    follower.scan()
    with engine.connect() as conn:
        (row,) = conn.execute(text("SELECT * FROM blobs WHERE error IS NOT NULL"))
        (job,) = overview(conn).jobs
    assert (bad[12:-4], True) == (bytes(row.data), "no JSON" in row.error)
    assert (1, 1, 1) == (job["bad_payloads"], job["bad_records"], job["torn"])
    assert {"optimizer": "SGD", "learning_rate": "0.5"} == values(engine)
    with (root / "a" / FIRST).open("ab") as file:
        file.write(torn[-1:])
    follower.scan()
    assert {"optimizer": "SGD", "learning_rate": "0.5", "user_defined/late": "1"} == values(engine)


def test_a_replaced_file_takes_its_lineage_with_it(engine: Engine, tmp_path: Path) -> None:
    """Another file under the same name: nothing of the old one is left, in no table."""
    tree = {f"a/{FIRST}": ms_train(0.5) + ms_user_defined({"k": "v"})}
    root = make(tmp_path / "runs", tree)
    follower = Follower(engine, root)
    follower.scan()
    make(root, {f"a/{FIRST}": ms_train(0.25, "Momentum", 2.0)})
    follower.scan()
    assert {"optimizer": "Momentum", "learning_rate": "0.25"} == values(engine)
    assert {"optimizer": "Momentum", "learning_rate": 0.25} == given(engine)
    make(root, {f"a/{FIRST}": ms_evaluation('{"a": 1}', 3.0)})
    follower.scan()
    assert ({"metric/a": "1"}, {}) == (values(engine), given(engine))


@pytest.mark.parametrize("size", [1, 2_000])
def test_batches_of_any_size_give_the_same(
    engine: Engine, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few payloads a transaction holds, and when a job is read again: the tables are the same."""
    sessions = b"".join(
        tb_hparams("session_start_info", hparams_start({"lr": i / 8, f"h{i}": 1.0}), float(i))
        + tb_hparams("session_end_info", hparams_end(1 + i % 2, float(i)), float(i))
        for i in range(40)
    )
    trains = b"".join(ms_user_defined({f"k{i % 7}": str(i)}) + ms_train(i / 8) for i in range(40))
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + sessions, f"b/{FIRST}": trains})
    index_once(engine, root)
    expected = dump(engine)
    assert {"lr": 39 / 8, "h39": 1.0} == given(engine)
    monkeypatch.setattr(payloads, "BATCH_BYTES", size)
    follower = Follower(engine, root, config=replace(SMALL, slice_bytes=512))
    for job in list(follower.indexer.jobs.values()):
        follower.indexer.loader.reset(job)
    with engine.connect() as conn:
        for table in ("lineage", "lineage_files", "hparams", "hparam_runs", "blobs"):
            assert 0 == conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
    follower.scan()
    assert [] == differences(expected, dump(engine))


def test_a_later_session_wins_and_both_are_kept(engine: Engine, tmp_path: Path) -> None:
    """One tag, other content: each is a payload of its own; a new session has not ended yet."""
    first, second = hparams_start({"lr": 0.5, "old": 1.0}, group="g", start=5.0), hparams_start({"lr": 0.25})
    root = make(
        tmp_path / "runs",
        {
            f"a/{FILE}": tb_version(1.0)
            + tb_hparams("session_start_info", first)
            + tb_hparams("session_end_info", hparams_end(2, 6.0)),
        },
    )
    follower = Follower(engine, root)
    follower.scan()
    run = text("SELECT group_name, status, start_time, end_time FROM v_hparams")
    with engine.connect() as conn:
        assert ("g", "failure", 5.0, 6.0) == tuple(conn.execute(run).one())
    with (root / "a" / FILE).open("ab") as file:
        file.write(tb_hparams("session_start_info", second, 2.0))
    follower.scan()
    assert {"lr": 0.25} == given(engine)
    with engine.connect() as conn:
        assert (None, "unknown", None, None) == tuple(conn.execute(run).one())
        kept = conn.execute(text("SELECT b.data FROM blobs b JOIN tags t ON t.id = b.tag_id"
                                 " WHERE t.name LIKE '%start%' ORDER BY b.seq"))  # fmt: skip
        assert [first, second] == [bytes(row.data) for row in kept]


def test_a_tensor_beside_hyperparameters_is_kept(engine: Engine, tmp_path: Path) -> None:
    """The null tensor that writers put there is left out; any other is a payload behind the content."""
    null = bytes_field(8, b"\x08\x01" + bytes_field(2, bytes_field(2, b"\x08\x00")))
    full = bytes_field(8, b"\x08\x01" + bytes_field(2, bytes_field(2, b"\x08\x02")) + bytes_field(4, bytes(8)))
    content = hparams_start({"lr": 1.0})
    records = tb_hparams("null", content, what=null) + tb_hparams("full", content, what=full)
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + records})
    index_once(engine, root)
    with engine.connect() as conn:
        query = text("SELECT t.name, b.ordinal, b.kind FROM blobs b JOIN tags t ON t.id = b.tag_id ORDER BY 1, 2")
        found = [(row.name.removeprefix("_hparams_/"), row.ordinal, row.kind) for row in conn.execute(query)]
    assert [("full", 0, "hparams"), ("full", 1, "tensor"), ("null", 0, "hparams")] == found


def test_metadata_that_differ_are_kept_with_their_value(engine: Engine, tmp_path: Path) -> None:
    """Of any plugin: the first value's are the series'; others, and those of a value without field, are payloads."""
    first, other = tb_metadata("mine", b"one"), tb_metadata("mine", b"two")
    values_ = [("field", first), ("field", first), ("field", other), ("field", None), ("none", first)]
    tensor = bytes_field(8, b"\x08\x01" + bytes_field(2, bytes_field(2, b"\x08\x02")) + bytes_field(4, bytes(8)))
    records = b"".join(
        tb_event(1.0, tb_value(tag, tensor if tag == "field" else b"", metadata), step)
        for step, (tag, metadata) in enumerate(values_)
    )
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + records})
    index_once(engine, root)
    query = text("SELECT b.step, b.ordinal, b.kind, b.data FROM blobs b ORDER BY b.step, b.ordinal")
    with engine.connect() as conn:
        found = [(r.step, r.ordinal, bytes(r.data)) for r in conn.execute(query) if r.kind == "message"]
    assert [(2, 1, other), (4, 0, first)] == found


def test_content_that_is_no_hparams_is_counted(engine: Engine, tmp_path: Path) -> None:
    """It is kept with the reason and stops neither the sessions after it nor other tags."""
    bad = tb_hparams("session_start_info", b"\xff\xff")
    good = tb_hparams("session_start_info", hparams_start({"lr": 0.5}))
    experiment = tb_hparams("experiment", hparams_experiment(("", "loss")))
    tensor = tb_tensor("t", 1, (1,), bytes(4), 1.0)
    tree = {f"a/{FILE}": tb_version(1.0) + bad + good, f"b/{FILE}": tb_version(1.0) + experiment + tensor}
    root = make(tmp_path / "runs", tree)
    index_once(engine, root)
    with engine.connect() as conn:
        (row,) = conn.execute(text("SELECT data, error FROM blobs WHERE error IS NOT NULL"))
        assert 1 == sum(job["bad_payloads"] for job in overview(conn).jobs)
    assert (b"\xff\xff", True) == (bytes(row.data), "no message of hparams" in row.error)
    assert ({"lr": 0.5}, {}) == (given(engine), given(engine, "./b"))


def test_one_directory_may_have_both(engine: Engine, tmp_path: Path) -> None:
    """Where a lineage and a session name one hyperparameter the session counts; all others are there."""
    session = tb_hparams("session_start_info", hparams_start({"learning_rate": 0.5}))
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + session, f"a/{FIRST}": ms_train(0.25)})
    index_once(engine, root)
    assert {"optimizer": "SGD", "learning_rate": 0.5} == given(engine)


def test_infinite_numbers_have_their_place(engine: Engine, tmp_path: Path) -> None:
    """A loss that went beyond all bounds is a number in SQL, and text in strict JSON."""
    record = ms_lineage(6, bytes_field(3, b"\x15\x00\x00\x80\x7f"))
    session = bytes_field(3, bytes_field(1, bytes_field(1, b"x") + bytes_field(2, double_field(2, float("nan")))))
    root = make(
        tmp_path / "runs", {f"a/{FIRST}": record, f"b/{FILE}": tb_version(1.0) + tb_hparams("session_start", session)}
    )
    index_once(engine, root)
    with engine.connect() as conn:
        row = conn.execute(text("SELECT kind, number, json FROM lineage")).one()
        given_ = conn.execute(text("SELECT kind, value, number FROM hparams")).one()
    assert ("number", float("inf"), '"Infinity"') == tuple(row)
    assert ("number", "NaN", None) == tuple(given_)
    assert {"x": "NaN"} == given(engine, "./b")
