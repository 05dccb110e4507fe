"""`verify`: files read again by the pure decoder equal the tables, and whatever does not is named."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from indexer.config import Root
from indexer.db import bulk, consistency, rollups
from indexer.db.connection import Database
from indexer.db.engine import open_engine
from indexer.errors import Refuse, Wait
from indexer.findings import Difference, Place
from indexer.ingest import reread
from indexer.ingest import verify as comparing
from summarydb import verify
from tests.conftest import DATA, Backend, migrate_empty
from tests.support.engines import transaction
from tests.support.following import SMALL, Follower, index_once, make
from tests.support.records import (
    frame,
    hparams_start,
    png,
    tb_histogram,
    tb_hparams,
    tb_image,
    tb_scalar,
    tb_session_start,
    tb_strings,
    tb_version,
)
from tests.support.verifying import compare

FIRST, SECOND = "events.out.tfevents.1700000000.a", "events.out.tfevents.1700000100.b"


@pytest.mark.parametrize("data", ["mindspore", "tensorboard", "damaged"])
@pytest.mark.parametrize("kernel", [False, True])
def test_what_was_loaded_equals_its_files(engine: Engine, url: str, data: str, kernel: bool) -> None:
    """All sample runs, good and damaged, are in the tables as the pure decoder reads them."""
    outcome = index_once(engine, DATA / data, config=replace(SMALL, kernel=kernel, slice_bytes=16 * 2**20))
    facts, lines, _ = compare(url)
    assert [] == lines
    assert (outcome.jobs, outcome.points, []) == (facts["jobs"], facts["points"], facts["missing"])
    with engine.connect() as conn:
        files = "SELECT count(*), sum(cursor) FROM shards WHERE cursor > 0 OR record_count > 0 OR bad_records > 0"
        assert (facts["files"], facts["bytes"]) >= tuple(conn.execute(text(files)).one())
        assert facts["payloads"] == conn.execute(text("SELECT count(*) FROM blobs")).scalar()


def test_pieces_of_any_size_give_the_same(engine: Engine, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by comparing a few points and payloads at once; where the cuts are does not matter."""
    index_once(engine, DATA / "tensorboard")
    monkeypatch.setattr(reread, "_PIECE_BYTES", 64)
    monkeypatch.setattr(comparing, "_POINTS", 3)
    monkeypatch.setattr(comparing, "_PAYLOAD_BYTES", 10)
    facts, lines, _ = compare(url)
    assert [] == lines
    assert facts["points"] > 1_000


# Rows that are not those of the files ---------------------------------------------------------------------------------
@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run of two files, the second of which goes back: numbers, an image, a histogram, a text, a damage."""
    first = [tb_scalar("loss", step, step / 4, 1.7e9 + step) for step in range(10)]
    first += [tb_scalar("many", step, float(step % 100), 1.7e9 + step) for step in range(1_000)]
    first += [tb_scalar("odd", step, value, 1.7e9) for step, value in enumerate([float("nan"), float("inf"), 1.0])]
    first += [tb_image("sample", 1, png(2, 2), 1.7e9), tb_strings("note", 1, [b"hello"], 1.7e9)]
    first += [tb_histogram("weights", 1, [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], 1.7e9)]
    second = [tb_scalar("loss", step, step / 8, 1.8e9 + step) for step in range(5, 12)]
    return make(
        tmp_path / "runs",
        {
            f"a/{FIRST}": tb_version(1.7e9) + b"".join(first) + frame(b"no event"),
            f"a/{SECOND}": tb_version(1.8e9) + b"".join(second),
        },
    )


LOSS = "tag_id = (SELECT id FROM tags WHERE name = 'loss')"
LONG = "tag_id = (SELECT id FROM tags WHERE name = 'long')"
POINT = f"UPDATE tensor_points SET {{}} WHERE {LOSS} AND"
GONE = f"DELETE FROM tensor_points WHERE {LOSS}"
MORE = "INSERT INTO tensor_points SELECT id, {}, 1, 2 FROM tags WHERE name = 'loss'"
TAG = "UPDATE tags SET {} WHERE name = 'loss'"
BLOB = "tag_id, step, seq, {}, kind, encoding, content_type, length, digest, data"
STATISTICS = {
    "point_count": 17,
    "first_step": 0,
    "last_step": 11,
    "min_step": 0,
    "max_step": 11,
    "first_wall_time": 1.7e9,
    "last_wall_time": 1.8e9 + 11,
    "max_wall_time": 1.8e9 + 11,
    "last_value": 1.375,
    "min_value": 0.0,
    "max_value": 2.25,
}
CASES = {  # what is done to the tables: what is said of it
    POINT.format("value = 7") + " step = 3": "step 3, seq 0: value: the file has 0.75, the table 7.0",
    POINT.format("value = NULL") + " step = 3": "step 3, seq 0: value: the file has 0.75, the table nothing",
    POINT.format("wall_time = 7") + " step = 6 AND seq = 1": "wall_time: the file has 1800000006.0, the table 7.0",
    POINT.format("step = 18") + " step = 9": "step 9, seq 0: point: the file has value 2.25, the table nothing",
    POINT.format("seq = 5")
    + " step = 6 AND seq = 1": "step 6, seq 1: point: the file has value 0.75, the table nothing",
    GONE: "step 9, seq 0: point: the file has value 2.25, the table nothing",
    GONE + " AND step = 0": "step 0, seq 0: point: the file has value 0.0, the table nothing",
    GONE + " AND step = 3": "step 3, seq 0: point: the file has value 0.75, the table nothing",
    GONE + " AND step = 11": "step 11, seq 1: point: the file has value 1.375, the table nothing",
    MORE.format("100, 0"): "scalars/loss, step 100, seq 0: point: the file has nothing, the table value 2.0",
    MORE.format("3, 9"): "scalars/loss, step 3, seq 9: point: the file has nothing, the table value 2.0",
    TAG.format("name = 'lost'"): "scalars/loss: tag: the file has points of it, the table nothing",
    TAG.format("data_class = 'tensor'"): "data_class: the file has scalar, the table tensor",
    TAG.format("display_name = 'x'"): "display_name: the file has nothing, the table x",
    **{TAG.format(f"{c} = 77"): f"tags.{c}: the points has {v}, the table 77" for c, v in STATISTICS.items()},
    TAG.format("seq = 0"): "tags.seq: the points has 1, the table 0",
    TAG.format("segments = 7"): "tags.segments: tag_segments has 2, the table 7",
    "UPDATE tags SET nan_count = 0 WHERE name = 'odd'": "tags.nan_count: the points has 1, the table 0",
    "UPDATE tags SET pos_inf_count = 2 WHERE name = 'odd'": "tags.pos_inf_count: the points has 1, the table 2",
    "UPDATE tags SET max_length = 9 WHERE name = 'sample'": "max_length: the file has 3, the table 9",
    f"UPDATE tag_segments SET count = 4 WHERE {LOSS} AND ordinal = 0": "6 from step 4 on, the table nothing",
    f"DELETE FROM tag_segments WHERE {LOSS} AND ordinal = 1": "the file has 7 from step 5 on, the table nothing",
    "DELETE FROM restarts": "step 5, seq 1: restart: tag_segments has one: a file went back, the table nothing",
    "UPDATE restarts SET step = 4": "step 4, seq 1: restart: the points has nothing, the table new_file",
    "UPDATE jobs SET point_count = 1": "jobs.point_count: tags has",
    "UPDATE jobs SET start_time = 1": "runs:./a: start_time: the file has 1700000000.0, the table 1.0",
    "DELETE FROM blobs WHERE kind = 'image'": "payload 0: the file has image of",
    "UPDATE blobs SET data = {other} WHERE kind = 'text'": "text: data: the file has 5 bytes of digest",
    "UPDATE blobs SET digest = data WHERE kind = 'text'": "text: digest: the file has 0x",
    "UPDATE blobs SET facts = '[]' WHERE kind = 'histogram'": "histogram: facts: the file has",
    "UPDATE blobs SET width = 3 WHERE kind = 'image'": "image: width: the file has 2, the table 3",
    "UPDATE histogram_stats SET mean = 7": "histogram_stats: the file has nothing, the table buckets",
    "UPDATE blob_counts SET bytes = 1 WHERE kind = 'text'": "blob_counts.bytes of text: blobs has 5, the table 1",
    f"INSERT INTO blobs ({BLOB.format('ordinal')}) SELECT {BLOB.format(1)} FROM blobs WHERE kind = 'text'": (
        "payload 1: the file has nothing, the table text of 5 bytes"
    ),
    "DELETE FROM shard_errors": "damage at byte",
    "UPDATE shards SET record_count = 3 WHERE name LIKE '%.b'": "record_count: the file has 8, the table 3",
    "UPDATE shards SET bad_records = 9 WHERE name LIKE '%.a'": "bad_records: the file has 1, the table 9",
    "UPDATE shards SET bad_bytes = 9 WHERE name LIKE '%.a'": "bad_bytes: the file has 24, the table 9",
    "INSERT INTO tensor_points VALUES (999, 1, 0, 1, 1)": "tensor_points of tag 999, which is none",
}
BUCKET = f"{LONG} AND level = {{}} AND ordinal = {{}}"
INSERT = "INSERT INTO point_rollups (tag_id, level, ordinal, count, first_step, first_seq, last_step, last_seq)"
BUCKETS = {
    f"UPDATE point_rollups SET max_value = 5 WHERE {BUCKET.format(0, 3)}": "bucket 3 of level 0",
    f"UPDATE point_rollups SET min_step = 1 WHERE {BUCKET.format(1, 2)}": "bucket 2 of level 1",
    f"DELETE FROM point_rollups WHERE {BUCKET.format(2, 0)}": "of level 2: the points has 4, the table 3",
    f"{INSERT} SELECT id, 9, 0, 1, 1, 0, 1, 0 FROM tags": "of level 9: the points has 0, the table 1",
    "UPDATE tags SET rolled_count = 64": "tags.rolled_count: the points has 16960, the table 64",
    "UPDATE tags SET rolled_step = 64": "tags.rolled_step: the points has 16959, the table 64",
}


@pytest.mark.parametrize("statement", CASES)
def test_each_difference_is_named(engine: Engine, url: str, backend: Backend, root: Path, statement: str) -> None:
    """Whatever is changed in the tables: a line says where, what the file has, and what the table."""
    index_once(engine, root)
    assert [] == compare(url)[1]
    other = "'HELLO'" if backend == "postgresql" else "CAST('HELLO' AS BLOB)"
    changed(engine, statement.replace("{other}", other))
    facts, lines, _ = compare(url)
    assert any(CASES[statement] in line for line in lines), lines
    assert len(lines) == facts["differences"]


@pytest.mark.parametrize("statement", BUCKETS)
def test_each_bucket_is_compared(engine: Engine, url: str, tmp_path: Path, statement: str) -> None:
    """Rollups are what plain arithmetic makes of the points, on every level."""
    long = [tb_scalar("long", step, float(step % 100), 1.7e9 + step) for step in range(17_000)]
    index_once(engine, make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.7e9) + b"".join(long)}))
    assert [] == compare(url)[1]
    changed(engine, statement)
    assert any(BUCKETS[statement] in line for line in compare(url)[1])


def changed(engine: Engine, statement: str) -> None:
    """Change rows by hand."""
    with transaction(engine) as conn:
        assert conn.execute(text(statement)).rowcount > 0


DERIVED = {  # what is done to tables that follow from records: what is said of it
    "UPDATE lineage SET value = 'x' WHERE name = 'learning_rate'": "lineage: the file has nothing, the table job_id",
    "DELETE FROM lineage WHERE ordinal = 0": "lineage: the file has job_id",
    "UPDATE lineage_files SET state = '{}'": "lineage_files: the file has shard_id",
    "UPDATE hparams SET number = 9 WHERE ordinal = 0": "hparams: the file has job_id",
    "UPDATE hparam_runs SET status = 'failure'": "hparam_runs: the file has job_id",
    "DELETE FROM hparam_runs": "hparam_runs: the file has job_id",
    "UPDATE explain_records SET data = digest({key}) WHERE step = 0": "explain_records: the file has shard_id",
    "DELETE FROM explain_records": "explain_records: the file has shard_id",
    "UPDATE explain_files SET latest = (1 = 0)": "explain_files: the file has shard_id",
    "UPDATE explain_files SET sample_count = 77": "sample_count 77",
    "UPDATE explain_inferences SET probability = 2 WHERE ordinal = 0": "probability 2.0",
    "DELETE FROM explain_saliency WHERE label = 0": "explain_saliency: the file has shard_id",
    "UPDATE explain_labels SET name = 'x' WHERE label = 0": "explain_labels: the file has nothing, the table shard_id",
    "UPDATE explain_benchmarks SET score = 9 WHERE label = -1": "explain_benchmarks: the file has nothing",
}


@pytest.fixture
def saying(tmp_path: Path) -> Path:
    """Runs that say something of themselves: lineage, hyperparameters, explanations."""
    root = tmp_path / "runs"
    for path in ("mindspore/lineage-sgd-0.001", "mindspore/explain-saliency", "tensorboard/hparams"):
        shutil.copytree(DATA / path, root / path)
    return root


@pytest.mark.parametrize("statement", DERIVED)
def test_what_records_come_to_is_compared(
    engine: Engine, url: str, backend: Backend, saying: Path, statement: str
) -> None:
    """Lineage, hyperparameters and explanations are what their records say by the rules of today."""
    index_once(engine, saying)
    assert [] == compare(url)[1]
    other = "'HELLO'" if backend == "postgresql" else "CAST('HELLO' AS BLOB)"
    changed(engine, statement.replace("digest({key}) WHERE step = 0", other))
    lines = compare(url)[1]
    assert any(DERIVED[statement] in line for line in lines), lines


def test_an_old_manifest_is_no_difference(engine: Engine, url: str, saying: Path) -> None:
    """It is read when its explain file is; whoever writes it later is not told apart from that."""
    index_once(engine, saying)
    with transaction(engine) as conn:
        conn.execute(text("UPDATE explain_files SET manifest = NULL"))
    assert [] == compare(url)[1]


def test_sessions_of_several_files_are_not_guessed(engine: Engine, url: str, tmp_path: Path) -> None:
    """Which session came last is not in the files: what it said is left alone, all else is compared."""
    sessions = [
        tb_version(1.7e9) + tb_hparams("session_start_info", hparams_start({"lr": rate})) for rate in (0.5, 0.25)
    ]
    root = make(tmp_path / "runs", {f"a/{SECOND}": sessions[0]})
    follower = Follower(engine, root)
    follower.scan()
    make(root, {f"a/{FIRST}": sessions[1]})  # it comes later, and would be read first
    follower.scan()
    follower.leave()
    with engine.connect() as conn:
        assert 0.25 == conn.execute(text("SELECT number FROM hparams")).scalar_one()
    assert [] == compare(url)[1]


def test_a_file_of_which_nothing_is_read_has_no_points(engine: Engine, url: str, root: Path) -> None:
    """Its cursor is at its beginning, so nothing of it may be in the tables."""
    index_once(engine, root)
    changed(engine, "UPDATE shards SET cursor = 0, record_count = 0, bad_records = 0 WHERE name LIKE '%.b'")
    assert any(
        "points from this file, of which nothing is read: the file has 0, the table 7" in s for s in compare(url)[1]
    )


def test_a_cursor_that_is_not_at_a_record_is_named(engine: Engine, url: str, root: Path) -> None:
    """A cursor says which bytes are in the tables: it ends where a record does, and describes this file."""
    index_once(engine, root)
    with transaction(engine) as conn:
        conn.execute(text("UPDATE shards SET cursor = cursor - 5 WHERE name = :n"), {"n": SECOND})
    assert any(SECOND in line and "of another file" in line for line in compare(url)[1])


# Files that are not those that were loaded ----------------------------------------------------------------------------
def test_a_change_in_the_middle_of_a_file_is_seen(engine: Engine, url: str, root: Path) -> None:
    """The indexer looks at the ends of what it read; here all of it is read: one value and its checksum changed."""
    index_once(engine, root)
    path = root / "a" / FIRST
    old, new = tb_scalar("many", 500, 0.0, 1.7e9 + 500), tb_scalar("many", 500, 3.0, 1.7e9 + 500)
    content = path.read_bytes()
    assert 1 == content.count(old)
    status = path.stat()
    path.write_bytes(content.replace(old, new))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    _, lines, _ = compare(url)
    assert [f"runs:./a, {FIRST}, scalars/many, step 500, seq 0: value: the file has 3.0, the table 0.0"] == lines


@pytest.mark.parametrize("what", ["shorter", "other bytes"])
def test_another_file_is_named(engine: Engine, url: str, root: Path, what: str) -> None:
    """A file that was cut or replaced is not what the tables are of; its points are not compared one by one."""
    index_once(engine, root)
    path = root / "a" / SECOND
    content = path.read_bytes()
    path.write_bytes(content[:-20] if what == "shorter" else tb_version(5.0) + content)
    _, lines, _ = compare(url)
    has = f"{len(content) - 20} bytes" if what == "shorter" else "other bytes"
    table = f"{len(content)} bytes of another file"
    assert [f"runs:./a, {SECOND}: the file that was loaded: the file has {has}, the table {table}"] == lines


def test_files_that_are_gone_are_said(engine: Engine, url: str, root: Path) -> None:
    """Points stay when files vanish: that is no difference, and what the tables say of themselves is still compared."""
    index_once(engine, root)
    path = root / "a" / SECOND
    path.unlink()
    facts, lines, _ = compare(url)
    assert ([], [str(path)]) == (lines, facts["missing"])
    assert any("No such file" in note for note in facts["notes"])
    with transaction(engine) as conn:
        conn.execute(text("UPDATE tags SET max_value = 9 WHERE name = 'loss'"))
    assert 1 == compare(url)[0]["differences"]


def test_what_is_not_loaded_yet_is_said(engine: Engine, url: str, root: Path) -> None:
    """Files may grow, end in the middle of a record, and be new: only what is behind a cursor is compared."""
    torn = tb_scalar("loss", 50, 1.0, 1.0)[:-3]
    with (root / "a" / SECOND).open("ab") as file:
        file.write(torn)
    index_once(engine, root)
    facts, lines, _ = compare(url)
    assert ([], []) == (lines, facts["notes"])  # a torn tail is nothing to say
    with (root / "a" / FIRST).open("ab") as file:
        file.write(tb_scalar("loss", 50, 1.0, 1.0))
    make(root, {f"new/{FIRST}": tb_version(1.0)})
    facts, lines, _ = compare(url)
    assert [] == lines
    assert [
        "not in the database yet: ./new/" in facts["notes"][0],
        "bytes are not loaded yet" in facts["notes"][1],
    ] == [
        True,
        True,
    ]


def test_records_that_were_passed_over_are_named(engine: Engine, url: str, root: Path) -> None:
    """A cursor before good records of a file that is said to be read to its end is a difference."""
    index_once(engine, root)
    path = root / "a" / SECOND
    with path.open("ab") as file:
        file.write(tb_scalar("loss", 50, 1.0, 1.0))
    status = path.stat()
    with transaction(engine) as conn:
        query = text("UPDATE shards SET size = :size, mtime_ns = :mtime WHERE name = :name")
        conn.execute(query, {"size": status.st_size, "mtime": status.st_mtime_ns, "name": SECOND})
    assert any("records behind the cursor" in line for line in compare(url)[1])


# How it is asked ------------------------------------------------------------------------------------------------------
def test_only_as_many_as_wanted_are_told(engine: Engine, url: str, root: Path) -> None:
    """All are counted, the first of them told."""
    index_once(engine, root)
    with transaction(engine) as conn:
        conn.execute(text(f"UPDATE tensor_points SET value = value + 1 WHERE {LOSS}"))
    facts, lines, _ = compare(url, limit=5)
    assert 5 == len(lines)
    assert facts["differences"] > 17


def test_a_root_is_chosen_by_name_or_path(engine: Engine, url: str, root: Path, tmp_path: Path) -> None:
    """A named root may have moved since; one that was never indexed is refused with what to do."""
    other = make(tmp_path / "other", {f"b/{FIRST}": tb_version(1.0) + tb_scalar("x", 1, 1.0, 1.0)})
    index_once(engine, root, Root("mine", other, named=True))
    moved = other.rename(tmp_path / "moved")
    assert 1 == compare(url, root)[0]["jobs"]
    facts, lines, _ = compare(url, Root("mine", moved, named=True))
    assert (1, 1, []) == (facts["jobs"], facts["files"], lines)
    facts, _, _ = compare(url)
    assert (2, 1) == (facts["jobs"], len(facts["missing"]))
    with pytest.raises(Refuse, match="summarydb index"):
        compare(url, tmp_path)


def test_it_waits_for_the_key(postgres_url_without_key: str) -> None:
    """While a first load runs on PostgreSQL look-ups would read the whole table for each of them."""
    with pytest.raises(Wait, match="a first load runs"):
        compare(postgres_url_without_key)


@pytest.fixture
def postgres_url_without_key(request: pytest.FixtureRequest) -> Any:
    """A database as a load of many points leaves it for the time being."""
    server = request.getfixturevalue("postgres")
    url = server.create()
    migrate_empty(url)
    database = Database(url)
    assert bulk.suspend_index(database, 10**6)
    database.dispose()
    yield url
    server.drop(url)


def test_it_ends_when_asked(engine: Engine, url: str, root: Path) -> None:
    """What was compared so far says nothing of the rest."""
    index_once(engine, root)
    stop = Event()
    stop.set()
    with pytest.raises(Wait, match="only a part"):
        verify.run(replace(SMALL, url=url), limit=0, tell=print, show_progress=lambda *_: None, stop=stop)


def test_long_payloads_are_compared_where_they_are(engine: Engine, url: str, root: Path) -> None:
    """A payload that stayed in its file, or would now, has the same digest."""
    index_once(engine, root, config=replace(SMALL, max_blob_bytes=4))
    assert [] == compare(url, config=replace(SMALL, max_blob_bytes=4))[1]
    with transaction(engine) as conn:
        conn.execute(text("UPDATE blobs SET \"offset\" = 1 WHERE kind = 'text'"))
    assert any("text: offset" in line for line in compare(url, config=replace(SMALL, max_blob_bytes=4))[1])


def test_steps_at_the_ends_of_their_range(engine: Engine, url: str, tmp_path: Path) -> None:
    """The smallest and the largest step are looked up like any other, in order or not."""
    steps = [-(2**63), 2**63 - 1, -(2**63), 0, 0, 2**63 - 1]
    content = b"".join(tb_scalar("x", step, float(i), 1.0) for i, step in enumerate(steps))
    root = make(tmp_path / "runs", {f"a/{FIRST}": tb_version(1.0) + content})
    index_once(engine, root)
    assert [] == compare(url)[1]
    with transaction(engine) as conn:
        conn.execute(text("UPDATE tensor_points SET value = 9 WHERE seq = 1"))
    assert 3 <= len(compare(url)[1])


# Any history ----------------------------------------------------------------------------------------------------------
what = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 1), st.sampled_from(["x", "y"]), st.integers(1, 3)),
    st.tuples(st.just("add"), st.integers(0, 1), st.sampled_from(["x", "y"]), st.integers(-5, 3)),
    st.tuples(st.just("start"), st.integers(0, 1), st.just(""), st.integers(-4, 2)),
    st.tuples(st.just("look"), st.just(0), st.just(""), st.just(0)),
)


def written(program: Sequence[tuple[str, int, str, int]], root: Path, engine: Engine) -> None:
    """Let two writers append to two files while an indexer looks now and then."""
    follower = Follower(engine, root)
    at, count = {"x": 0, "y": 0}, 0
    for action, number, tag, by in program:
        if action == "look":
            follower.scan()
            continue
        if action == "add":
            at[tag] += by
            record = tb_scalar(tag, at[tag], count / 2, 1.7e9 + count)
            count += 1
        else:
            record = tb_session_start(max(at.values()) + by, 1.7e9)
        with (root / "a" / (FIRST, SECOND)[number]).open("ab") as file:
            file.write(record)
    follower.scan()
    follower.leave()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.lists(what, min_size=4, max_size=30), chosen=st.integers(0, 10**6), how=st.sampled_from("vdi"))
def test_any_history_is_verified_and_any_change_is_found(
    tmp_path_factory: pytest.TempPathFactory, program: list[tuple[str, int, str, int]], chosen: int, how: str
) -> None:
    """However two writers and the indexer took turns, there is no difference; one value, row less or more, is one."""
    directory = tmp_path_factory.mktemp("history")
    url = f"sqlite:///{directory / 'x.db'}"
    migrate_empty(url)
    engine = open_engine(url)
    root = make(directory / "runs", {f"a/{name}": tb_version(1.7e9) for name in (FIRST, SECOND)})
    small: dict[str, Any] = {"BUCKET": 4, "FAN": 2, "LONG": 9}  # so that short series have rollups
    with mock.patch.multiple(rollups, **small), mock.patch.multiple(consistency, **small):
        try_history(url, engine, root, program, chosen, how)
    engine.dispose()


def try_history(
    url: str, engine: Engine, root: Path, program: list[tuple[str, int, str, int]], chosen: int, how: str
) -> None:
    """Write and index a history, compare; change one point, compare again."""
    written(program, root, engine)
    assert [] == compare(url)[1]
    with engine.connect() as conn:
        rows = conn.execute(text("SELECT p.* FROM v_scalars p ORDER BY tag_id, step, seq")).all()
    if rows:
        with transaction(engine) as conn:
            point = rows[chosen % len(rows)]
            tag_id, step, seq = point.tag_id, point.step, point.seq
            key = {"t": tag_id, "s": step, "q": seq}
            where = "WHERE tag_id = :t AND step = :s AND seq = :q"
            if how == "v":
                conn.execute(text(f"UPDATE tensor_points SET value = value + 0.25 {where}"), key)
            elif how == "d":
                conn.execute(text(f"DELETE FROM tensor_points {where}"), key)
            else:
                conn.execute(text("INSERT INTO tensor_points VALUES (:t, :s, :q + 100, 1, 1)"), key)
        assert compare(url)[0]["differences"] > 0


def test_numbers_and_bytes_are_plain_in_json() -> None:
    """`--json` is strict: what is not finite is a string, bytes are hexadecimal."""
    difference = Difference(Place("r:./a", tag="x", step=1, seq=0), "value", float("inf"), struct.pack("<h", 1))
    shown = verify.as_json(difference)
    assert ("Infinity", "0100", "x", 1) == (shown["expected"], shown["found"], shown["tag"], shown["step"])
