"""Whisper whole, encoder and decoder: sounds in, text out."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Origin
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.modality import config_of
from acclimate.backbones.sound import SoundSettings, as_stored, stable
from acclimate.backbones.whisper import Whisper, encoded
from acclimate.errors import UserError

_TOKENS_A_SECOND = 15  # of text at most: twice what quick speech has, and the end of what a decoder says in a circle
_TOKENS = 8  # besides


class Dictation(Whisper):
    """Whisper with its decoder. `forward` gives (n, d): the mean of the decoder's states behind the prompt, which all
    weights but the last layer reach.

    Blocks: the encoder's layers, then all of the decoder's as a single one, since each of them reads what the encoder
    gives. `top:1` is the decoder, `top:3` the decoder and two layers of the encoder.
    Source: Radford et al. 2022, arXiv:2212.04356.
    """

    def __init__(
        self, model: Any, tokenizer: Any, extractor: Any, settings: SoundSettings, origin: Origin, language: str
    ) -> None:
        super().__init__(model.get_encoder(), extractor, settings, origin)
        self.model = model
        self.tokenizer = tokenizer
        self.language = language
        self.prompt = _prompt(model, language, origin.name)
        self.room = int(model.config.max_target_positions) - len(self.prompt) - 1

    def tokens(self, text: str) -> list[int]:
        """The pieces of a text as the decoder writes it, with the sign of its end."""
        ids = self.tokenizer(f" {text.strip()}", add_special_tokens=False)["input_ids"]
        return [*map(int, ids), int(self.model.config.eos_token_id)]

    def sequence(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The encoder's output, one vector every 20 ms."""
        inner = self.model.get_encoder()
        return encoded(inner, batch["mel"], inner.training), batch["frames"]

    def logits(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Scores of each next token (n, t, |V|) where these (n, t) came before, beside the encoder's output."""
        found: Tensor = self.model.proj_out(self._decoded(hidden, ids))
        return found

    def _decoded(self, hidden: Tensor, ids: Tensor) -> Tensor:
        out: Any = self.model.get_decoder()(input_ids=ids, encoder_hidden_states=hidden, use_cache=False)
        states: Tensor = out.last_hidden_state
        return states

    def vectors(self, batch: Batch) -> Tensor:
        """The mean (w, d) of the decoder's states behind the prompt."""
        hidden, _ = self.sequence(batch)
        ids = torch.tensor(self.prompt, device=hidden.device).expand(len(hidden), -1)
        return self._decoded(hidden, ids).mean(1)

    @torch.no_grad()
    def written(self, batch: Batch, beams: int) -> list[str]:
        """The text of every line of the batch: the likeliest next token each time, or the best of some beams."""
        from transformers import GenerationMixin
        from transformers.modeling_outputs import BaseModelOutput

        hidden, frames = self.sequence(batch)
        most = [min(self.room, _TOKENS + math.ceil(_TOKENS_A_SECOND * n / 50)) for n in frames.tolist()]
        given = torch.tensor(self.prompt, device=hidden.device).expand(len(hidden), -1)
        config = copy.deepcopy(self.model.generation_config)
        config.max_length, config.max_new_tokens = None, max(most)
        config.num_beams, config.do_sample, config.return_dict_in_generate = beams, False, False
        with quiet_transformers():
            ids = GenerationMixin.generate(
                self.model,
                generation_config=config,
                encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
                decoder_input_ids=given,
            )
        rows = [row[len(self.prompt) : len(self.prompt) + k] for row, k in zip(ids.tolist(), most, strict=True)]
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)).strip() for row in rows]

    def encoder(self) -> Whisper:
        """The encoder alone, with weights of its own."""
        return Whisper(copy.deepcopy(self.model.get_encoder()), self.extractor, self.sound, self.origin)

    @property
    def blocks(self) -> list[nn.Module]:
        """The encoder's layers, and the decoder's as one."""
        return [*self.model.get_encoder().layers, self.model.get_decoder().layers]

    def stem_and_top(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Embeddings, and what lies between encoder and decoder, count as the stem; the last norm is the top."""
        inside = {id(p) for block in self.blocks for p in block.parameters()}
        top = list(self.model.get_decoder().layer_norm.parameters())
        last = {id(p) for p in top}
        return [p for p in self.parameters() if id(p) not in inside and id(p) not in last], top

    def config(self) -> dict[str, Any]:
        """The model's configuration and the settings of the spectrum."""
        return {**stable(self.model.config), "window": self.window, "hop": self.hop, "language": self.language}

    def save_model(self, folder: Path) -> None:
        """A plain Hugging Face folder: the whole model, its tokeniser and its feature extractor."""
        with quiet_transformers():
            self.model.save_pretrained(folder)
            self.extractor.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)


def _prompt(model: Any, language: str, name: str) -> list[int]:
    """What the decoder is given first: begin, the language and the task where there are several, no times."""
    about = model.generation_config
    found = [int(model.config.decoder_start_token_id)]
    languages = getattr(about, "lang_to_id", None)
    if languages:
        mark = f"<|{language}|>"
        if mark not in languages:
            known = ", ".join(sorted(str(one).strip("<|>") for one in languages))
            raise UserError(f"language {language!r} is not among those of {name!r}: {known}")
        found += [int(languages[mark]), int(about.task_to_id["transcribe"])]
    if getattr(about, "no_timestamps_token_id", None) is not None:
        found.append(int(about.no_timestamps_token_id))
    return found


def is_whole(path: str) -> bool:
    """Whether a folder, or name of the hub, holds Whisper with its decoder."""
    config = config_of(path)
    return config.get("model_type") == "whisper" and "WhisperEncoder" not in config.get("architectures", ())


def load_dictation(
    path: str, origin: Origin, language: str, seconds: float | None = None, truncation: str | None = None
) -> Dictation:
    """Load a Whisper folder or Hugging Face name with its decoder, tokeniser and feature extractor."""
    from safetensors import SafetensorError
    from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration

    kind: Any = WhisperForConditionalGeneration
    errors = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        try:
            model, info = kind.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            reader: Any = AutoFeatureExtractor
            extractor, tokenizer = reader.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        except errors as error:
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UserError(f"cannot load the speech model {origin.name!r}: {first}") from error
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("proj_out"))
    if missing:
        raise UserError(
            f"the weights of {origin.name!r} lack {len(missing)} parameters, first {missing[0]!r}: they would be random"
        )
    model.get_encoder().layerdrop = model.get_decoder().layerdrop = 0.0
    rate = int(extractor.sampling_rate)
    longest = 2 * model.config.max_source_positions * extractor.hop_length / rate
    model = model.eval().requires_grad_(False)
    found = Dictation(model, tokenizer, extractor, SoundSettings(rate, longest, "chunk"), origin, language)
    stored = as_stored(found, Path(path), seconds, truncation)
    assert isinstance(stored, Dictation)
    return stored
