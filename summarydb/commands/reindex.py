"""`summarydb reindex`: load a job again from its files."""

from __future__ import annotations

import click

from summarydb import ending
from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of


@click.command("reindex", short_help="Load a job again from its files.")
@click.argument("job", metavar="JOB")
@click.argument("file", metavar="[FILE]", required=False)
@options("db", "follow-symlinks", "slice-bytes", "max-record-bytes", "kernel", *LOGGING)
@click.option("--no-wait", is_flag=True, help="Where an indexer runs: only ask it, and end.")
@AS_JSON
def command(job: str, file: str | None, no_wait: bool, as_json: bool, **flags: str | bool | None) -> None:
    """Load JOB again: id, ./train/id or root:./train/id. With FILE only that one of its files is read.

    Its curves are there all the time, and exchanged at once when all is read. Points of files that are gone stay. A
    pruned job comes back. Where an indexer runs it does the work; else this command does.
    """
    from summarydb import reindexing

    settings = settings_of(flags)
    facts = ending.until_asked(lambda stop: reindexing.run(settings, job, file, stop, wait=not no_wait))
    if as_json:
        print_json(facts)
    else:
        click.echo(reindexing.render(facts))
