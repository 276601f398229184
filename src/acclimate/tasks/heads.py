"""Heads: features (and TF-IDF words, where used) to logits. A head is an `nn.Module`; its state is all it learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.tasks.in_context import InContextHead
from acclimate.tasks.trees import TreesHead

Words: TypeAlias = Tensor | None  # (n, v), sparse or dense


def _times(words: Tensor, weight: Tensor) -> Tensor:
    """Words (n, v) times weight (k, v) transposed: (n, k)."""
    return torch.mm(words, weight.T) if words.layout is torch.strided else torch.sparse.mm(words, weight.T)


class LinearHead(nn.Module):
    """logits = f Wᵀ + x Vᵀ + b, with f (n, d) features and x (n, v) TF-IDF words; either part may be absent.

    Use when: the default. It is all that a probe needs, and the head that fine-tuning trains.
    """

    kind = "linear"

    def __init__(self, width: int, outputs: int, words: int = 0) -> None:
        super().__init__()
        self.shape = {"width": width, "outputs": outputs, "words": words}
        self.weight = nn.Parameter(torch.zeros(outputs, width))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if words:
            self.word_weight = nn.Parameter(torch.zeros(outputs, words))

    def forward(self, features: Tensor, words: Words = None) -> Tensor:
        """Logits (n, k)."""
        out = features @ self.weight.T + self.bias
        if self.shape["words"]:
            assert words is not None
            out = out + _times(words, self.word_weight)
        return out


class OrdinalHead(nn.Module):
    """Proportional odds: P(y ≤ k) = σ(θ_k − s), s = f wᵀ + x vᵀ, θ_1 < ... < θ_{K−1}. Returns log P(y = k), (n, K).

    One direction orders all the classes, so a few rows a class are enough; McCullagh 1980. The thresholds are kept in
    order by construction: θ_k = θ_1 + Σ softplus(δ_j). Prefer `classify` if the classes are not on one scale.
    """

    kind = "ordinal"

    def __init__(self, width: int, outputs: int, words: int = 0) -> None:
        super().__init__()
        self.shape = {"width": width, "outputs": outputs, "words": words}
        self.weight = nn.Parameter(torch.zeros(1, width))
        self.first = nn.Parameter(torch.tensor([-1.0]))
        self.gaps = nn.Parameter(torch.zeros(max(0, outputs - 2)))
        if words:
            self.word_weight = nn.Parameter(torch.zeros(1, words))

    def thresholds(self) -> Tensor:
        """θ in rising order, (K−1,)."""
        return torch.cat([self.first, self.first + torch.cumsum(F.softplus(self.gaps) + 1e-3, 0)])

    def forward(self, features: Tensor, words: Words = None) -> Tensor:
        """Log-probabilities (n, K): usable as logits, since softmax of log p is p."""
        score = features @ self.weight.T  # (n, 1)
        if self.shape["words"]:
            assert words is not None
            score = score + _times(words, self.word_weight)
        z = self.thresholds() - score  # (n, K−1)
        low, high = F.logsigmoid(z[:, :1]), F.logsigmoid(-z[:, -1:])
        if z.shape[1] == 1:
            return torch.cat([low, high], 1)
        a, b = z[:, 1:], z[:, :-1]  # a > b: log(σ(a) − σ(b)) = log σ(a) + log σ(−b) + log(1 − e^{b−a})
        middle = F.logsigmoid(a) + F.logsigmoid(-b) + torch.log1p(-torch.exp(b - a))
        return torch.cat([low, middle, high], 1)


class KnnHead(nn.Module):
    """Nearest neighbours by cosine: p = (Σ_{i∈N_k} e^{(s_i−1)/τ} y_i + ε/K) / (Σ e^{(s_i−1)/τ} + ε), logits = log p.

    Use when: many classes with few rows each, or to see what the features alone know. The head holds the training
    features, so a bundle with it holds a trace of the training data.
    """

    kind = "knn"
    bank: Tensor
    answers: Tensor
    weight: Tensor
    center: Tensor

    def __init__(self, width: int, outputs: int, rows: int, k: int = 10, mode: str = "log") -> None:
        super().__init__()
        self.shape: dict[str, int | str] = {"width": width, "outputs": outputs, "rows": rows, "k": k, "mode": mode}
        self.register_buffer("bank", torch.zeros(rows, width))  # unit length
        self.register_buffer("answers", torch.zeros(rows, outputs))  # one-hot, multi-hot or values
        self.register_buffer("weight", torch.ones(rows))
        self.register_buffer("center", torch.zeros(width))

    def forward(self, features: Tensor, words: Words = None) -> Tensor:
        """Log-probabilities (log), log-odds (odds) or averaged values (mean), (n, k)."""
        return neighbours(self, self.unit(features), exclude_self=False)

    def unit(self, features: Tensor) -> Tensor:
        """Centred and scaled to length one."""
        return F.normalize(features - self.center, dim=1)


def neighbours(head: KnnHead, unit: Tensor, *, exclude_self: bool, k: int | None = None, chunk: int = 1024) -> Tensor:
    """The answer for each query row; with `exclude_self` query i is bank row i, and is left out (leave-one-out)."""
    k = min(k or int(head.shape["k"]), len(head.bank) - int(exclude_self))
    out = []
    for start in range(0, max(1, len(unit)), chunk):  # no row at all is one empty chunk
        similarity = unit[start : start + chunk] @ head.bank.T
        if exclude_self:
            rows = torch.arange(len(similarity))
            similarity[rows, rows + start] = -torch.inf
        value, at = similarity.topk(k, dim=1)
        weight = torch.exp((value - 1) / 0.1) * head.weight[at]  # τ = 0.1
        total = weight.sum(1, keepdim=True)
        said = head.answers[at]
        known = total
        if head.shape["mode"] == "odds":  # a cell that is not known has no vote
            known = (weight.unsqueeze(-1) * ~said.isnan()).sum(1)
            said = said.nan_to_num()
        answer = (weight.unsqueeze(-1) * said).sum(1)
        out.append(_vote(answer, total, known, str(head.shape["mode"])))
    return torch.cat(out)


def _vote(answer: Tensor, total: Tensor, known: Tensor, mode: str) -> Tensor:
    if mode == "mean":
        return answer / total
    smooth = 0.1 * total
    if mode == "log":
        return torch.log((answer + smooth / answer.shape[1]) / (total + smooth))
    p = (answer + smooth / 2) / (known + smooth)
    return torch.log(p) - torch.log1p(-p)


class CentroidHead(nn.Module):
    """Nearest class mean: logits_k = s · cos(f − m, c_k), c_k the mean of the unit features of class k.

    Use when: very few rows a class; it has one number per class and feature and cannot overfit their covariance.
    """

    kind = "centroid"
    center: Tensor
    centroids: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.shape = {"width": width, "outputs": outputs}
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("centroids", torch.zeros(outputs, width))
        self.register_buffer("scale", torch.tensor(10.0))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, features: Tensor, words: Words = None) -> Tensor:
        """Logits (n, k)."""
        return self.scale * F.normalize(features - self.center, dim=1) @ self.centroids.T + self.bias


class ConstantHead(nn.Module):
    """The same logits for every row: class shares (majority) or the mean. The floor under every other number."""

    kind = "constant"
    logits: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.shape = {"outputs": outputs}
        self.register_buffer("logits", torch.zeros(outputs))

    def forward(self, features: Tensor, words: Words = None) -> Tensor:
        """Logits (n, k)."""
        return self.logits.expand(len(features), -1)


class BottleneckHead(nn.Module):
    """logits = last(h), h = ReLU(LayerNorm(W f + b)), with h (n, hidden) the features that an alignment works on.

    LayerNorm, not BatchNorm: a row is then judged alike whatever its batch-mates, and source and target need no
    statistics of their own. `last` is the head that the task would have on h: linear, or ordinal.

    Use when: the backbone is frozen, and something besides the logits must move (domain adaptation).
    """

    kind = "bottleneck"

    def __init__(self, width: int, outputs: int, hidden: int, last: str = "linear", dropout: float = 0.0) -> None:
        super().__init__()
        self.shape: dict[str, int | str | float] = {
            "width": width, "outputs": outputs, "hidden": hidden, "last": last, "dropout": dropout,
        }  # fmt: skip
        self.inner = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.last = OrdinalHead(hidden, outputs) if last == "ordinal" else LinearHead(hidden, outputs)

    def hidden(self, features: Tensor) -> Tensor:
        """h, (n, hidden)."""
        kept: Tensor = self.dropout(F.relu(self.norm(self.inner(features))))
        return kept

    def forward(self, features: Tensor, words: Words = None) -> Tensor:
        """Logits (n, k)."""
        logits: Tensor = self.last(self.hidden(features))
        return logits

    @torch.no_grad()
    def fold(self, mean: Tensor, spread: Tensor) -> None:
        """Take raw features instead of (f − mean)/spread: W ← W/spread, b ← b − W·mean/spread, in float64."""
        weight = self.inner.weight.double() / spread.double()
        self.inner.bias.copy_(self.inner.bias.double() - weight @ mean.double())
        self.inner.weight.copy_(weight)


class Heads(nn.Module):
    """A head for each of several label columns on the same features; their logits stand side by side.

    Use when: several columns are learned at once (`Multitask`).
    """

    kind = "several"

    def __init__(self, heads: list[dict[str, Any]]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(HEADS[one["kind"]](**one["shape"]) for one in heads)
        self.shape: dict[str, Any] = {"heads": heads}

    @staticmethod
    def of(parts: Sequence[Head]) -> Heads:
        """These heads, not copied."""
        heads = Heads([])
        heads.parts.extend(parts)
        heads.shape = {"heads": [{"kind": one.kind, "shape": one.shape} for one in parts]}
        return heads

    def forward(self, features: Tensor, words: Words = None) -> Tensor:
        """Logits (n, Σ k)."""
        return torch.cat([part(features, words) for part in self.parts], 1)


Head: TypeAlias = (
    LinearHead
    | OrdinalHead
    | KnnHead
    | CentroidHead
    | ConstantHead
    | BottleneckHead
    | TreesHead
    | InContextHead
    | Heads
)
HEADS: dict[str, type[Head]] = {  # kind -> class
    "linear": LinearHead,
    "ordinal": OrdinalHead,
    "knn": KnnHead,
    "centroid": CentroidHead,
    "constant": ConstantHead,
    "bottleneck": BottleneckHead,
    "trees": TreesHead,
    "in_context": InContextHead,
    "several": Heads,
}
