"""`summarydb sql`: read-only SQL."""

from __future__ import annotations

import os
import sys

import click

from summarydb import ending
from summarydb.options import LOGGING, options, settings_of


@click.command("sql")
@click.argument("query", metavar="QUERY")
@options("db", "query-seconds", "sql-memory", *LOGGING)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "ndjson", "csv", "arrow", "parquet"]),
    metavar="FORMAT",
    default="table",
    help="How rows are written: table, json, ndjson, csv, arrow or parquet.  [default: table]",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=10_000,
    help="Rows at most; 0: all.  [default: 10000]",
)
@click.option(
    "--max-bytes",
    type=click.IntRange(min=0),
    metavar="BYTES",
    default=0,
    help="Longest answer; 0: any.  [default: 0]",
)
def command(query: str, form: str, limit: int, max_bytes: int, **flags: str | bool | None) -> None:
    """Run one SELECT, or WITH, read-only. `-` reads it from standard input."""
    from summarydb import sqlquery
    from webapi.query import Bounds

    config = settings_of(flags).config
    text = sys.stdin.read() if query == "-" else query
    bounds = Bounds(config.query_seconds, limit, config.sql_memory, superuser=True)
    out = sys.stdout.buffer
    try:
        more = sqlquery.run(config.url, text, form=form, bounds=bounds, most=max_bytes, out=out)
        out.flush()
    except BrokenPipeError:  # whoever read us has enough; Python would say so again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return
    if more:
        ending.say(f"cut after {limit:,} rows: give a larger --limit, 0 for all")
