"""The compiled path: thousands of records of many shards in one call, without a Python object for any of them.

compiled.py is its source. numba compiles that once, in a process of its own, to an object file; every later process
loads the file with llvmlite alone, which takes a quarter of the time and memory of importing numba. Without numba,
llvmlite or a processor they know there is no kernel, and the pure path (reader.py) does all, slower.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from indexer.decode import frames
from indexer.types import MAX_BLOB_BYTES

Walk: TypeAlias = Callable[..., int]
"""The compiled function; its arguments are addresses, in the order of `Walker.walk`."""

# What `walk` returns.
DONE = 0
ROOM = 1  # an array must grow first; the state says how large it must be

# Columns of `spans`: job, start (where to go on), stop, mode, lost (0 or 1), plain records, end of its points.
SPAN_WIDTH = 7
TENSORBOARD = 0  # modes
MINDSPORE = 1
REFERENCE = 2  # not for the kernel

# Columns of `keys`: job, style, first byte in `names`, bytes, hash.
KEY_WIDTH = 5
STYLE_SIMPLE = 0  # simple_value without metadata
STYLE_NAMED = 1  # metadata names plugin scalars
STYLE_BARE = 2  # a 32-bit tensor without metadata
STYLE_MINDSPORE = 3
STYLE_BARE_DOUBLE = 4  # a 64-bit tensor without metadata
STYLE_HISTO = 5  # a HistogramProto without metadata
STYLE_GRID = 6  # a 64-bit tensor of shape [k, 3]; metadata names plugin histograms
STYLE_BUCKETS = 7  # MindSpore's histogram

# Columns of `histograms`: point, first of its numbers, buckets, flags, then NaN, +infinity and -infinity counted.
HISTOGRAM_WIDTH = 7
FLAG_WIDTHS = 1  # the second column holds widths
FLAG_COUNTED = 2  # 2, 4, 8: the writer counted NaN, +infinity, -infinity
# Columns of `statistics`: count, min, max, sum, sum of squares, mean, deviation, the last bucket's limit where it is
# another than the maximum; NaN stands for none. `numbers`: (left, right or width, count) a bucket.
STATISTICS_WIDTH = 8

# Columns of `events`: kind, span, a, b, points before it, records of the span before it that needed no event.
EVENT_WIDTH = 6
RECORD = 0  # a record of b payload bytes at a is not plain
BAD_PAYLOAD = 1  # its checksum is wrong
RESYNCED = 2  # damage from a on (-1: from before the span) ends at b
NEW_KEY = 3  # key a; its metadata is buffer[b:c], b is -1 where it has none; c stands in the last column
REST = 4  # everything from a on is not for the kernel; b: it is lost already
WHOLE = 5  # nor is anything of this span

# `state`: span, CRC by instruction (0 or 1), points, events, keys, name bytes; the room for points, events, keys and
# name bytes; slot mask, rehash wanted (0 or 1), max_record_bytes, spans; then for how many points, keys, name bytes
# and events (these: of one record) there must be room. From 18 on: histograms and their numbers, the room for these,
# most buckets of one, histograms and numbers with those of this record, for how many of them there must be room.
STATE_WIDTH = 27

HEADER_CHECKS = 4096
"""Payload lengths whose header checksum is looked up instead of computed."""

BUCKET_BYTES = 24
_LEAST_HISTOGRAMS = 1024  # room for them, where there are any
_LEAST_NUMBERS = 2**16
_COMPILE_SECONDS = 120.0
_DIGEST_BYTES = 32
_LOCK = threading.Lock()


class Walker:
    """The compiled function with what it keeps between calls: which tags it knows."""

    def __init__(self, function: Walk, limit: int, max_blob_bytes: int = MAX_BLOB_BYTES) -> None:
        self._function = function
        self._tables = np.ascontiguousarray(frames.crc_tables())
        self._checks = _header_checks()
        self._keys = np.zeros((4096, KEY_WIDTH), dtype=np.int64)
        self._names = np.zeros(2**18, dtype=np.uint8)
        self._slots = np.full(4 * len(self._keys), -1, dtype=np.int32)
        self._events = np.zeros((4096, EVENT_WIDTH), dtype=np.int64)
        self._state = np.zeros(STATE_WIDTH, dtype=np.int64)
        self._state[1] = hardware_crc()
        self._state[12] = limit
        self._state[22] = max_blob_bytes // BUCKET_BYTES
        self.key = np.empty(0, dtype=np.int32)
        self.step = np.empty(0, dtype=np.int64)
        self.wall_time = np.empty(0, dtype=np.float64)
        self.value = np.empty(0, dtype=np.float64)
        self.histograms = np.empty((0, HISTOGRAM_WIDTH), dtype=np.int64)
        self.statistics = np.empty((0, STATISTICS_WIDTH), dtype=np.float64)
        self.numbers = np.empty(0, dtype=np.float64)

    def keys_from(self, first: int) -> list[tuple[int, int, bytes]]:
        """Return job, style and tag of the keys from number `first` on."""
        rows = self._keys[first : self._state[4]].tolist()
        if not rows:
            return []
        start = rows[0][2]
        names = self._names[start : self._state[5]].tobytes()
        return [(job, style, names[at - start : at - start + size]) for job, style, at, size, _ in rows]

    def fresh(self) -> Walker:
        """Return one that knows no tags."""
        return Walker(self._function, int(self._state[12]))

    def forget(self, jobs: Sequence[int]) -> None:
        """Give up the keys of jobs; they match nothing any more."""
        owners = self._keys[: self._state[4], 0]
        owners[np.isin(owners, jobs)] = -1

    def walk(
        self, view: memoryview, spans: npt.NDArray[np.int64], clocks: npt.NDArray[np.float64]
    ) -> Iterator[Sequence[list[int]]]:
        """Decode spans; yield what Python must look at, in order. Then the columns hold all plain points.

        spans: shape (n, SPAN_WIDTH), within `view`; clocks: shape (n,), infinity, becomes the smallest finite clock.
        """
        buffer = np.frombuffer(view, dtype=np.uint8)
        inside = (spans[:, 1] >= 0) & (spans[:, 1] <= spans[:, 2]) & (spans[:, 2] <= len(buffer))
        if not inside.all():  # the kernel reads raw memory
            raise ValueError("a span ends outside the buffer")
        room = int((spans[:, 2] - spans[:, 1]).sum()) // 40 + 64
        self.key = np.empty(room, dtype=np.int32)
        self.step = np.empty(room, dtype=np.int64)
        self.wall_time = np.empty(room, dtype=np.float64)
        self.value = np.empty(room, dtype=np.float64)
        state = self._state
        self.histograms = np.empty((0, HISTOGRAM_WIDTH), dtype=np.int64)  # most files have none
        self.statistics = np.empty((0, STATISTICS_WIDTH), dtype=np.float64)
        self.numbers = np.empty(0, dtype=np.float64)
        state[0] = state[2] = state[3] = state[18] = state[19] = 0
        state[13] = len(spans)
        while True:
            state[6:11] = len(self.key), len(self._events), len(self._keys), len(self._names), len(self._slots) - 1
            state[14:18] = state[25:27] = 0
            state[20:22] = len(self.histograms), len(self.numbers)
            arrays: Sequence[npt.NDArray[Any]] = (
                buffer, spans, clocks, state, self.key, self.step, self.wall_time, self.value,
                self._slots, self._keys, self._names, self._events, self._tables, self._checks,
                self.histograms, self.statistics, self.numbers,
            )  # fmt: skip
            status = self._function(*(array.ctypes.data for array in arrays))
            events = self._events[: state[3]].tolist()
            state[3] = 0
            if events:
                yield events
            if status == DONE:
                break
            self._grow(*state[14:18].tolist())
            self._grow_histograms(*state[25:27].tolist())
        points = int(state[2])
        self.key, self.step = self.key[:points], self.step[:points]
        self.wall_time, self.value = self.wall_time[:points], self.value[:points]
        self.histograms, self.statistics = self.histograms[: state[18]], self.statistics[: state[18]]
        self.numbers = self.numbers[: state[19]]

    def _grow(self, points: int, keys: int, names: int, events: int) -> None:
        if points > len(self.key):
            self.key, self.step = _grown(self.key, points), _grown(self.step, points)
            self.wall_time, self.value = _grown(self.wall_time, points), _grown(self.value, points)
        if keys > len(self._keys):
            self._keys = _grown(self._keys, keys)
            size = 1 << (4 * len(self._keys) - 1).bit_length()
            self._slots = np.full(size, -1, dtype=np.int32)
            self._state[11] = 1
        if names > len(self._names):
            self._names = _grown(self._names, names)
        if events > len(self._events):
            self._events = _grown(self._events, events)

    def _grow_histograms(self, histograms: int, numbers: int) -> None:
        if histograms > len(self.histograms):
            least = max(histograms, _LEAST_HISTOGRAMS)
            self.histograms, self.statistics = _grown(self.histograms, least), _grown(self.statistics, least)
        if numbers > len(self.numbers):
            self.numbers = _grown(self.numbers, max(numbers, _LEAST_NUMBERS))


def ready() -> bool:
    """Tell whether the kernel is loaded already."""
    return _loaded.cache_info().currsize > 0 and _loaded() is not None


def load() -> Walk | None:
    """Return the kernel, compiled first where no process did yet; None where there is none on this machine."""
    with _LOCK:
        return _loaded()


def compiled() -> bool:
    """Tell whether `load` need not compile: it is done, or cannot be."""
    if _code.cache_info().currsize:
        return True
    try:
        name = _file_name()
    except ImportError:
        return True
    return any((directory / name).exists() for directory in _directories())


def hardware_crc() -> bool:
    """Tell whether this processor has an instruction for CRC32C that the kernel uses."""
    import llvmlite.binding as llvm

    return llvm.get_process_triple().startswith("x86_64") and bool(llvm.get_host_cpu_features().get("sse4.2"))


def warm(*, compile_only: bool = False) -> threading.Thread:
    """Load the kernel in the background, compiled first where no process did yet; or only see that it is compiled."""

    def run() -> None:
        with _LOCK:
            (_code if compile_only else _loaded)()

    thread = threading.Thread(target=run, name="kernel", daemon=True)
    thread.start()
    return thread


@functools.cache
def _loaded() -> Walk | None:
    try:
        code = _code()
        return None if code is None else _linked(code)
    except (ImportError, OSError, RuntimeError):  # no llvmlite, no such processor
        return None


@functools.cache
def _code() -> bytes | None:
    """Return the object file's content, compiled first where no process did yet; None where that cannot be done."""
    if sys.byteorder != "little":
        return None
    try:
        name = _file_name()
        for directory in _directories():
            code = _read(directory / name)
            if code is not None:
                return code
        for directory in _directories():
            if _writable(directory):
                _compile(directory / name)
                return _read(directory / name)
        with tempfile.TemporaryDirectory(prefix="summarydb-") as temporary:
            _compile(Path(temporary) / name)
            return _read(Path(temporary) / name)
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError):  # no numba
        return None


def _file_name() -> str:
    """Return the object file's name, which changes with whatever its content depends on."""
    import llvmlite.binding as llvm

    facts = [llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    facts += [".".join(map(str, llvm.llvm_version_info)), sysconfig.get_platform()]
    digest = hashlib.blake2b("\n".join(facts).encode(), digest_size=12)
    digest.update(Path(__file__).read_bytes())
    digest.update(Path(__file__).with_name("compiled.py").read_bytes())
    return f"kernel-{digest.hexdigest()}.o"


def _directories() -> list[Path]:
    """Return where object files are looked for and put: beside the source, else the user's cache."""
    if sys.platform == "win32":
        cache = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        cache = str(Path.home() / "Library/Caches")
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return [Path(__file__).parent / "__pycache__", Path(cache) / "summarydb"]


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def _read(path: Path) -> bytes | None:
    """Return the object file at `path`; None where there is none, or not a whole one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return code if hashlib.blake2b(code, digest_size=_DIGEST_BYTES).digest() == digest else None


def _compile(path: Path) -> None:
    """Compile in another process, which ends when this one does: numba would stay in memory for good."""
    command = "import sys; sys.path.insert(0, sys.argv[1]); from indexer.decode.kernel import build; build(sys.argv[2])"
    parent = str(Path(__file__).resolve().parents[2])
    child = subprocess.Popen(
        [sys.executable, "-c", command, parent, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def end() -> None:
        child.kill()
        child.wait()

    atexit.register(end)  # who ends while this goes on, in a thread, leaves nothing running
    try:
        child.wait(_COMPILE_SECONDS)
    except BaseException:
        end()
        raise
    finally:
        atexit.unregister(end)
        if child.stdin is not None:
            child.stdin.close()


def build(path: str) -> None:
    """Compile the kernel and put it at `path`, whole or not at all. Ends the process when standard input ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from indexer.decode.compiled import object_code

    name, code = object_code()
    code = name.encode() + b"\n" + code
    with tempfile.NamedTemporaryFile(dir=Path(path).parent, suffix=".tmp", delete=False) as file:
        file.write(code + hashlib.blake2b(code, digest_size=_DIGEST_BYTES).digest())
    os.replace(file.name, path)  # noqa: PTH105  # one name is a string


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def _linked(content: bytes) -> Walk:
    """Make the function in a file that `build` made callable; calls release the GIL."""
    import llvmlite.binding as llvm

    name, _, code = content.partition(b"\n")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(name.decode())
    if not address:
        raise RuntimeError("the compiled kernel lacks its function")
    native = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 19)(address)
    result, error = ctypes.c_int64(), ctypes.c_void_p()

    def walk(*addresses: int) -> int:
        native(ctypes.addressof(result), ctypes.addressof(error), *addresses)
        return result.value

    walk.engine = engine  # type: ignore[attr-defined]  # the machine code goes with it
    return walk


def _grown(array: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    """Return a larger copy of `array`, at least twice as long."""
    grown = np.empty((max(least, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown


@functools.cache
def _header_checks() -> npt.NDArray[np.uint32]:
    """Return the stored checksum of the header of each payload length below HEADER_CHECKS."""
    return np.array([frames.checksum(n.to_bytes(8, "little")) for n in range(HEADER_CHECKS)], dtype=np.uint32)
