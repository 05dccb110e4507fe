"""Hyperparameters as TensorBoard's plugin has them: experiments and sessions, in the metadata of empty values.

The newest session of a job wins: its values are rows of `hparams`, all of it is a row of `hparam_runs`.
"""

from __future__ import annotations

import math

from indexer.payload import Example, HParams, Kind, Options, Stored, as_json, shown
from indexer.types import Blob

EXPERIMENT, START, END = "experiment", "session_start", "session_end"


def decode(value: HParams) -> list[Blob]:
    """Return the content as written, with what it says as JSON."""
    values = value.content.get("hparams", {}) if value.part == START else {}
    odd = [name for name, one in values.items() if isinstance(one, float) and not math.isfinite(one)]
    facts = as_json({"part": value.part, "content": value.content, "not_finite": odd})
    return [Blob("hparams", value.data, facts=facts, says=True, packs=True)]


def describe(stored: Stored) -> dict[str, object]:
    """Return what the content is of."""
    return shown(part=stored.facts.get("part"))


def render(stored: Stored, _options: Options) -> dict[str, object]:
    """Return what the content says."""
    return {"content": stored.facts.get("content")}


KIND = Kind(
    name="hparams",
    path="/hparam-records",
    title="Records of hyperparameters",
    about="Experiments and sessions that `/hparams` is made of, each as it was written: `url` gives the content of its"
    " metadata, a message of TensorBoard's plugin hparams.",
    takes={HParams: None},
    decode=decode,
    metadata={"part": {"type": "string", "description": f"{EXPERIMENT}, {START} or {END}."}},
    describe=describe,
    fields={
        "content": {
            "type": ["object", "null"],
            "description": "What it says; null where it could not be decoded.",
        }
    },
    render=render,
    examples=(
        Example(
            HParams(END, {"status": "success", "end_time": 2.5}, b"\x22\x0b\x08\x01\x11\x00\x00\x00\x00\x00\x00\x04@"),
            "hparams",
            {"metadata": {"part": END}, "content": {"status": "success", "end_time": 2.5}},
        ),
    ),
)
