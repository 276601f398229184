"""Sound backbones: what they share."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, SupportsFloat, TypeVar

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.packing import by_owner
from acclimate.data.sounds import Samples, count_windows, name_of, read, seconds_of, windows
from acclimate.errors import UserError, unknown
from acclimate.files import json_text, read_object

SETTINGS = "acclimate_sound.json"
LONGEST = 30.0  # seconds that are read of a sound where the model says nothing else
LEAST = 0.1  # seconds that must be allowed
TRUNCATIONS = ("head", "chunk", "fail")  # of those for texts: what is done with a sound that is longer
_OVERLAP = 10  # a window shares one part in so many with the next one
_A_FRAME = 0.02  # seconds: the unit of cost, about as much work as a token of a text
_FRAMES_AT_ONCE = {"cpu": 4096, "cuda": 65_536}  # without gradients: a long sound takes no more memory than this

T = TypeVar("T", bound="SoundBackbone")


@dataclass(frozen=True)
class SoundSettings:
    """How a sound becomes a tensor. All of it changes the features."""

    rate: int  # samples a second; files of another rate are resampled once
    seconds: float = LONGEST  # that are read at a time; Whisper fills a shorter sound up to it
    truncation: str = "head"  # of a longer one: its beginning alone (head), windows (chunk), or an error (fail)
    merged: int = 1  # frames of the silence after a sound that Whisper reads as one


@dataclass(frozen=True)
class Prepared:
    """One sound, or a window of it, as the network reads it."""

    values: Tensor
    samples: int  # that it has, whatever was added


@dataclass(frozen=True)
class _Unread:
    """A sound that is read when its batch is made."""

    value: Any


class SoundBackbone(Backbone):
    """Sounds are paths or (array, rate): one channel, resampled, cut to `seconds`, prepared one by one.

    With `truncation="chunk"` a longer one becomes several windows, whose features are averaged, weighted by their
    samples.
    """

    modality = "audio"
    architecture = ""
    longest = LONGEST  # seconds that the network can take
    filled = False  # whether shorter sounds are followed by silence up to `seconds`
    pooling = "mean"  # over the frames that hold sound

    def __init__(self, model: nn.Module, settings: SoundSettings, origin: Origin) -> None:
        super().__init__()
        self.model: Any = model
        self.sound = settings
        self.origin = origin

    @abstractmethod
    def prepare(self, samples: Samples) -> Tensor:
        """One sound (n,) at `sound.rate` as the network reads it."""

    @abstractmethod
    def join(self, windows: Sequence[Prepared]) -> Batch:
        """One batch of windows; where one gives several lines, `owner` says which of them each belongs to, and `weight`
        how much it counts."""

    @abstractmethod
    def vectors(self, batch: Batch) -> Tensor:
        """One vector a line of the batch (w, d)."""

    def sequence(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One vector a frame (w, t, d), and how many frames of each line hold sound (w,)."""
        raise UserError(
            f"{self.origin.name!r} gives one vector a sound, and transcripts need one a frame; take a model such as "
            "whisper-tiny, or a wav2vec2 or HuBERT folder"
        )

    def frames_in(self, window: Prepared) -> int:
        """How many vectors `sequence` gives of the sound in this window."""
        return 1

    @abstractmethod
    def length(self, batch: Batch) -> int:
        """Frames of 20 ms of every line of the batch."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The architecture, as plain JSON."""

    @abstractmethod
    def save_model(self, folder: Path) -> None:
        """Weights and config.json, in their own format."""

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Every sound, read and prepared."""
        return [self._encoded(value, self._read(value)) for value in inputs]

    def encode_later(self, inputs: Sequence[Any]) -> list[Encoded]:
        """The sounds themselves, with the length that their headers say: `collate` reads them."""
        return [self._encoded(value, (_Unread(value),)) for value in inputs]

    def _encoded(self, value: Any, parts: tuple[Any, ...]) -> Encoded:
        there, limit = seconds_of(value), self.sound.seconds
        used = min(there, limit)
        if there > limit and self.sound.truncation == "fail":
            raise UserError(
                f"{name_of(value)} lasts {there:.4g} seconds and only {limit:g} are read at a time; cut it, or choose "
                "--truncation chunk (all of it, in windows) or head (its beginning)"
            )
        count = self.count(there)
        lost = 0.0 if count > 1 else there - used
        return Encoded(parts, count * self.cost(used), round(lost / _A_FRAME), round(there / _A_FRAME))

    def count(self, seconds: float) -> int:
        """In how many windows a sound of this length is read."""
        if self.sound.truncation != "chunk" or seconds <= self.sound.seconds:
            return 1
        return count_windows(round(seconds * self.sound.rate), *self._room)

    @property
    def overlap(self) -> float:
        """The share of a window that the next one has too."""
        return self._room[1] / self._room[0]

    @property
    def _room(self) -> tuple[int, int]:
        """Samples of a window, and of those that it shares with the next one."""
        room = round(self.sound.seconds * self.sound.rate)
        return room, room // _OVERLAP

    def cost(self, seconds: float) -> int:
        """Frames of 20 ms that the network works on."""
        return max(1, round(seconds / _A_FRAME))

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """One batch: a line a window, the row that owns it (w,) and how much of that row it is (w,)."""
        each = [self.now(row) for row in rows]
        parts = [window for row in each for window in row]
        row_of = torch.tensor([i for i, row in enumerate(each) for _ in row])
        made = self.join(parts)
        owner = row_of[made.get("owner", torch.arange(len(parts)))]
        weight = made.get("weight", torch.tensor([float(part.samples) for part in parts]))
        share = weight / torch.zeros(len(rows)).index_add(0, owner, weight)[owner]
        return {**made, "owner": owner, "weight": share, "rows": torch.arange(len(rows))}

    def now(self, row: Encoded) -> Sequence[Prepared]:
        """What the network reads of a row; what was left to this moment is read now."""
        first = row.parts[0]
        return self._read(first.value) if isinstance(first, _Unread) else row.parts

    def _read(self, value: Any) -> tuple[Prepared, ...]:
        """The windows of a sound; of one that fits, or is cut, a single one."""
        if self.count(seconds_of(value)) == 1:
            samples = read(value, self.sound.rate, self.sound.seconds)
            return (Prepared(self.prepare(samples), len(samples)),)
        return tuple(Prepared(self.prepare(s), len(s)) for s in windows(value, self.sound.rate, *self._room))

    def changed(self, row: Encoded, generator: torch.Generator, strength: float) -> Encoded:
        """The row as `augment` changes it alone, to be read with others."""
        before = self.now(row)
        after = self.parts_of(self.augment(self.collate([row]), generator, strength), before)
        return replace(row, parts=tuple(Prepared(v, p.samples) for v, p in zip(after, before, strict=True)))

    def parts_of(self, batch: Batch, before: Sequence[Prepared]) -> list[Tensor]:
        """What `join` was given, from a batch of the same windows."""
        lines = batch["mel" if "mel" in batch else "values"]
        return [line[tuple(slice(0, n) for n in p.values.shape)] for line, p in zip(lines, before, strict=True)]

    def forward(self, batch: Batch) -> Tensor:
        """Features (n, d): the mean of the windows of each row. Without gradients some windows are read at a time."""
        count, device = len(batch["owner"]), batch["owner"].device
        most = max(1, _FRAMES_AT_ONCE.get(device.type, _FRAMES_AT_ONCE["cpu"]) // self.length(batch))
        if torch.is_grad_enabled() or count <= most:
            found = self.vectors(batch)
        else:
            lines = {name: values for name, values in batch.items() if name != "rows"}
            parts = [{name: v[at : at + most] for name, v in lines.items()} for at in range(0, count, most)]
            found = torch.cat([self.vectors(part) for part in parts])
        return by_owner(found, batch["weight"], batch["owner"], len(batch["rows"]))

    def one_row(self, batch: Batch, at: int) -> Batch:
        """The lines of one row."""
        mine = torch.nonzero(batch["owner"] == at)[:, 0]
        return {
            name: values[at : at + 1] if name == "rows" else values[mine.to(values.device)]
            for name, values in batch.items()
        }

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """A line a window."""
        return hidden.flatten(1), torch.bincount(batch["owner"], minlength=len(batch["rows"])).tolist()

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """The number of windows of each sound."""
        return [len(self.now(row)) for row in encoded]

    def by_row(self, counts: Tensor, batch: Batch) -> list[int]:
        """Sums over the windows of each row of a count (w,) on the host."""
        return torch.zeros(len(batch["rows"]), dtype=torch.long).index_add(0, batch["owner"].cpu(), counts).tolist()

    def settings(self) -> dict[str, object]:
        """Rate, length and pooling, with the architecture."""
        about = {"modality": "audio", "architecture": self.architecture, "filled": self.filled, "pooling": self.pooling}
        sound = asdict(self.sound)
        if self.sound.merged == 1:
            del sound["merged"]  # features that were kept before there was such a choice are found again
        return {**about, **sound}

    def fingerprint(self) -> str:
        """Weights, preprocessing and the architecture, of which the weights do not tell all (heads, activations)."""
        digest = hashlib.blake2b(super().fingerprint().encode(), digest_size=16)
        digest.update(json.dumps(self.config(), sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def checked(self, seconds: object) -> float:
        """The most seconds that are read, or a clear error."""
        if isinstance(seconds, bool) or not isinstance(seconds, SupportsFloat):
            raise UserError(f"seconds {seconds!r} must be a number, how many seconds of a sound are read")
        seconds = float(seconds)  # 3 and 3.0 are one setting, and one key of kept features
        if not LEAST <= seconds <= self.longest:
            raise UserError(f"seconds {seconds:g} is outside what this model takes: {LEAST:g} to {self.longest:g}")
        return seconds

    def with_settings(self: T, settings: SoundSettings) -> T:
        """The same weights under other settings."""
        other = copy.copy(self)
        other._modules = dict(self._modules)  # so that putting another model into one leaves the other as it is
        other.sound = settings
        return other

    def clone(self: T) -> T:
        """A copy with weights of its own."""
        return copy.deepcopy(self)

    def save(self, folder: Path) -> None:
        """The model in its own format, and the settings above as JSON."""
        self.save_model(folder)
        about = {**asdict(self.sound), "origin": asdict(self.origin)}
        (folder / SETTINGS).write_text(json_text(about, indent=1), encoding="utf-8")


def mean_of(hidden: Tensor, frames: Tensor) -> Tensor:
    """The mean (n, d) over the first `frames` (n,) of each row of `hidden` (n, t, d)."""
    inside = (torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None]).to(hidden.dtype)
    return (hidden * inside[..., None]).sum(1) / inside.sum(1, keepdim=True)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The longest list of like layers, the convolutions before them left out."""
    lists = [list(m) for m in model.modules() if isinstance(m, nn.ModuleList) and len({type(b) for b in m}) == 1]
    linear = [layers for layers in lists if any(isinstance(part, nn.Linear) for part in layers[0].modules())]
    return max(linear, key=len, default=[])


def stable(config: Any) -> dict[str, Any]:
    """A configuration of transformers without what does not change the network."""
    left = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
    return {k: v for k, v in config.to_dict().items() if k not in left}


def check(truncation: str) -> str:
    """The name itself, or a clear error."""
    if truncation == "head-tail":
        raise UserError(
            "truncation 'head-tail' is for texts: beginning and end of a sound make no sound together; choose chunk "
            "(all of it, in windows), head (its beginning) or fail"
        )
    if truncation not in TRUNCATIONS:
        raise unknown("truncation of sounds", truncation, TRUNCATIONS)
    return truncation


def as_stored(
    found: SoundBackbone, folder: Path, seconds: float | None, truncation: str | None = None
) -> SoundBackbone:
    """The backbone under the settings that `save` wrote beside it, and with those that are given here.

    Where `seconds` are given, every frame of the silence up to them is read.
    """
    if stored := read_object(folder / SETTINGS):
        found.origin = Origin(**stored.pop("origin"))
        found.sound = SoundSettings(**stored)  # older ones say nothing of `merged`
    settings = found.sound
    if seconds is not None:
        settings = replace(settings, seconds=found.checked(seconds), merged=1)
    if truncation is not None:
        settings = replace(settings, truncation=check(truncation))
    return found if settings == found.sound else found.with_settings(settings)
