"""The data provider as a gRPC server: which call answers what, and what an error is on the wire.

TensorBoard turns INVALID_ARGUMENT into HTTP 400, NOT_FOUND into 404, anything else into 500; it sets no deadline and
asks once, so every call has our own deadline and none hangs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NoReturn

import grpc

from indexer.errors import Deadline, Refuse, SummaryDBError
from webapi.dataprovider.errors import TooLarge
from webapi.errors import Malformed, Unknown

if TYPE_CHECKING:  # numpy takes longer to import than gRPC: a port is to be there first
    from webapi.dataprovider.service import Service

SERVICE = "tensorboard.data.TensorBoardDataProvider"
"""On the wire; the methods' names are behind it."""
MAX_REQUEST_BYTES = 64 * 2**20

_UNARY = {
    "GetExperiment": "experiment",
    "ListPlugins": "plugins",
    "ListRuns": "runs",
    "ListScalars": "list_scalars",
    "ReadScalars": "read_scalars",
    "ListTensors": "list_tensors",
    "ReadTensors": "read_tensors",
    "ListBlobSequences": "list_blob_sequences",
    "ReadBlobSequences": "read_blob_sequences",
}
"""Calls, and the methods of Service that answer them."""

_LOG = logging.getLogger(__name__)
_CODES = (
    (Malformed, grpc.StatusCode.INVALID_ARGUMENT),
    (Unknown, grpc.StatusCode.NOT_FOUND),
    (TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Deadline, grpc.StatusCode.DEADLINE_EXCEEDED),
    (SummaryDBError, grpc.StatusCode.UNAVAILABLE),  # gone, locked, being migrated: all of it may end
)
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.so_reuseport", 0),  # else another server could take the same port unnoticed
)


def create(answers: Callable[[], Service], *, threads: int) -> grpc.Server:
    """Return a server that answers once it has a port and is started.

    answers: gives the service, called with every request: what it needs may be imported behind the first one.
    """
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(_answering(lambda method=method: getattr(answers(), method)))  # type: ignore[misc]
        for name, method in _UNARY.items()
    }
    handlers["ReadBlob"] = grpc.unary_stream_rpc_method_handler(_streaming(lambda: answers().blob))
    server = grpc.server(ThreadPoolExecutor(threads, thread_name_prefix="grpc"), options=_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server


def bind(server: grpc.Server, host: str, port: int) -> int:
    """Listen on an address; return the port. Refuse where it cannot be had."""
    shown = f"[{host}]" if ":" in host else host
    try:
        bound: int = server.add_insecure_port(f"{shown}:{port}")
    except RuntimeError:
        bound = 0
    if not bound:
        raise Refuse(f"{shown}:{port} cannot be served on: it is in use, or no address of this machine; give another")
    return bound


def _answering(
    call: Callable[[], Callable[[bytes, float | None], bytes]],
) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return call()(message, context.time_remaining())
        except Exception as e:
            _abort(context, e)

    return answer


def _streaming(
    call: Callable[[], Callable[[bytes, float | None], Iterator[bytes]]],
) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
    def answer(message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from call()(message, context.time_remaining())
        except Exception as e:
            _abort(context, e)

    return answer


def _abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status that an error is."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            context.abort(code, str(error))
    _LOG.error("a call failed", exc_info=error)
    context.abort(grpc.StatusCode.INTERNAL, f"unexpected {type(error).__name__}, a bug: please report it with the log")
    raise AssertionError("abort raises")
