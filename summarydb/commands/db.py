"""`summarydb db`: migrate, check and copy the database, and let people read it."""

from __future__ import annotations

import sys

import click

from summarydb import ending
from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of


@click.group("db")
def command() -> None:
    """Migrate, check and copy the database, and let people read it."""


@command.command()
@options("db", *LOGGING)
@AS_JSON
def upgrade(as_json: bool, **flags: str | bool | None) -> None:
    """Create the database, or bring it to this program's schema. `up` and `index` do this by themselves."""
    from summarydb import database

    facts = database.upgrade(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['database']}: schema {facts['schema']}")


@command.command()
@options("db", *LOGGING)
@AS_JSON
def current(as_json: bool, **flags: str | bool | None) -> None:
    """Show the database's schema revision, and the one this program needs."""
    from summarydb import database

    facts = database.current(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['database']}: schema {facts['schema'] or 'none'}, this program needs {facts['needed']}")


@command.command()
@options("db", *LOGGING)
@AS_JSON
def check(as_json: bool, **flags: str | bool | None) -> None:
    """Check that the database's schema is the one this program needs, table by table. Exit 1 where it is not."""
    from summarydb import database

    facts = database.check(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['database']}: schema {facts['schema']}, as it should be")


@command.command("copy")
@options("db", *LOGGING)
@click.option("--to", "target", metavar="URL", required=True, help="Where to: an empty database, or a new SQLite file.")
@AS_JSON
def copy_to(target: str, as_json: bool, **flags: str | bool | None) -> None:
    """Copy the whole database to another one, from SQLite to PostgreSQL or back, and compare both.

    Indexing may go on meanwhile; the copy is of one moment. Until it is whole and compared the target stays empty.
    """
    from summarydb import copying
    from summarydb.progress import ShareLine

    url = settings_of(flags).config.url
    line = ShareLine(sys.stderr)
    try:
        facts = ending.until_asked(
            lambda stop: copying.copy_database(url, target, show=line.show, stop=stop), unfinished=ending.REFUSED
        )
    finally:
        line.close()
    if as_json:
        print_json(facts)
    else:
        tables = sum(table["rows"] > 0 for table in facts["tables"])
        click.echo(f"{facts['to']}: {facts['rows']:,} rows of {tables} tables, the same as in {facts['database']}")


@command.command("create-reader")
@click.argument("name", metavar="NAME")
@options("db", *LOGGING)
@click.option("--password-stdin", is_flag=True, help="Set the password that standard input holds.")
@click.option(
    "--connections", type=click.IntRange(min=1), metavar="N", default=40, help="At once, at most.  [default: 40]"
)
@click.option(
    "--seconds", type=click.IntRange(min=1), metavar="N", default=60, help="Of a statement, at most.  [default: 60]"
)
@AS_JSON
def create_reader(
    name: str, password_stdin: bool, connections: int, seconds: int, as_json: bool, **flags: str | bool | None
) -> None:
    """Create the PostgreSQL role NAME, which may read our tables and views and nothing else; for `serve`, for people.

    Run it again to bring the role up to date. docs/maintenance.md has the same as SQL.
    """
    from indexer.db import reader_role
    from summarydb.work import naming, shown

    url = settings_of(flags).config.url
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    with naming(url):
        made = reader_role.create(url, name, password=password, connections=connections, seconds=seconds)
    if as_json:
        print_json({"database": shown(url), "role": name, "created": made.created, "relations": made.relations})
    else:
        click.echo(f"{shown(url)}: role {name} {'created' if made.created else 'brought up to date'}")
    for note in made.notes:
        ending.say(note)
