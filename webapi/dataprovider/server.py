"""The data provider as a gRPC server: which call answers what, and what an error is on the wire.

TensorBoard turns INVALID_ARGUMENT into HTTP 400, NOT_FOUND into 404, anything else into 500; it sets no deadline and
asks once, so every call has our own deadline and none hangs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc

from indexer.errors import Deadline, Refuse, SummaryDBError
from webapi.dataprovider.payloads import TooLarge
from webapi.dataprovider.service import Service
from webapi.errors import Malformed, Unknown

SERVICE = "tensorboard.data.TensorBoardDataProvider"
"""On the wire; the methods' names are behind it."""
MAX_REQUEST_BYTES = 64 * 2**20

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


def create(service: Service, *, threads: int) -> grpc.Server:
    """Return a server that answers once it has a port and is started."""
    unary = {
        "GetExperiment": service.experiment,
        "ListPlugins": service.plugins,
        "ListRuns": service.runs,
        "ListScalars": service.list_scalars,
        "ReadScalars": service.read_scalars,
        "ListTensors": service.list_tensors,
        "ReadTensors": service.read_tensors,
        "ListBlobSequences": service.list_blob_sequences,
        "ReadBlobSequences": service.read_blob_sequences,
    }
    handlers = {name: grpc.unary_unary_rpc_method_handler(_answering(call)) for name, call in unary.items()}
    handlers["ReadBlob"] = grpc.unary_stream_rpc_method_handler(_streaming(service.blob))
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


def _answering(call: Callable[[bytes, float | None], bytes]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return call(message, context.time_remaining())
        except Exception as e:
            _abort(context, e)

    return answer


def _streaming(
    call: Callable[[bytes, float | None], Iterator[bytes]],
) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
    def answer(message: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            yield from call(message, context.time_remaining())
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
