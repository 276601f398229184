"""Spectra: the numbers of the docstring, and what can be heard in them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import tiny_sounds as ts
from acclimate.plain import fit_plain, load, save
from acclimate.plain.spectra import SpectrumFeatures, cepstra, statistics

pytest.importorskip("soundfile", reason="sounds need the `audio` extra")


def test_coefficients_are_those_of_the_formula() -> None:
    line = ts.sounds(1)[0][0][:1200]
    found = cepstra(line)
    assert found.shape == (6, 13)
    mel = np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 28)
    edges = [700 * (10 ** (m / 2595) - 1) for m in mel]
    for t in (0, 5):
        frame = [float(line[160 * t + i]) * (0.5 - 0.5 * math.cos(2 * math.pi * i / 399)) for i in range(400)]
        power = np.abs(np.fft.fft(frame, 512)[:257]) ** 2
        logs = []
        for low, peak, high in zip(edges, edges[1:], edges[2:], strict=False):
            energy = 0.0
            for k in range(257):
                f = k * 16000 / 512
                height = (f - low) / (peak - low) if low < f <= peak else (high - f) / (high - peak) if peak < f else 0
                energy += max(0.0, height) * power[k]
            logs.append(math.log(energy + 1e-8))
        for c in range(13):
            scale = math.sqrt((1 if c == 0 else 2) / 26)
            value = scale * sum(x * math.cos(math.pi * c * (2 * j + 1) / 52) for j, x in enumerate(logs))
            assert found[t, c] == pytest.approx(value, abs=1e-6)


def test_statistics_are_mean_and_spread_of_values_and_differences() -> None:
    line = ts.sounds(1)[0][0]
    found, values = cepstra(line), statistics(line)
    steps = found[1:] - found[:-1]
    expected = [*found.mean(0), *found.std(0), *steps.mean(0), *steps.std(0), math.log(len(line) / 16000)]
    np.testing.assert_allclose(values, expected)
    assert np.isfinite(statistics(np.ones(3, np.float32))).all()  # less than one frame


def test_features_are_standardised_by_the_training_rows_and_survive_saving(tmp_path: Path) -> None:
    given = ts.sounds(8)
    plain = fit_plain("audio", given, 10)
    assert isinstance(plain, SpectrumFeatures) and plain.width == 53 and plain.holds == ""
    values = plain.transform(given).toarray() * np.sqrt(53)
    np.testing.assert_allclose(values.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(values.std(0), 1, atol=1e-9)
    save(plain, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, SpectrumFeatures)
    np.testing.assert_array_equal(again.transform(given).toarray(), plain.transform(given).toarray())
    assert SpectrumFeatures.raw([]).shape == (0, 53)


def test_a_constant_column_is_left_at_zero() -> None:
    one = ts.sounds(1)
    plain = fit_plain("audio", one * 3, 10)
    assert plain is not None and np.abs(plain.transform(one).toarray()).max() < 1e-12
