"""What people import and run: `connect` reads, `up` indexes and serves from a notebook; the command line beside them.

Both are imported when they are first asked for, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.version import __version__ as __version__

_PLACES = {"connect": "summarydb.client", "up": "summarydb.notebook"}

if TYPE_CHECKING:  # type checkers see what there is, and miss what there is not
    from summarydb.client import connect as connect
    from summarydb.notebook import up as up
else:

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module 'summarydb' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
