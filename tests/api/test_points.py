"""Series and points: values exact and strict, ranges, restarts, paging, streaming."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from sqlalchemy import Engine, update

from indexer.db.schema import RESTART, TAG
from tests.api.conftest import (
    MARKUP_TAG,
    Api,
    Row,
    add,
    add_points,
    refuse_constant,
    tag_row,
)
from tests.support.engines import transaction
from tests.support.statements import statements
from webapi import respond, v1
from webapi.app import create_app


def curves(api: Api, **wanted: object) -> list[dict[str, Any]]:
    """Return the first page of `/series`."""
    found: list[dict[str, Any]] = api.get("/series", wanted)["series"]
    return found


def steps(api: Api, **wanted: object) -> list[tuple[int, int]]:
    """Return (step, seq) of all pages of `/points`."""
    return [(item["step"], item["seq"]) for item in api.pages("/points", wanted)]


# Series ---------------------------------------------------------------------------------------------------------------
def test_a_curve_is_columns(api: Api) -> None:
    """A short series comes whole, as columns."""
    assert [
        {
            "job": 2,
            "train_id": "./b/c",
            "tag": "loss",
            "plugin": "scalars",
            "total": 20,
            "downsampled": False,
            "step": list(range(20)),
            "wall_time": [50.0 + step for step in range(20)],
            "value": [float(step) for step in range(20)],
        }
    ] == curves(api, job="./b/c", tag="loss")


def test_values_that_are_no_json_numbers(api: Api) -> None:
    """NULL of a scalar is NaN, infinities are strings; a point that is no number has null."""
    (weird,) = curves(api, job=1, tag="weird")
    assert ["NaN", "Infinity", "-Infinity", 0.5] == weird["value"]
    assert [1.0, "Infinity", 3.0, 4.0] == weird["wall_time"]
    (image,) = curves(api, job=1, tag=MARKUP_TAG)
    assert [None, None, None] == image["value"]
    (other,) = curves(api, job=1, tag="loss", plugin="custom")
    assert [None] == other["wall_time"]


@pytest.mark.parametrize("max_points", [0, 1000])
def test_integers_and_floats_are_exact(api: Api, max_points: int) -> None:
    """The ends of int64, integers beyond 2**53, the smallest and the largest float come back as stored."""
    (extreme,) = curves(api, job=1, tag="extreme", max_points=max_points)
    assert [-(2**63), 2**53 + 1, 2**63 - 1] == extreme["step"]
    assert [-0.0, 5e-324, 1.7976931348623157e308] == extreme["value"]


def test_names_are_taken_as_they_are_shown(api: Api) -> None:
    """A tag with a NUL is asked for as it is in the file."""
    (found,) = curves(api, job=1, tag="nul\0tag␛")
    assert ("nul\0tag␛", [1.5]) == (found["tag"], found["value"])


def test_jobs_and_tags_repeat(api: Api) -> None:
    """Several jobs and tags give every series that is in both; without a job, of all jobs."""
    wanted = [("job", 1), ("job", "./b/c"), ("tag", "loss"), ("tag", "empty"), ("tag", "loss")]
    found = api.get("/series", wanted)["series"]
    assert [(1, "loss", "scalars"), (1, "loss", "custom"), (2, "loss", "scalars"), (2, "empty", "scalars")] == [
        (one["job"], one["tag"], one["plugin"]) for one in found
    ]
    assert 10 == len(curves(api))
    assert [1, 1, 2] == [one["job"] for one in curves(api, tag="loss")]
    assert [1, 2] == [one["job"] for one in curves(api, tag="loss", plugin="scalars")]
    assert [] == curves(api, tag="loss", plugin="none")


def test_an_empty_series_has_empty_columns(api: Api) -> None:
    """A tag without points is a series of none."""
    (found,) = curves(api, job=2, tag="empty")
    assert (0, False, [], [], []) == tuple(
        found[name] for name in ("total", "downsampled", "step", "wall_time", "value")
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"from_step": 7}, [7, 8, 9]),
        ({"to_step": 2}, [0, 1, 2]),
        ({"from_step": 3, "to_step": 3}, [3]),
        ({"from_step": 5, "to_step": 4}, []),
        ({"from_step": -(2**63), "to_step": 2**63 - 1}, list(range(10))),
    ],
)
@pytest.mark.parametrize("max_points", [0, 1000])
def test_a_range_of_steps_includes_its_ends(
    api: Api, wanted: dict[str, int], expected: list[int], max_points: int
) -> None:
    """`total` counts the points of the range."""
    (found,) = curves(api, job=1, tag="loss", plugin="scalars", max_points=max_points, **wanted)
    assert (expected, len(expected)) == (found["step"], found["total"])


def test_superseded_points_are_left_out_unless_asked_for(api: Api) -> None:
    """A later file overtook steps 2 to 4: current leaves the older ones out, all shows both by step, then seq."""
    (current,) = curves(api, job=1, tag="restarted")
    assert ([0, 1, 2, 3, 4, 5], [1.0, 1.0, 2.0, 2.0, 2.0, 2.0], 6) == (
        current["step"],
        current["value"],
        current["total"],
    )
    (whole,) = curves(api, job=1, tag="restarted", restarts="all")
    assert ([0, 1, 2, 2, 3, 3, 4, 4, 5], 9) == (whole["step"], whole["total"])
    assert [1.0, 1.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 2.0] == whole["value"]


def test_a_repeat_in_one_file_supersedes_nothing(api: Api, filled: Engine) -> None:
    """Going back within a file is kept by our own readers."""
    with transaction(filled) as conn:
        add(conn, TAG, [tag_row(60, 5, "scalars", "again") | {"point_count": 3}])
        add(conn, RESTART, [{"tag_id": 60, "seq": 1, "step": 1, "shard_id": 1, "cause": "same_file"}])
        add_points(conn, [(60, 1, 0, 1.0, 1.0), (60, 2, 0, 2.0, 2.0), (60, 1, 1, 3.0, 3.0)])
    (found,) = curves(api, job=5, tag="again")
    assert [1, 1, 2] == found["step"]


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("step", list(range(10))),
        ("wall_time", [1000.0 + n for n in range(10)]),
        ("relative", [float(n) for n in range(10)]),
    ],
)
def test_x_adds_a_column(api: Api, x: str, expected: list[float]) -> None:
    """`x` is what to draw over; relative counts from the series' first wall_time, whatever the range."""
    (found,) = curves(api, job=1, tag="loss", plugin="scalars", x=x)
    assert expected == found["x"]
    (tail,) = curves(api, job=1, tag="loss", plugin="scalars", x=x, from_step=8)
    assert expected[8:] == tail["x"]


def test_x_where_times_are_not_finite(api: Api) -> None:
    """A time that is infinite stays so, a series that has none gives nulls."""
    assert [0.0, "Infinity", 2.0, 3.0] == curves(api, job=1, tag="weird", x="relative")[0]["x"]
    assert [None] == curves(api, job=1, tag="loss", plugin="custom", x="relative")[0]["x"]


def test_series_are_paged(api: Api) -> None:
    """Pages of one hold every series once, in the order of one page."""
    whole = curves(api)
    assert whole == api.pages("/series", {"limit": 1}, key="series")
    assert whole[1:3] == api.get("/series", {"limit": 2, "after": api.get("/series", {"limit": 1})["next"]})["series"]


@pytest.mark.parametrize(
    ("wanted", "parameter"),
    [
        ({"job": 99}, "job"),
        ({"job": "./none"}, "job"),
        ({"job": ""}, "job"),
        ({"job": 1, "tag": "none"}, "tag"),
        ({"job": 2, "tag": "weird"}, "tag"),
        ({"tag": "none"}, "tag"),
        ({"tag": ""}, "tag"),
        ({"tag": "\udcff"}, "tag"),
    ],
)
@pytest.mark.parametrize("path", ["/series", "/points"])
def test_what_nobody_has_is_not_found(api: Api, path: str, wanted: dict[str, object], parameter: str) -> None:
    """An unknown job, and a tag none of the named jobs has, are 404 and named."""
    assert parameter == api.get(path, wanted, status=404)["parameter"]


def test_one_unknown_tag_among_known_ones_is_not_found(api: Api) -> None:
    """Each named tag must be somebody's, also on a later page that no longer holds it."""
    problem = api.get("/series", [("job", 1), ("tag", "loss"), ("tag", "none")], status=404)
    assert "'none'" in problem["detail"]
    wanted: list[tuple[str, object]] = [("job", 1), ("tag", "loss"), ("tag", "weird"), ("limit", 1)]
    assert ["loss", "loss", "weird"] == [one["tag"] for one in api.pages("/series", wanted, key="series")]


def test_a_train_id_of_two_roots_is_ambiguous(api: Api) -> None:
    """The parameter is named, with the candidates; root:train_id decides."""
    problem = api.get("/series", {"job": "./a"}, status=400)
    assert "job" == problem["parameter"]
    assert "exp:./a" in problem["detail"]
    assert 8 == len(curves(api, job="runs:./a"))


def test_series_cost_the_same_statements_when_points_double(api: Api, filled: Engine) -> None:
    """What is sent depends on the series, never on their points."""
    with transaction(filled) as conn:
        add(conn, TAG, [tag_row(70, 5, "scalars", "grows") | {"point_count": 100}])
        add_points(conn, [(70, step, 0, None, 0.5) for step in range(100)])
    with statements(api.reader) as few:
        curves(api, job=5, tag="grows")
    with transaction(filled) as conn:
        add_points(conn, [(70, step, 0, None, 0.5) for step in range(100, 2_000)])
        conn.execute(update(TAG).where(TAG.c.id == 70).values(point_count=2_000))
    with statements(api.reader) as many:
        curves(api, job=5, tag="grows")
    assert len(few) == len(many) <= 7


def test_a_long_curve_is_thinned_to_stored_points(api: Api, filled: Engine) -> None:
    """`max_points` bounds the points; first, last and extremes stay, and `total` counts what there was."""
    with transaction(filled) as conn:
        add(conn, TAG, [tag_row(71, 5, "scalars", "spiky") | {"point_count": 5_000}])
        spikes = {1_234: 1e6, 4_321: -1e6}
        points: list[Row] = [(71, step, 0, float(step), spikes.get(step, step % 10)) for step in range(5_000)]
        add_points(conn, points)
    stored = {row[1]: row[4] for row in points}
    for wanted in (10, 100, 1_000):
        (found,) = curves(api, job=5, tag="spiky", max_points=wanted, x="wall_time")
        assert (5_000, True) == (found["total"], found["downsampled"])
        assert len(found["step"]) <= wanted
        assert {0, 1_234, 4_321, 4_999} <= set(found["step"])
        assert sorted(found["step"]) == found["step"]
        assert [stored[step] for step in found["step"]] == found["value"]
        assert [float(step) for step in found["step"]] == found["x"]
    for wanted in (0, 5_000, 1_000_000):
        (whole,) = curves(api, job=5, tag="spiky", max_points=wanted)
        assert (5_000, False, 5_000) == (whole["total"], whole["downsampled"], len(whole["step"]))


# Streaming ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def long_series(api: Api, filled: Engine, monkeypatch: pytest.MonkeyPatch) -> int:
    """Three series of job 5, longer than what is read at once; returns the points of each."""
    monkeypatch.setattr(v1, "STREAM_POINTS", 100)
    monkeypatch.setattr(respond, "HELD_BYTES", 1_000)
    count = 950
    with transaction(filled) as conn:
        for tag in (80, 81, 82):
            more = {"point_count": count, "first_wall_time": 5.0}
            add(conn, TAG, [tag_row(tag, 5, "scalars", f"long{tag}") | more])
            add_points(
                conn,
                [(tag, step, 0, 5.0 + step, None if step % 7 == 0 else step / 3) for step in range(count)],
            )
    return count


@pytest.mark.parametrize("x", ["step", "wall_time", "relative"])
def test_a_streamed_answer_equals_one_made_at_once(
    api: Api, long_series: int, monkeypatch: pytest.MonkeyPatch, x: str
) -> None:
    """Columns that go out page by page are those of one piece, whole series after series."""
    wanted = {"job": 5, "max_points": 0, "x": x}
    streamed = api.get("/series", wanted)
    monkeypatch.setattr(v1, "STREAM_POINTS", 10_000)
    assert api.get("/series", wanted) == streamed
    assert [long_series] * 3 == [one["total"] for one in streamed["series"]]
    assert ["NaN", 1 / 3] == streamed["series"][0]["value"][:2]


def test_a_streamed_answer_is_sent_as_it_is_made(api: Api, long_series: int) -> None:
    """A long answer has no length beforehand, and no connection is held once it is over or dropped."""
    answer = api.request("/api/v1/series?job=5&max_points=0", buffered=False)
    assert "Content-Length" not in answer.headers
    answer.close()
    assert 0 == api.reader.pool.checkedout()  # type: ignore[attr-defined]
    assert json.loads(api.request("/api/v1/series?job=5&max_points=0").data)
    assert 0 == api.reader.pool.checkedout()  # type: ignore[attr-defined]


def test_a_streamed_answer_can_be_gzip(api: Api, long_series: int) -> None:
    """Compression goes along with the stream."""
    answer = api.request("/api/v1/series?job=5&max_points=0", headers={"Accept-Encoding": "gzip"})
    assert "gzip" == answer.headers["Content-Encoding"]
    found = json.loads(gzip.decompress(answer.data), parse_constant=refuse_constant)
    assert [long_series] * 3 == [len(one["step"]) for one in found["series"]]


def test_a_range_of_a_streamed_series(api: Api, long_series: int) -> None:
    """Ranges hold for streamed series too, also where nothing is in them."""
    found = curves(api, job=5, tag="long80", max_points=0, from_step=100, to_step=299)
    assert (200, list(range(100, 300))) == (found[0]["total"], found[0]["step"])
    (nothing,) = curves(api, job=5, tag="long80", max_points=0, from_step=5_000)
    assert (0, [], [], []) == tuple(nothing[name] for name in ("total", "step", "wall_time", "value"))


# Points ---------------------------------------------------------------------------------------------------------------
def test_a_point_has_its_names(api: Api) -> None:
    """A point says whose it is, and shows NaN and null as series do."""
    assert {
        "job": 1,
        "train_id": "./a",
        "tag": "weird",
        "plugin": "scalars",
        "step": 0,
        "seq": 0,
        "wall_time": 1.0,
        "value": "NaN",
    } == api.get("/points", {"job": 1, "tag": "weird"})["items"][0]
    assert [None] * 3 == [item["value"] for item in api.get("/points", {"job": 1, "tag": MARKUP_TAG})["items"]]


def test_points_are_raw_unless_asked_otherwise(api: Api) -> None:
    """Every stored point comes by step, then seq; `restarts=current` leaves out what was superseded."""
    wanted = {"job": 1, "tag": "restarted"}
    raw = [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (4, 1), (5, 1)]
    assert raw == steps(api, **wanted)
    assert [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1), (5, 1)] == steps(api, restarts="current", **wanted)
    assert [(3, 0), (3, 1)] == steps(api, from_step=3, to_step=3, **wanted)


@pytest.mark.parametrize("wanted", [{}, {"job": 1}, {"plugin": "scalars"}, {"restarts": "current"}, {"from_step": 3}])
def test_points_page_to_the_end(api: Api, wanted: dict[str, object]) -> None:
    """Pages of any size hold every point once, in the order of one page."""
    whole = api.get("/points", wanted | {"limit": 10_000})
    assert whole["next"] is None
    for limit in (1, 2, 3, 7, 10, 11, 20):
        assert whole["items"] == api.pages("/points", wanted | {"limit": limit})


def test_points_page_while_a_series_grows(api: Api, filled: Engine) -> None:
    """Points appended behind the cursor come, those before it never repeat."""
    found: list[int] = []
    following: dict[str, object] = {}
    for round_ in range(30):
        page = api.get("/points", {"job": 2, "tag": "loss", "limit": 3} | following)
        found += [item["step"] for item in page["items"]]
        if page["next"] is None:
            break
        following = {"after": page["next"]}
        if round_ < 4:
            with transaction(filled) as conn:
                add_points(conn, [(9, 100 + round_, 0, None, 1.0)])
    assert [*range(20), 100, 101, 102, 103] == found


def test_a_narrow_range_over_many_series_is_bounded(api: Api, filled: Engine) -> None:
    """Where most series have nothing in the range a page may be short, but its statements are bounded."""
    with transaction(filled) as conn:
        add(conn, TAG, [tag_row(100 + n, 5, "scalars", f"n{n}") | {"point_count": 50} for n in range(100)])
        add_points(conn, [(100 + n, step, 0, None, 1.0) for n in range(100) for step in range(50)])
        add_points(conn, [(199, 1_000, 0, None, 1.0)])
    wanted = {"job": 5, "from_step": 1_000, "limit": 10}
    with statements(api.reader) as sent:
        api.get("/points", wanted)
    assert len(sent) <= 40
    assert [(1_000, 0)] == steps(api, **wanted)


# The indexer hears of it ----------------------------------------------------------------------------------------------
def test_the_indexer_hears_which_jobs_are_looked_at(api: Api) -> None:
    """Where there is an indexer to ask, it learns of every job that is named."""
    heard: list[dict[str, object]] = []
    client = create_app(api.config, api.reader, ask=heard.append).test_client()
    for path in ("jobs/2/tags", "series?job=1&job=2", "points?job=5", "jobs", "series"):
        assert 200 == client.get(f"/api/v1/{path}").status_code
    assert [{"ask": "access", "jobs": jobs} for jobs in ([2], [1, 2], [5])] == heard
