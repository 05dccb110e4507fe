"""docs/client.md and docs/queries.md: what they show in Python runs, from the top to the end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from indexer.db.engine import open_engine
from tests.support.following import index_once
from tests.support.program import CHECKOUT


@pytest.mark.parametrize("page", ["client.md", "queries.md"])
def test_a_page_runs(
    page: str,
    sqlite_template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every block of a page can be typed in a notebook beside the sample runs, one after the other."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CHECKOUT / "examples" / "runs", tmp_path / "examples" / "runs")
    Path("summarydb.db").write_bytes(sqlite_template.read_bytes())
    engine = open_engine("sqlite:///summarydb.db")
    index_once(engine, tmp_path / "examples" / "runs")
    engine.dispose()
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (CHECKOUT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert blocks
    names: dict[str, Any] = {}
    try:
        for block in blocks:
            exec(compile(block, page, "exec"), names)
    finally:
        if "up" in names:
            names["up"].stop()
        names["db"].close()
    if page == "client.md":
        assert "none of the named jobs has a tag 'train/los'" in capsys.readouterr().out
