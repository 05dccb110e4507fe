"""The web of the running program: live, with a token, behind a real reverse proxy."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.test_up import END_SECONDS, write_run
from tests.support.program import Running, eventually, run, started

TOKEN = "a-long-secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Proxy(BaseHTTPRequestHandler):
    """A reverse proxy: takes a prefix off, says whom it speaks for, passes bytes on as they come."""

    protocol_version = "HTTP/1.1"
    behind = ("", 0)
    prefix = "/team/runs"
    strip = True

    def do_GET(self) -> None:
        """Ask the server behind, and pass on what it answers."""
        sent = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "connection"}}
        sent["Host"] = f"{self.behind[0]}:{self.behind[1]}"
        sent["X-Forwarded-For"] = f"{self.headers.get('X-Forwarded-For', '6.6.6.6')}, 203.0.113.7"
        sent["X-Forwarded-Proto"] = "https"
        sent["X-Forwarded-Host"] = "runs.example"
        path = self.path.removeprefix(self.prefix) if self.strip else self.path
        with closing(http.client.HTTPConnection(*self.behind, timeout=30)) as behind:
            behind.request(self.command, path or "/", headers=sent)
            answer = behind.getresponse()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while chunk := answer.read1(65_536):
                self.wfile.write(chunk)
                self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def proxied(url: str, *, strip: bool) -> Iterator[tuple[str, int]]:
    """Run the proxy before the server at `url`; gives its address."""
    where = urlsplit(url)
    handler = type("Handler", (Proxy,), {"behind": (where.hostname, where.port), "strip": strip})
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield "127.0.0.1", proxy.server_address[1]
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def ask(address: tuple[str, int], path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """Ask over the network; return the answer and its body."""
    with closing(http.client.HTTPConnection(*address, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()


def address_of(up: Running) -> tuple[str, int]:
    """Return host and port of a program that answers."""
    where = urlsplit(up.url)
    return str(where.hostname), int(where.port or 0)


def next_job(lines: Iterator[bytes]) -> dict[str, object]:
    """Return the next job that events tell of."""
    for line in lines:
        if line == b"event: job\n":
            found: dict[str, object] = json.loads(next(lines).removeprefix(b"data: "))
            return found
    raise AssertionError("no more events")


def test_what_is_appended_is_told(tmp_path: Path) -> None:
    """A listener hears of a new run and of what is appended to it; it holds the end of the program not up."""
    (tmp_path / "runs").mkdir()
    with (
        started("up", "runs", "--port", "0", cwd=tmp_path) as up,
        closing(http.client.HTTPConnection(*address_of(up), timeout=30)) as connection,
    ):
        connection.request("GET", "/api/v1/events")
        lines = iter(connection.getresponse().readline, b"")
        for first, last in ((0, 5), (5, 8)):
            write_run(tmp_path / "runs", range(first, last))
            job = next_job(lines)
            while job["point_count"] != last:
                job = next_job(lines)
            assert ("./live", 1) == (job["train_id"], job["tag_count"])
        up.process.terminate()
        assert 0 == up.process.wait(END_SECONDS + 1)


def test_the_token_guards_and_is_never_shown(tmp_path: Path) -> None:
    """Who has the token reads; the address, the help how to open it and the log hold no token."""
    write_run(tmp_path / "runs", range(3))
    arguments = ("up", "runs", "--port", "0", "--token", TOKEN, "--access-log", "--log-format", "json")
    with started(*arguments, cwd=tmp_path) as up:
        address = address_of(up)
        assert 401 == ask(address, "/api/v1/jobs")[0].status
        assert 200 == ask(address, "/api/v1/jobs", **BEARER)[0].status
        answer, _ = ask(address, f"/?token={TOKEN}")
        assert (303, "/") == (answer.status, answer.headers["Location"])
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        assert 200 == ask(address, "/", Cookie=cookie)[0].status
        assert {"status": "ok"} == json.loads(ask(address, "/api/v1/health")[1])
        lines = eventually(lambda: found if len(found := requests_logged(up)) >= 5 else [])
        assert [200, 200, 200, 303, 401] == sorted(
            int(str(line["status"])) for line in lines
        )  # each is noted behind its answer
        assert all(line["client"] == "127.0.0.1" for line in lines)
        said = up.out.read_text() + up.err.read_text()
    assert "?token=TOKEN" in said
    assert TOKEN not in said


def requests_logged(up: Running) -> list[dict[str, object]]:
    """Return the lines of the access log."""
    return [line for text in up.err.read_text().splitlines() if text.startswith("{")
            and (line := json.loads(text))["event"] == "request"]  # fmt: skip


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    """To be reached from elsewhere a token or --allow-anonymous is asked for, before anything is made."""
    (tmp_path / "runs").mkdir()
    for command in (["up", "runs"], ["serve"]):
        done = run(*command, "--host", "0.0.0.0", "--port", "0", cwd=tmp_path)
        assert 2 == done.returncode
        assert "SUMMARYDB_TOKEN" in done.stderr
    assert [] == list(tmp_path.glob("*.db"))
    bad = run("serve", "--token", "two words", cwd=tmp_path)
    assert (2, True) == (bad.returncode, "two words" not in bad.stderr)


def test_it_runs_behind_a_reverse_proxy(tmp_path: Path) -> None:
    """Below a prefix, whether the proxy strips it or not: pages, addresses, cookie, events and the client's address."""
    write_run(tmp_path / "runs", range(3))
    arguments = ("--url-prefix", "/team/runs", "--trusted-proxy", "127.0.0.1", "--token", TOKEN, "--access-log")
    with started("up", "runs", "--port", "0", *arguments, "--log-format", "json", cwd=tmp_path) as up:
        assert up.url.endswith("/team/runs")
        for strip in (True, False):
            with proxied(up.url, strip=strip) as address:
                answer, _ = ask(address, f"/team/runs/?token={TOKEN}")
                assert (303, "/team/runs/") == (answer.status, answer.headers["Location"])
                attributes = answer.headers["Set-Cookie"].split("; ")
                assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/team/runs"} <= set(attributes)
                answer, body = ask(address, "/team/runs/", Cookie=attributes[0])
                assert 200 == answer.status
                assert b'href="/team/runs/static/style.css"' in body
                document = json.loads(ask(address, "/team/runs/api/v1/openapi.json", **BEARER)[1])
                assert [{"url": "/team/runs/api/v1"}] == document["servers"]
                with closing(http.client.HTTPConnection(*address, timeout=30)) as connection:
                    connection.request("GET", "/team/runs/api/v1/events?since=0", headers=BEARER)
                    assert "./live" == next_job(iter(connection.getresponse().readline, b""))["train_id"]
        assert {"203.0.113.7"} == {str(line["client"]) for line in eventually(lambda: requests_logged(up))}
