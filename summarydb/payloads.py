"""A payload of a point: an image, a histogram, a tensor, a text ... Its bytes are read when they are asked for."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.errors import Report
from summarydb import markup
from summarydb.source import Source

PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})
"""What a notebook may show: bitmaps, which run nothing."""
SHOWN_BYTES = 2**20
"""A longer picture is not put into a notebook."""
BUCKETS = np.dtype("<f8")
FLOATS = np.dtype("<f4")


@dataclass(frozen=True, eq=False)
class Payload:
    """A payload with the facts that its list shows (`GET /api/v1/images` and others)."""

    kind: str  # the list it is from: images, histograms, ...
    facts: Mapping[str, Any]
    source: Source = field(repr=False)

    @property
    def job(self) -> int:
        """The id of its job."""
        return int(self.facts["job"])

    @property
    def train_id(self) -> str:
        """The train id of its job."""
        return str(self.facts["train_id"])

    @property
    def tag(self) -> str:
        """The name of its tag."""
        return str(self.facts["tag"])

    @property
    def step(self) -> int:
        """The step of its point."""
        return int(self.facts["step"])

    @property
    def ordinal(self) -> int:
        """Its number within its point."""
        return int(self.facts["ordinal"])

    @property
    def wall_time(self) -> float | None:
        """When it was written, seconds since the epoch."""
        found: float | None = self.facts["wall_time"]
        return None if found is None else float(found)

    @property
    def content_type(self) -> str:
        """What the bytes are, as they themselves say."""
        return str(self.facts["content_type"])

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What its kind says of it: width and height of an image, dtype and shape of a tensor ..."""
        found: Mapping[str, Any] = self.facts["metadata"]
        return found

    def content(self) -> bytes:
        """Return its bytes, as the writer encoded them."""
        return self.source.content(self.facts["url"])

    def array(self) -> npt.NDArray[Any]:
        """Return a tensor in its shape (bfloat16 as float32), a histogram's buckets, a curve's rows.

        A histogram has a row a bucket, (k, 3) float64; `metadata["columns"]` says what they are. A precision-recall
        curve has six rows of float32. Report where it is nothing of the kind, or could not be decoded.
        """
        if self.facts.get("error"):
            raise Report(f"{self._place()} could not be decoded: {self.facts['error']}")
        match self.kind:
            case "histograms":
                return np.frombuffer(self.content(), BUCKETS).reshape(-1, 3)
            case "pr-curves":
                return np.frombuffer(self.content(), FLOATS).reshape(6, -1)
            case "tensors" | "meshes":
                return np.asarray(
                    np.load(BytesIO(self.source.content(f"{self.facts['url']}?form=npy")), allow_pickle=False)
                )
        raise Report(f"{self._place()} is no array: content() returns its bytes")

    def text(self) -> str:
        """Return a text; bytes that are not UTF-8 are escaped."""
        return self.content().decode("utf-8", "backslashreplace")

    def _place(self) -> str:
        return f"{self.tag!r} of {self.train_id!r}, step {self.step}"

    def _repr_html_(self) -> str:
        known = ("step", "ordinal", "wall_time", "content_type", "bytes", "error")
        pairs = [(name, self.facts[name]) for name in known if self.facts.get(name) is not None]
        shown = markup.facts(f"{self.train_id} · {self.tag}", [*pairs, *self.metadata.items()])
        if self.content_type in PICTURES and int(self.facts["bytes"]) <= SHOWN_BYTES:
            shown += f'<img src="data:{self.content_type};base64,{b64encode(self.content()).decode()}">'
        return shown
