"""Tagging: a tag for every word, such as the entities of a text or its parts of speech."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.text import TextBackbone
from acclimate.backbones.windows import windows
from acclimate.data.account import Audit
from acclimate.data.findings import finding, rows_text
from acclimate.data.rows import Data
from acclimate.data.tagged import Sentence, is_entities, sentences, spans_of, words_of
from acclimate.errors import UserError
from acclimate.metrics.base import divide
from acclimate.metrics.intervals import FloatArray
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.gate import accounted
from acclimate.structured.tag_baselines import Dictionary, WordCrf, crf_there

_OTHER = "O"


class TagNetwork(StructuredNetwork):
    """Hidden states of the first piece of every word, through one linear layer; the best allowed sequence of tags.

    Loss of a row: Σ over its words of the cross-entropy of the right tag, over the mean number of words a row had in
    training.
    """

    backbone: TextBackbone

    def __init__(self, backbone: TextBackbone, tags: Sequence[str], words_a_row: float) -> None:
        super().__init__(backbone, nn.Sequential(nn.Dropout(0.1), nn.Linear(backbone.width, len(tags))))
        if not getattr(backbone.tokenizer, "is_fast", False):
            raise UserError(
                f"the tokeniser of {backbone.origin.name!r} cannot tell which word a piece is of; tagging needs one "
                "that can (a folder with tokenizer.json)"
            )
        self.tags, self.words_a_row = tuple(tags), words_a_row
        self.codes = {tag: i for i, tag in enumerate(tags)}
        self.allowed = _allowed(self.tags)

    def encode(self, inputs: Sequence[Any], labels: Sequence[Any] | None) -> list[Encoded]:
        """Pieces of every word; a row longer than the model takes becomes several windows, cut between words."""
        rows = []
        for i, given in enumerate(inputs):
            words = [word for word, _, _ in words_of(given)]
            codes = None if labels is None else [self.codes.get(tag, -100) for tag in labels[i]]
            rows.append(self._row(words, codes))
        return rows

    def _row(self, words: list[str], codes: list[int] | None) -> Encoded:
        shown = [w if w.strip() else "." for w in words]  # a word of nothing would have no piece
        out = self.backbone.tokenizer(
            shown, is_split_into_words=True, truncation=False, return_attention_mask=False, verbose=False
        )
        owners = out.word_ids()
        inside = [i for i, w in enumerate(owners) if w is not None]
        before, after = ([*range(inside[0])], [*range(inside[-1] + 1, len(owners))]) if inside else ([], [])
        starts = [i == 0 or owners[inside[i - 1]] != owners[at] for i, at in enumerate(inside)]
        room = self.backbone.text.max_length - len(before) - len(after)
        parts = []
        for piece in windows(starts, room):
            positions = [*before, *(inside[i] for i in piece), *after]
            here = [(owners[inside[i]], len(before) + k) for k, i in enumerate(piece) if starts[i]]
            names = [name for name in ("input_ids", "token_type_ids") if name in out]
            part: dict[str, Any] = {name: [out[name][i] for i in positions] for name in names}
            part |= {"first": [k for _, k in here], "word": [w for w, _ in here]}
            if codes is not None:
                part["tags"] = [codes[w] for w, _ in here]
            parts.append(part)
        cost = sum(len(part["input_ids"]) for part in parts)
        return Encoded(tuple(parts), cost, total=len(words))

    def collate(self, rows: Sequence[Encoded]) -> Batch:
        """The batch of the backbone, and for every word its place among the tokens, its row and its tag."""
        batch = self.backbone.collate(rows)
        places: list[int] = []
        owner: list[int] = []
        tags: list[int] = []
        start = 0
        for i, row in enumerate(rows):
            for part in row.parts:
                places += [start + k for k in part["first"]]
                owner += [i] * len(part["first"])
                tags += part.get("tags", [])
                start += len(part["input_ids"])
        batch["place"], batch["of_row"] = torch.tensor(places), torch.tensor(owner)
        if tags:
            batch["tags"] = torch.tensor(tags)
        return batch

    def _logits(self, batch: Batch) -> Tensor:
        found: Tensor = self.head(self.backbone.tokens(batch)[batch["place"]])
        return found.float()

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        each = F.cross_entropy(self._logits(batch), batch["tags"], reduction="none", ignore_index=-100)
        total = torch.zeros(len(batch["rows"]), device=each.device).index_add_(0, batch["of_row"], each)
        return total / self.words_a_row

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """The most probable allowed sequence of each row; words that no window holds are outside."""
        scores = torch.log_softmax(self._logits(batch), 1).double().cpu().numpy()
        owner = batch["of_row"].cpu().numpy()
        found = []
        for i, row in enumerate(rows):
            mine = scores[owner == i]
            words = [w for part in row.parts for w in part["word"]]
            tags = [_OTHER if _OTHER in self.codes else self.tags[0]] * row.total
            for w, code in zip(words, best_path(mine, self.allowed), strict=True):
                tags[w] = self.tags[code]
            found.append(tuple(tags))
        return found


def _allowed(tags: Sequence[str]) -> NDArray[np.bool_]:
    """(k + 1, k): whether tag j may follow tag i; row k: whether it may begin. I-x follows B-x and I-x alone."""
    k = len(tags)
    allowed = np.ones((k + 1, k), dtype=bool)
    if is_entities(tags) and any(t.startswith("B-") for t in tags):
        for j, tag in enumerate(tags):
            if tag.startswith("I-"):
                before = {f"B-{tag[2:]}", tag}
                allowed[:, j] = [t in before for t in tags] + [False]
                if not any(t in before - {tag} for t in tags):
                    allowed[:, j] = True  # this type has no B- tag, so I- begins it
    return allowed


def best_path(scores: FloatArray, allowed: NDArray[np.bool_]) -> list[int]:
    """The sequence of codes with the highest sum of log-probabilities (m, k) among the allowed ones (Viterbi).

    >>> allowed = _allowed(["O", "B-x", "I-x"])
    >>> best_path(np.log([[0.1, 0.3, 0.6], [0.1, 0.1, 0.8]]), allowed)
    [1, 2]
    """
    if not len(scores):
        return []
    barred = np.where(allowed, 0.0, -np.inf)
    best, back = scores[0] + barred[-1], []
    for row in scores[1:]:
        steps = best[:, None] + barred[:-1]
        back.append(steps.argmax(0))
        best = steps.max(0) + row
    path = [int(best.argmax())]
    for came in reversed(back):
        path.append(int(came[path[-1]]))
    return path[::-1]


@dataclass(frozen=True)
class Tag(Structured):
    """A tag for every word: entities (B-, I-, O; F1 of whole entities) or one class a word (accuracy).

    Use when the answer lies inside the text. Rows: CoNLL files, JSONL or Parquet with `tokens` and `tags`, texts with
    `spans`, or a table with a word a row.
    """

    name: ClassVar[str] = "tag"
    noun: ClassVar[str] = "sentence"
    metric: ClassVar[str] = "entity_f1"
    model: ClassVar[str] = "minilm"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "linear_probe": Tune(moves="head", head_learning_rate=1e-2, weight_decay=0.0),
        "partial": Tune(moves="top:2", learning_rate=1e-4),
        "bitfit": Tune(moves="bias", learning_rate=1e-3),
        "lora": Tune(moves="lora", learning_rate=5e-4),
        "full": Tune(learning_rate=1e-4),
        "gradual": Tune(unfreeze=0.5, learning_rate=1e-4),
    }
    candidates: ClassVar[tuple[str, ...]] = ("linear_probe", "lora", "full")

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Sentences with tags; those without, or with tags out of step, are counted with their lines."""
        found, table = sentences(source, asked.columns)
        reasons = [s.reason or ("no_tags" if s.tags is None else None) for s in found]
        kept = [s for s, reason in zip(found, reasons, strict=True) if reason is None]
        data = Data(
            inputs=tuple(s.given for s in kept),
            labels=tuple(s.tags or () for s in kept),
            lines=tuple(s.line for s in kept),
            source=table.source,
            kind="text",
        )
        findings = _findings(kept, state)
        entities = Counter(kind for s in kept for _, _, kind in spans_of(s.tags or ()))
        counts = (
            entities
            if is_entities([t for s in kept for t in s.tags or ()])
            else Counter(t for s in kept for t in s.tags or ())
        )
        return data, accounted(self, table, role, reasons, findings, dict(counts.most_common()))

    def read_new(self, source: Any, asked: Asked) -> New:
        """Sentences to tag; tags in the source are not read."""
        found, table = sentences(source, asked.columns)
        return New(table, tuple(s.given for s in found), tuple("" if s.given else "no words to tag" for s in found))

    def given(self, inputs: Any) -> list[Any] | None:
        """A text, a list of texts, or a list of lists of words."""
        if isinstance(inputs, (list, tuple)) and inputs and not isinstance(inputs[0], Mapping):
            return [x if isinstance(x, str) else tuple(map(str, x)) for x in inputs]
        return [] if isinstance(inputs, (list, tuple)) and not inputs else None

    def learn(self, train: Data) -> State:
        """The tags, "O" first, and the mean number of words a row."""
        tags = sorted({t for row in labels_of(train) for t in row}, key=lambda t: (t != _OTHER, t))
        if len(tags) < 2:
            raise UserError(f"every word has the tag {tags[0]!r}: there is nothing to learn" if tags else "no tags")
        if is_entities(tags):
            begun = {t[2:] for t in tags if t.startswith("B-")}
            tags += sorted(f"I-{kind}" for kind in begun if f"I-{kind}" not in tags)
        words = [len(row) for row in labels_of(train)]
        return {"tags": tags, "words_a_row": float(np.mean(words))}

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """The text backbone with a linear layer on its tokens."""
        from acclimate.backbones import load

        backbone = load(model, **{k: reading[k] for k in ("max_length", "precision") if reading.get(k) is not None})
        if not isinstance(backbone, TextBackbone):
            raise UserError(f"tagging needs a text model, and {model!r} reads {backbone.modality}")
        return TagNetwork(backbone, state["tags"], state["words_a_row"])

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """Each word's usual tag; and a conditional random field on the form of words, where it is installed."""
        found: dict[str, Callable[[], Baseline]] = {"dictionary": partial(Dictionary, train)}
        if crf_there():
            found["crf"] = partial(WordCrf, train, run.seed)
        return found

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """Precision, recall and F1 of entities (right: the same words and the same type), summed over rows; the share
        of words with the right tag."""
        right = np.array(
            [sum(t == a for t, a in zip(x, y, strict=True)) for x, y in zip(truth, answers, strict=True)], float
        )
        words = np.array([len(x) for x in truth], float)
        accuracy = Measure(lambda w: divide(w @ right, w @ words))
        if not is_entities(state["tags"]):
            return {"word_accuracy": accuracy}
        pairs = [(set(spans_of(x)), set(spans_of(y))) for x, y in zip(truth, answers, strict=True)]
        return {**_of_spans(pairs, "entity_"), "word_accuracy": accuracy}

    def per_class(
        self, truth: Sequence[Any], answers: Sequence[Any], state: State
    ) -> dict[str, dict[str, tuple[Measure, int]]]:
        """The same for each type of entity."""
        if not is_entities(state["tags"]):
            return {}
        pairs = [(set(spans_of(x)), set(spans_of(y))) for x, y in zip(truth, answers, strict=True)]
        found = {}
        for kind in sorted({k for one in pairs for side in one for _, _, k in side}):
            mine = [({s for s in x if s[2] == kind}, {s for s in y if s[2] == kind}) for x, y in pairs]
            cases = sum(len(x) for x, _ in mine)
            found[kind] = {name: (measure, cases) for name, measure in _of_spans(mine, "").items()}
        return found

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """Types that were never seen in training."""
        new = sorted({t for row in truth for t in row} - set(state["tags"]))
        return (f"tags never seen in training, counted as missed: {', '.join(new)}",) if new else ()

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """Words with a wrong tag."""
        return [float(sum(t != a for t, a in zip(x, y, strict=True))) for x, y in zip(truth, answers, strict=True)]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """The words, whatever their case."""
        return [" ".join(word for word, _, _ in words_of(x)).casefold() for x in inputs]

    def strata(self, data: Data) -> tuple[str, ...]:
        """The rarest type in the row, so that it stands on both sides."""
        counts = Counter(kind for row in labels_of(data) for kind in {k for _, _, k in spans_of(row)})
        return tuple(
            min({k for _, _, k in spans_of(row)}, key=lambda k: (counts[k], k), default="") for row in labels_of(data)
        )

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """Tags joined by spaces; and entities as JSON with their places in the text, where the tags are of entities."""
        tags = [None if one is None else " ".join(one) for one in answers]
        if not is_entities([t for one in answers for t in one or ()]):
            return {"tags": tags}
        cells: list[str | None] = []
        for given, said in zip(inputs, answers, strict=True):
            if given is None or said is None:
                cells.append(None)
                continue
            words = words_of(given)
            text = given if isinstance(given, str) else " ".join(given)
            found = [
                {
                    "start": words[a][1],
                    "end": words[b - 1][2],
                    "label": kind,
                    "text": text[words[a][1] : words[b - 1][2]],
                }
                for a, b, kind in spans_of(said)
            ]
            cells.append(json.dumps(found, ensure_ascii=False))
        return {"tags": tags, "entities": cells}

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The text, and the entities (or the words whose tags differ)."""
        found = []
        for given, x, y in zip(inputs, truth, answers, strict=True):
            words = [w for w, _, _ in words_of(given)]
            text = given if isinstance(given, str) else " ".join(given)
            found.append({"input": text, "truth": _told(words, x, y), "predicted": _told(words, y, x)})
        return found


def _told(words: Sequence[str], tags: Sequence[str], other: Sequence[str]) -> str:
    if is_entities([*tags, *other]):
        return "; ".join(f"{' '.join(words[a:b])} ({kind})" for a, b, kind in spans_of(tags)) or "none"
    return "; ".join(f"{w} ({t})" for w, t, o in zip(words, tags, other, strict=True) if t != o) or "none"


def _of_spans(pairs: Sequence[tuple[set[Any], set[Any]]], prefix: str) -> dict[str, Measure]:
    hits = np.array([len(x & y) for x, y in pairs], float)
    there = np.array([len(x) for x, _ in pairs], float)
    said = np.array([len(y) for _, y in pairs], float)
    rows = int(((there > 0) | (said > 0)).sum())
    return {
        f"{prefix}f1": Measure(lambda w: divide(2 * (w @ hits), w @ (there + said)), rows=rows),
        f"{prefix}precision": Measure(lambda w: divide(w @ hits, w @ said), rows=int((said > 0).sum())),
        f"{prefix}recall": Measure(lambda w: divide(w @ hits, w @ there), rows=int((there > 0).sum())),
    }


def _findings(kept: Sequence[Sentence], state: State | None) -> list[Any]:
    found = []
    moved = [s.line for s in kept if s.widened]
    if moved:
        message = f"spans of {rows_text(len(moved))} begin or end inside a word; they count as the whole word"
        found.append(finding("span_in_word", "warning", message, len(moved), moved))
    marked = [t for s in kept for t in s.tags or ()]
    if is_entities(marked):
        odd = [s.line for s in kept if any(_continues_nothing(s.tags or (), i) for i in range(len(s.tags or ())))]
        if odd:
            message = (
                f"{rows_text(len(odd))} have an I- tag that continues no entity; it is read as the beginning of one"
            )
            found.append(finding("loose_tag", "info", message, len(odd), odd))
        empty = [s.line for s in kept if not spans_of(s.tags or ())]
        if empty:
            message = f"{rows_text(len(empty))} hold no entity"
            found.append(finding("no_entity", "info", message, len(empty), empty))
    if state is not None:
        new = [s.line for s in kept if set(s.tags or ()) - set(state["tags"])]
        if new:
            message = f"{rows_text(len(new))} have tags that were never seen in training"
            found.append(finding("new_tag", "warning", message, len(new), new))
    return found


def _continues_nothing(tags: Sequence[str], i: int) -> bool:
    if not tags[i].startswith("I-"):
        return False
    before = tags[i - 1] if i else _OTHER
    return before not in (f"B-{tags[i][2:]}", tags[i])
