"""What systemd is told: that we answer, that the indexer's loop turns, that we end."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.config import Config
from summarydb import systemd
from summarydb.parent import Up
from summarydb.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no systemd")


@pytest.fixture(params=["path", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket as systemd listens on, which NOTIFY_SOCKET names."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract names are of Linux")
    name = str(tmp_path / "notify") if request.param == "path" else f"@summarydb-test{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield sock


def test_up_says_when_it_is_ready_alive_and_ending(heard: socket.socket) -> None:
    """Ready when the web answers; alive when the indexer's loop says so, not by itself."""
    up = Up(Settings(Config()), as_json=True)
    up.hear(up.web, {"ready": "http://127.0.0.1:1"})
    up.hear(up.indexer, {"turned": True})
    up.end()
    assert [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"] == [heard.recv(100) for _ in range(3)]


@pytest.mark.parametrize("address", [None, "", "relative", "/no/such/socket"])
def test_without_systemd_nothing_is_said(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is not there is no reason to fail."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.tell(systemd.READY)
