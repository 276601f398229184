"""Models that write text, whole with their output layer: decoders (Llama, GPT-2) and encoder-decoders (T5, BART)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded, Origin
from acclimate.backbones.decoding import Decoding, Drawn, kept_as, read_once, to_the_left
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.packing import groups, inside
from acclimate.backbones.proof import plain
from acclimate.backbones.quantise import check as check_precision
from acclimate.backbones.quantise import numbers
from acclimate.backbones.text import TextBackbone
from acclimate.backbones.text_loading import cannot_load, position_limit, resolve, stored, stored_origin
from acclimate.errors import UserError

_USUAL_LENGTH = 1024  # tokens of prompt and answer together


@dataclass(frozen=True)
class Likely:
    """log p of the tokens of answers: the sum of each row, (n,), and how many they are, (n,)."""

    total: Tensor
    tokens: Tensor


class Writer(TextBackbone):
    """A decoder. A row's `input_ids` are prompt and answer, and `start` says where the answer begins."""

    encodes = False  # whether an encoder reads the prompt

    @property
    def body(self) -> Any:
        """The decoder without its output layer."""
        return self.inner.base_model

    @property
    def inner(self) -> Any:
        """The whole network without the wrapper of its adapters, which lie in its layers."""
        return plain(self.model)

    def clone(self) -> Writer:
        """A copy with weights of its own."""
        if self.fixed:
            raise UserError(f"{self.origin.name!r} cannot be tuned: {self.fixed}; use --precision fp32")
        other = type(self)(copy.deepcopy(self.model), self.tokenizer, self.text, self.origin)
        other._packing, other.path = self._packing, self.path
        return other

    def ahead(self, asked: int) -> int:
        """How many of `asked` tokens can follow a prompt: its places are `positions` in all, of which the answer gets
        half at least."""
        if self.encodes:
            return min(asked, self.positions - 1)
        limit = self.text.max_length
        return max(1, min(asked, max(self.positions - limit + 1, limit // 2)))

    @property
    def positions(self) -> int:
        """The tokens that a row of the decoder may have, its prompt and what is written after it."""
        config = self.inner.config
        if self.encodes:
            return int(getattr(config, "max_position_embeddings", None) or 1_000_000)
        return max(position_limit(config, self.tokenizer), self.text.max_length)

    def with_answers(self, rows: Sequence[Encoded]) -> Batch:
        """A batch with the places of the answers' tokens: `place` (m, 2), row and column of what foretells each of
        them, `target` (m,) and `answer_of` (m,), the row it is of."""
        batch = self.collate(rows)
        packed = "lengths" in batch
        lengths = batch["lengths"].tolist() if packed else [len(row.parts[0]["input_ids"]) for row in rows]
        place, target, owner, at = [], [], [], 0
        for line, row in enumerate(batch["owner"].tolist()):
            ids, start = rows[row].parts[0]["input_ids"], rows[row].parts[0]["start"][0]
            place += [(0 if packed else line, (at if packed else 0) + i - 1) for i in range(start, len(ids))]
            target += ids[start:]
            owner += [row] * (len(ids) - start)
            at += lengths[line]
        batch["place"] = torch.tensor(place, dtype=torch.long).view(-1, 2)
        batch["target"], batch["answer_of"] = torch.tensor(target), torch.tensor(owner)
        return batch

    def likely(self, batch: Batch) -> Likely:
        """log p(answer | prompt) of a batch of `with_answers`."""
        return summed(self._answer_logits(batch), batch)

    def _answer_logits(self, batch: Batch) -> Tensor:
        """(m, vocabulary): logits of the places that foretell answers, and of as few others as can be."""
        packed, place = "lengths" in batch, batch["place"]
        names = ("input_ids", "position_ids" if packed else "attention_mask", "token_type_ids")
        inputs: dict[str, Any] = {key: batch[key] for key in names if key in batch and key in self._takes}
        first = 0
        if "logits_to_keep" in self._takes:
            first = int(place[:, 1].min())
            inputs["logits_to_keep"] = place[:, 1] if packed else batch["input_ids"].shape[1] - first
        spans = inside(groups(batch["lengths"].tolist())) if packed else nullcontext()
        with spans, numbers(self.text.precision, place.device):
            logits: Tensor = self.inner(**inputs, use_cache=False).logits
        if packed:
            return logits[0] if "logits_to_keep" in self._takes else logits[0, place[:, 1]]
        return logits[place[:, 0], place[:, 1] - first]

    def write(self, prompts: Sequence[Sequence[int]], how: Decoding, stop: str = "") -> list[list[int]]:
        """The tokens that follow each prompt, up to the end, `max_new_tokens`, or the text `stop` if one is given."""
        fill = int(self.tokenizer.pad_token_id or 0)
        ids, mask = to_the_left(prompts, fill)
        device = next(self.parameters()).device
        with numbers(self.text.precision, device):
            past = None
            if how.num_beams == 1 and max(map(len, prompts)) == min(map(len, prompts)):
                past, _ = read_once(self.inner, prompts)
            elif how.num_beams == 1:
                ids, mask, past = self._begun(prompts, fill)
            out = self._generate(ids.to(device), mask.to(device), prompts, how, past, stop)
        return [self._ended(row) for row in out[:, ids.shape[1] :].tolist()]

    def _begun(self, prompts: Sequence[Sequence[int]], fill: int) -> tuple[Tensor, Tensor, Any]:
        """Ids and mask with what all prompts begin with at the left, padding after it; and its keys and values."""
        past, shared = read_once(self.inner, prompts)
        ids, mask = to_the_left([row[shared:] for row in prompts], fill)
        begin = torch.tensor([list(prompts[0][:shared])] * len(prompts), dtype=torch.long)
        return torch.cat([begin, ids], 1), torch.cat([torch.ones_like(begin), mask], 1), past

    def _generate(
        self, ids: Tensor, mask: Tensor, prompts: Sequence[Any], how: Decoding, past: Any = None, stop: str = ""
    ) -> Tensor:
        more: dict[str, Any] = {kept_as(self.inner): past} if past is not None else {}
        if how.temperature > 0:
            more["logits_processor"] = [Drawn(how, prompts)]
        if stop:
            more["stopping_criteria"] = [partial(_stopped, self.tokenizer, stop, ids.shape[1])]
        most = self.ahead(how.max_new_tokens)
        with quiet_transformers():
            found: Tensor = self.inner.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=most, num_beams=how.num_beams,
                do_sample=False, pad_token_id=int(self.tokenizer.pad_token_id or 0), **more,
            )  # fmt: skip
        return found

    def _ended(self, ids: list[int]) -> list[int]:
        """Without the end and what fills up a row behind it."""
        ends = {self.tokenizer.eos_token_id}
        known = self.inner.generation_config.eos_token_id
        ends |= set(known if isinstance(known, (list, tuple)) else [known])
        stop = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        return ids[:stop]


class Translator(Writer):
    """An encoder-decoder. A row's `input_ids` are read by the encoder, and `answer` is what the decoder writes."""

    encodes = True

    @property
    def packs(self) -> bool:
        """Decoder and encoder have lengths of their own, so rows are padded."""
        return False

    @property
    def blocks(self) -> list[nn.Module]:
        """Those of the encoder, then those of the decoder."""
        return [*_layers(self.inner.get_encoder()), *_layers(self.inner.get_decoder())]

    def stem_and_top(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Embeddings and what lies between the halves; the decoder's last norm and an output layer of its own."""
        inside_blocks = {id(p) for block in self.blocks for p in block.parameters()}
        decoder = self.inner.get_decoder()
        last = {
            id(p) for n in ("final_layer_norm", "layer_norm") for p in getattr(decoder, n, nn.Module()).parameters()
        }
        embedded = {id(p) for p in self.inner.get_input_embeddings().parameters()}
        output = self.inner.get_output_embeddings()
        last |= set() if output is None else {id(p) for p in output.parameters()} - embedded
        outside = [p for p in self.parameters() if id(p) not in inside_blocks]
        return [p for p in outside if id(p) not in last], [p for p in outside if id(p) in last]

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the first word, (n, vocabulary): what `take` compares before and after adapters are merged."""
        first = torch.full((len(batch["input_ids"]), 1), self._begin, device=batch["input_ids"].device)
        return self._logits(batch, first)[:, 0].float()

    @property
    def _begin(self) -> int:
        config = self.inner.config
        begin = getattr(config, "decoder_start_token_id", None)
        begin = self.inner.generation_config.decoder_start_token_id if begin is None else begin
        return int(self.tokenizer.pad_token_id or 0) if begin is None else int(begin)

    def with_answers(self, rows: Sequence[Encoded]) -> Batch:
        """A batch with `decoder_input_ids` (n, t), and `place`, `target` and `answer_of` as decoders have them."""
        batch = self.collate(rows)
        answers = [row.parts[0]["answer"] for row in rows]
        longest = max(map(len, answers))
        fill = int(self.tokenizer.pad_token_id or 0)
        given = [[self._begin, *ids[:-1], *[fill] * (longest - len(ids))] for ids in answers]
        batch["decoder_input_ids"] = torch.tensor(given)
        batch["place"] = torch.tensor([(i, j) for i, ids in enumerate(answers) for j in range(len(ids))])
        batch["target"] = torch.tensor([token for ids in answers for token in ids])
        batch["answer_of"] = batch["place"][:, 0].clone()
        return batch

    def _answer_logits(self, batch: Batch) -> Tensor:
        place = batch["place"]
        return self._logits(batch, batch["decoder_input_ids"])[place[:, 0], place[:, 1]]

    def _logits(self, batch: Batch, decoder: Tensor) -> Tensor:
        with numbers(self.text.precision, decoder.device):
            out: Tensor = self.inner(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], decoder_input_ids=decoder,
                use_cache=False,
            ).logits  # fmt: skip
        return out

    def write(self, prompts: Sequence[Sequence[int]], how: Decoding, stop: str = "") -> list[list[int]]:
        """The tokens that the decoder writes for each text."""
        rows = [Encoded(({"input_ids": list(ids)},), len(ids)) for ids in prompts]
        batch = self.collate(rows)
        device = next(self.parameters()).device
        with numbers(self.text.precision, device):
            out = self._generate(
                batch["input_ids"].to(device), batch["attention_mask"].to(device), prompts, how, None, stop
            )
        return [self._ended(row) for row in out[:, 1:].tolist()]


def summed(logits: Tensor, batch: Batch) -> Likely:
    """Σ log p(target) of each row."""
    n = len(batch["rows"])
    losses = F.cross_entropy(logits.float(), batch["target"], reduction="none")  # (m,)
    zeros = torch.zeros(n, device=losses.device)
    tokens = torch.bincount(batch["answer_of"], minlength=n)
    return Likely(zeros.index_add(0, batch["answer_of"], -losses), tokens)


def _stopped(tokenizer: Any, stop: str, start: int, ids: Tensor, _: Any) -> Tensor:
    """Whether each row (n,) has written `stop`."""
    texts = tokenizer.batch_decode(ids[:, start:])
    return torch.tensor([stop in text for text in texts], device=ids.device)


def _layers(half: nn.Module) -> list[nn.Module]:
    lists = [list(m) for m in half.modules() if isinstance(m, nn.ModuleList) and len(m)]
    return max(lists, key=lambda found: sum(p.numel() for block in found for p in block.parameters()), default=[])


def _loaded(auto: Any, path: str) -> tuple[Any, Any]:
    model, info = auto.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    return model, info


def load_writer(path: str, origin: Origin, *, max_length: int | None = None, precision: str | None = None) -> Writer:
    """Load a Hugging Face name or folder with its output layer."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        try:
            config = AutoConfig.from_pretrained(path)
            encodes = bool(getattr(config, "is_encoder_decoder", False))
            auto = AutoModelForSeq2SeqLM if encodes else AutoModelForCausalLM
            model, info = _loaded(auto, path)
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise UserError(cannot_load(origin.name, error)) from error
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"{origin.name!r} does not write: its weights lack {len(missing)} parameters, first {missing[0]!r}; give a "
            "causal language model such as smollm2, or an encoder-decoder such as T5, BART or Marian"
        )
    if not encodes and not getattr(model.config, "is_decoder", True) and "Causal" not in type(model).__name__:
        raise UserError(f"{origin.name!r} reads texts and does not write; give smollm2 or another language model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    known = {**stored(Path(path)), "pooling": "mean"}
    if max_length is None and "max_length" not in known:
        max_length = min(_USUAL_LENGTH, position_limit(model.config, tokenizer))
    settings = resolve(model, tokenizer, known, None, max_length, None, "")
    settings = replace(settings, precision=check_precision(precision or known.get("precision", "fp32")))
    usual = model.generation_config
    usual.do_sample, usual.temperature, usual.top_p, usual.top_k, usual.max_length = False, None, None, None, None
    kind = Translator if encodes else Writer
    return kind(model.eval().requires_grad_(False), tokenizer, settings, stored_origin(Path(path)) or origin)
