"""MindInsight's routes of the running program."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import append, eventually, run, started
from tests.support.records import ms_scalars, ms_train, ms_version

FILE = "events.out.events.summary.1.0.x_MS"
LINEAGE = "events.out.events.summary.1.0.x_lineage"


def call(url: str, path: str, body: object = None, method: str | None = None) -> Any:
    """Send a request below MindInsight's prefix; return the JSON, also of an error."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/v1/mindinsight{path}", data, method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


def test_up_answers_as_mindinsight(tmp_path: Path) -> None:
    """It lists what it loads, shows what comes while it runs, takes long bodies, and shows what `annotate` writes."""
    path = tmp_path / "runs/a"
    append(path / FILE, [ms_version(1.0), ms_scalars(1, {"loss": 1.0}, 1.0)])
    append(path / LINEAGE, [ms_train(0.5)])
    with started("up", "runs", "--port", "0", cwd=tmp_path) as up:
        url = up.url

        def points() -> int:
            found = call(url, "/datavisual/scalars?train_id=./a&tag=loss/scalar")["scalars"]
            return len(found[0]["values"]) if found else 0

        assert eventually(lambda: points() == 1)
        answer = call(url, "/datavisual/train-job-caches", {"train_ids": ["./a", "./none"]})
        assert ["./a"] == [one["train_id"] for one in answer["cache_result"]]
        append(path / FILE, [ms_scalars(2, {"loss": 1.0}, 2.0)])
        assert eventually(lambda: points() == 2)
        done = run("annotate", "./a", "--tag", "4", "--remark", "good", "--json", cwd=tmp_path)
        assert (0, {"tag": 4, "remark": "good"}) == (
            done.returncode,
            {name: json.loads(done.stdout)[name] for name in ("tag", "remark")},
        )
        many = {"summary_dir": {"in": [f"./{n:0>30}" for n in range(20_000)] + ["./a"]}}
        found = eventually(lambda: call(url, "/lineagemgr/lineages", many)["object"])
        assert [{"tag": 4, "remark": "good"}] == [one["added_info"] for one in found]
        refused = call(url, "/lineagemgr/lineages?train_id=./a", {"tag": 1}, "PUT")
        assert "50540008" == refused["error_code"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("annotate", "./none", "--tag", "1"), 1, "./none"),
        (("annotate", "./a", "--tag", "11"), 2, "--tag"),
        (("annotate", "./a", "--remark", "x" * 129), 2, "128"),
        (("annotate",), 2, "JOB"),
    ],
)
def test_annotations_that_cannot_be_right(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    """One line says what is wrong, and nothing is written."""
    append(tmp_path / "runs/a" / FILE, [ms_version(1.0), ms_scalars(1, {"loss": 1.0}, 1.0)])
    assert 0 == run("index", "--once", "runs", cwd=tmp_path).returncode
    done = run(*arguments, cwd=tmp_path)
    assert code == done.returncode
    assert said in done.stderr
    assert 1 == len(done.stderr.splitlines())
    database = sqlite3.connect(tmp_path / "summarydb.db")
    assert [] == database.execute("SELECT * FROM annotations").fetchall()
    database.close()
