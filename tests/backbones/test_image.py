"""Image backbones on a small random timm folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from acclimate.backbones import load
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run

timm = pytest.importorskip("timm", reason="image backbones need the `image` extra")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("timm")
    model = timm.create_model("resnet10t", pretrained=False, num_classes=5)
    config = {"architecture": "resnet10t", "num_classes": 5,
              "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25],
                                 "crop_pct": 1.0, "interpolation": "nearest"}}  # fmt: skip
    (path / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path / "model.safetensors")
    return path


def test_pixels_are_scaled_cropped_and_standardised_as_the_folder_says(folder: Path) -> None:
    backbone = load(str(folder))
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, 32:96] = 255  # the centre square
    (row,) = backbone.encode([picture])
    assert row.parts[0].shape == (3, 64, 64)
    assert float(row.parts[0].min()) == float(row.parts[0].max()) == pytest.approx((1.0 - 0.5) / 0.25)


def test_features_are_those_of_the_headless_model_and_survive_saving(folder: Path, tmp_path: Path) -> None:
    import torch

    backbone = load(str(folder))
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    got = extract(backbone, [picture], Run())
    pixels = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    with torch.no_grad():
        expected = backbone.model.forward_features(pixels).mean((2, 3))  # type: ignore[operator, union-attr]
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)
    backbone.save(tmp_path)
    again = load(str(tmp_path))
    assert again.fingerprint() == backbone.fingerprint()
    assert np.array_equal(extract(again, [picture], Run()), got)


def test_blocks_are_in_order_and_the_stem_lies_before(folder: Path) -> None:
    backbone = load(str(folder))
    assert len(backbone.blocks) == 4
    before, after = backbone.stem_and_top()
    assert before and not after


def test_a_broken_picture_and_missing_weights_are_told(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "a.png"
    broken.write_bytes(b"not a picture")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        load(str(folder)).encode([broken])
    state = load_file(folder / "model.safetensors")
    state.pop("conv1.0.weight")
    half = tmp_path / "half"
    half.mkdir()
    save_file(state, half / "model.safetensors")
    (half / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(UserError, match=r"lack 1 parameters, first 'conv1\.0\.weight'"):
        load(str(half))
