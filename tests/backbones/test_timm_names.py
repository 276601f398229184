"""Every family of timm's that people name loads by the one call, gives its own features, and learns from its top."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.backbones import image, load
from acclimate.backbones.image_sizes import fitted
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run
from acclimate.strategies import Splits, named
from acclimate.train.prefix import build

timm = pytest.importorskip("timm", reason="image backbones need the `image` extra")

TOKENS: dict[str, Any] = {"embed_dim": 16, "depth": 3, "num_heads": 2}
NAMES: dict[str, dict[str, Any]] = {  # with what makes them small
    "resnet18": {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
    "vgg11": {"mlp_ratio": 0.002},
    "vgg11_bn": {"mlp_ratio": 0.002},
    "mobilenetv2_035": {},
    "test_efficientnet": {},
    "vit_tiny_patch16_224": {**TOKENS, "img_size": 32, "patch_size": 8},
    "vit_small_patch14_dinov2": {**TOKENS, "img_size": 28},
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 8, 16, 16]},
    "swin_tiny_patch4_window7_224": {
        "embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "img_size": 32, "patch_size": 2, "window_size": 4,
    },
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """VGG takes no arguments for its widths: here they are those of a dwarf."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(timm.models.vgg.cfgs, "vgg11", [4, "M", 8, "M", 8, 8, "M", 8, "M", 8, "M"])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    from safetensors.torch import save_file

    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name in made:
            return made[name]
        path = made[name] = tmp_path_factory.mktemp("timm") / name
        path.mkdir()
        size = NAMES[name].get("img_size", 64)  # larger than what stands for pictures that nothing looks at
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = timm.create_model(name, num_classes=2, **NAMES[name])
        about = {"input_size": [3, size, size], "mean": [0.5] * 3, "std": [0.25] * 3, "crop_pct": 1.0}
        config = {"architecture": name, "model_args": NAMES[name], "pretrained_cfg": about}
        (path / "config.json").write_text(json.dumps(config))
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path / "model.safetensors")
        return path

    return get


def pictures(count: int) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(0).integers(0, 255, (count, 40, 36, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_timm_and_the_last_block_learns(name: str, folder: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    backbone = load(str(folder(name)))
    given = pictures(3)
    found = extract(backbone, given, Run())
    model = timm.create_model(name, num_classes=0, **NAMES[name]).eval()
    state = load_file(folder(name) / "model.safetensors")
    model.load_state_dict({k: v for k, v in state.items() if k in model.state_dict()})
    with torch.no_grad():
        expected = model(backbone.collate(backbone.encode(given))["pixels"]).numpy()
    assert backbone.modality == "image" and found.shape == (3, backbone.width)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    backbone.save(tmp_path)
    again = load(str(tmp_path))
    assert again.fingerprint() == backbone.fingerprint() == backbone.clone().fingerprint()
    assert np.array_equal(extract(again, given, Run()), found)
    tuned_at_the_top(backbone)


def tuned_at_the_top(backbone: Any) -> None:
    """The last block moves alone, and what the others gave is replayed."""
    data = Data(tuple(pictures(4)), ("a", "b") * 2, kind="image")  # type: ignore[arg-type]
    problem = tm.problem_of("classify", data, "str", backbone.requires_grad_(False), Run())
    settings = {"moves": "top:1", "num_train_epochs": 2, "start": "zero", "learning_rate": 1e-3}
    fitted = named("partial", settings)[1].fit(problem, Splits(data), Run())
    below = {id(p) for block in backbone.blocks[:-1] for p in block.parameters()}
    below |= {id(p) for p in backbone.stem_and_top()[0]}
    still = {f"backbone.{parameter}" for parameter, p in backbone.named_parameters() if id(p) in below}
    assert len(backbone.blocks) > 1 and still and not still & set(fitted.trained)
    assert any(parameter.startswith("backbone") for parameter in fitted.trained)
    assert any("is kept in memory" in note for note in fitted.notes), fitted.notes


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_035", "vit_tiny_patch16_224"])
def test_pictures_are_not_looked_at_while_their_first_blocks_are_replayed(name: str, folder: Any) -> None:
    backbone = load(str(folder(name))).requires_grad_(False)
    backbone.blocks[-1].requires_grad_(True)
    encoded = backbone.encode(pictures(3))
    full = backbone(backbone.collate(encoded))
    kept, note = build(backbone, encoded, "auto", Run())
    assert kept is not None, note
    with kept.replaying():
        batch = backbone.collate(encoded)
        kept.offer([0, 1, 2], batch, "cpu")
        short = backbone(batch)
    assert not batch["pixels"].any() and torch.equal(full, short) and backbone.collate(encoded)["pixels"].any()


def test_a_name_of_the_hub_that_timm_reads_is_asked_of_timm(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    model = image._from_folder(folder("mobilenetv2_035"))[0]

    def create(name: str, **settings: Any) -> Any:
        asked.append((name, settings))
        return model

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("acclimate.backbones.modality.config_of", lambda path: {"architecture": "mobilenetv2_035"})
    assert load("hf:timm/mobilenetv2_035.x").modality == load("timm:mobilenetv2_035").modality == "image"
    assert [name for name, _ in asked] == ["hf-hub:timm/mobilenetv2_035.x", "mobilenetv2_035"]
    assert all(settings == {"pretrained": True, "num_classes": 0} for _, settings in asked)


def test_settings_that_the_architecture_does_not_take_are_told(folder: Any, tmp_path: Path) -> None:
    config = json.loads((folder("mobilenetv2_035") / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_args": {"window_size": 3}}))
    with pytest.raises(UserError, match=r"cannot load the image model .*window_size"):
        load(str(tmp_path))


OTHER = {"vit_tiny_patch16_224": 16, "vit_small_patch14_dinov2": 42, "swin_tiny_patch4_window7_224": 48}


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_read_at_another_size_and_a_bundle_keeps_it(name: str, folder: Any, tmp_path: Path) -> None:
    size = OTHER.get(name, 96)
    own, other = load(str(folder(name))), load(str(folder(name)), image_size=size)
    given = pictures(3)
    found, pixels = extract(other, given, Run()), other.collate(other.encode(given))["pixels"]
    assert pixels.shape == (3, 3, size, size) and str(size) in other.read_at and not own.read_at
    model = timm.create_model(name, num_classes=0, **NAMES[name]).eval()
    model.load_state_dict(own.model.state_dict())
    if name in OTHER:  # positions are resampled as timm does it for a checkpoint of another size
        model.set_input_size(img_size=(size, size))
    with torch.no_grad():
        expected = model(pixels).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    other.save(tmp_path)
    again = load(str(tmp_path))
    assert again.fingerprint() == other.fingerprint() == other.clone().fingerprint() != own.fingerprint()
    assert np.array_equal(extract(again, given, Run()), found) and again.read_at == other.read_at
    back = load(str(tmp_path), image_size=own.settings()["size"])  # type: ignore[arg-type]
    assert not back.read_at and extract(back, given, Run()).shape == found.shape
    if name not in OTHER:  # what was resampled twice is not what it was
        assert back.fingerprint() == own.fingerprint()
    tuned_at_the_top(other)


def test_resampled_positions_are_those_of_timm_for_a_checkpoint_of_that_size(folder: Any) -> None:
    from timm.models.vision_transformer import checkpoint_filter_fn

    name = "vit_tiny_patch16_224"
    own, other = load(str(folder(name))), load(str(folder(name)), image_size=48)
    model = timm.create_model(name, num_classes=0, **{**NAMES[name], "img_size": 48})
    state = checkpoint_filter_fn(own.model.state_dict(), model)
    torch.testing.assert_close(state["pos_embed"], other.model.pos_embed.data)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("vit_tiny_patch16_224", 50, "image_size 50 is no multiple of 8, the side of the patches .*; give 48 or 56$"),
        ("vit_small_patch14_dinov2", 10, "image_size 10 is no multiple of 14, .*; give 14$"),
        ("convnext_atto", 24, "cannot read pictures of 24 x 24 pixels; the smallest that it can read is 32$"),
        ("resnet18", 7, "image_size 7 is the side of the square .* a whole number of pixels from 8 to 4096$"),
        ("resnet18", 64.0, "image_size 64.0 is the side"),
    ],
)
def test_a_size_that_cannot_be_had_is_told_with_one_that_can(name: str, size: Any, said: str, folder: Any) -> None:
    with pytest.raises(UserError, match=said):
        load(str(folder(name)), image_size=size)


@pytest.mark.parametrize(
    ("size", "step", "said"),
    [(48, 8, r"48 x 48 pixels \(.*shapes.*\); give 32, or choose a conv"), (24, 8, "the smallest .* can read is 32$"),
     (20, 1, "the smallest .* can read is 32$")],
)  # fmt: skip
def test_a_network_of_one_size_says_so(size: int, step: int, said: str) -> None:
    one = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))
    with pytest.raises(UserError, match=said):
        fitted(one, lambda model, side: None, size, 32, step, "one")
