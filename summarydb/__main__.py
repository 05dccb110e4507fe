"""Entry of `summarydb` and `python -m summarydb`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code; what `up` starts as its children is none, and starts sooner."""
    match sys.argv[1:]:
        case ["_index"]:
            from summarydb import child

            sys.exit(child.run(child.index))
        case ["_index", "--once"]:
            from functools import partial

            from summarydb import child

            sys.exit(child.run(partial(child.index, once=True)))
        case ["_serve"]:
            from summarydb import child

            sys.exit(child.run(child.serve))
        case ["_up", *arguments]:
            from summarydb import ending
            from summarydb.cli import run

            ending.end_with_input()
            sys.exit(run(["up", *arguments]))
        case arguments:
            from summarydb.cli import run

            sys.exit(run(arguments))


if __name__ == "__main__":
    main()
