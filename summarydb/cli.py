"""The command line: text for people, `--json` for programs. A command is a file, imported when it is called for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from indexer.errors import SummaryDBError
from summarydb import __version__, ending
from summarydb.options import print_json

COMMANDS = (
    "annotate",
    "db",
    "doctor",
    "export",
    "index",
    "prune",
    "reindex",
    "serve",
    "snapshot",
    "sql",
    "status",
    "tensorboard",
    "up",
    "verify",
)
"""Names in order; `summarydb.commands` has a module of the same name for each, with `_` for `-`."""


class Commands(click.Group):
    """The program's commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click gives it
        """Return all names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a command, None where there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"summarydb.commands.{cmd_name.replace('-', '_')}").command
        return found


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


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
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
