"""Builders of explain records, independent of the code under test. Source: docs/formats/mindspore.md."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.records import bytes_field, float_field, ms_event, varint_field


def record(what: bytes, wall_time: float = 1.0) -> bytes:
    """Return a record of an explain file; `what` are the fields of its Explain message."""
    return ms_event(wall_time, bytes_field(6, what))


def metadata(labels: Sequence[str | bytes], explainers: Sequence[str] = (), metrics: Sequence[str] = ()) -> bytes:
    """Return a record of metadata."""
    names = [(1, name if isinstance(name, bytes) else name.encode()) for name in labels]
    names += [(2, name.encode()) for name in explainers] + [(3, name.encode()) for name in metrics]
    return record(bytes_field(7, b"".join(bytes_field(*name) for name in names)))


def sample(number_: int, image: str = "", truth_: Sequence[int] = (), status: str = "") -> bytes:
    """Return a record of a sample."""
    return record(
        varint_field(1, number_)
        + (bytes_field(2, image.encode()) if image else b"")
        + b"".join(varint_field(3, label) for label in truth_)
        + (bytes_field(8, status.encode()) if status else b"")
    )


def inference(number_: int, labels: Sequence[int], predicted: Sequence[float], truth_: Sequence[float] = ()) -> bytes:
    """Return a record of an inference."""
    inner = b"".join(float_field(1, p) for p in truth_) + b"".join(varint_field(2, label) for label in labels)
    inner += b"".join(float_field(3, p) for p in predicted)
    return record(varint_field(1, number_) + bytes_field(4, inner))


def saliency(number_: int, explainer: str, label: int, path: str) -> bytes:
    """Return a record of a saliency map."""
    inner = bytes_field(1, explainer.encode()) + varint_field(2, label) + bytes_field(3, path.encode())
    return record(varint_field(1, number_) + bytes_field(5, inner))


def occlusion(number_: int, label: int, mask: str, *layers: tuple[float, Sequence[int]]) -> bytes:
    """Return a record of hierarchical occlusion."""
    made = (float_field(1, p) + b"".join(varint_field(2, n) for n in box) for p, box in layers)
    inner = varint_field(1, label) + bytes_field(2, mask.encode()) + b"".join(bytes_field(3, one) for one in made)
    return record(varint_field(1, number_) + bytes_field(9, inner))


def hoc(number_: int, label: int, *layers: tuple[float, Sequence[int]]) -> bytes:
    """Return a record of hierarchical occlusion behind a mask without a radius."""
    return occlusion(number_, label, "gaussian", *layers)


def benchmark(explainer: str, metric: str, score: float, label_scores: Sequence[float] = ()) -> bytes:
    """Return a record of a benchmark."""
    inner = bytes_field(1, metric.encode()) + bytes_field(2, explainer.encode()) + float_field(3, score)
    return record(bytes_field(6, inner + b"".join(float_field(4, s) for s in label_scores)))
