"""`summarydb index`: index and keep watching, or one pass."""

from __future__ import annotations

import sys

import click

from summarydb import ending
from summarydb.options import AS_JSON, INDEXING, LOGDIRS, LOGGING, options, print_json, settings_of, with_roots


@click.command("index")
@LOGDIRS
@options("db", *INDEXING, *LOGGING)
@click.option("--once", is_flag=True, help="One pass: end when all that is on disk is loaded.")
@click.option("--strict", is_flag=True, help="Exit with 3 where damaged records were skipped.")
@AS_JSON
def command(logdirs: tuple[str, ...], once: bool, strict: bool, as_json: bool, **flags: str | bool | None) -> int:
    """Index LOGDIR... and keep watching, without the web.

    Creates or migrates the database. LOGDIR may be name:path, and repeat.
    """
    from dataclasses import asdict

    from summarydb import systemd, work
    from summarydb.progress import ProgressLine

    settings = with_roots(settings_of(flags, logdirs))
    line = ProgressLine(sys.stderr)
    try:
        outcome = ending.until_asked(
            lambda stop: work.index(
                settings,
                stop,
                once=once,
                report=lambda p: line.show(**asdict(p)),
                ready=lambda _: systemd.tell(systemd.READY),
                turned=lambda: systemd.tell(systemd.ALIVE),
            )
        )
    finally:
        systemd.tell(systemd.ENDING)
        line.close()
    if as_json:
        print_json(asdict(outcome))
    else:
        click.echo(
            f"{outcome.jobs:,} jobs, {outcome.points:,} points; "
            f"damaged records skipped: {outcome.bad_records:,} ({outcome.bad_bytes:,} bytes)"
        )
        for name in outcome.unreadable:
            ending.say(f"passed over: {name}")
    return ending.DAMAGED if strict and (outcome.bad_records or outcome.bad_bytes) else ending.OK
