"""Pixels without transfer: the values, and a linear model on them that predicts as it was fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from acclimate import plain
from acclimate.data.rows import Data
from acclimate.plain.pixels import SIDE, PixelFeatures
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, named
from acclimate.tasks import TASKS
from drawn import bars


def test_values_are_means_of_squares_and_standardised() -> None:
    pixels = [np.kron(np.arange(256).reshape(16, 16), np.ones((2, 2))).astype(np.uint8), np.full((8, 8), 51, np.uint8)]
    values = PixelFeatures.raw(pixels)
    assert values.shape == (2, SIDE * SIDE * 3)
    np.testing.assert_allclose(values[0].reshape(16, 16, 3)[..., 1], np.arange(256).reshape(16, 16) / 255)
    np.testing.assert_allclose(values[1], 0.2)
    found = PixelFeatures.of(pixels).transform(pixels).toarray()
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose((found**2).sum(1), 1.0, atol=0.02)  # rows of about length one


def test_saved_and_read_again(tmp_path: Path) -> None:
    pixels, _ = bars(6)
    one = plain.fit_plain("image", pixels, 10)
    assert one is not None
    plain.save(one, tmp_path)
    two = plain.load(tmp_path)
    assert two is not None and two.kind == "pixels"
    np.testing.assert_array_equal(one.transform(pixels).toarray(), two.transform(pixels).toarray())
    assert plain.load(tmp_path / "nothing") is None


def test_files_and_arrays_give_the_same(tmp_path: Path) -> None:
    pixels, _ = bars(3)
    paths = [str(tmp_path / f"{i}.png") for i in range(3)]
    for path, one in zip(paths, pixels, strict=True):
        Image.fromarray(one).save(path)
    np.testing.assert_array_equal(PixelFeatures.raw(paths), PixelFeatures.raw(pixels))


def test_the_baseline_learns_and_its_head_reads_pixels() -> None:
    pixels, labels = bars(60)
    data = Data(tuple(pixels), tuple(labels), kind="image")
    task = TASKS["classify"]
    problem = Problem(task, task.decoder(labels, "str"))
    fitted = named("pixels")[1].fit(problem, Splits(data), Run())
    assert fitted.strategy == "pixels" and fitted.plain is not None and fitted.backbone is None
    new, truth = bars(40, seed=1)
    right = (fitted.logits(new).argmax(1) == problem.targets(Data(tuple(new), tuple(truth), kind="image"))).mean()
    assert right > 0.8
    by_hand = fitted.plain.transform(new).toarray() @ fitted.head.word_weight.detach().numpy().T  # type: ignore[union-attr, operator]
    by_hand += fitted.head.bias.detach().numpy()  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(fitted.logits(new), by_hand, atol=1e-5)
