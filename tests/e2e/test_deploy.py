"""What `deploy/` holds fits the program: the unit is one that systemd takes, and every command in it exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from summarydb.cli import COMMANDS
from summarydb.settings import SETTINGS
from tests.support.program import CHECKOUT

UNIT = CHECKOUT / "deploy" / "summarydb.service"
CONTAINER = CHECKOUT / "deploy" / "Containerfile"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """No unknown line, no value that is none; the program itself stands for the installed one."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/summarydb/bin/summarydb", sys.executable))
    found = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [] == [line for line in found.stderr.splitlines() if unit.name in line]


@pytest.mark.parametrize("page", [UNIT, CONTAINER], ids=lambda page: page.name)
def test_names_are_those_of_the_program(page: Path) -> None:
    """Variables, flags and commands that are set there exist."""
    text = page.read_text()
    variables = {setting.variable for setting in SETTINGS} | {"SUMMARYDB_LOGDIR"}
    assert set(re.findall(r"SUMMARYDB_[A-Z_]+", text)) <= variables
    line = re.search(r"^ExecStart=\S+ (\w+) (.*)", text, re.MULTILINE)
    if line is not None:
        assert line[1] in COMMANDS
        assert set(re.findall(r"--([a-z-]+)", line[2])) <= {setting.name for setting in SETTINGS}


def test_the_image_gets_what_the_wheel_needs() -> None:
    """All else stays out: the ignored are named by what is let in."""
    kept = {line[1:] for line in (CHECKOUT / "deploy/Containerfile.dockerignore").read_text().split() if line[0] == "!"}
    project = (CHECKOUT / "pyproject.toml").read_text()
    packages = re.search(r"^packages = \[(.*)\]", project, re.MULTILINE)
    assert packages is not None
    assert {*re.findall(r'"(\w+)"', packages[1]), "LICENSE", "README.md", "pyproject.toml"} == kept
