"""Pseudo-labels by the nearest centroid, written out as slow loops."""

from __future__ import annotations

import math

import numpy as np
import torch

from acclimate.strategies.sourcefree import pseudo_labels


def test_pseudo_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(12, 3, generator=generator)
    p = torch.softmax(2 * torch.randn(12, 3, generator=generator), 1)
    unit = []
    for row in h.tolist():
        longer = [*row, 1.0]
        length = math.sqrt(sum(v * v for v in longer))
        unit.append([v / length for v in longer])
    mass, labels = p.tolist(), p.argmax(1).tolist()
    for _ in range(2):
        near = []
        for i in range(12):
            cosines = []
            for k in range(3):
                total = sum(mass[j][k] for j in range(12))
                centre = [sum(mass[j][k] * unit[j][c] for j in range(12)) / max(total, 1e-8) for c in range(4)]
                size = math.sqrt(sum(c * c for c in centre))
                dot = sum(a * b for a, b in zip(unit[i], centre, strict=True))
                cosines.append(dot / size if k in labels else -math.inf)
            near.append(int(np.argmax(cosines)))
        labels = near
        mass = [[float(k == y) for k in range(3)] for y in labels]
    assert pseudo_labels(h, p).tolist() == labels
    assert len(set(labels)) > 1


def test_a_class_without_rows_takes_none() -> None:
    p = torch.tensor([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0]])
    assert 2 not in pseudo_labels(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), p).tolist()
