"""The docs are true: every command and query in them runs, and nothing that exists is left out."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from indexer.db.dialect import parse_url
from indexer.db.schema import METADATA
from summarydb import cli
from summarydb.settings import SETTINGS, load
from tests.support.program import CHECKOUT, PATIENCE_SECONDS, environment, eventually, run, started

PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])
GENERATE = ".venv/bin/openapi-python-client"
# Installing is what test_wheel.py does; the tests are what runs just now; test_generated_client.py generates.
DONE_ELSEWHERE = ("python3 -m venv", ".venv/bin/pip install", ".venv/bin/pytest", "git clone", "cd summarydb", GENERATE)
UP = ".venv/bin/summarydb up"


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the fenced blocks of a page in these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(page: Path) -> list[str]:
    """Return the commands of a page's shell blocks: a line each, without those that other tests run."""
    lines = [line for block in blocks(page, "sh", "console") for line in block.splitlines()]
    parts = [part.strip().removeprefix("$ ") for line in lines for part in line.split(" && ")]
    return [part for part in parts if part and not part.startswith(("#", *DONE_ELSEWHERE))]


WITH_COMMANDS = [page for page in PAGES if commands(page)]
QUERIES = [query for page in PAGES if page.name != "queries.md" for query in blocks(page, "sql")]
"""Those of queries.md are asked, and their answers known, in tests/queries."""


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A directory as the README leaves it after installing: `.venv/bin/summarydb` runs this checkout."""
    program = tmp_path / ".venv" / "bin" / "summarydb"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m summarydb "$@"\n')
    program.chmod(0o755)
    shutil.copytree(CHECKOUT / "examples", tmp_path / "examples")
    if shutil.which("sqlite3") is None:  # the README says "without sqlite3": a machine may have none
        stand_in = tmp_path / ".venv" / "bin" / "sqlite3"
        code = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]), sep=chr(10))"
        stand_in.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
        stand_in.chmod(0o755)
    return tmp_path


def free_port() -> str:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return str(sock.getsockname()[1])


@pytest.mark.skipif(sys.platform == "win32", reason="the docs write commands for a POSIX shell")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_every_command_runs(page: Path, fresh: Path) -> None:
    """What a reader types works, in the order of the page; a program that keeps running does so until the end."""
    port = free_port()  # 8080 may be taken here
    env = environment() | {"PATH": f"{fresh / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    lines = commands(page)
    running = [line for line in lines if line.startswith(UP)]
    if not running:
        run("index", "--once", "examples/runs", cwd=fresh)
        check(lines, fresh, env)
        return
    with started("up", *running[0].removeprefix(UP).split(), "--port", port, cwd=fresh) as up:
        assert f"http://127.0.0.1:{port}" == up.url
        eventually(lambda: 3 == len(up.get("/jobs?cache_status=CACHED")["items"]))
        check([line.replace(":8080", f":{port}") for line in lines if line not in running], fresh, env)


def check(lines: list[str], directory: Path, env: dict[str, str]) -> None:
    """Run each line in a shell and expect an answer."""
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line.replace("curl ", "curl --silent --show-error --fail ")],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE_SECONDS,
            check=False,
        )
        assert 0 == done.returncode, (line, done.stderr)
        assert done.stdout, line


def test_there_are_commands_and_queries_to_run() -> None:
    """The tests below would pass over an empty page."""
    assert CHECKOUT / "README.md" in WITH_COMMANDS
    assert 5 < len(QUERIES)


@pytest.fixture
def sample_url(url: str, tmp_path: Path) -> str:
    """A database with the sample runs."""
    done = run("index", "--once", str(CHECKOUT / "examples" / "runs"), "--db", url, cwd=tmp_path)
    assert 0 == done.returncode, done.stderr
    return url


def test_every_query_runs_on_both_databases(sample_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A query of the docs can be copied, whatever the database; where the sample runs have rows, it finds some."""
    # The sample runs are numbers, undamaged, of nobody knows which model.
    without = (
        "restarts",
        "shard_errors",
        "blobs",
        "v_histograms",
        "v_explain",
        "v_lineage",
        "lineage",
        "v_hparams",
        "v_graphs",
    )
    for query in QUERIES:
        assert 0 == cli.run(["sql", query, "--format", "csv", "--db", sample_url]), query
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) > 1 or any(name in query for name in without), query


def test_the_sample_runs_are_what_their_script_writes(tmp_path: Path) -> None:
    """Whoever doubts the sample can write it again, byte by byte."""
    subprocess.run([sys.executable, str(CHECKOUT / "examples" / "write_runs.py"), str(tmp_path)], check=True)
    runs = CHECKOUT / "examples" / "runs"
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.relative_to(runs): path.read_bytes() for path in runs.rglob("*") if path.is_file()} == written


def test_the_help_is_in_the_docs() -> None:
    """docs/cli.md is the program's own --help; `python docs/write_cli.py` writes it again."""
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "docs" / "write_cli.py"), "--check"], env=environment(), check=False
    )
    assert 0 == done.returncode


def test_every_setting_is_documented_with_its_default(tmp_path: Path) -> None:
    """docs/configuration.md has a row for each flag, with its variable, key and default."""
    settings = load({}, environ={}, directory=tmp_path)
    page = (CHECKOUT / "docs" / "configuration.md").read_text()
    for setting in SETTINGS:
        holder = settings if setting.field == "-" else settings.config
        default = getattr(holder, setting.key if setting.field in {"", "-"} else setting.field)
        shown = str(default).lower() if isinstance(default, bool) else default
        cell = "" if default in {None, "", ()} else f" `{shown}`"
        row = f"| `--{setting.name}` | `{setting.variable}` | `{setting.key}` |{cell} |"
        assert row in page


def test_the_example_of_a_file_is_one(tmp_path: Path) -> None:
    """The TOML of the docs names settings that exist."""
    (example,) = blocks(CHECKOUT / "docs" / "configuration.md", "toml")
    known = {setting.key for setting in SETTINGS} | {"logdir"}
    assert known >= set(tomllib.loads(example))


def section(page: str, name: str) -> str:
    """Return what stands below the heading `### name`."""
    return page.partition(f"### {name}\n")[2].partition("\n### ")[0].partition("\n## ")[0]


def test_every_table_and_view_is_documented_with_its_columns(url: str) -> None:
    """docs/schema.md leaves no column out, and names none that is not there."""
    page = (CHECKOUT / "docs" / "schema.md").read_text()
    engine = create_engine(parse_url(url))
    try:
        found = inspect(engine)
        names = [*METADATA.tables, *found.get_view_names()]
        documented = {name: set(re.findall(r"`(\w+)`", section(page, name))) for name in names}
        actual = {name: {column["name"] for column in found.get_columns(name)} for name in names}
    finally:
        engine.dispose()
    assert {name: set() for name in names} == {name: actual[name] - documented[name] for name in names}
    headings = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    assert set(names) == headings


def test_links_of_the_docs_lead_somewhere() -> None:
    """A link within the repository names a file that exists."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page.name, target)
