"""From the bytes of an image file to the square of pixels that a classifier looks at."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # Pillow comes with an extra, and is imported where it is used
    from PIL import Image

# Of shops, and none that Pillow would give to another program, as it gives EPS to Ghostscript.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_SHOWN = 224 / 256  # of the shorter side, as where EfficientNet is evaluated


class UnreadableImageError(Exception):
    """An image that cannot be shown, and why."""


@contextlib.contextmanager
def strict_decoding() -> Iterator[None]:
    """Within it, in all threads, Pillow refuses images of more than 89 million pixels and is silent on small faults."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def pixels(data: bytes, side: int) -> np.ndarray:
    """The middle of an image, upright, on white where it is transparent; of an animation the first frame.

    Args:
      data: the file: AVIF, BMP, GIF, JPEG, PNG, TIFF or WebP, in any colours.
      side: of the square.

    Returns:
      uint8 [side, side, 3], red, green and blue.

    Raises:
      UnreadableImageError: it is no image of these formats, damaged, or too large.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            opened.draft(None, (2 * side, 2 * side))  # a large JPEG is decoded at an eighth, fourth or half of its size
            image = _on_white(ImageOps.exif_transpose(opened))
        width, height = image.size
        half = min(width, height) * _SHOWN / 2
        box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))
    except Exception as error:  # a damaged file shows in the errors of seven decoders
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UnreadableImageError("it is of no known format" if "cannot identify" in reason else reason) from None


def _on_white(image: "Image.Image") -> "Image.Image":
    """As red, green and blue."""
    from PIL import Image

    if image.mode.startswith("I"):  # grey of 16 bits, which `convert` would cut off at 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")
