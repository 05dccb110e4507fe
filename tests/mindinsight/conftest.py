"""MindInsight's routes over indexed directories, and a client that checks what holds of every answer."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from sqlalchemy import Engine

from indexer.config import Config, Root
from indexer.db.connection import Database
from indexer.db.engine import open_reader
from indexer.ingest.watch import Indexer
from tests.conftest import Backend
from tests.support import mindinsight
from tests.support.mindinsight import PREFIX, refuse_constant
from webapi.app import create_app

HEADERS = {
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
}


@dataclass
class Client:
    """The application over a database, and what it asked of the indexer."""

    app: Flask
    config: Config
    reader: Engine
    asked: list[dict[str, object]] = field(default_factory=list)

    @classmethod
    def over(cls, url: str, reader: Engine, *, asks: bool = True) -> Client:
        """Return a client of the database at `url`."""
        asked: list[dict[str, object]] = []
        config = Config(url=url, query_seconds=30.0)
        return cls(create_app(config, reader, ask=asked.append if asks else None), config, reader, asked)

    def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, bytes]:
        """Send a request as clients do; return status, headers and body."""
        kind = "application/json" if body is not None else None
        answer = self.app.test_client().open(path, method=method, data=body, content_type=kind, buffered=True)
        for name, value in HEADERS.items():
            assert value == answer.headers[name], (path, name)
        assert 1 == len(answer.headers.getlist("Content-Type"))
        return answer.status_code, answer.headers, answer.data

    def get(self, path: str, /, *, status: int = 200, **query: Any) -> Any:
        """Ask below the prefix; return the JSON. Lists are repeated parameters."""
        asked = f"?{urlencode(query, doseq=True)}" if query else ""
        found, _, answer = self.send("GET", f"{PREFIX}{path}{asked}")
        assert status == found, (path, query, answer[:500])
        return json.loads(answer, parse_constant=refuse_constant)

    def post(self, path: str, body: Any, *, status: int = 200, method: str = "POST") -> Any:
        """Send JSON below the prefix; return the JSON."""
        found, _, answer = self.send(method, f"{PREFIX}{path}", json.dumps(body).encode())
        assert status == found, (path, body, answer[:500])
        return json.loads(answer, parse_constant=refuse_constant)

    def error(self, path: str, /, *, status: int = 400, **query: Any) -> str:
        """Ask for what cannot be answered; return the error's code."""
        answer = self.get(path, status=status, **query)
        assert list(answer) == ["error_code", "error_msg"]
        assert isinstance(answer["error_msg"], str)
        return str(answer["error_code"])


def index(url: str, *roots: Path) -> None:
    """Load all that is on disk."""
    config = Config(url=url, roots=tuple(Root(root.name, root, named=False) for root in roots))
    database = Database(url)
    try:
        Indexer(config, database).run(threading.Event(), once=True)
        database.settle()
    finally:
        database.dispose()


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show local times as the recordings do."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(scope="session")
def recorded_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the recordings are of."""
    return mindinsight.lay_out(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="session")
def recorded_urls() -> dict[Backend, str]:
    """Databases of these runs, one a backend, made when first asked for."""
    return {}


@pytest.fixture
def recorded(
    request: pytest.FixtureRequest, backend: Backend, recorded_runs: Path, recorded_urls: dict[Backend, str]
) -> Iterator[Client]:
    """A client of the runs that the recordings are of; tests only read."""
    if backend not in recorded_urls:
        if backend == "sqlite":
            path = request.getfixturevalue("tmp_path_factory").mktemp("mindinsight") / "runs.db"
            path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
            made = f"sqlite:///{path}"
        else:
            made = request.getfixturevalue("postgres").create(template=request.getfixturevalue("postgres_template"))
        index(made, recorded_runs)
        recorded_urls[backend] = made
    reader = open_reader(recorded_urls[backend])
    yield Client.over(recorded_urls[backend], reader)
    reader.dispose()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client of the test's own database."""
    reader = open_reader(url)
    yield Client.over(url, reader)
    reader.dispose()
