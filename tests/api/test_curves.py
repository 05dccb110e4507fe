"""Charts from rollups and raw rows against plain Python over all points of the table."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, insert

from indexer.db import bulk, rollups
from indexer.db.engine import open_reader, read_only
from indexer.db.rollups import Rolled
from indexer.db.schema import METADATA
from tests.support import series
from tests.support.series import Point, Writer
from webapi import curves
from webapi.curves import Curve

LENGTH = 700
KINDS = ("plain", "mixed", "infinite", "nothing", "short", "repeated", "restarted")
SMALL: dict[str, Any] = {"BUCKET": 4, "FAN": 2}  # so that short series have many levels


@dataclass(frozen=True)
class Tag:
    """A row of `tags`, as far as curves look at it."""

    id: int
    rolled_count: int


def _write(kind: str, tag_id: int) -> Writer:
    random.seed(tag_id)
    writer = Writer(tag_id)
    step = -LENGTH
    for i in range(LENGTH if kind != "short" else 30):
        value = math.sin(i / 20) + random.random() / 5
        step += random.choice([1, 1, 1, 7])
        if kind == "nothing" or (kind in {"mixed", "restarted"} and i % 5 == 0) or (kind == "mixed" and i < 40):
            value = math.nan
        if (kind == "infinite" and i % 3) or (kind == "mixed" and 300 < i < 380):
            value = random.choice([math.inf, -math.inf])
        if kind == "repeated" and i % 50 == 49:
            step -= random.choice([7, 60, 300])
        if kind == "restarted" and i in {250, 400, 600}:
            step -= 200
        if kind == "restarted" and i == 500:
            writer.start(step - 90)
            step -= 80
        writer.add(step, 1.7e9 + i, value, "same_file" if kind == "repeated" else "new_file")
    return writer


@pytest.fixture
def tags(engine: Engine) -> dict[str, Tag]:
    """A database with one tag of each kind, rolled up into small buckets."""
    ids = {kind: i for i, kind in enumerate(KINDS, 1)}
    with engine.begin() as conn:
        series.add_tags(conn, ids.values())
    found: dict[str, Tag] = {}
    for kind, tag_id in ids.items():
        writer = _write(kind, tag_id)
        rows, restarts, reset = writer.take()
        with (
            mock.patch.multiple(rollups, **SMALL, LONG=100),
            bulk.load(engine, series.rows_of(rows)) as conn,
        ):
            if restarts:
                conn.execute(insert(METADATA.tables["restarts"]), restarts)
            batch = Rolled(tag_id, writer.count, reset_step=reset)
            [rolled] = rollups.fold(conn, [batch], series.rows_of(rows))
        found[kind] = Tag(tag_id, rolled.rolled_count)
    return found


@pytest.fixture
def reading(url: str, tags: dict[str, Tag]) -> Iterator[Connection]:
    """A transaction as the web reads in."""
    engine = open_reader(url)
    with read_only(engine, seconds=600) as conn:
        yield conn
    engine.dispose()


def _points(curve: Curve) -> list[tuple[int, float | None, float | None]]:
    return list(zip(curve.step, curve.wall_time, curve.value, strict=True))


def _shown(points: list[Point]) -> list[tuple[int, float | None, float | None]]:
    return [(step, wall_time, value) for step, _, wall_time, value in points]


def _check(curve: Curve, points: list[Point], max_points: int) -> None:
    """Compare a curve with all points of its range."""
    found, everything = _points(curve), _shown(points)
    assert len(everything) == curve.total
    assert (len(everything) > max_points) == curve.downsampled
    if not curve.downsampled:
        assert everything == found
        return
    assert len(found) <= max_points
    places = [everything.index(point) for point in found]  # ValueError: not a stored one; wall_time makes them unique
    assert sorted(set(places)) == places
    assert everything[-1] == found[-1]
    if max_points >= 2:
        assert everything[0] == found[0]
    finite = [p[2] for p in everything if p[2] is not None and math.isfinite(p[2])]
    values = [p[2] for p in found]
    if finite and max_points >= 3:
        assert max(finite) in values
    if finite and max_points >= 4:
        assert min(finite) in values


steps = st.one_of(st.none(), st.integers(-LENGTH - 20, LENGTH * 3), st.sampled_from([-(2**63), 2**63 - 1]))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    max_points=st.one_of(st.integers(1, 12), st.integers(1, LENGTH + 10)),
    low=steps,
    high=steps,
    restarts=st.booleans(),
    page=st.sampled_from([7, 20_000]),
)
def test_a_curve_keeps_first_last_and_extremes(
    reading: Connection,
    tags: dict[str, Tag],
    kind: str,
    max_points: int,
    low: int | None,
    high: int | None,
    restarts: bool,
    page: int,
) -> None:
    """Any range of any series at any length: stored points only, in order, with the first, the last and extremes."""
    tag = tags[kind]
    points = series.stored(reading, tag.id) if restarts else series.current(reading, tag.id)
    chosen = [p for p in points if (low is None or p[0] >= low) and (high is None or p[0] <= high)]
    with mock.patch.multiple(curves, **SMALL, RAW_FACTOR=1, PAGE_POINTS=page):
        found = curves.curve(reading, tag, max_points=max_points, from_step=low, to_step=high, restarts=restarts)
    _check(found, chosen, max_points)


def test_a_curve_is_as_long_as_was_asked_for(reading: Connection, tags: dict[str, Tag]) -> None:
    """A thinned curve of a lively series has at least half of the points asked for."""
    for max_points in (10, 40, 100):
        with mock.patch.multiple(curves, **SMALL, RAW_FACTOR=4):
            curve = curves.curve(reading, tags["plain"], max_points=max_points)
        assert max_points / 2 <= len(curve.step) <= max_points


def test_spikes_stay_in_every_part_of_a_curve(reading: Connection, tags: dict[str, Tag]) -> None:
    """Each sixth of a curve of 100 points shows the true lowest and highest value of that sixth, within a group."""
    with mock.patch.multiple(curves, **SMALL, RAW_FACTOR=4):
        curve = curves.curve(reading, tags["plain"], max_points=100)
    points = series.current(reading, tags["plain"].id)
    for i in range(0, len(points) - 116, 116):
        part = [p for p in points[i : i + 116] if p[3] is not None]
        top = max(part, key=lambda p: p[3] or 0.0)
        near = [value for step, value in zip(curve.step, curve.value, strict=True) if abs(step - top[0]) < 60]
        assert top[3] is not None
        assert max(value or -9.0 for value in near) >= top[3]


def test_no_points_at_all_is_refused(reading: Connection, tags: dict[str, Tag]) -> None:
    """A curve of nothing is a mistake of the caller."""
    with pytest.raises(ValueError, match="at least 1"):
        curves.curve(reading, tags["plain"], max_points=0)


@pytest.mark.parametrize("restarts", [False, True])
def test_pages_of_points_are_the_series(reading: Connection, tags: dict[str, Tag], restarts: bool) -> None:
    """Reading page by page behind the last point gives every point of the range once."""
    tag = tags["restarted"]
    points = series.stored(reading, tag.id) if restarts else series.current(reading, tag.id)
    found: list[Point] = []
    while page := curves.points(
        reading, tag.id, after=found[-1][:2] if found else None, limit=33, from_step=-600, restarts=restarts
    ):
        found += page
    assert [p for p in points if p[0] >= -600] == found


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(low=st.integers(-LENGTH - 5, LENGTH * 2), length=st.integers(0, LENGTH * 3), kind=st.sampled_from(KINDS))
def test_a_range_uses_every_bucket_that_fits(
    reading: Connection, tags: dict[str, Tag], low: int, length: int, kind: str
) -> None:
    """Raw rows are read only where the range cuts a bucket: fewer than a bucket at each end."""
    tag = tags[kind]
    query = f"SELECT ordinal, first_step, last_step FROM point_rollups WHERE tag_id = {tag.id} AND level = 0"
    buckets = reading.exec_driver_sql(query + " ORDER BY 1").all()
    inside = [at for at, first, last in buckets if low <= first and last <= low + length]
    with mock.patch.multiple(curves, **SMALL):
        span = curves._Span(reading, tag.id, low, low + length, False)
        found = span.whole_buckets(tag.rolled_count // SMALL["BUCKET"])
    assert (inside and (inside[0], inside[-1] + 1)) == (found[:2] if found else [])


def test_a_curve_takes_few_statements(reading: Connection, tags: dict[str, Tag]) -> None:
    """A chart takes a bounded number of statements: a few a level of buckets, none a point."""
    sent: list[str] = []
    event.listen(reading.engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    with mock.patch.multiple(curves, **SMALL, RAW_FACTOR=4):
        for max_points in (5, 20, 80):
            sent.clear()
            curves.curve(reading, tags["plain"], max_points=max_points)
            assert 4 <= len(sent) <= 12
