"""Which points of a series a page gets: none that was superseded, as many as asked for, always the last."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from indexer.db.reader import Reader
from tests.support.engines import sent_by_the_indexer
from tests.support.following import index_once
from tests.support.records import tb_scalar, tb_session_start, tb_version
from tests.support.viewer import EVERYTHING, ask, provider, request
from webapi.dataprovider import sampling
from webapi.dataprovider.service import Service

Steps = list[int | str]
"""Steps of points in the order they are written; "start": a session start at the step before, "file": a new file."""


def left(steps: Sequence[int | str]) -> list[tuple[int, float]]:
    """Return step and value of the points that TensorBoard's server keeps; a point's value is its number."""
    kept: list[tuple[int, float]] = []
    for i, step in enumerate(steps):
        if isinstance(step, str):
            continue
        while kept and kept[-1][0] >= step:
            kept.pop()
        kept.append((step, float(i)))
    return kept


def write(directory: Path, steps: Sequence[int | str]) -> Path:
    """Write a run that holds the points."""
    directory.mkdir(parents=True)
    files = [[tb_version(1.0)]]
    last = 0
    for i, step in enumerate(steps):
        if step == "file":
            files.append([tb_version(1.0)])
        elif step == "start":
            files[-1].append(tb_session_start(last // 2, 2.0 + i))
        else:
            last = int(step)
            files[-1].append(tb_scalar("t", last, float(i), 2.0 + i))
    for number, records in enumerate(files):
        (directory / f"events.out.tfevents.{1000 + number}").write_bytes(b"".join(records))
    return directory


def random_steps(seed: int) -> Steps:
    """Return a long training that goes back now and then, in every way there is."""
    drawn = random.Random(seed)
    steps: Steps = []
    step = drawn.randrange(-50, 50)
    for _ in range(drawn.randrange(1200, 2500)):
        step += drawn.choice((1, 1, 1, 2, 5))
        steps.append(step)
        match drawn.randrange(400):
            case 0:
                step -= drawn.randrange(600)
            case 1:
                step -= drawn.randrange(600)
                steps.append("file")
            case 2:
                steps.append("start")
                step -= drawn.randrange(300)
            case 3 | 4 | 5:
                step -= drawn.choice((0, 1))
                steps.append(step)
    return steps


PROGRAMS: dict[str, Steps] = {
    "one": [7],
    "undisturbed": list(range(3000)),
    "resumed": [*range(2000), "file", *range(1500, 3000)],
    "resumed near its end": [*range(3000), "file", *range(2990, 3003)],
    "resumed at its beginning": [*range(3000), "file", *range(5)],
    "went back in one file": [*range(2000), *range(1000, 2500)],
    "each step twice": [step for step in range(1500) for _ in range(2)],
    "all at one step": [0] * 500,
    "started again": [*range(2000), "start", *range(1100, 2200)],
    "started again twice, nothing more": [*range(2000), "start", "start"],
    "downwards": [*range(1500, 0, -1)],
    **{f"random {seed}": random_steps(seed) for seed in range(8)},
}


def test_every_program_gives_the_points_that_count(engine: Engine, url: str, tmp_path: Path) -> None:
    """Whatever was superseded, however long a series is: k points that count, the last among them, the same again."""
    for name, steps in PROGRAMS.items():
        write(tmp_path / "runs" / name, steps)
    index_once(engine, tmp_path / "runs")
    with provider(url) as stub:
        whole = ask(stub, "ReadScalars", points=EVERYTHING)
        sampled = {k: ask(stub, "ReadScalars", points=k) for k in (0, 1, 2, 5, 10, 100, 1000)}
        listed = ask(stub, "ListScalars")
    with provider(url) as another:
        again = {k: ask(another, "ReadScalars", points=k) for k in sampled}
    assert sampled == again
    for name, steps in PROGRAMS.items():
        expected = left(steps)
        data = whole[name, "t"]
        assert expected == list(zip(data.step, data.value, strict=True)), name
        assert max(2.0 + value for _, value in expected) == listed[name, "t"].max_wall_time, name
        assert expected[-1][0] == listed[name, "t"].max_step, name
        for k, answers in sampled.items():
            found = list(zip(answers[name, "t"].step, answers[name, "t"].value, strict=True))
            assert min(k, len(expected)) == len(found), (name, k)
            assert found[-1:] == (expected[-1:] if k else []), (name, k)
            assert found == [point for point in expected if point in set(found)], (name, k)
            if name == "undisturbed" and k >= 5:  # where a bucket begins may be 64 points off
                assert max(np.diff([-1, *(step for step, _ in found)])) <= len(expected) / k + 2 * 64


@settings(deadline=None)
@given(st.lists(st.integers(-5, 5)))
def test_what_is_superseded_is_told_from_step_and_seq(steps: list[int]) -> None:
    """The rule on sorted columns says of any series what dropping point by point leaves."""
    seq = [0, *accumulate(b <= a for a, b in pairwise(steps))][: len(steps)]
    rows = sorted(zip(steps, seq, map(float, range(len(steps))), strict=True))
    columns = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2)
    valid = sampling.valid(columns[:, 0], columns[:, 1])
    assert left(steps) == [(row[0], row[2]) for row, kept in zip(rows, valid, strict=True) if kept]


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(1, 250))
def test_places_are_even_and_end_with_the_last(n: int, k: int) -> None:
    """Of n places min(n, k) are chosen, ascending, the last always, with gaps that differ by one at most."""
    places = sampling.evenly(n, k)
    gaps = np.diff([-1, *places])
    assert min(n, k) == len(places)
    assert n == 0 or (n - 1 == places[-1] and gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


@pytest.mark.parametrize("k", [3, 100])
def test_not_a_number_and_no_clock_survive(engine: Engine, url: str, tmp_path: Path, k: int) -> None:
    """NaN and infinities of values and clocks are what they were, in whatever way points are read."""
    odd = (math.nan, math.inf, -math.inf, 1.5)
    records = [tb_scalar("t", step, odd[step % 4], 5.0 if step else math.nan) for step in range(8)]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "events.out.tfevents.1").write_bytes(b"".join([tb_version(1.0), *records]))
    index_once(engine, tmp_path / "runs")
    with provider(url) as stub:
        data = ask(stub, "ReadScalars", points=k)[".", "t"]
    assert repr([odd[step % 4] for step in data.step]) == repr(list(data.value))
    assert repr([5.0 if step else math.nan for step in data.step]) == repr(list(data.wall_time))


def test_statements_do_not_grow_with_series(engine: Engine, url: str, tmp_path: Path) -> None:
    """Short series of any number are read by the same statements."""
    counts = []
    for runs in (2, 20):
        for i in range(runs):
            if not (tmp_path / "runs" / f"r{i}").exists():
                write(tmp_path / "runs" / f"r{i}", list(range(10)))
        index_once(engine, tmp_path / "runs")
        reader = Reader(url)
        service = Service(reader, location="", seconds=10)
        with sent_by_the_indexer() as sent:
            assert runs * 10 < len(service.read_scalars(request("ReadScalars", points=5).SerializeToString()))
            counts.append(len(sent))
            assert counts[-1]
            service.read_scalars(request("ReadScalars", points=5).SerializeToString())
            assert counts[-1] + 1 == len(sent), "what is known is not read again"
        reader.close()
    assert counts[0] == counts[1]
