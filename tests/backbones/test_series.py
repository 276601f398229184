"""Backbones of series: what is padded does not count, windows are averaged, weights are drawn and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny_series as ts
from acclimate.backbones import load
from acclimate.backbones.augment_series import changed
from acclimate.backbones.series import Scale, SeriesBackbone, pieces
from acclimate.data.series import Series
from acclimate.errors import UserError
from acclimate.features import extract
from acclimate.run import Run
from acclimate.train.prefix import build

REFERENCE = [  # quantiles 0.1, 0.5 and 0.9 of steps 1, 12, 48, 61 and 100
    [10.45940, 11.24437, 12.23576], [15.34913, 16.37930, 17.49434], [11.18045, 12.04053, 13.60081],
    [16.20814, 17.00343, 17.72304], [10.58647, 11.48882, 12.73182],
]  # fmt: skip
KINDS = ("series-cnn", "series-transformer", "fracast")


def rows(n: int = 6, seed: int = 0, steps: int = 40) -> list[Series]:
    return [Series(one, 50.0) for one in ts.series(n, seed, steps=steps)[0]]


def fitted(kind: str, given: list[Series] | None = None) -> SeriesBackbone:
    made: Any = ts.tiny_fracast() if kind == "fracast" else load(kind)
    return made.fit_rows(rows(20) if given is None else given).requires_grad_(False)


def features(backbone: SeriesBackbone, given: list[Series]) -> np.ndarray[Any, Any]:
    return np.asarray(extract(backbone, given, Run(cache=None)))


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_a_short_series_counts_for_nothing(kind: str) -> None:
    backbone = fitted(kind)
    short = [one._replace(values=one.values[:, :23]) for one in rows(3)]
    together = features(backbone, [*short, *rows(3)])
    np.testing.assert_allclose(together[:3], features(backbone, short), atol=1e-5)
    again = np.concatenate([features(backbone, [one]) for one in short])
    np.testing.assert_allclose(together[:3], again, atol=1e-5)
    assert together.shape == (6, backbone.width) and np.isfinite(together).all()


@pytest.mark.parametrize("kind", ["series-cnn", "series-transformer"])
def test_empty_steps_change_no_state_before_them(kind: str) -> None:
    backbone: Any = fitted(kind)
    batch = backbone.collate(backbone.encode([rows(1)[0]._replace(values=rows(1)[0].values[:, :24])]))
    other = {**batch, "values": batch["values"].clone()}
    hidden, inside = backbone.states(backbone.read(batch), batch["sizes"])
    assert inside.sum() < inside.numel() and float(batch["values"][..., 24:].abs().max()) == 0
    np.testing.assert_array_equal(backbone(batch), backbone(other))


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_series_is_the_mean_of_its_windows_by_their_steps(kind: str) -> None:
    backbone = fitted(kind)
    long = Series(np.concatenate([one.values for one in rows(3)], 1)[:, :100], 50.0)
    parts = pieces(long.values, 40)
    assert [part.shape[1] for part in parts] == [40, 40, 28]
    each = features(backbone, [Series(part, 50.0) for part in parts])
    wanted = (each * np.array([[40], [40], [28]])).sum(0) / 108
    np.testing.assert_allclose(features(backbone, [long])[0], wanted, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_gives_the_same(kind: str, tmp_path: Path) -> None:
    backbone = fitted(kind)
    (tmp_path / "m").mkdir()
    backbone.save(tmp_path / "m")
    again = load(str(tmp_path / "m"))
    assert again.settings() == backbone.settings() and again.fingerprint() == backbone.fingerprint()
    np.testing.assert_array_equal(features(again, rows(4)), features(backbone, rows(4)))  # type: ignore[arg-type]
    assert again.pretrained == (kind == "fracast") and again.modality == "series"
    copied = again.clone()
    next(iter(copied.parameters())).data.add_(1)
    assert again.fingerprint() == backbone.fingerprint()


def test_rates_gaps_and_channels_are_learned_from_rows() -> None:
    given = rows(5)
    given[0] = given[0]._replace(values=np.where(np.arange(40) < 9, np.nan, given[0].values))
    scale = Scale.of([*given, Series(given[1].values[:, ::2], 25.0)])
    assert (scale.channels, scale.rate, scale.window, scale.gaps) == (2, 50.0, 40, True)
    known = np.concatenate([one.values for one in given[1:]], 1)
    assert abs(scale.mean[0] - known[0].mean()) < 0.2
    backbone = fitted("series-cnn", given)
    half = Series(given[1].values[:, ::2], 25.0)
    assert backbone.encode([half])[0].parts[0].shape == (2, 40)
    batch = backbone.collate(backbone.encode([given[0]]))
    assert float(batch["values"][0, :, :9].abs().max()) == 0 and float(batch["known"][0].sum()) == 2 * 31
    with pytest.raises(UserError, match="series 2 has 1 channel and this model reads 2"):
        backbone.encode([given[1], Series(given[1].values[:1], 50.0)])
    with pytest.raises(UserError, match="knows no channels yet"):
        load("series-cnn").encode(given)


@pytest.mark.parametrize("kind", ["series-cnn", "series-transformer"])
def test_random_weights_are_drawn_by_a_seed_until_something_is_learned(kind: str) -> None:
    one, two = fitted(kind), fitted(kind)
    assert one.fingerprint() == two.fingerprint() and one.untrained and not one.pretrained
    one.reset(1)
    assert one.fingerprint() != two.fingerprint()
    next(iter(one.parameters())).data.add_(1e-3)
    before = one.fingerprint()
    one.reset(2)
    assert one.pretrained and one.fingerprint() == before


@pytest.mark.parametrize("kind", ["series-cnn", "series-transformer"])
def test_frozen_blocks_are_replayed(kind: str) -> None:
    backbone = fitted(kind)
    backbone.blocks[-1].requires_grad_(True)
    encoded = backbone.encode([*rows(3), Series(np.concatenate([one.values for one in rows(2)], 1), 50.0)])
    prefix, said = build(backbone, encoded, "auto", Run(cache=None))
    assert prefix is not None and prefix.depth == 2, said


def test_changes_are_those_of_the_generator_and_leave_the_rest_alone() -> None:
    backbone = fitted("series-cnn")
    short = rows(2)[0]._replace(values=rows(2)[0].values[:, :30])
    batch = backbone.collate(backbone.encode([short, rows(2)[1]]))

    def made(seed: int, strength: float) -> Any:
        return backbone.augment(batch, torch.Generator().manual_seed(seed), strength)["values"]

    assert torch.equal(made(1, 0.0), batch["values"]) and torch.equal(made(1, 1.0), made(1, 1.0))
    assert not torch.equal(made(1, 1.0), made(2, 1.0))
    assert float(made(1, 1.0)[0, :, 30:].abs().max()) == 0
    known = torch.ones(1, 2, 40)
    known[..., :10] = 0
    values, still = changed(
        torch.randn(1, 2, 40) * known, known, torch.tensor([40]), torch.Generator().manual_seed(0), 0.3
    )
    assert float(values[still == 0].abs().max()) == 0


def test_periods_and_profiles_of_fracast_are_those_of_the_wave() -> None:
    from acclimate.backbones.fracast_parts import periods_of, seasonal_profile

    at = torch.arange(240.0)
    wave = torch.sin(2 * torch.pi * at / 12)[None]
    known = torch.ones(1, 240, dtype=torch.bool)
    found = periods_of(wave, known, 256, 4, 0.05)
    assert found[0, 0] == 12 and found.shape == (1, 4)
    noise = torch.randn(1, 240, generator=torch.Generator().manual_seed(3))
    assert int((periods_of(noise, known, 256, 4, 1e-6) > 0).sum()) == 0
    ahead = torch.arange(256, 256 + 24)
    profile = seasonal_profile(wave, known, found[:, :1], ahead, 12)[0]
    for h in range(24):
        same = [float(wave[0, t]) for t in range(240) if (t + 16) % 12 == (256 + h) % 12]
        assert float(profile[h]) == pytest.approx(np.mean(same), abs=1e-5)


@pytest.mark.real
def test_fracast_forecasts_what_its_package_does() -> None:
    at = np.arange(400)
    row = np.sin(2 * np.pi * at / 24) * 3 + 10 + 0.5 * np.cos(2 * np.pi * at / 7) + 0.01 * at
    backbone: Any = load("fracast")
    context = torch.from_numpy(np.pad(row, (1648, 0))).float()[None]
    with torch.inference_mode():
        found = backbone.quantiles(context, torch.arange(2048)[None] >= 1648, 100)[0]
    assert sum(p.numel() for p in backbone.parameters()) == 85_001
    np.testing.assert_allclose(found[[0, 11, 47, 60, 99]][:, [0, 4, 8]], REFERENCE, atol=2e-4)  # of fracast 0.1.0, fp32
