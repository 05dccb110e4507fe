"""Where MindInsight's front-end is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.errors import UsageError
from summarydb.settings import load
from webapi.mindinsight import bundle


def front_end(root: Path) -> Path:
    """Make a front-end of two files."""
    (root / "static").mkdir(parents=True)
    (root / "index.html").touch()
    return root


def test_people_point_at_it_its_package_or_what_holds_that(tmp_path: Path) -> None:
    """Any of them is the same directory, as a real path."""
    made = front_end(tmp_path / "mindinsight/ui/dist")
    for named in (made, made.parent, made.parent.parent, tmp_path):
        assert str(made) == bundle.named(str(named))
    assert made == bundle.directory(str(made))


def test_what_holds_none_is_refused(tmp_path: Path) -> None:
    """The line names the setting and what would do."""
    for wrong in (tmp_path, tmp_path / "none", tmp_path / "a\0b"):
        with pytest.raises(UsageError, match=r"--mindinsight-ui.*ui/dist"):
            load({"mindinsight_ui": str(wrong)}, environ={}, directory=tmp_path)


def test_an_installed_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `auto`, where the package lies beside ours: a directory of its name alone is none."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    made = front_end(tmp_path / "mindinsight/ui/dist")
    assert bundle.directory(bundle.AUTO) is None
    (tmp_path / "mindinsight-2.3.1.dist-info").mkdir()
    (tmp_path / "mindinsight-2.3.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: mindinsight\nVersion: 2.3.1\n"
    )
    assert made == bundle.directory(bundle.AUTO)
    assert bundle.directory(bundle.OFF) is None
