"""Where MindInsight's own page lies: its front-end as built, which comes with MindInsight and not with us.

Standard library alone: the command line looks before anything starts.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

AUTO, OFF = "auto", "off"
INDEX = "index.html"
STATIC = "static"
_BELOW = (".", "dist", "ui/dist", "mindinsight/ui/dist")
"""Where the front-end is below what people point at: itself, the package, the directory of packages."""


def named(text: str) -> str:
    """Return a setting as it is kept: a word, or the directory of the front-end. ValueError says what is wrong."""
    if text in {AUTO, OFF}:
        return text
    found = _front_end(text)
    if found is None:
        raise ValueError(
            f"is neither {AUTO}, {OFF} nor a directory with MindInsight's front-end ({INDEX} and {STATIC}/): name"
            " the mindinsight package as it is installed, or its ui/dist"
        )
    return str(found)


def directory(setting: str) -> Path | None:
    """Return where the front-end lies, None where it is switched off or, with `auto`, not installed beside us."""
    if setting == OFF:
        return None
    if setting != AUTO:
        return Path(setting)
    try:
        return _front_end(str(distribution("mindinsight").locate_file("mindinsight")))
    except PackageNotFoundError:
        return None


def _front_end(text: str) -> Path | None:
    for below in _BELOW:
        try:
            found = Path(os.path.realpath(Path(text, below)))
            if (found / INDEX).is_file() and (found / STATIC).is_dir():
                return found
        except (OSError, ValueError):  # ValueError: a NUL inside
            return None
    return None
