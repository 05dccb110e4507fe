"""What calls answer while the database changes, is away, or is asked for what it does not have."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psycopg
import pytest
from sqlalchemy import Engine, text
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.data.proto import data_provider_pb2 as messages
from tensorboard.util import tensor_util

from indexer.db.reader import Reader
from indexer.errors import Wait
from tests.conftest import Backend, migrate_empty
from tests.dataprovider.conftest import loaded
from tests.support.engines import transaction
from tests.support.following import SMALL, index_once, make
from tests.support.postgres import PostgresServer, database_of
from tests.support.program import append
from tests.support.records import frame, png, tb_histogram, tb_image, tb_scalar, tb_strings, tb_version
from tests.support.viewer import EVERYTHING, KINDS, SECONDS, ask, blob, names, plugins, provider, request, status
from webapi.dataprovider import keys, payloads, server
from webapi.dataprovider.keys import BlobKey
from webapi.dataprovider.service import CHUNK_BYTES, Service

CODE = grpc.StatusCode
FILE = "events.out.tfevents.1000"


def scalars(tag: str, *steps: int, first: int = 0) -> list[bytes]:
    """Return records of a series whose values are their steps."""
    return [tb_scalar(tag, step, float(step), 10.0 + first + i) for i, step in enumerate(steps)]


def run_of(*records: bytes) -> bytes:
    """Return an event file."""
    return b"".join([tb_version(1.0), *records])


# Lists follow the database --------------------------------------------------------------------------------------------
def test_what_is_loaded_is_answered(engine: Engine, url: str, tmp_path: Path) -> None:
    """A point, a tag, a run that come are in the next answer; so is what another file replaces, and what goes."""
    root = make(tmp_path / "runs", {f"a/{FILE}": run_of(*scalars("t", 1, 2)), f"b/{FILE}": run_of(*scalars("t", 1))})
    index_once(engine, root)
    with provider(url) as stub:
        assert ["a", "b"] == names(stub)
        assert [1.0, 2.0] == list(ask(stub, "ReadScalars", points=9)["a", "t"].value)
        append(root / "a" / FILE, scalars("t", 3, first=2))
        append(root / "c" / FILE, [run_of(*scalars("u", 5))])
        index_once(engine, root)
        assert ["a", "b", "c"] == names(stub)
        assert [1.0, 2.0, 3.0] == list(ask(stub, "ReadScalars", points=9)["a", "t"].value)
        assert 3 == ask(stub, "ListScalars")["a", "t"].max_step
        assert {("c", "u")} == set(ask(stub, "ListScalars", runs=["c"]))
        (root / "a" / FILE).unlink()
        append(root / "a" / FILE, [run_of(*(tb_scalar("t", s, 7.0, 50.0) for s in (1, 2, 3)))])  # as many, but others
        index_once(engine, root)
        assert [7.0, 7.0, 7.0] == list(ask(stub, "ReadScalars", points=9)["a", "t"].value)
        with transaction(engine) as conn:
            conn.execute(text("DELETE FROM jobs WHERE train_id = './b'"))
            conn.execute(text("UPDATE index_state SET change_counter = change_counter + 1"))
        assert ["a", "c"] == names(stub)
        assert {("a", "t"), ("c", "u")} == set(ask(stub, "ReadScalars", points=1))


def test_several_roots_tell_runs_apart(engine: Engine, url: str, tmp_path: Path) -> None:
    """Runs of two roots have the root's name before them; the names come when the second root does."""
    one = make(tmp_path / "one", {FILE: run_of(*scalars("t", 1)), f"a/{FILE}": run_of(*scalars("t", 1))})
    index_once(engine, one)
    with provider(url) as stub:
        assert {".", "a"} == set(names(stub))
        two = make(tmp_path / "two", {f"a/{FILE}": run_of(*scalars("t", 2))})
        index_once(engine, one, two)
        assert {"one", "one/a", "two/a"} == set(names(stub))
        assert [2] == list(ask(stub, "ReadScalars", runs=["two/a"], points=5)["two/a", "t"].step)


def test_names_that_are_no_text_are_shown_escaped(engine: Engine, url: str, tmp_path: Path) -> None:
    """A directory whose name is no UTF-8 is a run all the same, and can be asked for by the name that is listed."""
    odd = Path(str(tmp_path / "runs" / "a") + "\udcff")
    odd.mkdir(parents=True)
    (odd / FILE).write_bytes(run_of(*scalars("nul\0␛", 1)))
    index_once(engine, tmp_path / "runs")
    with provider(url) as stub:
        (name,) = names(stub)
        assert {(name, "nul\0␛")} == set(ask(stub, "ReadScalars", runs=[name], tags=["nul\0␛"], points=1))


def test_the_longest_sequence_that_counts_is_listed(engine: Engine, url: str, tmp_path: Path) -> None:
    """A longer sequence that was superseded does not count for max_length, an earlier clock does not for the latest."""
    items = [b"2", b"3", *[png(2, 3)] * 4]
    records = [
        tb_strings("i", 5, items, 100.0, plugin="images"),
        tb_strings("i", 2, items[:3], 50.0, plugin="images"),
        tb_scalar("s", 5, 1.0, 100.0),
        tb_scalar("s", 2, 1.0, 50.0),
    ]
    with loaded(url, make(tmp_path / "runs", {FILE: run_of(*records)})) as stub:
        listed = ask(stub, "ListBlobSequences", "images")[".", "i"]
        assert (2, 50.0, 3) == (listed.max_step, listed.max_wall_time, listed.max_length)
        assert 50.0 == ask(stub, "ListScalars")[".", "s"].max_wall_time


# Wrong requests -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_request_lacks_is_an_invalid_argument(stub: Any, kind: str) -> None:
    """No plugin, no sampling, a negative number of points: the status says who is wrong."""
    nothing, unsampled = (getattr(messages, f"{call}{kind}Request")() for call in ("List", "Read"))
    unsampled.plugin_filter.plugin_name = "scalars"
    negative = request(f"Read{kind}", points=-1)
    for call, message in ((f"List{kind}", nothing), (f"Read{kind}", unsampled), (f"Read{kind}", negative)):
        assert CODE.INVALID_ARGUMENT == status(stub, call, message)


def test_huge_filters_are_answered(stub: Any) -> None:
    """A hundred thousand names of runs and tags, nearly all unknown, choose those that are there."""
    many = [f"no such name {i}" for i in range(100_000)]
    found = ask(stub, "ReadScalars", runs=[*many, "long"], tags=[*many, "loss"], points=2)
    assert all(run == "long" for run, _ in found)
    assert ask(stub, "ListScalars", runs=["long"]).keys() >= found.keys()


def test_bytes_that_are_no_message_are_an_invalid_argument(stub: Any, tensorboard_url: str) -> None:
    """A client that sends anything gets a status, and the server goes on."""
    del stub
    service = Service(Reader(tensorboard_url), location="", seconds=SECONDS)
    running = server.create(lambda: service, threads=2)
    port = server.bind(running, "127.0.0.1", 0)
    running.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for call in ("ListScalars", "ReadTensors", "ReadBlob"):
                path = f"/{server.SERVICE}/{call}"
                for content in (b"\xff", b"\x12\xff\xff", b"\x1a\x02\x0a\x05", b"\x00" * 1000):
                    asked = channel.unary_stream(path)(content, timeout=SECONDS)
                    with pytest.raises(grpc.RpcError) as caught:
                        list(asked)
                    assert CODE.INVALID_ARGUMENT == caught.value.code()
    finally:
        running.stop(0).wait()


def test_keys_name_blobs_and_nothing_else(stub: Any) -> None:
    """Only what is a current blob of this database can be read; a key that names anything else finds nothing."""
    data = ask(stub, "ReadBlobSequences", "images", points=1)
    (run, tag), sequence = next(iter(data.items()))
    good = keys.decode(sequence.values[0].blob_refs[0].blob_key)
    assert (run, tag, sequence.step[0], 0) == good[1:]
    length = len(sequence.values[0].blob_refs)
    scalar = next(iter(ask(stub, "ListScalars")))
    unknown = [
        good._replace(run="no such run"),
        good._replace(run="../../etc"),
        good._replace(tag="/etc/passwd"),
        good._replace(step=-1),
        good._replace(step=2**63 - 1),
        good._replace(number=length),
        good._replace(number=2**63 - 1),
        good._replace(run="\ud800'; DROP TABLE blobs; --"),
        BlobKey("", *scalar, ask(stub, "ListScalars")[scalar].max_step, 0),
    ]
    for key in unknown:
        assert CODE.NOT_FOUND == status(stub, "ReadBlob", messages.ReadBlobRequest(blob_key=keys.encode(key))), key
    for wrong in ("", "no key", "W10", keys.encode(good) + "A"):
        assert CODE.INVALID_ARGUMENT == status(stub, "ReadBlob", messages.ReadBlobRequest(blob_key=wrong)), wrong
    assert blob(stub, keys.encode(good._replace(experiment="whatever")))


# Large blobs ----------------------------------------------------------------------------------------------------------
def test_a_large_blob_comes_in_parts(url: str, tmp_path: Path) -> None:
    """A blob of more than one message comes whole, no part above 8 MiB; an empty one is an empty stream."""
    large = bytes(range(256)) * (CHUNK_BYTES // 256 * 2 + 3)
    records = [tb_image("large", 1, large, 1.0), tb_image("empty", 1, b"", 1.0)]
    with loaded(url, make(tmp_path / "runs", {FILE: run_of(*records)})) as stub:
        read = ask(stub, "ReadBlobSequences", "images", points=1)
        key = read[".", "large"].values[0].blob_refs[2].blob_key
        parts = [part.data for part in stub.ReadBlob(messages.ReadBlobRequest(blob_key=key), timeout=SECONDS)]
        assert large == b"".join(parts)
        assert 3 == len(parts)
        assert CHUNK_BYTES == max(map(len, parts))
        empty = read[".", "empty"].values[0].blob_refs[2].blob_key
        assert [] == list(stub.ReadBlob(messages.ReadBlobRequest(blob_key=empty), timeout=SECONDS))


def test_what_is_referred_to_is_read_from_its_file(engine: Engine, url: str, tmp_path: Path) -> None:
    """A payload too long for the database is read where it lies, as long as it is still there unchanged."""
    content = b"".join(b"%8d" % i for i in range(2000))
    records = [tb_image("i", 1, content, 1.0), tb_histogram("h", 1, [float(i) for i in range(600)], [1.0] * 600, 1.0)]
    root = make(tmp_path / "runs", {FILE: run_of(*records)})
    index_once(engine, root, config=replace(SMALL, max_blob_bytes=8000))
    with provider(url) as stub:
        key = ask(stub, "ReadBlobSequences", "images", points=1)[".", "i"].values[0].blob_refs[2].blob_key
        assert content == blob(stub, key)
        (root / FILE).write_bytes((root / FILE).read_bytes().replace(b"1999", b"2999"))
        assert CODE.NOT_FOUND == status(stub, "ReadBlob", messages.ReadBlobRequest(blob_key=key))
        (root / FILE).unlink()
        assert CODE.NOT_FOUND == status(stub, "ReadBlob", messages.ReadBlobRequest(blob_key=key))


def test_a_long_tensor_is_read_from_its_file(engine: Engine, url: str, tmp_path: Path) -> None:
    """Elements that lie in the file as they are wanted are read there; what would have to be converted is left out."""
    large = np.arange(5000, dtype="<f4")
    converted = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT16, int_val=[1] * 5000)
    converted.tensor_shape.dim.add(size=5000)
    metadata = summary_pb2.SummaryMetadata(data_class=2)
    metadata.plugin_data.plugin_name = "mine"
    made = [tensor_util.make_tensor_proto(large), converted]
    made[0].tensor_content = large.tobytes()
    del made[0].float_val[:]
    values = [
        summary_pb2.Summary.Value(tag=tag, tensor=one, metadata=metadata) for tag, one in zip("ab", made, strict=True)
    ]
    event = event_pb2.Event(wall_time=1.0, step=1, summary=summary_pb2.Summary(value=values))
    root = make(tmp_path / "runs", {FILE: run_of(frame(event.SerializeToString()))})
    index_once(engine, root, config=replace(SMALL, max_blob_bytes=4000))
    with provider(url) as stub:
        assert {(".", "a")} == set(ask(stub, "ListTensors", "mine"))
        read = ask(stub, "ReadTensors", "mine", points=5)
        assert large.tolist() == tensor_util.make_ndarray(read[".", "a"].value[0]).tolist()
        assert [] == list(read[".", "b"].step)
        (root / FILE).unlink()
        (gone,) = ask(stub, "ReadTensors", "mine", points=5)[".", "a"].value
        assert (0,) == tensor_util.make_ndarray(gone).shape


def test_more_than_the_client_takes_is_refused(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that no client would take are not read: the status says to ask for fewer points."""
    monkeypatch.setattr(payloads, "MAX_ANSWER_BYTES", 100)
    assert CODE.RESOURCE_EXHAUSTED == status(stub, "ReadTensors", request("ReadTensors", "histograms", points=9))


# The database is away -------------------------------------------------------------------------------------------------
def every_status(stub: Any) -> set[grpc.StatusCode]:
    """Return the statuses of calls that need the database."""
    calls = [("ListRuns", messages.ListRunsRequest()), ("ListPlugins", messages.ListPluginsRequest())]
    for kind in KINDS:
        calls += [(f"List{kind}", request(f"List{kind}")), (f"Read{kind}", request(f"Read{kind}", points=5))]
    key = keys.encode(BlobKey("", "r", "t", 1, 0))
    calls.append(("ReadBlob", messages.ReadBlobRequest(blob_key=key)))
    return {status(stub, call, message) for call, message in calls}


def test_a_file_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """Without a database every call but GetExperiment is UNAVAILABLE; once it comes, they answer."""
    url = f"sqlite:///{tmp_path / 'late.db'}"
    with provider(url) as stub:
        assert {CODE.UNAVAILABLE} == every_status(stub)
        assert "here" == stub.GetExperiment(messages.GetExperimentRequest(experiment_id="x")).data_location
        (tmp_path / "late.db").touch()
        assert {CODE.UNAVAILABLE} == every_status(stub)
        migrate_empty(url)
        assert [] == names(stub)
        for path in tmp_path.glob("late.db*"):
            path.unlink()
        assert {CODE.UNAVAILABLE} == every_status(stub)


def test_while_it_is_made_it_may_be_empty(tmp_path: Path) -> None:
    """The drop-in answers before its indexer made the database: there are no runs yet."""
    with provider(f"sqlite:///{tmp_path / 'late.db'}", empty=True) as stub:
        assert ([], set(), {}) == (names(stub), plugins(stub), ask(stub, "ReadScalars", points=5))
        (tmp_path / "late.db").touch()
        assert [] == names(stub)
        migrate_empty(f"sqlite:///{tmp_path / 'late.db'}")
        assert [] == names(stub)
        for path in tmp_path.glob("late.db*"):
            path.unlink()
        assert {CODE.UNAVAILABLE} == every_status(stub), "what was there and is gone is not empty"


def test_another_schema_is_unavailable(engine: Engine, url: str) -> None:
    """While the database is migrated, or where it is of another version, calls say so."""
    with provider(url) as stub:
        assert [] == names(stub)
        with transaction(engine) as conn:
            conn.execute(text("UPDATE summarydb_version SET version_num = '0000'"))
        assert {CODE.UNAVAILABLE} == every_status(stub)


def test_a_database_that_is_replaced_is_read_anew(tmp_path: Path, sqlite_template: Path) -> None:
    """Another file of the same name is another database: nothing of the first one is answered any more."""
    from indexer.db.engine import open_engine

    path = tmp_path / "swap.db"
    with provider(f"sqlite:///{path}") as stub:
        for value in (1, 2):
            fresh = tmp_path / f"{value}.db"
            fresh.write_bytes(sqlite_template.read_bytes())
            with sqlite3.connect(fresh) as conn:
                conn.execute("UPDATE index_state SET database_id = ?", (f"database {value}",))
            conn.close()
            engine = open_engine(f"sqlite:///{fresh}")
            index_once(engine, make(tmp_path / f"runs{value}", {FILE: run_of(*scalars("t", value))}))
            with engine.connect() as raw:
                raw.exec_driver_sql("ROLLBACK")
                raw.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            engine.dispose()
            fresh.replace(path)
            assert [value] == list(ask(stub, "ReadScalars", points=5)[".", "t"].step)


def test_a_server_that_is_gone_is_unavailable(postgres: PostgresServer, postgres_template: str) -> None:
    """PostgreSQL that cannot be reached is UNAVAILABLE, a connection that broke while idle is made again."""
    url = postgres.create(template=postgres_template)
    with provider(url) as stub:
        assert [] == names(stub)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database_of(url),)
            )
        assert [] == names(stub)
        postgres.drop(url)
        assert {CODE.UNAVAILABLE} == every_status(stub)


def test_a_call_ends_at_its_deadline(engine: Engine, url: str, tmp_path: Path, backend: Backend) -> None:
    """A call that takes too long ends with DEADLINE_EXCEEDED, and the next one is answered."""
    root = make(tmp_path / "runs", {FILE: run_of(*scalars("t", *range(5000)))})
    index_once(engine, root)
    slow = request("ReadScalars", points=EVERYTHING)
    with provider(url, seconds=0.2 if backend == "postgresql" else 1e-6) as stub:
        if backend == "postgresql":
            with engine.begin() as conn:
                conn.execute(text("LOCK TABLE tensor_points IN ACCESS EXCLUSIVE MODE"))
                assert CODE.DEADLINE_EXCEEDED == status(stub, "ReadScalars", slow)
            assert CODE.OK == status(stub, "ReadScalars", slow)
        else:  # nobody waits there: the time is up before the first look at it
            assert CODE.DEADLINE_EXCEEDED == status(stub, "ReadScalars", slow)
            assert CODE.OK == status(stub, "ListRuns", messages.ListRunsRequest())


def test_nothing_can_be_written(url: str) -> None:
    """A statement that would change anything is refused by the connection itself."""
    reader = Reader(url)
    for statement in ("UPDATE index_state SET change_counter = 0", "DELETE FROM tags", "CREATE TABLE x (id INTEGER)"):
        with pytest.raises(Exception, match=r"(?i)read.?only"), reader.snapshot(5) as conn:
            conn.execute(statement)
    reader.close()


def test_a_reader_says_that_there_is_no_database(tmp_path: Path) -> None:
    """Whoever asks for a database that is not there is told where it should be; none is made."""
    reader = Reader(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(Wait, match=r"none\.db"), reader.snapshot(1):
        pass
    assert [] == list(tmp_path.iterdir())


@pytest.fixture
def many(engine: Engine, url: str, tmp_path: Path) -> Iterator[Any]:
    """A client over more runs than one statement looks up."""
    for i in range(30):
        make(tmp_path / "runs", {f"r{i:02}/{FILE}": run_of(*scalars("t", i), *scalars("u", i))})
    index_once(engine, tmp_path / "runs")
    with provider(url) as stub:
        yield stub


def test_series_that_were_forgotten_are_looked_up_again(many: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: where there are too many series some are forgotten, and every answer stays what it is."""
    from webapi.dataprovider import catalogue

    expected = ask(many, "ListScalars")
    monkeypatch.setattr(catalogue, "MAX_SERIES", 7)
    for i in range(30):
        assert {(f"r{i:02}", "t"), (f"r{i:02}", "u")} == set(ask(many, "ListScalars", runs=[f"r{i:02}"]))
    assert expected == ask(many, "ListScalars")
    assert 60 == len(ask(many, "ReadScalars", points=1))
