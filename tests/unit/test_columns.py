"""What cells become as numpy columns, and columns as pandas, arrow, polars and HTML."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from indexer.errors import Refuse
from summarydb import columns, markup
from summarydb.columns import Table, column, table

CELLS: list[tuple[list[Any], str, list[Any]]] = [
    ([1, 2], "int64", [1, 2]),
    ([-(2**63), 2**63 - 1], "int64", [-(2**63), 2**63 - 1]),
    ([2**63], "object", [2**63]),
    ([1, None], "float64", [1.0, math.nan]),
    ([2**53 + 1, None], "object", [2**53 + 1, None]),  # a float would round it
    ([1.5, None, "NaN", "-Infinity", "Infinity"], "float64", [1.5, math.nan, math.nan, -math.inf, math.inf]),
    (["NaN", "Infinity"], "object", ["NaN", "Infinity"]),  # names, for all we know
    ([1.5, "a"], "object", [1.5, "a"]),
    ([True, False], "bool", [True, False]),
    ([True, None], "object", [True, None]),
    ([[1, 2], [3]], "object", [[1, 2], [3]]),
    ([None], "object", [None]),
    ([], "object", []),
]


@pytest.mark.parametrize(("cells", "dtype", "kept"), CELLS)
def test_a_column_is_the_narrowest_that_keeps_its_cells(cells: list[Any], dtype: str, kept: list[Any]) -> None:
    """Nothing is rounded, NULL among numbers is NaN, words of JSON are numbers beside numbers."""
    made = column(cells)
    assert dtype == str(made.dtype)
    assert repr(kept) == repr(made.tolist())


def test_a_column_of_numbers_may_be_empty() -> None:
    """Where it is known to hold floats it does, also without any."""
    assert ["float64"] * 3 == [str(column(cells, number=True).dtype) for cells in ([], [None], ["NaN"])]


def test_rows_may_lack_what_others_have() -> None:
    """What is missing is None, or NaN among numbers."""
    made = table([{"a": 1}, {"a": 2, "b": "x", "c": 0.5}])
    assert [{"a": 1, "b": None, "c": pytest.approx(math.nan, nan_ok=True)}, {"a": 2, "b": "x", "c": 0.5}] == list(
        made.rows()
    )


def test_other_libraries_take_any_cell() -> None:
    """Lists, objects and mixtures are JSON text for arrow and polars, texts and bytes themselves."""
    made = table([{"list": [1, b"\xff"], "mixed": 1, "text": "ž", "bytes": b"\xff"}, {"mixed": "a", "text": None}])
    expected = {"list": ['[1, "ff"]', None], "mixed": ["1", "a"], "text": ["ž", None], "bytes": [b"\xff", None]}
    assert expected == made.to_arrow().to_pydict()
    assert expected == made.to_polars().to_dict(as_series=False)
    assert [[1, b"\xff"], None] == made.to_pandas()["list"].tolist()


@pytest.mark.parametrize(
    ("method", "library"), [("to_pandas", "pandas"), ("to_arrow", "arrow"), ("to_polars", "polars")]
)
def test_a_missing_library_is_named(method: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr(columns, "find_spec", lambda _name: None)
    with pytest.raises(Refuse, match=rf"not installed: pip install .*{library}"):
        getattr(Table({}), method)()


def test_a_table_shows_its_first_rows() -> None:
    """A long one is cut, and says how long it is; a long cell too."""
    shown = Table({"n": np.arange(1_000), "text": columns.objects(["<b>" * 100] * 1_000)}, truncated=True)._repr_html_()
    assert columns.SHOWN_ROWS + 1 == shown.count("<tr>")
    assert "1,000 rows and more" in shown
    assert "<b>" not in shown
    assert "…" in shown


def test_a_long_curve_is_drawn_by_its_extremes() -> None:
    """A picture of a million points is small, and a single spike or gap in it is seen."""
    steps, values = np.arange(1_000_000), np.zeros(1_000_000)
    values[123_456], values[654_321] = 7.0, math.nan
    drawn = markup.curve(steps, values)
    assert len(drawn) < 20_000
    assert 2 == drawn.count("<polyline")
    assert ",0.0 " in drawn  # the top
    assert "" == markup.curve(steps[:2], np.array([math.nan, math.inf]))
    assert "" == markup.curve(steps[:2], np.array([-1.7e308, 1.7e308]))  # further apart than a float tells
