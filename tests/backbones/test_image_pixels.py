"""From picture files to squares: size, turning, and how far a JPEG may be shrunk while it is decoded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from acclimate.backbones.image_pixels import ImageSettings, square, standardised

HOW = ImageSettings(size=32, crop=0.5, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))  # the shorter side becomes 64
PLAIN = replace(HOW, backend="pil")


def saved(path: Path, width: int, height: int, mode: str = "RGB", **how: object) -> Path:
    across = np.linspace(0, 255, width)[None, :, None]
    down = np.linspace(0, 255, height)[:, None, None]
    pixels = np.concatenate([across + 0 * down, down + 0 * across, 0 * (across + down)], 2).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **how)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("width", "height", "kept"),
    [(1280, 1024, (160, 128)), (1280, 1023, (320, 256)), (300, 255, (300, 255)), (256, 512, (128, 256))],
)
def test_a_jpeg_is_halved_while_twice_the_side_is_left(
    width: int, height: int, kept: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.jpg", width, height)
    seen = []
    resize = Image.Image.resize

    def watched(self: Image.Image, *args: object, **others: object) -> Image.Image:
        seen.append(self.size)
        return resize(self, *args, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", watched)
    found = square(path, HOW)
    assert seen == [kept]
    assert found.shape == (32, 32, 3)
    assert np.abs(found.astype(int) - square(path, PLAIN)).max() <= 3
    assert seen[1] == (width, height)


def test_other_formats_and_small_jpegs_are_decoded_whole(tmp_path: Path) -> None:
    for path in (saved(tmp_path / "a.png", 640, 512), saved(tmp_path / "b.jpg", 250, 200)):
        assert np.array_equal(square(path, HOW), square(path, PLAIN))


def test_photos_are_turned_as_their_camera_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    turned = square(saved(tmp_path / "a.jpg", 640, 512, exif=exif, quality=95), HOW)
    straight = square(saved(tmp_path / "b.jpg", 640, 512, quality=95), HOW)
    assert np.abs(turned.astype(int) - np.rot90(straight, -1)).max() <= 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_print_colours_become_rgb(mode: str, tmp_path: Path) -> None:
    found = square(saved(tmp_path / "a.jpg", 640, 512, mode), HOW)
    assert found.shape == (32, 32, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - square(tmp_path / "a.jpg", PLAIN)).max() <= 3


def test_bytes_are_scaled_and_standardised_by_colour() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 1] = (255, 51, 102)
    found = standardised([pixels, pixels], HOW)
    assert found.shape == (2, 3, 2, 2) and found.is_contiguous()
    torch.testing.assert_close(found[1, :, 0, 1], torch.tensor([2.0, -0.6, -0.1]))
    torch.testing.assert_close(found[1, :, 1, 1], torch.tensor([-2.0, -1.0, -0.5]))
