"""`summarydb snapshot`: one moment of the database as a SQLite file."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from summarydb import ending
from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of


@click.command("snapshot")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@options("db", *LOGGING)
@click.option("--force", is_flag=True, help="Replace FILE where it is there already.")
@AS_JSON
def command(file: Path, force: bool, as_json: bool, **flags: str | bool | None) -> None:
    """Write a consistent, self-contained SQLite copy of the database to FILE, while indexing goes on.

    From PostgreSQL, too. FILE gets its name when the copy is whole and checked.
    """
    from summarydb import copying
    from summarydb.progress import ShareLine, size

    url = settings_of(flags).config.url
    line = ShareLine(sys.stderr)
    try:
        facts = ending.until_asked(
            lambda stop: copying.take_snapshot(url, file, force=force, show=line.show, stop=stop),
            unfinished=ending.REFUSED,
        )
    finally:
        line.close()
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['file']}: {size(facts['bytes'])}, a copy of {facts['database']}")
