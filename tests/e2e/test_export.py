"""`summarydb export`: every point and payload, in every format, page by page."""

from __future__ import annotations

import base64
import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.db.engine import read_only
from summarydb import cli, export
from tests.support.engines import transaction
from tests.support.following import SMALL, index_once, make
from tests.support.program import environment
from tests.support.records import (
    ms_image,
    ms_version,
    png,
    tb_image,
    tb_scalar,
    tb_session_start,
    tb_strings,
    tb_tensor,
    tb_version,
)
from webapi.queries import Range

FILE = "events.out.tfevents.1700000000.x"
ODD = "../../etc/\0passwd"
WORDS = [b"a", b"bc", b"\xff", b"d", b"e"]
Point = dict[str, Any]


@pytest.fixture
def runs(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two jobs, in the database: odd numbers and names, payloads of many kinds, a restart, a long payload."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SUMMARYDB_")]:
        monkeypatch.delenv(name)
    numbers = b"".join(tb_scalar("loss", step, step / 4, 1.0 + step) for step in range(4))
    root = make(
        tmp_path / "runs",
        {
            f"a/{FILE}": tb_version(1.0)
            + numbers
            + tb_scalar("loss", 4, float("nan"), float("nan"))
            + tb_scalar("loss", 5, float("-inf"), 1.0)
            + tb_strings(ODD, 1, WORDS, 1.0)
            + tb_strings(ODD, 2, [], 1.0)
            + tb_image("image", 1, png(3, 2), 1.0)
            + tb_tensor("long", 1, (100,), bytes(400), 1.0)
            + tb_session_start(5, 2.0)
            + tb_scalar("loss", 5, 7.0, 2.0),
            "b/events.out.events.summary.1.0.x_MS": ms_version(1.0) + ms_image("image", -5, png(1, 1), 1.0),
        },
    )
    index_once(engine, root, config=SMALL.__class__(kernel=False, max_blob_bytes=300))
    return root


def exported(capsysbinary: pytest.CaptureFixture[bytes], url: str, *arguments: str) -> bytes:
    """Return what an export writes to standard output."""
    capsysbinary.readouterr()
    code = cli.run(["export", "--db", url, *arguments])
    captured = capsysbinary.readouterr()
    assert 0 == code, captured.err
    return captured.out


def lines(content: bytes) -> list[Point]:
    """Return the points of an ndjson."""
    return [json.loads(line, parse_constant=pytest.fail) for line in content.splitlines()]


def bytes_of(point: Point) -> list[bytes | None]:
    """Return the bytes of a point's payloads."""
    found = [payload["base64"] for payload in point["payloads"]]
    return [None if text is None else base64.b64decode(text, validate=True) for text in found]


def test_a_line_is_a_point_with_its_payloads(runs: Path, url: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Numbers exact and strict, bytes as they are, those in files too; what cannot be decoded says why."""
    found = lines(exported(capsysbinary, url, "--restarts", "all"))
    loss = [(p["step"], p["seq"], p["wall_time"], p["value"]) for p in found if p["tag"] == "loss"]
    plain = [(step, 0, 1.0 + step, step / 4) for step in range(4)]
    assert [*plain, (4, 0, None, "NaN"), (5, 0, 1.0, "-Infinity"), (5, 1, 2.0, 7.0)] == loss
    assert not any("payloads" in point for point in found if point["tag"] == "loss")
    kept = {(p["train_id"], p["tag"], p["step"]): bytes_of(p) for p in found if "payloads" in p}
    assert {
        ("./a", ODD, 1): WORDS,
        ("./a", "image", 1): [png(3, 2)],
        ("./a", "long", 1): [bytes(400)],
        ("./a", "__session_log__", 5): [b"\x08\x01"],
        ("./b", "image", -5): [png(1, 1)],
    } == kept
    (words,) = (p["payloads"] for p in found if p["tag"] == ODD and p["step"] == 1)
    assert [None, None, "byte 0 is no UTF-8", None, None] == [payload["error"] for payload in words]
    assert "payloads" not in next(p for p in found if p["tag"] == ODD and p["step"] == 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--job", "./b"], [("./b", "image", -5)]),
        (["--job", "./a", "--tag", "loss", "--from-step", "4"], [("./a", "loss", 4), ("./a", "loss", 5)]),
        (["--tag", "image", "--to-step", "0"], [("./b", "image", -5)]),
        (["--plugin", "image", "--plugin", "images"], [("./a", "image", 1), ("./b", "image", -5)]),
        (["--plugin", "none"], []),
    ],
)
def test_what_is_chosen_is_written(
    arguments: list[str],
    expected: list[tuple[str, str, int]],
    runs: Path,
    url: str,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    """Jobs, tags, plugins and steps, alone and together; what a restart superseded only where asked for."""
    found = lines(exported(capsysbinary, url, *arguments))
    assert expected == sorted((point["train_id"], point["tag"], point["step"]) for point in found)


@pytest.mark.parametrize(("series", "points", "payloads", "size"), [(1, 1, 1, 1), (2, 3, 2, 4), (100, 2, 3, 1)])
@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_pages_do_not_show(
    form: str,
    series: int,
    points: int,
    payloads: int,
    size: int,
    runs: Path,
    url: str,
    capsysbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However small the pages are, the output is the same: a point with more payloads than a page has, too."""
    arguments = ("--format", form, "--restarts", "all")
    expected = exported(capsysbinary, url, *arguments)
    for name, value in (("SERIES", series), ("POINTS", points), ("PAYLOADS", payloads), ("BYTES", size)):
        monkeypatch.setattr(export, name, value)
    assert expected == exported(capsysbinary, url, *arguments)


def test_tables_say_what_lines_say(runs: Path, url: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """csv and json have a row a point, or one a payload, with the same values."""
    expected: list[list[Any]] = []
    for point in lines(exported(capsysbinary, url)):
        values = [point[name] for name in export.POINT]
        empty: Sequence[Any] = [dict.fromkeys((*export.PAYLOAD, "base64"))]
        expected += [[*values, *payload.values()] for payload in point.get("payloads", empty)]
    document = json.loads(exported(capsysbinary, url, "--json"), parse_constant=pytest.fail)
    columns = [*export.POINT, *export.PAYLOAD, "base64"]
    assert {"columns": columns, "rows": expected, "truncated": False} == document
    table = list(csv.reader(io.StringIO(exported(capsysbinary, url, "--format", "csv").decode(), newline="")))
    shown = [["" if v is None else json.dumps(v) if isinstance(v, list) else str(v) for v in row] for row in expected]
    assert [columns, *shown] == table


def test_a_name_may_hold_whatever_ends_lines(
    runs: Path, engine: Engine, url: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A carriage return or a line feed in a name is no new row of a csv."""
    odd = "a\rb"
    with transaction(engine) as conn:
        conn.execute(text("UPDATE tags SET name = :name WHERE name = 'loss'"), {"name": odd})
    content = exported(capsysbinary, url, "--format", "csv", "--plugin", "scalars").decode()
    assert {odd} == {row["tag"] for row in csv.DictReader(io.StringIO(content, newline=""))}


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_payloads_become_files(
    form: str, runs: Path, url: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Each in a file whose name is numbers and a known ending, whatever the tag is called; rows say which it is."""
    whole = {
        p["sha256"]: p["base64"] for point in lines(exported(capsysbinary, url)) for p in point.get("payloads", ())
    }
    output = exported(capsysbinary, url, "--files", "out", "--format", form)
    if form == "ndjson":
        payloads = [payload for point in lines(output) for payload in point.get("payloads", ())]
    else:
        payloads = [row for row in csv.DictReader(io.StringIO(output.decode())) if row["file"]]
    assert len(whole) == len(payloads)
    for payload in payloads:
        assert re.fullmatch(r"[0-9]+/-?[0-9]+-[0-9]+-[0-9]+\.(png|txt|bin)", payload["file"])
        assert base64.b64decode(whole[payload["sha256"]]) == (tmp_path / "out" / payload["file"]).read_bytes()
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*")}
    assert {payload["file"] for payload in payloads} == found
    assert 2 == cli.run(["export", "--db", url, "--files", "out"])
    assert b"out is not empty: give a new directory" in capsysbinary.readouterr().err


def test_output_goes_to_a_file(
    runs: Path, url: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """--output has the bytes that standard output would have had; without bytes of payloads it is shorter."""
    expected = exported(capsysbinary, url)
    assert b"" == exported(capsysbinary, url, "--output", "all.ndjson")
    assert expected == (tmp_path / "all.ndjson").read_bytes()
    short = lines(exported(capsysbinary, url, "--blobs", "none"))
    assert len(lines(expected)) == len(short)
    assert not any("base64" in payload for point in short for payload in point.get("payloads", ()))


def test_a_payload_whose_file_is_gone_is_told(runs: Path, url: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """The line has null in place of its bytes, and standard error says how many there are."""
    (runs / "a" / FILE).unlink()
    assert 0 == cli.run(["export", "--db", url, "--tag", "long"])
    captured = capsysbinary.readouterr()
    assert [[None]] == [bytes_of(point) for point in lines(captured.out)]
    assert b"1 payloads were too long for the database" in captured.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--job", "./none"], 2, "--job: no job './none'\n"),
        (["--tag", "none"], 2, "--tag: no job has a tag 'none'\n"),
        (["--job", "./b", "--tag", "loss"], 2, "--tag: none of the named jobs has a tag 'loss'\n"),
        (["--from-step", "x"], 2, "'x' is not a valid integer"),
        (["--from-step", str(2**63)], 2, "--from-step"),
        (["--format", "xml"], 2, "'xml' is not one of"),
        (["--format", "arrow"], 2, "pip install 'summarydb[arrow]'"),
        (["--format", "parquet"], 2, "pip install 'summarydb[arrow]'"),
        (["--files", "x", "--blobs", "base64"], 2, "the bytes go to one of them"),
        (["--files", "file"], 1, "--files file cannot be used"),
        (["--output", "no/such/file"], 1, "--output no/such/file cannot be written"),
        (["--db", "sqlite:///no.db"], 1, "there is no such file: run `summarydb up LOGDIR` first"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str],
    code: int,
    says: str,
    runs: Path,
    url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 2 for what was typed, 1 for what cannot be used; nothing is written."""
    (runs.parent / "file").touch()
    find = importlib.util.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "pyarrow" else find(name))
    assert code == cli.run(["export", *(() if "--db" in arguments else ("--db", url)), *arguments])
    captured = capsys.readouterr()
    assert ("", 1) == (captured.out, captured.err.count("\n"))
    assert says in captured.err


def test_nothing_is_written_within_a_transaction(runs: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever takes the lines slowly holds no snapshot open."""
    depth = 0

    @contextmanager
    def counted(*arguments: Any, **more: Any) -> Iterator[Any]:
        nonlocal depth
        depth += 1
        with read_only(*arguments, **more) as conn:
            yield conn
        depth -= 1

    class Out(io.BytesIO):
        def write(self, content: Any) -> int:
            assert 0 == depth
            return super().write(content)

    monkeypatch.setattr(export, "read_only", counted)
    out = Out()
    assert 0 == export.run(url, export.Wanted(), out, seconds=10.0)
    assert 12 == out.getvalue().count(b"\n")


def test_a_reader_that_has_enough_is_no_error(engine: Engine, url: str, tmp_path: Path) -> None:
    """`| head` ends the export, silently and with exit code 0."""
    numbers = b"".join(tb_scalar("loss", step, step / 4, 1.0) for step in range(5_000))
    index_once(engine, make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + numbers}))
    command = [sys.executable, "-m", "summarydb", "export", "--db", url]
    with subprocess.Popen(
        command, env=environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert b'"step":0' in program.stdout.readline()
        program.stdout.close()
        assert (b"", 0) == (program.stderr.read(), program.wait())


def test_memory_is_that_of_a_page(engine: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six megabytes of payloads pass through a quarter of that, with what is known of them."""
    texts = b"".join(tb_strings("t", step, [os.urandom(2**15).hex().encode()], 1.0) for step in range(100))
    index_once(engine, make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + texts}))
    monkeypatch.setattr(export, "BYTES", 2**17)
    with (tmp_path / "out").open("wb") as out:
        export.run(url, export.Wanted(steps=Range(0, 1)), out, seconds=10.0)  # imports, and caches of statements
        tracemalloc.start()
        export.run(url, export.Wanted(), out, seconds=10.0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100 * 2**16 / 4


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_columns_hold_bytes(
    form: str, runs: Path, url: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What Arrow reads back are the rows of json, with bytes in place of base64."""
    pa = pytest.importorskip("pyarrow")
    document = json.loads(exported(capsysbinary, url, "--json"))
    exported(capsysbinary, url, "--format", form, "--output", "points")
    if form == "arrow":
        table = pa.ipc.open_stream((tmp_path / "points").read_bytes()).read_all()
    else:
        table = importlib.import_module("pyarrow.parquet").read_table(tmp_path / "points")
    assert [*document["columns"][:-1], "data"] == table.column_names
    found = [list(row.values()) for row in table.to_pylist()]
    for row in document["rows"]:
        row[-1] = None if row[-1] is None else base64.b64decode(row[-1])
        row[7] = None if row[7] is None else float(row[7])
    assert repr(document["rows"]) == repr(found)
