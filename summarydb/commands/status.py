"""`summarydb status`: how far and how well each job is loaded."""

from __future__ import annotations

import click

from summarydb import ending, table
from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of


@click.command("status", short_help="Show how far and how well each job is loaded.")
@options("db", *LOGGING)
@click.option("--check", is_flag=True, help="Only say what is wrong; exit with 1 where something is.")
@AS_JSON
def command(check: bool, as_json: bool, **flags: str | bool | None) -> int:
    """Show jobs, cache_status, progress, lag and damage, per root and job; size of the database, and room left."""
    from summarydb import status as report

    facts = report.read(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    elif check:
        click.echo("\n".join(map(table.printable, facts["problems"])) or "all is well")
    else:
        click.echo(report.render(facts))
    return ending.REFUSED if check and facts["problems"] else ending.OK
