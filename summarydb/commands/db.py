"""`summarydb db`: migrate and check the database."""

from __future__ import annotations

import click

from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of


@click.group("db")
def command() -> None:
    """Migrate and check the database."""


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
