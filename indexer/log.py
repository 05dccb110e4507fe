"""structlog set-up, put off until there is something to say: its import takes longer than a small load."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

_wanted = {"verbose": False, "json": False}


def configure(*, verbose: bool = False, json: bool = False) -> None:
    """Send log lines to standard error: for people, or one JSON object a line. Only entry points call this."""
    _wanted.update(verbose=verbose, json=json)


def get() -> FilteringBoundLogger:
    """Return a logger; event = past-tense verb, facts as fields, one line a batch, never one a record."""
    return cast("FilteringBoundLogger", _Late())


class _Late:
    """A logger that imports and sets up structlog when it is first used."""

    def __getattr__(self, name: str) -> Any:
        import structlog

        if not structlog.is_configured():
            _set_up()
        return getattr(structlog.get_logger(), name)


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
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if _wanted["verbose"] else logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is then: tests put their own there
        cache_logger_on_first_use=False,
    )
