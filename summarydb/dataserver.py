"""`summarydb-data-server`: the program TensorBoard starts in place of its own data server, with the same flags.

It writes its port at once, serves what the database of this logdir holds, and lets a child index beside it. The
protocol with the parent, and the exit codes, are those of TensorBoard's server: docs/tensorboard.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import threading
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from indexer.config import Config, Root
from indexer.errors import Refuse, SummaryDBError
from indexer.version import __version__
from summarydb import ending, provider
from summarydb.indexing import Indexing
from summarydb.settings import Settings

if TYPE_CHECKING:
    from webapi.dataprovider.service import Service

BAD_LOGDIR = 8
NOT_BOUND = 9
_THREADS = 8
_QUERY_SECONDS = 60.0  # a page of many runs may be read for the first time
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


class _Failed(Exception):
    """Why this server cannot run, and the exit code that says it."""

    def __init__(self, code: int, line: str) -> None:
        super().__init__(line)
        self.code = code


class _Late:
    """The data provider, made behind the port file: the parent waits for that, and need not wait for our imports."""

    def __init__(self, url: str, location: str) -> None:
        self._url = url
        self._location = location
        self._made: Service | None = None
        self._lock = threading.Lock()

    def service(self) -> Service:
        """Return the data provider; whoever comes first makes it."""
        with self._lock:
            if self._made is None:
                self._made = provider.service(self._url, location=self._location, seconds=_QUERY_SECONDS, empty=True)
            return self._made


def main() -> None:
    """Run until the parent goes, or a signal comes; exit."""
    given = _parser().parse_args()
    try:
        sys.exit(run(given))
    except _Failed as e:
        _fail(given.error_file, e.code, str(e))
    except SummaryDBError as e:
        _fail(given.error_file, ending.code_of(e), str(e))
    except Exception as e:
        _fail(given.error_file, ending.BROKEN, ending.describe_bug(e, verbose=given.verbose > 0))


def run(given: argparse.Namespace) -> int:
    """Serve and index; return the exit code when it is time to end."""
    if _REMOTE.match(given.logdir):
        raise _Failed(BAD_LOGDIR, f"logdir {given.logdir}: remote directories are not supported; copy it, or mount it")
    logdir = Path(given.logdir).absolute()
    if logdir.exists() and not logdir.is_dir():
        raise _Failed(BAD_LOGDIR, f"logdir {given.logdir} is no directory: give the directory that holds the runs")
    stop = threading.Event()
    url = given.db or f"sqlite:///{cached(logdir)}"
    with ExitStack() as stack:
        stack.enter_context(ending.signals(stop.set))
        provider.require("grpc")
        late = _Late(url, given.logdir)
        try:
            address = stack.enter_context(
                provider.serving(late.service, _host(given.host), given.port, threads=_THREADS)
            )
        except Refuse as e:
            raise _Failed(NOT_BOUND, str(e)) from None
        _, port = provider.split_address(address)
        if given.port_file is not None:
            _write(given.port_file, f"{port}\n")
        late.service()
        if given.verbose:
            ending.say(f"serving {logdir} at {address} from {url}")
        if given.die_after_stdin:
            threading.Thread(target=_watch_parent, args=(stop,), daemon=True).start()
        indexing = Indexing(
            Settings(_config(given, url, logdir), verbose=given.verbose > 1), logdir, once=given.reload == "once"
        )
        stack.callback(indexing.end)
        indexing.start()
        while not stop.wait(0.5):  # in steps: on Windows a wait without an end does not see Ctrl-C
            continue
    return ending.OK


def cached(logdir: Path) -> Path:
    """Return where the database of a logdir is kept between starts; make its directory. Refuse where it cannot be."""
    real = logdir.resolve()
    digest = blake2b(os.fsencode(real), digest_size=8).hexdigest()
    name = re.sub(r"[^\w.-]", "_", real.name, flags=re.ASCII)[:40] or "root"
    directory = _cache() / "summarydb" / "tensorboard"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise Refuse(f"{directory} cannot be made ({e.strerror}): set XDG_CACHE_HOME, or give --db") from None
    return directory / f"{name}-{digest}.db"


def _cache() -> Path:
    """Return the user's directory for what can be made again."""
    named = os.environ.get("XDG_CACHE_HOME")
    if named and Path(named).is_absolute():  # a relative one is to be ignored: XDG Base Directory Specification
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / "Library" / "Caches" if sys.platform == "darwin" else Path.home() / ".cache"


def _config(given: argparse.Namespace, url: str, logdir: Path) -> Config:
    """Return how the logdir is indexed: as TensorBoard reads it, links to directories are followed."""
    root = Root(logdir.resolve().name or "root", logdir.resolve(), named=False)
    seconds = Config().reconcile if given.reload == "once" else max(1.0, min(given.reload, Config().reconcile))
    return Config(url=url, roots=(root,), reconcile=seconds, follow_symlinks=True)


def _host(host: str) -> str:
    return provider.LOOPBACK if host == "localhost" else host


def _watch_parent(stop: threading.Event) -> None:
    """Set `stop` when standard input closes: whoever started us is gone."""
    try:
        while os.read(0, 4096):
            continue
    except OSError:
        pass  # there is none: nobody is left to wait for
    stop.set()


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as e:
        raise Refuse(f"{file} cannot be written ({e.strerror})") from None


def _fail(error_file: str | None, code: int, line: str) -> NoReturn:
    line = line.replace("\n", " ")
    if error_file is not None:
        try:
            _write(error_file, f"{line}\n")
        except Refuse as e:
            ending.say(str(e))
    ending.say(line)
    sys.exit(code)


def _reload(text: str) -> str | float:
    if text == "once":
        return text
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seconds nor `once`")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "summarydb-data-server",
        description="Data server for TensorBoard: set TENSORBOARD_DATA_SERVER_BINARY to its path.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--logdir", required=True, help="directory that holds the runs")
    add("--db", help="database, a SQLAlchemy URL  [default: a SQLite file in the cache directory, one a logdir]")
    add("--host", default="localhost", help="address to serve on  [default: localhost]")
    add("--port", type=int, default=6806, help="port to serve on; 0: any free one  [default: 6806]")
    add("--port-file", help="write the port there, and a newline")
    add("--error-file", help="write there, in one line, why this could not start")
    add("--reload", type=_reload, default=5.0, help="seconds between two looks at the directory; once: one pass")
    add("--die-after-stdin", action="store_true", help="end when standard input is closed")
    add("-v", "--verbose", action="count", default=0, help="say more on standard error")
    add("-V", "--version", action="version", version=f"summarydb-data-server {__version__}")
    # What is only taken: every point is kept, pages are thinned when read; checksums are always looked at.
    add("--samples-per-plugin", default="", help="taken and not needed: all points are kept")
    add("--checksum", action=argparse.BooleanOptionalAction, help="taken and not needed: always on")
    return parser
