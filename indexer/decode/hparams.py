"""Content of TensorBoard's plugin hparams → plain values (docs/formats/tensorboard.md)."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from indexer.payload import HParams, Neutral, Unreadable
from indexer.wire import hparams_pb2 as wire

MAX_BYTES = 512 * 1024
"""Longer content is kept as it is and not looked into: in memory it would be a hundred times as long."""

_PARTS: Final = {
    "experiment": "experiment",
    "session_start_info": "session_start",
    "session_end_info": "session_end",
}


def convert(content: bytes) -> Neutral:
    """Return what the content says."""
    if len(content) > MAX_BYTES:
        return Unreadable("hparams", content, f"longer than the {MAX_BYTES} bytes that are looked into")
    try:
        message = wire.Content.FromString(content)
    except DecodeError:
        return Unreadable("hparams", content, "the metadata's content is no message of hparams")
    field = message.WhichOneof("data")
    if field is None:
        return Unreadable("hparams", content, "the metadata's content is neither experiment nor session")
    return HParams(_PARTS[field], _READERS[field](getattr(message, field)), content)


def _experiment(message: Any) -> dict[str, Any]:
    return {
        "name": message.name,
        "description": message.description,
        "user": message.user,
        "time_created": message.time_created_secs,
        "hparams": [_hparam(info) for info in message.hparam_infos],
        "metrics": [
            {
                "group": info.name.group,
                "tag": info.name.tag,
                "display_name": info.display_name,
                "description": info.description,
                "dataset": _word(wire.Metric.Dataset, info.dataset_type),
            }
            for info in message.metric_infos
        ],
    }


def _hparam(info: Any) -> dict[str, Any]:
    domain = info.WhichOneof("domain")
    what: Any = None
    if domain == "domain_discrete":
        what = [_plain(value) for value in info.domain_discrete.values]
    elif domain == "domain_interval":
        what = {"min": info.domain_interval.min_value, "max": info.domain_interval.max_value}
    return {
        "name": info.name,
        "display_name": info.display_name,
        "description": info.description,
        "type": _word(wire.HParam.Type, info.type),
        "domain": what,
    }


def _start(message: Any) -> dict[str, Any]:
    return {
        "hparams": {entry.key: _plain(entry.value) for entry in message.hparams},
        "model_uri": message.model_uri,
        "monitor_url": message.monitor_url,
        "group_name": message.group_name,
        "start_time": message.start_time_secs,
    }


def _end(message: Any) -> dict[str, Any]:
    return {"status": _word(wire.SessionEnd.Status, message.status), "end_time": message.end_time_secs}


_READERS: Final = {"experiment": _experiment, "session_start_info": _start, "session_end_info": _end}


def _word(enum: Any, number: int) -> str:
    """Return the name of a number; the number itself where a newer writer has more of them."""
    return str(enum.Name(number)).lower() if number in enum.values() else str(number)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value.WhichOneof("kind"):
        case "number_value":
            return value.number_value
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {entry.key: _plain(entry.value) for entry in value.struct_value.fields}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
    return None
