"""Image models in Hugging Face's own format (DINOv2, ViT, ConvNeXt, Swin ...), read as the timm ones are."""

from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Origin
from acclimate.backbones.image import ImageBackbone, Stored, stored_settings
from acclimate.backbones.image_pixels import FILTERS, ImageSettings
from acclimate.backbones.image_sizes import side_of
from acclimate.errors import UserError
from acclimate.files import read_object

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Pooled(nn.Module):
    """A model of the hub that gives one vector a picture: its class token, else the mean over all places."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.first = any(name.endswith("cls_token") for name, _ in inner.named_parameters())
        self.more: dict[str, bool] = {}  # arguments of the model's forward

    def read_at(self, size: int) -> None:
        """Positions are interpolated where pictures have another size than the config says, as the model itself does
        it; some models do so unasked."""
        made_for, takes = side_of(getattr(self.inner.config, "image_size", None)), signature(self.inner.forward)
        ask = made_for not in (None, size) and "interpolate_pos_encoding" in takes.parameters
        self.more = {"interpolate_pos_encoding": True} if ask else {}

    def hidden(self, pixels: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, d, h, w) of convolutions, (n, places, d) of the others."""
        states: Tensor = self.inner(pixel_values=pixels, **self.more).last_hidden_state
        return states

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, 3, s, s) -> (n, d)."""
        hidden = self.hidden(pixels)
        if hidden.ndim == 4:  # (n, d, h, w), as convolutions give it
            return hidden.mean((2, 3))
        return hidden[:, 0] if self.first else hidden.mean(1)

    @property
    def blocks(self) -> nn.ModuleList:
        """The longest list of like layers."""
        lists = [m for m in self.inner.modules() if isinstance(m, nn.ModuleList) and len({type(b) for b in m}) == 1]
        return max(lists, key=len, default=nn.ModuleList())


class HubImage(ImageBackbone):
    """Saved as a plain Hugging Face folder."""

    def save(self, folder: Path) -> None:
        """The model's own files, and the settings of the preprocessing beside them."""
        from acclimate.backbones.hushed import quiet_transformers

        with quiet_transformers():
            self.model.inner.save_pretrained(folder)
        self.save_settings(folder)

    def _patch(self) -> int:
        pixels = torch.zeros(1, 3, self.image.size, self.image.size)
        with torch.no_grad():
            slides = self.model.hidden(pixels).ndim == 4  # a map: "patch_size" is but the stride of a convolution
        return 1 if slides else side_of(getattr(self.model.inner.config, "patch_size", None)) or 1

    def _adjust(self, model: Any, size: int) -> None:
        model.read_at(size)


def load_hub_image(path: str, origin: Origin, image_size: int | None = None) -> HubImage:
    """Load a Hugging Face name or folder of an image model, with the preprocessing that is stored beside it."""
    from safetensors import SafetensorError
    from transformers import AutoModel

    from acclimate.backbones.hushed import quiet_transformers

    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # what a file lacks is drawn at random
        try:
            model, info = AutoModel.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load the image model {origin.name!r}: {first}") from error
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)
    if missing:
        raise UserError(
            f"the weights of {origin.name!r} lack {len(missing)} parameters, first {missing[0]!r}: they would be "
            "random. The file is incomplete or belongs to another architecture."
        )
    if isinstance(getattr(model, "pooler", None), nn.Module):
        model.pooler = nn.Identity()  # never read, and perhaps never trained
    found = stored_settings(Path(path)) or Stored(_settings(path, model.config), origin)
    network = Pooled(model.eval()).requires_grad_(False)
    network.read_at(found.image.size)
    backbone = HubImage(network, str(model.config.model_type), found.image, found.origin, found.own_size)
    backbone.start_with(found.runtime)
    return backbone.at_size(image_size)


def _settings(path: str, config: Any) -> ImageSettings:
    """From preprocessor_config.json; what it leaves out is ImageNet's usual."""
    found = read_object(Path(path) / "preprocessor_config.json") or _of_the_hub(path)
    whole, cut = side_of(found.get("size")), side_of(found.get("crop_size")) if found.get("do_center_crop") else None
    size = cut or whole or side_of(getattr(config, "image_size", None)) or 224
    plain = found.get("do_normalize") is False
    mean, std = ((0.0,) * 3, (1.0,) * 3) if plain else _IMAGENET
    names = {number: name for name, number in FILTERS.items()}
    return ImageSettings(
        size=size,
        crop=size / max(size, whole or size),
        mean=mean if plain else tuple(found.get("image_mean") or mean),
        std=std if plain else tuple(found.get("image_std") or std),
        interpolation=names.get(found.get("resample", 3), "bicubic"),
    )


def _of_the_hub(path: str) -> dict[str, Any]:
    from transformers.utils.hub import cached_file

    try:
        file = None if Path(path).exists() else cached_file(path, "preprocessor_config.json")
        return {} if file is None else dict(json.loads(Path(file).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
