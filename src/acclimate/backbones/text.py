"""Text backbones: any Hugging Face encoder or decoder, with its tokeniser, pooled to one vector a text."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.cls_block import first_tokens
from acclimate.backbones.hushed import quiet_transformers
from acclimate.backbones.kernels import laid_out
from acclimate.backbones.packing import (
    Groups,
    Part,
    any_shape,
    by_batch,
    by_owner,
    by_row,
    counted_from,
    groups,
    inside,
    pack,
    pad,
    pool,
    slices,
)
from acclimate.backbones.proof import PACKED, first_alone, takes, verdict
from acclimate.backbones.quantise import numbers, plain_again, quantise
from acclimate.backbones.tokens import Reader, Second, TextSettings
from acclimate.errors import UserError
from acclimate.files import json_text, write_text

POOLINGS = ("mean", "cls", "pooler", "last")
PAIRS = ("apart", "joint")  # how two texts are read
_TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65_536}  # without gradients: a long text takes no more memory than this
_WORTH_IT = 4096  # tokens to read below which laying out weights takes longer than it saves
_proving = Lock()
SETTINGS = "acclimate_text.json"


class TextBackbone(Backbone):
    """A Hugging Face model of text, pooled. `forward` gives (n, d).

    Pairs read "apart" give [u, v, |u − v|, u∘v] with unit vectors u and v of both texts, (n, 4d): Conneau et al. 2017
    (arXiv:1705.02364), Reimers & Gurevych 2019 (arXiv:1908.10084). An encoder that was made for single sentences says
    little of two in one sequence.
    """

    modality = "text"
    unasked: bool = False  # whether the rows decided how pairs are read
    path: str = ""  # where the weights were loaded from: a head for hidden words may lie there, too

    def __init__(self, model: nn.Module, tokenizer: Any, settings: TextSettings, origin: Origin) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.text = settings
        self.origin = origin
        self.width = int(model.config.hidden_size) * (4 if settings.apart else 1)  # type: ignore[union-attr, arg-type]
        self._takes = takes(model)
        if settings.precision == "int8":
            quantise(self.blocks or [model], origin.name)
        self._packing: str | None = None  # not asked yet
        self._first_alone = False

    def fit_rows(self, rows: Sequence[Any]) -> TextBackbone:
        """Itself, or the same weights where the rows ask for another way of reading pairs: if nothing was said, apart
        for mean pooling, which makes sentence encoders, and jointly for the others; nothing where there are none."""
        paired = any(not isinstance(x, str) and x[1] is not None for x in rows)
        usual = "apart" if self.text.pooling == "mean" else "joint"
        wanted = (self.text.pairs or usual) if paired else ""
        if wanted == self.text.pairs:
            return self
        other = self.with_settings(replace(self.text, pairs=wanted))
        other.unasked = paired
        return other

    def to_tune(self) -> TextBackbone:
        """With pairs as one sequence, unless something else was asked: with thousands of pairs attention from one text
        to the other is worth more than anything else, and with few the frozen ones, read apart, lead anyway."""
        if not (self.unasked and self.text.apart):
            return self
        return self.with_settings(replace(self.text, pairs="joint"))

    # -- preprocessing ---------------------------------------------------------------------------------------------

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Token ids of every text (or pair). With `truncation="chunk"` a long text becomes several windows."""
        return Reader(self.tokenizer, self.text, self.origin.name).encode(inputs)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Token ids of all windows, and for every window the row that it belongs to (w,).

        One packed row (1, T) with the `lengths` of its windows where that is exact (see `packing`); else padded ids
        (w, t) with their mask. Padding goes to the right whatever the tokeniser says: for generation it belongs to the
        left, but there GPT-2 and BERT count padding as positions, and the features of a text would depend on its
        batch-mates.
        """
        parts = [part for row in rows for part in row.parts]
        owner = [i for i, row in enumerate(rows) for _ in row.parts]
        batch = self._batch(parts, owner, packed=self.packs and not self.padded)
        batch["rows"] = torch.arange(len(rows))
        return batch

    def _batch(self, parts: Sequence[Part], owner: Sequence[int], *, packed: bool) -> Batch:
        order: Sequence[int] = range(len(parts))
        if packed:
            batch, order = pack(parts, counted_from(self.model))
        else:
            batch = pad(parts, self.tokenizer.pad_token_id or 0)
        batch["owner"] = torch.tensor([owner[i] for i in order], dtype=torch.long)
        if self.text.apart:
            batch["second"] = torch.tensor([isinstance(parts[i], Second) for i in order])
        return batch

    @property
    def packing(self) -> str:
        """ "packed", or why texts are padded; found out at the first batch by reading the same tokens in both ways."""
        with _proving:
            if self._packing is None:
                self._packing = verdict(self)
                self._first_alone = self._packing == PACKED and first_alone(self)
        return self._packing

    @property
    def packs(self) -> bool:
        """Whether texts may be packed."""
        return self.packing == PACKED

    def features_of(self, parts: Sequence[Part], *, packed: bool) -> Tensor:
        """Features (w, d) of token ids, in the way asked for."""
        batch = self._batch(parts, range(len(parts)), packed=packed)
        batch["rows"] = torch.arange(len(parts))
        device = next(self.parameters()).device
        alone = self.with_settings(replace(self.text, pairs="")) if self.text.apart else self
        return alone._features({key: value.to(device) for key, value in batch.items()})

    # -- the network -----------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Pooled features, (n, d); windows of one text are averaged, weighted by their tokens."""
        if "lengths" in batch and self.packing != PACKED:
            raise RuntimeError(f"a packed batch was given to a model that cannot read it: {self.packing}")
        return self._features(batch)

    def _features(self, batch: Batch) -> Tensor:
        if "lengths" in batch:
            return self._joined(self._packed(batch), batch["lengths"], batch)
        out = self._run(batch, ("input_ids", "attention_mask", "token_type_ids"))
        return self._joined(self._pool(out, batch["attention_mask"]), batch["attention_mask"].sum(1), batch)

    def _joined(self, pooled: Tensor, tokens: Tensor, batch: Batch) -> Tensor:
        """One vector a row (n, d) of those of windows (w, d)."""
        n = len(batch["rows"])
        if not self.text.apart:
            return by_owner(pooled, tokens, batch["owner"], n)
        sides = by_owner(pooled, tokens, 2 * batch["owner"] + batch["second"], 2 * n)
        u, v = normalize(sides.reshape(n, 2, -1), dim=2).unbind(1)
        return torch.cat([u, v, (u - v).abs(), u * v], 1)

    @property
    def body(self) -> Any:
        """What gives hidden states."""
        return self.model

    def _run(self, batch: Batch, names: Sequence[str]) -> Any:
        inputs: dict[str, Any] = {key: batch[key] for key in names if key in batch and key in self._takes}
        if "use_cache" in self._takes:
            inputs["use_cache"] = False  # keys and values are kept for generation alone
        device = batch["input_ids"].device
        with numbers(self.text.precision, device), any_shape(device):
            return self.body(**inputs)

    def _packed(self, batch: Batch) -> Tensor:
        """One vector a window (w, d); without gradients a few windows at a time, so that memory has a limit."""
        lengths = batch["lengths"].tolist()
        limit = _TOKENS_AT_ONCE.get(batch["input_ids"].device.type, _TOKENS_AT_ONCE["cpu"])
        parts = [slice(0, len(lengths))] if torch.is_grad_enabled() else slices(lengths, limit)
        found, start = [], 0
        for part in parts:
            spans = groups(lengths[part])
            stop = start + spans[-1].stop
            names = ("input_ids", "position_ids", "token_type_ids")
            with inside(spans), first_tokens(self._first_alone):
                out = self._run({key: batch[key][:, start:stop] for key in names if key in batch}, names)
            found.append(self._pool_packed(out.last_hidden_state[0].float(), spans))
            start = stop
        return found[0] if len(found) == 1 else torch.cat(found)

    def tokens(self, batch: Batch) -> Tensor:
        """Last hidden states of all tokens (m, d), those of one row together; padding has none."""
        packed = "lengths" in batch
        names = ("input_ids", "position_ids" if packed else "attention_mask", "token_type_ids")
        with inside(groups(batch["lengths"].tolist())) if packed else nullcontext():
            hidden: Tensor = self._run(batch, names).last_hidden_state
        return by_row(hidden.float(), batch)[0]

    def _pool_packed(self, hidden: Tensor, spans: Groups) -> Tensor:
        if len(hidden) != spans[-1].stop:  # the last block ran for the first tokens alone
            return hidden
        if self.text.pooling == "pooler":
            pooler: Any = self.model.pooler
            first: Tensor = pooler(pool(hidden, spans, "cls")[:, None])
            return first
        return pool(hidden, spans, self.text.pooling)

    def _pool(self, out: Any, mask: Tensor) -> Tensor:
        hidden: Tensor = out.last_hidden_state.float()  # (w, t, d)
        if self.text.pooling == "cls":
            return hidden[:, 0]
        if self.text.pooling == "pooler":
            return out.pooler_output.float()  # type: ignore[no-any-return]
        if self.text.pooling == "last":
            return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)

    def reading(self, cost: int, say: Callable[[str], None]) -> AbstractContextManager[None]:
        """Products as the processor makes them soonest, of weights laid out for it where there is enough to read."""
        return laid_out(self.model, cost >= _WORTH_IT) if self.text.precision == "fp32" else nullcontext()

    def flat(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, list[int]]:
        """The tokens of every row, its windows one after the other."""
        return by_row(hidden, batch)

    def unflat(self, flat: Tensor, batch: Batch, shape: tuple[int, ...]) -> Tensor:
        """Tokens back in their places."""
        return by_batch(flat, batch)

    def flat_rows(self, encoded: Sequence[Encoded]) -> list[int]:
        """The number of tokens of each input, all windows together."""
        return [sum(len(part["input_ids"]) for part in row.parts) for row in encoded]

    @property
    def blocks(self) -> list[nn.Module]:
        """The longest list of like layers inside the model; empty where one layer is used several times (ALBERT)."""
        lists = [list(m) for m in self.model.modules() if isinstance(m, nn.ModuleList) and len(m) > 1]
        alike = [blocks for blocks in lists if len({type(block) for block in blocks}) == 1]
        return max(alike, key=len) if alike else []

    # -- identity and storage --------------------------------------------------------------------------------------

    def settings(self) -> dict[str, object]:
        """Pooling, length, truncation and prefix, with the tokeniser's class."""
        said = {name: value for name, value in asdict(self.text).items() if name != "pairs" or value}
        return {"modality": "text", "tokenizer": type(self.tokenizer).__name__, **said}

    def fingerprint(self) -> str:
        """Weights, preprocessing, the tokeniser itself and the architecture: each changes what a text becomes."""
        digest = hashlib.blake2b(super().fingerprint().encode(), digest_size=16)
        digest.update(_tokenizer_text(self.tokenizer).encode("utf-8", "surrogatepass"))
        config: dict[str, Any] = self.model.config.to_dict()  # type: ignore[union-attr, operator]
        stable = {
            k: v for k, v in config.items() if k not in ("_name_or_path", "transformers_version", "architectures")
        }
        digest.update(json.dumps(stable, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    @property
    def fixed(self) -> str:
        """Weights that are read in int8 cannot learn."""
        return "its weights are read in int8, which cannot learn" if self.text.precision == "int8" else ""

    def with_settings(self, settings: TextSettings) -> TextBackbone:
        """The same weights under other settings; with another precision, a copy of them."""
        model = self.model
        if settings.precision != self.text.precision:
            model = copy.deepcopy(model)
            plain_again(model)
        other = TextBackbone(model, self.tokenizer, settings, self.origin)
        other.path, other.unasked = self.path, self.unasked
        if (settings.precision, settings.pooling) == (self.text.precision, self.text.pooling):
            other._packing, other._first_alone = self._packing, self._first_alone
        return other

    def clone(self) -> TextBackbone:
        """A copy with weights of its own; the tokeniser is shared, since it does not learn."""
        if self.fixed:
            raise UserError(f"{self.origin.name!r} cannot be tuned: {self.fixed}; use --precision fp32")
        other = TextBackbone(copy.deepcopy(self.model), self.tokenizer, self.text, self.origin)
        other._packing, other._first_alone, other.path = self._packing, self._first_alone, self.path
        other.unasked = self.unasked
        return other

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder, plus the settings above as JSON."""
        with quiet_transformers():
            self.model.save_pretrained(folder)  # type: ignore[operator]
            self.tokenizer.save_pretrained(folder)
        write_text(folder / SETTINGS, json_text({**asdict(self.text), "origin": asdict(self.origin)}, indent=1))


def _tokenizer_text(tokenizer: Any) -> str:
    """Everything that decides which tokens a text becomes, as text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    parts = json.loads(backend.to_str())
    # Padding and truncation are left out: they are set anew at every call.
    return json.dumps({k: v for k, v in parts.items() if k not in ("padding", "truncation")}, sort_keys=True)
