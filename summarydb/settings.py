"""Flags win over SUMMARYDB_* variables, those over summarydb.toml, those over defaults; out comes one frozen Config.

Every setting is text until its one parser reads it, so an error is the same wherever the value came from and names
the place. Nothing here imports more than the standard library: the command line starts fast, and `up` stays small.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from indexer.config import Config, Root
from indexer.errors import Refuse, UsageError
from indexer.types import MAX_PROTOBUF_BYTES

FILE = "summarydb.toml"
PREFIX = "SUMMARYDB_"
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_ROOT_NAME = re.compile(r"(?![A-Za-z]$)[^/\\:]+")  # one letter is a drive
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_OWN_PATHS = {"api", "static", "v1", "metrics", "mindinsight"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A flag `--name`, a variable SUMMARYDB_NAME and a key `name` of summarydb.toml, `-` being `_` in the latter."""

    name: str
    parse: Callable[[str], Any]  # ValueError says what is wrong, without the value
    metavar: str | None  # None: a switch
    help: str
    field: str = ""  # of Config, where it is called otherwise; "-": of Settings
    secret: bool = False  # no message may show it

    @property
    def key(self) -> str:
        """The key of summarydb.toml."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.key.upper()


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the outside says."""

    config: Config
    verbose: bool = False
    log_format: str = "text"
    log_file: str | None = None
    allow_anonymous: bool = False


def load(
    flags: Mapping[str, str | None],
    logdirs: Iterable[str] = (),
    *,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Settings:
    """Return what flags, variables, file and defaults say together.

    flags: by key, None where not given.  logdirs: LOGDIR arguments; where there are none, those of the variable or the
    file count.  directory: where summarydb.toml may lie, the current one by default.
    UsageError names the setting that cannot be right; Refuse names a LOGDIR that cannot be used.
    """
    stored, place = _read_file(environ.get(f"{PREFIX}CONFIG"), directory or Path.cwd())
    fields: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for setting in SETTINGS:
        found = _find(setting, flags, environ, stored, place)
        if found is None:
            continue
        text, source = found
        try:
            value = setting.parse(text)
        except ValueError as e:
            raise UsageError(f"{source}: {'it' if setting.secret else repr(text)} {e}") from None
        if setting.field == "-":
            own[setting.key] = value
        else:
            fields[setting.field or setting.key] = value
    wanted = list(logdirs) or _stored_logdirs(environ, stored, place)
    return Settings(Config(**fields, roots=roots(wanted)), **own)


def roots(logdirs: Iterable[str]) -> tuple[Root, ...]:
    """Return LOGDIR arguments as roots with names of their own, in the order given.

    Refuse where one is missing, unreadable, no directory or remote; UsageError where a name is given twice.
    """
    given = [(name, _directory(path)) for name, path in map(split_logdir, logdirs)]
    named: dict[str, Path] = {}
    for name, path in given:
        if name is None:
            continue
        if named.setdefault(name, path) != path:
            raise UsageError(f"LOGDIR {name}: names {named[name]} and {path}; give each its own name")
        for other, same in named.items():
            if same == path and other != name:
                raise UsageError(f"LOGDIR {name}: {path} is {other} already; one name is enough")
    taken = set(named)
    seen: set[Path] = set()
    result = []
    for name, path in given:
        if path in seen or (name is None and path in named.values()):
            continue  # the same directory once more
        seen.add(path)
        result.append(Root(name or _free_name(path.name or "root", taken), path, named=name is not None))
        taken.add(result[-1].name)
    return tuple(result)


def split_logdir(text: str) -> tuple[str | None, str]:
    """Return name (None: none given) and path of `text`. A path that exists as written, or one letter, is no name."""
    name, colon, path = text.partition(":")
    if not colon or not path or not _ROOT_NAME.fullmatch(name) or _REMOTE.match(text) or _exists(text):
        return None, text
    return name, path


def to_json(settings: Settings) -> dict[str, Any]:
    """Return `settings` as values for json.dumps: `up` hands them to its children, so all is read once."""
    values = asdict(settings)
    for root in values["config"]["roots"]:
        root["path"] = str(root["path"])
    return values


def from_json(values: Mapping[str, Any]) -> Settings:
    """Return the Settings that `to_json` was given."""
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values["config"].items()}
    fields["roots"] = tuple(Root(r["name"], Path(r["path"]), r["named"]) for r in fields["roots"])
    return Settings(**{**values, "config": Config(**fields)})


def check_exposure(settings: Settings) -> None:
    """Refuse to serve other machines without a token, unless that is said to be meant."""
    host = settings.config.host
    if settings.config.token is not None or settings.allow_anonymous or is_loopback(host):
        return
    raise UsageError(
        f"--host {host} lets other machines read everything: set SUMMARYDB_TOKEN (or --token) to a secret, add"
        " --allow-anonymous if everybody may read, or leave --host out"
    )


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine alone."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_file(config: str | None, directory: Path) -> tuple[dict[str, Any], str]:
    path = Path(config) if config else directory / FILE
    place = config or FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if config:
            raise UsageError(f"{PREFIX}CONFIG: {config} does not exist") from None
        return {}, place
    except OSError as e:
        raise UsageError(f"{place} cannot be read: {e.strerror}") from None
    import tomllib

    try:
        stored = tomllib.loads(text.decode())
    except ValueError as e:  # TOMLDecodeError and UnicodeDecodeError alike
        raise UsageError(f"{place} is no TOML: {e}") from None
    known = {setting.key for setting in SETTINGS} | {"logdir"}
    for key in stored:
        if key not in known:
            raise UsageError(f"{place}: unknown setting {key!r}; docs/configuration.md lists those there are")
    return stored, place


def _find(
    setting: Setting, flags: Mapping[str, str | None], environ: Mapping[str, str], stored: dict[str, Any], place: str
) -> tuple[str, str] | None:
    """Return the text of a setting and where it was found, None where nobody says anything."""
    flag = flags.get(setting.key)
    if flag is not None:
        return flag, f"--{setting.name}"
    if environ.get(setting.variable):
        return environ[setting.variable], setting.variable
    if setting.key in stored:
        value = stored[setting.key]
        if not isinstance(value, str | bool | int | float):
            raise UsageError(f"{place}, {setting.key}: a list or table makes no sense here")
        return str(value), f"{place}, {setting.key}"
    return None


def _stored_logdirs(environ: Mapping[str, str], stored: dict[str, Any], place: str) -> list[str]:
    text = environ.get(f"{PREFIX}LOGDIR")
    if text:
        return [text] if _exists(text) else [part for part in text.split(";") if part]
    found = stored.get("logdir", [])
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(item, str) for item in listed):
        raise UsageError(f"{place}, logdir: write a path or a list of paths")
    return listed


def _exists(text: str) -> bool:
    try:
        return os.path.lexists(text)
    except ValueError:  # a NUL inside
        return False


def _directory(text: str) -> Path:
    if _REMOTE.match(text):
        raise Refuse(f"LOGDIR {text}: remote directories are not supported; mount it, or copy it here")
    try:
        path = Path(text).resolve(strict=True)
        with os.scandir(path) as entries:
            next(entries, None)
    except (FileNotFoundError, ValueError):  # ValueError: a NUL inside
        raise Refuse(f"LOGDIR {text} does not exist: create it, or give another") from None
    except NotADirectoryError:
        raise Refuse(f"LOGDIR {text} is not a directory: give the directory that holds the runs") from None
    except PermissionError:
        raise Refuse(f"LOGDIR {text} may not be read: check its permissions") from None
    except (OSError, RuntimeError) as e:  # RuntimeError: a loop of links, before Python 3.13
        raise Refuse(f"LOGDIR {text} cannot be read: {getattr(e, 'strerror', None) or e}") from None
    return path


def _free_name(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _whole(low: int, high: int | None = None) -> Callable[[str], int]:
    wanted = f"from {low} to {high}" if high is not None else f"of at least {low}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"is no whole number {wanted}") from None
        if number < low or (high is not None and number > high):
            raise ValueError(f"is no whole number {wanted}")
        return number

    return parse


def _seconds(*, zero: bool, most: float = math.inf) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError("is no number of seconds") from None
        if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
            raise ValueError("is no number of seconds" + ("" if zero else " above 0"))
        if number > most:
            raise ValueError(f"is more than {most:g} seconds")
        return number

    return parse


def _switch(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("is neither true nor false")
    return text.lower() in _TRUE


def _text(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    return text


def _grpc_address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not host or not colon or not re.fullmatch("[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError("is no HOST:PORT; 127.0.0.1:0 is any free port of this machine")
    return text


def _mindinsight_ui(text: str) -> str:
    from webapi.mindinsight import bundle

    return bundle.named(text)


def _token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", text):  # what `Authorization: Bearer` can carry, RFC 6750
        raise ValueError("is no token: use letters, digits and . _ ~ + / -, for instance from `openssl rand -hex 24`")
    return text


def _several(one: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one(part.strip()) for part in text.split(",")))

    return parse


def _host_name(text: str) -> str:
    if text != "*" and not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", text):
        raise ValueError("holds what is no host name (without a port)")
    return text.lower()


def _origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", text):
        raise ValueError("holds what is no origin: write http://HOST or https://HOST, with :PORT where it has one")
    return text.lower()


def _network(text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("holds what is no IP address or network") from None


def _prefix(text: str) -> str:
    prefix = text.rstrip("/")
    parts = prefix.split("/")[1:]
    if prefix and (not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", prefix) or {".", ".."} & set(parts)):
        raise ValueError("is no prefix of paths like /summarydb")
    if parts and parts[0] in _OWN_PATHS:
        raise ValueError("begins like paths of our own: choose another first part")
    return prefix


def _log_format(text: str) -> str:
    if text not in {"text", "json"}:
        raise ValueError("is neither text nor json")
    return text


def _log_file(text: str) -> str:
    if not text:
        raise ValueError("names no file")
    return str(Path(text).absolute())


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"is none of {', '.join(words)}")
        return text

    return parse


SETTINGS = (
    Setting("db", _text, "URL", "Database, a SQLAlchemy URL: sqlite:///FILE or postgresql://USER@HOST/NAME.", "url"),
    Setting("reconcile", _seconds(zero=True), "SECONDS", "Between two scans of everything; 0: notifications only."),
    Setting("done-after", _seconds(zero=True), "SECONDS", "Without a change, after which a file counts as done."),
    Setting("follow-symlinks", _switch, None, "Follow links to directories and files; they are passed over else."),
    Setting("polling", _switch, None, "Look for changes in place of the system's notifications (network drives)."),
    Setting("batch-points", _whole(1), "N", "Points from which on a transaction ends."),
    Setting("slice-bytes", _whole(4096), "BYTES", "Bytes read from a file at once."),
    Setting("max-record-bytes", _whole(1, MAX_PROTOBUF_BYTES), "BYTES", "A longer record is skipped and reported."),
    Setting(
        "max-blob-bytes", _whole(0, MAX_PROTOBUF_BYTES), "BYTES", "A longer payload stays in its file, referred to."
    ),
    Setting("max-cached-jobs", _whole(0), "N", "Jobs loaded at most, others when somebody asks for them; 0: all."),
    Setting("kernel", _switch, None, "Decode with the compiled kernel; the plain path gives the same rows, slowly."),
    Setting("host", _text, "HOST", "Address to serve on."),
    Setting("port", _whole(0, 65535), "PORT", "Port to serve on; 0: any free one."),
    Setting("threads", _whole(1, 256), "N", "Threads that answer requests."),
    Setting("query-seconds", _seconds(zero=False), "SECONDS", "Deadline of a query."),
    Setting("sql", _one_of("auto", "on", "off"), "WHEN", "/sql: on, off, or auto: on where only this machine can ask."),
    Setting("sql-seconds", _seconds(zero=False, most=30), "SECONDS", "Deadline of /sql, at most 30."),
    Setting("sql-bytes", _whole(1, 64 * 2**20), "BYTES", "Longest answer of /sql."),
    Setting("sql-memory", _whole(16 * 2**20), "BYTES", "Memory that a query of /sql or `summarydb sql` may take."),
    Setting(
        "max-queue", _whole(1, 1000), "N", "Requests that wait for a thread at most; more are refused for a moment."
    ),
    Setting("max-events-clients", _whole(0, 256), "N", "Clients of /events at most, a thread each."),
    Setting(
        "token",
        _token,
        "TOKEN",
        "Secret that readers must send. Others on this machine may see flags: rather set SUMMARYDB_TOKEN.",
        secret=True,
    ),
    Setting("allow-anonymous", _switch, None, "Let other machines read without a token.", "-"),
    Setting(
        "allowed-hosts",
        _several(_host_name),
        "NAMES",
        "Names this server has for its clients, commas between them; on loopback beside localhost. *: any.",
    ),
    Setting(
        "cors-origins", _several(_origin), "ORIGINS", "Sites whose pages may read, commas between them; *: any site."
    ),
    Setting("url-prefix", _prefix, "PATH", "Serve below this path, as /summarydb, behind a reverse proxy."),
    Setting(
        "trusted-proxy",
        _several(_network),
        "ADDRESSES",
        "Proxies whose X-Forwarded-For, -Proto, -Host and -Prefix count, commas between them.",
    ),
    Setting("access-log", _switch, None, "Log a line a request."),
    Setting(
        "mindinsight-ui",
        _mindinsight_ui,
        "PATH",
        "MindInsight's own page below /mindinsight/: its directory, off, or auto: where it is installed beside us.",
    ),
    Setting("grpc", _grpc_address, "HOST:PORT", "Serve TensorBoard's data provider there, too; port 0: any free one."),
    Setting("verbose", _switch, None, "Log more, and show tracebacks.", "-"),
    Setting("log-format", _log_format, "FORMAT", "Log lines for people (text) or programs (json).", "-"),
    Setting("log-file", _log_file, "PATH", "Log there and not to standard error; it may be rotated at any time.", "-"),
)
"""Everything that can be set, in the order the help shows. LOGDIR is apart: it may repeat."""
