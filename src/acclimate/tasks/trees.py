"""A head of decision trees, kept as arrays: what boosting learned, read without the library that learned it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_AT_ONCE = 1 << 20  # places of rows in trees that are held at once


class TreesHead(nn.Module):
    """s_j = b_j + Σ_t v_t(leaf of f), over the trees t of score j; a node sends f left where f_i ≤ threshold.

    "classes": logits are log softmax(s), for two classes of (0, s); a class that no training row had has log(½/n) in
    the place of it. "labels" and "value": logits are s. With `votes` = T trees a score is a mean share p of their votes
    instead (a forest), and logits are those of (T p + 1)/(T + n), of n classes, or of a label's two answers, so that
    none is sure. A leaf of a tree that gives all scores at once (`rows` above 0) says which row of `value` they are.
    NaN goes where the node says. `move` first maps features by
    f ↦ A f + a, (m,) to (d,), with what is missing filled: boosting on features that were moved, or fewer of them.

    Use when: features are columns, of different units and partly missing; they are read as they are.
    """

    kind = "trees"
    feature: Tensor
    threshold: Tensor
    missing_left: Tensor
    left: Tensor
    right: Tensor
    value: Tensor  # (nodes,), or (rows, scores)
    row: Tensor
    root: Tensor
    score: Tensor
    base: Tensor
    present: Tensor
    absent: Tensor
    fill: Tensor
    matrix: Tensor
    offset: Tensor

    def __init__(
        self, width: int, outputs: int, nodes: int, trees: int, scores: int, present: int, depth: int, mode: str,
        moved: bool = False, keeps_missing: bool = False, reads: int | None = None, votes: int = 0,
        rows: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape: dict[str, int | str | bool] = {
            "width": width, "outputs": outputs, "nodes": nodes, "trees": trees, "scores": scores, "present": present,
            "depth": depth, "mode": mode, "moved": moved, "keeps_missing": keeps_missing,
            "reads": width if reads is None else reads, **({"votes": votes} if votes else {}),
            **({"rows": rows} if rows else {}),
        }  # fmt: skip
        whole = torch.int32
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(nodes, dtype=whole))
        self.register_buffer("threshold", torch.zeros(nodes, dtype=torch.float64))
        self.register_buffer("missing_left", torch.zeros(nodes, dtype=torch.bool))
        self.register_buffer("value", torch.zeros((rows, scores) if rows else nodes, dtype=torch.float64))
        if rows:
            self.register_buffer("row", torch.zeros(nodes, dtype=whole))
        self.register_buffer("root", torch.zeros(trees, dtype=whole))
        self.register_buffer("score", torch.zeros(trees, dtype=whole))
        self.register_buffer("base", torch.zeros(scores, dtype=torch.float64))
        self.register_buffer("present", torch.zeros(present, dtype=whole))
        self.register_buffer("absent", torch.zeros((), dtype=torch.float64))
        size, read = (width, int(self.shape["reads"])) if moved else (0, 0)
        self.register_buffer("fill", torch.zeros(read, dtype=torch.float64))
        self.register_buffer("matrix", torch.zeros(size, read, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(size, dtype=torch.float64))

    def forward(self, features: Tensor, words: Tensor | None = None) -> Tensor:
        """Logits (n, k), float64, from plain features (n, v) where there are some, else from those of a backbone."""
        x = self.moved((features if words is None else words.to_dense()).double())
        most = max(1, _AT_ONCE // max(1, len(self.root)))
        return self.logits(
            torch.cat([self.scores(part) for part in torch.split(x, most)]) if len(x) else self.scores(x)
        )

    def logits(self, scores: Tensor) -> Tensor:
        """Scores (n, s) to logits (n, k)."""
        votes, mode = int(self.shape.get("votes", 0)), self.shape["mode"]
        if votes and mode == "labels":
            return torch.logit((votes * scores + 1) / (votes + 2))
        if mode != "classes":
            return scores
        if votes:
            scores = torch.cat([1 - scores, scores], 1) if len(self.present) == 2 else scores
            scores = torch.log((votes * scores + 1) / (votes + max(1, len(self.present))))
        elif len(self.present) == 2:  # they have one score
            scores = torch.cat([torch.zeros_like(scores), scores], 1)
        logits = self.absent.expand(len(scores), int(self.shape["outputs"])).clone()
        logits[:, self.present.long()] = torch.log_softmax(scores, 1)
        return logits

    def moved(self, x: Tensor) -> Tensor:
        """Features (n, d) as the trees learned them."""
        if not self.shape["moved"]:
            return x
        missing = torch.isnan(x)
        out = torch.where(missing, self.fill, x) @ self.matrix.T + self.offset
        return torch.where(missing, torch.nan, out) if self.shape["keeps_missing"] else out

    def scores(self, x: Tensor) -> Tensor:
        """s, (n, scores): all rows step down all trees together."""
        at = self.root.long().expand(len(x), -1)
        for _ in range(int(self.shape["depth"])):
            cell = x.gather(1, self.feature[at].long())
            left = torch.where(torch.isnan(cell), self.missing_left[at], cell <= self.threshold[at])
            at = torch.where(left, self.left[at], self.right[at]).long()
        out = self.base.expand(len(x), -1).clone()
        if self.shape.get("rows"):
            return out + nn.functional.embedding_bag(self.row[at], self.value, mode="sum")
        return out.index_add_(1, self.score.long(), self.value[at])

    def with_move(self, fill: Any, matrix: Any, offset: Any, keeps_missing: bool) -> TreesHead:
        """The same trees behind f ↦ A f + a; what is missing stays so, or is filled before."""
        shape = {**self.shape, "moved": True, "keeps_missing": keeps_missing, "reads": len(fill)}
        head = TreesHead(**shape)  # type: ignore[arg-type]
        move = {"fill": fill, "matrix": matrix, "offset": offset}
        head.load_state_dict(self.state_dict() | {name: torch.as_tensor(value) for name, value in move.items()})
        return head


def trees_head(
    width: int, outputs: int, trees: Sequence[tuple[int, Any]], base: Sequence[float], present: Sequence[int],
    absent: float, mode: str, votes: int = 0, values: Any = None,
) -> TreesHead:  # fmt: skip
    """A head of these (score, nodes), nodes as scikit-learn's histogram trees hold them; a leaf leads to itself.

    With `values` (rows, scores) each tree gives all scores: the value of a node is the number of its row there.
    """
    sizes = [len(nodes) for _, nodes in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(np.int64)
    depth = max((int(nodes["depth"].max()) for _, nodes in trees), default=0)
    rows = 0 if values is None else len(values)
    head = TreesHead(
        width, outputs, sum(sizes), len(sizes), len(base), len(present), depth, mode, votes=votes, rows=rows
    )
    for (_, nodes), root in zip(trees, roots, strict=True):
        leaf = nodes["is_leaf"].astype(bool)
        own = np.arange(len(nodes)) + root
        part = slice(root, root + len(nodes))
        for name, found in (
            ("feature", np.where(leaf, 0, nodes["feature_idx"])), ("threshold", nodes["num_threshold"]),
            ("missing_left", nodes["missing_go_to_left"].astype(bool)),
            ("row" if rows else "value", np.where(leaf, nodes["value"], 0.0)),
            ("left", np.where(leaf, own, nodes["left"] + root)), ("right", np.where(leaf, own, nodes["right"] + root)),
        ):  # fmt: skip
            buffer = getattr(head, name)
            # A copy: one node's field of a record keeps the record's odd stride, which torch refuses.
            buffer[part] = torch.from_numpy(np.array(found)).to(buffer.dtype)
    if rows:
        head.value.copy_(torch.from_numpy(values))
    head.root.copy_(torch.from_numpy(roots))
    head.score.copy_(torch.tensor([score for score, _ in trees], dtype=torch.int32))
    head.base.copy_(torch.tensor(list(base), dtype=torch.float64))
    head.present.copy_(torch.tensor(list(present), dtype=torch.int32))
    head.absent.fill_(absent)
    return head
