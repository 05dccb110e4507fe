"""A table of named numpy columns, as the client hands out rows; pandas, arrow and polars take it as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from indexer.errors import Refuse
from summarydb import markup

if TYPE_CHECKING:  # none of them is needed
    import pandas
    import polars
    import pyarrow

Column = npt.NDArray[Any]

WORDS = frozenset({"NaN", "Infinity", "-Infinity"})
"""What numbers that are not finite are in JSON."""
EXACT = 2**53
"""Up to here a float holds every integer."""
SHOWN_ROWS = 20
"""Of a table in a notebook."""
INSTALL = {"pandas": "pandas", "pyarrow": "'summarydb[arrow]'", "polars": "polars"}


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of the same length. `truncated`: there are more rows than the limit let through."""

    data: Mapping[str, Column]
    truncated: bool = False

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in their order."""
        return list(self.data)

    def __len__(self) -> int:
        return len(next(iter(self.data.values()), ()))

    def __getitem__(self, name: str) -> Column:
        """Return a column: int64, float64 (NULL is NaN), bool, or objects with None for NULL. KeyError names those."""
        if name not in self.data:
            raise KeyError(f"no column {name!r}: there are {', '.join(self.data)}")
        return self.data[name]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a dict a row, of Python's own types."""
        names = self.columns
        for row in zip(*(cells.tolist() for cells in self.data.values()), strict=True):
            yield dict(zip(names, row, strict=True))

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame of pandas."""
        require("pandas")
        import pandas as pd

        return pd.DataFrame(dict(self.data))

    def to_arrow(self) -> pyarrow.Table:
        """Return a Table of pyarrow. What is neither number nor text is JSON text."""
        require("pyarrow")
        import pyarrow as pa

        return pa.table({name: pa.array(plain(cells)) for name, cells in self.data.items()})

    def to_polars(self) -> polars.DataFrame:
        """Return a DataFrame of polars. What is neither number nor text is JSON text."""
        require("polars")
        import polars as pl

        return pl.DataFrame({name: plain(cells) for name, cells in self.data.items()})

    def __repr__(self) -> str:
        more = ", truncated" if self.truncated else ""
        return f"<Table of {len(self):,} rows{more}: {', '.join(self.data)}>"

    def _repr_html_(self) -> str:
        head = [cells[:SHOWN_ROWS].tolist() for cells in self.data.values()]
        note = f"{len(self):,} rows" + (" and more" if self.truncated else "")
        return markup.table(self.columns, list(zip(*head, strict=True)), note)


def table(rows: Sequence[Mapping[str, Any]], *, numbers: Sequence[str] = (), truncated: bool = False) -> Table:
    """Return rows as a table; what a row lacks is None. `numbers`: columns that hold floats also where all are NULL."""
    names = dict.fromkeys(name for row in rows for name in row)
    data = {name: column([row.get(name) for row in rows], number=name in numbers) for name in names}
    return Table(data, truncated)


def column(cells: Sequence[Any], *, number: bool = False) -> Column:
    """Return cells as an array of the narrowest type that keeps them.

    Integers alone are int64; numbers with NULL, floats and the words of JSON for what is not finite are float64, where
    no integer would be rounded; truth values are bool; all else stays Python's objects.
    """
    kinds = {type(cell) for cell in cells}
    if kinds == {bool}:
        return np.array(cells, bool)
    if kinds == {int} and not number and all(-(2**63) <= cell < 2**63 for cell in cells):
        return np.array(cells, np.int64)
    numeric = number or bool(kinds & {int, float})
    if numeric and kinds <= {int, float, type(None), str}:
        texts = {cell for cell in cells if isinstance(cell, str)}
        if texts <= WORDS and (int not in kinds or all(abs(cell) <= EXACT for cell in cells if isinstance(cell, int))):
            return floats(cells)
    return objects(cells)


def floats(cells: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Return numbers, None and the words of JSON as float64; None is NaN."""
    return np.array([np.nan if cell is None else float(cell) for cell in cells], np.float64)


def objects(cells: Sequence[Any]) -> Column:
    """Return cells as they are; numpy would look into lists."""
    made = np.empty(len(cells), object)
    for place, cell in enumerate(cells):
        made[place] = cell
    return made


def plain(cells: Column) -> Any:
    """Return a column as arrow and polars take it: an array of numbers, or a list of texts, of bytes, or of JSON."""
    if cells.dtype != object:
        return cells
    listed = cells.tolist()
    for kind in (str, bytes):
        if all(cell is None or isinstance(cell, kind) for cell in listed):
            return listed
    return [None if cell is None else cell if isinstance(cell, str) else _json(cell) for cell in listed]


def _json(cell: Any) -> str:
    return json.dumps(cell, ensure_ascii=False, default=_text)


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def require(library: str) -> None:
    """Refuse where an optional library is not installed, with the command that installs it."""
    if find_spec(library) is None:
        raise Refuse(f"this needs {library}, which is not installed: pip install {INSTALL[library]}")
