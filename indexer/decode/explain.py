"""Records of explain files → what they say, in words without protobuf. Source: docs/formats/mindspore.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from indexer.wire import mindspore_pb2 as wire

Estimate = tuple[float | None, float | None, float | None, float | None]
"""Probability, its standard deviation, the ends of its 95 % interval; None where it is not written."""
Box = tuple[int, int, int, int]
"""x, y, width, height; pixels."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the numbers of labels stand for, and which methods there are."""

    labels: tuple[str, ...]
    explainers: tuple[str, ...]
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inference:
    """What the network thinks of a sample."""

    truth: tuple[Estimate, ...]  # of the true labels, which another record may name
    labels: tuple[int, ...]  # predicted ones
    predicted: tuple[Estimate, ...]  # of these, as many


@dataclass(frozen=True, slots=True)
class Saliency:
    """Where an explainer sees a label."""

    explainer: str
    label: int
    path: str


@dataclass(frozen=True, slots=True)
class Hoc:
    """Hierarchical occlusion of a label: which boxes of the image alone give which probability."""

    label: int
    mask: str
    layers: tuple[tuple[float, tuple[Box, ...]], ...]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How good an explainer is by a metric: altogether, and by label."""

    explainer: str
    metric: str
    score: float
    label_scores: tuple[float, ...]


@dataclass(slots=True)
class Explained:
    """What one record says."""

    sample_id: int
    has_sample: bool  # else the number is only a default
    image_path: str
    truth: tuple[int, ...]
    inference: Inference | None
    saliency: tuple[Saliency, ...]
    hoc: tuple[Hoc, ...]
    benchmarks: tuple[Benchmark, ...]
    metadata: Metadata | None
    status: str | None
    wrong: list[str] = field(default_factory=list)  # what of it makes no sense, and is left out


def read(payload: bytes) -> Explained:
    """Return what the payload of a record says. Names that are no UTF-8 keep their bytes, as file names do."""
    said = wire.Event.FromString(payload).explain
    wrong: list[str] = []
    inference = _inference(said.inference, wrong) if said.HasField("inference") else None
    found = Explained(
        said.sample_id,
        False,
        _text(said.image_path),
        tuple(said.ground_truth_label),
        inference,
        tuple(Saliency(_text(s.explain_method), s.label, _text(s.heatmap_path)) for s in said.explanation),
        tuple(Hoc(h.label, _text(h.mask), tuple(_layer(x, wrong) for x in h.layer)) for h in said.hoc),
        tuple(
            Benchmark(_text(b.explain_method), _text(b.benchmark_method), b.total_score, tuple(b.label_score))
            for b in said.benchmark
        ),
        _metadata(said.metadata) if said.metadata.label else None,
        _text(said.status) if said.HasField("status") else None,
        wrong,
    )
    content = (found.image_path, found.truth, found.inference, found.saliency, found.hoc)
    found.has_sample = said.HasField("sample_id") or any(content)
    return found


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _metadata(said: Any) -> Metadata:
    return Metadata(*(tuple(map(_text, names)) for names in (said.label, said.explain_method, said.benchmark_method)))


def _inference(said: Any, wrong: list[str]) -> Inference:
    labels = tuple(said.predicted_label)
    predicted = _estimates(
        said.predicted_prob, said.predicted_prob_sd, said.predicted_prob_itl95_low, said.predicted_prob_itl95_hi
    )
    if len(predicted) != len(labels):
        wrong.append(f"{len(predicted)} probabilities for {len(labels)} predicted labels")
        predicted = (*predicted, *([(None, None, None, None)] * len(labels)))[: len(labels)]
    truth = _estimates(
        said.ground_truth_prob,
        said.ground_truth_prob_sd,
        said.ground_truth_prob_itl95_low,
        said.ground_truth_prob_itl95_hi,
    )
    return Inference(truth, labels, predicted)


def _estimates(*columns: Sequence[float]) -> tuple[Estimate, ...]:
    return tuple((p, sd, low, high) for p, sd, low, high in zip_longest(*columns))


def _layer(said: Any, wrong: list[str]) -> tuple[float, tuple[Box, ...]]:
    flat = tuple(said.box)
    if len(flat) % 4:
        wrong.append(f"{len(flat)} numbers for boxes of four")
    whole = len(flat) - len(flat) % 4
    return said.prob, tuple(zip(*(iter(flat[:whole]),) * 4, strict=True))
