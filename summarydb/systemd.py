"""Tells systemd, where it started us with Type=notify, that we are ready, alive, or ending. Source: sd_notify(3)."""

from __future__ import annotations

import os
import socket

READY = "READY=1"
ALIVE = "WATCHDOG=1"
ENDING = "STOPPING=1"


def tell(state: str) -> None:
    """Send one state to who started us; does nothing where nobody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + address[1:] if address.startswith("@") else address)  # @: an abstract name
            sock.send(state.encode())
    except OSError:
        return  # it only wanted to know
