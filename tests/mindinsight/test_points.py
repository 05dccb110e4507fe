"""Points of a tag: which of them count, how many are shown, and what is computed of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from indexer.db.schema import ROOT, SHARD, TAG, TENSOR_POINT
from tests.api.conftest import changed, job_row, tag_row
from tests.mindinsight.conftest import Client, index
from tests.support.engines import transaction
from tests.support.following import make
from tests.support.records import ms_buckets, ms_event, ms_image, ms_scalars, ms_tensor, ms_version, png, tb_scalar
from tests.support.statements import statements
from webapi.mindinsight import current
from webapi.mindinsight.current import Segment

FILE = "events.out.events.summary.{}.0.x_MS"
File = tuple[int, Sequence[int]]
"""Timestamp in a file's name, and the steps in it."""


def kept(files: Sequence[File]) -> list[tuple[int, int]]:
    """Return step and number (in load order) of the samples that MindInsight has in the end, sample by sample."""
    held: list[tuple[int, int, int]] = []  # step, number, timestamp
    number = 0
    for timestamp, steps in files:
        for step in steps:
            if held and step <= max(one[0] for one in held):
                held = [one for one in held if one[0] != step and (one[0] < step or one[2] >= timestamp)]
            held.append((step, number, timestamp))
            held.sort()
            number += 1
    return [(step, number) for step, number, _ in held]


def run(files: Sequence[File]) -> dict[str, bytes]:
    """Return event files whose values are the numbers of their points."""
    made, number = {}, 0
    for timestamp, steps in files:
        records = [ms_version(1.0)]
        for step in steps:
            records.append(ms_scalars(step, {"loss": float(number)}, 100.0 + number))
            number += 1
        made[f"a/{FILE.format(timestamp)}"] = b"".join(records)
    return made


def shown(client: Client, tag: str = "loss/scalar", job: str = "./a") -> list[tuple[int, float]]:
    """Return step and value of a curve."""
    found = client.get("/datavisual/scalar/metadata", train_id=job, tag=tag)["metadatas"]
    return [(one["step"], one["value"]) for one in found]


@pytest.mark.parametrize(
    "files",
    [
        [(1, [1, 2, 3])],
        [(1, [1, 2, 3, 4, 5, 6, 7]), (2, [3, 4])],
        [(1, [1, 2, 3, 2, 5, 4])],
        [(1, [0, 0, 0])],
        [(99, [1, 2, 3]), (100, [2])],
        [(1, [1, 9]), (2, [3, 9, 5]), (3, [4])],
        [(1, [5, 1, 7]), (2, [8, 2, 6])],
        [(1, [1, 2, 3, 4]), (2, [10, 11, 2, 12]), (3, [11])],
    ],
)
def test_what_counts_after_a_restart_is_what_mindinsight_keeps(
    client: Client, url: str, tmp_path: Path, files: list[File]
) -> None:
    """A step that comes again replaces; one of a newer file cuts off what older files have behind it."""
    index(url, make(tmp_path / "runs", run(files)))
    assert kept(files) == shown(client)


FILES = st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=6), min_size=1, max_size=4)


@given(steps=FILES)
def test_cuts_say_what_newer_files_cut_off(steps: list[list[int]]) -> None:
    """Together with repeats, cuts leave exactly the samples that MindInsight has, whatever the order of steps."""
    files = list(enumerate(steps, 1))
    points: list[tuple[int, int, int]] = []  # seq, step, timestamp
    seq, before = 0, None
    for timestamp, own in files:
        for step in own:
            seq += before is not None and step <= before
            points.append((seq, step, timestamp))
            before = step
    segments = []
    for timestamp, own in files:
        mine = [(seq, step) for seq, step, at in points if at == timestamp]
        segments.append(Segment(mine[0], mine[-1], min(own), timestamp))
    cut = current.cuts(segments)
    left = [
        (step, number)
        for number, (seq, step, _) in enumerate(points)
        if not any(other[1] == step for other in points[number + 1 :])
        and not any(c.step <= step and c.first <= (seq, step) <= c.last for c in cut)
    ]
    assert kept(files) == sorted(left)


def test_long_curves_are_thinned_by_shape(client: Client, url: str, tmp_path: Path) -> None:
    """Ten thousand points are all shown; of more the first, the last and the extremes."""
    points = {"fits": 10_000, "long": 10_001}
    files = {}
    for name, count in points.items():
        values = [1e6 if step == 777 else -1e6 if step == 888 else step % 7 for step in range(count)]
        records = [ms_version(1.0), *(ms_scalars(step, {"x": v}, 1.0 + step) for step, v in enumerate(values))]
        files[f"{name}/{FILE.format(1)}"] = b"".join(records)
    index(url, make(tmp_path / "runs", files))
    assert 10_000 == len(shown(client, "x/scalar", "./fits"))
    found = shown(client, "x/scalar", "./long")
    assert len(found) <= 10_000
    assert {(0, 0.0), (777, 1e6), (888, -1e6), (10_000, float(10_000 % 7))} <= set(found)


def test_many_short_curves_take_few_statements(client: Client, url: str, tmp_path: Path) -> None:
    """A comparison of many jobs costs a few statements, in the order that was asked for, with repeats."""
    records = {n: ms_version(1.0) + b"".join(ms_scalars(s, {"x": float(n)}, 1.0) for s in range(3)) for n in range(50)}
    index(url, make(tmp_path / "runs", {f"{n}/{FILE.format(1)}": data for n, data in records.items()}))
    ids = [f"./{n}" for n in (*range(49, -1, -1), 7)]
    with statements(client.reader) as sent:
        found = client.get("/datavisual/scalars", train_id=[*ids, "./none"], tag=["x/scalar", "none"])["scalars"]
    assert ids == [one["train_id"] for one in found]
    assert [[float(one[2:])] * 3 for one in ids] == [[p["value"] for p in one["values"]] for one in found]
    assert len(sent) <= 8


def test_many_long_curves_share_an_answer(
    client: Client, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has at least what MindInsight keeps; more curves than can be held are refused."""
    steps = list(range(3_000))
    index(url, make(tmp_path / "runs", run([(1, steps)])))
    monkeypatch.setattr("webapi.mindinsight.scalars.MOST_TOGETHER", 4_000)
    query: dict[str, Any] = {"train_id": "./a", "tag": ["loss/scalar"] * 2}
    found = client.get("/datavisual/scalars", **query)["scalars"]
    assert all(1_000 < len(one["values"]) <= 2_000 for one in found)
    found = client.get("/datavisual/scalars", train_id="./a", tag=["loss/scalar"] * 9)["scalars"]
    assert all(500 < len(one["values"]) <= 1_000 for one in found)
    monkeypatch.setattr("webapi.mindinsight.scalars.MOST_CURVES", 8)
    assert "50545013" == client.error("/datavisual/scalars", train_id="./a", tag=["loss/scalar"] * 9)


def test_long_curves_that_went_back_are_thinned_after_that(client: Client, url: str, tmp_path: Path) -> None:
    """Thinning looks at the points that count only."""
    steps = list(range(12_000))
    index(url, make(tmp_path / "runs", run([(1, steps), (2, [11_000])])))
    found = shown(client)
    assert (11_000, 12_000.0) == found[-1]
    assert 9_000 < len(found) <= 10_000


def test_very_long_curves_that_went_back_follow_the_simpler_rule(engine: Engine, client: Client) -> None:
    """Of a series above the limit the buckets are read: a repeat within a file is then shown beside the first."""
    with transaction(engine) as conn:
        conn.execute(insert(ROOT), {"id": 1, "name": "runs", "path": "/runs"})
        row = job_row(1, 1, "./a", cache_status="CACHED", update_time=1.0, listed_update_time=1.0)
        conn.execute(insert(TAG.metadata.tables["jobs"]), row)
        conn.execute(
            insert(SHARD), {"id": 1, "job_id": 1, "name": FILE.format(1), "kind": "summary", "format": "mindspore"}
        )
        conn.execute(
            insert(TAG), tag_row(1, 1, "scalar", "loss", point_count=current.EXACT_POINTS + 1, seq=1, segments=1)
        )
        keys = ("tag_id", "step", "seq", "wall_time", "value")
        rows = [(1, 1, 0, 1.0, 1.0), (1, 1, 1, 2.0, 2.0)]
        conn.execute(insert(TENSOR_POINT), [dict(zip(keys, row, strict=True)) for row in rows])
    changed(engine)
    assert [(1, 1.0), (1, 2.0)] == shown(client)


def test_numbers_that_are_not_finite(client: Client, url: str, tmp_path: Path) -> None:
    """A value that is NaN or infinite is null; a time that is so is a text."""
    values = [float("nan"), float("inf"), float("-inf"), 0.1]
    times = [1.0, float("inf"), float("nan"), 4.0]
    records = [ms_scalars(n, {"x": v}, t) for n, (v, t) in enumerate(zip(values, times, strict=True))]
    index(url, make(tmp_path / "runs", {f"a/{FILE.format(1)}": ms_version(1.0) + b"".join(records)}))
    found = client.get("/datavisual/scalars", train_id="./a", tag="x/scalar")["scalars"][0]["values"]
    assert [None, None, None, 0.10000000149011612] == [one["value"] for one in found]
    assert [1.0, "Infinity", "NaN", 4.0] == [one["wall_time"] for one in found]


def test_tensorboard_files_are_shown_too(client: Client, url: str, tmp_path: Path) -> None:
    """Scalars of TensorBoard's files have MindInsight's suffix; of a tag in both formats MindSpore's is shown."""
    files = {
        "tb/events.out.tfevents.5.x": tb_scalar("loss", 1, 2.0, 1.0),
        f"both/{FILE.format(1)}": ms_version(1.0) + ms_scalars(1, {"loss": 7.0}, 1.0),
        "both/events.out.tfevents.5.x": tb_scalar("loss", 1, 2.0, 1.0, style="tensor"),
    }
    index(url, make(tmp_path / "runs", files))
    assert ["loss/scalar"] == client.get("/datavisual/plugins", train_id="./tb")["plugins"]["scalar"]
    assert [(1, 2.0)] == shown(client, "loss/scalar", "./tb")
    assert ["loss/scalar"] == client.get("/datavisual/plugins", train_id="./both")["plugins"]["scalar"]
    assert [(1, 7.0)] == shown(client, "loss/scalar", "./both")


# Images ---------------------------------------------------------------------------------------------------------------
def test_images_are_sent_as_they_are(client: Client, url: str, tmp_path: Path) -> None:
    """Sizes are those of the record; bytes are the writer's, of whatever kind; -1 is the last step."""
    pictures = [png(2, 3), b"GIF89a not really", b"no picture"]
    records = [
        ms_image("i", step, data, 1.0, width=7, height=8) for step, data in zip((1, 3, 9), pictures, strict=True)
    ]
    index(url, make(tmp_path / "runs", {f"a/{FILE.format(1)}": ms_version(1.0) + b"".join(records)}))
    listed = client.get("/datavisual/image/metadata", train_id="./a", tag="i/image")["metadatas"]
    assert [(1, 7, 8), (3, 7, 8), (9, 7, 8)] == [(one["step"], one["width"], one["height"]) for one in listed]
    kinds = ["image/png", "image/gif", "application/octet-stream"]
    for step, data, kind in zip((1, 3, -1), pictures, kinds, strict=True):
        path = f"/v1/mindinsight/datavisual/image/single-image?train_id=./a&tag=i/image&step={step}"
        status, headers, body = client.send("GET", path)
        assert (200, kind, data) == (status, headers["Content-Type"], body)


def test_of_many_images_some_are_listed_and_all_can_be_had(client: Client, url: str, tmp_path: Path) -> None:
    """A hundred, evenly, with the first and the last; any other step is there all the same."""
    records = [ms_image("i", step, png(1, 1, step % 256), 1.0) for step in range(250)]
    index(url, make(tmp_path / "runs", {f"a/{FILE.format(1)}": ms_version(1.0) + b"".join(records)}))
    steps = [
        one["step"] for one in client.get("/datavisual/image/metadata", train_id="./a", tag="i/image")["metadatas"]
    ]
    assert 100 == len(steps)
    assert (0, 249) == (steps[0], steps[-1])
    gaps = [b - a for a, b in pairwise(steps)]
    assert {2, 3} == set(gaps)
    missing = next(step for step in range(250) if step not in steps)
    path = f"/v1/mindinsight/datavisual/image/single-image?train_id=./a&tag=i/image&step={missing}"
    assert png(1, 1, missing % 256) == client.send("GET", path)[2]


# Histograms and tensors -----------------------------------------------------------------------------------------------
def ms_histogram(step: int, rows: Sequence[tuple[float, float, int]], low: float, high: float) -> bytes:
    """Return a record of a histogram with its range."""
    from tests.support.records import bytes_field, double_field

    content = ms_buckets(rows) + double_field(5, high) + double_field(6, low)
    return ms_event(1.0, bytes_field(5, bytes_field(1, bytes_field(1, b"h") + bytes_field(9, content))), step)


def test_histograms_of_a_tag_share_their_buckets(client: Client, url: str, tmp_path: Path) -> None:
    """The worked example of the specification, its lost constant and all; one with too many buckets is left out."""
    rows = [(-2.0, 1.0, 1), (-1.0, 1.0, 5), (0.0, 1.0, 2), (1.0, 1.0, 4)]
    records = [
        ms_histogram(1, [], 0.0, 0.0),
        ms_histogram(2, rows, -2.0, 2.0),
        ms_histogram(3, [(4.5, 0.5, 0), (5.0, 0.5, 3)], 5.0, 5.0),
        ms_histogram(4, [(float(n), 1.0, 1) for n in range(91)], 0.0, 91.0),
    ]
    index(url, make(tmp_path / "runs", {f"a/{FILE.format(1)}": ms_version(1.0) + b"".join(records)}))
    found = client.get("/datavisual/histograms", train_id="./a", tag="h/histogram")
    width = 2.3333333333333335
    lefts = [-2.0 + width * n for n in range(3)]
    counts = {1: [0, 0, 0], 2: [7, 6, 0], 3: [0, 0, 0]}
    expected = [[[left, width, n] for left, n in zip(lefts, own, strict=True)] for own in counts.values()]
    assert [1, 2, 3] == [one["step"] for one in found["histograms"]]
    assert expected == [one["buckets"] for one in found["histograms"]]


def floats(*values: float) -> bytes:
    """Return values as 32-bit floats."""
    return struct.pack(f"<{len(values)}f", *values)


def tensor_runs(tmp_path: Path) -> Path:
    """Return a directory with tensors of several kinds."""
    nan, inf = float("nan"), float("inf")
    records = [
        ms_version(1.0),
        ms_tensor("t", 1, [6], floats(0, -1, 2, 3, 4, 5), 1.0),
        ms_tensor("t", 2, [6], floats(0, -1, 2, 3, nan, inf), 1.0),
        ms_tensor("scalar", 1, [], floats(2.5), 1.0),
        ms_tensor("nan", 1, [], floats(nan), 1.0),
        ms_tensor("empty", 1, [0], b"", 1.0),
        ms_tensor("wide", 1, [400, 300], floats(*([0.5] * 120_000)), 1.0),
        ms_tensor("typed", 1, [1], floats(1), 1.0, dtype=5),
        ms_tensor("odd", 1, [1], floats(1), 1.0, dtype=0),
        ms_tensor("wrong", 1, [3], floats(1), 1.0),
    ]
    return make(tmp_path / "runs", {f"a/{FILE.format(1)}": b"".join(records)})


def tensors(client: Client, tag: str, **query: Any) -> list[dict[str, Any]]:
    """Return the values of a tensor tag."""
    found = client.get("/datavisual/tensors", train_id="./a", tag=f"{tag}/tensor", **query)
    return [one["value"] for one in found["tensors"][0]["values"]]


def test_tensors_are_taken_apart_as_mindinsight_does(client: Client, url: str, tmp_path: Path) -> None:
    """Statistics, common buckets, slices, and the words for what is not finite: the examples of the specification."""
    index(url, tensor_runs(tmp_path))
    assert [{"dims": [6], "data_type": "DT_FLOAT32"}] * 2 == tensors(client, "t")
    buckets = [one["histogram_buckets"] for one in tensors(client, "t", detail="histogram")]
    assert [[[-1, 2, 2], [1, 2, 1], [3, 2, 3]], [[-1, 2, 2], [1, 2, 2], [3, 2, 0]]] == buckets
    (second,) = tensors(client, "t", detail="data", step=2, dims="[1::2]")
    assert [-1.0, 3.0, "INF"] == second["data"]
    statistics = second["statistics"]
    own = ("max", "min", "avg", "count", "nan_count", "neg_inf_count", "pos_inf_count")
    assert [3.0, -1.0, 1.0, 3, 0, 0, 1] == [statistics[name] for name in own]
    assert [3.0, -1.0, 1.0, 6, 1, 0, 1] == [statistics[f"overall_{name}"] for name in own]
    signs = [statistics[f"overall_{name}_count"] for name in ("zero", "neg_zero", "pos_zero")]
    assert [1.0, 1.0, 2.0] == signs
    assert all(isinstance(one, float) for one in signs)
    assert 2.5 == tensors(client, "scalar", detail="data", step=1, dims="[]")[0]["data"]
    assert ["NAN"] == tensors(client, "nan", detail="data", step=1, dims=" [ ] ")[0]["data"]
    assert [] == tensors(client, "empty", detail="data", step=1, dims="[0, 0]")[0]["data"]
    assert [[[-0.5, 1.0, 0]]] == [one["histogram_buckets"] for one in tensors(client, "nan", detail="histogram")]
    assert "DT_INT64" == tensors(client, "typed")[0]["data_type"]
    assert "DT_UNDEFINED" == tensors(client, "odd")[0]["data_type"]
    assert [] == tensors(client, "wrong")


def test_large_slices_are_refused(client: Client, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 100,000 elements are too many for an answer; a tensor of too many has no statistics either."""
    index(url, tensor_runs(tmp_path))
    query: dict[str, Any] = {"train_id": "./a", "tag": "wide/tensor", "detail": "data", "step": 1}
    assert "50545013" == client.error("/datavisual/tensors", **query, dims="[:, :]")
    assert 100_000 == 400 * len(tensors(client, "wide", detail="data", step=1, dims="[:, :250]")[0]["data"][0])
    monkeypatch.setattr("webapi.mindinsight.tensors.MOST_ELEMENTS", 100)
    assert "50545016" == client.error("/datavisual/tensors", **query, dims="[0, 0]")
    assert "50545016" == client.error("/datavisual/tensors", train_id="./a", tag="wide/tensor", detail="histogram")
    assert [None] == [one["statistics"] for one in tensors(client, "wide", detail="stats")]
