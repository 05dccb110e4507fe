"""`summarydb.up` as a notebook's cell calls it: started, read from, stopped, and gone when the notebook is."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

import summarydb
from indexer.errors import Refuse
from tests.support.program import CHECKOUT, PATIENCE_SECONDS, environment, eventually

RUNS = CHECKOUT / "examples" / "runs"
HEAVY = {"sqlalchemy", "flask", "numpy", "alembic", "click", "psycopg", "pandas", "pyarrow", "polars"}

KERNEL = """
import sys, summarydb
up = summarydb.up(sys.argv[1], db=sys.argv[2])
print(up.url, up._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_cell_starts_and_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers when `up` returns, with the token it was given; behind the block it is gone."""
    monkeypatch.chdir(tmp_path)
    with summarydb.up(RUNS, db="sqlite:///own.db", token="s3cret") as up:
        with up.connect() as db:
            eventually(lambda: 3 == db.health()["jobs"]["CACHED"])
            assert {"./lenet", "./resnet/lr=0.1", "./resnet/lr=0.01"} == {job.train_id for job in db.jobs()}
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{up.url}/api/v1/jobs", timeout=PATIENCE_SECONDS)
        command = psutil.Process(up._process.pid).cmdline()
        assert not any("s3cret" in word for word in command)
        assert f'href="{up.url}"' in up._repr_html_()
        assert any("a token is asked for" in line for line in up.log)
    assert not up.running
    assert "stopped" in up._repr_html_()
    assert 0 == up._process.returncode
    up.stop()  # again does nothing
    with summarydb.connect(tmp_path / "own.db") as db:
        assert 300 == len(db.series("./lenet", "train/loss"))


def test_what_will_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own line is the error's."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refuse, match=r"ended with 1: LOGDIR nowhere does not exist"):
        summarydb.up("nowhere")
    with pytest.raises(Refuse, match=r"ended with 2: .*--never"):
        summarydb.up(RUNS, options=["--never"])


def test_it_ends_with_the_notebook_however_that_ends(tmp_path: Path) -> None:
    """A kernel that is killed leaves no program behind, and no child of it."""
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(RUNS), "sqlite:///killed.db"],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with kernel:
        assert kernel.stdout is not None
        _url, pid = kernel.stdout.readline().split()
        up = psutil.Process(int(pid))
        family = [up, *eventually(lambda: up.children())]
        kernel.kill()
        kernel.wait(PATIENCE_SECONDS)
    assert not psutil.wait_procs(family, PATIENCE_SECONDS)[1]


def test_importing_costs_nothing() -> None:
    """`import summarydb` imports no library, whatever it offers; a name it has not is no attribute."""
    code = "import sys, summarydb; print(*dir(summarydb)); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    offered, modules = done.stdout.splitlines()
    assert {"connect", "up", "__version__"} <= set(offered.split())
    assert set() == HEAVY & set(modules.split())
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        summarydb.nothing  # type: ignore[attr-defined]  # noqa: B018
