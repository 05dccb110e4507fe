"""The client that the docs have generated works against the program, over HTTP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.test_docs import GENERATE, blocks
from tests.support.program import CHECKOUT, environment, eventually, started

PAGE = CHECKOUT / "docs" / "openapi.md"
GENERATE_SECONDS = 240.0


def test_the_generated_client_of_the_docs_works(tmp_path: Path) -> None:
    """As the page says it, but for the port: every curve of the sample runs is printed, and a problem is one."""
    (line,) = (line for block in blocks(PAGE, "sh") for line in block.splitlines() if line.startswith(GENERATE))
    (example,) = blocks(PAGE, "python")
    with started("up", str(CHECKOUT / "examples" / "runs"), "--port", "0", cwd=tmp_path) as up:
        eventually(lambda: 3 == len(up.get("/jobs?cache_status=CACHED")["items"]))
        arguments = line.removeprefix(GENERATE).replace("http://localhost:8080", up.url).split()
        python(tmp_path, "-m", "openapi_python_client", *arguments)
        *lines, problem = python(tmp_path, "-c", example.replace("http://localhost:8080", up.url)).splitlines()
        curves = up.get("/series?max_points=100")["series"]
    assert sorted(f"{c['train_id']} {c['tag']} {c['total']} {max(c['step'])}" for c in curves) == sorted(lines)
    assert problem.startswith("404 "), problem


def python(directory: Path, *arguments: str) -> str:
    """Run Python in a directory and return what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=GENERATE_SECONDS,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout
