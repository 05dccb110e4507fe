"""`summarydb annotate`: say something of a job."""

from __future__ import annotations

import click

from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of

MOST_TAG, MOST_REMARK, MOST_ALIAS = 10, 128, 128


@click.command("annotate", short_help="Set tag, remark and alias of a job.")
@click.argument("job", metavar="JOB")
@options("db", *LOGGING)
@click.option("--tag", type=click.IntRange(0, MOST_TAG), metavar="N", help="0 to 10: MindInsight's icons.")
@click.option("--remark", metavar="TEXT", help=f"At most {MOST_REMARK} characters.")
@click.option("--alias", metavar="NAME", help=f"Another name, at most {MOST_ALIAS} characters.")
@click.option("--clear", is_flag=True, help="Forget what was said before.")
@AS_JSON
def command(
    job: str,
    tag: int | None,
    remark: str | None,
    alias: str | None,
    clear: bool,
    as_json: bool,
    **flags: str | bool | None,
) -> None:
    """Set tag, remark and alias of JOB: its id, ./train/id or root:./train/id. Print what is said of it.

    The web only reads, so this is how MindInsight's tags and remarks are written; they are shown at once, and a
    running indexer need not stop. What is not given stays as it is.
    """
    from indexer.db.said import Annotation
    from indexer.errors import UsageError
    from summarydb import annotate

    for name, text, most in (("remark", remark, MOST_REMARK), ("alias", alias, MOST_ALIAS)):
        if text is not None and len(text) > most:
            raise UsageError(f"--{name} has {len(text)} characters: {most} is the limit")
    said = annotate.run(settings_of(flags).config.url, job, Annotation(tag, remark, alias), clear=clear)
    if as_json:
        print_json(said)
        return
    shown = [f"{name}: {said[name]}" for name in Annotation._fields if said[name] is not None]
    click.echo(f"{said['root']}:{said['train_id']}  {', '.join(shown) or 'nothing is said of it'}")
