"""`summarydb up`: index, keep watching, and serve."""

from __future__ import annotations

import click

from summarydb import provider
from summarydb.options import AS_JSON, INDEXING, LOGDIRS, LOGGING, SERVING, options, settings_of, with_roots
from summarydb.settings import check_exposure


@click.command("up")
@LOGDIRS
@options("db", *SERVING, *INDEXING, *LOGGING)
@AS_JSON
def command(logdirs: tuple[str, ...], as_json: bool, **flags: str | bool | None) -> int:
    """Index LOGDIR..., keep watching, and serve.

    Creates or migrates the database. Prints one line with http://HOST:PORT once it answers; the first load may still
    run then. LOGDIR may be name:path, and repeat.
    """
    from summarydb.parent import run as run_up

    settings = with_roots(settings_of(flags, logdirs))
    check_exposure(settings)
    provider.check_exposure(settings)
    return run_up(settings, as_json=as_json)
