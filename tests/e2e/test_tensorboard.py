"""TensorBoard's pages over our provider: its routes answer what they answer over its own server, in three ways."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DATA
from tests.support.pages import Pages, data_server, error_of, pages, tensorboard
from tests.support.program import PATIENCE_SECONDS, command, environment, eventually, run, started
from tests.support.viewer import asking, names, rustboard

OURS_ALONE = ("scalars-torch", "double")  # see tests/dataprovider/test_same_answers.py


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample data with one experiment of hyperparameters: of several the page shows whichever comes first."""
    path = tmp_path_factory.mktemp("data") / "runs"
    shutil.copytree(DATA / "tensorboard", path)
    shutil.rmtree(path / "hparams" / "torch")
    return path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where logs, the cache and the database of these tests lie."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def database(directory: Path, logdir: Path) -> str:
    """Address of a database of the sample data."""
    url = f"sqlite:///{directory / 'samples.db'}"
    assert 0 == run("index", "--once", str(logdir), "--db", url, cwd=directory).returncode
    return url


@pytest.fixture(scope="module")
def theirs(directory: Path, logdir: Path) -> Iterator[Pages]:
    """TensorBoard over its own data server."""
    if rustboard() is None:
        pytest.skip("the wheel tensorboard-data-server has no program for this machine")
    with pages(tensorboard(f"--logdir={logdir}", "--load_fast=true"), directory, "theirs") as made:
        expected = len({path.parent for path in logdir.rglob("*tfevents*")})
        eventually(lambda: len(made.get("/data/runs")) == expected)
        yield made


@pytest.fixture(scope="module")
def ours(directory: Path, database: str) -> Iterator[Pages]:
    """`summarydb tensorboard` over the database."""
    from tests.support.pages import SAMPLES

    given = ("tensorboard", "--db", database, "--port", "0", "--", f"--samples_per_plugin={SAMPLES}")
    with pages(command(*given), directory, "ours") as made:
        yield made


def sorted_runs(tags: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return run → tags with tags in order: their server lists them in any order."""
    return {run_: sorted(found) for run_, found in tags.items()}


def plain(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return items without keys of blobs, which each provider makes as it likes."""
    return [{name: value for name, value in item.items() if name not in {"query", "blob_key"}} for item in items]


def test_runs_and_tabs_are_the_same(theirs: Pages, ours: Pages) -> None:
    """Runs come in the same order, and the same tabs are enabled; the foot of the page names the database."""
    assert theirs.get("/data/runs") == ours.get("/data/runs")
    expected, actual = (
        {name: tab["enabled"] for name, tab in server.get("/data/plugins_listing").items()} for server in (theirs, ours)
    )
    assert expected == actual
    assert ours.get("/data/environment")["data_location"].startswith("sqlite:///")


def test_numbers_are_the_same(theirs: Pages, ours: Pages) -> None:
    """Tags and every point of every scalar, histogram and distribution, on their pages and on the time series page."""
    for plugin in ("scalars", "histograms", "distributions"):
        expected, actual = (server.plugin(f"{plugin}/tags") for server in (theirs, ours))
        if plugin == "scalars":
            del actual[OURS_ALONE[0]][OURS_ALONE[1]]
        assert expected == actual
        for run_, tags in expected.items():
            for tag in tags:
                one, two = (server.plugin(f"{plugin}/{plugin}", run=run_, tag=tag) for server in (theirs, ours))
                assert one == two, (plugin, run_, tag)
    expected, actual = (server.plugin("timeseries/tags") for server in (theirs, ours))
    actual["scalars"]["runTagInfo"][OURS_ALONE[0]].remove(OURS_ALONE[1])
    for kind in ("scalars", "histograms"):
        one, two = (sorted_runs(server[kind]["runTagInfo"]) for server in (expected, actual))
        assert one == two
    assert expected["images"]["tagRunSampledInfo"] == actual["images"]["tagRunSampledInfo"]


def test_images_and_sounds_are_the_same(theirs: Pages, ours: Pages) -> None:
    """Tags, steps, sizes, and the bytes that an address gives."""
    for plugin, one in (("images", "individualImage"), ("audio", "individualAudio")):
        expected, actual = (server.plugin(f"{plugin}/tags") for server in (theirs, ours))
        assert expected == actual
        for run_, tags in expected.items():
            for tag, about in tags.items():
                for sample in range(about["samples"]):
                    lists = [
                        server.plugin(f"{plugin}/{plugin}", run=run_, tag=tag, sample=sample)
                        for server in (theirs, ours)
                    ]
                    assert plain(lists[0]) == plain(lists[1])
                    assert lists[0]
                    first, second = (
                        server.get(f"/data/plugin/{plugin}/{one}?{items[-1]['query']}")
                        for server, items in zip((theirs, ours), lists, strict=True)
                    )
                    assert first == second, (plugin, run_, tag, sample)


def test_texts_curves_and_meshes_are_the_same(theirs: Pages, ours: Pages) -> None:
    """Texts as rendered, precision-recall curves, and every array of a mesh."""
    expected, actual = (sorted_runs(server.plugin("text/tags")) for server in (theirs, ours))
    assert expected == actual
    for run_, tags in expected.items():
        for tag in tags:
            assert theirs.plugin("text/text", run=run_, tag=tag) == ours.plugin("text/text", run=run_, tag=tag)
    expected, actual = (server.plugin("pr_curves/tags") for server in (theirs, ours))
    assert expected == actual
    for run_, tags in expected.items():
        for tag in tags:
            one, two = (server.plugin("pr_curves/pr_curves", run=run_, tag=tag) for server in (theirs, ours))
            assert one == two
    expected, actual = (server.plugin("mesh/tags") for server in (theirs, ours))
    assert expected == actual
    parts = 0
    for run_, tags in expected.items():
        for tag in tags:
            one, two = (server.plugin("mesh/meshes", run=run_, tag=tag, sample=0) for server in (theirs, ours))
            assert sorted(one, key=str) == sorted(two, key=str)
            for part in one:
                given = {
                    "run": run_,
                    "tag": tag,
                    "sample": 0,
                    "step": part["step"],
                    "content_type": ("VERTEX", "FACE", "COLOR")[part["content_type"] - 1],
                }
                assert theirs.plugin("mesh/data", **given) == ours.plugin("mesh/data", **given)
                parts += 1
    assert parts


def test_layouts_graphs_and_hyperparameters_are_the_same(theirs: Pages, ours: Pages) -> None:
    """Charts of custom scalars, graphs with their run metadata, the table of hyperparameters."""
    assert theirs.plugin("custom_scalars/layout") == ours.plugin("custom_scalars/layout")
    one, two = (server.plugin("custom_scalars/scalars", run="custom-scalars", tag=".*") for server in (theirs, ours))
    assert one == two
    expected, actual = (server.plugin("graphs/info") for server in (theirs, ours))
    assert expected == actual
    for run_, about in expected.items():
        if about["run_graph"]:
            assert theirs.plugin("graphs/graph", run=run_) == ours.plugin("graphs/graph", run=run_)
        for tag, what in about["tags"].items():
            if what["profile"]:
                assert theirs.plugin("graphs/run_metadata", run=run_, tag=tag) == ours.plugin(
                    "graphs/run_metadata", run=run_, tag=tag
                )
    assert theirs.plugin("hparams/experiment", {}) == ours.plugin("hparams/experiment", {})
    wanted = {
        "startIndex": 0,
        "sliceSize": 100,
        "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_FAILURE", "STATUS_RUNNING"],
    }
    expected, actual = (server.plugin("hparams/session_groups", wanted) for server in (theirs, ours))
    assert 3 == len(expected["sessionGroups"])
    assert sorted(expected["sessionGroups"], key=str) == sorted(actual["sessionGroups"], key=str)


def test_wrong_addresses_are_the_same_errors(theirs: Pages, ours: Pages) -> None:
    """A key that is none is 400, one that names nothing 404, as over their own server."""
    unknown = "WyIiLCJubyBzdWNoIHJ1biIsInQiLDAsMF0"
    for path in (
        "images/individualImage?blob_key=none",
        f"images/individualImage?blob_key={unknown}",
        "audio/individualAudio?blob_key=none",
        "scalars/scalars?run=none&tag=none",
        "text/text?run=none&tag=none",
    ):
        expected, actual = (error_of(f"{server.url}/data/plugin/{path}") for server in (theirs, ours))
        assert expected == actual, path


def test_it_starts_our_data_server(directory: Path, logdir: Path) -> None:
    """TensorBoard itself runs our program in place of its own, shows what it indexes, and ends it with itself."""
    env = {"TENSORBOARD_DATA_SERVER_BINARY": str(data_server(directory))}
    with pages(tensorboard(f"--logdir={logdir}", "--load_fast=true"), directory, "drop-in", env=env) as made:
        expected = len({path.parent for path in logdir.rglob("*tfevents*")})
        eventually(lambda: len(made.get("/data/runs")) == expected)
        assert str(logdir) == made.get("/data/environment")["data_location"]
        eventually(lambda: len(made.plugin("scalars/scalars", run="long", tag="walk")) == 1200)
        family = made.family()
        assert 3 <= len(family)
        made.process.send_signal(signal.SIGTERM)
        made.process.wait(PATIENCE_SECONDS)
        eventually(lambda: not any(one.is_running() for one in family))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_tensorboard(directory: Path, database: str, number: signal.Signals) -> None:
    """`summarydb tensorboard` ends with 0 and leaves nothing running."""
    with pages(command("tensorboard", "--db", database, "--port", "0"), directory, f"ends-{number}") as made:
        assert made.get("/data/runs")
        family = made.family()
        made.process.send_signal(number)
        assert 0 == made.process.wait(PATIENCE_SECONDS)
        eventually(lambda: not any(one.is_running() for one in family))


def test_serve_and_up_serve_the_provider_too(directory: Path, database: str, logdir: Path, tmp_path: Path) -> None:
    """With --grpc both say where, and answer there; TensorBoard needs no logdir then."""
    given = ("--port", "0", "--grpc", "127.0.0.1:0")
    up = ("up", str(logdir), "--db", f"sqlite:///{tmp_path / 'up.db'}", "--json")
    for arguments in (("serve", "--db", database, "--json"), up):
        with started(*arguments, *given, cwd=tmp_path) as program:
            said = json.loads(eventually(program.printed))
            assert {"url", "grpc"} == set(said)
            with asking(int(said["grpc"].rpartition(":")[2])) as stub:
                eventually(lambda: "long" in names(stub))
    with started("serve", "--db", database, *given, cwd=tmp_path) as program:
        lines = eventually(lambda: [line for line in [program.out.read_text()] if line.count("\n") == 2])[0]
        address = lines.splitlines()[1].rpartition(" ")[2]
        assert "TensorBoard's data provider is at 127.0.0.1:" in lines
        with pages(tensorboard(f"--grpc_data_provider={address}"), directory, "by-address") as made:
            assert "long" in made.get("/data/runs")


def test_what_cannot_be_is_said_in_one_line(database: str, tmp_path: Path) -> None:
    """An address that is taken, foreign or none, a database that is none: the exit code and the line say so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = [
            (1, ("serve", "--db", database, "--port", "0", "--grpc", f"127.0.0.1:{port}"), f"127.0.0.1:{port}"),
            (2, ("serve", "--db", database, "--port", "0", "--grpc", "0.0.0.0:0"), "--allow-anonymous"),
            (2, ("up", str(tmp_path), "--port", "0", "--grpc", "0.0.0.0:0"), "--allow-anonymous"),
            (2, ("serve", "--db", database, "--grpc", "here"), "HOST:PORT"),
            (2, ("tensorboard", "--db", database, "--host", "0.0.0.0"), "--allow-anonymous"),
            (1, ("tensorboard", "--db", f"sqlite:///{tmp_path / 'none.db'}"), "none.db"),
            (1, ("tensorboard", "--db", database, "--port", str(port)), str(port)),
        ]
        for code, arguments, said in cases:
            ended = run(*arguments, cwd=tmp_path)
            assert code == ended.returncode, (arguments, ended.stderr)
            assert said in ended.stderr
            assert "Traceback" not in ended.stderr


def test_without_the_extra_commands_say_what_to_install(database: str, tmp_path: Path) -> None:
    """A missing package is one line with the command that installs it."""
    for missing, arguments in (
        ("grpc", ["serve", "--db", database, "--port", "0", "--grpc", "127.0.0.1:0"]),
        ("tensorboard", ["tensorboard", "--db", database]),
    ):
        code = f"import sys; sys.modules[{missing!r}] = None; from summarydb.__main__ import main; main()"
        ended = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert 1 == ended.returncode
        (line,) = ended.stderr.splitlines()
        assert missing in line
        assert "pip install 'summarydb[tensorboard]'" in line
