"""Image backbones on a small random timm folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from acclimate.backbones import image, load, runtime
from acclimate.errors import UserError
from acclimate.features import Store, extract
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
    pixels = backbone.collate([row])["pixels"]
    assert pixels.shape == (1, 3, 64, 64)
    assert float(pixels.min()) == float(pixels.max()) == pytest.approx((1.0 - 0.5) / 0.25)


def test_features_are_those_of_the_headless_model_and_survive_saving(folder: Path, tmp_path: Path) -> None:
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


def test_a_picture_changed_at_random_keeps_its_size_and_has_no_new_colour(folder: Path) -> None:
    backbone = load(str(folder))
    batch = backbone.collate(backbone.encode([np.full((64, 64, 3), 200, np.uint8)]))
    changed = backbone.augment(batch, torch.Generator().manual_seed(0), 1.0)
    torch.testing.assert_close(changed["pixels"], batch["pixels"])  # the edge is drawn out: nothing black comes in
    assert torch.equal(changed["rows"], batch["rows"])


def test_features_of_two_sizes_are_kept_apart_and_cost_by_the_area(folder: Path, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    found = {}
    for size in (None, 32, 128):
        backbone = load(str(folder), image_size=size)
        store = Store(backbone, Run(cache=tmp_path))
        assert store.missing([picture])  # though another size was read before
        found[size] = store.get([picture])
        again = Store(load(str(folder), image_size=size), Run(cache=tmp_path))
        assert not again.missing([picture]) and np.array_equal(again.get([picture]), found[size])
        assert backbone.encode([picture])[0].cost == {None: 64, 32: 16, 128: 256}[size]
    assert not np.allclose(found[None], found[32], rtol=1e-2) and not np.allclose(found[None], found[128], rtol=1e-2)


def test_a_network_of_a_runtime_reads_the_size_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    backbone = load(str(folder), image_size=96)
    pixels = backbone.collate(backbone.encode(pictures(2)))["pixels"]
    network = runtime.Network(backbone.model, 96, backbone.fingerprint(), tmp_path)  # type: ignore[arg-type]
    run, tried = runtime.admitted("onnxruntime", network, pixels, backbone({"pixels": pixels}))
    assert run is not None, tried


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3), dtype=np.uint8))


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Folded networks seem quickest, and the cache is new; the list grows by a name at every measurement."""
    measured: list[str] = []

    def fake(runs: dict[str, object], pixels: object) -> dict[str, float]:
        measured.append(runtime.FOLDED)
        return {name: 0.5 if name == runtime.FOLDED else 1.0 for name in runs}

    monkeypatch.setattr(runtime, "_measured", fake)
    monkeypatch.setattr(image, "_WORTH_MEASURING", 36)
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "cache"))
    return measured


def test_many_pictures_are_read_by_the_quickest_runtime_and_few_by_torch(folder: Path, chosen: list[str]) -> None:
    backbone = load(str(folder))
    many = pictures(40)
    by_torch = np.concatenate([extract(backbone, many[i : i + 10], Run()) for i in range(0, 40, 10)])
    extract(backbone, many[:35], Run())
    assert backbone.runtime == "torch" and not chosen
    found = extract(backbone, many, Run())
    assert backbone.runtime == "torch-folded" and len(chosen) == 1
    np.testing.assert_allclose(found, by_torch, atol=1e-5 * np.abs(by_torch).max())
    assert np.array_equal(extract(backbone, many, Run()), found) and len(chosen) == 1
    other = load(str(folder))
    for count, name in ((31, "torch"), (32, "torch-folded")):  # fewer are enough once a choice was made
        extract(other, many[:count], Run())
        assert other.runtime == name and len(chosen) == 1


def test_workers_decode_ahead_with_the_same_result(folder: Path, tmp_path: Path, chosen: list[str]) -> None:
    from PIL import Image

    paths = [tmp_path / f"{i}.jpg" for i in range(40)]
    for path, pixels in zip(paths, pictures(40), strict=True):
        Image.fromarray(pixels).resize((300, 260)).save(path)
    backbone = load(str(folder))
    alone = extract(backbone, paths, Run(num_workers=0))
    assert np.array_equal(extract(backbone, paths, Run(num_workers=3)), alone)
    with torch.inference_mode():
        first = backbone(backbone.collate(backbone.encode(paths[:4]))).numpy()  # as training reads them
    np.testing.assert_allclose(first, alone[:4], atol=1e-5 * np.abs(alone).max())
    paths[30].write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"30\.jpg cannot be read as a picture"):
        extract(backbone, paths, Run(num_workers=3))


def test_weights_that_changed_are_not_read_from_a_folded_copy(folder: Path, chosen: list[str]) -> None:
    backbone = load(str(folder))
    many = pictures(40)
    before = extract(backbone, many, Run())
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.mul_(1.1)
    after = extract(backbone, many, Run())
    assert backbone.runtime == "torch-folded"
    again = np.concatenate([extract(backbone, many[i : i + 10], Run()) for i in range(0, 40, 10)])
    np.testing.assert_allclose(after, again, atol=1e-5 * np.abs(again).max())
    assert np.abs(after - before).max() > 0.01 * np.abs(before).max()


def test_what_learns_is_read_by_torch_also_after_loading(folder: Path, tmp_path: Path, chosen: list[str]) -> None:
    backbone = load(str(folder))
    extract(backbone.requires_grad_(True), pictures(40), Run())
    assert backbone.runtime == "torch"
    learner = backbone.clone().requires_grad_(False)
    extract(learner, pictures(40), Run())
    learner.save(tmp_path)
    extract(again := load(str(tmp_path)), pictures(40), Run())
    assert learner.runtime == again.runtime == "torch" and not chosen


def test_the_choice_is_saved_with_the_weights(
    folder: Path, tmp_path: Path, chosen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(str(folder))
    extract(backbone, pictures(40), Run())
    backbone.save(tmp_path)
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "another"))
    again = load(str(tmp_path))
    assert again.fingerprint() == backbone.fingerprint()
    extract(again, pictures(40), Run())
    assert again.runtime == "torch-folded" and len(chosen) == 1
    assert again.describe()[0].startswith("torch-folded: as chosen before")  # type: ignore[operator]


def test_training_reads_a_batch_as_one(folder: Path) -> None:
    backbone = load(str(folder)).requires_grad_(True)
    backbone.train()
    seen = []
    backbone.model.register_forward_hook(lambda m, given, out: seen.append(len(given[0])))  # type: ignore[operator, union-attr]
    with torch.no_grad():
        backbone(backbone.collate(backbone.encode(pictures(6))))
    assert seen == [6]


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
