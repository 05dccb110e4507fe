"""A curve: steps, times and values as numpy arrays, by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from summarydb import markup
from summarydb.columns import Table

if TYPE_CHECKING:  # none of them is needed
    import pandas
    import polars
    import pyarrow

_LAST_SECOND = 253402300799.0
"""Of the year 9999: behind it there are no timestamps."""


@dataclass(frozen=True, eq=False)
class Series:
    """Points of a tag of a job, by step; of equal steps in the order they were written.

    step: int64.  wall_time: float64, seconds since the epoch.  value: float64, NaN and infinities as they were.
    total: points of the range before thinning; `downsampled` tells whether it was thinned.
    """

    job: int
    train_id: str
    tag: str
    plugin: str
    step: npt.NDArray[np.int64]
    wall_time: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    total: int
    downsampled: bool

    def __len__(self) -> int:
        return len(self.step)

    @property
    def time(self) -> npt.NDArray[np.datetime64]:
        """Times as numpy's timestamps, UTC, in microseconds; NaT where there is none."""
        known = np.abs(self.wall_time) <= _LAST_SECOND  # false for NaN
        micros = np.round(np.where(known, self.wall_time, 0.0) * 1e6).astype("int64").astype("datetime64[us]")
        return np.where(known, micros, np.datetime64("NaT", "us"))

    @property
    def table(self) -> Table:
        """The columns step, wall_time, value."""
        return Table({"step": self.step, "wall_time": self.wall_time, "value": self.value})

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame of pandas: step, wall_time, value."""
        return self.table.to_pandas()

    def to_arrow(self) -> pyarrow.Table:
        """Return a Table of pyarrow: step, wall_time, value."""
        return self.table.to_arrow()

    def to_polars(self) -> polars.DataFrame:
        """Return a DataFrame of polars: step, wall_time, value."""
        return self.table.to_polars()

    def __repr__(self) -> str:
        return f"<Series {self.tag!r} of {self.train_id!r}: {len(self):,} of {self.total:,} points>"

    def _repr_html_(self) -> str:
        finite = self.value[np.isfinite(self.value)]
        pairs: list[tuple[str, object]] = [("points", f"{len(self):,} of {self.total:,}")]
        if len(self):
            pairs += [("steps", f"{self.step[0]} to {self.step[-1]}"), ("last", float(self.value[-1]))]
        if len(finite):
            pairs += [("smallest", float(finite.min())), ("largest", float(finite.max()))]
        if lost := len(self) - len(finite):
            pairs.append(("not finite", lost))
        return markup.facts(f"{self.train_id} · {self.tag}", pairs) + markup.curve(self.step, self.value)
