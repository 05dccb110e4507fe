"""`summarydb verify`: compare files with tables."""

from __future__ import annotations

import sys
from typing import Any

import click

from summarydb import ending
from summarydb.options import AS_JSON, LOGDIRS, LOGGING, options, print_json, settings_of


@click.command("verify")
@LOGDIRS
@options("db", "max-record-bytes", "max-blob-bytes", "follow-symlinks", *LOGGING)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=100,
    help="Differences printed at most; 0: all.  [default: 100]",
)
@AS_JSON
def command(logdirs: tuple[str, ...], limit: int, as_json: bool, **flags: str | bool | None) -> int:
    """Read files again and compare them with the tables; exit 1 where they differ.

    Without LOGDIR: all that the database knows. Indexing may go on meanwhile. What is not loaded yet, a torn tail and
    files that are gone are no differences; they are said.
    """
    from summarydb import verify
    from summarydb.progress import ShareLine, size
    from summarydb.table import printable

    found: list[dict[str, Any]] = []
    line = ShareLine(sys.stderr)

    def tell(difference: Any) -> None:
        if as_json:
            found.append(verify.as_json(difference))
        else:
            line.close()
            click.echo(printable(str(difference)))

    config = settings_of(flags, logdirs).config
    try:
        facts = ending.until_asked(
            lambda stop: verify.run(config, limit=limit, tell=tell, show_progress=line.show, stop=stop),
            unfinished=ending.REFUSED,
        )
    finally:
        line.close()
    if as_json:
        print_json({**facts, "items": found, "truncated": len(found) < facts["differences"]})
    else:
        notes = facts["notes"]
        for note in notes[: limit or None]:
            ending.say(printable(note))
        if limit and len(notes) > limit:
            ending.say(f"and {len(notes) - limit:,} more of the kind")
        if limit and facts["differences"] > limit:
            click.echo(f"and {facts['differences'] - limit:,} more: give a larger --limit, 0 for all")
        click.echo(
            f"{facts['jobs']:,} jobs, {facts['files']:,} files, {size(facts['bytes'])}, {facts['points']:,} points, "
            f"{facts['payloads']:,} payloads: {facts['differences']:,} differences"
        )
    return ending.REFUSED if facts["differences"] else ending.OK
