"""The network of tagging: one linear layer on the words of a text backbone, and the best allowed sequence of tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from acclimate.backbones.base import Batch, Encoded
from acclimate.backbones.packing import by_row
from acclimate.backbones.text import TextBackbone
from acclimate.backbones.windows import windows
from acclimate.data.tagged import is_entities, words_of
from acclimate.errors import UserError
from acclimate.metrics.intervals import FloatArray
from acclimate.structured import word_form
from acclimate.structured.base import StructuredNetwork

OTHER = "O"  # the tag of a word that is in no entity


class TagNetwork(StructuredNetwork):
    """Hidden states of the first piece of every word, through one linear layer; the best allowed sequence of tags.

    The state of a piece is the mean of the last `averaged` blocks, each brought to mean 0 and variance 1 over its
    numbers: what the last block says of single words is worn away where the network was trained to tell whole texts
    (on states of several layers: Peters et al. 2018, arXiv:1802.05365). Beside it, with `form`, what the letters of
    the word look like.

    Loss of a row: Σ over its words of the cross-entropy of the right tag, over the mean number of words a row had in
    training.
    """

    backbone: TextBackbone
    loss_chooses = False  # it rises with confidence while entities are still being learned, and the last epoch is best

    def __init__(
        self,
        backbone: TextBackbone,
        tags: Sequence[str],
        words_a_row: float,
        other_less: float = 0.0,
        *,
        averaged: int = 1,
        form: bool = False,
    ) -> None:
        width = backbone.width + (word_form.WIDTH if form else 0)
        super().__init__(backbone, nn.Sequential(nn.Dropout(0.1), nn.Linear(width, len(tags))))
        if not getattr(backbone.tokenizer, "is_fast", False):
            raise UserError(
                f"the tokeniser of {backbone.origin.name!r} cannot tell which word a piece is of; tagging needs one "
                "that can (a folder with tokenizer.json)"
            )
        self.tags, self.words_a_row, self.other_less = tuple(tags), words_a_row, other_less
        self.averaged, self.form = max(1, min(averaged, len(backbone.blocks))), form
        names = {id(module): name for name, module in backbone.named_modules()}
        # By name, since stubs take the place of blocks whose output is kept (train/prefix.py).
        self.lower = tuple(names[id(block)] for block in backbone.blocks[-self.averaged : -1])
        self.codes = {tag: i for i, tag in enumerate(tags)}
        self.allowed = allowed_steps(self.tags)

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
        parts, known = [], word_form.forms(words)
        for piece in windows(starts, room):
            positions = [*before, *(inside[i] for i in piece), *after]
            here = [(owners[inside[i]], len(before) + k) for k, i in enumerate(piece) if starts[i]]
            names = [name for name in ("input_ids", "token_type_ids") if name in out]
            part: dict[str, Any] = {name: [out[name][i] for i in positions] for name in names}
            part |= {"first": [k for _, k in here], "word": [w for w, _ in here]}
            if self.form:
                part["form"] = known[part["word"]]
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
        if self.form:
            batch["form"] = torch.from_numpy(np.concatenate([part["form"] for row in rows for part in row.parts]))
        if tags:
            batch["tags"] = torch.tensor(tags)
        return batch

    def states(self, batch: Batch) -> Tensor:
        """What the head reads of every word, (words, width)."""
        found = self._hidden(batch)[batch["place"]]
        return torch.cat([found, batch["form"]], 1) if self.form else found

    def _hidden(self, batch: Batch) -> Tensor:
        """The state of every token, (m, d)."""
        if self.averaged == 1:
            return self.backbone.tokens(batch)
        lower: list[Tensor] = []

        def catch(_: nn.Module, __: Any, out: Any) -> None:
            lower.append(out[0] if isinstance(out, tuple) else out)

        hooks = [self.backbone.get_submodule(name).register_forward_hook(catch) for name in self.lower]
        try:
            last = self.backbone.tokens(batch)
        finally:
            for hook in hooks:
                hook.remove()
        each = [*(by_row(hidden.float(), batch)[0] for hidden in lower), last]
        return torch.stack([F.layer_norm(one, one.shape[1:]) for one in each]).mean(0)

    def replayed(self, depth: int) -> bool:
        """Whether no block that is read lies below the one whose output is kept."""
        return depth <= len(self.backbone.blocks) - self.averaged + 1

    def _logits(self, batch: Batch) -> Tensor:
        found: Tensor = self.head(self.states(batch))
        return found.float()

    def forward(self, batch: Batch) -> Tensor:
        """The loss of every row, (n,)."""
        each = F.cross_entropy(self._logits(batch), batch["tags"], reduction="none", ignore_index=-100)
        total = torch.zeros(len(batch["rows"]), device=each.device).index_add_(0, batch["of_row"], each)
        return total / self.words_a_row

    def scores(self, rows: Sequence[Encoded], batch: Batch) -> list[FloatArray]:
        """Log-probabilities of the tags of each row's words, (words, tags)."""
        scores = torch.log_softmax(self._logits(batch), 1).double().cpu().numpy()
        owner = batch["of_row"].cpu().numpy()
        return [scores[owner == i] for i in range(len(rows))]

    def answers(self, rows: Sequence[Encoded], batch: Batch) -> list[Any]:
        """The most probable allowed sequence of each row, the log-probability of "O" lowered by `other_less`; words
        that no window holds are outside."""
        pairs = zip(rows, self.scores(rows, batch), strict=True)
        return [self.decoded(row, mine, self.other_less) for row, mine in pairs]

    def decoded(self, row: Encoded, scores: FloatArray, less: float) -> tuple[str, ...]:
        """The answer of one row by the log-probabilities (words, tags), that of "O" lowered by `less`."""
        if less and OTHER in self.codes:
            scores = scores.copy()
            scores[:, self.codes[OTHER]] -= less
        words = [w for part in row.parts for w in part["word"]]
        tags = [OTHER if OTHER in self.codes else self.tags[0]] * row.total
        for w, code in zip(words, best_path(scores, self.allowed), strict=True):
            tags[w] = self.tags[code]
        return tuple(tags)


def allowed_steps(tags: Sequence[str]) -> NDArray[np.bool_]:
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

    >>> allowed = allowed_steps(["O", "B-x", "I-x"])
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
