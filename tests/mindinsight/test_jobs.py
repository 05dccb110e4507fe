"""Train jobs: which there are, in which order, what is known of each, and asking for one to be loaded."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, text, update

from indexer.db.said import Annotation
from indexer.db.schema import INDEX_STATE, JOB, ROOT, SHARD, TAG
from summarydb import annotate
from tests.api.conftest import changed, job_row, tag_row
from tests.mindinsight.conftest import Client, index
from tests.support.engines import transaction
from tests.support.following import Follower, make
from tests.support.records import ms_scalars, ms_train, ms_version
from tests.support.statements import statements

FILE = "events.out.events.summary.{}.0.x_MS"
RUN = ms_version(1.0) + ms_scalars(1, {"loss": 1.0}, 1.0)


def listed(client: Client, **query: Any) -> dict[str, dict[str, Any]]:
    """Return listed jobs by id, in their order."""
    return {job["train_id"]: job for job in client.get("/datavisual/train-jobs", limit=999, **query)["train_jobs"]}


def set_time(path: Path, seconds: float) -> None:
    """Set when a file or directory was modified."""
    os.utime(path, (seconds, seconds))


# The list -------------------------------------------------------------------------------------------------------------
def test_jobs_lie_at_most_one_level_deep(client: Client, url: str, tmp_path: Path) -> None:
    """Deeper ones are in REST v1 only, and neither are those of another root shown."""
    first = make(tmp_path / "one", {FILE.format(1): RUN, f"a/{FILE.format(1)}": RUN, f"a/b/{FILE.format(1)}": RUN})
    second = make(tmp_path / "two", {f"c/{FILE.format(1)}": RUN})
    index(url, first, second)
    assert {"./", "./a"} == set(listed(client))
    answer = client.get("/datavisual/train-jobs")
    assert ("one", 2, "loaded") == (answer["name"], answer["total"], answer["load_status"])
    for train_id in ("./a/b", "./c", "a"):
        assert "50545005" == client.error("/datavisual/plugins", train_id=train_id)
        assert {} == listed(client, train_id=train_id)


def test_a_job_is_dated_by_the_file_created_last(client: Client, url: str, tmp_path: Path) -> None:
    """Not by the one modified last; of equal ones that modified first counts; ties go by id."""
    files = {
        f"a/{FILE.format(100)}": RUN,
        f"a/{FILE.format(200)}": RUN,
        f"b/{FILE.format(300)}": RUN,
        "b/events.out.events.summary.300.0.x_lineage": ms_train(0.1),
        f"c/{FILE.format(1)}": RUN,
        "c/events.out.events.summary.900.0.x_explain": b"",
        f"B/{FILE.format(1)}": RUN,
    }
    root = make(tmp_path / "runs", files)
    times = dict(zip(files, (5000.0, 4000.5, 4000.25, 6000.0, 4000.25, 7000.0, 4000.25), strict=True))
    for name, at in times.items():
        set_time(root / name, at)
    index(url, root)
    found = listed(client)
    assert ["./a", "./B", "./b", "./c"] == list(found)
    assert ["1970-01-01 00:03:20", "1970-01-01 01:06:40"] == [found["./a"][n] for n in ("create_time", "update_time")]
    assert ("1970-01-01 00:05:00", 1, 1) == tuple(
        found["./b"][name] for name in ("create_time", "summary_files", "lineage_files")
    )
    assert "1970-01-01 00:00:01" == found["./c"]["create_time"]
    third = client.get("/datavisual/train-jobs", limit=1, offset=2)["train_jobs"]
    assert ["./b"] == [job["train_id"] for job in third]


def test_times_are_those_of_the_servers_zone(
    client: Client, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text without a zone, in the server's local time."""
    index(url, make(tmp_path / "runs", {f"a/{FILE.format(1_600_000_000)}": RUN}))
    assert "2020-09-13 12:26:40" == listed(client)["./a"]["create_time"]
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    assert "2020-09-13 20:26:40" == listed(client)["./a"]["create_time"]


def test_an_update_time_follows_the_file(engine: Engine, client: Client, tmp_path: Path) -> None:
    """A job that grows moves to the front when that is loaded."""
    root = make(tmp_path / "runs", {f"a/{FILE.format(1)}": RUN, f"b/{FILE.format(1)}": RUN})
    set_time(root / "a" / FILE.format(1), 1000.0)
    set_time(root / "b" / FILE.format(1), 2000.0)
    follower = Follower(engine, root)
    follower.scan()
    assert ["./b", "./a"] == list(listed(client))
    with (root / "a" / FILE.format(1)).open("ab") as file:
        file.write(ms_scalars(2, {"loss": 1.0}, 2.0))
    set_time(root / "a" / FILE.format(1), 3000.0)
    follower.scan()
    assert ["./a", "./b"] == list(listed(client))


def test_a_torn_file_is_no_integrity(client: Client, url: str, tmp_path: Path) -> None:
    """Whichever file ends inside a record, or in damage."""
    files = {"good": RUN, "torn": RUN[:-3], "damaged": RUN + b"\xff" * 40}
    root = make(tmp_path / "runs", {f"{name}/{FILE.format(1)}": data for name, data in files.items()})
    index(url, root)
    assert {"./good": True, "./torn": False, "./damaged": False} == {
        train_id: job["is_integrity"] for train_id, job in listed(client).items()
    }


def test_pages_of_thousands_of_jobs_take_few_statements(engine: Engine, client: Client) -> None:
    """A page costs the same number of statements whatever there is, and is the right part of the whole."""
    count = 5_000
    with transaction(engine) as conn:
        conn.execute(insert(ROOT), {"id": 1, "name": "runs", "path": "/runs"})
        ids = range(1, count + 1)
        conn.execute(
            insert(JOB),
            [
                job_row(n, 1, f"./j{n:05}", cache_status="CACHED", listed_update_time=float(n), listed_create_time=1.0)
                for n in ids
            ],
        )
        shard = {"name": "f", "kind": "summary", "format": "mindspore"}
        conn.execute(insert(SHARD), [{**shard, "id": n, "job_id": n} for n in ids])
        conn.execute(insert(TAG), [tag_row(n, n, "scalar", "loss", point_count=1) for n in ids])
        conn.execute(update(INDEX_STATE).values(scanned_at=1.0))
    changed(engine)
    with statements(client.reader) as sent:
        found = client.get("/datavisual/train-jobs", limit=7, offset=300)
    assert (count, 7) == (found["total"], len(found["train_jobs"]))
    assert [f"./j{count - 2100 - n:05}" for n in range(7)] == [job["train_id"] for job in found["train_jobs"]]
    assert ["loss/scalar"] == found["train_jobs"][0]["plugins"]["scalar"]
    few = len(sent)
    with statements(client.reader) as sent:
        assert 999 == len(client.get("/datavisual/train-jobs", limit=999)["train_jobs"])
    assert few == len(sent)
    assert few <= 8


# Profilers and dumps --------------------------------------------------------------------------------------------------
TREE = {
    "both/profiler/profiler_info_0.json": b"{}",
    "both/profiler/ascend_timeline_display_0.json": b"",
    "both/profiler/dynamic_shape_info_0.json": b"",
    f"both/{FILE.format(5)}": RUN,
    "alone/profiler_2/profiler_info_0.json": b"{}",
    "alone/profiler_2/gpu_op_type_info_0.csv": b"",
    "untyped/profiler/profiler_info_0.json": b"{}",
    "empty/profiler/other.json": b"{}",
    "dumped/ms_dump/rank_0/.dump_metadata/x": b"",
    "dumped/ms_dump/rank_0/big.npy": b"",
    "dump/rank_3/.dump_metadata": b"",
    "plain/rank_3/other": b"",
    "deep/er/profiler/profiler_info_0.json": b"{}",
    "deep/er/d/rank_0/.dump_metadata": b"",
}


def test_profilers_and_dumps_are_jobs_too(client: Client, url: str, tmp_path: Path) -> None:
    """At most one level below the root; a dump directly below it is the root's own job's."""
    index(url, make(tmp_path / "runs", TREE))
    found = listed(client)
    assert {"./both", "./alone", "./untyped", "./dumped", "./"} == set(found)
    names = ("profiler_dir", "profiler_type", "graph_mode", "dump_dir", "cache_status", "summary_files")
    assert {
        "./both": ("./profiler", "ascend", "dynamic", None, "CACHED", 1),
        "./alone": ("./profiler_2", "gpu", "static", None, "NOT_IN_CACHE", 0),
        "./untyped": ("./profiler", "", None, None, "NOT_IN_CACHE", 0),
        "./dumped": (None, "", None, "./dumped/ms_dump", "NOT_IN_CACHE", 0),
        "./": (None, "", None, "./dump", "NOT_IN_CACHE", 0),
    } == {train_id: tuple(job.get(name) for name in names) for train_id, job in found.items()}
    assert {"./both", "./alone"} == {train_id for train_id, job in found.items() if "graph_mode" in job}
    assert "50545005" == client.error("/datavisual/single-job", train_id="./alone", plugin_name="scalar")
    assert not any(client.get("/datavisual/plugins", train_id="./alone")["plugins"].values())


@pytest.mark.parametrize(("profiled", "shown"), [(1000, 1000), (3000, 2000)])
def test_a_profiler_dates_a_job_where_it_was_there_first(
    client: Client, url: str, tmp_path: Path, profiled: int, shown: int
) -> None:
    """Its inode change time is then newer than the number in any file's name; else files alone count."""
    root = make(tmp_path / "runs", {"a/profiler/profiler_info_0.json": b"{}", f"a/{FILE.format(5)}": RUN})
    set_time(root / "a" / FILE.format(5), 2000)
    set_time(root / "a/profiler", profiled)
    index(url, root)
    assert f"1970-01-01 00:{shown // 60:02}:{shown % 60:02}" == listed(client)["./a"]["update_time"]


def test_what_other_tools_leave_comes_and_goes(engine: Engine, client: Client, tmp_path: Path) -> None:
    """A scan finds it, keeps it, notes where it is gone, and is a job like others when files come."""
    root = make(tmp_path / "runs", {"a/profiler/profiler_info_0.json": b"{}", f"b/{FILE.format(1)}": RUN})
    follower = Follower(engine, root)
    follower.scan()
    assert {"./a", "./b"} == set(listed(client))
    before = states(engine)
    follower.scan()
    assert before == states(engine)
    (root / "a/profiler/profiler_info_0.json").unlink()
    follower.scan()
    assert states(engine)["./a"][1]
    make(tmp_path / "runs", {"a/profiler/profiler_info_0.json": b"{}", "b/profiler/profiler_info_0.json": b"{}"})
    follower.scan()
    assert not states(engine)["./a"][1]
    assert "./profiler" == listed(client)["./b"]["profiler_dir"]
    make(tmp_path / "runs", {f"a/{FILE.format(7)}": RUN})
    follower.scan()
    assert ("CACHED", 1, "./profiler") == tuple(
        listed(client)["./a"][name] for name in ("cache_status", "summary_files", "profiler_dir")
    )


def test_a_hint_does_not_forget_what_a_scan_found(engine: Engine, client: Client, tmp_path: Path) -> None:
    """Looking at one directory does not look into those of other tools; what is known of them stays."""
    root = make(tmp_path / "runs", {"a/profiler/profiler_info_0.json": b"{}", f"b/{FILE.format(1)}": RUN})
    make(root, {"b/profiler/profiler_info_0.json": b"{}"})
    follower = Follower(engine, root)
    follower.scan()
    make(root, {f"b/{FILE.format(2)}": RUN})
    for job in ("a", "b"):
        follower.indexer._look(root / job, tree=False)
    assert not any(missing for _, missing in states(engine).values())
    found = listed(client)
    assert ["./profiler", "./profiler"] == [found[job]["profiler_dir"] for job in ("./a", "./b")]
    assert 2 == found["./b"]["summary_files"]


def states(engine: Engine) -> dict[str, tuple[int, bool]]:
    """Return revision of each job, and whether it is missing."""
    with engine.connect() as conn:
        rows = conn.execute(select(JOB.c.train_id, JOB.c.revision, JOB.c.missing_since))
        return {row.train_id: (row.revision, row.missing_since is not None) for row in rows}


def test_an_upgraded_database_is_dated_by_the_next_scan(engine: Engine, client: Client, tmp_path: Path) -> None:
    """What a migration could not know, a scan fills in without reading a file."""
    root = make(tmp_path / "runs", {f"a/{FILE.format(100)}": RUN, f"a/{FILE.format(200)}": RUN})
    set_time(root / "a" / FILE.format(100), 9000.0)
    set_time(root / "a" / FILE.format(200), 5000.0)
    Follower(engine, root).scan()
    with transaction(engine) as conn:
        conn.execute(update(JOB).values(listed_create_time=None, listed_update_time=9000.0))
    follower = Follower(engine, root)
    follower.scan()
    assert "1970-01-01 01:23:20" == listed(client)["./a"]["update_time"]
    assert 0 == follower.files.read_bytes


# Loading --------------------------------------------------------------------------------------------------------------
def test_a_job_that_is_not_loaded_shows_nothing(engine: Engine, client: Client, url: str, tmp_path: Path) -> None:
    """Its lists are empty, its data are unknown, and asking for it hands the wish to the indexer."""
    index(url, make(tmp_path / "runs", {f"a/{FILE.format(1)}": RUN, f"b/{FILE.format(1)}": RUN}))
    with transaction(engine) as conn:
        conn.execute(text("UPDATE jobs SET cache_status = 'NOT_IN_CACHE' WHERE train_id = './a'"))
        ids = {row.train_id: row.id for row in conn.execute(text("SELECT train_id, id FROM jobs"))}
    assert not any(client.get("/datavisual/plugins", train_id="./a")["plugins"].values())
    found = listed(client)["./a"]
    assert ("NOT_IN_CACHE", True) == (found["cache_status"], found["is_integrity"])
    assert "50545005" == client.error("/datavisual/single-job", train_id="./a", plugin_name="scalar")
    assert "50545005" == client.error("/datavisual/scalar/metadata", train_id="./a", tag="loss/scalar")
    assert {"scalars": []} == client.get("/datavisual/scalars", train_id="./a", tag="loss/scalar")
    assert [] == client.asked
    client.get("/datavisual/plugins", train_id="./a", manual_update="TRUE")
    assert [{"ask": "load", "jobs": [ids["./a"]]}, {"ask": "access", "jobs": [ids["./a"]]}] == client.asked
    client.asked.clear()
    wanted = ["./b", "./none", "./a", "./b"]
    answer = client.post("/datavisual/train-job-caches", {"train_ids": wanted})
    status = {"./a": "NOT_IN_CACHE", "./b": "CACHED"}
    assert [(i, status[i]) for i in wanted if i in status] == [
        (one["train_id"], one["cache_status"]) for one in answer["cache_result"]
    ]
    assert {"ask": "load", "jobs": [ids["./a"]]} == client.asked[0]
    assert ("access", {ids["./a"], ids["./b"]}) == (client.asked[1]["ask"], set(client.asked[1]["jobs"]))  # type: ignore[call-overload]


def test_without_an_indexer_nobody_is_asked(url: str, tmp_path: Path, client: Client) -> None:
    """Under plain `serve` the answer is how far jobs are."""
    index(url, make(tmp_path / "runs", {f"a/{FILE.format(1)}": RUN}))
    alone = Client.over(url, client.reader, asks=False)
    answer = alone.post("/datavisual/train-job-caches", {"train_ids": ["./a"]})
    assert [{"train_id": "./a", "cache_status": "CACHED"}] == answer["cache_result"]


# Annotations ----------------------------------------------------------------------------------------------------------
LINEAGE_FILE = "events.out.events.summary.1.0.x_lineage"


def test_annotations_are_shown_with_the_lineage(engine: Engine, client: Client, url: str, tmp_path: Path) -> None:
    """Tag and remark add up, are sorted by, and go again; a commit says that the job changed."""
    index(url, make(tmp_path / "runs", {f"{job}/{LINEAGE_FILE}": ms_train(0.1) for job in "abc"}))

    def shown(**condition: Any) -> dict[str, Any]:
        found = client.post("/lineagemgr/lineages", condition)["object"]
        return {item["summary_dir"]: item["added_info"] for item in found}

    before = states(engine)
    assert {"./a": {}, "./b": {}, "./c": {}} == dict(sorted(shown().items()))
    assert 3 == annotate.run(url, "./b", Annotation(tag=3), clear=False)["tag"]
    said = annotate.run(url, "./b", Annotation(remark="ünï\0"), clear=False)
    assert (3, "ünï\0", None) == (said["tag"], said["remark"], said["alias"])
    annotate.run(url, "./c", Annotation(tag=0), clear=False)
    assert {"tag": 3, "remark": "ünï\0"} == shown()["./b"]
    assert ["./b", "./c", "./a"] == list(shown(sorted_name="tag", sorted_type="descending"))
    assert ["./a", "./c", "./b"] == list(shown(sorted_name="tag"))
    after = states(engine)
    assert {"./b", "./c"} == {job for job, state in after.items() if state != before[job]}
    annotate.run(url, "./b", Annotation(), clear=False)
    assert after == states(engine)
    annotate.run(url, "./b", Annotation(), clear=True)
    assert {} == shown()["./b"]


def test_annotations_are_written_beside_an_indexer(engine: Engine, client: Client, url: str, tmp_path: Path) -> None:
    """The indexer goes on with the job, and what was said of it stays."""
    root = make(tmp_path / "runs", {f"a/{LINEAGE_FILE}": ms_train(0.1)})
    follower = Follower(engine, root)
    follower.scan()
    annotate.run(url, "./a", Annotation(tag=1), clear=False)
    make(root, {f"a/{LINEAGE_FILE.replace('.1.', '.2.')}": ms_train(0.2)})
    follower.scan()
    (item,) = client.post("/lineagemgr/lineages", {})["object"]
    assert ({"tag": 1}, 0.2) == (item["added_info"], item["model_lineage"]["learning_rate"])
