"""From the bytes of image files to pixels: what cameras and shops write, and what is no image."""

import io
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_tools.photographs import UnreadableImageError, pixels, strict_decoding

SIDE = 14


def photograph(width: int = 64, height: int = 48) -> Image.Image:
    """Red on the left, green in the middle, blue on the right; darker below."""
    across = np.linspace(0, 255, width)[None].repeat(height, 0)
    down = np.linspace(1, 0.5, height)[:, None]
    channels = [255 - across, 255 - abs(2 * across - 255), across]
    return Image.fromarray(np.stack([channel * down for channel in channels], -1).astype(np.uint8))


def written(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    """The file that it is in."""
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


PLAIN = pixels(written(photograph()), SIDE).astype(int)


def test_the_middle_is_shown() -> None:
    ours = np.asarray(photograph())[3:45, 11:53]  # seven eighths of the height, as wide as high
    blocks = ours.reshape(SIDE, 3, SIDE, 3, 3).mean((1, 3))
    assert PLAIN.shape == (SIDE, SIDE, 3) and abs(PLAIN - blocks).max() <= 8


@pytest.mark.parametrize(("kind", "tolerance"), [("BMP", 0), ("TIFF", 0), ("WEBP", 20), ("JPEG", 20), ("AVIF", 20)])
def test_formats(kind: str, tolerance: int) -> None:
    assert abs(pixels(written(photograph(), kind), SIDE) - PLAIN).max() <= tolerance


def test_a_large_jpeg_is_like_the_same_picture_small() -> None:
    large = photograph(64 * 16, 48 * 16)
    assert abs(pixels(written(large, "JPEG", quality=95), SIDE) - PLAIN).max() <= 12


def test_a_camera_held_upright() -> None:
    turned = photograph().transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # is to be turned clockwise
    assert abs(pixels(written(turned, "JPEG", exif=exif), SIDE) - PLAIN).max() <= 20


def test_colours_other_than_red_green_and_blue() -> None:
    grey = pixels(written(photograph().convert("L")), SIDE).astype(int)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    assert abs(grey[..., 0] - PLAIN @ [0.299, 0.587, 0.114]).max() <= 4
    sixteen = Image.fromarray(np.asarray(photograph().convert("L")).astype(np.uint16) * 257)
    np.testing.assert_array_equal(pixels(written(sixteen), SIDE), grey)
    cmyk = pixels(written(photograph().convert("CMYK"), "JPEG", quality=95), SIDE)
    assert abs(cmyk - PLAIN).max() <= 30
    assert abs(pixels(written(photograph().convert("P", palette=Image.Palette.ADAPTIVE)), SIDE) - PLAIN).max() <= 40


def test_what_is_transparent_is_white() -> None:
    clear = photograph()
    clear.putalpha(0)
    assert (pixels(written(clear), SIDE) == 255).all()
    half = photograph()
    half.putalpha(128)
    assert abs(pixels(written(half), SIDE) - (PLAIN + 255) / 2).max() <= 3


def test_of_an_animation_the_first_frame() -> None:
    frames = [photograph().convert("P"), Image.new("P", (64, 48))]
    data = written(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(data, SIDE), pixels(written(frames[0], "GIF"), SIDE))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        written(photograph())[:600],
        written(photograph(), "JPEG")[:500],
        written(photograph(), "EPS"),  # which would start Ghostscript
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    ],
)
def test_what_is_no_whole_image_is_named(data: bytes) -> None:
    with pytest.raises(UnreadableImageError, match=r"known format|[Tt]runcated|[Bb]roken|processed"):
        pixels(data, SIDE)


def test_an_image_that_would_fill_the_memory_is_refused() -> None:
    bomb = written(Image.new("1", (10_000, 9_000)))
    assert len(bomb) < 20_000
    with strict_decoding(), pytest.raises(UnreadableImageError, match="decompression bomb"):
        pixels(bomb, SIDE)


def test_small_faults_are_no_warnings() -> None:
    with strict_decoding():
        warnings.warn("a tag is corrupt", stacklevel=1)
