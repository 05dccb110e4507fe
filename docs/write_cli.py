"""Write docs/cli.md from the program's own --help: `python docs/write_cli.py [--check]`.

With --check nothing is written; exit code 1 where the file is not what it would be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from summarydb.cli import main as program

PAGE = Path(__file__).parent / "cli.md"
WIDTH = 100  # characters, whatever the terminal is
INTRODUCTION = """\
# Command line

Written by `docs/write_cli.py` from the program's own `--help`; a test compares.

Flags win over `SUMMARYDB_*` variables, those over `summarydb.toml`: see [configuration](configuration.md).

| exit code | means |
|---|---|
| 0 | done; for `up`, `index` and `serve` also: ended as asked, by SIGINT or SIGTERM, within 2 seconds |
| 1 | the database or a directory cannot be used; a line says what to do; `verify`, `doctor`: found something |
| 2 | a flag, variable or setting cannot be right |
| 3 | `index --strict`: damaged records were skipped |
| 70 | a bug: please report it, with what `-v` prints and `summarydb --version --json` |
| 130 | a query was cut by SIGINT |

Answers go to standard output, everything else to standard error. With `--json` the answer is JSON for programs; fields
may be added, so ignore those you do not know.

`LOGDIR` is a directory, or `name:directory`. A named one is known by its name, so its path may differ between machines;
an unnamed one by its real path, and is called by the last part of it (`runs`, then `runs-2`). A path that exists as
written is no name, and neither is one letter.
"""


def main() -> int:
    """Write or check the page; return the exit code."""
    text = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


def page() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *sections(program, "summarydb")])


def sections(command: click.Command, path: str) -> Iterator[str]:
    """Yield a section for `command` and each command below it that is no secret."""
    context = click.Context(command, info_name=path, terminal_width=WIDTH, max_content_width=WIDTH)
    context.help_option_names = program.context_settings["help_option_names"]
    yield f"## {path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from sections(below, f"{path} {name}")


if __name__ == "__main__":
    sys.exit(main())
