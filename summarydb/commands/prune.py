"""`summarydb prune`: what may be dropped by rule, shown first, dropped with --yes."""

from __future__ import annotations

import re

import click

from indexer.errors import UsageError
from summarydb import ending
from summarydb.options import AS_JSON, LOGGING, options, print_json, settings_of

_AGE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@click.command("prune", short_help="Show what rules would drop; drop it with --yes.")
@options("db", *LOGGING)
@click.option("--job", "jobs", multiple=True, metavar="JOB", help="Only this job: id, ./train/id or root:./train/id.")
@click.option("--older-than", metavar="AGE", help="Only jobs whose files changed last before: 90d, 12h, 4w.")
@click.option("--keep-runs", type=click.IntRange(min=0), metavar="N", help="Not the N newest jobs of each root.")
@click.option("--missing", is_flag=True, help="Only jobs whose files are gone.")
@click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="Of these jobs only tags like this: grad/*.")
@click.option("--thin-older-than", metavar="AGE", help="Thin points written before; needs --thin-to.")
@click.option(
    "--thin-to",
    type=int,
    metavar="N",
    help="Of such points of a series about N stay, first, last, extremes: its shape.",
)
@click.option("--yes", is_flag=True, help="Do it. Without, nothing changes.")
@click.option("--vacuum", is_flag=True, help="With --yes: then give the free space back to the disk.")
@AS_JSON
def command(
    jobs: tuple[str, ...],
    older_than: str | None,
    keep_runs: int | None,
    missing: bool,
    tags: tuple[str, ...],
    thin_older_than: str | None,
    thin_to: int | None,
    yes: bool,
    vacuum: bool,
    as_json: bool,
    **flags: str | bool | None,
) -> None:
    """Show what would be dropped from the database, and drop it with --yes. Files are never touched.

    A job must meet all rules that choose jobs. Whole jobs go, with --tag these tags of them, with --thin-to old points
    of long series. An indexer may run meanwhile.
    """
    from indexer.ingest.retention import Rules
    from summarydb import pruning

    rules = Rules(
        jobs,
        None if older_than is None else age(older_than, "--older-than"),
        keep_runs,
        missing,
        tags,
        None if thin_older_than is None else age(thin_older_than, "--thin-older-than"),
        thin_to,
    )
    if vacuum and not yes:
        raise UsageError("--vacuum without --yes: nothing would be free; add --yes")
    facts = pruning.run(settings_of(flags).config.url, rules, yes=yes, vacuum=vacuum, report=ending.say)
    if as_json:
        print_json(facts)
    else:
        click.echo(pruning.render(facts))


def age(text: str, option: str) -> float:
    """Return seconds; UsageError where `text` is no age."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {text}: write a number and s, m, h, d or w, as in 90d")
    return float(found[1]) * _SECONDS[found[2]]
