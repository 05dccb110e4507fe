"""What commands share: the flags of settings, LOGDIR, `--json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from indexer.config import Config
from indexer.errors import UsageError
from summarydb.settings import SETTINGS, Settings, load

F = TypeVar("F", bound=Callable[..., Any])
INDEXING = (
    *("reconcile", "done-after", "follow-symlinks", "polling", "batch-points", "slice-bytes", "max-record-bytes"),
    *("max-cached-jobs", "kernel", "log-file"),
)
SERVING = (
    "host",
    "port",
    "threads",
    "query-seconds",
    "sql",
    "sql-seconds",
    "sql-bytes",
    "sql-memory",
    "max-queue",
    "max-events-clients",
    "token",
    "allow-anonymous",
    "allowed-hosts",
    "cors-origins",
    "url-prefix",
    "trusted-proxy",
    "access-log",
    "mindinsight-ui",
    "log-file",
    "grpc",
)
LOGGING = ("verbose", "log-format")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
LOGDIRS = click.argument("logdirs", metavar="LOGDIR...", nargs=-1)


def options(*names: str) -> Callable[[F], F]:
    """Give a command the flags of these settings; they arrive as text, for one parser reads them from anywhere."""
    defaults = Config()
    chosen = [setting for setting in SETTINGS if setting.name in names]

    def decorate(command: F) -> F:
        for setting in reversed(chosen):
            default = getattr(defaults, setting.field or setting.key, None)
            if setting.metavar is not None:
                text = setting.help if default in {None, "", ()} else f"{setting.help}  [default: {default}]"
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
