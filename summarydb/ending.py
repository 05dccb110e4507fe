"""How this program ends: exit codes, signals, the one line that says why."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

from indexer.errors import SummaryDBError, UsageError
from indexer.log import Unfailing

OK = 0
REFUSED = 1  # an unusable database or directory: an operator must act
USAGE = 2
DAMAGED = 3  # with --strict
BROKEN = 70  # a bug of ours (EX_SOFTWARE of sysexits.h)
LATER = 75  # the same may succeed in a moment (EX_TEMPFAIL of sysexits.h); only between `up` and its children

GRACE_SECONDS = 1.5
"""Given to work in hand when asked to end. What is cut then is rolled back and loaded again at the next start."""

T = TypeVar("T")


def say(line: str) -> None:
    """Print one line about ourselves on standard error."""
    err = Unfailing(sys.stderr)
    err.write(f"summarydb: {line}\n")
    err.flush()


def served(url: str, grpc: str | None, *, as_json: bool) -> str:
    """Return what a server prints once it answers. grpc: address of the data provider, None: there is none."""
    if as_json:
        return json.dumps({"url": url} | ({"grpc": grpc} if grpc else {}))
    line = f"summarydb is at {url}"
    return f"{line}\nTensorBoard's data provider is at {grpc}" if grpc else line


def code_of(error: SummaryDBError) -> int:
    """Return the exit code that says what kind of error ended the program."""
    return USAGE if isinstance(error, UsageError) else REFUSED


def describe_bug(error: BaseException, *, verbose: bool) -> str:
    """Return what to say of an exception that nobody expected; with `verbose` its traceback goes to standard error."""
    if verbose:
        import traceback

        traceback.print_exception(error, file=sys.stderr)
        return f"unexpected {type(error).__name__}, a bug: please report it with the traceback above"
    first = str(error).strip().partition("\n")[0]
    return f"unexpected {type(error).__name__}, a bug: {first or 'no details'}; run again with -v and report it"


def end_soon(stop: threading.Event, *, seconds: float, code: int = OK) -> None:
    """Ask for an end, and end the process hard when it is not over in time."""
    stop.set()
    time.sleep(seconds)
    os._exit(code)


@contextmanager
def signals(asked: Callable[[], None]) -> Iterator[None]:
    """Call `asked` at SIGINT, SIGTERM or, on Windows, Ctrl-Break; in a thread, for a handler may not take locks."""

    def note(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=asked, daemon=True).start()

    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until_asked(work: Callable[[threading.Event], T], *, unfinished: int = OK) -> T:
    """Return what `work(stop)` returns; signals set `stop`, and end the process when that does not help.

    unfinished: the exit code then; work that is of no use when it is cut has another one than OK.

    The work has a thread of its own: Python runs signal handlers in the main thread, and only between two of its
    bytecodes, so a long statement there would hold the end up.
    """
    stop = threading.Event()
    results: list[T] = []
    errors: list[BaseException] = []

    def attempt() -> None:
        try:
            results.append(work(stop))
        except BaseException as e:  # raised again below, in the main thread
            errors.append(e)

    worker = threading.Thread(target=attempt, daemon=True)
    with signals(lambda: end_soon(stop, seconds=GRACE_SECONDS, code=unfinished)):
        worker.start()
        while worker.is_alive():
            worker.join(0.5)  # in steps: on Windows a wait without an end does not see Ctrl-C
        if errors:
            raise errors[0]
        return results[0]


def end_with_input() -> None:
    """Have this process asked to end when its standard input does: whoever started it ended, if only by a kill."""

    def watch() -> None:
        with suppress(OSError):  # not by sys.stdin, which holds a lock that the end of the interpreter wants
            while os.read(0, 4096):
                pass
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
