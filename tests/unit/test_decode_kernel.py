"""When the kernel is used, where it is kept, and what happens where there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.decode import kernel
from indexer.decode.reader import Decoder
from indexer.types import Format
from tests.support import records
from tests.support.decoders import decoder, points_of, span

CONTENT = b"".join(records.tb_scalar("t", i, i / 2, 1.0) for i in range(9000))


@pytest.fixture
def nothing_loaded() -> Iterator[None]:
    """The state of a process that has not loaded the kernel yet."""
    kernel._loaded.cache_clear()
    kernel._code.cache_clear()
    yield
    kernel._loaded.cache_clear()
    kernel._code.cache_clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_loaded: None) -> Path:
    """An empty directory in place of the ones where object files are kept."""
    monkeypatch.setattr(kernel, "_directories", lambda: [tmp_path])
    return tmp_path


def count(made: Decoder) -> int:
    """Return how many points `made` finds in CONTENT."""
    return len(made.decode(CONTENT, [span(CONTENT, Format.TENSORBOARD)]).step)


def test_few_bytes_do_not_load_the_kernel(nothing_loaded: None) -> None:
    """A small append is decoded at once, in plain Python; many bytes load the kernel, and then it takes both."""
    made = Decoder()
    few = CONTENT[: len(CONTENT) // 4]
    made.decode(few, [span(few, Format.TENSORBOARD)])
    assert not kernel.ready()
    kernel.warm(compile_only=True).join()
    assert 9000 == count(made)
    assert kernel.ready()
    assert made._kernel is not None


def test_the_kernel_can_be_turned_off(nothing_loaded: None) -> None:
    """With kernel=False nothing is loaded, whatever the size."""
    assert 9000 == count(Decoder(kernel=False))
    assert not kernel.ready()


def test_without_a_kernel_the_pure_path_does_all(monkeypatch: pytest.MonkeyPatch, nothing_loaded: None) -> None:
    """Where llvmlite is missing the result is the same, and the search for a kernel is not repeated."""
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    made = Decoder()
    expected = decoder("pure")
    for _ in range(2):
        found = made.decode(CONTENT, [span(CONTENT, Format.TENSORBOARD)])
        wanted = expected.decode(CONTENT, [span(CONTENT, Format.TENSORBOARD)])
        assert points_of(expected, wanted) == points_of(made, found)
    assert made._kernel is None
    assert kernel.load() is None


def test_it_is_compiled_once_and_then_loaded(cache: Path) -> None:
    """The first process leaves one object file; the next ones load it, without numba, whole or not at all."""
    assert kernel.load() is not None
    (file,) = cache.iterdir()
    content = file.read_bytes()
    kernel._loaded.cache_clear()
    kernel._code.cache_clear()
    changed = file.stat().st_mtime_ns
    assert kernel.load() is not None
    assert changed == file.stat().st_mtime_ns
    assert [file] == list(cache.iterdir())
    assert content[:-32] == kernel._read(file)
    file.write_bytes(content[:-1])  # as a full disk leaves it
    assert kernel._read(file) is None


def test_no_writable_directory_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_loaded: None
) -> None:
    """Where nothing can be kept the kernel is compiled for this process alone."""
    (tmp_path / "file").touch()
    monkeypatch.setattr(kernel, "_directories", lambda: [tmp_path / "file" / "below"])
    assert kernel.load() is not None
    assert [tmp_path / "file"] == list(tmp_path.iterdir())


def test_a_compiler_that_fails_means_no_kernel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an interpreter that can compile, or one that leaves no file, there is no kernel and no error."""
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert kernel.load() is None
    kernel._loaded.cache_clear()
    kernel._code.cache_clear()
    monkeypatch.setattr(sys, "executable", "/bin/false" if sys.platform != "win32" else "where")
    assert kernel.load() is None


def test_warming_does_not_hold_anyone_up() -> None:
    """`warm` returns at once, and when its thread ends the kernel is ready."""
    kernel.warm().join()
    assert kernel.ready()


def test_a_process_with_the_kernel_has_not_imported_numba() -> None:
    """Loading the kernel costs llvmlite, not numba."""
    assert kernel.load() is not None
    code = "import sys; from indexer.decode import kernel; assert kernel.load(); print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "False" == done.stdout.strip()


def test_a_span_outside_the_buffer_is_refused() -> None:
    """The kernel reads raw memory, so a span that ends outside the buffer is an error of the caller."""
    made = decoder("kernel")
    with pytest.raises(ValueError, match="outside the buffer"):
        made.decode(CONTENT[:-1], [span(CONTENT, Format.TENSORBOARD)])


def test_few_bytes_do_not_wait_for_the_compiler(cache: Path) -> None:
    """What is decoded sooner than the kernel is compiled is decoded at once; the next call finds the kernel."""
    assert 256 * 1024 < len(CONTENT)
    decode = Decoder()
    first = decode.decode(CONTENT, [span(CONTENT, Format.TENSORBOARD)])
    assert not kernel.ready()
    assert decode._compiling is not None
    decode._compiling.join()
    second = decode.decode(CONTENT, [span(CONTENT, Format.TENSORBOARD)])
    assert kernel.ready()
    assert first.step.tolist() == second.step.tolist() == list(range(9000))
