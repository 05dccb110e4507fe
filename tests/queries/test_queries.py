"""The ready queries of docs/queries.md: each runs on SQLite, PostgreSQL and DuckDB, and its answer is known."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import summarydb
from tests.queries.conftest import ONSET, curve
from tests.support.program import CHECKOUT

PAGE = (CHECKOUT / "docs" / "queries.md").read_text(encoding="utf-8")
QUERIES = dict(re.findall(r"^### ([^\n]+)\n\n(?:(?!```|#)[^\n]*\n)*```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
"""Title to query."""
(PRELUDE,) = re.findall(r"^```duckdb\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]
ALL = ("./lenet", "./resnet/lr=0.1", "./resnet/lr=0.01")


@pytest.fixture
def ask(engine_name: str, sample_url: str) -> Iterator[Ask]:
    """What runs a query: the client, or DuckDB over the SQLite file."""
    if engine_name != "duckdb":
        with summarydb.connect(sample_url) as db:
            yield lambda query: list(zip(*(cells.tolist() for cells in db.sql(query).data.values()), strict=True))
        return
    if find_spec("duckdb_extension_sqlite_scanner") is None:
        pytest.skip("no wheel of DuckDB's extension for this platform")
    import duckdb
    import duckdb_extension_sqlite_scanner

    (extension,) = Path(duckdb_extension_sqlite_scanner.__file__).parent.rglob("*.duckdb_extension")
    conn = duckdb.connect()
    try:
        conn.load_extension(str(extension))
        conn.execute(PRELUDE.replace("LOAD sqlite;", "").replace("summarydb.db", sample_url.removeprefix("sqlite:///")))
        yield lambda query: conn.execute(query).fetchall()
    finally:
        conn.close()


def values(job: str, tag: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the values of a curve, by step."""
    return np.array(list(curve(job, tag).values()))


def best_by_metric() -> Rows:
    """The highest accuracy of each run, at the first of equal steps."""
    found = [(job, max(c, key=lambda step: c[step])) for job in ALL if (c := curve(job, "val/accuracy"))]
    return sorted(((job, step, curve(job, "val/accuracy")[step]) for job, step in found), key=lambda row: -row[2])


def best_by_last() -> Rows:
    """The last loss of each run."""
    return sorted(((job, 300, curve(job, "val/loss")[300]) for job in ALL), key=lambda row: row[2])


def by_hyperparameter() -> Rows:
    """The lowest loss at each learning rate that is known."""
    return [
        (0.1, 1, values("./resnet/lr=0.1", "train/loss").min()),
        (10.0, 1, float(np.nanmin(values("./diverged", "train/loss")))),
    ]


def steps_until() -> Rows:
    """The first step with half of the answers right."""
    found = [(job, [step for step, value in curve(job, "val/accuracy").items() if value >= 0.5]) for job in ALL]
    return sorted(((job, steps[0]) for job, steps in found if steps), key=lambda row: row[1])


def equal_steps() -> Rows:
    """Both losses and what lies between."""
    one, two = curve("./lenet", "train/loss"), curve("./resnet/lr=0.1", "train/loss")
    return [(step, one[step], two[step], one[step] - two[step]) for step in one]


def other_steps() -> Rows:
    """Each loss beside the last validation up to there."""
    one, two = curve("./lenet", "train/loss"), curve("./resnet/lr=0.1", "val/loss")
    return [(step, one[step], two[step // 20 * 20]) for step in one if step >= 20]


def moving_average() -> Rows:
    """The mean of each value and up to 19 before it."""
    found = values("./lenet", "train/loss")
    return [(n + 1, value, found[max(0, n - 19) : n + 1].mean()) for n, value in enumerate(found)]


def exponential() -> Rows:
    """TensorBoard's smoothing: mean = mean * w + value * (1 - w), over 1 - w^n."""
    rows, mean = [], 0.0
    for n, (step, value) in enumerate(curve("./lenet", "val/loss").items(), start=1):
        mean = mean * 0.6 + value * 0.4
        rows.append((step, value, mean / (1 - 0.6**n)))
    return rows


def slope() -> Rows:
    """Numpy's straight line through the last 100 numbers of each run."""
    rows = []
    for job in (*ALL, "./diverged"):
        finite = [(step, value) for step, value in curve(job, "train/loss").items() if not math.isnan(value)][-100:]
        steps, numbers = np.array(finite).T
        rows.append((job, float(np.polyfit(steps, numbers, 1)[0])))
    return sorted(rows, key=lambda row: row[1])


def nan_onset() -> Rows:
    """Where the run that fails does, and what it was before."""
    return [("./diverged", "train/loss", ONSET, ONSET - 1, curve("./diverged", "train/loss")[ONSET - 1])]


def time_per_step() -> Rows:
    """A step and a half a second in the samples; the run that fails paused for a minute."""
    return [("./diverged", (149 * 0.5 + 60) / 149), *((job, 1.5) for job in sorted(ALL))]


def pauses() -> Rows:
    """The minute."""
    return [("./diverged", 101, 60.5)]


def silent() -> Rows:
    """Behind the newest point, which is that of the run that fails."""
    last = 1_760_010_000 + 75 + 60.0
    heard = {
        job: 1_760_000_450.0 + 3600 * n for n, job in enumerate(("./lenet", "./resnet/lr=0.1", "./resnet/lr=0.01"))
    }
    return [*((job, time, last - time) for job, time in heard.items()), ("./diverged", last, 0.0)]


ANSWERS = {
    "Best run by a metric": best_by_metric,
    "Best run by its last value": best_by_last,
    "Best value by hyperparameter": by_hyperparameter,
    "Steps until a value is reached": steps_until,
    "Two runs at equal steps": equal_steps,
    "Two runs where steps differ": other_steps,
    "Moving average": moving_average,
    "Exponential smoothing": exponential,
    "Slope": slope,
    "Where NaN begins": nan_onset,
    "Time per step": time_per_step,
    "Pauses": pauses,
    "Runs that are silent": silent,
}


def test_every_query_has_a_known_answer() -> None:
    """A query that is added to the page is added here."""
    assert set(ANSWERS) == set(QUERIES)
    assert len(re.findall("^```sql$", PAGE, re.MULTILINE)) == len(QUERIES)


@pytest.mark.parametrize("title", ANSWERS)
def test_a_query_answers_what_the_files_say(title: str, ask: Ask) -> None:
    """The rows are those computed from what was written, in their order, up to rounding."""
    expected, actual = ANSWERS[title](), ask(QUERIES[title])
    if title == "Time per step":  # equal ones in any order
        actual.sort(key=lambda row: (round(row[1], 6), row[0]))
    assert len(expected) == len(actual)
    for wanted, row in zip(expected, actual, strict=True):
        assert [cell for cell in wanted if isinstance(cell, str)] == [cell for cell in row if isinstance(cell, str)]
        numbers = [[cell for cell in cells if not isinstance(cell, str)] for cells in (wanted, row)]
        np.testing.assert_allclose(numbers[1], numbers[0], rtol=1e-9, atol=1e-12)
