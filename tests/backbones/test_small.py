"""The small network: what it reads, that weights are random only until it has learned, that it is kept whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acclimate.backbones import load
from acclimate.backbones.augment import affine, matrices
from acclimate.backbones.small import SmallCnn
from acclimate.errors import UserError
from acclimate.features import Store, extract
from acclimate.run import Run

PICTURES = list(np.random.default_rng(0).random((6, 8, 8)).astype(np.float32))


def test_it_is_small_has_blocks_and_the_same_random_weights_at_every_load() -> None:
    one, two = load("small-cnn"), load("small-cnn")
    assert sum(p.numel() for p in one.parameters()) == 44_704
    assert len(one.blocks) == 4 and one.stem_and_top() == ([], [])
    assert one.fingerprint() == two.fingerprint() != SmallCnn(seed=1).fingerprint()
    assert extract(one, PICTURES, Run()).shape == (6, one.width)


def test_making_one_leaves_the_generator_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load("small-cnn")
    assert torch.equal(torch.rand(3), expected)


def test_bytes_floats_pictures_and_files_are_read_alike(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    backbone = load("small-cnn")
    given = [pixels, (pixels / 255).astype(np.float32), pixels / 255, Image.fromarray(pixels), str(tmp_path / "a.png")]
    read = [row.parts[0] for row in backbone.encode(given)]
    assert all(np.array_equal(part, read[0]) for part in read[1:])
    assert np.array_equal(read[0], pixels.astype(np.float32) / np.float32(255))


def test_another_size_is_averaged() -> None:
    (row,) = load("small-cnn").encode([np.kron(PICTURES[0], np.ones((2, 2), np.float32))])
    np.testing.assert_allclose(row.parts[0], PICTURES[0], atol=1e-6)
    assert extract(load("small-cnn:28"), PICTURES, Run()).shape == (6, 64)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.full((8, 8), 16.0), r"holds 16 to 16; divide by the largest value"),
        (np.full((8, 8), np.nan), r"numbers from 0 to 1"),
        (np.zeros((8, 8, 7)), r"an array of the shape \(8, 8, 7\) is no picture"),
        ("none.png", r"none.png cannot be read as a picture"),
    ],
)
def test_what_cannot_be_read_is_said(value: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load("small-cnn").encode([value])


def test_names_that_are_none() -> None:
    with pytest.raises(UserError, match="give small-cnn or small-cnn:SIDE"):
        load("small-cnn:big")
    with pytest.raises(UserError, match="8 to 64 pixels a side, not 4"):
        load("small-cnn:4")


def test_a_saved_one_is_the_same_and_a_learned_one_is_not_reset(tmp_path: Path) -> None:
    backbone = load("small-cnn")
    backbone.train()
    with torch.no_grad():
        backbone(backbone.collate(backbone.encode(PICTURES)))
    backbone.eval().save(tmp_path)
    again = load(str(tmp_path))
    assert again.fingerprint() == backbone.fingerprint() and again.origin == backbone.origin
    assert np.array_equal(extract(again, PICTURES, Run()), extract(backbone, PICTURES, Run()))
    again.reset(3)
    assert again.fingerprint() == backbone.fingerprint()
    fresh = load("small-cnn")
    fresh.reset(3)
    assert fresh.fingerprint() == SmallCnn(seed=3).fingerprint()


def test_features_are_kept_by_content() -> None:
    store = Store(load("small-cnn"), Run())
    store.prepare(PICTURES)
    assert store.missing([p.copy() for p in PICTURES]) == []
    assert len(store.missing([PICTURES[0] * 0.5])) == 1


def test_changes_are_those_of_the_generator_and_none_at_strength_0() -> None:
    pixels = torch.from_numpy(np.stack(PICTURES)).unsqueeze(1)
    one, two = (affine(pixels, torch.Generator().manual_seed(4), 1.0) for _ in range(2))
    assert torch.equal(one, two) and not torch.allclose(one, pixels, atol=0.1)
    assert torch.equal(affine(pixels, torch.Generator(), 0.0), pixels)
    batch = {"pixels": pixels, "rows": torch.arange(6)}
    changed = load("small-cnn").augment(batch, torch.Generator().manual_seed(4), 1.0)
    assert torch.equal(changed["pixels"], one) and torch.equal(changed["rows"], batch["rows"])


def test_a_change_looks_pixels_up_where_the_matrix_says() -> None:
    """Bilinear look-up restated as loops."""
    pixels, seed = torch.from_numpy(PICTURES[0]), 9
    found = affine(pixels[None, None], torch.Generator().manual_seed(seed), 1.0)[0, 0]
    matrix = matrices(1, torch.Generator().manual_seed(seed), 1.0)[0]
    for i in range(8):
        for j in range(8):
            place = torch.tensor([(2 * j + 1) / 8 - 1, (2 * i + 1) / 8 - 1, 1.0])
            x, y = (((matrix @ place) + 1) * 8 - 1) / 2
            total = 0.0
            for a in (int(np.floor(float(y))), int(np.floor(float(y))) + 1):
                for b in (int(np.floor(float(x))), int(np.floor(float(x))) + 1):
                    if 0 <= a < 8 and 0 <= b < 8:
                        total += (1 - abs(float(y) - a)) * (1 - abs(float(x) - b)) * float(pixels[a, b])
            assert float(found[i, j]) == pytest.approx(total, abs=1e-5)


def test_a_batch_of_one_learns_by_what_was_seen_before() -> None:
    network = SmallCnn(8).train()
    batch = network.collate(network.encode(np.random.default_rng(0).random((5, 8, 8))))
    network(batch)
    norm = network.model[3][2]
    before = norm.running_mean.clone()
    one = {"pixels": batch["pixels"][:1]}
    out = network(one)
    assert torch.isfinite(out).all() and torch.equal(norm.running_mean, before)
    out.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_a_size_is_a_whole_number_whatever_the_model() -> None:
    assert load("small-cnn", image_size=np.int64(24)).side == 24  # type: ignore[arg-type]
    for odd in ("24", 24.0, True, 7, 0, -24):
        with pytest.raises(UserError, match=rf"image_size {odd!r} is the side of the square"):
            load("small-cnn", image_size=odd)  # type: ignore[arg-type]
