"""What one process takes on at once: requests running, waiting and refused; clients that are slow.

waitress parses requests in one thread and hands them to others; here is which, how many wait, and what becomes of the
rest. Three lanes: answers, with a bounded queue; clients that wait for news, which would else hold the threads of
answers; refusals, which are short. Whoever holds a connection without using it is cut: waitress itself only looks at
connections without a request.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from indexer import log
from webapi import accesslog, headers, respond

RETRY_SECONDS = 1
RECEIVE_SECONDS = 30.0
"""A request must be whole so long after its first byte."""
SEND_SECONDS = 30.0
SEND_BYTES = 32 * 1024
"""So many bytes of an answer must be taken in SEND_SECONDS."""
REFUSALS = 1_000
_SAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once."""

    threads: int = 8  # requests that are answered
    queue: int = 512  # requests that wait for one of them
    events: int = 16  # clients that wait for news
    fair: bool = True  # one address may hold half of the queue; not behind a proxy, which is one address
    access_log: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a request is not answered, as waitress holds errors."""

    code: int
    body: str
    retry_seconds: int = RETRY_SECONDS


BUSY = Refused(503, "all threads are busy, and as many requests wait as may: try again in a moment")
GREEDY = Refused(429, "half of all requests that may wait are yours: try again in a moment, with fewer at once")
FULL = Refused(503, "as many clients wait for events as may (--max-events-clients): poll /api/v1/changes", 10)


class Lane:
    """Threads that serve tasks, started when they are needed, and a queue before them."""

    def __init__(self, name: str, *, threads: int, room: int) -> None:
        self._name = name
        self._most = threads
        self._room = room  # tasks that wait while all threads are busy
        self._tasks: deque[Any] = deque()
        self._wake = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._ended = False

    def take(self, task: Any, *, share: float = 1.0) -> bool | None:
        """Serve `task` some time. False: there is no room. None: its client has more than `share` of the room."""
        with self._wake:
            free = self._idle + self._most - len(self._threads)
            waiting = len(self._tasks) - free
            if self._ended or waiting >= self._room:
                return False
            if waiting >= 0 and share < 1:
                address = task.addr[0]
                if sum(other.addr[0] == address for other in self._tasks) >= max(1, int(self._room * share)):
                    return None
            self._tasks.append(task)
            if len(self._tasks) > self._idle and len(self._threads) < self._most:
                name = f"{self._name}-{len(self._threads)}"
                self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
                self._threads[-1].start()
            self._wake.notify()
        return True

    def end(self, deadline: float) -> None:
        """Take no more, and wait until `deadline` (monotonic, seconds) for what is being served."""
        with self._wake:
            self._ended = True
            tasks = list(self._tasks)
            self._tasks.clear()
            self._wake.notify_all()
        for task in tasks:
            task.cancel()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self) -> None:
        while True:
            with self._wake:
                self._idle += 1
                while not self._tasks and not self._ended:
                    self._wake.wait()
                self._idle -= 1
                if self._ended:
                    return
                task = self._tasks.popleft()
            try:
                task.service()
            except Exception as e:  # the thread must live on, and the client not wait for ever
                log.get().error("failed", exc_info=e)
                task.cancel()


class Lanes:
    """waitress's dispatcher: which thread serves a channel's next request."""

    def __init__(
        self,
        limits: Limits,
        waits: Callable[[str, str], bool],
        refused: Callable[[int], None] = lambda _status: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`waits` tells of path and query string whether their answer waits for news; `refused` is told statuses."""
        self._limits = limits
        self._waits = waits
        self._told = refused
        self._clock = clock
        self._answers = Lane("answer", threads=limits.threads, room=limits.queue)
        self._events = Lane("events", threads=limits.events, room=0)
        self._refusals = Lane("refusal", threads=1, room=REFUSALS)
        self._refused = 0
        self._say_at = 0.0

    def set_thread_count(self, count: int) -> None:
        """Do nothing: threads start when they are needed."""

    def add_task(self, channel: Any) -> None:
        """Have the next request of `channel` served, or refused. It holds the lock of the channel's requests."""
        request = channel.requests[0]
        channel.waits = request.error is None and self._waits(request.path, request.query)
        if channel.waits:
            refused = None if self._events.take(channel) else FULL
        else:
            taken = self._answers.take(channel, share=0.5 if self._limits.fair else 1.0)
            refused = BUSY if taken is False else GREEDY if taken is None else None
        if refused is not None:
            channel.waits = False
            request.error = refused
            self._say(channel.addr[0], refused)
            if not self._refusals.take(channel):
                channel.will_close = True

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """End all threads; what still waits is dropped."""
        deadline = time.monotonic() + timeout
        for lane in (self._events, self._answers, self._refusals):
            lane.end(deadline)
        return cancel_pending

    def _say(self, client: str, refused: Refused) -> None:
        """Log that requests are refused: now and then, for it is then that there is no time to log."""
        self._refused += 1
        self._told(refused.code)
        if self._clock() >= self._say_at:
            log.get().warning("overloaded", refused=self._refused, client=client, status=refused.code)
            self._refused = 0
            self._say_at = self._clock() + _SAY_SECONDS


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """What waitress or a lane refuses, in the one shape of errors, with the headers of every answer."""

    def execute(self) -> None:
        """Write the answer."""
        error, method = self.request.error, getattr(self.request, "command", "")  # what was read of it may be nothing
        answer = respond.problem(error.code, getattr(error, "body", "") or HTTPStatus(error.code).phrase)
        body = answer.get_data()
        self.status = answer.status
        self.response_headers.extend([*answer.headers.to_wsgi_list(), *headers.SAFE.items()])
        if isinstance(error, Refused):
            self.response_headers.append(("Retry-After", str(error.retry_seconds)))
        self.set_close_on_finish()
        self.content_length = len(body)
        if method != "HEAD":
            self.write(body)
        if self.channel.access_log:
            accesslog.note(
                method=method,
                path=getattr(self.request, "path", ""),
                query=getattr(self.request, "query", ""),
                status=error.code,
                size=self.content_bytes_written,
                seconds=time.time() - self.start_time,
                client=self.channel.addr[0],
            )


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection that is cut when its client neither writes nor reads."""

    error_task_class = ProblemTask
    waits = False
    """Its request waits for news: that the client goes is noticed meanwhile."""

    def __init__(self, *arguments: Any, access_log: bool = False, **more: Any) -> None:
        self.access_log = access_log
        self.receiving_since: float | None = None
        self.sent = 0  # bytes
        self.sent_before = (0.0, 0)  # when was looked at `sent`, and what it was
        super().__init__(*arguments, **more)

    def readable(self) -> bool:
        """Tell whether to look for bytes, or for the end."""
        return bool(super().readable()) or (self.waits and not self.will_close and not self.close_when_flushed)

    def handle_read(self) -> None:
        """Read; while a request waits for news, only look whether the client is still there."""
        if not (self.waits and self.requests):
            super().handle_read()
            return
        try:
            more = self.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            more = b""
        if more:
            self.waits = False  # the next request: it keeps until this one is answered, and so does the client's end
        else:
            self.handle_close()

    def received(self, data: bytes) -> bool:
        """Take bytes of a request."""
        found = bool(super().received(data))
        if self.request is None:
            self.receiving_since = None
        elif self.receiving_since is None:
            self.receiving_since = time.monotonic()
        return found

    def send(self, data: bytes, do_close: bool = True) -> int:
        """Send what the socket takes; return how many bytes."""
        count = int(super().send(data, do_close=do_close))
        self.sent += count
        return count

    def overdue(self, now: float) -> bool:
        """Tell, at `now` (monotonic, seconds), whether the client keeps us waiting for too long."""
        if self.receiving_since is not None and now - self.receiving_since > RECEIVE_SECONDS:
            return True
        since, sent = self.sent_before
        if not self.total_outbufs_len or not since:
            self.sent_before = (now, self.sent)
            return False
        if now - since <= SEND_SECONDS:
            return False
        self.sent_before = (now, self.sent)
        return self.sent - sent < SEND_BYTES


def sweep(channels: Sequence[Channel], now: float) -> None:
    """Cut the connections of clients that keep us waiting. In the thread that reads and writes them."""
    for channel in channels:
        if channel.overdue(now):
            log.get().info("cut", client=channel.addr[0], why="the client was too slow")
            channel.handle_close()  # at once: `will_close` waits until the client takes more
