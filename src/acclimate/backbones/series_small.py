"""Two small networks for series that start from random weights; `load_series`, the way to every backbone of series."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Origin
from acclimate.backbones.series import Scale, SeriesBackbone
from acclimate.errors import UserError

CNN, TRANSFORMER = "series-cnn", "series-transformer"
WIDTH = 64
_LEAST = 32  # steps from which on a layer of the convolutions leaves out every second
_LAYERS, _HEADS, _DROPOUT = 3, 4, 0.1
_PLACE = 0.1  # how much the place of a patch counts beside its values: those of a quiet series are small
_PATCHES = 16  # of a window, at least, where it has so many steps


class _Convolution(nn.Module):
    """GELU(LayerNorm(conv x)) beside a shortcut; LayerNorm over the channels of a step, so that no row sees another."""

    def __init__(self, width: int, step: int) -> None:
        super().__init__()
        self.step = step
        self.first = nn.Conv1d(width, width, 5, stride=step, padding=2)
        self.second = nn.Conv1d(width, width, 3, padding=1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, hidden: Tensor, inside: Tensor) -> Tensor:
        """(w, t, d) and which of the steps that come out hold something (w, t'); (w, t', d)."""
        within = inside[..., None].to(hidden.dtype)
        found = self.first(hidden.transpose(1, 2)).transpose(1, 2)
        found = F.gelu(self.norms[0](found)) * within
        found = self.norms[1](self.second(found.transpose(1, 2)).transpose(1, 2))
        out: Tensor = F.gelu(hidden[:, :: self.step] + found) * within
        return out


class _Attention(nn.Module):
    """A transformer layer with its norms first, over the patches that hold something."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, hidden: Tensor, inside: Tensor) -> Tensor:
        """(w, p, d) and which patches hold something (w, p); (w, p, d)."""
        w, p, d = hidden.shape
        query, key, value = self.mix(self.norms[0](hidden)).view(w, p, 3, _HEADS, d // _HEADS).unbind(2)
        mask = inside[:, None, None, :]
        read = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
        )
        hidden = hidden + self.dropout(self.out(read.transpose(1, 2).reshape(w, p, d)))
        out: Tensor = hidden + self.dropout(self.outer(F.gelu(self.inner(self.norms[1](hidden)))))
        return out


class SmallSeries(SeriesBackbone):
    """A small network over steps or patches; features are mean and largest value over those that hold something."""

    width = 2 * WIDTH
    random_rate = 1e-3

    def __init__(self, scale: Scale | None = None, origin: Origin | None = None, seed: int = 0) -> None:
        super().__init__(scale, origin)
        self.seed = seed
        self.inputs = 0 if scale is None else scale.channels * (2 if scale.gaps else 1)
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
            self.build()
        self._put(self._drawn())
        self.eval()

    @abstractmethod
    def build(self) -> None:
        """Make the layers."""

    @abstractmethod
    def states(self, values: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """(w, inputs, t) and steps (w,) to hidden states (w, p, d) and which of them hold something (w, p)."""

    def fitted(self, scale: Scale) -> Self:
        """With new weights, and all of them frozen or free as here."""
        return type(self)(scale, self.origin, self.seed)

    @property
    def pretrained(self) -> bool:  # type: ignore[override]
        """Whether something was learned already: weights are then not those of their seed."""
        drawn = self._drawn()
        return not all(torch.equal(p.detach().cpu(), drawn[name]) for name, p in self.named_parameters())

    def reset(self, seed: int) -> None:
        """New random weights, unless something was learned already."""
        if not self.pretrained:
            self.seed = seed
            self._put(self._drawn())

    def _drawn(self) -> dict[str, Tensor]:
        """Random weights: of matrices uniform by the inputs of each output (He et al. 2015), norms 1, biases 0."""
        generator = torch.Generator().manual_seed(self.seed)
        found = {}
        for name, parameter in self.named_parameters():
            fresh = torch.zeros(parameter.shape)
            if parameter.ndim > 1:
                nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=generator)
            elif name.endswith("weight"):
                fresh.fill_(1.0)
            found[name] = fresh
        return found

    def _put(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(weights[name])

    def read(self, batch: Batch) -> Tensor:
        """What the first layer is given, (w, inputs, t)."""
        return torch.cat([batch["values"], batch["known"]], 1) if self.known.gaps else batch["values"]

    def vectors(self, batch: Batch) -> Tensor:
        """Mean and largest value (w, 2 d) over what holds something."""
        hidden, inside = self.states(self.read(batch), batch["sizes"])
        within = inside[..., None].to(hidden.dtype)
        mean = (hidden * within).sum(1) / within.sum(1).clamp(min=1)
        largest = hidden.masked_fill(~inside[..., None], -torch.inf).amax(1)
        return torch.cat([mean, largest], 1)

    def config(self) -> dict[str, Any]:
        """The seed of the random weights."""
        return {"seed": self.seed}


class SeriesCnn(SmallSeries):
    """A residual convolutional network of three blocks over time, 64 wide, with random weights.

    h = GELU(LN(conv₇ x)), three times h ← GELU(h + LN(conv₃ GELU(LN(conv₅ h)))); a block leaves out every second step
    while 32 are left. Features: mean and largest value over time. The form of ResNet in Wang et al. 2017
    (arXiv:1611.06455), with LayerNorm of each step in the place of BatchNorm, so that a row is judged alike whatever
    its batch-mates.

    Use when: the class shows in short patterns, wherever they stand. Prefer `fracast` for forecasts.
    """

    architecture = CNN

    def build(self) -> None:
        """The stem and three blocks."""
        window = 0 if self.scale is None else self.scale.window
        self.stem = nn.Conv1d(max(1, self.inputs), WIDTH, 7, padding=3)
        self.norm = nn.LayerNorm(WIDTH)
        layers = []
        for _ in range(_LAYERS):
            step = 2 if window >= 2 * _LEAST else 1
            window = -(-window // step)
            layers.append(_Convolution(WIDTH, step))
        self.layers = nn.ModuleList(layers)

    def states(self, values: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """One state a step that is left."""
        at = torch.arange(values.shape[2], device=values.device)
        inside = at < sizes[:, None]
        hidden = F.gelu(self.norm(self.stem(values).transpose(1, 2))) * inside[..., None].to(values.dtype)
        for layer in self.layers:
            inside = inside[:, :: int(layer.step)]  # type: ignore[arg-type]
            hidden = layer(hidden, inside)
        return hidden, inside

    @property
    def blocks(self) -> list[nn.Module]:
        """The three blocks."""
        return list(self.layers)


class SeriesTransformer(SmallSeries):
    """A transformer of three layers over patches of all channels, 64 wide, with random weights.

    A window is cut into patches of at most 16 steps (16 patches at least, where it has so many), each projected to 64
    numbers with its place by sines; the form of Nie et al. 2023 (arXiv:2211.14730), with the channels mixed in the
    patch. Features: mean and largest value over patches.

    Use when: there are many series, or unlabelled ones to pretrain on (`--pretrain masked_steps`). Prefer `series-cnn`
    with few.
    """

    architecture = TRANSFORMER

    def build(self) -> None:
        """The projection of patches and three layers."""
        window = 1 if self.scale is None else self.scale.window
        self.patch = max(1, min(16, window // _PATCHES))
        self.stem = nn.Linear(max(1, self.inputs) * self.patch, WIDTH)
        self.layers = nn.ModuleList(_Attention(WIDTH) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(WIDTH)

    def states(self, values: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """One state a patch."""
        padded = F.pad(values, (0, -values.shape[2] % self.patch))
        patches = padded.unfold(2, self.patch, self.patch).permute(0, 2, 1, 3).flatten(2)  # (w, p, inputs * patch)
        inside = torch.arange(patches.shape[1], device=values.device) * self.patch < sizes[:, None]
        hidden = self.stem(patches) + _PLACE * places(patches.shape[1]).to(patches)
        for layer in self.layers:
            hidden = layer(hidden, inside)
        return self.norm(hidden), inside

    @property
    def blocks(self) -> list[nn.Module]:
        """The three layers."""
        return list(self.layers)


def places(count: int) -> Tensor:
    """Sines and cosines of each place (p, 64), of wavelengths from 2π to 10,000 (Vaswani et al. 2017)."""
    angle = torch.arange(count)[:, None] / 10_000 ** (torch.arange(WIDTH // 2) / (WIDTH // 2))
    return torch.cat([angle.sin(), angle.cos()], 1)


NETWORKS: dict[str, type[SmallSeries]] = {CNN: SeriesCnn, TRANSFORMER: SeriesTransformer}


def load_series(path: str, origin: Origin) -> SeriesBackbone:
    """ "series-cnn" or "series-transformer" with random weights, which know no channels yet; or a saved folder."""
    if path in NETWORKS and not Path(path).exists():
        return NETWORKS[path]()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        if about["model_type"] not in NETWORKS:
            from acclimate.backbones.fracast import load_fracast

            return load_fracast(Path(path), about, origin)
        made = NETWORKS[about["model_type"]]
        backbone = made(Scale.from_json(about["scale"]), Origin(**about["origin"]), int(about["seed"]))
        backbone.load_state_dict(load_file(Path(path) / "model.safetensors"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load the model {origin.name!r}: {first}") from error
    backbone.requires_grad_(False)
    return backbone
