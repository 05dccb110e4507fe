"""`summarydb export`: points and payloads of chosen jobs and tags."""

from __future__ import annotations

import os
import sys

import click

from indexer.errors import Refuse, UsageError
from summarydb import ending
from summarydb.options import LOGGING, options, settings_of


@click.command("export", short_help="Write points and payloads of chosen jobs and tags.")
@options("db", "query-seconds", *LOGGING)
@click.option("--job", "jobs", multiple=True, metavar="JOB", help="Only this job: id, ./train/id or root:./train/id.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only this tag.")
@click.option("--plugin", "plugins", multiple=True, metavar="PLUGIN", help="Only this plugin, for instance scalars.")
@click.option("--from-step", type=click.IntRange(-(2**63), 2**63 - 1), metavar="STEP", help="Smallest step, included.")
@click.option("--to-step", type=click.IntRange(-(2**63), 2**63 - 1), metavar="STEP", help="Largest step, included.")
@click.option(
    "--restarts",
    type=click.Choice(["current", "all"]),
    metavar="WHICH",
    default="current",
    help="all: also points that a later file or session start superseded.  [default: current]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "csv", "json", "arrow", "parquet"]),
    metavar="FORMAT",
    default="ndjson",
    help="ndjson: a line a point; csv, json, arrow, parquet: a row a point, or one a payload.  [default: ndjson]",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option("--output", metavar="FILE", help="Write there.  [default: standard output]")
@click.option(
    "--blobs",
    type=click.Choice(["base64", "none"]),
    metavar="HOW",
    help="Bytes of payloads: base64 or none.  [default: base64, with --files none]",
)
@click.option("--files", metavar="DIR", help="Write payloads into this new directory; rows name their files.")
def command(
    jobs: tuple[str, ...],
    tags: tuple[str, ...],
    plugins: tuple[str, ...],
    from_step: int | None,
    to_step: int | None,
    restarts: str,
    form: str,
    output: str | None,
    blobs: str | None,
    files: str | None,
    **flags: str | bool | None,
) -> None:
    """Write points of chosen jobs and tags, with their payloads, as they are read: in memory is one page.

    --job, --tag and --plugin repeat; without them: all. Points that are indexed meanwhile may be among them.
    """
    from contextlib import ExitStack
    from pathlib import Path

    from summarydb import export as exporting
    from webapi.queries import Range

    if files is not None and blobs == "base64":
        raise UsageError("--files with --blobs base64: the bytes go to one of them")
    config = settings_of(flags).config
    wanted = exporting.Wanted(
        jobs,
        tags,
        plugins,
        Range(from_step, to_step, superseded=restarts == "all"),
        form,
        bytes=blobs != "none" and files is None,
        files=None if files is None else Path(files),
    )
    with ExitStack() as stack:
        out = sys.stdout.buffer
        if output is not None:
            try:
                out = stack.enter_context(Path(output).open("wb"))
            except OSError as e:
                raise Refuse(f"--output {output} cannot be written ({e.strerror}): give another file") from None
        try:
            gone = exporting.run(config.url, wanted, out, seconds=config.query_seconds)
            out.flush()
        except BrokenPipeError:  # whoever read us has enough; Python would say so again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            return
    if gone:
        ending.say(f"{gone:,} payloads were too long for the database, and their files are gone: they are left out")
