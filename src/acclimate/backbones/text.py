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
from acclimate.backbones.quantise import check as check_precision
from acclimate.backbones.quantise import numbers, plain_again, quantise
from acclimate.backbones.tokens import LEAST_LENGTH, Reader, TextSettings
from acclimate.backbones.windows import check
from acclimate.errors import UserError, unknown
from acclimate.files import json_text, write_text

POOLINGS = ("mean", "cls", "pooler", "last")
_TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 65_536}  # without gradients: a long text takes no more memory than this
_WORTH_IT = 4096  # tokens to read below which laying out weights takes longer than it saves
_proving = Lock()
_SETTINGS = "acclimate_text.json"


class TextBackbone(Backbone):
    """A Hugging Face model of text, pooled. `forward` gives (n, d)."""

    modality = "text"
    path: str = ""  # where the weights were loaded from: a head for hidden words may lie there, too

    def __init__(self, model: nn.Module, tokenizer: Any, settings: TextSettings, origin: Origin) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.text = settings
        self.origin = origin
        self.width = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self._takes = takes(model)
        if settings.precision == "int8":
            quantise(self.blocks or [model], origin.name)
        self._packing: str | None = None  # not asked yet
        self._first_alone = False

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
        if packed:
            batch, order = pack(parts, counted_from(self.model))
            owner = [owner[i] for i in order]
        else:
            batch = pad(parts, self.tokenizer.pad_token_id or 0)
        batch["owner"] = torch.tensor(owner, dtype=torch.long)
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
        return self._features({key: value.to(device) for key, value in batch.items()})

    # -- the network -----------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Pooled features, (n, d); windows of one text are averaged, weighted by their tokens."""
        if "lengths" in batch and self.packing != PACKED:
            raise RuntimeError(f"a packed batch was given to a model that cannot read it: {self.packing}")
        return self._features(batch)

    def _features(self, batch: Batch) -> Tensor:
        if "lengths" in batch:
            return by_owner(self._packed(batch), batch["lengths"], batch["owner"], len(batch["rows"]))
        out = self._run(batch, ("input_ids", "attention_mask", "token_type_ids"))
        pooled = self._pool(out, batch["attention_mask"])
        return by_owner(pooled, batch["attention_mask"].sum(1), batch["owner"], len(batch["rows"]))

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
        return {"modality": "text", "tokenizer": type(self.tokenizer).__name__, **asdict(self.text)}

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
        other.path = self.path
        return other

    def clone(self) -> TextBackbone:
        """A copy with weights of its own; the tokeniser is shared, since it does not learn."""
        if self.fixed:
            raise UserError(f"{self.origin.name!r} cannot be tuned: {self.fixed}; use --precision fp32")
        other = TextBackbone(copy.deepcopy(self.model), self.tokenizer, self.text, self.origin)
        other._packing, other._first_alone, other.path = self._packing, self._first_alone, self.path
        return other

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder, plus the settings above as JSON."""
        with quiet_transformers():
            self.model.save_pretrained(folder)  # type: ignore[operator]
            self.tokenizer.save_pretrained(folder)
        write_text(folder / _SETTINGS, json_text({**asdict(self.text), "origin": asdict(self.origin)}, indent=1))


def _tokenizer_text(tokenizer: Any) -> str:
    """Everything that decides which tokens a text becomes, as text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    parts = json.loads(backend.to_str())
    # Padding and truncation are left out: they are set anew at every call.
    return json.dumps({k: v for k, v in parts.items() if k not in ("padding", "truncation")}, sort_keys=True)


def load_text(
    path: str,
    origin: Origin,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    truncation: str | None = None,
    prefix: str | None = None,
    precision: str | None = None,
) -> TextBackbone:
    """Load a Hugging Face name or folder. Settings that are not given come from the folder, else from the model."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    with quiet_transformers(), torch.random.fork_rng(devices=[]):  # what a file lacks is drawn before we see it
        try:
            config = AutoConfig.from_pretrained(path)
            auto = AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel
            model, info = auto.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise UserError(cannot_load(origin.name, error)) from error
    known = stored(Path(path))
    settings = replace(
        resolve(model, tokenizer, known, pooling, max_length, truncation, prefix),
        precision=check_precision(precision or known.get("precision", "fp32")),
    )
    _check_weights(model, info, settings, origin.name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.truncation_side = "right"  # `truncation` says what is kept, and "head" is the beginning
    found = TextBackbone(model.eval().requires_grad_(False), tokenizer, settings, stored_origin(Path(path)) or origin)
    found.path = path
    return found


def cannot_load(name: str, error: Exception) -> str:
    """What is said of a model that does not load."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"cannot load the model {name!r}: {first}\nGive a name from `acclimate models list`, a folder that holds "
        "config.json, weights and tokeniser files, or a Hugging Face name (which needs the network the first time)."
    )


def _check_weights(model: nn.Module, info: Any, settings: TextSettings, name: str) -> None:
    missing = sorted(info["missing_keys"])
    pooler = [key for key in missing if "pooler" in key]
    body = [key for key in missing if "pooler" not in key]
    if body:
        raise UserError(
            f"the weights of {name!r} lack {len(body)} parameters, first {body[0]!r}: they would be random. "
            "The file is incomplete or belongs to another architecture."
        )
    if settings.pooling == "pooler":
        if pooler or getattr(model, "pooler", None) is None:
            raise UserError(f"pooling 'pooler': {name!r} ships no trained pooler; use --pooling mean or cls")
    elif getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]  # never read; keeping it would waste memory and blur the fingerprint


def stored(folder: Path) -> dict[str, Any]:
    """Settings beside the weights: ours, the catalogue's, or those of a sentence-transformers folder."""
    found: dict[str, Any] = {}
    for name, keys in (
        ("sentence_bert_config.json", {"max_seq_length": "max_length"}),
        ("acclimate_source.json", {"prefix": "prefix", "pooling": "pooling", "max_length": "max_length"}),
        (_SETTINGS, {k: k for k in ("pooling", "max_length", "truncation", "prefix", "precision")}),
    ):
        file = folder / name
        if file.is_file():
            values = json.loads(file.read_text(encoding="utf-8"))
            found.update({ours: values[theirs] for theirs, ours in keys.items() if values.get(theirs)})
    return found


def stored_origin(folder: Path) -> Origin | None:
    """The origin that a bundle's backbone folder was saved with."""
    file = folder / _SETTINGS
    if not file.is_file():
        return None
    values = json.loads(file.read_text(encoding="utf-8")).get("origin")
    return Origin(**values) if values else None


def resolve(
    model: Any,
    tokenizer: Any,
    stored: dict[str, Any],
    pooling: str | None,
    max_length: int | None,
    truncation: str | None,
    prefix: str | None,
) -> TextSettings:
    """The settings as asked for, else as stored, else as the model suggests."""
    limit = position_limit(model.config, tokenizer)
    default = "last" if _is_causal(model.config) else "mean"
    settings = replace(
        TextSettings(),
        pooling=pooling or stored.get("pooling", default),
        max_length=int(min(stored.get("max_length", 512), limit) if max_length is None else max_length),
        truncation=check(truncation or stored.get("truncation", "head")),
        prefix=stored.get("prefix", "") if prefix is None else prefix,
    )
    if settings.pooling not in POOLINGS:
        raise unknown("pooling", settings.pooling, POOLINGS)
    if not LEAST_LENGTH <= settings.max_length <= limit:
        raise UserError(
            f"max_length {settings.max_length} is outside what this model takes: {LEAST_LENGTH} to {limit} tokens"
        )
    return settings


def position_limit(config: Any, tokenizer: Any) -> int:
    """Tokens that the model takes at most."""
    positions = getattr(config, "max_position_embeddings", None) or 1_000_000
    if getattr(config, "model_type", "") in {"roberta", "xlm-roberta", "camembert", "mpnet"}:
        positions -= 2  # these count from padding_idx + 1
    return int(min(positions, tokenizer.model_max_length or positions))


def _is_causal(config: Any) -> bool:
    return (
        any("CausalLM" in a or "LMHead" in a for a in (getattr(config, "architectures", None) or []))
        and not getattr(config, "is_encoder_decoder", False)
        and getattr(config, "model_type", "") not in {"bert", "roberta"}
    )
