"""Image backbones: any timm model, from the catalogue, by "timm:NAME" or from a timm folder, pooled to one vector."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.errors import UserError

_SETTINGS = "acclimate_image.json"
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


@dataclass(frozen=True)
class ImageSettings:
    """How a picture becomes a tensor. Pillow resizes, whatever else is installed: two back ends differ visibly."""

    size: int
    crop: float  # the share of the resized picture that the centre crop keeps
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    backend: str = "pil"


class ImageBackbone(Backbone):
    """A timm model without its classifier. `forward` gives (n, d), pooled as the model itself pools."""

    modality = "image"

    def __init__(self, model: nn.Module, architecture: str, settings: ImageSettings, origin: Origin) -> None:
        super().__init__()
        self.model: Any = model
        self.architecture = architecture
        self.image = settings
        self.origin = origin
        with torch.no_grad():
            probe = model.eval()(torch.zeros(1, 3, settings.size, settings.size))
        self.width = int(probe.shape[1])

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Paths, Pillow images or arrays (h, w, 3) to normalised tensors (3, s, s)."""
        return [Encoded((self._tensor(x),), self.image.size**2) for x in inputs]

    def _tensor(self, value: Any) -> Tensor:
        """Resize the shorter side to size/crop, cut the centre, scale to [0, 1], standardise by mean and spread."""
        from PIL import Image, ImageOps

        if isinstance(value, (str, Path)):
            try:
                with Image.open(value) as opened:
                    picture = ImageOps.exif_transpose(opened).convert("RGB")
            except (OSError, ValueError, SyntaxError) as error:
                raise UserError(f"{value} cannot be read as a picture: {error}") from error
        else:
            picture = (value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value))).convert("RGB")
        side, size = math.floor(self.image.size / self.image.crop), self.image.size
        ratio = side / min(picture.size)
        scaled = (max(size, round(picture.width * ratio)), max(size, round(picture.height * ratio)))
        picture = picture.resize(scaled, _FILTERS[self.image.interpolation])
        left, top = (picture.width - size) // 2, (picture.height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
        pixels = torch.from_numpy(np.asarray(picture, np.float32).copy()).permute(2, 0, 1) / 255
        mean, std = torch.tensor(self.image.mean), torch.tensor(self.image.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pixels (n, 3, s, s)."""
        return {"pixels": torch.stack([row.parts[0] for row in rows]), "rows": torch.arange(len(rows))}

    def forward(self, batch: Batch) -> Tensor:
        """Pooled features, (n, d)."""
        features: Tensor = self.model(batch["pixels"])
        return features

    @property
    def blocks(self) -> list[nn.Module]:
        """The model's own `blocks` or `stages`, in order; the parts of a stage are blocks of their own."""
        for name in ("blocks", "stages", "layers"):
            found = getattr(self.model, name, None)
            if isinstance(found, (nn.Sequential, nn.ModuleList)):
                nested = [list(part) if isinstance(part, nn.Sequential) else [part] for part in found]
                return [block for part in nested for block in part]
        return [m for name, m in self.model.named_children() if name.startswith("layer")]

    def settings(self) -> dict[str, object]:
        """Size, crop, mean, spread, interpolation and the library that resizes."""
        return {"modality": "image", "architecture": self.architecture, **asdict(self.image)}

    def clone(self) -> ImageBackbone:
        """A copy with weights of its own."""
        return ImageBackbone(copy.deepcopy(self.model), self.architecture, self.image, self.origin)

    def save(self, folder: Path) -> None:
        """A timm folder: config.json with the architecture, model.safetensors, and the settings above."""
        from safetensors.torch import save_file

        config = {"architecture": self.architecture, "num_classes": 0, "num_features": self.width}
        (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        state = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        about = {**asdict(self.image), "origin": asdict(self.origin)}
        (folder / _SETTINGS).write_text(json.dumps(about, indent=1), encoding="utf-8")


def load_image(path: str, origin: Origin) -> ImageBackbone:
    """Load a timm folder, or "timm:NAME" (from its hub, or its cache). The classifier is left out."""
    try:
        import timm
    except ImportError as error:
        raise UserError("image models need timm and torchvision: pip install 'acclimate[image]'") from error
    folder = Path(path)
    model: Any
    try:
        if path.startswith("timm:"):
            model = timm.create_model(path[5:], pretrained=True, num_classes=0)
        else:
            model = _from_folder(folder)
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load the image model {origin.name!r}: {first}") from error
    stored = folder / _SETTINGS
    if stored.is_file():
        values: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8"))
        origin = Origin(**values.pop("origin"))
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        settings = ImageSettings(**given)
    else:
        settings = _settings_of(model.pretrained_cfg)
    return ImageBackbone(
        model.eval().requires_grad_(False), str(model.pretrained_cfg["architecture"]), settings, origin
    )


def _from_folder(folder: Path) -> Any:
    import timm
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model: Any = timm.create_model(config["architecture"], pretrained=False, num_classes=0)
    stored = config.get("pretrained_cfg") or {}
    model.pretrained_cfg = {**model.pretrained_cfg, **stored, "architecture": config["architecture"]}
    state = load_file(folder / "model.safetensors")
    kept = set(model.state_dict())
    missing = sorted(kept - set(state) - {k for k in kept if k.endswith("num_batches_tracked")})
    if missing:
        raise UserError(
            f"{folder}: the weights lack {len(missing)} parameters, first {missing[0]!r}: they would be random"
        )
    model.load_state_dict({k: v for k, v in state.items() if k in kept}, strict=False)
    return model


def _settings_of(config: dict[str, Any]) -> ImageSettings:
    return ImageSettings(
        size=int(config["input_size"][-1]),
        crop=float(config.get("crop_pct") or 1.0),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=str(config.get("interpolation", "bicubic")),
    )
