"""What stands beside the table of lineages: results, and how much parameters have to do with them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.mindinsight.conftest import Client, index
from tests.support.following import make
from tests.support.records import bytes_field, double_field, ms_evaluation, ms_lineage, ms_train, ms_user_item

FILE = "events.out.events.summary.1.0.x_lineage"
ROUTE = "/optimizer/targets/search"
RATES = (0.125, 0.25, 0.375, 0.5)
ACCURACIES = (0.25, 0.75, 0.5, 1.0)  # Pearson's correlation with RATES: 1 / sqrt(5 * 0.3125) = 0.8


def number(key: str, value: float) -> bytes:
    """Return a user-defined number."""
    return bytes_field(1, bytes_field(5, bytes_field(1, key.encode()) + double_field(2, value)))


def training(at: int) -> bytes:
    """Return what is known of a training: `same` never changes, `rare` is known of two, `note` is no number."""
    user = number("same", 0.5) + bytes_field(1, ms_user_item(4, "note", "x"))
    if at < 2:
        user += number("rare", float(at))
    accuracy = f'{{"acc": {ACCURACIES[at]}, "worst": {"NaN" if at else 1}}}'
    return ms_train(RATES[at]) + ms_evaluation(accuracy) + ms_lineage(10, user)


@pytest.fixture
def trained(client: Client, url: str, tmp_path: Path) -> Client:
    """Four trainings, the last one changed last."""
    root = make(tmp_path / "runs", {f"{at}/{FILE}": training(at) for at in range(4)})
    for at in range(4):
        os.utime(root / str(at) / FILE, (1000 - at, 1000 - at))
    index(url, root)
    return client


def test_parameters_are_ranked_for_each_result(trained: Client) -> None:
    """The size of the correlation, or 0 and the reason; MindSpore's own parameters before those of users."""
    answer = trained.post(ROUTE, {})
    assert ["metadata", "targets"] == list(answer)
    assert {
        "train_ids": ["./0", "./1", "./2", "./3"],
        "possible_hyper_parameters": [
            {"name": "learning_rate", "data": list(RATES)},
            {"name": "[U]same", "data": [0.5] * 4},
            {"name": "[U]rare", "data": [0.0, 1.0, None, None]},
        ],
        "unrecognized_params": [{"name": "[U]note", "unselected": True, "reason_code": 1}],
    } == answer["metadata"]
    accuracy, worst = answer["targets"]
    (rate, *rest) = accuracy.pop("hyper_parameters")
    assert ("learning_rate", pytest.approx(0.8)) == (rate["name"], rate["importance"])
    few, never = ({"importance": 0, "reason_code": code} for code in (2, 3))
    assert [{"name": "[U]rare", **few}, {"name": "[U]same", **never}] == rest
    assert {
        "name": "[M]acc",
        "buckets": [pytest.approx([0.25 + 0.15 * n, 0.15, float(n != 2)]) for n in range(4)]
        + [pytest.approx([0.85, 0.15, 1])],
        "data": list(ACCURACIES),
    } == accuracy | {"buckets": accuracy["buckets"]}
    assert [1.0, None, None, None] == worst["data"]
    assert [2, 2, 2] == [one["reason_code"] for one in worst["hyper_parameters"]]


def test_the_condition_of_the_table_holds(trained: Client) -> None:
    """Only trainings that fit it count, and one that cannot be right is refused as there."""
    answer = trained.post(ROUTE, {"summary_dir": {"in": ["./1"]}})
    assert ["./1"] == answer["metadata"]["train_ids"]
    target, unknown = answer["targets"]
    assert [pytest.approx([0.25 + 0.2 * n, 0.2, float(n == 2)]) for n in range(5)] == target["buckets"]
    assert [pytest.approx([-0.5 + 0.2 * n, 0.2, 0]) for n in range(5)] == unknown["buckets"]
    assert "50542218" == trained.post(ROUTE, {"nothing": 1}, status=400)["error_code"]


def test_without_lineages_there_are_no_targets(client: Client, url: str, tmp_path: Path) -> None:
    """An empty table is an answer."""
    index(url, make(tmp_path / "runs", {}))
    nothing: dict[str, Any] = {"train_ids": [], "possible_hyper_parameters": [], "unrecognized_params": []}
    assert {"metadata": nothing, "targets": []} == client.post(ROUTE, {})
