"""TensorBoard's web server as a child of ours, over our data provider; both end together."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence

from summarydb import ending, provider, work
from summarydb.settings import Settings

CHILD_SECONDS = 1.2
"""Given to TensorBoard to end before it is killed."""


def run(settings: Settings, *, port: int, more: Sequence[str]) -> int:
    """Serve until a signal comes or TensorBoard ends; return the exit code. Refuse where the database is unusable.

    more: flags of TensorBoard's own.
    """
    provider.require("grpc", "tensorboard")
    config = settings.config
    answers = provider.service(config.url, location=work.shown(config.url), seconds=config.query_seconds)
    with work.naming(config.url):
        answers.check()
    asked = threading.Event()
    with (
        ending.signals(asked.set),
        provider.serving(lambda: answers, provider.LOOPBACK, 0, threads=config.threads) as address,
    ):
        command = [sys.executable, "-P", "-m", "tensorboard.main", f"--grpc_data_provider={address}"]
        process = subprocess.Popen([*command, f"--host={config.host}", f"--port={port}", *more])
        try:
            while not asked.is_set():
                try:
                    code = process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
                return ending.OK if code == 0 or asked.is_set() else ending.REFUSED  # it said why
        finally:
            _end(process)
    return ending.OK


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(CHILD_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
