"""SpeechT5 for synthesis: text in, spectrum out, and a vocoder or Griffin-Lim that makes it a sound."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.modality import config_of
from acclimate.backbones.sound import stable
from acclimate.data.sounds import Samples
from acclimate.errors import UserError

_VOCODER = "vocoder"  # the folder of a HiFi-GAN inside that of the model
_ROUNDS = 40  # of Griffin-Lim
_LONGEST = 20.0  # columns of the spectrum (16 ms) a piece of text at most, where the sign of the end does not come


class Voice(Backbone):
    """SpeechT5ForTextToSpeech with its tokeniser, its spectrum and, where there is one, its vocoder.

    Blocks: the encoder's layers, then all of the decoder's as a single one. Features (n, d) are the mean of the
    decoder's states at the first step. Source: Ao et al. 2022, arXiv:2110.07205.
    """

    modality = "text"
    model: Any
    vocoder: Any  # None where there is none

    def __init__(self, model: Any, tokenizer: Any, extractor: Any, vocoder: Any | None, origin: Origin) -> None:
        super().__init__()
        self.model = model
        self.tokenizer, self.extractor, self.origin = tokenizer, extractor, origin
        self.__dict__["vocoder"] = vocoder  # no part: it is never trained
        self.width = int(model.config.hidden_size)
        self.rate = int(extractor.sampling_rate)
        self.voice_width = int(model.config.speaker_embedding_dim)

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """The pieces of every text."""
        found = []
        most = int(self.model.config.max_text_positions)
        for text in inputs:
            ids = [int(i) for i in self.tokenizer(str(text))["input_ids"]]
            if len(ids) > most:
                raise UserError(
                    f"a text has {len(ids):,} pieces (letters or parts of words) and the voice model "
                    f"{self.origin.name!r} reads {most:,} at most ({str(text)[:40]!r}...); cut it into sentences "
                    "with a sound each, or leave it out"
                )
            found.append(Encoded((ids,), max(1, len(ids)), 0, len(ids)))
        return found

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Pieces (n, t), and which of them are there."""
        ids = [torch.tensor(row.parts[0]) for row in rows]
        pad = int(self.model.config.pad_token_id or 0)
        mask = [torch.ones(len(one), dtype=torch.long) for one in ids]
        padded = nn.utils.rnn.pad_sequence
        return {"ids": padded(ids, True, pad), "mask": padded(mask, True), "rows": torch.arange(len(rows))}

    def forward(self, batch: Batch) -> Tensor:
        """Features, (n, d)."""
        n = len(batch["ids"])
        start = torch.zeros(n, 1, self.model.config.num_mel_bins, device=batch["ids"].device)
        with drawn(0):
            states = self.states(batch, start, torch.ones(n, self.voice_width, device=start.device))
        return states.mean(1)

    def states(self, batch: Batch, before: Tensor, voice: Tensor) -> Tensor:
        """The decoder's states (n, s, d) where the columns `before` (n, s, bands) came before, in this voice."""
        found: Tensor = self.model.speecht5(
            input_values=batch["ids"], attention_mask=batch["mask"], decoder_input_values=before,
            speaker_embeddings=voice, use_cache=False, return_dict=True,
        ).last_hidden_state  # fmt: skip
        return found

    def spectrum(self, samples: Samples) -> Tensor:
        """log10 of the amplitude in mel bands, (t, bands), a multiple of the columns that are made at a time."""
        made = self.extractor(audio_target=samples, sampling_rate=self.rate, return_tensors="np")
        found = torch.from_numpy(np.asarray(made["input_values"][0], np.float32))
        step = int(self.model.config.reduction_factor)
        return found[: max(step, len(found) // step * step)]

    @torch.no_grad()
    def spoken(self, batch: Batch, voice: Tensor) -> list[Samples]:
        """One sound a text. The decoder's own dropout, which it needs, is drawn from a fixed seed."""
        found: list[Samples] = []
        for i in range(len(batch["ids"])):  # one by one: the sound of a row does not hang on the others
            n = int(batch["mask"][i].sum())
            with drawn(0):
                columns = self.model.generate_speech(
                    batch["ids"][i : i + 1, :n], voice[i : i + 1], maxlenratio=_LONGEST
                )
            found.append(self.sound(columns.float().cpu()))
        return found

    def sound(self, spectrum: Tensor) -> Samples:
        """Samples of a spectrum (t, bands): by the vocoder where there is one, else by Griffin and Lim."""
        if self.vocoder is None:
            return griffin_lim(spectrum, self.extractor)
        with torch.inference_mode():
            return np.asarray(self.vocoder(spectrum).cpu().numpy(), np.float32).reshape(-1)

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers, and the decoder's as one."""
        inner = _plain(self.model).speecht5
        return [*inner.encoder.wrapped_encoder.layers, inner.decoder.wrapped_decoder.layers]

    def train(self, mode: bool = True) -> Voice:
        """The statistics of BatchNorm stay as they were pretrained: those of small batches, padding among them, would
        be worse."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.training = False
        return self

    def settings(self) -> dict[str, object]:
        """What makes a spectrum, with the architecture."""
        about = {"modality": "text", "architecture": "speecht5", "rate": self.rate}
        kept = ("num_mel_bins", "hop_length", "win_length", "win_function", "fmin", "fmax", "mel_floor")
        own = {name: getattr(self.extractor, name) for name in kept}
        return {**about, **own, "sound": "Griffin-Lim" if self.vocoder is None else "vocoder"}

    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        return stable(self.model.config)

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder, the vocoder in a folder inside."""
        with quiet_transformers():
            for part in (self.model, self.tokenizer, self.extractor):
                part.save_pretrained(folder)
            if self.vocoder is not None:
                self.vocoder.save_pretrained(folder / _VOCODER)

    def clone(self) -> Voice:
        """A copy with weights of its own."""
        return Voice(copy.deepcopy(self.model), self.tokenizer, self.extractor, self.vocoder, self.origin)


def _plain(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def drawn(seed: int) -> Iterator[None]:
    """Inside, what is drawn at random comes from this seed; the generators are put back."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def griffin_lim(spectrum: Tensor, extractor: Any) -> Samples:
    """A sound whose spectrum is near this one (t, bands): phases are found by going back and forth forty times.

    Amplitudes of frequencies are the least-squares ones of the bands, 0 at least. Griffin & Lim 1984. It sounds
    metallic; a vocoder that fits the model is better.
    """
    filters = torch.from_numpy(np.asarray(extractor.mel_filters, np.float32))  # (f, bands)
    amplitude = (10 ** spectrum.clamp(max=4.0) @ torch.linalg.pinv(filters)).clamp(min=0).T  # (f, t)
    window = torch.from_numpy(np.asarray(extractor.window, np.float32))
    hop, size = int(extractor.sample_stride), int(extractor.n_fft)
    window = nn.functional.pad(window, (0, size - len(window)))
    length = hop * (amplitude.shape[1] - 1)
    if length < size:
        amplitude = nn.functional.pad(amplitude, (0, -(-size // hop) + 1 - amplitude.shape[1]))
    full = hop * (amplitude.shape[1] - 1)
    generator = torch.Generator().manual_seed(0)
    phase = torch.exp(2j * torch.pi * torch.rand(amplitude.shape, generator=generator))
    for _ in range(_ROUNDS):
        line = torch.istft(amplitude * phase, size, hop, window=window, length=full)
        again = torch.stft(line, size, hop, window=window, return_complex=True)
        phase = again / again.abs().clamp(min=1e-8)
    line = torch.istft(amplitude * phase, size, hop, window=window, length=full)[: max(length, 1)]
    return np.asarray(line.clamp(-1, 1).numpy(), np.float32)


def load_voice(path: str, origin: Origin, vocoder: str = "") -> Voice:
    """Load a SpeechT5 folder or Hugging Face name for synthesis, and the vocoder in it or in a folder of its own."""
    from safetensors import SafetensorError
    from transformers import AutoFeatureExtractor, AutoTokenizer, SpeechT5ForTextToSpeech, SpeechT5HifiGan

    kind = config_of(path).get("model_type")
    if kind == "vits":
        raise UserError(
            f"{origin.name!r} is a VITS model, and the library transformers has VITS for speaking alone: its training "
            "needs a discriminator and losses that are not there; take a SpeechT5 folder (microsoft/speecht5_tts)"
        )
    if kind not in (None, "speecht5"):  # of None the loader says what is wrong
        raise UserError(f"speech is made by SpeechT5 folders (microsoft/speecht5_tts), and {origin.name!r} is {kind!r}")
    inside = Path(path) / _VOCODER
    given = vocoder or (str(inside) if inside.is_dir() else "")
    errors = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
    tts: Any = SpeechT5ForTextToSpeech
    hifi: Any = SpeechT5HifiGan
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        try:
            model, info = tts.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            reader: Any = AutoFeatureExtractor
            extractor, tokenizer = reader.from_pretrained(path), AutoTokenizer.from_pretrained(path)
            sounding = hifi.from_pretrained(given).eval().requires_grad_(False) if given else None
        except errors as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load the speech model {origin.name!r}: {first}") from error
    if info["missing_keys"]:
        first = sorted(info["missing_keys"])[0]
        raise UserError(f"the weights of {origin.name!r} lack {first!r}: it would be random")
    inner = model.speecht5
    inner.encoder.wrapped_encoder.layerdrop = inner.decoder.wrapped_decoder.layerdrop = 0.0
    return Voice(model.eval().requires_grad_(False), tokenizer, extractor, sounding, origin)
