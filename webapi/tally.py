"""Counts the requests of this process: by route and status, with their seconds. What is asked for makes no label."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from webapi.accesslog import Counted

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROUTE = "summarydb.route"
"""Key of the environment: the template of the route that answers, never the path that was asked for."""
NO_ROUTE = "none"
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets of durations, seconds; behind them there is one more."""


@dataclass(slots=True)
class Durations:
    """How long the requests of one route took."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Tally:
    """What was asked for since this process started."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._durations: dict[str, Durations] = {}
        self._refused: Counter[int] = Counter()

    def over(self, app: WSGIApplication) -> WSGIApplication:
        """Return `app`, its requests counted when their answers are sent, or given up."""

        def counted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            began = self._clock()
            status = [500]

            def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
                status[:] = [int(line[:3])]
                return start_response(line, headers, exc_info)

            def sent(_size: int) -> None:
                self.answered(environ.get(ROUTE, NO_ROUTE), status[0], self._clock() - began)

            return Counted(app(environ, start), sent)

        return counted

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        with self._lock:
            self._requests[route, status] += 1
            self._durations.setdefault(route, Durations()).add(seconds)

    def refused(self, status: int) -> None:
        """Count one that was refused before it came to a route: there is too much to do."""
        with self._lock:
            self._refused[status] += 1

    def seen(self) -> tuple[dict[tuple[str, int], int], dict[str, Durations], dict[int, int]]:
        """Return requests by route and status, durations by route, refusals by status, as of one moment."""
        with self._lock:
            durations = {route: Durations(list(d.buckets), d.seconds) for route, d in self._durations.items()}
            return dict(self._requests), durations, dict(self._refused)
