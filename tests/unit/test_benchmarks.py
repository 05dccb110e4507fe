"""The benchmarks' inputs and tables: what is measured must be what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import damage, generate, report
from benchmarks.generate import Shape
from benchmarks.report import Figure, Limit, Section
from indexer.decode.reader import Decoder
from indexer.types import Decoded, Format, ShardKind, Span

SHAPES = [
    Shape(runs=2, tags=3, points=150),  # steps of one and of two bytes
    Shape(tags=3, points=150, interleaved=False),
    Shape(tags=2, points=20, tensor=True),
    Shape(tags=3, points=150, format="mindspore"),
    Shape(tags=3, points=20, format="mindspore", interleaved=False),
]


def decoded(content: bytes, shape: Shape) -> tuple[Decoder, Decoded]:
    """Decode a file of `shape`."""
    decoder = Decoder()
    span = Span(job=1, kind=ShardKind.SUMMARY, format=Format(shape.format), start=0, stop=len(content), offset=0)
    return decoder, decoder.decode(content, [span])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_files_decode_to_the_truth(shape: Shape, tmp_path: Path) -> None:
    """Every generated file is free of damage and holds the values, steps and times that the truth is made of."""
    written = generate.write(shape, tmp_path / "runs")
    files = sorted((tmp_path / "runs").rglob("*.*"))
    assert shape.runs == len(files)
    assert written == sum(file.stat().st_size for file in files)
    total = 0.0
    for run, file in enumerate(files):
        decoder, found = decoded(file.read_bytes(), shape)
        assert [] == found.slices[0].damages
        assert [generate.tag_name(tag) for tag in range(shape.tags)] == [series.name for series in decoder.series]
        steps = np.arange(1, shape.points + 1)
        for tag in range(shape.tags):
            of_tag = found.series == tag
            assert np.array_equal(steps, found.step[of_tag])
            assert np.array_equal(generate.FIRST_TIME + run + steps / 4, found.wall_time[of_tag])
            assert np.array_equal(generate.values(shape, run)[:, tag].astype(np.float64), found.value[of_tag])
        total += float(found.value.sum())
    truth = generate.truth(shape)
    assert (shape.runs, shape.runs * shape.tags, shape.total) == (truth.runs, truth.series, truth.points)
    assert total == pytest.approx(truth.value_sum, rel=1e-12)


def test_files_interleave_or_not(tmp_path: Path) -> None:
    """Interleaved files go step after step, others tag after tag."""
    shape = Shape(tags=3, points=4)
    orders = {}
    for interleaved in (True, False):
        directory = tmp_path / str(interleaved)
        generate.write(replace(shape, interleaved=interleaved), directory)
        (file,) = directory.rglob("*.*")
        orders[interleaved] = decoded(file.read_bytes(), shape)[1].series.tolist()
    assert {True: [0, 1, 2] * 4, False: [0] * 4 + [1] * 4 + [2] * 4} == orders


@pytest.mark.parametrize("step", [1, 127, 128, 16_383, 16_384, 2_097_152])
def test_live_records_decode(step: int) -> None:
    """An appended record is good at every width of its step."""
    decoder, found = decoded(generate.record("loss", step, 5.5, 0.25), Shape())
    assert ["loss"] == [series.name for series in decoder.series]
    assert ([step], [5.5], [0.25]) == (found.step.tolist(), found.wall_time.tolist(), found.value.tolist())


def test_the_page_names_every_target_that_is_missed() -> None:
    """The page counts targets, lists those not reached, the scenarios that failed and those not run."""
    reached = Figure("ours / theirs", "x", [0.5, 0.6, 0.9], Limit(0.6))
    missed = Figure("theirs / ours", "x", [14.0], Limit(15.0, least=True))
    sections = [
        Section("first", "About the first.", [reached, Figure("time", "s", [1.0, 2.0])]),
        Section("second", "About the second.", [missed]),
        Section("third", "About the third.", error="ended with code 1\nlast lines"),
    ]
    text = report.page(sections, method="How.", left_out=["fourth"], options=" --runs 3", seconds=60)
    assert "1 of 2 targets measured here are reached. Not reached:" in text
    assert "- second: theirs / ours: 14.00 ×, target ≥ 15.00 ×" in text
    assert "| ours / theirs | 0.60 × | 0.50 × – 0.90 × | 3 | ≤ 0.60 × | reached |" in text
    assert "| theirs / ours | 14.00 × |  | 1 | ≥ 15.00 × | **not reached** |" in text
    assert "| time | 1.50 s | 1.00 s – 2.00 s | 2 |  |  |" in text
    assert "Failed: third." in text
    assert "Not run: fourth." in text
    assert 2 == text.count("| what | median |")


def test_percentiles_are_samples() -> None:
    """A percentile is the smallest sample that the given share does not exceed."""
    samples = list(range(200, 0, -1))
    assert (100, 198, 200) == tuple(report.percentile(samples, share) for share in (0.5, 0.99, 1.0))
    assert 7 == report.percentile([7], 0.99)


def test_damage_has_its_truth(tmp_path: Path) -> None:
    """Each damaged class is a run, with the good points that the truth counts; who died is said to have."""
    good = damage.copied(tmp_path)
    assert good.keys() == {run.name for run in tmp_path.iterdir()}
    assert (38, 0) == (good["flip-length"], good["random-bytes"])
    table = damage.table({"one": 3, "two": 4}, [("a", {"one": 3, "two": 0}), ("b", {"one": 2})])
    assert ["| one | 3 | 3 | 2 |", "| two | 4 | 0 | died |", "| all | 7 | 3 | 2 |"] == table.splitlines()[2:]
