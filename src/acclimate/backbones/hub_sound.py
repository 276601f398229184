"""Sound models in Hugging Face's own format: Whisper, and wav2vec2, HuBERT, AST and their like."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.augment_sound import spectra, waves
from acclimate.backbones.base import Batch, Encoded, Origin
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.sound import (
    LONGEST,
    Prepared,
    SoundBackbone,
    SoundSettings,
    layers_of,
    mean_of,
    stable,
)
from acclimate.backbones.whisper import MERGED, Whisper
from acclimate.data.sounds import Samples
from acclimate.errors import UserError

_FIXED = ("audio-spectrogram-transformer",)  # models that read a spectrum of one size, and pool it themselves

_WINDOW, _SHIFT = 0.025, 0.01  # seconds of a column of a spectrum, and from one to the next


class HubSound(SoundBackbone):
    """A model with the feature extractor stored beside it; features are the mean over the frames that hold sound.

    Random masking of the input and the dropping of layers while training are switched off: both draw from generators
    that a seed of ours does not reach.
    """

    longest = 600.0

    def __init__(self, model: Any, extractor: Any, settings: SoundSettings, origin: Origin) -> None:
        super().__init__(model, settings, origin)
        self.extractor = extractor
        self.architecture = str(model.config.model_type)
        self.width = int(model.config.hidden_size)
        self._field = str(extractor.model_input_names[0])
        if self.architecture in _FIXED:
            self.pooling, self.longest = "pooler", settings.seconds
        self._raw = hasattr(model, "_get_feat_extract_output_lengths") and self._field == "input_values"
        # A norm over time, as of wav2vec2-base, takes padding in: such rows are read with rows of their own length.
        self._alone = getattr(model.config, "feat_extract_norm", "") == "group"

    def prepare(self, samples: Samples) -> Tensor:
        """What the extractor makes of the sound, which is filled up to one frame where it is shorter."""
        samples = np.pad(samples, (0, max(0, self._least() - len(samples))))
        made = self.extractor(samples, sampling_rate=self.sound.rate, return_tensors="np")
        return torch.from_numpy(np.asarray(made[self._field][0], np.float32))

    def _least(self) -> int:
        """Samples of one frame: of less there is no spectrum, and the convolutions have nothing to give."""
        if not self._raw:
            return math.ceil(_WINDOW * self.sound.rate)
        least = 1
        config = self.model.config
        for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride, strict=True))):
            least = (least - 1) * int(stride) + int(kernel)
        return least

    def join(self, windows: Sequence[Prepared]) -> Batch:
        """Values (w, longest, ...), zeros after the end of each, and the length of each (w,)."""
        values = [window.values for window in windows]
        padded = nn.utils.rnn.pad_sequence(values, batch_first=True)
        return {"values": padded, "sizes": torch.tensor([self._size(window) for window in windows])}

    def _size(self, window: Prepared) -> int:
        """How many values hold sound; of a spectrum of one size those that are not filled up."""
        there = len(window.values)
        if self.architecture not in _FIXED:
            return there
        seconds = window.samples / self.sound.rate
        return min(there, max(1, 1 + math.floor((seconds - _WINDOW) / _SHIFT + 1e-6)))

    def augment(self, batch: Batch, generator: torch.Generator, strength: float) -> Batch:
        """The samples, or the columns of a spectrum, changed at random; standardised anew where the extractor does."""
        if strength == 0:
            return batch
        values, sizes = batch["values"], batch["sizes"]
        if not self._raw:
            return {**batch, "values": spectra(values, sizes, generator, strength, self._bel())}
        changed = waves(values, sizes, generator, strength)
        if self.extractor.do_normalize:
            for row, size in zip(changed, sizes.tolist(), strict=True):
                row[:size] = (row[:size] - row[:size].mean()) / (row[:size].var(unbiased=False) + 1e-7).sqrt()
        return {**batch, "values": changed}

    def _bel(self) -> float | None:
        """What ten times the power adds to a value of the spectrum; None where bands were standardised one by one."""
        if self.architecture not in _FIXED:
            return None
        scale = 2 * float(self.extractor.std) if self.extractor.do_normalize else 1.0
        return math.log(10) / scale

    def length(self, batch: Batch) -> int:
        """By the samples, or the columns of 10 ms."""
        in_frame = self.sound.rate / 50 if self._raw else 2
        return max(1, round(batch["values"].shape[1] / in_frame))

    def vectors(self, batch: Batch) -> Tensor:
        """The mean (w, d) of the frames that hold sound."""
        if self.architecture in _FIXED:
            pooled: Tensor = self.model(batch["values"]).pooler_output
            return pooled
        parts = [hidden.mean(1) if full else mean_of(hidden, frames) for hidden, frames, full in self._parts(batch)]
        return torch.cat(parts)[self._back(batch)]

    def sequence(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The last hidden states (w, t, d), and how many of each line hold sound."""
        if self.architecture in _FIXED:
            return super().sequence(batch)
        parts = [(hidden, frames) for hidden, frames, _ in self._parts(batch)]
        most = max(hidden.shape[1] for hidden, _ in parts)
        hidden = torch.cat([nn.functional.pad(h, (0, 0, 0, most - h.shape[1])) for h, _ in parts])
        return hidden[self._back(batch)], torch.cat([frames for _, frames in parts])[self._back(batch)]

    def frames_in(self, window: Prepared) -> int:
        """As many as the convolutions give."""
        return int(self._frames(torch.tensor([len(window.values)])))

    def _parts(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor, bool]]:
        """Hidden states, frames that hold sound, and whether all do, of the lines that are read together: all of them,
        or those of one length each."""
        values, sizes = batch["values"], batch["sizes"]
        for length in self._lengths(batch):
            rows = slice(None) if length is None else sizes == length
            some, there = values[rows, :length], sizes[rows]
            if int(there.min()) == some.shape[1]:
                yield self.model(some).last_hidden_state, self._frames(there), True
                continue
            mask = torch.arange(some.shape[1], device=values.device) < there[:, None]
            yield self.model(some, attention_mask=mask.long()).last_hidden_state, self._frames(there), False

    def _lengths(self, batch: Batch) -> list[int | None]:
        sizes = batch["sizes"]
        together = not self._alone or int(sizes.min()) == batch["values"].shape[1]
        return [None] if together else sorted(set(sizes.tolist()))

    def _back(self, batch: Batch) -> Tensor:
        """The order that puts the lines of `_parts` back."""
        sizes = batch["sizes"]
        lengths = self._lengths(batch)
        at = [torch.arange(len(sizes), device=sizes.device) if n is None else torch.nonzero(sizes == n)[:, 0]
              for n in lengths]  # fmt: skip
        return torch.argsort(torch.cat(at))

    def _frames(self, sizes: Tensor) -> Tensor:
        frames: Tensor = self.model._get_feat_extract_output_lengths(sizes) if self._raw else sizes
        return frames

    @property
    def blocks(self) -> list[nn.Module]:
        """The longest list of like layers."""
        return layers_of(self.model)

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """The frames of every row; nothing where a batch may be read in several parts, so that it is not kept."""
        if self.architecture in _FIXED:
            return super().flat(hidden, batch)
        if self._alone:
            return hidden.flatten(0, 1), []
        lines, counts = lines_of(hidden, self._frames(batch["sizes"]))
        return lines, self.by_row(torch.tensor(counts), batch)

    def unflat(self, flat: Tensor, batch: Batch, shape: tuple[int, ...]) -> Tensor:
        """Frames back in their rows."""
        if self.architecture in _FIXED:
            return super().unflat(flat, batch, shape)
        return rows_of(flat, self._frames(batch["sizes"]))

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """The number of frames of each sound."""
        if self.architecture in _FIXED:
            return super().flat_rows(encoded)
        sizes = [torch.tensor([len(window.values) for window in self.now(row)]) for row in encoded]
        return [int(self._frames(each).sum()) for each in sizes]

    def config(self) -> dict[str, Any]:
        """The model's configuration and that of its feature extractor."""
        return {**stable(self.model.config), "extractor": self.extractor.to_dict()}

    def clone(self) -> HubSound:
        """A copy with weights of its own; the extractor, which does not learn, is shared."""
        return HubSound(copy.deepcopy(self.model), self.extractor, self.sound, self.origin)

    def save_model(self, folder: Path) -> None:
        """A plain Hugging Face folder."""
        with quiet_transformers():
            self.model.save_pretrained(folder)
            self.extractor.save_pretrained(folder)


def lines_of(hidden: Tensor, frames: Tensor) -> tuple[Tensor, list[int]]:
    """The first `frames` of each row one below the other, and how many each has: `Backbone.flat`."""
    inside = torch.arange(hidden.shape[1], device=hidden.device) < frames[:, None].to(hidden.device)
    return hidden[inside], frames.tolist()


def rows_of(lines: Tensor, frames: Tensor) -> Tensor:
    """The reverse of `lines_of`; what is added is zero: `Backbone.unflat`."""
    return nn.utils.rnn.pad_sequence(list(torch.split(lines, frames.tolist())), batch_first=True)


def load_hub_sound(path: str, origin: Origin) -> SoundBackbone:
    """Load a Hugging Face name or folder, with the settings of the feature extractor that is stored beside it."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    errors = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # what a file lacks is drawn at random
        try:
            config = AutoConfig.from_pretrained(path)
            alone = "WhisperEncoder" in (config.architectures or ())
            kind: Any = WhisperEncoder if alone else AutoModel
            model, info = kind.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            reader: Any = AutoFeatureExtractor
            extractor = reader.from_pretrained(path)
        except errors as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load the sound model {origin.name!r}: {first}") from error
    whisper = config.model_type == "whisper"
    missing = sorted(key for key in info["missing_keys"] if not (whisper and "decoder" in key))
    if missing:
        raise UserError(
            f"the weights of {origin.name!r} lack {len(missing)} parameters, first {missing[0]!r}: they would be "
            "random. The file is incomplete or belongs to another architecture."
        )
    rate = int(extractor.sampling_rate)
    if whisper:
        encoder = model if alone else model.encoder
        encoder.layerdrop = 0.0
        seconds = 2 * config.max_source_positions * extractor.hop_length / rate
        settings = SoundSettings(rate, seconds, merged=MERGED)
        return Whisper(encoder.eval().requires_grad_(False), extractor, settings, origin)
    seconds = LONGEST
    if config.model_type in _FIXED:
        seconds = extractor.max_length * _SHIFT
    for name in ("layerdrop", "apply_spec_augment"):
        if hasattr(model.config, name):
            setattr(model.config, name, type(getattr(model.config, name))(0))
    return HubSound(model.eval().requires_grad_(False), extractor, SoundSettings(rate, seconds), origin)
