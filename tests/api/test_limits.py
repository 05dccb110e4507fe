"""What the server takes on at once, over real sockets: refusals, lanes, slow clients, what it cannot read."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from tests.api.conftest import Api, changed
from tests.support.program import eventually
from webapi import headers, limits, live, server
from webapi.app import create_app
from webapi.limits import Channel, Lane, Limits
from webapi.live import Hub
from webapi.server import serve

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@pytest.fixture(params=["sqlite"])
def backend(request: pytest.FixtureRequest) -> str:
    """Nothing here depends on the database."""
    value: str = request.param
    return value


class Gate:
    """An application whose answers wait until they are let through."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, _environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Wait, and answer."""
        self.entered.release()
        self.open.wait(20)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]


@contextmanager
def served(app: WSGIApplication, **more: Any) -> Iterator[int]:
    """Serve in a thread; gives the port."""
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(app, sock), kwargs={"stop": stop, **more})
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


@contextmanager
def asked(port: int, path: str = "/", method: str = "GET") -> Iterator[http.client.HTTPConnection]:
    """Send a request, and leave it to the block to read the answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path)
        yield connection


def raw(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes and return status, headers and body of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        with suppress(ConnectionError):  # it had enough before the end
            sock.sendall(request)
        answer = http.client.HTTPResponse(sock, method=request.partition(b" ")[0].decode("latin-1"))
        answer.begin()
        return answer.status, dict(answer.getheaders()), answer.read()


def check_problem(status: int, found: dict[str, str], body: bytes) -> None:
    """Hold an error of the server against the one shape of errors."""
    assert "application/problem+json" == found["Content-Type"]
    assert status == json.loads(body)["status"]
    assert headers.SAFE.items() <= found.items()
    assert "no-store" == found["Cache-Control"]


# Requests -------------------------------------------------------------------------------------------------------------
def test_what_is_too_much_is_refused_at_once(api: Api) -> None:
    """While all threads are busy so many wait as may, and are answered; the next gets 503 with Retry-After, at once."""
    gate = Gate()
    with (
        served(gate, limits=Limits(threads=2, queue=3, fair=False)) as port,
        ExitStack() as stack,
        capture_logs() as lines,
    ):
        running = [stack.enter_context(asked(port)) for _ in range(2)]
        for _ in running:
            assert gate.entered.acquire(timeout=20)
        waiting = [stack.enter_context(asked(port)) for _ in range(3)]
        for _ in range(3):
            status, found, body = raw(port, b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (503, "1") == (status, found["Retry-After"])
            check_problem(status, found, body)
        status, _, body = raw(port, b"HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (503, b"") == (status, body)
        gate.open.set()
        assert [200] * 5 == [connection.getresponse().status for connection in running + waiting]
    assert ["overloaded"] == [line["event"] for line in lines]


def test_one_client_cannot_take_the_whole_queue(api: Api) -> None:
    """One address may hold half of it: then it gets 429, while there is room for others."""
    gate = Gate()
    with served(gate, limits=Limits(threads=1, queue=4)) as port, ExitStack() as stack:
        stack.enter_context(asked(port))
        assert gate.entered.acquire(timeout=20)
        for _ in range(2):
            stack.enter_context(asked(port))
        status, found, body = raw(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (429, "1") == (status, found["Retry-After"])
        check_problem(status, found, body)
        gate.open.set()


class Task:
    """What a lane serves."""

    def __init__(self, address: str, done: Callable[[], object]) -> None:
        self.addr = (address, 1)
        self.service = done
        self.cancelled = False

    def cancel(self) -> None:
        """Note that nobody serves it."""
        self.cancelled = True


def test_a_lane_shares_its_room(api: Api) -> None:
    """Half of the room is left to others, who get it; then it is full for all; what waits at the end is cancelled."""
    gate, started = threading.Event(), threading.Event()

    def stuck() -> None:
        started.set()
        gate.wait(20)

    lane = Lane("test", threads=1, room=4)
    assert lane.take(Task("a", stuck), share=0.5) is True
    assert started.wait(20)
    waiting = [Task("a", stuck), Task("a", stuck), Task("b", stuck), Task("b", stuck)]
    assert [True, True] == [lane.take(task, share=0.5) for task in waiting[:2]]
    assert lane.take(Task("a", stuck), share=0.5) is None
    assert [True, True] == [lane.take(task, share=0.5) for task in waiting[2:]]
    assert lane.take(Task("c", stuck), share=0.5) is False
    gate.set()
    lane.end(time.monotonic() + 20)
    assert lane.take(Task("c", stuck)) is False


def test_a_lane_outlives_what_fails(api: Api) -> None:
    """A task that raises ends no thread."""
    done = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    lane = Lane("test", threads=1, room=4)
    failing = Task("a", fail)
    with capture_logs():
        for task in (failing, Task("a", done.set)):
            assert lane.take(task) is True
        assert done.wait(20)
    assert failing.cancelled
    lane.end(time.monotonic() + 20)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", 400),
        (b"NONSENSE\r\n\r\n", 400),
    ],
    ids=["address", "header", "body", "length", "encoding", "line-ends", "nonsense"],
)
def test_what_the_server_cannot_read_is_a_problem_too(api: Api, request_: bytes, status: int) -> None:
    """Errors from before the application have the same shape and headers, and are logged."""
    with served(api.app, limits=Limits(access_log=True)) as port, capture_logs() as lines:
        found = raw(port, request_)
        assert status == found[0]
        check_problem(*found)
        assert [status] == [line["status"] for line in eventually(lambda: list(lines)) if line["event"] == "request"]


# Clients that wait ----------------------------------------------------------------------------------------------------
@contextmanager
def live_server(api: Api, **more: Any) -> Iterator[tuple[int, Hub]]:
    """Serve an application as the program does; one of its own, for its hub ends with the server."""
    app = create_app(api.config, api.reader)
    hub: Hub = app.extensions[live.EXTENSION]
    with served(app, limits=Limits(**more), waits=live.waits, ending=hub.close) as port:
        yield port, hub


def listen(stack: ExitStack, port: int) -> http.client.HTTPResponse:
    """Listen to /events, and hear where the counter is."""
    answer = stack.enter_context(asked(port, "/api/v1/events")).getresponse()
    assert 200 == answer.status
    while not answer.readline().startswith(b"data: "):
        pass
    return answer


def test_listeners_take_no_thread_of_answers(api: Api, filled: Engine) -> None:
    """With one thread and two who listen, requests are answered and events come; one more is refused."""
    with live_server(api, threads=1, events=2) as (port, _hub), ExitStack() as stack:
        listeners = [listen(stack, port) for _ in range(2)]
        status, found, body = raw(port, b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (503, "10") == (status, found["Retry-After"])
        check_problem(status, found, body)
        with asked(port, "/api/v1/jobs") as connection:
            assert 200 == connection.getresponse().status
        changed(filled, 1)
        for answer in listeners:
            lines = iter(answer.readline, b"")
            assert any(line == b"event: job\n" for line in lines)


@pytest.mark.parametrize(
    "address", ["//api/v1/events", "/p/api/v1/events", "/api/v1/event%73?x", "/api/v1/changes?since=1&w%61it=30"]
)
def test_however_it_is_written_who_waits_is_known(api: Api, address: str) -> None:
    """No way to write an address brings a listener among the requests that are answered."""
    with live_server(api, events=0) as (port, _hub):
        status, found, _ = raw(port, f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (503, "10") == (status, found["Retry-After"])
        for other in ("/api/v1/changes", "/api/v1/jobs?q=wait"):
            assert 200 == raw(port, f"GET {other} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())[0]


def test_a_listener_that_goes_makes_room(api: Api, filled: Engine) -> None:
    """A closed connection is noticed while nothing is sent, so its place is free long before the next heartbeat."""
    with live_server(api, threads=1, events=1) as (port, hub):
        for _ in range(3):
            with ExitStack() as stack:
                listen(stack, port)
                assert 1 == hub.clients
            eventually(lambda: hub.clients == 0)


def test_listeners_hold_no_end_up(api: Api, filled: Engine) -> None:
    """When the server ends they are sent away, with an answer that is whole."""
    with ExitStack() as stack:
        with live_server(api, events=4) as (port, _hub):
            answers = [listen(stack, port) for _ in range(3)]
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert all(b"" == answer.read().strip() for answer in answers)


def test_what_comes_behind_a_poll_that_waits_is_answered(api: Api, filled: Engine) -> None:
    """A second request on the same connection is kept until the first is answered."""
    with live_server(api) as (port, hub), socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        since = api.get("/changes")["since"]
        sock.sendall(f"GET /api/v1/changes?since={since}&wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        eventually(lambda: hub.clients == 1)
        sock.sendall(b"GET /api/v1/jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        changed(filled, 1)
        with sock.makefile("rb") as stream:
            found = [read_answer(stream) for _ in range(2)]
    assert [1] == [job["id"] for job in found[0]["items"]]
    assert 1 == found[1]["id"]


def read_answer(stream: Any) -> Any:
    """Read one answer of a connection that stays open."""
    length = 0
    for line in iter(stream.readline, b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return json.loads(stream.read(length))


# Slow clients ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cuts the slow after a moment."""
    monkeypatch.setattr(server, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(limits, "RECEIVE_SECONDS", 0.1)
    monkeypatch.setattr(limits, "SEND_SECONDS", 0.1)


def test_a_request_that_is_never_finished_is_cut(api: Api, impatient: None) -> None:
    """Who sends a request byte by byte, for ever, loses the connection, however often a byte comes."""
    with served(api.app) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        sock.settimeout(0.01)

        def cut() -> bool:
            try:
                sock.send(b"x")
                return sock.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        eventually(cut)


def test_who_never_reads_holds_no_thread(api: Api, impatient: None) -> None:
    """An answer that nobody takes is given up, and its thread serves the next."""
    given_up = threading.Event()

    def endless(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/short":
            return [b"ok"]

        def chunks() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 2**20
            finally:
                given_up.set()

        return chunks()

    with served(endless, limits=Limits(threads=1)) as port, asked(port, "/long"):
        assert given_up.wait(20)
        with asked(port, "/short") as connection:
            assert b"ok" == connection.getresponse().read()


def test_who_reads_steadily_is_not_slow() -> None:
    """It counts what is taken in a time, not how much is left; who has taken all starts afresh."""
    channel = Channel.__new__(Channel)
    channel.receiving_since, channel.sent, channel.sent_before = None, 0, (0.0, 0)
    assert not channel.overdue(1.0)
    channel.total_outbufs_len = 2**24
    for now in range(2, 500):
        channel.sent += 2 * limits.SEND_BYTES // int(limits.SEND_SECONDS)
        assert not channel.overdue(float(now)), now
    assert any(channel.overdue(float(now)) for now in range(500, 600))
    channel.total_outbufs_len = 0
    assert not channel.overdue(600.0)
    channel.total_outbufs_len = 5
    assert not channel.overdue(600.0 + limits.SEND_SECONDS)
    assert channel.overdue(600.1 + limits.SEND_SECONDS)
