"""Who looks at which jobs, for the indexer: also where a client is told that nothing has changed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from flask import request

PATHS = 1_000
PATH_CHARACTERS = 2_000


class Looks:
    """Hands wishes on, and remembers those of the last requests: an answer that a client has is not made again."""

    def __init__(self, ask: Callable[[dict[str, object]], None]) -> None:
        self._ask = ask
        self._known: OrderedDict[str, dict[str, object]] = OrderedDict()  # by path and query

    def __call__(self, message: dict[str, object]) -> None:
        """Hand on a wish of this request."""
        path = request.full_path
        if len(path) <= PATH_CHARACTERS:
            self._known[path] = message
            while len(self._known) > PATHS:
                self._known.popitem(last=False)
        self._ask(message)

    def again(self) -> None:
        """Hand on what this request asked for when it was answered last."""
        message = self._known.get(request.full_path)
        if message is not None:
            self._ask(message)
