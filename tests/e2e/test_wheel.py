"""The built wheel works outside a checkout: migrations and pages travel with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.program import CHECKOUT, PATIENCE_SECONDS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from this checkout without a network."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        timeout=4 * PATIENCE_SECONDS,
    )
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    """Four packages, the migrations among them, and the metadata; no tests, no checkout's path."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"indexer", "webapi", "summarydb", "migrations"} == {top for top in tops if ".dist-info" not in top}
    revisions = {path.name for path in (CHECKOUT / "migrations" / "versions").glob("*.py")}
    assert revisions == {Path(name).name for name in names if name.startswith("migrations/versions/")}
    assert {path.name for path in (CHECKOUT / "webapi" / "templates").iterdir()} == {
        Path(name).name for name in names if name.startswith("webapi/templates/")
    }


def test_an_installed_wheel_indexes_and_checks(wheel: Path, tmp_path: Path) -> None:
    """From another directory, without the checkout on the path, the first commands work."""
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, cwd=tmp_path, timeout=4 * PATIENCE_SECONDS)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SUMMARYDB_", "PYTHON"))}
    env["PYTHONPATH"] = str(target)

    def summarydb(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "summarydb", *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE_SECONDS,
            check=False,
        )
        assert 0 == done.returncode, done.stderr
        return done.stdout

    where = subprocess.run(
        [sys.executable, "-c", "import indexer, summarydb, webapi; print(indexer.__file__)"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(target)
    assert 2790 == json.loads(summarydb("index", "--once", "--json", str(CHECKOUT / "examples" / "runs")))["points"]
    assert "as it should be" in summarydb("db", "check")
    assert 3 == len(json.loads(summarydb("status", "--json"))["jobs"])
