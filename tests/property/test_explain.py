"""Whatever an explain record or a landscape holds and leaves out: it is read, and what is read fits together."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from indexer import plugins
from indexer.decode import explain
from indexer.decode.event import Value
from indexer.decode.payload import neutral
from indexer.payload import Stored
from indexer.plugins import landscape
from indexer.types import Format
from indexer.wire import mindspore_pb2 as wire
from tests.property.test_kinds import fill


@st.composite
def events(draw: st.DrawFn) -> Any:
    """Return an event that explains something, with some of its fields."""
    event = wire.Event(wall_time=1.0)
    event.explain.SetInParent()
    fill(draw, event.explain)
    return event


@given(events())
def test_every_explain_record_is_read(event: Any) -> None:
    """Names keep their bytes, each predicted label has an estimate, a box four numbers, and what is cut is told."""
    said = event.explain
    found = explain.read(event.SerializeToString())
    assert said.image_path == found.image_path.encode("utf-8", "surrogateescape")
    assert list(said.ground_truth_label) == list(found.truth)
    assert [e.heatmap_path for e in said.explanation] == [
        s.path.encode("utf-8", "surrogateescape") for s in found.saliency
    ]
    assert (found.metadata is not None) == bool(said.metadata.label)
    odd = sum(len(layer.box) % 4 != 0 for h in said.hoc for layer in h.layer)
    if found.inference is not None:
        columns = [said.inference.predicted_prob, said.inference.predicted_prob_sd]
        columns += [said.inference.predicted_prob_itl95_low, said.inference.predicted_prob_itl95_hi]
        odd += max(map(len, columns)) != len(said.inference.predicted_label)
        assert list(said.inference.predicted_label) == list(found.inference.labels)
        assert len(found.inference.labels) == len(found.inference.predicted)
    assert odd == len(found.wrong)
    assert [[len(layer.box) // 4 for layer in h.layer] for h in said.hoc] == [
        [len(boxes) for _, boxes in h.layers] for h in found.hoc
    ]


@st.composite
def landscapes(draw: st.DrawFn) -> Any:
    """Return a value that holds a landscape, with some of its fields."""
    message = wire.Summary.Value(tag=b"landscape")
    fill(draw, message, "loss_landscape")
    return message


@given(landscapes())
def test_every_landscape_is_shown_or_an_error(message: Any) -> None:
    """Its arrays are as long as their shapes say and can be shown, or its bytes are kept with the reason."""
    value = Value("landscape", "loss_landscape", "loss_landscape", message)
    written = message.loss_landscape.SerializeToString()
    (blob,) = plugins.decode(neutral(value, Format.MINDSPORE), "loss_landscape", lambda: written)
    assert "landscape" == blob.kind
    facts = blob.facts if isinstance(blob.facts, dict) else {}
    stored = Stored(blob.content_type, 0, facts=facts, error=blob.error, data=blob.data)
    if blob.error is not None:
        assert written == blob.data
        return
    shapes = facts["arrays"]
    assert 8 * sum(math.prod(shape) for shape in shapes.values()) == len(blob.data or b"")
    shown = landscape.render(stored, {})
    assert len(shapes) == sum(len(part) for part in shown.values())
