"""`summarydb tensorboard`: TensorBoard's own pages over the database."""

from __future__ import annotations

import click

from summarydb.options import LOGGING, options, settings_of
from summarydb.settings import check_exposure


@click.command("tensorboard", short_help="Show TensorBoard's own pages over the database.")
@options("db", "host", "threads", "query-seconds", "allow-anonymous", *LOGGING)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=6006,
    metavar="PORT",
    help="Port to serve on; 0: any free one.  [default: 6006]",
)
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLAG...]")
def command(port: int, more: tuple[str, ...], **flags: str | bool | None) -> int:
    """Show an existing database in TensorBoard, which prints its address.

    Needs the extra `tensorboard`. Flags behind -- are TensorBoard's own.
    """
    from summarydb import pages

    settings = settings_of(flags)
    check_exposure(settings)
    return pages.run(settings, port=port, more=more)
