"""The drop-in data server as TensorBoard runs it: a process with its flags, its port file, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboard.data.proto import data_provider_pb2 as messages

from tests.support.program import PATIENCE_SECONDS, append, environment, eventually
from tests.support.records import tb_scalar, tb_version
from tests.support.viewer import ask, asking, names

CODE = "from summarydb.dataserver import main; main()"
FILE = "events.out.tfevents.1000"


class Started:
    """A running data server."""

    def __init__(self, process: subprocess.Popen[bytes], port_file: Path, errors: Path) -> None:
        self.process = process
        self.port_file = port_file
        self.errors = errors

    @property
    def port(self) -> int:
        """The port it wrote, as its parent waits for it: until there is a newline."""

        def written() -> str:
            assert self.process.poll() is None, self.errors.read_text()
            text = self.port_file.read_text() if self.port_file.exists() else ""
            return text if text.endswith("\n") else ""

        return int(eventually(written))

    def indexer(self) -> psutil.Process:
        """Return its child; waits for it."""
        found: list[psutil.Process] = eventually(lambda: psutil.Process(self.process.pid).children())
        return found[0]

    def leave(self) -> int:
        """Close its standard input, as a parent that dies does; return its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def serving(directory: Path, logdir: Path, *flags: str, name: str = "server") -> Iterator[Started]:
    """Run a data server as TensorBoard does, its cache within `directory`."""
    port_file, errors = directory / f"{name}.port", directory / f"{name}.err"
    given = [
        f"--logdir={logdir}",
        "--reload=1",
        "--samples-per-plugin=scalars=10,images=all",
        "--port=0",
        f"--port-file={port_file}",
        "--die-after-stdin",
        f"--error-file={directory / f'{name}.error'}",
        *flags,
    ]
    with errors.open("wb") as to_errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", CODE, *given],
            env=environment() | {"XDG_CACHE_HOME": str(directory / "cache")},
            stdin=subprocess.PIPE,
            stderr=to_errors,
        )
    try:
        yield Started(process, port_file, errors)
    finally:
        if process.poll() is None:
            for one in [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]:
                one.kill()
        process.wait(PATIENCE_SECONDS)
        if process.stdin is not None:
            process.stdin.close()


def run(*flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a data server that is to end by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-c", CODE, *flags],
        cwd=cwd,
        env=environment() | {"XDG_CACHE_HOME": str(cwd / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def write(logdir: Path, run_: str, *steps: int) -> Path:
    """Write a run with points at these steps, or add them to it."""
    path = logdir / run_ / FILE
    first = [] if path.exists() else [tb_version(1.0)]
    append(path, [*first, *(tb_scalar("t", step, float(step), 2.0 + step) for step in steps)])
    return path


def all_gone(processes: list[psutil.Process]) -> bool:
    """Tell whether none of these runs any more."""
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


def test_it_serves_at_once_and_follows(tmp_path: Path) -> None:
    """The port comes at once, runs and points appear as they are written, and its end is its parent's."""
    logdir = tmp_path / "runs"
    write(logdir, "a", 1, 2)
    with serving(tmp_path, logdir, "--verbose", "--verbose", "--no-checksum") as server, asking(server.port) as stub:
        experiment = stub.GetExperiment(messages.GetExperimentRequest(experiment_id=""), timeout=5)
        assert str(logdir) == experiment.data_location
        eventually(lambda: names(stub) == ["a"])
        eventually(
            lambda: list(ask(stub, "ReadScalars", points=9).get(("a", "t"), messages.ScalarData()).step) == [1, 2]
        )
        write(logdir, "a", 3)
        write(logdir, "b", 1)
        eventually(lambda: set(names(stub)) == {"a", "b"})
        eventually(lambda: list(ask(stub, "ReadScalars", points=9)["a", "t"].step) == [1, 2, 3])
        family = [psutil.Process(server.process.pid), server.indexer()]
        assert 0 == server.leave()
        eventually(lambda: all_gone(family))
    (database,) = (tmp_path / "cache" / "summarydb" / "tensorboard").glob("runs-*.db")
    assert database.stat().st_size


def test_the_second_start_needs_no_loading(tmp_path: Path) -> None:
    """What was indexed once is answered by the first call, without a file being read."""
    logdir = tmp_path / "runs"
    path = write(logdir, "a", 1, 2)
    with serving(tmp_path, logdir, name="first") as server, asking(server.port) as stub:
        eventually(lambda: ask(stub, "ReadScalars", points=9))
        assert 0 == server.leave()
    path.unlink()
    with serving(tmp_path, logdir, name="second") as server, asking(server.port) as stub:
        assert [1, 2] == list(ask(stub, "ReadScalars", points=9)["a", "t"].step)


def test_two_serve_one_directory(tmp_path: Path) -> None:
    """The second server reads what the first one indexes, and says so; it goes on when the first one ends."""
    logdir = tmp_path / "runs"
    write(logdir, "a", 1)
    with serving(tmp_path, logdir, name="one") as one, asking(one.port) as first:
        eventually(lambda: names(first) == ["a"])
        with serving(tmp_path, logdir, name="two") as two, asking(two.port) as second:
            assert ["a"] == names(second)
            eventually(lambda: "not indexing" in two.errors.read_text())
            write(logdir, "b", 1)
            eventually(lambda: set(names(second)) == {"a", "b"})
            assert 0 == one.leave()
            assert {"a", "b"} == set(names(second))
            assert 0 == two.leave()


def test_a_directory_may_come_later(tmp_path: Path) -> None:
    """As TensorBoard does, it serves a directory that is not there yet: without runs, until it comes."""
    logdir = tmp_path / "later"
    with serving(tmp_path, logdir) as server, asking(server.port) as stub:
        assert [] == names(stub)
        write(logdir, ".", 1)
        eventually(lambda: names(stub) == ["."])


def test_once_is_one_pass(tmp_path: Path) -> None:
    """With --reload=once the indexer ends by itself, and the server goes on."""
    logdir = tmp_path / "runs"
    write(logdir, "a", 1)
    with serving(tmp_path, logdir, "--reload=once") as server, asking(server.port) as stub:
        eventually(lambda: names(stub) == ["a"])
        eventually(lambda: not psutil.Process(server.process.pid).children())
        assert ["a"] == names(stub)
        assert 0 == server.leave()


def test_links_are_followed(tmp_path: Path) -> None:
    """As TensorBoard does, it finds runs behind links to directories."""
    write(tmp_path / "elsewhere", "a", 1)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with serving(tmp_path, tmp_path / "runs") as server, asking(server.port) as stub:
        eventually(lambda: names(stub) == ["link/a"])


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it(tmp_path: Path, number: signal.Signals) -> None:
    """A signal ends server and indexer with exit code 0."""
    write(tmp_path / "runs", "a", 1)
    with serving(tmp_path, tmp_path / "runs") as server, asking(server.port) as stub:
        eventually(lambda: names(stub) == ["a"])
        family = [psutil.Process(server.process.pid), server.indexer()]
        server.process.send_signal(number)
        assert 0 == server.process.wait(PATIENCE_SECONDS)
        eventually(lambda: all_gone(family))


def test_its_indexer_ends_however_it_ends(tmp_path: Path) -> None:
    """A server that is killed leaves no indexer behind, and the next one loads on."""
    write(tmp_path / "runs", "a", 1)
    with serving(tmp_path, tmp_path / "runs", name="killed") as server, asking(server.port) as stub:
        eventually(lambda: names(stub) == ["a"])
        indexer = server.indexer()
        server.process.kill()
        eventually(lambda: all_gone([indexer]))
    write(tmp_path / "runs", "b", 1)
    with serving(tmp_path, tmp_path / "runs", name="next") as server, asking(server.port) as stub:
        eventually(lambda: set(names(stub)) == {"a", "b"})


def test_an_indexer_that_dies_is_started_again(tmp_path: Path) -> None:
    """What is written behind a crash is found all the same."""
    write(tmp_path / "runs", "a", 1)
    with serving(tmp_path, tmp_path / "runs") as server, asking(server.port) as stub:
        eventually(lambda: names(stub) == ["a"])
        server.indexer().kill()
        write(tmp_path / "runs", "b", 1)
        eventually(lambda: set(names(stub)) == {"a", "b"})
        assert "started again" in server.errors.read_text()


@pytest.mark.parametrize("logdir", ["gs://bucket/runs", "a file"])
def test_a_directory_that_cannot_be_used_is_code_8(tmp_path: Path, logdir: str) -> None:
    """The reason is one line in the error file."""
    (tmp_path / "a file").touch()
    ended = run(f"--logdir={logdir}", "--port=0", "--error-file=error", cwd=tmp_path)
    assert 8 == ended.returncode
    (line,) = (tmp_path / "error").read_text().splitlines()
    assert logdir in line
    assert line in ended.stderr


def test_a_port_that_is_taken_is_code_9(tmp_path: Path) -> None:
    """The reason is one line in the error file, and names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run(f"--logdir={tmp_path}", f"--port={port}", "--error-file=error", cwd=tmp_path)
    assert (9, True) == (ended.returncode, f"127.0.0.1:{port}" in (tmp_path / "error").read_text())


def test_flags_that_nobody_knows_are_usage_errors(tmp_path: Path) -> None:
    """A flag that is none, a number that is none: exit code 2."""
    for flags in (["--no-such-flag"], ["--reload=never"], ["--reload=nan"], ["--port=x"]):
        assert 2 == run(f"--logdir={tmp_path}", *flags, cwd=tmp_path).returncode
    assert 2 == run(cwd=tmp_path).returncode
    assert 0 == run("--help", cwd=tmp_path).returncode
    assert run("--version", cwd=tmp_path).stdout.startswith("summarydb-data-server ")


def test_a_cache_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """Where the cache directory cannot be made the error names it, and what to do."""
    (tmp_path / "cache").touch()
    ended = run(f"--logdir={tmp_path}", "--port=0", "--error-file=error", cwd=tmp_path)
    assert 1 == ended.returncode
    assert "XDG_CACHE_HOME" in (tmp_path / "error").read_text()


def test_without_grpc_it_says_what_to_install(tmp_path: Path) -> None:
    """Without the extra the error is one line with the command that installs it."""
    code = f"import sys; sys.modules['grpc'] = None; {CODE}"
    ended: Any = subprocess.run(
        [sys.executable, "-c", code, f"--logdir={tmp_path}", "--error-file=error"],
        cwd=tmp_path,
        env=environment() | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert 1 == ended.returncode
    assert "pip install 'summarydb[tensorboard]'" in (tmp_path / "error").read_text()
