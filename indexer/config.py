"""One frozen Config: flags, environment and summarydb.toml become it once, at the edge (summarydb/settings.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from indexer.types import MAX_BLOB_BYTES, MAX_RECORD_BYTES

DEFAULT_URL = "sqlite:///summarydb.db"


@dataclass(frozen=True, slots=True)
class Root:
    """A base directory to index. `named` by the user: then it is known by `name`, else by `path`."""

    name: str
    path: Path  # absolute, resolved
    named: bool


@dataclass(frozen=True, slots=True)
class Config:
    """What one run of the program does. Every field is a flag, a variable and a key of summarydb.toml."""

    url: str = DEFAULT_URL
    roots: tuple[Root, ...] = ()
    reconcile: float = 10.0  # seconds between two scans of everything; 0: notifications only
    follow_symlinks: bool = False
    done_after: float = 86_400.0  # seconds without a change, after which a file that is read counts as done
    polling: bool = False  # watchdog's polling observer in place of the system's notifications
    batch_points: int = 200_000  # of a transaction, and some more: many would keep small appends waiting
    slice_bytes: int = 16 * 2**20  # read at once
    max_record_bytes: int = MAX_RECORD_BYTES
    max_blob_bytes: int = MAX_BLOB_BYTES  # a longer payload stays in its file
    max_cached_jobs: int = 0  # loaded at most, others when somebody asks for them; 0: all are loaded
    kernel: bool = True  # compiled decode where numba is there
    host: str = "127.0.0.1"
    port: int = 8080  # 0: any free one
    threads: int = 8  # of the web server
    query_seconds: float = 10.0  # deadline of a REST query
    sql: str = "auto"  # whether /sql answers: on, off, or auto: on where only this machine can ask
    sql_seconds: float = 10.0  # deadline of a query of somebody's
    sql_bytes: int = 32 * 2**20  # of its answer
    sql_memory: int = 256 * 2**20  # that it may take
    max_queue: int = 512  # requests that wait for a thread; more are refused
    max_events_clients: int = 16  # of /events and of waiting /changes, a thread each
    token: str | None = field(default=None, repr=False)  # whoever has it may read; None: everybody may
    allowed_hosts: tuple[str, ...] = ()  # names in the Host header, beside those of loopback
    cors_origins: tuple[str, ...] = ()  # whose pages may read: `https://HOST[:PORT]`, or `*`
    url_prefix: str = ""  # before every path, as "/summarydb"
    trusted_proxy: tuple[str, ...] = ()  # addresses or networks whose X-Forwarded-* headers count
    access_log: bool = False
    mindinsight_ui: str = "auto"  # MindInsight's page: auto (where it is installed beside us), off, or its directory
    grpc: str | None = None  # HOST:PORT of TensorBoard's data provider; None: not served
