"""Messages of the data provider, made and read by hand, are those that TensorBoard's own classes make and read."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.compat.proto import summary_pb2, tensor_pb2
from tensorboard.data.proto import data_provider_pb2 as messages

from indexer import fields
from webapi.dataprovider import answers, keys, requests
from webapi.dataprovider.keys import BlobKey
from webapi.errors import Malformed

INT64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(st.characters(codec="utf-8"), max_size=200)


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(INT64, st.floats(), st.floats(width=32)), max_size=5), max_size=5))
def test_numbers_of_many_series_are_read_back(series: list[list[tuple[int, float, float]]]) -> None:
    """Every column of every series comes back as it was, to the bit."""
    points = [point for one in series for point in one]
    step = np.array([point[0] for point in points], np.int64)
    wall_time, value = (np.array([point[i] for point in points], np.float64) for i in (1, 2))
    made = answers.scalar_data([len(one) for one in series], step, wall_time, value)
    for one, content in zip(series, made, strict=True):
        read = messages.ScalarData.FromString(content)
        columns = list(zip(*one, strict=True)) or [(), (), ()]
        assert [list(map(repr, column)) for column in columns] == [
            list(map(repr, column)) for column in (read.step, read.wall_time, read.value)
        ]


@settings(deadline=None)
@given(st.lists(INT64, max_size=50))
def test_many_varints_are_single_ones_joined(numbers: list[int]) -> None:
    """All varints at once are the bytes of each, and end where each ends."""
    content, ends = answers.varints(np.array(numbers, np.int64))
    single = [answers.varint(number) for number in numbers]
    assert b"".join(single) == content.tobytes()
    assert np.cumsum([len(one) for one in single]).tolist() == ends.tolist()
    assert numbers == [fields.signed(fields.varint(one, 0, len(one))[0]) for one in single]


@settings(deadline=None)
@given(NAMES, NAMES, INT64, st.floats(allow_nan=False), st.binary(max_size=300), st.integers(0, 2**40))
def test_lists_are_read_back(run: str, tag: str, step: int, clock: float, content: bytes, length: int) -> None:
    """Names and metadata of a List answer come back as they were."""
    summary = answers.summary_metadata("images", content, 3)
    entry = answers.entry(tag, answers.metadata(step, clock, summary, length))
    (found,) = messages.ListBlobSequencesResponse.FromString(answers.run_entry(run, [entry])).runs
    metadata = found.tags[0].metadata
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name="images", content=content)
    expected = summary_pb2.SummaryMetadata(plugin_data=data, data_class=3)
    assert (run, tag, expected) == (found.run_name, found.tags[0].tag_name, metadata.summary_metadata)
    assert (step, clock, length) == (metadata.max_step, metadata.max_wall_time, metadata.max_length)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**40), max_size=4), st.binary(), st.lists(st.binary(), max_size=4))
def test_tensors_are_read_back(shape: list[int], content: bytes, strings: list[bytes]) -> None:
    """Type, shape and elements of a tensor come back as they were."""
    read = tensor_pb2.TensorProto.FromString(answers.tensor(7, shape, content=content, strings=strings))
    assert (7, shape, content, strings) == (
        read.dtype,
        [dim.size for dim in read.tensor_shape.dim],
        read.tensor_content,
        list(read.string_val),
    )


@settings(deadline=None)
@given(NAMES.filter(bool), st.none() | st.lists(NAMES), st.none() | st.lists(NAMES), st.integers(0, 2**63 - 1))
def test_requests_are_read(plugin: str, runs: list[str] | None, tags: list[str] | None, points: int) -> None:
    """Presence of a filter is told from its length, and every name is read, the empty one too."""
    request = messages.ReadScalarsRequest(experiment_id="any")
    request.plugin_filter.plugin_name = plugin
    for wanted, names in ((request.run_tag_filter.runs, runs), (request.run_tag_filter.tags, tags)):
        if names is not None:
            wanted.SetInParent()
            wanted.names.extend(names)
    request.downsample.SetInParent()
    request.downsample.num_points = points
    wanted, k = requests.points_wanted(request.SerializeToString())
    assert (plugin, points) == (wanted.plugin, k)
    assert [None if names is None else set(names) for names in (runs, tags)] == [wanted.runs, wanted.tags]


def test_a_part_that_is_there_twice_is_merged() -> None:
    """As protobuf has it: names add up, of two plugins the last one counts."""
    one, two = (messages.ReadScalarsRequest() for _ in range(2))
    one.plugin_filter.plugin_name, two.plugin_filter.plugin_name = "a", "b"
    one.run_tag_filter.runs.names.append("x")
    two.run_tag_filter.runs.names.append("y")
    two.downsample.num_points = 3
    content = one.SerializeToString() + two.SerializeToString()
    assert (requests.Wanted("b", frozenset("xy"), None), 3) == requests.points_wanted(content)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_malformed(content: bytes) -> None:
    """Bytes that are no request are refused in words, never an error of ours."""
    for read in (requests.series_wanted, requests.points_wanted, requests.blob_wanted):
        try:
            read(content)
        except Malformed:
            continue


@settings(deadline=None)
@given(NAMES, NAMES, NAMES, INT64, st.integers(0, 2**63 - 1))
def test_keys_are_read_back(experiment: str, run: str, tag: str, step: int, number: int) -> None:
    """A key survives, and needs no quoting in an address."""
    key = BlobKey(experiment, run, tag, step, number)
    text = keys.encode(key)
    assert key == keys.decode(text)
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()


def _key(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "?",
        "é",
        "W10=!",
        _key(b"{}"),
        _key(b'["","r","t",1]'),
        _key(b'["","r","t",1,2,3]'),
        _key(b'["","r","t",1,-1]'),
        _key(b'["","r","t",1.5,0]'),
        _key(b'["","r","t",true,0]'),
        _key(b'["","r",5,1,0]'),
        _key(b'["","r","t",9223372036854775808,0]'),
        _key(b"[" * 10_000),
        _key(b"\xff\xfe"),
        "A" * (keys.MAX_CHARACTERS + 1),
    ],
)
def test_what_is_no_key_is_malformed(text: str) -> None:
    """Text that no answer ever held is refused before anything is looked up."""
    with pytest.raises(Malformed):
        keys.decode(text)
