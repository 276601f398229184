"""Image models in Hugging Face's own format: tiny ones with random weights, and what is told of other modalities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_models as tm
from acclimate.backbones import load
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.modality import modality_of
from acclimate.data.rows import Data
from acclimate.data.series import Series
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run
from acclimate.strategies import Splits, named

PROCESSOR = {
    "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40}, "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32}, "resample": 2,
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4],
}  # fmt: skip
SIZE: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def model(kind: str) -> Any:
    import transformers as t

    torch.manual_seed(1)
    if kind == "dinov2":
        return t.Dinov2Model(t.Dinov2Config(**SIZE, mlp_ratio=2, image_size=32, patch_size=8, initializer_range=0.2))
    if kind == "vit":
        return t.ViTModel(
            t.ViTConfig(**SIZE, image_size=32, patch_size=8, initializer_range=0.2), add_pooling_layer=False
        )
    if kind == "resnet":
        return t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[2, 1], layer_type="basic"))
    if kind == "mobilenet_v2":
        return t.MobileNetV2Model(t.MobileNetV2Config(depth_multiplier=0.1, image_size=32))
    if kind == "efficientnet":
        return t.EfficientNetModel(
            t.EfficientNetConfig(image_size=32, width_coefficient=0.25, depth_coefficient=0.2, hidden_dim=320)
        )
    if kind == "swin":
        return t.SwinModel(
            t.SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4)
        )
    return t.ConvNextModel(t.ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("hub") / kind
            with quiet_transformers():
                model(kind).save_pretrained(made[kind])
            (made[kind] / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        return made[kind]

    return get


def pictures(n: int) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(0).integers(0, 255, (n, 48, 40, 3), dtype=np.uint8))


WIDTHS = {"dinov2": 16, "vit": 16, "convnext": 16, "swin": 16, "resnet": 16, "mobilenet_v2": 1280, "efficientnet": 320}
FIRST = ("dinov2", "vit")  # the token of the whole picture; the others give the mean over its places


@pytest.mark.parametrize("kind", WIDTHS)
def test_features_are_those_of_the_model_itself_and_survive_saving(
    kind: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import AutoModel

    backbone = load(str(folder(kind)))
    assert (backbone.modality, backbone.width) == ("image", WIDTHS[kind])
    given = pictures(3)
    found = extract(backbone, given, Run())
    pixels = backbone.collate(backbone.encode(given))["pixels"]
    assert pixels.shape == (3, 3, 32, 32)
    with torch.no_grad(), quiet_transformers():
        hidden = AutoModel.from_pretrained(folder(kind)).eval()(pixel_values=pixels).last_hidden_state
    places = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden
    expected = (places[:, 0] if kind in FIRST else places.mean(1)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    backbone.save(tmp_path)
    again = load(str(tmp_path))
    assert again.fingerprint() == backbone.fingerprint() and again.origin == backbone.origin
    assert np.array_equal(extract(again, given, Run()), found)


@pytest.mark.parametrize("kind", WIDTHS)
def test_the_last_block_moves_alone_and_the_others_are_replayed(kind: str, folder: Callable[[str], Path]) -> None:
    backbone = load(str(folder(kind))).requires_grad_(False)
    data = Data(tuple(pictures(8)), ("a", "b") * 4, kind="image")  # type: ignore[arg-type]
    problem = tm.problem_of("classify", data, "str", backbone, Run())
    settings = {"moves": "top:1", "num_train_epochs": 2, "start": "zero", "learning_rate": 1e-3}
    fitted = named("partial", settings)[1].fit(problem, Splits(data), Run())
    below = {id(p) for block in backbone.blocks[:-1] for p in block.parameters()}
    below |= {id(p) for p in backbone.stem_and_top()[0]}
    still = {f"backbone.{name}" for name, p in backbone.named_parameters() if id(p) in below}
    assert len(backbone.blocks) > 1 and still and not still & set(fitted.trained)
    assert any(name.startswith("backbone") for name in fitted.trained)
    said = "blocks of 'swin' hand on more than their hidden states" if kind == "swin" else "is kept in memory"
    assert any(said in note for note in fitted.notes), fitted.notes


@pytest.mark.parametrize(("kind", "size"), [*((kind, 48) for kind in WIDTHS), ("vit", 16), ("dinov2", 24)])
def test_pictures_are_read_at_another_size_and_a_bundle_keeps_it(
    kind: str, size: int, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import AutoModel

    own, other = load(str(folder(kind))), load(str(folder(kind)), image_size=size)
    given = pictures(3)
    found, pixels = extract(other, given, Run()), other.collate(other.encode(given))["pixels"]
    assert pixels.shape == (3, 3, size, size) and other.settings()["own_size"] == 32
    assert abs(other.image.side - size * 40 / 32) <= 1  # type: ignore[union-attr]  # the same share is cut away
    with torch.no_grad(), quiet_transformers():
        more = {"interpolate_pos_encoding": True} if kind == "vit" else {}
        hidden = AutoModel.from_pretrained(folder(kind)).eval()(pixel_values=pixels, **more).last_hidden_state
    places = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden
    expected = (places[:, 0] if kind in FIRST else places.mean(1)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    other.save(tmp_path)
    again = load(str(tmp_path))
    assert again.fingerprint() == other.fingerprint() == other.clone().fingerprint() != own.fingerprint()
    assert np.array_equal(extract(again, given, Run()), found) and again.read_at == other.read_at
    assert load(str(tmp_path), image_size=32).fingerprint() == own.fingerprint()


def test_a_vit_whose_preprocessing_is_of_another_size_than_its_config_is_read(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with quiet_transformers():
        model("vit").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "crop_size": 48}))
    backbone = load(str(tmp_path))
    assert backbone.settings()["size"] == 48 and not backbone.read_at
    assert extract(backbone, pictures(2), Run()).shape == (2, 16)


@pytest.mark.parametrize(
    ("kind", "size", "said"),
    [
        ("dinov2", 45, "image_size 45 is no multiple of 8, the side of the patches .*; give 40 or 48$"),
        ("swin", 8, "cannot read pictures of 8 x 8 pixels; the smallest that it can read is 14$"),
        ("convnext", 5000, "image_size 5000 is the side of the square .* from 8 to 4096$"),
    ],
)
def test_a_size_that_cannot_be_had_is_told(kind: str, size: int, said: str, folder: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match=said):
        load(str(folder(kind)), image_size=size)


def test_pixels_are_those_of_the_stored_preprocessing(folder: Callable[[str], Path]) -> None:
    backbone = load(str(folder("dinov2")))
    settings = {k: v for k, v in backbone.settings().items() if k not in ("modality", "backend")}
    assert settings == {
        "architecture": "dinov2", "size": 32, "crop": 0.8, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4),
        "interpolation": "bilinear",
    }  # fmt: skip
    white = np.full((50, 60, 3), 255, np.uint8)
    pixels = backbone.collate(backbone.encode([white]))["pixels"]
    assert pixels[0, :, 5, 5].tolist() == pytest.approx([0.5 / 0.2, 0.6 / 0.3, 0.7 / 0.4])


def test_what_moves_is_a_block_and_the_rest_stays(folder: Callable[[str], Path]) -> None:
    backbone = load(str(folder("dinov2"))).requires_grad_(False)
    data = Data(tuple(pictures(8)), ("a", "b") * 4)  # type: ignore[arg-type]
    problem = tm.problem_of("classify", data, "str", backbone, Run())
    before = tm.state(backbone)
    fitted = named("partial", {"moves": "top:1", "num_train_epochs": 2, "start": "zero"})[1].fit(
        problem, Splits(data), Run()
    )
    assert tm.same_state(backbone, before)
    moved = [name for name in fitted.trained if name.startswith("backbone")]
    assert moved and all("layer.2." in name or "layernorm" in name for name in moved)
    assert any("2 frozen blocks is kept in memory" in note for note in fitted.notes), fitted.notes


def write(folder: Path, config: dict[str, Any], beside: dict[str, Any] | None = None) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    if beside is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(beside))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "beside", "expected"),
    [
        ({"architecture": "resnet10t"}, None, "timm"),
        ({"model_type": "vit", "patch_size": 16}, None, "image"),
        ({"model_type": "resnet"}, {"image_mean": [0.5] * 3}, "image"),
        ({"model_type": "whisper", "num_mel_bins": 80, "vocab_size": 5}, None, "audio"),
        ({"model_type": "wav2vec2", "vocab_size": 32}, {"feature_extractor_type": "x"}, "audio"),
        ({"model_type": "clip", "vision_config": {}, "text_config": {}}, {"image_mean": []}, "image and text"),
        ({"model_type": "bert", "vocab_size": 100}, None, "text"),
    ],
)
def test_the_modality_is_told_by_the_folder(
    config: dict[str, Any], beside: dict[str, Any] | None, expected: str, tmp_path: Path
) -> None:
    assert modality_of(write(tmp_path / "m", config, beside)) == expected


def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, folder: Callable[[str], Path]) -> None:
    path = write(tmp_path / "both", {"model_type": "clip", "vision_config": {}, "text_config": {}})
    with pytest.raises(
        UserError, match=r"both' reads image and text, and what can be loaded reads text, images, sounds, series or"
    ):
        load(path)
    with pytest.raises(UserError, match=r"seconds 3 is for sound models; '.*dinov2' reads images"):
        load(str(folder("dinov2")), seconds=3)
    with pytest.raises(UserError, match=r"pooling 'mean' is for text models; '.*dinov2' reads images"):
        load(str(folder("dinov2")), pooling="mean")
    broken = write(tmp_path / "empty", {"model_type": "vit", "patch_size": 16})
    with pytest.raises(UserError, match="cannot load the image model 'empty'"):
        load(broken)


@pytest.mark.real
def test_every_name_of_the_catalogue_loads_as_what_it_is() -> None:
    from acclimate.catalogue.models import MODELS, is_here

    there = [entry for entry in MODELS.values() if is_here(entry.name)]
    for entry in there:
        backbone = load(entry.name)
        assert backbone.modality == ("text" if entry.modality == "molecule" else entry.modality)
        given: list[Any] = {
            "text": ["CCO"], "image": pictures(1), "audio": [(np.linspace(-1, 1, 16000, dtype=np.float32), 16000)],
            "series": [Series(np.sin(np.arange(300.0))[None], 1.0)],
        }[backbone.modality]  # fmt: skip
        if backbone.modality == "series":
            backbone = backbone.fit_rows(given)
        assert extract(backbone, given, Run()).shape == (1, backbone.width)


@pytest.mark.real
@pytest.mark.parametrize(("name", "sizes"), [("mobilenetv2", (128, 320)), ("dinov2-small", (112, 308))])
def test_a_photo_keeps_its_features_at_another_size(name: str, sizes: tuple[int, ...]) -> None:
    from sklearn.datasets import load_sample_images

    photos = [np.asarray(image) for image in load_sample_images().images]  # a temple and a flower
    own = extract(load(name), photos, Run())
    for size in sizes:
        backbone = load(name, image_size=size)
        assert f"{size} x {size} pixels" in backbone.read_at
        found = extract(backbone, photos, Run())
        alike = found @ own.T / np.linalg.norm(found, axis=1)[:, None] / np.linalg.norm(own, axis=1)
        assert np.diag(alike).min() > 0.6 and np.all(np.diag(alike) > 0.1 + alike[[0, 1], [1, 0]]), (size, alike)
