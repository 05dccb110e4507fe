"""TensorBoard's data provider as our programs run it: address, threads, its end. gRPC is an extra, imported here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from indexer.errors import Refuse, UsageError
from summarydb.settings import Settings, is_loopback

if TYPE_CHECKING:
    from webapi.dataprovider.service import Service

LOOPBACK = "127.0.0.1"
_END_SECONDS = 0.5  # given to calls in hand
_INSTALL = "pip install 'summarydb[tensorboard]'"


def require(*modules: str) -> None:
    """Refuse where the extra `tensorboard` is not installed."""
    for name in modules:
        if importlib.util.find_spec(name) is None:
            raise Refuse(f"the package {name} is missing, which TensorBoard's pages need: {_INSTALL}")


def split_address(address: str) -> tuple[str, int]:
    """Return the parts of `HOST:PORT`, as settings read it."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def check_exposure(settings: Settings) -> None:
    """Refuse to serve other machines without saying so: TensorBoard's protocol has no tokens."""
    address = settings.config.grpc
    if address is None:
        return
    require("grpc")
    if not settings.allow_anonymous and not is_loopback(split_address(address)[0]):
        raise UsageError(
            f"--grpc {address} lets other machines read everything: add --allow-anonymous if you mean it, or give"
            f" {LOOPBACK}"
        )


def service(url: str, *, location: str, seconds: float, empty: bool = False) -> Service:
    """Return the data provider of a database.

    location: what TensorBoard shows at the foot of its page.  seconds: deadline of a call.
    empty: while there is no database yet it is one without runs; else that is an error of each call.
    """
    from indexer.db.reader import Reader
    from webapi.dataprovider.service import Service

    return Service(Reader(url), location=location, seconds=seconds, empty=empty)


@contextmanager
def serving(answers: Callable[[], Service], host: str, port: int, *, threads: int) -> Iterator[str]:
    """Answer on an address until the block ends; yields `HOST:PORT`. Refuse where it cannot be had.

    answers: gives the service; called with every request, by any thread.
    """
    require("grpc")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said once, by us
    from webapi.dataprovider import server as grpc_server

    server = grpc_server.create(answers, threads=threads)
    bound = grpc_server.bind(server, host, port)
    server.start()
    try:
        yield f"{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        server.stop(_END_SECONDS).wait(_END_SECONDS)
