"""What developers run: `nox -s lint types tests docs bench`; with `--no-venv` in a prepared environment."""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.default_venv_backend = "venv"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, spelling and the order of layers."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("codespell")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly, tests included."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, on SQLite and PostgreSQL."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Write what is generated, then run every command of the docs."""
    session.install("-e", ".[test]")
    session.run("python", "docs/write_cli.py")
    session.run("pytest", "tests/e2e/test_docs.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against peers on this machine; writes docs/benchmarks.md."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "benchmarks", *session.posargs)
