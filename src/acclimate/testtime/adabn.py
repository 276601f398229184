"""AdaBN: what BatchNorm knows of the source is replaced by what the target rows say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone
from acclimate.errors import UserError
from acclimate.features import Store, to_device
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.testtime.base import Adapted, Adapter, by_content
from acclimate.testtime.norms import batch_norms, described


@dataclass(frozen=True)
class AdaBN(Adapter):
    """BatchNorm's means and variances are those of the target rows; no weight moves.

    Formula: for every BatchNorm in turn, from input to output: μ = (1/N) Σ xᵢ, σ² = (1/N) Σ (xᵢ − μ)² over all target
    rows (and places), the layers before it having theirs already. The answers are those that one batch of all rows
    would give; no average over batches, and the order of the rows and the size of the batches do not matter.
    Source: Li et al. (2016), Revisiting Batch Normalization For Practical Domain Adaptation, arXiv:1603.04779,
    algorithm 1.
    Use when: the network has BatchNorm, the target differs by style (camera, lighting, scanner), there are some
    hundred rows, and class shares are about those of training. It reads the target once for each BatchNorm.
    Prefer tent if the network has no BatchNorm; prefer lame or nothing if class shares differ.
    """

    batch_size: int = 64  # of rows read at a time: it sets memory, not the answers

    order_matters: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size is {self.batch_size}; give a whole number from 1 on")

    def check(self, predictor: Predictor) -> None:
        """Refuse a network without BatchNorm."""
        super().check(predictor)
        assert predictor.backbone is not None
        if not batch_norms(predictor.backbone):
            raise UserError(
                f"adabn renews the statistics of BatchNorm, and {predictor.backbone.origin.name} has "
                f"{described(predictor.backbone)}: nothing in it depends on the rows of training but its weights; "
                "use lame or t3a, or tent, which moves scales and shifts of any normalisation"
            )

    def _adapted(self, predictor: Predictor, inputs: Sequence[Any], run: Run, store: Store | None) -> Adapted:
        assert predictor.backbone is not None
        first, which = by_content(inputs, predictor.backbone.modality)
        order = first[np.sort(which)]  # all rows, equal ones beside each other
        network = predictor.backbone.clone().requires_grad_(False).eval().to(run.device)
        renew(network, [inputs[i] for i in order], self.batch_size, run)
        rows = [inputs[i] for i in first]
        logits = replace(predictor, backbone=network).logits(rows, run)
        plain = predictor.logits(rows, run, store)
        return Adapted(logits[which], plain[which])


def renew(network: Backbone, inputs: Sequence[Any], batch_size: int, run: Run) -> None:
    """Give every BatchNorm the statistics that all these rows have where it stands."""
    batches = [inputs[at : at + batch_size] for at in range(0, len(inputs), batch_size)]
    layers = _in_use(network, batches[0], run)
    with run.progress.steps("statistics", len(layers)) as advance:
        for layer, calls in layers.items():
            moments = Moments()
            for batch in batches:
                with _listening(layer, moments, stop=calls == 1):
                    _read(network, batch, run)
            if moments.count < 2:
                raise UserError("adabn needs two rows or more: one has no variance; predict without --adapt")
            assert layer.running_mean is not None and layer.running_var is not None
            layer.running_mean.copy_(moments.mean)
            layer.running_var.copy_(moments.squares / moments.count)
            advance(1)


class Moments:
    """Mean and sum of squared deviations of each channel, in 64-bit, merged batch by batch (Chan et al. 1983).

    Nothing is read back from the device: counts come from shapes.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Values (n, c, ...)."""
        flat = values.detach().double().transpose(0, 1).flatten(1)  # (c, m)
        m = flat.shape[1]
        mean = flat.mean(1)
        squares = (flat - mean[:, None]).square().sum(1)
        if self.count:
            apart = mean - self.mean
            total = self.count + m
            squares = self.squares + squares + apart.square() * (self.count * m / total)
            mean = self.mean + apart * (m / total)
        self.count, self.mean, self.squares = self.count + m, mean, squares


class _Enough(Exception):
    """What lies above the layer need not be computed."""


@contextmanager
def _listening(layer: nn.Module, moments: Moments, *, stop: bool) -> Iterator[None]:
    def listen(module: nn.Module, given: tuple[Any, ...]) -> None:
        moments.add(given[0])
        if stop:
            raise _Enough

    handle = layer.register_forward_pre_hook(listen)
    try:
        yield
    except _Enough:
        pass
    finally:
        handle.remove()


def _in_use(network: Backbone, batch: Sequence[Any], run: Run) -> dict[Any, int]:
    """Every BatchNorm that takes part, in the order in which it does, and how often it is called."""
    calls: dict[Any, int] = {}

    def count(module: nn.Module, given: tuple[Any, ...]) -> None:
        calls[module] = calls.get(module, 0) + 1

    handles = [layer.register_forward_pre_hook(count) for layer in batch_norms(network)]
    try:
        _read(network, batch, run)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _read(network: Backbone, batch: Sequence[Any], run: Run) -> None:
    # No parameter asks for a gradient, so none is made; without this a picture network would read the batch in parts.
    with torch.enable_grad():
        network(to_device(network.collate(network.encode(batch)), run.device))
