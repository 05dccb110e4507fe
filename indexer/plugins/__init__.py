"""The kinds of payload, a file each. A kind is pure and knows no protobuf: the web shows by it what decode stored.

To add one: a file with a `Kind`, its name in KINDS, where it has tables of its own a migration, and a test. Nothing
registers itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from indexer.payload import Kind, Neutral, Unreadable
from indexer.plugins import (
    audio,
    graph,
    histogram,
    hparams,
    image,
    landscape,
    layout,
    lineage,
    log,
    mesh,
    message,
    pr_curve,
    tensor,
    text,
)
from indexer.types import Blob

KINDS: tuple[Kind, ...] = (
    image.KIND,
    histogram.KIND,
    text.KIND,
    audio.KIND,
    pr_curve.KIND,
    mesh.KIND,
    layout.KIND,
    log.KIND,
    landscape.KIND,
    lineage.KIND,
    hparams.KIND,
    graph.KIND,
    tensor.KIND,
    message.KIND,
)
"""In the order in which they are asked: a kind of some plugins before one that takes all of a type."""

BY_NAME = {kind.name: kind for kind in KINDS}
TABLES = tuple(table for kind in KINDS for table in kind.tables)


def decode(value: Neutral, plugin: str, written: Callable[[], bytes]) -> Sequence[Blob]:
    """Return the blobs of `value` in a series of `plugin`; what cannot be decoded becomes one with an error.

    written: returns the value's bytes in the file, for that case.
    """
    if isinstance(value, Unreadable):
        return [Blob(value.kind, value.data, error=value.reason)]
    for kind in KINDS:
        if kind.accepts(value, plugin):
            try:
                blobs = kind.decode(value)
            except Exception as e:  # one payload must not stop the rest, whatever is wrong with it
                return [Blob(kind.name, written(), error=str(e) if isinstance(e, ValueError) else repr(e))]
            if blobs is not None:
                return blobs
    raise AssertionError(f"no kind takes all of {type(value).__name__}")
