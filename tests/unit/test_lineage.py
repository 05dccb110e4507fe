"""Lineage without a database: what records become, what is an error, how files are merged."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from indexer import plugins
from indexer.decode import hparams as decode_hparams
from indexer.decode import lineage as decode_lineage
from indexer.decode.mindspore import read_lineage
from indexer.payload import HParams, Lineage, Neutral, Unreadable
from indexer.plugins import lineage
from indexer.plugins.lineage import DATASET, EVALUATION, TRAIN, USER
from tests.support import records
from tests.support.records import bytes_field, double_field, float_field, varint_field

HEAD, FOOT = 12, 4  # bytes of a frame around its payload


def converted(record: bytes) -> Neutral:
    """Return what a framed lineage record becomes."""
    payload = record[HEAD:-FOOT]
    (value,) = read_lineage(payload).values
    return decode_lineage.convert(value.message, bytes(value.data))


def content(record: bytes) -> Any:
    """Return what a framed lineage record says."""
    found = converted(record)
    assert isinstance(found, Lineage)
    assert record[HEAD:-FOOT] == found.data
    return found.content


def entry(key: str, value: bytes) -> bytes:
    """Return an entry of a map."""
    return bytes_field(1, key.encode()) + value


# Records --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "shown"), [(0.12, 0.12), (1e-45, 1.4013e-45), (3.4028234663852886e38, 3.4028235e38), (1 / 3, 0.33333334)]
)
def test_a_float_has_the_digits_that_tell_it_from_others(value: float, shown: float) -> None:
    """A learning rate of 0.12 is 0.12, not the float64 that its float32 is."""
    rate = content(records.ms_train(value))["hyper_parameters"]["learning_rate"]
    assert shown == rate
    assert struct.pack("<f", value) == struct.pack("<f", rate)


def test_what_is_set_to_zero_is_there() -> None:
    """A value of 0 is written and shown; one that is left out is not there."""
    record = records.ms_lineage(6, bytes_field(1, varint_field(4, 0)) + bytes_field(4, b""))
    assert {"hyper_parameters": {"epoch": 0}, "model": {}} == content(record)


def test_maps_keep_the_order_of_the_file() -> None:
    """Parameters come in the order in which they were written, whatever their names."""
    names = ["z", "a", "m", "b", "y", "c"]
    maps = b"".join(bytes_field(1, entry(name, bytes_field(2, b"v"))) for name in names)
    assert names == list(content(records.ms_lineage(9, bytes_field(2, maps)))["parameter"]["mapStr"])


def test_of_an_item_the_first_key_of_its_first_map_counts() -> None:
    """The first map by number, the first key in it; an item with none says nothing."""
    two = records.ms_user_item(4, "z", "1") + records.ms_user_item(4, "a", "2")
    lower = bytes_field(5, entry("d", double_field(2, 0.5))) + bytes_field(3, entry("i", varint_field(2, 7)))
    nested = bytes_field(2, entry("n", bytes_field(2, bytes_field(1, records.ms_user_item(4, "k", "v")))))
    record = records.ms_lineage(10, b"".join(bytes_field(1, item) for item in (two, lower, nested, b"")))
    assert {"z": "1", "i": 7, "n": {"k": "v"}} == lineage.user_defined(content(record))


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (records.ms_evaluation("{'a': 1}"), "no JSON"),
        (records.ms_evaluation("[1]"), "no JSON object"),
        (records.ms_evaluation("[" * 100_000), "no JSON"),
        (records.ms_lineage(10, b""), "without user_info"),
        (records.ms_lineage(10, records.ms_user_item(4, "a", "b")), "without user_info"),
        (records.ms_lineage(6, bytes_field(3, bytes_field(1, b"\xff"))), "no UTF-8"),
        (records.ms_lineage(10, bytes_field(1, b"") * 300_000), "longer than"),
    ],
)
def test_what_is_no_lineage_is_kept_with_the_reason(record: bytes, error: str) -> None:
    """A record that MindSpore does not write is a payload with an error; its bytes are those of the file."""
    payload = record[HEAD:-FOOT]
    (blob,) = plugins.decode(converted(record), "lineage", lambda: payload)
    assert ("lineage", payload, False) == (blob.kind, blob.data, blob.says)
    assert error in (blob.error or "")


def test_a_metric_may_be_no_number() -> None:
    """Bare NaN and Infinity are accepted, as by MindInsight, and become strict JSON."""
    (blob,) = plugins.decode(converted(records.ms_evaluation('{"a": NaN, "b": -Infinity}')), "lineage", bytes)
    state: lineage.State = {}
    assert isinstance(blob.facts, str)
    lineage.absorb(state, 0, 1.0, json.loads(blob.facts))
    rows = {row.key: row for row in lineage.merged([(1, state)])}
    assert ("number", "NaN", None, '"NaN"') == rows["a"][3:7]
    assert ("number", "-Infinity", -math.inf, '"-Infinity"') == rows["b"][3:7]


# Merging --------------------------------------------------------------------------------------------------------------
def state(**parts: Any) -> lineage.State:
    """Return the state of a file whose records say `parts`."""
    made: lineage.State = {}
    for part, said in parts.items():
        lineage.absorb(made, 0, 1.0, {"part": part, "content": said})
    return made


def train(rate: float) -> dict[str, Any]:
    """Return what a training says."""
    return {"hyper_parameters": {"learning_rate": rate}}


def user(**values: str) -> dict[str, Any]:
    """Return what user-defined texts say."""
    return {"user_info": [{"map_str": {key: value}} for key, value in values.items()]}


def values(*files: lineage.State) -> dict[str, Any]:
    """Return the names and values of what files come to."""
    return {row.name: row.value for row in lineage.merged(list(enumerate(files))) if row.name}


def test_within_a_file_the_newest_record_of_a_part_wins() -> None:
    """All of an older training goes, user-defined values add up, the newer value of a key wins."""
    made = state(**{TRAIN: {"algorithm": {"network": "old"}, **train(1.0)}})
    for part, said in ((USER, user(a="1", b="1")), (TRAIN, train(2.0)), (USER, user(b="2"))):
        lineage.absorb(made, 0, 1.0, {"part": part, "content": said})
    assert {"learning_rate": "2.0", "user_defined/a": "1", "user_defined/b": "2"} == values(made)


@pytest.mark.parametrize("part", [TRAIN, DATASET])
def test_a_file_that_trains_begins_anew(part: str) -> None:
    """Metrics and user-defined values of files before it are gone."""
    old = state(**{TRAIN: train(1.0), EVALUATION: {"metric": '{"a": 1}'}, USER: user(k="v")})
    assert values(state(**{part: {}, USER: user(n="w")})) == values(old, state(**{part: {}, USER: user(n="w")}))


def test_a_file_that_evaluates_is_laid_over() -> None:
    """Only the evaluation is replaced; user-defined values add up."""
    old = state(**{TRAIN: train(1.0), EVALUATION: {"metric": '{"a": 1}'}, USER: user(k="v", n="v")})
    new = state(**{EVALUATION: {"metric": '{"b": 2}'}, USER: user(n="w")})
    expected = {"learning_rate": "1.0", "metric/b": "2", "user_defined/k": "v", "user_defined/n": "w"}
    assert expected == values(old, new)


def test_user_defined_values_alone_do_not_count() -> None:
    """A file without training, evaluation and dataset graph says nothing, wherever it is."""
    only = state(**{USER: user(k="v")})
    assert {} == values(only)
    assert {"learning_rate": "1.0"} == values(only, state(**{TRAIN: train(1.0)}), only)


def test_what_is_merged_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys above the bound stay in their records; known ones are still brought up to date."""
    monkeypatch.setattr(lineage, "MAX_KEYS", 2)
    made = state(**{TRAIN: {}, USER: user(a="1", b="1", c="1")})
    lineage.absorb(made, 0, 1.0, {"part": USER, "content": user(b="2")})
    assert {"user_defined/a": "1", "user_defined/b": "2"} == values(made)
    monkeypatch.setattr(lineage, "MAX_STATE_BYTES", 200)
    lineage.absorb(made, 0, 1.0, {"part": USER, "content": user(a="x" * 200)})
    assert {"user_defined/a": "1", "user_defined/b": "2"} == values(made)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("null", None, None)),
        (True, ("bool", "true", None)),
        (2, ("number", "2", 2.0)),
        (0.5, ("number", "0.5", 0.5)),
        (10**400, ("number", str(10**400), math.inf)),
        ("x", ("string", "x", None)),
        ([1, "a"], ("list", '[1, "a"]', None)),
        ({"a": "ü"}, ("object", '{"a": "ü"}', None)),
        (["\ud800"], ("list", '["\\ud800"]', None)),
    ],
)
def test_a_value_is_shown_as_text_and_number(value: object, expected: object) -> None:
    """Each JSON value has a kind and a text, and a number where it is one."""
    assert expected == lineage.described(value)


def test_a_dataset_graph_is_shown_as_mindinsight_shows_it() -> None:
    """Parameters lie beside operations, sampler and children; `None` and empty texts are null; nothing is mixed up."""
    string = bytes_field(1, entry("op_type", bytes_field(2, b"Map"))) + bytes_field(
        1, entry("nothing", bytes_field(2, b"None"))
    )
    several = bytes_field(2, entry("columns", bytes_field(2, bytes_field(1, b"x") + bytes_field(1, b""))))
    flag = bytes_field(3, entry("flag", varint_field(2, 0)))
    operation = bytes_field(1, flag) + varint_field(2, 3) + float_field(3, 0.1)
    graph = bytes_field(1, b"") + bytes_field(2, string + several) + bytes_field(3, operation) + bytes_field(4, b"")
    assert {
        "op_type": "Map",
        "nothing": None,
        "columns": ["x", None],
        "operations": [{"flag": False, "size": [3], "weights": [0.1]}],
        "children": [{"children": []}],
    } == lineage.dataset_graph(content(records.ms_lineage(9, graph)))


# Hyperparameters ------------------------------------------------------------------------------------------------------
def test_every_value_of_a_session_is_read() -> None:
    """Numbers, texts, flags, null, lists and objects, in their order."""
    kinds = {
        "z": double_field(2, 0.5),
        "text": bytes_field(3, b"t"),
        "flag": varint_field(4, 0),
        "null": varint_field(1, 0),
        "list": bytes_field(6, bytes_field(1, varint_field(4, 1))),
        "object": bytes_field(5, bytes_field(1, entry("k", bytes_field(2, bytes_field(3, b"v"))))),
        "none": b"",
    }
    info = b"".join(bytes_field(1, entry(name, bytes_field(2, value))) for name, value in kinds.items())
    found = decode_hparams.convert(bytes_field(3, info))
    assert isinstance(found, HParams)
    expected = [("z", 0.5), ("text", "t"), ("flag", False), ("null", None), ("list", [True])]
    assert [*expected, ("object", {"k": "v"}), ("none", None)] == list(found.content["hparams"].items())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither experiment nor session"),
        (varint_field(1, 7), "neither experiment nor session"),
        (b"\x1a\x05\x0a", "no message of hparams"),
        (bytes_field(3, bytes_field(4, b"\xff")), "no message of hparams"),
        (bytes_field(3, bytes_field(1, b"") * 300_000), "longer than"),
    ],
)
def test_content_that_is_no_hparams_is_kept_with_the_reason(data: bytes, reason: str) -> None:
    """Its bytes are there, and the error says why they say nothing."""
    found = decode_hparams.convert(data)
    assert isinstance(found, Unreadable)
    assert ("hparams", data, True) == (found.kind, found.data, reason in found.reason)


def test_a_status_of_a_newer_writer_is_a_number() -> None:
    """An enum that grows is no error."""
    found = decode_hparams.convert(records.hparams_end(9))
    assert isinstance(found, HParams)
    assert "9" == found.content["status"]
