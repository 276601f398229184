"""Hugging Face models that find objects or label pixels, taken whole: DETR, YOLOS, SegFormer and their like."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.image_pixels import FILTERS, ImageSettings
from acclimate.errors import UserError
from acclimate.files import json_text, read_object

_SETTINGS = "acclimate_vision.json"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_COST = 256


def is_hub(model: str, ending: str) -> bool:
    """Whether this is a Hugging Face folder, or "hf:NAME", of a model made for the task."""
    if Path(model).is_dir():
        made_for = read_object(Path(model) / "config.json").get("architectures") or []
        return any(str(name).endswith(ending) for name in made_for)
    return model.startswith("hf:")


class HubVision(Backbone):
    """The whole model, its head with it; `forward` gives its pooled last hidden state."""

    modality = "image"

    def __init__(self, model: Any, processor: Any, image: ImageSettings, origin: Origin) -> None:
        super().__init__()
        self.model: Any = model
        self.processor = processor
        self.image, self.origin = image, origin
        self.width = int(getattr(model.config, "d_model", 0) or getattr(model.config, "hidden_size", 0) or 1)

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Squares of the size that the settings state."""
        from acclimate.backbones.maps import upright_pixels

        number = FILTERS[self.image.interpolation]
        return [Encoded((p,), _COST) for p in upright_pixels(inputs, self.image.size, self.image.size, number)]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Standardised pixels (n, 3, h, w); of rows of a task the pixels are their part's own."""
        from acclimate.backbones.image_pixels import standardised

        squares = [getattr(row.parts[0], "pixels", row.parts[0]) for row in rows]
        return {"pixels": standardised(squares, self.image), "rows": torch.arange(len(rows))}

    def forward(self, batch: Batch) -> Tensor:
        """The mean of what the head says, (n, d): it tells whether two copies of the model are equal."""
        logits: Tensor = self.model(pixel_values=batch["pixels"]).logits
        return logits.flatten(2).mean(2) if logits.ndim == 4 else logits.mean(1)

    @property
    def blocks(self) -> list[nn.Module]:
        """The layers of every encoder and decoder, in order."""
        found: list[nn.Module] = []
        inside: set[int] = set()
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and id(module) not in inside and _alike(module):
                found += list(module)
                inside |= {id(m) for part in module for m in part.modules()}
        return found

    def settings(self) -> dict[str, object]:
        """What prepares the pictures."""
        return {"modality": "image", "architecture": str(self.model.config.model_type), **asdict(self.image)}

    def clone(self) -> HubVision:
        """A copy with weights of its own."""
        return HubVision(copy.deepcopy(self.model), self.processor, self.image, self.origin)

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder, and the settings of the preprocessing beside it."""
        from acclimate.backbones.hushed import quiet_transformers

        with quiet_transformers():
            self.model.save_pretrained(folder)
            if self.processor is not None:
                self.processor.save_pretrained(folder)
        about = {"image": asdict(self.image), "origin": asdict(self.origin)}
        (folder / _SETTINGS).write_text(json_text(about, indent=1), encoding="utf-8")


def _alike(module: nn.ModuleList) -> bool:
    """Layers upon each other: of one kind, each with more parts than one."""
    kinds = {type(part) for part in module}
    return len(kinds) == 1 and all(sum(1 for _ in part.modules()) > 3 for part in module)


def load_hub_vision(model: str, what: str, classes: Sequence[str]) -> HubVision:
    """The model of this folder or name with as many classes as there are here; a head of other classes begins anew.

    `what`: "detection" or "segmentation".
    """
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoModelForObjectDetection, AutoModelForSemanticSegmentation

    from acclimate.backbones.hushed import quiet_transformers

    kind = {"detection": AutoModelForObjectDetection, "segmentation": AutoModelForSemanticSegmentation}[what]
    path = model.removeprefix("hf:")
    names = dict(enumerate(classes))
    stored = read_object(Path(path) / _SETTINGS) if Path(path).is_dir() else {}
    with quiet_transformers():
        try:
            found: Any = kind.from_pretrained(
                path,
                id2label=names,
                label2id={name: i for i, name in names.items()},
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
            )
            reads: Any = AutoImageProcessor
            processor: Any = reads.from_pretrained(path) if what == "detection" else None
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load the {what} model {model!r}: {first}") from error
    if processor is not None and not hasattr(processor, "post_process_object_detection"):
        raise UserError(f"{model!r}: its preprocessor_config.json is of no detection model, so boxes cannot be told")
    origin = Origin(**stored["origin"]) if stored else Origin(model if path != model else Path(path).name)
    image = _image_settings(stored, path, found.config)
    return HubVision(found.eval().requires_grad_(False), processor, image, origin)


def _image_settings(stored: dict[str, Any], path: str, config: Any) -> ImageSettings:
    if stored:
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["image"].items()}
        return ImageSettings(**given)
    found = read_object(Path(path) / "preprocessor_config.json") if Path(path).is_dir() else {}
    mean, std = (
        tuple(found.get(name) or usual) for name, usual in zip(("image_mean", "image_std"), _IMAGENET, strict=True)
    )
    size = getattr(config, "image_size", None)
    side = int(size[0] if isinstance(size, (list, tuple)) else size or 224)
    return ImageSettings(side, 1.0, mean, std, "bilinear")
