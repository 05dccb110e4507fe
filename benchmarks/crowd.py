"""Many clients at once, in a process of their own: `python -m benchmarks.crowd PORT CLIENTS SECONDS`; JSON at the end.

Each client has a connection of its own and asks for what pages of a dashboard ask for, one request after the other.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from collections import Counter
from urllib.parse import quote

from benchmarks.generate import run_name, tag_name

_RUNS = 1_000
_TAGS = 10
_KINDS = ("jobs", "tags", "series", "many", "changed", "health")


class Client(threading.Thread):
    """One client: counts answers by status, and times those that are answers."""

    def __init__(self, port: int, number: int, until: float) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.chance = random.Random(number)
        self.until = until
        self.statuses: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {kind: [] for kind in _KINDS}

    def run(self) -> None:
        """Ask until the time is over."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        tags: dict[str, str] = {}
        while time.perf_counter() < self.until:
            kind = self.chance.choices(_KINDS, (2, 2, 6, 1, 6, 3))[0]
            path = self.path(kind)
            begun = time.perf_counter()
            try:
                headers = {"If-None-Match": tags[path]} if path in tags else {}
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as e:
                self.statuses[type(e).__name__] += 1
                connection.close()
                continue
            self.statuses[str(answer.status)] += 1
            if answer.status in {200, 304}:
                self.seconds[kind].append(time.perf_counter() - begun)
                if tag := answer.getheader("ETag"):
                    tags[path] = tag
            elif answer.status in {429, 503}:
                time.sleep(0.2)  # a client that does as it is told, though not for a whole second
        connection.close()

    def path(self, kind: str) -> str:
        """Return what to ask for."""
        job = quote(f"./{run_name(self.chance.randrange(_RUNS))}", safe="")
        tag = quote(tag_name(self.chance.randrange(_TAGS)), safe="")
        match kind:
            case "jobs":
                return f"/api/v1/jobs?limit={self.chance.choice((20, 100))}"
            case "tags":
                return f"/api/v1/jobs/{job}/tags"
            case "series":
                return f"/api/v1/series?job={job}&tag={tag}"
            case "many":
                return f"/api/v1/series?tag={tag}&limit=20&max_points=200"
            case "changed":  # a poll of the first page, which is often as it was
                return "/api/v1/jobs?limit=50&sort=train_id"
            case _:
                return "/api/v1/health"


def main() -> None:
    """Run the clients and print what they met."""
    port, clients, seconds = (int(word) for word in sys.argv[1:4])
    until = time.perf_counter() + seconds
    crowd = [Client(port, number, until) for number in range(clients)]
    for client in crowd:
        client.start()
    for client in crowd:
        client.join()
    statuses: Counter[str] = Counter()
    times: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for client in crowd:
        statuses.update(client.statuses)
        for kind, some in client.seconds.items():
            times[kind] += some
    print(json.dumps({"statuses": statuses, "seconds": times}))


if __name__ == "__main__":
    main()
