"""structlog set-up, put off until there is something to say: its import takes longer than a small load."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

from indexer.errors import Refuse
from indexer.logfile import LogFile

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

_wanted: dict[str, Any] = {"verbose": False, "json": False, "file": None}


def configure(*, verbose: bool = False, json: bool = False, file: str | None = None) -> None:
    """Send log lines to standard error, or to `file`: for people, or one JSON object a line.

    Only entry points call this. Refuse where the file cannot be written.
    """
    try:
        opened = None if file is None else LogFile(Path(file))
    except OSError as e:
        raise Refuse(f"--log-file {file} cannot be written ({e.strerror}): give another, or its permissions") from e
    _wanted.update(verbose=verbose, json=json, file=opened)


def get() -> FilteringBoundLogger:
    """Return a logger; event = past-tense verb, facts as fields, one line a batch, never one a record."""
    return cast("FilteringBoundLogger", _Late())


class Unfailing:
    """A stream for words about ourselves: where they cannot be written (a full disk, a closed pipe), work goes on."""

    def __init__(self, stream: TextIO | LogFile) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if it can be."""
        with suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if it can be."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether people look at it."""
        return self._stream.isatty()


class _Late:
    """A logger that imports and sets up structlog when it is first used."""

    def __getattr__(self, name: str) -> Any:
        try:
            import structlog

            if not structlog.is_configured():
                _set_up()
        except OSError:  # too many files are open to read its code: what happened matters more than how it looks
            return _say_plainly
        return getattr(structlog.get_logger(), name)


def _say_plainly(event: str, **facts: object) -> None:
    err = Unfailing(_wanted["file"] or sys.stderr)
    err.write(f"{event} {' '.join(f'{name}={value!r}' for name, value in facts.items())}\n")
    err.flush()


def _printer() -> Any:
    """Return what writes lines to the file, else to standard error as it is then: tests put their own there."""
    import structlog

    return structlog.WriteLogger(cast("TextIO", Unfailing(_wanted["file"] or sys.stderr)))


def _set_up() -> None:
    import structlog

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Processor
    if _wanted["json"]:
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # they hold passwords
        shared.append(structlog.processors.ExceptionRenderer(tracebacks))
        renderer = structlog.processors.JSONRenderer()
    else:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(
            colors=(_wanted["file"] or sys.stderr).isatty(), exception_formatter=plain
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if _wanted["verbose"] else logging.INFO),
        logger_factory=lambda *_: _printer(),
        cache_logger_on_first_use=False,
    )
