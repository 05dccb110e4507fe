"""Layouts of TensorBoard's custom scalars: which tags share a chart. The serialized message, as written."""

from __future__ import annotations

from indexer.content import LAYOUT
from indexer.payload import Example, Kind, Options, Stored, Strings
from indexer.types import Blob
from indexer.walk import read


def decode(value: Strings) -> list[Blob]:
    """Return a blob a layout, each with the shape of the whole."""
    return [_blob(item, value.shape) for item in value.items]


def _blob(item: bytes, shape: tuple[int, ...]) -> Blob:
    error = None
    try:
        read(item, LAYOUT)
    except ValueError as e:
        error = f"no layout: {e}"
    return Blob("layout", item, shape=shape, error=error, packs=True)


def render(stored: Stored, _options: Options) -> dict[str, object]:
    """Return the layout."""
    return {"layout": None if stored.data is None or stored.error is not None else read(stored.data, LAYOUT)}


KIND = Kind(
    name="layout",
    path="/custom-scalars",
    title="Layouts of custom scalars",
    about="Which tags share a chart, as TensorBoard's custom scalars have it. `url` gives the message as written.",
    takes={Strings: frozenset({"custom_scalars"})},
    decode=decode,
    metadata={},
    describe=lambda _stored: {},
    fields={
        "layout": {
            "type": ["object", "null"],
            "description": "`category`: a list of `title`, `closed` and `chart`: a list of `title` with `multiline`"
            " (`tag`: names or patterns) or `margin` (`series`: `value`, `lower`, `upper`). What is left out is empty"
            " or false. Null where it is too large.",
        }
    },
    render=render,
    weigh=lambda length, _options: length or 1,
    examples=(
        Example(
            Strings((), (b"\x12\x19\x0a\x06Losses\x12\x0f\x0a\x04both\x12\x07\x0a\x05loss/",)),
            "custom_scalars",
            {
                "metadata": {},
                "layout": {
                    "category": [{"title": "Losses", "chart": [{"title": "both", "multiline": {"tag": ["loss/"]}}]}]
                },
            },
        ),
    ),
)
