"""`summarydb doctor`: what is wrong with this installation."""

from __future__ import annotations

import click

from summarydb import ending
from summarydb.options import AS_JSON, LOGDIRS, LOGGING, options, print_json, settings_of


@click.command("doctor")
@LOGDIRS
@options("db", *LOGGING)
@AS_JSON
def command(logdirs: tuple[str, ...], as_json: bool, **flags: str | bool | None) -> int:
    """Say what is wrong with this installation, and what to do; exit 1 where something is.

    Looks at the database, its file system, the clock, limits, permissions, the disk, versions, and LOGDIR... (without:
    those that the database knows). Changes nothing.
    """
    from summarydb import doctor
    from summarydb.table import printable

    config = settings_of(flags, logdirs).config
    report = doctor.run(config.url, [root.path for root in config.roots])
    if as_json:
        print_json(report.facts())
    else:
        for line in doctor.render(report).splitlines():
            click.echo(printable(line))
    return ending.OK if report.ok else ending.REFUSED
