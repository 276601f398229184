"""LAME: rows that look alike are given alike answers; the network and its head stay as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from acclimate.errors import UserError, plural
from acclimate.features import Features, Store
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.tasks.base import Floats
from acclimate.testtime.base import Adapted, Adapter, by_content, seen

CELLS = 1 << 24  # similarities held at a time
TOLERANCE = 1e-8
MOST_DAMPING = 1e6


@dataclass(frozen=True)
class Lame(Adapter):
    """The probabilities nearest to the model's own under which neighbours agree.

    Formula: least over z on the simplex of E(Z) = Σᵢ KL(zᵢ‖qᵢ) − (strength/2) Σᵢⱼ wᵢⱼ zᵢ·zⱼ, q the model's
    probabilities (after its temperature), W = (A + Aᵀ)/2, aᵢⱼ = 1 where j is one of the `neighbours` rows nearest to
    i by cosine. From Z = Q: zᵢ ∝ qᵢ·exp(strength·Σⱼ wᵢⱼ zⱼ), all rows at once, which minimises a bound that the
    tangent of the second term gives where W is positive semi-definite. The W of nearest neighbours is not always so:
    where that step would raise E, zᵢ ∝ (qᵢ·zᵢᵗ·exp(strength·Σⱼ wᵢⱼ zⱼ))^{1/(1+t)} with t = ½, 1, 2, ... takes its
    place, which minimises the same bound plus t·Σ KL(zᵢ‖zᵢ before), so that E never rises.
    Source: Boudiaf et al. (2022), Parameter-free Online Test-time Adaptation, CVPR, arXiv:2201.05718, section 4.
    Use when: rows come in groups that look alike (bursts, sessions, one topic after the other) and a labelled sample
    shows that it helps: on mixed texts it lost 1 to 10 points every time, and up to 30 where the model was unsure. No
    weight moves; the order of the rows does not matter. Memory grows with n·neighbours, time with n².
    Prefer tent or adabn if the features themselves are wrong on the target: neighbours then agree on errors.
    """

    neighbours: int = 5
    strength: float = 1.0
    steps: int = 100  # at most

    order_matters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.steps < 1:
            raise UserError(f"neighbours is {self.neighbours} and steps {self.steps}; give whole numbers from 1 on")
        if not (self.strength >= 0 and math.isfinite(self.strength)):
            raise UserError(f"strength is {self.strength}; give a number from 0 on, such as 1.0")

    def _adapted(self, predictor: Predictor, inputs: Sequence[Any], run: Run, store: Store | None) -> Adapted:
        assert predictor.backbone is not None
        first, which = by_content(inputs, predictor.backbone.modality)
        features, plain = seen(predictor, [inputs[i] for i in first], run, store)
        heat = predictor.decoder.temperature
        log_q = _log_softmax(plain / heat)
        log_z, energies = agreed(log_q, affinity(features, self.neighbours), self.strength, self.steps)
        notes: tuple[str, ...] = ()
        if len(energies) > self.steps:
            notes = (
                f"lame was still moving after {plural(self.steps, 'step')}; give more with "
                f"lame:steps={10 * self.steps}",
            )
        return Adapted((heat * log_z)[which], plain[which], notes)


def affinity(features: Features, neighbours: int) -> sparse.csr_array:
    """W = (A + Aᵀ)/2, (n, n) sparse: 1 where each of two rows is among the other's nearest by cosine, ½ where one is.

    Of equally near rows the earlier is taken. Computed in blocks: no n × n numbers at once.
    """
    n = len(features)
    k = min(neighbours, n - 1)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0, lengths, 1)
    block = max(1, CELLS // max(1, n))
    nearest = np.empty((n, k), np.int64)
    for start in range(0, n, block):
        near = unit[start : start + block] @ unit.T
        rows = np.arange(len(near))
        near[rows, rows + start] = -np.inf
        nearest[start : start + block] = _largest(near, k)
    ones = np.ones(n * k)
    a = sparse.csr_array((ones, (np.repeat(np.arange(n), k), nearest.reshape(-1))), shape=(n, n))
    return sparse.csr_array((a + a.T) / 2)


def _largest(values: Floats, k: int) -> Floats:
    """Columns of the k largest of each row, the earlier of equal ones."""
    if not k:
        return np.empty((len(values), 0), np.int64)
    least = -np.partition(-values, k - 1, axis=1)[:, k - 1 : k]  # the k-th largest
    above, equal = values > least, values == least
    room = k - above.sum(1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return np.nonzero(chosen)[1].reshape(len(values), k)


def agreed(log_q: Floats, weights: Any, strength: float, steps: int) -> tuple[Floats, list[float]]:
    """log Z (n, K) where E falls no more, and E at the start and after every step."""
    log_z = log_q
    pull = strength * (weights @ np.exp(log_z))
    energies = [_energy(log_z, log_q, pull)]
    for _ in range(steps):
        damping = 0.0
        while True:
            new = _log_softmax((log_q + damping * log_z + pull) / (1 + damping))
            pulled = strength * (weights @ np.exp(new))
            energy = _energy(new, log_q, pulled)
            if energy <= energies[-1] or damping > MOST_DAMPING:
                break
            damping = 2 * damping or 0.5
        if energy > energies[-1]:  # by rounding alone: there is nothing left to gain
            break
        gained = energies[-1] - energy
        log_z, pull = new, pulled
        energies.append(energy)
        if gained <= TOLERANCE * abs(energy):
            break
    return log_z, energies


def _energy(log_z: Floats, log_q: Floats, pull: Floats) -> float:
    z = np.exp(log_z)
    return float((z * (log_z - log_q - pull / 2)).sum())


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
