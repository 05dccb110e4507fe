"""`summarydb sql` and `/sql` as a user runs them: formats, bounds, and processes that end with whoever started them."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from summarydb import cli
from tests.support.program import PATIENCE_SECONDS, Running, eventually, run, started
from webapi import formats

ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT {} FROM t"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SUMMARYDB_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_rows_as_arrow_and_parquet(form: str, url: str, here: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Types are those of all rows: numbers stay numbers."""
    query = "SELECT 1 AS a, NULL AS b, 'x' AS c UNION ALL SELECT 2, 0.5, 'y' ORDER BY 1"
    assert 0 == cli.run(["sql", query, "--format", form, "--db", url])
    content = capsysbinary.readouterr().out
    table = pa.ipc.open_stream(content).read_all() if form == "arrow" else parquet.read_table(io.BytesIO(content))
    assert {"a": [1, 2], "b": [None, 0.5], "c": ["x", "y"]} == table.to_pydict()


def test_a_missing_library_is_one_line(
    url: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What installs pyarrow is named before anything is read."""
    monkeypatch.setattr(formats, "find_spec", lambda _name: None)
    assert 2 == cli.run(["sql", "SELECT 1", "--format", "parquet", "--db", url])
    assert "pip install 'summarydb[arrow]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("query", "flags", "says"),
    [
        (ENDLESS.format("n"), ["--limit", "0", "--max-bytes", "1000"], "1,000 bytes"),
        (ENDLESS.format("count(*)"), ["--query-seconds", "0.3"], "--query-seconds"),
        (ENDLESS.format("n") + " ORDER BY n DESC", ["--sql-memory", "20000000"], "20,000,000 bytes"),
    ],
)
def test_bounds_are_flags(
    query: str, flags: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes, time and memory of one's own queries are bounded as those over REST, and the line says what it was."""
    run("db", "upgrade", cwd=here)
    assert 1 == cli.run(["sql", query, *flags])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("query", ["SELECT load_extension('x')", "SELECT pg_sleep(1)", "PRAGMA user_version"])
def test_the_guard_is_that_of_rest(query: str, url: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Functions that do more than compute are refused here, too."""
    assert 2 == cli.run(["sql", query, "--db", url])
    assert "summarydb: the " in capsys.readouterr().err


def test_settings_of_sql_are_bounded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody may set more than 30 s and 64 MiB."""
    for flag, value in (("--sql-seconds", "31"), ("--sql-bytes", str(2**26 + 1)), ("--sql", "maybe")):
        assert 2 == cli.run(["serve", flag, value])
        assert flag in capsys.readouterr().err


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Running]:
    """A server over an empty database."""
    run("db", "upgrade", cwd=tmp_path)
    with started("serve", "--port", "0", cwd=tmp_path) as server:
        yield server


def asked(server: Running, query: str) -> threading.Thread:
    """Ask in a thread, and do not wait for the answer."""

    def ask() -> None:
        with suppress(URLError, OSError):
            server.get(f"/sql?{urlencode({'q': query})}")

    assert server.url
    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def of_queries(server: Running) -> list[psutil.Process]:
    """Return the processes in which queries run."""
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if any("webapi.sqlchild" in word for word in child.cmdline()):
                found.append(child)
    return found


def gone(processes: list[psutil.Process]) -> bool:
    """Tell whether these processes have ended."""
    return not [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.skipif(sys.platform == "win32", reason="asks for the command lines of other processes")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_query_ends_with_its_server(served: Running, how: signal.Signals) -> None:
    """However the server ends, no process of its is left behind."""
    steady = "SELECT instr(zeroblob(16000000), zeroblob(8000000) || x'01')"  # asks nobody whether to stop
    thread = asked(served, steady)
    running = eventually(lambda: of_queries(served))
    os.kill(served.process.pid, how)
    served.process.wait(PATIENCE_SECONDS)
    eventually(lambda: gone(running), seconds=5.0)
    thread.join()


def test_a_server_answers_beside_queries(served: Running) -> None:
    """While as many queries run as may, everything else is answered, and the next query is told to come back."""
    threads = [asked(served, ENDLESS.format("count(*)")) for _ in range(4)]  # of 8 threads two run them, two wait
    eventually(lambda: len(of_queries(served)) == 2)
    assert "ok" == served.get("/health")["status"]
    busy = eventually(lambda: _status(served, "/sql?q=SELECT%201") == 503)
    assert busy
    os.kill(served.process.pid, signal.SIGKILL)
    for thread in threads:
        thread.join()


def _status(server: Running, path: str) -> int:
    """Return the status of an answer."""
    try:
        server.get(path)
    except HTTPError as e:
        e.close()
        return e.code
    return 200
