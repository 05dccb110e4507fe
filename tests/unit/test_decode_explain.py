"""Explain records without any database: where they are found, and what is kept of them."""

from __future__ import annotations

import pytest

from indexer.decode import explain
from indexer.decode.reader import Decoder
from indexer.types import ExplainRecord, Format, ShardKind
from tests.support.decoders import PATHS, Path, decoder, span
from tests.support.explaining import benchmark, hoc, inference, metadata, saliency, sample
from tests.support.records import ms_scalars, ms_version

PAYLOAD = slice(12, -4)


@pytest.mark.parametrize("path", PATHS)
def test_records_that_explain_are_handed_on(path: Path) -> None:
    """Of an explain file those records with an Explain message, with their place; of a summary file none."""
    first, second = metadata(["a"]), sample(1, "1.png")
    content = ms_version(1.0) + first + ms_scalars(1, {"loss": 1.0}, 2.0) + second
    made = decoder(path)
    (found,) = made.decode(content, [span(content, None, kind=ShardKind.EXPLAIN)]).slices
    at = len(ms_version(1.0))
    assert [
        ExplainRecord(at, len(first) - 16, 1.0, 0, first[PAYLOAD]),
        ExplainRecord(len(content) - len(second), len(second) - 16, 1.0, 0, second[PAYLOAD]),
    ] == found.explained
    (found,) = made.decode(content, [span(content, Format.MINDSPORE)]).slices
    assert (4, []) == (found.records, found.explained)


def test_a_long_record_is_not_carried_along() -> None:
    """A payload above max_blob_bytes stays in its file; its length says how long it is."""
    content = sample(1, "x" * 100)
    made = Decoder(kernel=False, max_blob_bytes=100)
    (found,) = made.decode(content, [span(content, None, kind=ShardKind.EXPLAIN)]).slices
    assert [(len(content) - 16, None)] == [(record.length, record.data) for record in found.explained]


def test_what_a_record_says() -> None:
    """Each field in words; a record that names no sample is about none, and sample 0 is one like any other."""
    assert (
        explain.Metadata(("a", "b\udcff"), ("G",), ("F",))
        == explain.read(metadata(["a", b"b\xff"], ["G"], ["F"])[PAYLOAD]).metadata
    )
    said = explain.read(sample(0, "0.png", [1, 2], "end")[PAYLOAD])
    assert (0, True, "0.png", (1, 2), "end") == (
        said.sample_id,
        said.has_sample,
        said.image_path,
        said.truth,
        said.status,
    )
    said = explain.read(benchmark("G", "F", 0.5, [0.25])[PAYLOAD])
    assert (False, (explain.Benchmark("G", "F", 0.5, (0.25,)),), None) == (
        said.has_sample,
        said.benchmarks,
        said.metadata,
    )
    nothing = (None, None, None)
    assert (
        explain.Inference(((0.5, *nothing),), (7,), ((0.25, *nothing),))
        == explain.read(inference(1, [7], [0.25], [0.5])[PAYLOAD]).inference
    )
    assert (explain.Saliency("G", 7, "7.png"),) == explain.read(saliency(1, "G", 7, "7.png")[PAYLOAD]).saliency
    assert (explain.Hoc(7, "gaussian", ((0.5, ((1, 2, 3, 4),)),)),) == explain.read(
        hoc(1, 7, (0.5, [1, 2, 3, 4]))[PAYLOAD]
    ).hoc
