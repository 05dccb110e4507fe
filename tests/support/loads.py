"""Runs of several batches each, and the tables that they come to when nothing fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from indexer.db import migrate
from indexer.db.connection import Database
from indexer.db.engine import open_engine
from tests.support.following import SMALL, index_once, make
from tests.support.records import tb_scalar, tb_version
from tests.support.tables import Tables, dump

FILE = "events.out.tfevents.1700000000.x"
POINTS = 1_500
CONFIG = replace(SMALL, batch_points=200, slice_bytes=4096)


def runs(root: Path, points: int = POINTS, jobs: str = "abc") -> Path:
    """Write runs, each named by one letter."""
    for job in jobs:
        content = [tb_version(1.7e9), *(tb_scalar("loss", step, step / 4, 1.7e9 + step) for step in range(points))]
        make(root, {f"{job}/{FILE}": b"".join(content)})
    return root


def calm(url: str, root: Path) -> Tables:
    """Return the tables of a run in which nothing fails; `url` is of a database without tables."""
    database = Database(url)
    migrate.upgrade(database)
    database.dispose()
    engine = open_engine(url)
    try:
        index_once(engine, root, config=CONFIG)
        return dump(engine)
    finally:
        engine.dispose()
