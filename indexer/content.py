"""What plugins say of a series in `SummaryMetadata.plugin_data.content`, decoded; and the messages of their own.

Field numbers: tensorboard's plugin_data.proto of each plugin, and layout.proto of custom scalars.
"""

from __future__ import annotations

from typing import Any

from indexer.walk import Field, Fields, read

_VERSION = Field("version", int)

LAYOUT: Fields = {
    1: _VERSION,
    2: Field(
        "category",
        {
            1: Field("title", str),
            2: Field(
                "chart",
                {
                    1: Field("title", str),
                    2: Field("multiline", {1: Field("tag", str, many=True)}),
                    3: Field(
                        "margin",
                        {
                            1: Field(
                                "series",
                                {1: Field("value", str), 2: Field("lower", str), 3: Field("upper", str)},
                                many=True,
                            )
                        },
                    ),
                },
                many=True,
            ),
            3: Field("closed", bool),
        },
        many=True,
    ),
}
"""The message in the tensor of plugin custom_scalars."""

CONTENTS: dict[str, Fields] = {
    "scalars": {1: _VERSION},
    "histograms": {1: _VERSION},
    "text": {1: _VERSION},
    "images": {1: _VERSION, 2: Field("converted_to_tensor", bool)},
    "audio": {
        1: _VERSION,
        2: Field("encoding", {0: "UNKNOWN", 11: "WAV"}),
        3: Field("converted_to_tensor", bool),
    },
    "pr_curves": {1: _VERSION, 2: Field("num_thresholds", int)},
    "mesh": {
        1: _VERSION,
        2: Field("name", str),
        3: Field("content_type", {0: "UNDEFINED", 1: "VERTEX", 2: "FACE", 3: "COLOR"}),
        5: Field("json_config", str),
        6: Field("shape", int, many=True),
        7: Field("components", int),
    },
    "custom_scalars": {},
}
"""The content of each plugin that is known here."""


def decoded(plugin: str, content: bytes | None) -> dict[str, Any] | None:
    """Return what `content` of a series of `plugin` says; None where nobody knows, or it is damaged."""
    fields = CONTENTS.get(plugin)
    if content is None or fields is None:
        return None
    if not content:
        return {}
    try:
        return read(content, fields)
    except ValueError:
        return None
