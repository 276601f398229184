"""Image backbones: any timm model, from the catalogue, by "timm:NAME" or from a timm folder, pooled to one vector."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from acclimate.backbones.augment import affine
from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.image_pixels import ImageSettings, Pixels, square, standardised
from acclimate.backbones.image_sizes import fitted, side_of
from acclimate.backbones.runtime import TORCH, Network, Reader, in_parts, remembered
from acclimate.catalogue import cache
from acclimate.errors import UserError
from acclimate.files import json_text

_SETTINGS = "acclimate_image.json"
_EMPTY = 32  # the side of a picture that nothing looks at
_ANY_SIZE = ("conv_stem", "conv1")  # timm's names of what reads pictures of any size before the first block
_COST = 64  # of a picture at the model's own size, in tokens of a text: 16 such pictures are read together
_WORTH_OPENING = 32  # pictures from which a runtime that was chosen before pays
_WORTH_MEASURING = 256  # pictures from which finding the quickest runtime pays: it takes some seconds, once

T = TypeVar("T", bound="ImageBackbone")


@dataclass(frozen=True)
class Stored:
    """What `save_settings` wrote: the preprocessing, the origin, the runtime, and the model's own size."""

    image: ImageSettings
    origin: Origin
    runtime: str = ""
    own_size: int = 0


@dataclass(frozen=True)
class _Undecoded:
    """A picture that is decoded when its batch is made."""

    value: Any


class ImageBackbone(Backbone):
    """A timm model without its classifier. `forward` gives (n, d), pooled as the model itself pools."""

    modality = "image"

    def __init__(
        self, model: nn.Module, architecture: str, settings: ImageSettings, origin: Origin, own_size: int = 0
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.architecture = architecture
        self.image = settings
        self.own_size = own_size or settings.size  # the side that the model was made for
        self.cost = max(1, round(_COST * (settings.size / self.own_size) ** 2))  # of a picture
        self.origin = origin
        self.arguments: dict[str, Any] = {}  # of timm's architecture, where the folder gives some
        self._learns = False
        self._wanted = ""  # the runtime that was chosen before
        self._reader: Reader | None = None
        self._held = 0  # how many are inside `reading`
        with torch.no_grad():
            probe = model.eval()(torch.zeros(1, 3, settings.size, settings.size))
        self.width = int(probe.shape[1])

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Paths, Pillow images or arrays (h, w, 3) to squares (s, s, 3) of bytes."""
        return [Encoded((square(x, self.image),), self.cost) for x in inputs]

    def encode_later(self, inputs: Sequence[Any]) -> list[Encoded]:
        """The pictures themselves: `collate` decodes them, so that no more than a few batches lie in memory."""
        return [Encoded((_Undecoded(x),), self.cost) for x in inputs]

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Standardised pixels (n, 3, s, s); while the first blocks are replayed empty ones, small where that does."""
        if self.replayed:
            small = any(hasattr(self.model, stem) for stem in _ANY_SIZE)
            side = _EMPTY if small else self.image.size
            return {"pixels": torch.zeros(len(rows), 3, side, side), "rows": torch.arange(len(rows))}
        pixels = standardised([self._square(row.parts[0]) for row in rows], self.image)
        return {"pixels": pixels, "rows": torch.arange(len(rows))}

    def _square(self, part: Any) -> Pixels:
        found: Pixels = square(part.value, self.image) if isinstance(part, _Undecoded) else part
        return found

    def forward(self, batch: Batch) -> Tensor:
        """Pooled features, (n, d)."""
        pixels = batch["pixels"]
        if self.training or torch.is_grad_enabled() or pixels.device.type != "cpu":
            features: Tensor = self.model(pixels)
            return features
        return self._reader(pixels) if self._held and self._reader is not None else in_parts(self.model, pixels)

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """Each picture turned, scaled, slanted and shifted at random (`augment.affine`), its edge drawn out."""
        return {**batch, "pixels": affine(batch["pixels"], generator, strength, "border")}

    @contextmanager
    def reading(self, cost: int, say: Callable[[str], None]) -> Iterator[None]:
        """On the CPU a frozen network is read by the runtime that is quickest on the first pictures and exact on them.

        Weights that may move are read by PyTorch as it is, and so are a few pictures: to find out costs more than it
        saves.
        """
        if not self._prepare(cost // self.cost, say):
            self.runtime = TORCH
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            if self._reader is not None and self._reader.name:
                self.runtime = self._wanted = self._reader.name

    def _prepare(self, pictures: int, say: Callable[[str], None]) -> bool:
        """Have a reader of the weights as they are now; False where PyTorch as it is shall read."""
        moving = self._learns or any(p.requires_grad for p in self.parameters())
        if moving or pictures < _WORTH_OPENING or next(self.parameters()).device.type != "cpu":
            return False
        network = Network(self.model, self.image.size, self.fingerprint(), cache.root() / "runtimes")
        known, threads = self._reader, torch.get_num_threads()
        if known is not None and known.network.fingerprint == network.fingerprint and known.threads == threads:
            return True
        if pictures < _WORTH_MEASURING and not (self._wanted or remembered(network, threads)):
            return False
        self._reader = Reader(network, self._wanted, say)
        return True

    def describe(self) -> list[str]:
        """One line for every runtime that was looked at: how quick it was, or why it is not used."""
        return [] if self._reader is None else self._reader.describe()

    @property
    def blocks(self) -> list[nn.Module]:
        """The model's own `blocks` or `stages`, in order; the parts of a stage are blocks of their own."""
        for name in ("blocks", "stages", "layers"):
            found = getattr(self.model, name, None)
            if isinstance(found, (nn.Sequential, nn.ModuleList)):
                nested = [list(part) if isinstance(part, nn.Sequential) else [part] for part in found]
                return [block for part in nested for block in part]
        if isinstance(features := getattr(self.model, "features", None), nn.Sequential):  # VGG: layer upon layer
            return [layer for layer in features if any(True for _ in layer.parameters())]
        return [m for name, m in self.model.named_children() if name.startswith("layer")]

    def settings(self) -> dict[str, object]:
        """Size (and the model's own where that is another), crop, mean, spread, interpolation, the library."""
        more: dict[str, object] = {"arguments": self.arguments} if self.arguments else {}
        return {"modality": "image", "architecture": self.architecture, **more, **self._reads()}

    def _reads(self) -> dict[str, object]:
        other = {} if self.own_size == self.image.size else {"own_size": self.own_size}
        return {**asdict(self.image), **other}

    @property
    def read_at(self) -> str:
        """The size in words, where it is not the model's own."""
        size, own = self.image.size, self.own_size
        return "" if size == own else f"{size} x {size} pixels (the model's own size is {own} x {own})"

    def at_size(self: T, size: int | None) -> T:
        """The same weights for pictures of `size` x `size` pixels: itself where that is None or the size it reads at.

        Convolutions slide over any size. Positions of patches are resampled (timm's `set_input_size`, or the Hugging
        Face model's own interpolation). Raises UserError where the network cannot read such pictures.
        """
        if size is None or size == self.image.size:
            return self
        model = fitted(self.model, self._adjust, size, self.image.size, self._patch(), self.origin.name)
        other = type(self)(model, self.architecture, replace(self.image, size=size), self.origin, self.own_size)
        other.arguments = self.arguments
        return other

    def _patch(self) -> int:
        """The side of the patches that pictures are cut into; 1 where convolutions slide over them."""
        return side_of(getattr(getattr(self.model, "patch_embed", None), "patch_size", None)) or 1

    def _adjust(self, model: Any, size: int) -> None:
        """Make the network ready for another size, where it is not so already."""
        if hasattr(model, "set_input_size"):
            model.set_input_size(img_size=(size, size))

    def clone(self) -> ImageBackbone:
        """A copy with weights of its own."""
        other = type(self)(copy.deepcopy(self.model), self.architecture, self.image, self.origin, self.own_size)
        other.arguments, other._learns, other._wanted = self.arguments, True, TORCH
        return other

    def save(self, folder: Path) -> None:
        """A timm folder: config.json with the architecture, model.safetensors, and the settings above."""
        from safetensors.torch import save_file

        config: dict[str, Any] = {"architecture": self.architecture, "num_classes": 0, "num_features": self.width}
        config |= {"model_args": self.arguments} if self.arguments else {}
        (folder / "config.json").write_text(json_text(config, indent=1), encoding="utf-8")
        state = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        self.save_settings(folder)

    def save_settings(self, folder: Path) -> None:
        """The preprocessing, where the weights came from, and the runtime that was quickest."""
        about = {**self._reads(), "origin": asdict(self.origin), "runtime": self._wanted}
        (folder / _SETTINGS).write_text(json_text(about, indent=1), encoding="utf-8")

    def start_with(self, runtime: str) -> None:
        """Read by this runtime, which was chosen before; it is not measured again."""
        self._wanted = runtime


def load_image(path: str, origin: Origin, image_size: int | None = None) -> ImageBackbone:
    """Load a timm folder, "timm:NAME", or the hub's "org/name" (from there, or the cache), without the classifier."""
    try:
        import timm
    except ImportError as error:
        raise UserError("image models need timm and torchvision: pip install 'acclimate[image]'") from error
    folder = Path(path)
    stored = stored_settings(folder)
    model: Any
    arguments: dict[str, Any] = {}
    try:
        if path.startswith("timm:") or not folder.exists():
            name = path[5:] if path.startswith("timm:") else f"hf-hub:{path}"
            model = timm.create_model(name, pretrained=True, num_classes=0)
        else:
            model, arguments = _from_folder(folder, stored.image.size if stored and stored.own_size else None)
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load the image model {origin.name!r}: {first}") from error
    found = stored or Stored(_settings_of(model.pretrained_cfg), origin)
    architecture = str(model.pretrained_cfg["architecture"])
    backbone = ImageBackbone(
        model.eval().requires_grad_(False), architecture, found.image, found.origin, found.own_size
    )
    backbone.arguments = arguments
    backbone.start_with(found.runtime)
    return backbone.at_size(image_size)


def stored_settings(folder: Path) -> Stored | None:
    """What `save_settings` wrote into this folder, if it did."""
    if not (folder / _SETTINGS).is_file():
        return None
    values: dict[str, Any] = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    origin, wanted = Origin(**values.pop("origin")), str(values.pop("runtime", ""))
    own_size = int(values.pop("own_size", 0))
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Stored(ImageSettings(**given), origin, wanted, own_size)


def _from_folder(folder: Path, size: int | None = None) -> tuple[Any, dict[str, Any]]:
    """The model, and what its config.json says of the architecture beside its name; weights stored at another size
    than the architecture's own go into a network of that `size`."""
    import timm
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    arguments: dict[str, Any] = dict(config.get("model_args") or {})
    model: Any = timm.create_model(config["architecture"], pretrained=False, **{**arguments, "num_classes": 0})
    stored = config.get("pretrained_cfg") or {}
    model.pretrained_cfg = {**model.pretrained_cfg, **stored, "architecture": config["architecture"]}
    if size is not None and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=(size, size))
    state = load_file(folder / "model.safetensors")
    kept = set(model.state_dict())
    missing = sorted(kept - set(state) - {k for k in kept if k.endswith("num_batches_tracked")})
    if missing:
        raise UserError(
            f"{folder}: the weights lack {len(missing)} parameters, first {missing[0]!r}: they would be random"
        )
    model.load_state_dict({k: v for k, v in state.items() if k in kept}, strict=False)
    return model, arguments


def _settings_of(config: dict[str, Any]) -> ImageSettings:
    return ImageSettings(
        size=int(config["input_size"][-1]),
        crop=float(config.get("crop_pct") or 1.0),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=str(config.get("interpolation", "bicubic")),
    )
