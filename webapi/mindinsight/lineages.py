"""What lineage files say of jobs, as MindInsight has it; read once for each revision of a job."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, text

from indexer import text as names
from indexer.plugins import lineage
from webapi.mindinsight import catalogue
from webapi.mindinsight.catalogue import Root

FIELDS = (
    "loss_function",
    "train_dataset_path",
    "train_dataset_count",
    "test_dataset_path",
    "test_dataset_count",
    "network",
    "optimizer",
    "learning_rate",
    "epoch",
    "batch_size",
    "device_num",
    "loss",
    "model_size",
)
"""Of a model, in the order of answers."""
JOBS_AT_ONCE = 500
_LISTS = ("size", "weights")


@dataclass(slots=True)
class Lineage:
    """Where the model of a job comes from."""

    fields: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    user_defined: dict[str, Any] = field(default_factory=dict)
    dataset_graph: dict[str, Any] = field(default_factory=dict)
    graph_key: str = "{}"  # equal where dataset graphs are

    def model(self) -> dict[str, Any]:
        """Return the fields of the model; what is not known is null."""
        return {name: self.fields.get(name) for name in FIELDS} | {
            "metric": self.metric,
            "user_defined": self.user_defined,
        }


class Found(NamedTuple):
    """A job with a lineage, in the order of lists."""

    job_id: int
    train_id: str
    lineage: Lineage
    annotation: Mapping[str, Any]  # tag, remark
    mark: str  # equal where dataset graphs are


class Lineages:
    """Lineages as they were read last. For all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[int, Lineage]] = {}

    def of(self, conn: Connection, jobs: Mapping[int, int]) -> dict[int, Lineage]:
        """Return lineages by job; jobs: the revision of each, which every change raises."""
        with self._lock:
            known = {job: self._known[job] for job in jobs if job in self._known}
        stale = [job for job, revision in jobs.items() if job not in known or known[job][0] != revision]
        read = _read(conn, stale)
        fresh = {job: (jobs[job], found) for job, found in read.items()}
        with self._lock:
            for job in stale:
                self._known.pop(job, None)
            self._known |= fresh
        known = {job: entry for job, entry in known.items() if entry[0] == jobs[job]} | fresh
        return {job: entry[1] for job, entry in known.items()}


def every(kept: Lineages, conn: Connection, root: Root) -> list[Found]:
    """Return all jobs that have a lineage, those changed last first. Two statements, some more for what is new."""
    rows = conn.execute(
        text(
            "SELECT j.id, j.train_id, j.revision, a.tag, a.remark"
            " FROM jobs j LEFT JOIN annotations a ON a.job_id = j.id"
            " WHERE j.root_id = :root AND j.train_id NOT LIKE './%/%' AND j.listed_update_time IS NOT NULL"
            " AND EXISTS (SELECT 1 FROM lineage l WHERE l.job_id = j.id)"
            f" ORDER BY j.listed_update_time DESC, {catalogue.bytewise(conn)}"
        ),
        {"root": root.id},
    ).all()
    known = kept.of(conn, {row.id: row.revision for row in rows})
    marks: dict[str, str] = {}
    found = []
    for job_id, train_id, _, tag, remark in rows:
        one = known.get(job_id)
        if one is not None:
            mark = marks.setdefault(one.graph_key, str(len(marks) + 2))
            found.append(Found(job_id, names.show(train_id), one, _annotation(tag, remark), mark))
    return found


def _annotation(tag: int | None, remark: str | None) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if tag is not None:
        shown["tag"] = tag
    if remark is not None:
        shown["remark"] = names.show(remark)
    return shown


def _read(conn: Connection, jobs: Sequence[int]) -> dict[int, Lineage]:
    """Return the lineages of jobs. A statement for JOBS_AT_ONCE of them."""
    query = text(
        "SELECT job_id, section, name, json FROM lineage WHERE job_id IN :jobs"
        " AND (name = '' OR section IN ('hyper_parameters', 'train_dataset', 'algorithm', 'model', 'valid_dataset'))"
    ).bindparams(bindparam("jobs", expanding=True))
    found: dict[int, Lineage] = {}
    for start in range(0, len(jobs), JOBS_AT_ONCE):
        for job_id, section, name, stored in conn.execute(query, {"jobs": list(jobs[start : start + JOBS_AT_ONCE])}):
            one = found.setdefault(job_id, Lineage())
            value = json.loads(stored)
            match name, section:
                case "", "metric":
                    one.metric = value
                case "", "user_defined":
                    one.user_defined = value
                case "", "dataset_graph":
                    one.dataset_graph = dataset_graph(value)
                    one.graph_key = json.dumps(one.dataset_graph, sort_keys=True)
                case _:
                    one.fields[name] = value
    return found


# Dataset graphs -------------------------------------------------------------------------------------------------------
def dataset_graph(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset graph as MindInsight shows it.

    It gathers `size` and `weights` of an operation in one list: where both are written each shows both, and where
    `size` is, `weights` shows it, too. Its clients know it so; REST v1 has them apart.
    """
    shown = lineage.dataset_graph({**content, "operations": [], "sampler": {}, "children": []})
    del shown["children"]
    operations = [_operation(one) for one in content.get("operations", [])]
    if operations:
        shown["operations"] = operations
    sampler = _operation(content.get("sampler", {}))
    if sampler:
        shown["sampler"] = sampler
    shown["children"] = [dataset_graph(child) for child in content.get("children", [])]
    return shown


def _operation(content: Mapping[str, Any]) -> dict[str, Any]:
    shown = lineage.dataset_graph({"parameter": content.get("operationParam", {})})
    del shown["children"]
    gathered: list[Any] = []
    for name in _LISTS:
        gathered += content.get(name, [])
        if gathered:
            shown[name] = gathered
    return shown
