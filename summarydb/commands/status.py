"""`summarydb status`: how far and how well each job is loaded."""

from __future__ import annotations

import click

from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of


@click.command("status", short_help="Show how far and how well each job is loaded.")
@options("db", *LOGGING)
@AS_JSON
def command(as_json: bool, **flags: str | bool | None) -> None:
    """Show jobs, cache_status, progress, lag and damage, per root and job."""
    from summarydb import status as report

    facts = report.read(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(report.render(facts))
