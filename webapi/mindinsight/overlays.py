"""Pictures that the explainer derives: saliency as a colour over a sample, and what a network sees of one.

Pixels are MindInsight's. Pillow is imported when the first is asked for.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

HIGH, LOW = (255, 255, 0), (55, 25, 86)
"""Colours of what matters, and of what does not."""
MOST_PIXELS = 50_000_000
BRIGHTNESS = 0.7
_BLUR = re.compile(r"gaussian:(\d{1,4}(?:\.\d{1,9})?)")


def opened(data: bytes) -> Image:
    """Return a picture. ValueError where it is none, or too large."""
    from PIL import Image, UnidentifiedImageError

    try:
        found = Image.open(io.BytesIO(data))
        if found.width * found.height > MOST_PIXELS:
            raise ValueError(f"{found.width} x {found.height} pixels are too many")
        found.load()
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as e:
        raise ValueError(f"it cannot be read: {e}") from e
    return found


def overlay(data: bytes) -> bytes:
    """Return a saliency map as a picture to lay over its sample; one that is such a picture stays as it is."""
    found = opened(data)
    if found.mode == "RGBA":
        return data
    if found.mode not in {"L", "RGB"}:
        raise ValueError(f"a saliency map of mode {found.mode}")
    import numpy as np
    from PIL import Image

    values = np.asarray(found)
    saliency = (values if values.ndim == 2 else values[:, :, 0]).astype(np.float64) / 255
    pixels = np.empty((*saliency.shape, 4), np.uint8)
    for channel, (high, low) in enumerate(zip(HIGH, LOW, strict=True)):
        pixels[:, :, channel] = (saliency * high + (1 - saliency) * low).astype(np.uint8)
    pixels[:, :, 3] = (saliency * 255).astype(np.uint8)
    return _png(Image.fromarray(pixels))


def outcome(data: bytes, mask: str, boxes: Sequence[Sequence[int]]) -> bytes:
    """Return a sample of which only boxes (x, y, width, height) are clear, the rest behind a mask."""
    from PIL import ImageEnhance, ImageFilter

    match = _BLUR.fullmatch(mask)
    if match is None:
        raise ValueError(f"a mask {mask!r}")
    found = opened(data).convert("RGB")
    hidden = found.filter(ImageFilter.GaussianBlur(float(match.group(1))))
    hidden = ImageEnhance.Color(ImageEnhance.Brightness(hidden).enhance(BRIGHTNESS)).enhance(0)
    for x, y, width, height in boxes:
        left, top = max(0, x), max(0, y)
        right, bottom = min(found.width, x + width), min(found.height, y + height)
        if left < right and top < bottom:
            hidden.paste(found.crop((left, top, right, bottom)), (left, top))
    return _png(hidden)


def _png(picture: Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
