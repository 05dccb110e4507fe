"""The sample runs and one that fails, indexed: what the ready queries are asked about."""

from __future__ import annotations

import math
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from indexer.db.engine import open_engine
from tests.conftest import Backend
from tests.support.following import index_once
from tests.support.program import CHECKOUT
from tests.support.records import hparams_start, tb_hparams, tb_scalar, tb_version

ONSET = 120
"""The first step at which the run that fails is NaN."""

Curve = dict[int, float]
"""Step to value."""

_BEGAN = 1_760_010_000.0
_RUNS = {"./lenet": (0.05, 1), "./resnet/lr=0.1": (0.1, 1), "./resnet/lr=0.01": (0.01, 2)}
"""Learning rate and seed of the sample runs, see examples/write_runs.py."""


def curve(job: str, tag: str) -> Curve:
    """Return a curve of the sample as it was written, rounded as its file is."""
    if job == "./diverged":
        values = {step: math.nan if step >= ONSET else 2.0 + step / 100 for step in range(1, 151)}
    else:
        rate, seed = _RUNS[job]
        training = runpy.run_path(str(CHECKOUT / "examples" / "write_runs.py"))["training"]
        values = {step: logged[tag] for step, logged in training(rate, seed=seed) if tag in logged}
    return {step: float(np.float32(value)) for step, value in values.items()}


@pytest.fixture(scope="session")
def sample_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample runs, one of them with hyperparameters, and `./diverged`, which ends in NaN after a pause."""
    root = tmp_path_factory.mktemp("queries") / "runs"
    shutil.copytree(CHECKOUT / "examples" / "runs", root)
    started = tb_hparams("session_start_info", hparams_start({"learning_rate": 0.1}))
    (root / "resnet" / "lr=0.1" / "events.out.tfevents.1760003500.hparams").write_bytes(tb_version(1.76e9) + started)
    records = [tb_version(_BEGAN), tb_hparams("session_start_info", hparams_start({"learning_rate": 10.0}))]
    for step, value in curve("./diverged", "train/loss").items():
        pause = 60.0 if step > 100 else 0.0
        records.append(tb_scalar("train/loss", step, value, _BEGAN + 0.5 * step + pause))
    (root / "diverged").mkdir()
    (root / "diverged" / "events.out.tfevents.1760010000.example").write_bytes(b"".join(records))
    return root


@pytest.fixture(params=["sqlite", "postgresql", "duckdb"])
def engine_name(request: pytest.FixtureRequest) -> str:
    """What runs a query; DuckDB reads the SQLite file."""
    name: str = request.param
    return name


@pytest.fixture
def backend(engine_name: str) -> Backend:
    """The database that is read."""
    return "postgresql" if engine_name == "postgresql" else "sqlite"


@pytest.fixture(scope="session")
def sample_urls() -> dict[Backend, str]:
    """Addresses of databases that tests only read, made when first asked for."""
    return {}


@pytest.fixture
def sample_url(
    backend: Backend, request: pytest.FixtureRequest, sample_urls: dict[Backend, str], sample_runs: Path
) -> str:
    """A database with these runs."""
    if backend not in sample_urls:
        if backend == "sqlite":
            path = sample_runs.parent / "sample.db"
            path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
            url = f"sqlite:///{path}"
        else:
            url = request.getfixturevalue("postgres").create(template=request.getfixturevalue("postgres_template"))
        engine = open_engine(url)
        index_once(engine, sample_runs)
        engine.dispose()
        sample_urls[backend] = url
    return sample_urls[backend]
