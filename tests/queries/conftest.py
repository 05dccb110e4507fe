"""The sample runs and one that fails, indexed: what the ready queries are asked about."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from examples.write_runs import training
from tests.support.following import index_once
from tests.support.program import CHECKOUT
from tests.support.records import hparams_start, tb_hparams, tb_scalar, tb_version

BEGAN = 1_760_010_000.0
ONSET = 120
"""The first step at which the run that fails is NaN."""


@pytest.fixture(scope="session")
def sample_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample runs, with hyperparameters for one, and `./diverged`, which ends in NaN after a pause."""
    root = tmp_path_factory.mktemp("queries") / "runs"
    shutil.copytree(CHECKOUT / "examples" / "runs", root)
    (root / "resnet" / "lr=0.1" / "events.out.tfevents.1760003500.hparams").write_bytes(
        tb_version(1_760_003_500.0) + tb_hparams("session_start_info", hparams_start({"learning_rate": 0.1}))
    )
    records = [
        tb_version(BEGAN),
        tb_hparams("session_start_info", hparams_start({"learning_rate": 10.0}), BEGAN),
    ]
    for step in range(1, 151):
        loss = math.nan if step >= ONSET else 2.0 + step / 100
        pause = 60.0 if step > 100 else 0.0
        records.append(tb_scalar("train/loss", step, loss, BEGAN + 0.5 * step + pause))
    (root / "diverged").mkdir()
    (root / "diverged" / "events.out.tfevents.1760010000.example").write_bytes(b"".join(records))
    return root


@pytest.fixture
def sample_url(url: str, sample_runs: Path) -> str:
    """A database with the sample runs."""
    return url


Curve = dict[int, float]


def curve(job: str, tag: str) -> Curve:
    """Return a curve of the sample as it was written: step to value, rounded as its file is."""
    import numpy as np

    if job == "./diverged":
        values = {step: math.nan if step >= ONSET else 2.0 + step / 100 for step in range(1, 151)}
    else:
        rate, seed = {"./lenet": (0.05, 1), "./resnet/lr=0.1": (0.1, 1), "./resnet/lr=0.01": (0.01, 2)}[job]
        values = {step: logged[tag] for step, logged in training(rate, seed=seed) if tag in logged}
    return {step: float(np.float32(value)) for step, value in values.items()}
