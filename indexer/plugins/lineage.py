"""Lineage: where a trained model comes from. Each record is a payload; a job's records are merged into one lineage.

The merge is MindInsight's (docs/formats/mindspore.md): within a file the last record of a part wins and user-defined
values add up; a file that trains or has a dataset graph begins anew, one that only evaluates is laid over what came
before, one with user-defined values alone does not count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from indexer.payload import Example, Kind, Lineage, Options, Stored, as_json, finite, shown
from indexer.types import Blob

TRAIN, EVALUATION, DATASET, USER = "train_lineage", "evaluation_lineage", "dataset_graph", "user_defined_info"
MAX_KEYS = 10_000
"""Keys of user-defined values, and of metrics, that are merged; more stay in their records."""
MAX_STATE_BYTES = 4 * 2**20
"""JSON of user-defined values that is merged; more stays in the records."""

NAMES = {
    ("hyper_parameters", "loss_function"): "loss_function",
    ("hyper_parameters", "optimizer"): "optimizer",
    ("hyper_parameters", "learning_rate"): "learning_rate",
    ("hyper_parameters", "epoch"): "epoch",
    ("hyper_parameters", "batch_size"): "batch_size",
    ("hyper_parameters", "device_num"): "device_num",
    ("hyper_parameters", "parallel_mode"): "parallel_mode",
    ("train_dataset", "train_dataset_path"): "train_dataset_path",
    ("train_dataset", "train_dataset_size"): "train_dataset_count",
    ("algorithm", "network"): "network",
    ("algorithm", "loss"): "loss",
    ("model", "path"): "model_path",
    ("model", "size"): "model_size",
    ("valid_dataset", "valid_dataset_path"): "test_dataset_path",
    ("valid_dataset", "valid_dataset_size"): "test_dataset_count",
}
"""Section and key, and the name of both in MindInsight's table."""

_MAPS = ("map_dict", "map_int32", "map_str", "map_double")
FLOATS = {"learning_rate", "loss"}  # of MindSpore's own keys
_TRAIN_GROUPS = ("hyper_parameters", "train_dataset", "algorithm", "model")
_NOT_FINITE = {"NaN": None, "Infinity": float("inf"), "-Infinity": float("-inf")}
State = dict[str, Any]
"""What the records of a file come to: part → where it is from and what it says; of USER, that of each key."""


class Row(NamedTuple):
    """A value of a job's lineage, or a whole section of it: then the name is empty."""

    section: str
    key: str
    name: str  # as MindInsight calls it
    kind: str
    value: str | None  # as text
    number: float | None
    json: str
    shard: int
    at: int  # where its record begins in the file, bytes
    wall_time: float | None  # of the record


# Records --------------------------------------------------------------------------------------------------------------
def decode(value: Lineage) -> list[Blob]:
    """Return the record, with what it says as JSON. ValueError where that is not what MindSpore writes."""
    content = value.content
    if value.part == EVALUATION:
        metrics(content)
    if value.part == USER:
        user_defined(content)
    facts = as_json({"part": value.part, "content": content})
    return [Blob("lineage", value.data, facts=facts, says=True, packs=True)]


def metrics(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of an evaluation: a JSON object in a text."""
    text = content.get("metric", "")
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError) as e:
        raise ValueError(f"the metrics are no JSON: {text[:80]!r}") from e
    if not isinstance(found, dict):
        raise ValueError(f"the metrics are no JSON object: {text[:80]!r}")
    return dict(finite(found))


def user_defined(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return user-defined values: of each item the first key of its first map counts, as in MindInsight."""
    items = content.get("user_info")
    if not items:
        raise ValueError("user-defined values without user_info")
    found: dict[str, Any] = {}
    for item in items:
        field = next((field for field in _MAPS if item.get(field)), None)
        if field is not None:
            key, value = next(iter(item[field].items()))
            found[key] = user_defined(value) if field == "map_dict" else value
    return found


# Merging --------------------------------------------------------------------------------------------------------------
def absorb(state: State, at: int, wall_time: float | None, facts: Mapping[str, Any]) -> None:
    """Take over what a record says: records of a file come in its order."""
    part, content = facts["part"], facts["content"]
    source = {"at": at, "wall_time": wall_time}
    if part != USER:
        state[part] = {**source, "content": content}
        return
    known = state.setdefault(USER, {})
    room = MAX_STATE_BYTES - sum(_weight(key, entry["value"]) for key, entry in known.items())
    for key, value in user_defined(content).items():
        room -= _weight(key, value) - (_weight(key, known[key]["value"]) if key in known else 0)
        if room < 0 or (key not in known and len(known) >= MAX_KEYS):
            return
        known[key] = {**source, "value": value}


def _weight(key: str, value: Any) -> int:
    return len(key) + (len(value) if isinstance(value, str) else len(json.dumps(value))) + 50


def merged(files: Sequence[tuple[int, State]]) -> list[Row]:
    """Return the lineage of a job; files: their ids and states, in reading order."""
    counted = [(shard, state) for shard, state in files if not {TRAIN, EVALUATION, DATASET}.isdisjoint(state)]
    first = max((i for i, (_, state) in enumerate(counted) if TRAIN in state or DATASET in state), default=0)
    newest: dict[str, tuple[int, Mapping[str, Any]]] = {}
    user: dict[str, tuple[int, Mapping[str, Any]]] = {}
    for shard, state in counted[first:]:
        newest |= {part: (shard, state[part]) for part in (TRAIN, EVALUATION, DATASET) if part in state}
        user |= {key: (shard, entry) for key, entry in state.get(USER, {}).items()}
    return list(_rows(newest, user))


def _rows(
    newest: Mapping[str, tuple[int, Mapping[str, Any]]], user: Mapping[str, tuple[int, Mapping[str, Any]]]
) -> Iterator[Row]:
    if TRAIN in newest:
        shard, source = newest[TRAIN]
        for group in _TRAIN_GROUPS:
            for key, value in source["content"].get(group, {}).items():
                yield _row(group, key, value, shard, source)
    if EVALUATION in newest:
        shard, source = newest[EVALUATION]
        found = metrics(source["content"])
        yield _row("metric", None, found, shard, source)
        for key, value in list(found.items())[:MAX_KEYS]:
            yield _row("metric", key, value, shard, source)
        for key, value in source["content"].get("valid_dataset", {}).items():
            yield _row("valid_dataset", key, value, shard, source)
    if DATASET in newest:
        shard, source = newest[DATASET]
        yield _row(DATASET, None, source["content"], shard, source)
    if user:
        shard, source = max(user.values(), key=lambda entry: entry[1]["at"])
        yield _row("user_defined", None, {key: entry["value"] for key, (_, entry) in user.items()}, shard, source)
        for key, (shard, source) in user.items():
            yield _row("user_defined", key, source["value"], shard, source)


def _row(section: str, key: str | None, value: Any, shard: int, source: Mapping[str, Any]) -> Row:
    """Return a row; without a key it is that of the whole section."""
    name, kind, shown_as, number = "", "object", None, None
    if key is not None:
        name = NAMES.get((section, key), f"{section}/{key}")
        kind, shown_as, number = described(value, float_=section == "metric" or key in FLOATS)
    return Row(
        section,
        key or "",
        name,
        kind,
        shown_as,
        number,
        as_json(value),
        shard,
        source["at"],
        source["wall_time"],
    )


def described(value: Any, *, float_: bool = False) -> tuple[str, str | None, float | None]:
    """Return the kind of a JSON value, the value as text, and as a number where it is one.

    float_: a text may be the name of a float that is not finite, for which JSON has no other way.
    """
    if float_ and isinstance(value, str) and value in _NOT_FINITE:
        return "number", value, _NOT_FINITE[value]
    match value:
        case None:
            return "null", None, None
        case bool():
            return "bool", "true" if value else "false", None
        case int() | float():
            try:
                return "number", repr(value), float(value)
            except OverflowError:  # an integer beyond every float
                return "number", str(value), float("inf") if value > 0 else float("-inf")
        case str():
            return "string", value, None
        case list():
            return "list", as_json(value), None
    return "object", as_json(value), None


# Dataset graphs -------------------------------------------------------------------------------------------------------
def dataset_graph(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset graph as MindInsight shows it: parameters beside `operations`, `sampler` and `children`."""
    found = _parameters(content.get("parameter", {}))
    if content.get("operations"):
        found["operations"] = [_operation(operation) for operation in content["operations"]]
    if content.get("sampler"):
        found["sampler"] = _operation(content["sampler"])
    found["children"] = [dataset_graph(child) for child in content.get("children", [])]
    return found


def _operation(content: Mapping[str, Any]) -> dict[str, Any]:
    found = _parameters(content.get("operationParam", {}))
    return found | {name: content[name] for name in ("size", "weights") if name in content}


def _parameters(content: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("mapStr", "mapBool", "mapInt", "mapDouble"):
        found |= content.get(name, {})
    found = {key: None if value == "None" else value for key, value in found.items()}
    for key, value in content.get("mapStrList", {}).items():
        found[key] = [text or None for text in value.get("strValue", [])]
    return found


# Showing --------------------------------------------------------------------------------------------------------------
def describe(stored: Stored) -> dict[str, object]:
    """Return which part of a lineage the record is."""
    return shown(part=stored.facts.get("part"))


def render(stored: Stored, _options: Options) -> dict[str, object]:
    """Return what the record says."""
    return {"content": stored.facts.get("content")}


KIND = Kind(
    name="lineage",
    path="/lineage-records",
    title="Records of lineage files",
    about="The records that `/lineage` is merged from, each as it was written: `url` gives its bytes.",
    takes={Lineage: None},
    decode=decode,
    metadata={"part": {"type": "string", "description": f"{TRAIN}, {EVALUATION}, {DATASET} or {USER}."}},
    describe=describe,
    fields={
        "content": {
            "type": ["object", "null"],
            "description": "What it says, under MindSpore's names; null where it could not be decoded.",
        }
    },
    render=render,
    examples=(
        Example(
            Lineage(TRAIN, {"algorithm": {"network": "LeNet"}}, b""),
            "lineage",
            {"metadata": {"part": TRAIN}, "content": {"algorithm": {"network": "LeNet"}}},
        ),
    ),
)
