"""The table of lineages: what is in it, and how it is filtered, sorted and paged."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.mindinsight.conftest import Client, index
from tests.support.following import make
from tests.support.records import (
    bytes_field,
    float_field,
    ms_evaluation,
    ms_lineage,
    ms_scalars,
    ms_train,
    ms_user_defined,
    ms_version,
    varint_field,
)
from tests.support.statements import statements

FILE = "events.out.events.summary.1.0.x_lineage"


def item(client: Client, job: str = "./a", **condition: Any) -> dict[str, Any]:
    """Return the lineage of a job."""
    found = client.post("/lineagemgr/lineages", {"summary_dir": {"in": [job]}, **condition})
    assert 1 == found["count"]
    return dict(found["object"][0])


def ids(client: Client, condition: Mapping[str, Any]) -> list[str]:
    """Return which jobs fit a condition, in their order."""
    return [one["summary_dir"] for one in client.post("/lineagemgr/lineages", condition)["object"]]


def operation(sizes: list[int], weights: list[float], name: str = "Op") -> bytes:
    """Return an operation of a dataset graph."""
    entry = bytes_field(1, b"name") + bytes_field(2, name.encode())
    lists = b"".join(varint_field(2, n) for n in sizes) + b"".join(float_field(3, w) for w in weights)
    return bytes_field(1, bytes_field(1, entry)) + lists


def test_a_dataset_graph_is_shown_with_its_artefact(client: Client, url: str, tmp_path: Path) -> None:
    """Sizes and weights of an operation gather in one list, as its clients know it."""
    names = bytes_field(1, bytes_field(1, b"none") + bytes_field(2, b"None"))
    texts = bytes_field(1, b"a") + bytes_field(1, b"")
    parameter = names + bytes_field(2, bytes_field(1, b"columns") + bytes_field(2, texts))
    child = bytes_field(2, bytes_field(4, bytes_field(1, b"n") + varint_field(2, 3)))
    graph = bytes_field(2, parameter) + bytes_field(1, child) + bytes_field(4, operation([], [0.5], "Sampler"))
    for both in (([3, 4], [0.5]), ([3], []), ([], [0.25])):
        graph += bytes_field(3, operation(*both))
    root = make(tmp_path / "runs", {f"a/{FILE}": ms_lineage(9, graph), f"b/{FILE}": ms_train(0.1)})
    index(url, root)
    shown = client.get("/datasets/dataset_graph", train_id="./a")
    assert {
        "none": None,
        "columns": ["a", None],
        "operations": [
            {"name": "Op", "size": [3, 4, 0.5], "weights": [3, 4, 0.5]},
            {"name": "Op", "size": [3], "weights": [3]},
            {"name": "Op", "weights": [0.25]},
        ],
        "sampler": {"name": "Sampler", "weights": [0.5]},
        "children": [{"n": 3, "children": []}],
    } == shown["dataset_graph"]
    assert shown["dataset_graph"] == item(client)["dataset_graph"]
    assert {} == client.get("/datasets/dataset_graph", train_id="./b")
    marks = {job: item(client, job)["model_lineage"]["dataset_mark"] for job in ("./a", "./b")}
    assert {"2", "3"} == set(marks.values())


def test_values_are_null_where_they_are_not_written(client: Client, url: str, tmp_path: Path) -> None:
    """Zero is zero; metrics are whatever JSON they are, and what is not finite is a text."""
    metric = '{"a": NaN, "list": [1, -Infinity], "text": "x", "n": 1}'
    train = ms_lineage(6, bytes_field(1, float_field(2, float("nan")) + varint_field(4, 0)))
    index(url, make(tmp_path / "runs", {f"a/{FILE}": train + ms_evaluation(metric)}))
    model = item(client)["model_lineage"]
    assert ("NaN", 0, None, None) == tuple(model[name] for name in ("learning_rate", "epoch", "optimizer", "loss"))
    assert {"a": "NaN", "list": [1, "-Infinity"], "text": "x", "n": 1} == model["metric"]
    kinds = client.post("/lineagemgr/lineages", {})["customized"]
    assert {"metric/a": "float", "metric/list": "list", "metric/text": "str", "metric/n": "int"} == {
        label: one["type"] for label, one in kinds.items()
    }


def test_user_defined_values_alone_are_no_lineage(client: Client, url: str, tmp_path: Path) -> None:
    """Such a job is not in the table, and cannot be annotated."""
    index(url, make(tmp_path / "runs", {f"a/{FILE}": ms_user_defined({"x": "y"})}))
    assert {"customized": {}, "object": [], "count": 0} == client.post("/lineagemgr/lineages", {})
    path = "/lineagemgr/lineages?train_id=./a"
    assert "50540002" == client.post(path, {"tag": 1}, status=400, method="PUT")["error_code"]


METRICS = [1, 2.5, "text", True, None, [1]]


@pytest.fixture
def mixed(client: Client, url: str, tmp_path: Path) -> Client:
    """Jobs whose metric `m` is of another type each, oldest first, and one without."""
    files = {f"{n}/{FILE}": ms_train(n / 10) + ms_evaluation(json.dumps({"m": m})) for n, m in enumerate(METRICS)}
    files[f"{len(METRICS)}/{FILE}"] = ms_train(0.5, "Adam")
    root = make(tmp_path / "runs", files)
    for at, name in enumerate(files):
        os.utime(root / name, (1000 + at, 1000 + at))
    index(url, root)
    return client


def test_sorting_what_cannot_be_compared(mixed: Client) -> None:
    """Null comes first, other types by their names, equals by their age, newest first, in both directions."""
    up = ids(mixed, {"sorted_name": "metric/m"})
    assert {"./4", "./6"} == set(up[:2])
    assert ["./6", "./4"] == up[:2]
    assert ["./3", "./0", "./1"] == [job for job in up if job in {"./0", "./1", "./3"}]
    assert up.index("./5") < up.index("./2")
    down = ids(mixed, {"sorted_name": "metric/m", "sorted_type": "descending"})
    assert ["./6", "./4"] == down[-2:]
    assert ["./1", "./3", "./0"] == [job for job in down if job in {"./0", "./1", "./3"}]


@pytest.mark.parametrize(
    ("condition", "jobs"),
    [
        ({"metric/m": {"gt": 1}}, "1"),
        ({"metric/m": {"in": [1, "text", None]}}, "023 46"),
        ({"metric/m": {"eq": 1}}, "03"),
        ({"learning_rate": {"ge": 0.1, "lt": 0.3}}, "12"),
        ({"learning_rate": {"in": [0.5]}, "optimizer": {"eq": "SGD"}}, "5"),
        ({"optimizer": {"not_in": ["SGD"]}}, "6"),
        ({"loss": {"not_in": 1}}, ""),
        ({"epoch": {"not_in": [1]}}, "0123456"),
        ({"epoch": {"le": 1}}, ""),
        ({"user_defined/none": {"eq": None}}, "0123456"),
        ({"user_defined/none": {"in": "none"}}, ""),
        ({"dataset_mark": {"eq": "2"}}, "0123456"),
        ({"summary_dir": {"not_in": ["./1", "./2"]}}, "03456"),
        ({"limit": 2}, "65"),
        ({"limit": 3, "offset": 2}, "0"),
        ({"offset": 1}, ""),
    ],
)
def test_conditions(mixed: Client, condition: Mapping[str, Any], jobs: str) -> None:
    """What fits is what Python's operators say of the values, and nothing that they refuse to compare."""
    assert {f"./{job}" for job in jobs.replace(" ", "")} == set(ids(mixed, condition))


def test_only_what_is_new_is_read_again(client: Client, url: str, tmp_path: Path) -> None:
    """Lineages are kept by the revision of their job: asking twice reads them once, a change shows at once."""
    root = make(tmp_path / "runs", {f"{n}/{FILE}": ms_train(0.1) for n in range(5)})
    index(url, root)
    with statements(client.reader) as sent:
        first = client.post("/lineagemgr/lineages", {})
    with statements(client.reader) as again:
        assert first == client.post("/lineagemgr/lineages", {})
    assert len(sent) - 1 == len(again)
    make(root, {f"3/{FILE.replace('.1.', '.2.')}": ms_train(0.9)})
    index(url, root)
    assert 0.9 == item(client, "./3")["model_lineage"]["learning_rate"]


def test_a_landscape_shows_the_training_it_is_of(client: Client, url: str, tmp_path: Path) -> None:
    """Numbers of the lineage as text with six decimals; without one, no loss at all; ids are the same anywhere."""
    point = b"".join(bytes_field(axis, bytes_field(3, b"") + varint_field(1, 0)) for axis in (1, 2, 3))
    path = varint_field(1, 4) + varint_field(1, 9)
    value = bytes_field(1, b"x") + bytes_field(10, bytes_field(1, point) + bytes_field(2, path))
    final = bytes_field(1, b"y") + bytes_field(10, bytes_field(1, point) + bytes_field(3, bytes_field(2, b"step")))
    from tests.support.records import ms_event

    summary = ms_version(1.0) + b"".join(
        ms_event(1.0, bytes_field(5, bytes_field(1, one)), 0) for one in (value, final)
    )
    name = "events.out.events.summary.1.0.x_MS"
    index(
        url,
        make(
            tmp_path / "runs",
            {f"a/{name}": summary, f"a/{FILE}": ms_train(0.12), f"b/{name}": summary, f"c/{name}": ms_version(1.0)},
        ),
    )
    (interval,) = client.get("/datavisual/landscape/intervals", train_id="./a")["intervals"]
    assert [4, 9] == interval["value"]
    assert interval == client.get("/datavisual/landscape/intervals", train_id="./b")["intervals"][0]
    found = client.get("/datavisual/landscape/landscapes", train_id=["./b", "./a", "./c"], interval_id=interval["id"])
    first, second, third = found["landscapes"]
    words = {"decomposition": "", "unit": "", "step_per_epoch": 0}
    assert {**words, "network": None, "learning_rate": None, "optimizer": None, "metric": {}} == first["metadata"]
    assert ("1.200000e-01", None, [4, 9]) == (
        second["metadata"]["learning_rate"],
        second["metadata"]["loss"],
        second["path"]["intervals"],
    )
    assert [0, 0, 0] == first["convergence_point"]
    assert {"error_code": "50545017", "train_id": "./c"} == third
    (last,) = client.get("/datavisual/landscape/landscapes", train_id="./a", type="final")["landscapes"]
    assert "path" not in last
    assert "step" == last["metadata"]["unit"]


def test_a_job_without_lineage_is_not_in_the_table(client: Client, url: str, tmp_path: Path) -> None:
    """Train jobs and lineages are two lists."""
    name = "events.out.events.summary.1.0.x_MS"
    index(url, make(tmp_path / "runs", {f"a/{name}": ms_version(1.0) + ms_scalars(1, {"x": 1.0}, 1.0)}))
    assert [] == ids(client, {})
    assert 1 == client.get("/datavisual/train-jobs")["total"]
