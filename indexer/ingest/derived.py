"""What payloads and explain records say of a job, made again by the same rules and compared with the tables.

The rules are the indexer's own: what is found is rows that are not what they make of the records now, whoever changed
them, or the records.
"""

from __future__ import annotations

from collections.abc import Sequence

from indexer.db import facts, rows
from indexer.db.connection import Connection
from indexer.db.rows import Shape
from indexer.db.schema import METADATA
from indexer.db.scratch import Scratch
from indexer.db.stored import ShardRow
from indexer.findings import Findings, Place
from indexer.ingest import explain
from indexer.ingest.logdir import load_order
from indexer.plugins import hparams
from indexer.types import ExplainRecord

_OF_FILE = tuple(  # a manifest may have been written since; which file is the latest only all files tell
    Shape(table, frozenset({"manifest", "latest"}))
    for name, table in METADATA.tables.items()
    if name.startswith("explain_")
)
_LATEST = Shape(
    METADATA.tables["explain_files"],
    frozenset(c.name for c in METADATA.tables["explain_files"].columns) - {"shard_id", "latest"},
)
_LINEAGE = tuple(Shape(METADATA.tables[name]) for name in ("lineage", "lineage_files"))
_HPARAMS = tuple(Shape(METADATA.tables[name]) for name in ("hparams", "hparam_runs"))


class Derived:
    """The tables of one job that follow from its records. Nothing is done for a job that has no such records."""

    def __init__(self, conn: Connection, job_id: int, shards: Sequence[ShardRow]) -> None:
        self.conn = conn
        self.job_id = job_id
        self.shards = shards
        self._scratch: Scratch | None = None
        self._sessions: set[int] = set()  # files that say something of hyperparameters

    def say(self, said: Sequence[facts.Said]) -> None:
        """Take what payloads of a file say, in file order."""
        if not said:
            return
        facts.fold(self._made(), said, load_order)
        self._sessions.update(one.shard for one in said if one.kind == hparams.KIND.name)

    def explain(self, shard_id: int, records: Sequence[ExplainRecord]) -> None:
        """Take explain records of a file, in file order."""
        if records:
            explain.store(self._made(), [explain.Loaded(self.job_id, shard_id, records, None)])

    def compare_file(self, shard_id: int, place: Place, findings: Findings) -> None:
        """Compare the tables of an explain file that is read."""
        for shape in _OF_FILE:
            self._compare(shape, f" WHERE shard_id = {int(shard_id)}", place, findings)

    def compare_job(self, place: Place, findings: Findings) -> None:
        """Compare what all files together say, when all of them are read."""
        where = f" WHERE job_id = {int(self.job_id)}"
        self._compare(_LATEST, where, place, findings)
        for shape in _LINEAGE:
            self._compare(shape, where, place, findings)
        if len(self._sessions) > 1:
            return  # the newest session counts: which one came last, files do not say
        for shape in _HPARAMS:
            self._compare(shape, where, place, findings)

    def close(self) -> None:
        """Give everything back."""
        if self._scratch is not None:
            self._scratch.close()

    def _made(self) -> Connection:
        if self._scratch is None:
            self._scratch = Scratch()
            self._scratch.begin(self.job_id, [(shard.id, shard.name, shard.kind) for shard in self.shards])
        return self._scratch.conn

    def _compare(self, shape: Shape, where: str, place: Place, findings: Findings) -> None:
        if self._scratch is None and not rows.any_of(self.conn, shape, where):
            return
        names = [column.name for column in shape.chosen]
        expected, found = rows.compare(self._made(), self.conn, shape, where)
        for some, wanted in ((expected, True), (found, False)):
            for row in some.elements():
                said = ", ".join(f"{name} {value}" for name, value in zip(names, row, strict=True) if value is not None)
                findings.add(place, shape.name, said if wanted else None, None if wanted else said)
