"""The parts of a plain model folder, and what every converter needs to write them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from acclimate.catalogue.archives import Archive
from acclimate.files import json_text

if TYPE_CHECKING:
    import numpy as np

    Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Archives = tuple[Archive, ...]
Needed = Mapping[str, Path]  # folders of other catalogue models that a conversion borrows from


def write_json(path: Path, content: object) -> None:
    """JSON for people to read too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json_text(content, indent=2) + "\n", encoding="utf-8")


def save_weights(weights: Mapping[str, Array], folder: Path) -> None:
    """model.safetensors, marked as PyTorch's: transformers refuses files without that mark."""
    import numpy as np
    from safetensors.numpy import save_file

    save_file(
        {name: np.ascontiguousarray(array) for name, array in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def torch_weights(data: bytes, key: str | None = None) -> dict[str, Array]:
    """A PyTorch file as arrays. `weights_only` refuses to run anything that the pickle asks for."""
    import torch

    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in (state[key] if key else state).items()}


def count_layers(weights: Mapping[str, Array], start: str) -> int:
    """How many numbers follow `start` in the names."""
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in weights if name.startswith(start))


def plain_tokenizer(folder: Path) -> None:
    """Takes fixed padding and truncation out of tokenizer.json: they belong to a call; some packages fix both."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["truncation"] = content["padding"] = None
    path.write_text(json_text(content), encoding="utf-8")


def write_tokenizer_config(out: Path, longest: int, **special: str | list[str]) -> None:
    """Says that tokenizer.json is all there is; a BERT class would build another tokenizer over the same vocabulary."""
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": longest,
            "clean_up_tokenization_spaces": False,
            **special,
        },
    )
