"""What the data provider's clients are told beside the errors of all of the web."""

from __future__ import annotations

from indexer.errors import Report


class TooLarge(Report):
    """An answer would be larger than TensorBoard takes: ask for less."""
