"""The application behind waitress, on a real socket."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, insert

from indexer.db.schema import JOB
from tests.api.conftest import Api, changed, job_row, refuse_constant
from tests.support.engines import transaction
from webapi import v1
from webapi.limits import Limits
from webapi.server import CONNECTIONS, connections, serve


def listening() -> socket.socket:
    """Return a socket that is bound to loopback and listens."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    return sock


@contextmanager
def served(api: Api, sock: socket.socket | None = None) -> Iterator[tuple[int, threading.Event, threading.Thread]]:
    """Serve the application in a thread; gives the port, the event that stops it, and the thread."""
    sock = sock or listening()
    port, stop = sock.getsockname()[1], threading.Event()
    thread = threading.Thread(target=serve, args=(api.app, sock), kwargs={"limits": Limits(threads=4), "stop": stop})
    thread.start()
    try:
        yield port, stop, thread
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def get(port: int, path: str) -> tuple[int, bytes]:
    """Ask over the network."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_many_clients_at_once_while_rows_come(api: Api, filled: Engine) -> None:
    """Parallel requests over every route are all answered right while a writer commits."""
    paths = [
        "/",
        *(f"/api/v1{p}" for p in ("/health", "/jobs", "/jobs/1/tags", "/jobs/1/files", "/series?job=1", "/points")),
    ]
    with served(api) as (port, _stop, _thread), ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(get, port, path) for path in paths * 12]
        for number in range(10):
            with transaction(filled) as conn:
                conn.execute(insert(JOB).values(**job_row(500 + number, 1, f"./new{number}")))
            changed(filled)
        found = [answer.result() for answer in answers]
        assert {200} == {status for status, _ in found}
        for _, body in found:
            if not body.startswith(b"<"):
                json.loads(body, parse_constant=refuse_constant)
        assert 18 == len(json.loads(get(port, "/api/v1/jobs")[1])["items"])


def test_a_job_is_named_in_the_path_over_the_network(api: Api) -> None:
    """Quoted and plain train_ids survive the server's own reading of the path."""
    with served(api) as (port, _stop, _thread):
        for path in (
            "/api/v1/jobs/.%2Fb%2Fc",
            "/api/v1/jobs/./b/c",
            "/api/v1/jobs/runs%3A.%2Fb%2Fc",
            "/api/v1/jobs/b/c",
        ):
            status, body = get(port, path)
            assert (200, "./b/c") == (status, json.loads(body)["train_id"]), path
        status, body = get(port, "/api/v1/jobs/.%2F/tags")
        assert (200, []) == (status, json.loads(body)["items"])


def test_a_request_before_the_server_runs_is_answered(api: Api) -> None:
    """The port opens first: who connects while the program still loads waits, and is answered."""
    sock = listening()
    with socket.create_connection(sock.getsockname(), timeout=10) as early:
        early.sendall(b"GET /api/v1/health HTTP/1.0\r\n\r\n")
        with served(api, sock):
            assert early.recv(15).startswith(b"HTTP/1.0 200 OK")


def test_stopping_takes_at_most_two_seconds(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open connections, idle or in the middle of a request or an answer, hold nobody up."""
    entered = threading.Event()
    release = threading.Event()

    def stuck(_site: object, _conn: object) -> None:
        entered.set()
        release.wait(20)

    monkeypatch.setattr(v1, "health", stuck)
    with served(api) as (port, stop, thread):
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        idle[0].sendall(b"GET /api/v1/jobs HTTP/1.1\r\nHost: loc")  # never finished
        idle[1].sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert entered.wait(10)
        began = time.monotonic()
        stop.set()
        thread.join(5)
        took = time.monotonic() - began
        release.set()
        for connection in idle:
            connection.close()
    assert not thread.is_alive()
    assert took <= 2.0
    with pytest.raises(OSError, match=r"(?i)refused|reset"):
        get(port, "/")


def test_a_running_request_is_finished(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is being answered when the stop comes is still answered."""
    entered, release = threading.Event(), threading.Event()
    real = v1.jobs

    def slow(*args: object) -> object:
        entered.set()
        release.wait(20)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(v1, "jobs", slow)
    slow_api = Api.over(api.config, api.reader)
    with served(slow_api) as (port, stop, _thread), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, port, "/api/v1/jobs")
        assert entered.wait(10)
        stop.set()
        release.set()
        status, body = answer.result()
    assert (200, 8) == (status, len(json.loads(body)["items"]))


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit")
def test_fewer_connections_where_few_files_may_be_open() -> None:
    """Connections never take the descriptors that the database needs."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = 600 if soft == resource.RLIM_INFINITY else min(600, soft)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
        assert few - 100 == connections()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert connections() <= CONNECTIONS
