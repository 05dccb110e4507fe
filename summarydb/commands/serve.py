"""`summarydb serve`: the read-only web over an existing database."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from summarydb import ending, provider
from summarydb.options import AS_JSON, LOGGING, SERVING, options, settings_of
from summarydb.settings import check_exposure

if TYPE_CHECKING:
    import threading


@click.command("serve")
@options("db", *SERVING, *LOGGING)
@AS_JSON
def command(as_json: bool, **flags: str | bool | None) -> int:
    """Serve an existing database, read-only. Many may run."""
    from summarydb import systemd, work

    settings = settings_of(flags)
    check_exposure(settings)
    provider.check_exposure(settings)
    config = settings.config
    with work.listen(config.host, config.port) as sock:
        url = work.address_of(config, sock)

        def ready(grpc: str | None) -> None:
            systemd.tell(systemd.READY)
            click.echo(ending.served(url, grpc, as_json=as_json))
            sys.stdout.flush()
            if (line := work.how_to_open(config, url)) is not None:
                ending.say(line)

        def answer(stop: threading.Event) -> None:
            work.serve(settings, sock, stop, ready=ready)

        ending.until_asked(answer)
    return ending.OK
