"""`summarydb sql`: read-only SQL."""

from __future__ import annotations

import sys

import click

from summarydb import ending
from summarydb.options import LOGGING, options, settings_of


@click.command("sql")
@click.argument("query", metavar="QUERY")
@options("db", "query-seconds", *LOGGING)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "ndjson", "csv"]),
    metavar="FORMAT",
    default="table",
    help="How rows are printed: table, json, ndjson or csv.  [default: table]",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=10_000,
    help="Rows at most; 0: all.  [default: 10000]",
)
def command(query: str, form: str, limit: int, **flags: str | bool | None) -> None:
    """Run one SELECT, or WITH, read-only. `-` reads it from standard input."""
    from summarydb import sqlquery

    config = settings_of(flags).config
    text = sys.stdin.read() if query == "-" else query
    more = sqlquery.run(config.url, text, form=form, limit=limit, seconds=config.query_seconds, out=sys.stdout)
    if more:
        ending.say(f"cut after {limit:,} rows: give a larger --limit, 0 for all")
