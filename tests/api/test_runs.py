"""Lists of lineage and hyperparameters: filters, sorting, pages, metrics of an experiment."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from indexer.config import Config
from indexer.db.engine import open_engine, open_reader, transaction
from tests.api.conftest import Api
from tests.conftest import DATA, Backend
from tests.support.following import SMALL, index_once, make
from tests.support.records import (
    hparams_end,
    hparams_experiment,
    hparams_start,
    ms_evaluation,
    ms_train,
    ms_user_defined,
    tb_hparams,
    tb_scalar,
    tb_version,
)
from tests.support.statements import statements
from webapi import runs

FILE = "events.out.tfevents.1700000000.x"
LINEAGE_FILE = "events.out.events.summary.1700000000.0.x_lineage"
LINEAGES = {  # job → learning rate, optimizer, accuracy, note
    "./a": (0.5, "SGD", "0.25", "x"),
    "./b": (0.25, "Adam", "0.5", "y\0"),
    "./c": (math.inf, "Adam", '"high"', "Ä"),
    "./d": (0.5, "10", "NaN", "x"),
    "./e": (-math.inf, "9", "null", "z"),
}


def trees() -> dict[str, bytes]:
    """Return files of runs."""
    tree: dict[str, bytes] = {}
    for job, (rate, optimizer, accuracy, note) in LINEAGES.items():
        tree[f"{job}/{LINEAGE_FILE}"] = (
            ms_train(rate, optimizer)
            + ms_evaluation(f'{{"accuracy": {accuracy}}}' if accuracy != "null" else "{}")
            + ms_user_defined({"note": note, "a:eq:b": note})
        )
    for job, rate in (("one", 0.5), ("two", 0.25), ("two/inner", 0.125)):
        tree[f"sweep/{job}/{FILE}"] = (
            tb_version(1.0)
            + tb_hparams(
                "session_start_info", hparams_start({"lr": rate, "status": 7.0}, group=f"group {job}", start=5.0)
            )
            + tb_hparams("session_end_info", hparams_end(1 if rate > 0.3 else 2, 9.0))
            + tb_scalar("loss", 1, 3.0, 1.0)
            + tb_scalar("loss", 2, rate * 2, 1.0)
        )
    metrics = (("", "loss"), ("validation", "loss"), ("", "none"))
    tree[f"sweep/{FILE}"] = tb_version(1.0) + tb_hparams("experiment", hparams_experiment(*metrics))
    tree[f"sweep/two/inner/{FILE}"] += tb_hparams("experiment", hparams_experiment(("", "other")))
    tree[f"sweep/one/validation/{FILE}"] = tb_version(1.0) + tb_scalar("loss", 1, float("nan"), 1.0)
    return tree


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Backend, Api]]:
    """Databases with these runs, one a backend, made when first asked for."""
    made: dict[Backend, Api] = {}
    yield made
    for one in made.values():
        one.reader.dispose()


@pytest.fixture
def api(backend: Backend, loaded: dict[Backend, Api], request: pytest.FixtureRequest, tmp_path: Any) -> Api:
    """The API over these runs."""
    if backend not in loaded:
        if backend == "sqlite":
            path = request.getfixturevalue("tmp_path_factory").mktemp("runs") / "runs.db"
            path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
            url = f"sqlite:///{path}"
        else:
            url = request.getfixturevalue("postgres").create(template=request.getfixturevalue("postgres_template"))
        engine = open_engine(url)
        index_once(engine, make(tmp_path / "runs", trees()), config=SMALL)
        with transaction(engine) as conn:  # the newest first, whatever the disk's clock
            conn.execute(text("UPDATE jobs SET update_time = id"))
        engine.dispose()
        loaded[backend] = Api.over(Config(url=url, query_seconds=5.0), open_reader(url))
    return loaded[backend]


def named(items: list[dict[str, Any]]) -> list[str]:
    """Return whose items these are."""
    return [item["train_id"] for item in items]


# Lineage --------------------------------------------------------------------------------------------------------------
def test_an_item_has_everything_twice(api: Api) -> None:
    """By section under MindSpore's names, and flat under the names that filters take."""
    (item,) = api.get("/lineage", {"job": "./b"})["items"]
    assert {"optimizer": "Adam", "learning_rate": 0.25} == item["hyper_parameters"]
    assert ({"accuracy": 0.5}, {"note": "y\0", "a:eq:b": "y\0"}) == (item["metric"], item["user_defined"])
    assert (None, 1.0, {}) == (item["dataset_graph"], item["wall_time"], item["algorithm"])
    flat = {"optimizer": "Adam", "learning_rate": 0.25, "metric/accuracy": 0.5}
    assert flat | {"user_defined/note": "y\0", "user_defined/a:eq:b": "y\0"} == item["values"]


def test_numbers_that_are_not_finite_are_strings(api: Api) -> None:
    """JSON is strict in lineage, too."""
    items = {item["train_id"]: item["values"] for item in api.get("/lineage")["items"]}
    found = (items["./c"]["learning_rate"], items["./e"]["learning_rate"], items["./d"]["metric/accuracy"])
    assert ("Infinity", "-Infinity", "NaN") == found


CONDITIONS = [
    ("learning_rate:eq:0.50", "a d"),
    ("learning_rate:ne:0.5", "b c e"),
    ("learning_rate:lt:0.5", "b e"),
    ("learning_rate:le:5e-1", "a b d e"),
    ("learning_rate:gt:0.25", "a c d"),
    ("learning_rate:ge:inf", "c"),
    ("learning_rate:in:0.5,0.25", "a b d"),
    ("optimizer:in:SGD,10", "a d"),
    ('optimizer:in:["Adam", "x,y"]', "b c"),
    ("optimizer:lt:11", ""),
    ("metric/accuracy:ge:0.25", "a b"),
    ("metric/accuracy:eq:high", "c"),
    ("metric/accuracy:eq:NaN", "d"),
    ("metric/accuracy:ne:0.25", "b c d e"),
    ("user_defined/note:eq:y\0", "b"),
    ("user_defined/note:in:x,Ä", "a c d"),
    ("train_id:eq:./c", "c"),
    ("train_id:ne:./c", "a b d e"),
    ("update_time:gt:0", "a b c d e"),
    ("start_time:eq:2.5", ""),
    ("nothing:eq:1", ""),
    ("nothing:ne:1", "a b c d e"),
]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS, ids=[condition for condition, _ in CONDITIONS])
def test_a_condition_chooses(api: Api, condition: str, expected: str) -> None:
    """Numbers compare as numbers, however they are written; texts as a whole; what is missing is only `ne`."""
    found = sorted(named(api.pages("/lineage", {"where": condition, "limit": 2})))
    assert [f"./{job}" for job in expected.split()] == found


def test_all_conditions_must_hold(api: Api) -> None:
    """Also together with a job, and whatever the order is."""
    both = [("where", "optimizer:eq:Adam"), ("where", "learning_rate:lt:1"), ("sort", "metric/accuracy")]
    assert ["./b"] == named(api.pages("/lineage", both))
    assert [] == api.pages("/lineage", [*both, ("job", "./a")])


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("learning_rate", ["./e", "./b", "./a", "./d", "./c"]),
        ("-learning_rate", ["./c", "./d", "./a", "./b", "./e"]),
        ("optimizer", ["./d", "./e", "./b", "./c", "./a"]),
        ("metric/accuracy", ["./a", "./b", "./d", "./c", "./e"]),
        ("-metric/accuracy", ["./c", "./d", "./b", "./a", "./e"]),
        ("user_defined/note", ["./a", "./d", "./b", "./e", "./c"]),
        ("train_id", ["./a", "./b", "./c", "./d", "./e"]),
        ("-train_id", ["./e", "./d", "./c", "./b", "./a"]),
        ("nothing", ["./a", "./b", "./c", "./d", "./e"]),
    ],
)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_follow_the_order(api: Api, sort: str, expected: list[str], limit: int) -> None:
    """Numbers before texts by their bytes, what is missing last either way, ids between equals; each job once."""
    if sort == "nothing" or sort.endswith("learning_rate"):  # ids decide between ./a and ./d, and are as they came
        ids = {item["train_id"]: item["job"] for item in api.get("/lineage")["items"]}
        rate = {job: LINEAGES[job][0] if sort != "nothing" else 0 for job in LINEAGES}
        expected = sorted(LINEAGES, key=lambda job: (rate[job], ids[job]), reverse=sort.startswith("-"))
    elif sort == "user_defined/note":
        ids = {item["train_id"]: item["job"] for item in api.get("/lineage")["items"]}
        expected = [*sorted(("./a", "./d"), key=ids.__getitem__), *expected[2:]]
    elif sort == "optimizer":
        ids = {item["train_id"]: item["job"] for item in api.get("/lineage")["items"]}
        expected = [*expected[:2], *sorted(("./b", "./c"), key=ids.__getitem__), "./a"]
    assert expected == named(api.pages("/lineage", {"sort": sort, "limit": limit}))


@pytest.mark.parametrize(
    ("wanted", "parameter"),
    [
        ({"where": "x"}, "where"),
        ({"where": "x:like:y"}, "where"),
        ({"where": ":eq:y"}, "where"),
        ({"where": "loss:lt:a"}, "where"),
        ({"where": "loss:lt:nan"}, "where"),
        ({"where": "loss:in:[1"}, "where"),
        ({"where": "loss:in:[[1]]"}, "where"),
        ({"where": "loss:in:" + "1," * 100}, "where"),
        ({"sort": ""}, "sort"),
        ({"sort": "-"}, "sort"),
        ({"after": "x"}, "after"),
    ],
)
@pytest.mark.parametrize("path", ["/lineage", "/hparams"])
def test_what_is_malformed_is_named(api: Api, path: str, wanted: dict[str, object], parameter: str) -> None:
    """Conditions, orders and cursors that are none are a 400 that says which parameter."""
    assert parameter == api.get(path, wanted, status=400)["parameter"]


def test_conditions_are_bounded(api: Api) -> None:
    """As many as the document says, and no more."""
    wanted = [("where", f"k{i}:ne:1") for i in range(runs.MAX_CONDITIONS)]
    assert 5 == len(api.get("/lineage", wanted)["items"])
    assert "where" == api.get("/lineage", [*wanted, ("where", "k:ne:1")], status=400)["parameter"]


def test_a_cursor_belongs_to_its_order(api: Api) -> None:
    """The cursor of one order is refused in another."""
    following = api.get("/lineage", {"sort": "learning_rate", "limit": 1})["next"]
    for sort in ("-learning_rate", "optimizer"):
        assert "after" == api.get("/lineage", {"sort": sort, "after": following}, status=400)["parameter"]


def test_a_page_is_bounded_by_its_bytes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit comes on the next page; a single job is shown however long it is."""
    whole = api.get("/lineage")["items"]
    monkeypatch.setattr(runs, "PAGE_BYTES", 1)
    assert 1 == len(api.get("/lineage")["items"])
    assert whole == api.pages("/lineage")


def test_a_list_takes_few_statements(api: Api) -> None:
    """However many jobs a page has."""
    for path, most in (("/lineage", 6), ("/hparams", 10)):
        counts = []
        for limit in (1, 3):
            with statements(api.reader) as sent:
                api.get(path, {"limit": limit})
            counts.append(len(sent))
        assert counts[0] <= most
        assert counts[1] <= most


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/lineage", "/hparams"]),
    key=st.text(max_size=20),
    operator=st.sampled_from(["eq", "ne", "lt", "gt", "le", "ge", "in"]),
    value=st.one_of(st.text(max_size=20), st.floats().map(str)),
    sign=st.sampled_from(["", "-"]),
)
def test_no_key_and_no_value_is_a_defect(api: Api, path: str, key: str, operator: str, value: str, sign: str) -> None:
    """Whatever is asked for: an answer, or a 400 with the parameter's name."""
    wanted = [("where", f"{key}:{operator}:{value}"), ("sort", sign + key)]
    answer = api.app.test_client().get(f"/api/v1{path}", query_string=wanted)
    assert answer.status_code in {200, 400}, answer.text


# Hyperparameters ------------------------------------------------------------------------------------------------------
def test_a_run_has_its_session_and_its_metrics(api: Api) -> None:
    """Metrics are those of the nearest experiment, in the run or a group's directory below it, with last values."""
    items = {item["train_id"]: item for item in api.get("/hparams", {"where": "lr:gt:0"})["items"]}
    assert {"./sweep/one", "./sweep/two", "./sweep/two/inner"} == items.keys()
    one, two, inner = (items[f"./sweep/{name}"] for name in ("one", "two", "two/inner"))
    assert ("group one", "success", 5.0, 9.0) == tuple(
        one[name] for name in ("group_name", "status", "start_time", "end_time")
    )
    assert {"lr": 0.5, "status": 7.0} == one["hparams"]
    assert ({"loss": 1.0, "validation/loss": "NaN"}, {"loss": 0.5}, {}) == tuple(
        item["metrics"] for item in (one, two, inner)
    )
    jobs = {item["train_id"]: item["id"] for item in api.get("/jobs")["items"]}
    assert [jobs["./sweep"], jobs["./sweep"], jobs["./sweep/two/inner"]] == [
        item["experiment"] for item in (one, two, inner)
    ]


def test_mindspores_hyperparameters_are_there_too(api: Api) -> None:
    """A lineage of a training is a run without a session."""
    (item,) = api.get("/hparams", {"where": "optimizer:eq:SGD"})["items"]
    assert ("./a", {"optimizer": "SGD", "learning_rate": 0.5}, None, {}, None) == (
        item["train_id"],
        item["hparams"],
        item["status"],
        item["metrics"],
        item["experiment"],
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("lr:le:0.25", ["two", "two/inner"]),
        ("status:eq:failure", ["two", "two/inner"]),
        ("hparam/status:eq:7", ["one", "two", "two/inner"]),
        ("metric/loss:gt:0.4", ["one", "two"]),
        ("metric/loss:eq:0.5", ["two"]),
        ("group_name:in:group one,none", ["one"]),
        ("end_time:ge:9", ["one", "two", "two/inner"]),
    ],
)
def test_runs_are_chosen_by_what_is_known_of_them(api: Api, where: str, expected: list[str]) -> None:
    """Hyperparameters, the session, and the last value of any tag of the run."""
    assert [f"./sweep/{name}" for name in expected] == sorted(
        named(api.pages("/hparams", {"where": where, "limit": 1}))
    )


def test_runs_are_sorted_by_a_metric(api: Api) -> None:
    """The last value of a tag decides; runs without it come last."""
    best = named(api.pages("/hparams", {"sort": "-metric/loss", "limit": 2}))
    assert [f"./sweep/{name}" for name in ("one", "two", "two/inner")] == best[:3]
    assert 8 == len(best) == len(set(best))


def test_records_show_what_they_say(api: Api) -> None:
    """Each record is in the list of its kind, with its bytes behind `url`."""
    items = api.get("/hparam-records", {"job": "./sweep/one", "tag": "_hparams_/session_start_info"})["items"]
    assert [{"lr": 0.5, "status": 7.0}] == [item["content"]["hparams"] for item in items]
    expected = hparams_start({"lr": 0.5, "status": 7.0}, group="group one", start=5.0)
    assert expected == api.request(items[0]["url"]).data
    (item,) = api.get("/lineage-records", {"job": "./a", "tag": "train_lineage"})["items"]
    assert ms_train(0.5)[12:-4] == api.request(item["url"]).data
    assert {"hyper_parameters": {"optimizer": "SGD", "learning_rate": 0.5}} == item["content"]


def test_the_sample_data_are_listed(backend: Backend, engine: Any, url: str) -> None:
    """Lineage and hyperparameters of real writers; the resumed training as MindInsight shows it."""
    index_once(engine, DATA / "mindspore" / "lineage-adam-0.01", DATA / "tensorboard" / "hparams")
    reader = open_reader(url)
    api = Api.over(Config(url=url, query_seconds=5.0), reader)
    (item,) = api.get("/lineage")["items"]
    assert ("Adam", 0.005, 64) == tuple(
        item["values"][name] for name in ("optimizer", "learning_rate", "test_dataset_count")
    )
    assert {"experiment": "resumed", "workers": 9} == item["user_defined"]
    graph = item["dataset_graph"]
    assert ("Batch", ['"image"']) == (graph["op_type"], graph["children"][0]["input_columns"])
    found = api.get("/hparams", {"where": "metric/accuracy:gt:0.7"})["items"]
    assert [({"accuracy": 0.7619253993034363}, "t2")] == [(item["metrics"], item["group_name"]) for item in found]
    reader.dispose()
