"""Versions of all that matters in a bug report."""

from __future__ import annotations

from importlib import metadata

from indexer.version import __version__

_EXTRAS = {"postgres": ("psycopg",), "arrow": ("pyarrow",), "tensorboard": ("grpcio", "tensorboard")}
"""What each extra brings, as distributions."""


def everything() -> dict[str, object]:
    """Return versions of this program, Python, SQLite, the schema, what we stand on, and the extras (None: missing)."""
    import platform
    import sqlite3

    from indexer.version import REVISION

    needs = ("alembic", "click", "flask", "numba", "numpy", "protobuf", "sqlalchemy", "waitress", "watchdog")
    return {
        "summarydb": __version__,
        "schema": REVISION,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: _installed(name) for name in needs},
        "extras": {extra: {name: _installed(name) for name in names} for extra, names in _EXTRAS.items()},
    }


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
