"""A small convolutional network for small grey pictures, with random weights: trained from the start, on a CPU."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from acclimate.backbones.augment import affine
from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.data.pictures import is_file, opened
from acclimate.errors import UserError
from acclimate.files import json_text

NAME = "small-cnn"
SIDE = 8  # without a number in the name
LEAST, MOST = 8, 64  # pixels a side: below, nothing is left to pool; above, four layers see too little of it
WIDTH = 64
_COST = 8  # of a picture, in tokens of a text
_BOX = 4  # Pillow's number of the filter that averages


class BatchNormOfSeveral(nn.BatchNorm1d):
    """BatchNorm that reads a batch of one by what it has seen before: one row has no spread of its own."""

    def forward(self, rows: Tensor) -> Tensor:
        """(n, d) to (n, d)."""
        if not self.training or len(rows) > 1:
            return super().forward(rows)
        return F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class SmallCnn(Backbone):
    """Three convolutions and one full layer, each with BatchNorm: 44,704 weights at 8 x 8 pixels, 64 features."""

    modality = "image"
    width = WIDTH

    def __init__(self, side: int = SIDE, origin: Origin | None = None, seed: int = 0) -> None:
        super().__init__()
        if not LEAST <= side <= MOST:
            raise UserError(f"{NAME} reads pictures of {LEAST} to {MOST} pixels a side, not {side}")
        self.side = side
        self.origin = origin or Origin(NAME, "none needed", "random weights")
        flat = 64 * (side // 4) ** 2
        with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
            self.model = nn.Sequential(
                nn.Sequential(*_convolution(1, 32)),
                nn.Sequential(*_convolution(32, 32), nn.MaxPool2d(2)),
                nn.Sequential(*_convolution(32, 64), nn.MaxPool2d(2)),
                nn.Sequential(nn.Flatten(), nn.Linear(flat, WIDTH, bias=False), BatchNormOfSeveral(WIDTH), nn.ReLU()),
            )
        self.reset(seed)
        self.eval()

    @property
    def pretrained(self) -> bool:  # type: ignore[override]
        """Whether something was learned already: its BatchNorm layers have then counted batches."""
        return any(name.endswith("num_batches_tracked") and count > 0 for name, count in self.named_buffers())

    def reset(self, seed: int) -> None:
        """New random weights, unless something was learned already."""
        if self.pretrained:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in self.model.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):
                    fresh = torch.empty(module.weight.shape)
                    nn.init.kaiming_uniform_(fresh, nonlinearity="relu")
                    module.weight.data.copy_(fresh)
                elif isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                    module.reset_parameters()

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Arrays (h, w) of bytes or of floats from 0 to 1, Pillow pictures or paths, to squares of floats."""
        return [Encoded((_grey(value, self.side),), _COST) for value in inputs]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pixels (n, 1, s, s) from 0 to 1."""
        return {"pixels": torch.from_numpy(np.stack([row.parts[0] for row in rows])).unsqueeze(1)}

    def forward(self, batch: Batch) -> Tensor:
        """Features (n, 64)."""
        features: Tensor = self.model(batch["pixels"])
        return features

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """Each picture turned, scaled, slanted and shifted at random (`augment.affine`), black coming into view."""
        return {**batch, "pixels": affine(batch["pixels"], generator, strength)}

    @property
    def blocks(self) -> list[nn.Module]:
        """The four layers."""
        return list(self.model)

    def settings(self) -> dict[str, object]:
        """The side; pixels are read from 0 to 1."""
        return {"modality": "image", "architecture": NAME, "side": self.side}

    def save(self, folder: Path) -> None:
        """config.json and model.safetensors."""
        from safetensors.torch import save_file

        about = {"model_type": NAME, "side": self.side, "origin": asdict(self.origin)}
        (folder / "config.json").write_text(json_text(about, indent=1), encoding="utf-8")
        state = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    def clone(self) -> SmallCnn:
        """A copy with weights of its own."""
        return copy.deepcopy(self)


def load_small(path: str, origin: Origin, image_size: int | None = None) -> SmallCnn:
    """ "small-cnn" or "small-cnn:SIDE" with random weights, always the same ones; or a folder that `save` wrote."""
    if not (Path(path) / "config.json").is_file():
        side = path.partition(":")[2] or str(image_size or SIDE)
        if not side.isdigit():
            raise UserError(f"{path!r} is not understood; give {NAME} or {NAME}:SIDE, such as {NAME}:28")
        fresh = SmallCnn(int(side), Origin(path, "none needed", "random weights"))
        return _of_size(fresh, image_size)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        about = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        backbone = SmallCnn(int(about["side"]), Origin(**about["origin"]))
        backbone.model.load_state_dict(load_file(Path(path) / "model.safetensors"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load the model {origin.name!r}: {first}") from error
    backbone.requires_grad_(False)
    return _of_size(backbone, image_size)


def _of_size(backbone: SmallCnn, image_size: int | None) -> SmallCnn:
    if image_size not in (None, backbone.side):
        raise UserError(
            f"image_size {image_size!r}: {backbone.origin.name!r} reads {backbone.side} pixels a side, which its full "
            f"layer is made for; leave it out, or train {NAME}:SIDE anew"
        )
    return backbone


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _grey(value: Any, side: int) -> NDArray[np.float32]:
    """One picture as (side, side) floats from 0 to 1; what has another size is averaged down to it, or stretched."""
    from PIL import Image

    if is_file(value) or isinstance(value, Image.Image) or np.ndim(value) == 3:
        values = np.asarray(opened(value).convert("L"), np.float32) / np.float32(255)
    else:
        values = _numbers(np.asarray(value))
    if values.shape != (side, side):
        values = np.asarray(Image.fromarray(values).resize((side, side), _BOX))
    return np.ascontiguousarray(values, np.float32)


def _numbers(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.ndim != 2 or not array.size:
        raise UserError(f"{NAME} reads grey pictures as arrays (height, width), not of the shape {array.shape}")
    values = array.astype(np.float32)
    if array.dtype == np.uint8:
        return values / np.float32(255)
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise UserError(
            f"{NAME} reads bytes from 0 to 255 or numbers from 0 to 1, and an array of {array.dtype} holds "
            f"{values.min():g} to {values.max():g}; divide by the largest value that a pixel can have"
        )
    return values
