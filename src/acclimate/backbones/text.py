"""Text backbones: any Hugging Face encoder or decoder, with its tokeniser, pooled to one vector a text."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.windows import check, cut, too_long, word_starts
from acclimate.errors import UserError, unknown

POOLINGS = ("mean", "cls", "pooler", "last")
LEAST_LENGTH = 8  # tokens: the special ones of a pair, and at least two of each text
_SETTINGS = "acclimate_text.json"


@dataclass(frozen=True)
class TextSettings:
    """How text becomes a vector. Saved in the bundle and enforced at prediction."""

    pooling: str = "mean"
    max_length: int = 256  # tokens, special ones included
    truncation: str = "head"
    prefix: str = ""  # put before every text, e.g. "query: " for e5


class TextBackbone(Backbone):
    """A Hugging Face model of text, pooled. `forward` gives (n, d)."""

    modality = "text"

    def __init__(self, model: nn.Module, tokenizer: Any, settings: TextSettings, origin: Origin) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.text = settings
        self.origin = origin
        self.width = int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    # -- preprocessing ---------------------------------------------------------------------------------------------

    def encode(self, inputs: Sequence[Any]) -> list[Encoded]:
        """Token ids of every text (or pair). With `truncation="chunk"` a long text becomes several windows."""
        if not inputs:
            return []
        pairs = [(x, None) if isinstance(x, str) else (x[0], x[1]) for x in inputs]
        first = [self.text.prefix + a for a, _ in pairs]
        paired = any(b is not None for _, b in pairs)
        second = [self.text.prefix + (b or "") for _, b in pairs] if paired else None
        full = [self._not_empty(ids) for ids in self._tokenise(first, second, truncate=False)]
        rows: list[Encoded] = []
        for i, ids in enumerate(full):
            total = len(ids["input_ids"])
            if total <= self.text.max_length:
                rows.append(Encoded((ids,), total, 0, total))
            else:
                rows.append(self._shorten(ids, first[i], second[i] if second else None, f"input {i + 1}"))
        return rows

    def _tokenise(self, first: list[str], second: list[str] | None, *, truncate: bool) -> list[dict[str, list[int]]]:
        out = self.tokenizer(
            first,
            second,
            truncation=truncate,
            max_length=self.text.max_length if truncate else None,
            padding=False,
            return_attention_mask=False,
            verbose=False,
        )
        return [{key: list(out[key][i]) for key in out} for i in range(len(first))]

    def _not_empty(self, ids: dict[str, list[int]]) -> dict[str, list[int]]:
        """A text that leaves no token at all is read as one that ends at once: the mean of nothing would be NaN."""
        if ids["input_ids"]:
            return ids
        end = self.tokenizer.eos_token_id or self.tokenizer.pad_token_id or 0
        return {key: [end if key == "input_ids" else 0] for key in ids}

    def _shorten(self, ids: dict[str, list[int]], first: str, second: str | None, name: str) -> Encoded:
        total, limit = len(ids["input_ids"]), self.text.max_length
        if self.text.truncation == "fail":
            raise too_long(name, total, limit)
        if self.text.truncation == "head":
            part = self._tokenise([first], None if second is None else [second], truncate=True)[0]
            return Encoded((part,), len(part["input_ids"]), total - len(part["input_ids"]), total)
        pieces = self._pieces(ids["input_ids"], first, second)
        parts = tuple({key: [values[i] for i in piece] for key, values in ids.items()} for piece in pieces)
        return Encoded(parts, sum(map(len, pieces)), total - len({i for piece in pieces for i in piece}), total)

    def _pieces(self, ids: list[int], first: str, second: str | None) -> list[list[int]]:
        """Positions that each piece keeps: the special tokens, of a pair the head of its shorter text, and a cut."""
        bodies: list[tuple[int, list[bool]]] = []  # of each text: where it begins, and which of its tokens start words
        at = 0
        for text in (first, second):
            tokens, starts = ([], []) if text is None else self._body(text)
            while at + len(tokens) <= len(ids) and ids[at : at + len(tokens)] != tokens:
                at += 1
            if at + len(tokens) > len(ids):
                raise UserError(
                    f"truncation {self.text.truncation!r} cannot tell a text from the tokens that the tokeniser of "
                    f"{self.origin.name!r} puts around it; use --truncation head or fail"
                )
            bodies.append((at, starts))
            at += len(tokens)
        inside = {at + i for at, starts in bodies for i in range(len(starts))}
        special = [i for i in range(len(ids)) if i not in inside]
        room = self.text.max_length - len(special)
        (short_at, short), (long_at, long) = sorted(bodies, key=lambda body: len(body[1]))
        spare = min(len(short), room // 2)  # the shorter text keeps up to half the room
        always = [*special, *range(short_at, short_at + spare)]
        cuts = cut(long, room - spare, self.text.truncation)
        return [sorted([*always, *(long_at + i for i in piece)]) for piece in cuts]

    def _body(self, text: str) -> tuple[list[int], list[bool]]:
        """The tokens of a text without its frame, and where words start (anywhere, if the tokeniser cannot tell)."""
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        out = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast, verbose=False)
        tokens = list(out["input_ids"])
        return tokens, word_starts(text, out["offset_mapping"]) if fast else [True] * len(tokens)

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """Padded ids (w, t), their mask, and for every window the row that it belongs to (w,).

        Padding goes to the right whatever the tokeniser says: for generation it belongs to the left, but there GPT-2
        and BERT count padding as positions, and the features of a text would depend on its batch-mates.
        """
        parts = [part for row in rows for part in row.parts]
        owner = [i for i, row in enumerate(rows) for _ in row.parts]
        length = max(len(p["input_ids"]) for p in parts)

        def padded(key: str, fill: int) -> Tensor:
            return torch.tensor([p[key] + [fill] * (length - len(p[key])) for p in parts], dtype=torch.long)

        ids = padded("input_ids", self.tokenizer.pad_token_id or 0)
        mask = torch.tensor([[i < len(p["input_ids"]) for i in range(length)] for p in parts], dtype=torch.long)
        batch = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in parts[0]:
            batch["token_type_ids"] = padded("token_type_ids", 0)
        batch["owner"] = torch.tensor(owner, dtype=torch.long)
        batch["rows"] = torch.arange(len(rows))
        return batch

    # -- the network -----------------------------------------------------------------------------------------------

    def forward(self, batch: Batch) -> Tensor:
        """Pooled features, (n, d); windows of one text are averaged, weighted by their tokens."""
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}
        out = self.model(**inputs)
        pooled = self._pool(out, batch["attention_mask"])
        n = len(batch["rows"])
        if len(pooled) == n:
            return pooled
        weight = batch["attention_mask"].sum(1, keepdim=True).to(pooled.dtype)  # (w, 1)
        total = torch.zeros(n, 1, dtype=pooled.dtype, device=pooled.device).index_add(0, batch["owner"], weight)
        summed = torch.zeros(n, pooled.shape[1], dtype=pooled.dtype, device=pooled.device)
        return summed.index_add(0, batch["owner"], pooled * weight) / total

    def _pool(self, out: Any, mask: Tensor) -> Tensor:
        hidden: Tensor = out.last_hidden_state  # (w, t, d)
        if self.text.pooling == "cls":
            return hidden[:, 0]
        if self.text.pooling == "pooler":
            return out.pooler_output  # type: ignore[no-any-return]
        if self.text.pooling == "last":
            return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1)

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

    def with_settings(self, settings: TextSettings) -> TextBackbone:
        """The same weights under other settings."""
        return TextBackbone(self.model, self.tokenizer, settings, self.origin)

    def clone(self) -> TextBackbone:
        """A copy with weights of its own; the tokeniser is shared, since it does not learn."""
        return TextBackbone(copy.deepcopy(self.model), self.tokenizer, self.text, self.origin)

    def save(self, folder: Path) -> None:
        """A plain Hugging Face folder, plus the settings above as JSON."""
        with quiet_transformers():
            self.model.save_pretrained(folder)  # type: ignore[operator]
            self.tokenizer.save_pretrained(folder)
        (folder / _SETTINGS).write_text(json.dumps({**asdict(self.text), "origin": asdict(self.origin)}, indent=1))


def _tokenizer_text(tokenizer: Any) -> str:
    """Everything that decides which tokens a text becomes, as text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return json.dumps(sorted(tokenizer.get_vocab().items()))
    parts = json.loads(backend.to_str())
    # Padding and truncation are left out: they are set anew at every call.
    return json.dumps({k: v for k, v in parts.items() if k not in ("padding", "truncation")}, sort_keys=True)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the library's notes on unused heads and its progress bars, and back to what it was."""
    from transformers import utils

    hf_logging: Any = utils.logging
    level = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
        hub.setLevel(hub_level)


def load_text(
    path: str,
    origin: Origin,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    truncation: str | None = None,
    prefix: str | None = None,
) -> TextBackbone:
    """Load a Hugging Face name or folder. Settings that are not given come from the folder, else from the model."""
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    with (
        quiet_transformers(),
        torch.random.fork_rng(devices=[]),
    ):  # what a file lacks is drawn at random before we see it
        try:
            config = AutoConfig.from_pretrained(path)
            auto = AutoModelForTextEncoding if getattr(config, "is_encoder_decoder", False) else AutoModel
            model, info = auto.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(path)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
            raise UserError(_cannot_load(origin.name, error)) from error
    stored = _stored(Path(path))
    settings = _resolve(model, tokenizer, stored, pooling, max_length, truncation, prefix)
    _check_weights(model, info, settings, origin.name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.truncation_side = "right"  # `truncation` says what is kept, and "head" is the beginning
    return TextBackbone(model.eval().requires_grad_(False), tokenizer, settings, stored_origin(Path(path)) or origin)


def _cannot_load(name: str, error: Exception) -> str:
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


def _stored(folder: Path) -> dict[str, Any]:
    """Settings beside the weights: ours, the catalogue's, or those of a sentence-transformers folder."""
    found: dict[str, Any] = {}
    for name, keys in (
        ("sentence_bert_config.json", {"max_seq_length": "max_length"}),
        ("acclimate_source.json", {"prefix": "prefix", "pooling": "pooling", "max_length": "max_length"}),
        (_SETTINGS, {k: k for k in ("pooling", "max_length", "truncation", "prefix")}),
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


def _resolve(
    model: Any,
    tokenizer: Any,
    stored: dict[str, Any],
    pooling: str | None,
    max_length: int | None,
    truncation: str | None,
    prefix: str | None,
) -> TextSettings:
    limit = _position_limit(model.config, tokenizer)
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


def _position_limit(config: Any, tokenizer: Any) -> int:
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
