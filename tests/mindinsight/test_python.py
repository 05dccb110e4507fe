"""MindInsight's data manager from Python: what it lists, what it refuses, how far it says it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from indexer.db.schema import JOB
from indexer.errors import Refuse
from summarydb import mindinsight
from summarydb.mindinsight import Directory, Failure, Status
from tests.conftest import DATA
from tests.mindinsight.conftest import index
from tests.support.engines import transaction
from tests.support.following import make
from tests.support.program import CHECKOUT
from tests.support.records import ms_scalars, ms_train, ms_version

RECORDED = DATA / "mindspore"


@pytest.fixture
def recorded(url: str) -> Iterator[Directory]:
    """The jobs of MindSpore."""
    index(url, RECORDED)
    with mindinsight.open_directory(url) as shown:
        yield shown


def code(failure: pytest.ExceptionInfo[Failure]) -> str:
    """Return the code of a failure as MindInsight writes it."""
    return failure.value.body["error_code"]


def test_jobs_are_listed_in_pages(recorded: Directory) -> None:
    """Every job once, whatever the size of a page; a page past the end is empty and knows the total."""
    every = recorded.jobs(limit=999)
    assert RECORDED == recorded.path
    assert every.total == len(every.items) == len({job.train_id for job in every.items})
    parts = [recorded.jobs(offset=n, limit=4).items for n in range(every.total // 4 + 1)]
    assert every.items == [job for part in parts for job in part]
    assert ([], every.total) == recorded.jobs(offset=1_000)
    assert {"./", "./scalars", "./lineage-only"} <= {job.train_id for job in every.items}


def test_a_job_and_its_tags(recorded: Directory) -> None:
    """A job says which tags it has, one by plugin and all at once, and of which files it is."""
    job = recorded.job("./images")
    assert ("CACHED", 1, 0, True) == (job.cache_status, job.summary_files, job.lineage_files, job.complete)
    assert job.tags["image"] == recorded.tags("./images", "image") != []
    assert [] == job.tags["scalar"]
    (file,) = recorded.files("./images")
    assert ("summary", (RECORDED / "images" / file.name).stat().st_size) == (file.kind, file.size)
    assert file.read == file.size
    assert recorded.holds("./images")
    assert not recorded.holds("./none")
    assert not recorded.holds("../mindspore")


def test_points_of_each_plugin(recorded: Directory, url: str) -> None:
    """Numbers of a scalar; of others what there is to know of each."""
    loss = recorded.points("./scalars", "loss/scalar")
    assert sorted(loss) == loss
    assert {float, type(None)} == {type(point.value) for point in loss}  # some are not finite
    (image, *_) = recorded.points("./images", "gray/8x8/u8/image")
    assert {"width": 8, "height": 8} == image.value
    assert {"buckets"} == recorded.points("./histograms", "w/int/histogram")[0].value.keys()
    assert {"dims": [7, 1], "data_type": "DT_FLOAT32"} == recorded.points("./tensors", "dtype/float32/tensor")[0].value


def test_explanations_and_lineages(recorded: Directory) -> None:
    """Both are the organisers of MindInsight: lists, one job, samples, conditions."""
    assert 2 == recorded.explain_jobs()["total"]
    assert "LOADED" == recorded.explain_job("./explain-saliency")["status"]
    assert recorded.explain_scores("./explain-saliency")["explainer_scores"]
    assert 1 == len(recorded.saliency("./explain-saliency", limit=1)["samples"])
    assert recorded.occlusion("./explain-hoc")["samples"][0]["inferences"][0]["hoc_layers"]
    found = recorded.lineages({"optimizer": {"eq": "SGD"}})
    assert ["./lineage-sgd-0.001"] == [one["summary_dir"] for one in found["object"]]
    known = recorded.lineage("./lineage-sgd-0.001")
    assert known is not None
    assert "SGD" == known["model_lineage"]["optimizer"]
    assert recorded.lineage("./scalars") is None


REFUSED: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
    ("50545005", "job", ("./none",), {}),
    ("50545005", "job", ("../mindspore",), {}),
    ("50545005", "files", ("./none",), {}),
    ("50545005", "points", ("./none", "loss/scalar"), {}),
    ("50545005", "points", ("./lineage-only", "loss/scalar"), {}),
    ("50545005", "tags", ("./lineage-only", "scalar"), {}),
    ("50545005", "explain_job", ("./none",), {}),
    ("50545011", "job", ("./a\0",), {}),
    ("50545011", "holds", ("./a\0",), {}),
    ("5054500B", "tags", ("./scalars", "sound"), {}),
    ("50540001", "job", (None,), {}),
    ("50540001", "jobs", (), {"offset": "x"}),
    ("50540001", "jobs", (), {"limit": True}),
    ("50540002", "jobs", (), {"offset": -1}),
    ("50540002", "jobs", (), {"limit": 0}),
    ("50540002", "jobs", (), {"limit": 1_000}),
    ("50540002", "explain_jobs", (), {"limit": 0}),
    ("50540002", "points", ("./scalars", "none/scalar"), {}),
    ("50542218", "lineages", ({"none": {"eq": 1}},), {}),
    ("50540001", "lineages", ({"optimizer": {"eq": object()}},), {}),
]


def test_what_cannot_be_is_refused_with_mindinsights_code(recorded: Directory) -> None:
    """Unknown and unloaded jobs, tags and plugins, and arguments that cannot be right."""
    for expected, name, arguments, named in REFUSED:
        with pytest.raises(Failure) as failure:
            getattr(recorded, name)(*arguments, **named)
        assert expected == code(failure), (name, arguments, named)


def test_statuses_are_those_of_the_load(url: str, engine: Engine, tmp_path: Path) -> None:
    """INIT before anything was looked at, INVALID where nothing was found, LOADING while a job is, then DONE."""
    with mindinsight.open_directory(url) as shown:
        assert Status.INIT == shown.status()
        with pytest.raises(Failure) as failure:
            shown.job("./a")
        assert "50545007" == code(failure)
        index(url, make(tmp_path / "runs", {}))
        assert (Status.INVALID, ([], 0)) == (shown.status(), shown.jobs())
        scalars = ms_version(1.0) + ms_scalars(1, {"x": 1.0}, 1.0)
        index(url, make(tmp_path / "runs", {"a/events.out.events.summary.1.0.x_MS": scalars}))
        assert Status.DONE == shown.status()
        with transaction(engine) as conn:
            conn.execute(update(JOB).values(cache_status="CACHING"))
        assert Status.LOADING == shown.status()


def test_what_is_appended_is_seen(url: str, tmp_path: Path) -> None:
    """Nothing is held but what the database has: a lineage that comes later is there."""
    file = "a/events.out.events.summary.1.0.x_lineage"
    root = make(tmp_path / "runs", {file: ms_train(0.5)})
    index(url, root)
    with mindinsight.open_directory(url) as shown:
        assert 0.5 == (shown.lineage("./a") or {})["model_lineage"]["learning_rate"]
        make(root, {"a/events.out.events.summary.2.0.x_lineage": ms_train(0.25)})
        index(url, root)
        assert 0.25 == (shown.lineage("./a") or {})["model_lineage"]["learning_rate"]


def test_a_database_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """By path as well: the line names it."""
    with pytest.raises(Refuse, match=r"none\.db"):
        mindinsight.open_directory(tmp_path / "none.db")


def test_the_example_of_the_docs_runs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the page shows works on the sample runs."""
    index(url, CHECKOUT / "examples" / "runs")
    page = (CHECKOUT / "docs" / "mindinsight-ui.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(example.replace("sqlite:///summarydb.db", url), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("./")
    assert len(lines) > 20
