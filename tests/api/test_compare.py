"""One tag over all jobs: numbers of current points, filters, order, pages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from indexer.config import Config
from indexer.db.engine import open_reader
from tests.api.conftest import Api
from tests.support.following import SMALL, index_once, make
from tests.support.postgres import as_role
from tests.support.records import (
    hparams_start,
    ms_train,
    tb_hparams,
    tb_image,
    tb_scalar,
    tb_session_start,
    tb_version,
)
from tests.support.records import png as picture
from tests.support.statements import statements
from webapi import compare

FILE = "events.out.tfevents.170000000{}.x"
LINEAGE_FILE = "events.out.events.summary.1700000000.0.x_lineage"
LONG = [math.sin(step / 50) + (5 if step == 777 else -7 if step == 1500 else 0) for step in range(3_000)]


def numbers(tag: str, values: list[float], first: int = 0) -> bytes:
    """Return records of a tag."""
    return b"".join(tb_scalar(tag, first + n, value, 100.0 + n) for n, value in enumerate(values))


def trees() -> dict[str, bytes]:
    """Return runs with the tag loss: short, long, empty of numbers, not finite, gone back to an earlier step."""
    start = tb_version(1.0)
    return {
        f"short/{FILE.format(0)}": start
        + tb_hparams("session_start_info", hparams_start({"lr": 0.5, "points": 9.0}, group="g", start=5.0))
        + numbers("loss", [3.0, 1.0, 2.0]),
        f"long/{FILE.format(0)}": start + numbers("loss", LONG),
        f"long/{LINEAGE_FILE}": ms_train(0.25, "SGD"),
        f"odd/{FILE.format(0)}": start + numbers("loss", [math.inf, 0.5, -math.inf, math.nan]),
        f"nan/{FILE.format(0)}": start + numbers("loss", [math.nan]),
        # A second file overtakes what held the extremes.
        f"back/{FILE.format(0)}": start + numbers("loss", [4.0, 5.0, -50.0, 50.0]),
        f"back/{FILE.format(1)}": start + numbers("loss", [6.0, 4.5], first=2),
        # A session that starts anew and writes nothing yet.
        f"anew/{FILE.format(0)}": start + numbers("loss", [9.0, 8.0, -9.0]) + tb_session_start(2, 200.0),
        # As long, so that rollups tell.
        f"again/{FILE.format(0)}": start + numbers("loss", [*LONG, -99.0, 99.0]),
        f"again/{FILE.format(1)}": start + numbers("loss", [0.25] * 3, first=3_000),
        # The same step twice within a file overtakes nothing.
        f"twice/{FILE.format(0)}": start + numbers("loss", [1.0, 7.0]) + numbers("loss", [0.75], first=0),
        f"other/{FILE.format(0)}": start + numbers("accuracy", [0.5]) + tb_image("loss", 1, picture(1, 1), 1.0),
    }


EXPECTED: dict[str, list[float | None]] = {  # points; value and step of the last, smallest, largest
    "./short": [3, 2.0, 2, 1.0, 1, 3.0, 0],
    "./long": [3_000, LONG[-1], 2_999, LONG[1500], 1500, LONG[777], 777],
    "./odd": [4, math.nan, 3, 0.5, 1, 0.5, 1],
    "./nan": [1, math.nan, 0, None, None, None, None],
    "./back": [4, 4.5, 3, 4.0, 0, 6.0, 2],
    "./anew": [2, 8.0, 1, 8.0, 1, 9.0, 0],
    "./again": [3_003, 0.25, 3_002, LONG[1500], 1500, LONG[777], 777],
    "./twice": [3, 7.0, 1, 0.75, 0, 7.0, 1],
}


@pytest.fixture
def api(engine: Engine, url: str, tmp_path: Any) -> Iterator[Api]:
    """The API over these runs."""
    outcome = index_once(engine, make(tmp_path / "runs", trees()), config=SMALL)
    assert outcome.bad_records == 0
    reader = open_reader(as_role(url))
    yield Api.over(Config(url=as_role(url), query_seconds=5.0), reader)
    reader.dispose()


def single(value: float | None) -> object:
    """Return a value as the file holds it: 32 bits."""
    return None if value is None else pytest.approx(value, rel=1e-6, nan_ok=True)


def value_of(shown: object) -> object:
    """Return a value of the answer as a float."""
    return float(shown) if isinstance(shown, str) else shown


def named(items: list[dict[str, Any]]) -> list[str]:
    """Return whose items these are."""
    return [item["train_id"].removeprefix("./") for item in items]


def test_numbers_are_of_current_points(api: Api) -> None:
    """Last, smallest and largest with their steps, whatever was overtaken; not finite ones are no extremes."""
    items = {item["train_id"]: item for item in api.get("/compare", {"tag": "loss"})["items"]}
    assert set(EXPECTED) == set(items)
    fields = ("points", "last_value", "last_step", "min_value", "min_step", "max_value", "max_step")
    for job, expected in EXPECTED.items():
        found = [value_of(items[job][field]) for field in fields]
        assert [single(value) for value in expected] == found, job
        assert items[job]["best_step"] == items[job]["min_step"]
    best = api.get("/compare", {"tag": "loss", "best": "max", "job": "./short"})["items"][0]
    assert (3.0, 0, 100.0) == tuple(best[f"best_{name}"] for name in ("value", "step", "wall_time"))


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("min", ["long", "again", "odd", "twice", "short", "back", "anew", "nan"]),
        ("-max", ["anew", "twice", "back", "long", "again", "short", "odd", "nan"]),
        ("-best", ["anew", "back", "short", "twice", "odd", "again", "long", "nan"]),
        ("last", ["again", "long", "short", "back", "twice", "anew", "nan", "odd"]),
        ("-points", ["again", "long"]),
        ("train_id", sorted(name.removeprefix("./") for name in EXPECTED)),
        ("lr", ["short"]),
        ("learning_rate", ["long"]),
        ("hparam/points", ["short"]),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_follow_the_order(api: Api, sort: str, expected: list[str], limit: int) -> None:
    """By the numbers that are shown, by what is known of the job, without it last; no job twice."""
    found = api.pages("/compare", {"tag": "loss", "sort": sort, "limit": limit})
    if sort == "last":  # sine: what is smaller is a matter of the last digits
        found = [item for item in found if item["train_id"] not in {"./again", "./long", "./nan", "./odd"}]
        expected = ["short", "back", "twice", "anew"]
    names = named(found)
    if sort.lstrip("-") in {"min", "best", "max"}:  # two have the same numbers
        names = [name.replace("again", "long") for name in names]
        expected = [name.replace("again", "long") for name in expected]
    assert expected == names[: len(expected)]
    assert len(found) == len(set(map(str, found)))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["min:lt:0"], "again long"),
        (["max:ge:7"], "anew twice"),
        (["last:eq:4.5"], "back"),
        (["best:gt:3.5"], "anew back"),
        (["points:le:3", "min:ge:1"], "anew short"),
        (["lr:eq:0.5"], "short"),
        (["learning_rate:lt:1", "optimizer:eq:SGD"], "long"),
        (["learning_rate:ne:0.25", "min:lt:0"], "again"),
        (["nothing:eq:1"], ""),
    ],
)
def test_conditions_choose(api: Api, where: list[str], expected: str) -> None:
    """Numbers of the tag, hyperparameters and lineage, alone and together; nobody meets them is an empty list."""
    found = api.get("/compare", [("tag", "loss"), *(("where", one) for one in where)])
    assert expected == " ".join(sorted(named(found["items"])))


def test_jobs_and_plugins_choose(api: Api) -> None:
    """Only what is named; only series of numbers."""
    assert ["back", "short"] == sorted(
        named(api.get("/compare", [("tag", "loss"), ("job", "./short"), ("job", "./back")])["items"])
    )
    assert 8 == len(api.get("/compare", {"tag": "loss", "plugin": "scalars"})["items"])
    assert [] == api.get("/compare", {"tag": "loss", "plugin": "images"})["items"]
    assert ["other"] == named(api.get("/compare", {"tag": "accuracy"})["items"])


@pytest.mark.parametrize(
    ("wanted", "status", "parameter"),
    [
        ({}, 400, "tag"),
        ({"tag": "none"}, 404, "tag"),
        ({"tag": "loss", "job": "./none"}, 404, "job"),
        ({"tag": "loss", "best": "good"}, 400, "best"),
        ({"tag": "loss", "where": "min"}, 400, "where"),
        ({"tag": "loss", "where": "min:lt:low"}, 400, "where"),
        ({"tag": "loss", "sort": "-"}, 400, "sort"),
        ({"tag": "loss", "limit": 0}, 400, "limit"),
        ({"tag": "loss", "after": "x"}, 400, "after"),
        ({"tag": "x" * 32_769}, 400, "tag"),
    ],
)
def test_what_is_malformed_is_named(api: Api, wanted: dict[str, object], status: int, parameter: str) -> None:
    """A problem names its parameter."""
    assert parameter == api.get("/compare", wanted, status=status)["parameter"]


def test_a_cursor_belongs_to_its_order(api: Api) -> None:
    """What is best is part of the order, too."""
    following = api.get("/compare", {"tag": "loss", "sort": "best", "limit": 1})["next"]
    for other in ({"sort": "min"}, {"sort": "best", "best": "max"}):
        assert "after" == api.get("/compare", {"tag": "loss", "after": following, **other}, status=400)["parameter"]


def test_statements_do_not_grow_with_short_jobs(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short series are read together, and nothing is read of points where rollups tell."""
    with statements(api.reader) as few:
        api.get("/compare", [("tag", "loss"), ("job", "./short")])
    with statements(api.reader) as many:
        api.get("/compare", [("tag", "loss"), *(("job", f"./{name}") for name in ("short", "odd", "nan", "twice"))])
    assert len(few) + 2 >= len(many)
    assert compare.READ_WHOLE < len(LONG)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(max_size=8), value=st.text(max_size=8), operator=st.sampled_from(["eq", "ne", "in"]))
def test_no_key_and_no_value_is_a_defect(api: Api, key: str, value: str, operator: str) -> None:
    """Whatever is asked for, the answer is documented and no 5xx."""
    query = {"tag": "loss", "where": f"{key}:{operator}:{value}", "sort": f"-{key}"}
    assert api.request("/api/v1/compare", query_string=query).status_code in {200, 400}
