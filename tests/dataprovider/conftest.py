"""Databases of the sample data, one a session and backend, and TensorBoard's client to ask about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from indexer.db.engine import open_engine
from tests.conftest import DATA, Backend, migrate_empty
from tests.support.following import index_once
from tests.support.postgres import PostgresServer
from tests.support.viewer import provider


@pytest.fixture(scope="session")
def samples(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Backend, str], str]:
    """Give the address of a database of tests/data/<format>, made when it is first asked for. Nobody may write it."""
    made: dict[tuple[Backend, str], str] = {}

    def give(backend: Backend, format_: str) -> str:
        if (backend, format_) not in made:
            if backend == "sqlite":
                url = f"sqlite:///{tmp_path_factory.mktemp('samples') / 'samples.db'}"
            else:
                server: PostgresServer = request.getfixturevalue("postgres")
                url = server.create()
            migrate_empty(url)
            engine = open_engine(url)
            index_once(engine, DATA / format_)
            engine.dispose()
            made[backend, format_] = url
        return made[backend, format_]

    return give


@pytest.fixture
def tensorboard_url(backend: Backend, samples: Callable[[Backend, str], str]) -> str:
    """A database of the sample data of TensorBoard."""
    return samples(backend, "tensorboard")


@pytest.fixture
def mindspore_url(backend: Backend, samples: Callable[[Backend, str], str]) -> str:
    """A database of the sample data of MindSpore."""
    return samples(backend, "mindspore")


@pytest.fixture
def stub(tensorboard_url: str) -> Iterator[Any]:
    """TensorBoard's client, over the sample data of TensorBoard."""
    with provider(tensorboard_url) as made:
        yield made


@contextmanager
def loaded(url: str, root: Path) -> Iterator[Any]:
    """Index a directory into an empty database; gives TensorBoard's client over it."""
    engine = open_engine(url)
    index_once(engine, root)
    engine.dispose()
    with provider(url) as made:
        yield made
