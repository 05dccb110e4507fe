"""Addresses of databases: read without SQLAlchemy where that makes no difference."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from indexer.db.dialect import postgresql_arguments, sqlite_file
from indexer.errors import SummaryDBError

USUAL = [
    "postgresql://",
    "postgresql:///d",
    "postgresql://u@h/d",
    "postgres://u:secret@h:5433/d",
    "postgresql+psycopg://u:p%40%2Fs@127.0.0.1:0/my%20d",
    "postgresql://postgres:@/d?host=/tmp/pg1",
    "postgresql://h",
    "postgresql://h:5432",
    "postgresql://@h/",
    "postgresql://u:@h/d?",
    "postgresql://u@h/d?sslmode=require&application_name=a+b%2Bc&options=-c%20geqo%3Doff",
    "postgresql://u@h/d?user=v&dbname=e&password=p",
    "postgresql://u@h/d?host=&sslmode=",
    "postgresql://u@h:5432/d?host=/run/postgresql",
    "postgresql://u@h/d?connect_timeout=3",
]
ODD = [
    "postgresql://u@[::1]:5432/d",
    "postgresql://u@h/d?host=h1&host=h2",
    "postgresql://u@/d?host=h1,h2&port=1,2",
    "postgresql://u@/d?host=h1:1234",
    "postgresql://u@h/d?port=6",
    "postgresql://u:p:q@h/d",
    "postgresql://u:p/q@h/d",
    "postgresql://u@h/d/e#f",
]


def _by_sqlalchemy(url: str) -> dict[str, Any]:
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    return dict(parsed.get_dialect()().create_connect_args(parsed)[1])


@pytest.mark.parametrize("url", USUAL + ODD)
def test_an_address_means_what_it_means_to_sqlalchemy(url: str) -> None:
    """Whoever reads and whoever writes reach the same database."""
    assert _by_sqlalchemy(url) == postgresql_arguments(url)
    assert sqlite_file(url) is None


_WORD = st.text("ab1%4+ .-_/&=?:@,[]#", max_size=6)


@example((("", "?"), *[("", "")] * 4, ("", "@")))
@given(st.tuples(*[st.tuples(st.sampled_from(["", mark]), _WORD) for mark in ("u:", "@", ":", "/", "?host=", "&a=")]))
def test_no_address_is_read_in_another_way(parts: tuple[tuple[str, str], ...]) -> None:
    """However odd it is."""
    url = "postgresql://" + "".join(mark + word for mark, word in parts)
    try:
        wanted = _by_sqlalchemy(url)
    except (ArgumentError, ValueError):
        return
    assert wanted == postgresql_arguments(url)


def test_usual_addresses_do_without_sqlalchemy() -> None:
    """Its import would take longer than all else that a start does."""
    code = (
        "import sys; from indexer.db.connection import Database; from indexer.db.dialect import postgresql_arguments; "
        f"print([Database(url).dialect and bool(postgresql_arguments(url)) for url in {USUAL[1:]!r}]); "
        "print('sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [repr([True] * len(USUAL[1:])), "False"] == done.stdout.split("\n")[:2]


@pytest.mark.parametrize("url", ["postgresql+asyncpg://u@h/d", "postgresql+psycopg2:///d", "mysql://h/d", "h/d"])
def test_what_we_cannot_reach_is_refused(url: str) -> None:
    """Another driver, another database, no address at all."""
    for read in (postgresql_arguments, sqlite_file):
        with pytest.raises(SummaryDBError):
            read(url)
