"""The command line: text for people, `--json` for programs; whatever is heavy is imported inside a command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from indexer.config import Config
from indexer.errors import Refuse, SummaryDBError, UsageError
from summarydb import __version__, ending
from summarydb.settings import SETTINGS, Settings, check_exposure, load

if TYPE_CHECKING:
    import threading

F = TypeVar("F", bound=Callable[..., Any])
INDEXING = ("reconcile", "follow-symlinks", "polling", "batch-points", "slice-bytes", "max-record-bytes", "kernel")
SERVING = ("host", "port", "threads", "query-seconds", "allow-anonymous")
LOGGING = ("verbose", "log-format")
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_LOGDIRS = click.argument("logdirs", metavar="LOGDIR...", nargs=-1)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; whatever goes wrong is one line on standard error."""
    try:
        code = main(args=list(arguments), prog_name="summarydb", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.format_message())
        return ending.USAGE
    except click.ClickException as e:
        context = getattr(e, "ctx", None)
        path = context.command_path if context is not None else "summarydb"
        ending.say(f"{e.format_message().strip().rstrip('.').replace(chr(10), ' ')}; see `{path} --help`")
        return ending.USAGE
    except (click.Abort, KeyboardInterrupt):
        return 130  # as a shell says of SIGINT: a query was cut, there is no answer
    except SummaryDBError as e:
        ending.say(str(e).replace("\n", " "))
        return ending.code_of(e)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has enough; nothing is to be said at exit
        return ending.OK
    except Exception as e:
        ending.say(ending.describe_bug(e, verbose="-v" in arguments or "--verbose" in arguments))
        return ending.BROKEN
    return code if isinstance(code, int) else ending.OK


def options(*names: str) -> Callable[[F], F]:
    """Give a command the flags of these settings; they arrive as text, for one parser reads them from anywhere."""
    defaults = Config()
    chosen = [setting for setting in SETTINGS if setting.name in names]

    def decorate(command: F) -> F:
        for setting in reversed(chosen):
            default = getattr(defaults, setting.field or setting.key, None)
            if setting.metavar is not None:
                text = setting.help if default is None else f"{setting.help}  [default: {default}]"
                option = click.option(f"--{setting.name}", setting.key, metavar=setting.metavar, help=text)
            elif setting.name == "verbose":
                option = click.option("-v", "--verbose", setting.key, is_flag=True, default=None, help=setting.help)
            else:
                switch = f"--{setting.name}/--no-{setting.name}" if default else f"--{setting.name}"
                option = click.option(switch, setting.key, is_flag=True, default=None, help=setting.help)
            command = option(command)
        return command

    return decorate


def settings_of(flags: dict[str, str | bool | None], logdirs: Sequence[str] = ()) -> Settings:
    """Return the settings of a command line."""
    return load({key: None if value is None else str(value) for key, value in flags.items()}, logdirs)


def with_roots(settings: Settings) -> Settings:
    """Return `settings`; UsageError where they name no LOGDIR."""
    if not settings.config.roots:
        raise UsageError("no LOGDIR given: name the directory that holds your runs, as in `summarydb up runs`")
    return settings


def print_json(facts: object) -> None:
    """Print facts for programs."""
    click.echo(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, help="Show the version; with --json all versions, for a bug report.")
@click.option("--json", "as_json", is_flag=True, help="With --version: print JSON for programs.")
@click.pass_context
def main(context: click.Context, version: bool, as_json: bool) -> None:
    """Index MindSpore and TensorBoard summary files once into SQLite or PostgreSQL; query them with SQL and REST."""
    if version:
        if as_json:
            from summarydb import versions

            print_json(versions.everything())
        else:
            click.echo(f"summarydb {__version__}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@_LOGDIRS
@options("db", *SERVING, *INDEXING, *LOGGING)
@_AS_JSON
def up(logdirs: tuple[str, ...], as_json: bool, **flags: str | bool | None) -> int:
    """Index LOGDIR..., keep watching, and serve.

    Creates or migrates the database. Prints one line with http://HOST:PORT once it answers; the first load may still
    run then. LOGDIR may be name:path, and repeat.
    """
    from summarydb.up import run as run_up

    settings = with_roots(settings_of(flags, logdirs))
    check_exposure(settings)
    return run_up(settings, as_json=as_json)


@main.command()
@_LOGDIRS
@options("db", *INDEXING, *LOGGING)
@click.option("--once", is_flag=True, help="One pass: end when all that is on disk is loaded.")
@click.option("--strict", is_flag=True, help="Exit with 3 where damaged records were skipped.")
@_AS_JSON
def index(logdirs: tuple[str, ...], once: bool, strict: bool, as_json: bool, **flags: str | bool | None) -> int:
    """Index LOGDIR... and keep watching, without the web.

    Creates or migrates the database. LOGDIR may be name:path, and repeat.
    """
    from dataclasses import asdict

    from summarydb import work
    from summarydb.progress import ProgressLine

    settings = with_roots(settings_of(flags, logdirs))
    line = ProgressLine(sys.stderr)
    try:
        outcome = ending.until_asked(
            lambda stop: work.index(settings, stop, once=once, report=lambda p: line.show(**asdict(p)))
        )
    finally:
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


@main.command()
@options("db", *SERVING, *LOGGING)
@_AS_JSON
def serve(as_json: bool, **flags: str | bool | None) -> int:
    """Serve an existing database, read-only. Many may run."""
    from summarydb import work

    settings = settings_of(flags)
    check_exposure(settings)
    config = settings.config
    with work.listen(config.host, config.port) as sock:
        url = work.address_of(config.host, sock)

        def ready() -> None:
            click.echo(json.dumps({"url": url}) if as_json else f"summarydb is at {url}")
            sys.stdout.flush()

        def answer(stop: threading.Event) -> None:
            work.serve(settings, sock, stop, ready=ready)

        ending.until_asked(answer)
    return ending.OK


@main.command(short_help="Show how far and how well each job is loaded.")
@options("db", *LOGGING)
@_AS_JSON
def status(as_json: bool, **flags: str | bool | None) -> None:
    """Show jobs, cache_status, progress, lag and damage, per root and job."""
    from summarydb import status as report

    facts = report.read(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(report.render(facts))


@main.command()
@click.argument("query", metavar="QUERY")
@options("db", "query-seconds", *LOGGING)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "ndjson", "csv"]),
    metavar="FORMAT",
    default="table",
    help="How rows are printed: table, json, ndjson or csv.  [default: table]",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=10_000,
    help="Rows at most; 0: all.  [default: 10000]",
)
def sql(query: str, form: str, limit: int, **flags: str | bool | None) -> None:
    """Run one SELECT, or WITH, read-only. `-` reads it from standard input."""
    from summarydb import sqlquery

    config = settings_of(flags).config
    text = sys.stdin.read() if query == "-" else query
    more = sqlquery.run(config.url, text, form=form, limit=limit, seconds=config.query_seconds, out=sys.stdout)
    if more:
        ending.say(f"cut after {limit:,} rows: give a larger --limit, 0 for all")


@main.command(short_help="Write points and payloads of chosen jobs and tags.")
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
def export(
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


@main.group()
def db() -> None:
    """Migrate and check the database."""


@db.command()
@options("db", *LOGGING)
@_AS_JSON
def upgrade(as_json: bool, **flags: str | bool | None) -> None:
    """Create the database, or bring it to this program's schema. `up` and `index` do this by themselves."""
    from summarydb import database

    facts = database.upgrade(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['database']}: schema {facts['schema']}")


@db.command()
@options("db", *LOGGING)
@_AS_JSON
def current(as_json: bool, **flags: str | bool | None) -> None:
    """Show the database's schema revision, and the one this program needs."""
    from summarydb import database

    facts = database.current(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['database']}: schema {facts['schema'] or 'none'}, this program needs {facts['needed']}")


@db.command()
@options("db", *LOGGING)
@_AS_JSON
def check(as_json: bool, **flags: str | bool | None) -> None:
    """Check that the database's schema is the one this program needs, table by table. Exit 1 where it is not."""
    from summarydb import database

    facts = database.check(settings_of(flags).config.url)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{facts['database']}: schema {facts['schema']}, as it should be")
