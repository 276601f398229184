"""Adaptation without the source rows: a head trained on the source goes on with the target's rows alone."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acclimate.align.base import entropies, log_probabilities
from acclimate.backbones.base import in_eval
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.adapt import Adapt, fit_head
from acclimate.strategies.alignment import check_alone, check_one_class
from acclimate.strategies.base import Problem, Splits, unlabelled
from acclimate.strategies.bottleneck import Bottleneck, forked
from acclimate.strategies.domains import Domains, as_device, check_shares
from acclimate.tasks.heads import BottleneckHead
from acclimate.threads import few
from acclimate.train.loop import History, train
from acclimate.train.pairs import even


@dataclass(frozen=True)
class Shot(Bottleneck):
    """First L_source alone; then L_target alone, the source's last layer held: H(p) + Σ_k p̄_k log(p̄_k/q_k) + β·CE(ŷ).

    Liang et al. 2020 (arXiv:2002.08546), equations 3 to 7. Means are over a batch of target rows, p̄ = E[p]; q are the
    `class_shares` that the target is thought to have: "even" (1/K; in the paper, −H(p̄)) or those of the "source".
    Pseudo-labels ŷ are drawn once an epoch over all target rows: the centroid of class k is the mean of [h; 1]/‖[h; 1]‖
    weighted by p_k, a row takes the class of the nearest centroid by cosine, and centroids and labels are taken once
    more from these labels. In L = L_source + λ·L_target, λ is 0 and then infinite.

    Use when: the source may not be kept, or the target is far and its class shares are about even or the source's.
    Prefer `mcc` if the shares differ; prefer `self_train` if there are few target rows.
    """

    beta: float = 0.1  # β; 0.3 in the paper, where the encoder moves
    class_shares: str = "even"  # even | source
    target_epochs: int | None = None  # passes over the target; None: 300 steps or more, 10 epochs or more
    target_rate: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares(self.class_shares)
        if not (self.beta >= 0 and math.isfinite(self.beta)):
            raise UserError(f"beta={self.beta!r} must be 0 or more")
        if not self.target_rate > 0:
            raise UserError(f"target_rate={self.target_rate!r} must be above 0")
        if self.target_epochs is not None and self.target_epochs < 1:
            raise UserError(f"target_epochs={self.target_epochs!r} must be 1 or more")

    def fit(self, problem: Problem, splits: Splits, run: Run) -> Predictor:
        """Train on the source, then on the target."""
        target, run = unlabelled(splits, "shot"), self.begun(run)
        check_alone("shot")
        check_one_class("shot", problem)
        known = Domains.of(problem, splits, self.standardise, target)
        shared = {f.name: getattr(self, f.name) for f in dataclasses.fields(Bottleneck) if f.init}
        with forked(run):
            head, before, _ = fit_head(Adapt(weight=0.0, **shared), problem, known, run.at("source"))
            after = self.adapt(head, known, run.at("target"))
        known.fold(head)
        return self.predictor(problem, head, "shot", [*before, *after])

    def adapt(self, head: BottleneckHead, known: Domains, run: Run) -> History:
        """Move the head's first layer, in place, for the standardised target rows alone."""
        head.last.requires_grad_(False)
        network = Guessed(head, as_device(known.target, run.device)).to(run.device)
        n, classes = len(network.rows), head.last.shape["outputs"]
        going = dataclasses.replace(
            self, num_train_epochs=self.target_epochs or max(10, math.ceil(300 / math.ceil(n / self.batch_size))),
            learning_rate=self.target_rate,
        )  # fmt: skip
        rows_of = even(n, self.batch_size, run.seed, 0)
        shares = as_device(known.class_shares(self.class_shares, classes), run.device)

        def batches(epoch: int) -> list[list[int]]:
            network.guess(epoch)
            return rows_of(epoch)

        def loss_of(at: list[int]) -> Tensor:
            here = torch.as_tensor(at, device=run.device)
            log_p = log_probabilities(head(network.rows[here]))
            mean, certain = log_p.exp().mean(0), entropies(log_p).mean()
            spread = (mean * (mean.clamp(min=1e-12) / shares.clamp(min=1e-6)).log()).sum()
            wrong = F.nll_loss(log_p, network.labels[here])
            return certain + spread + self.beta * wrong

        with few(6.0 * self.batch_size * self.bottleneck * network.rows.shape[1]):
            history = train(
                network, going.optimizer(network), going.schedule(n), batches, loss_of, None, run,
                "shot", "" if run.state is None else f"{self} {known.rows}",
                compared="shot",
            )  # fmt: skip
        head.last.requires_grad_(True)
        head.cpu().eval()
        return history


class Guessed(nn.Module):
    """A head, and its guesses of the target rows' labels at the beginning of the epoch, which a checkpoint keeps."""

    labels: Tensor
    epoch: Tensor

    def __init__(self, head: BottleneckHead, rows: Tensor) -> None:
        super().__init__()
        self.head = head
        self.rows = rows  # not saved
        self.register_buffer("labels", torch.zeros(len(rows), dtype=torch.long))
        self.register_buffer("epoch", torch.tensor(-1))

    @torch.no_grad()
    def guess(self, epoch: int) -> None:
        """New guesses, unless those of this epoch are there."""
        if int(self.epoch) == epoch:
            return
        with in_eval(self.head):
            hidden = self.head.hidden(self.rows)
            p = log_probabilities(self.head.last(hidden)).exp()
        self.labels.copy_(pseudo_labels(hidden, p))
        self.epoch.fill_(epoch)


def pseudo_labels(hidden: Tensor, p: Tensor) -> Tensor:
    """The class of the nearest centroid, (n,); centroids from p (n, K), then once more from the labels so found.

    A class that no row takes keeps no centroid. Liang et al. 2020 (arXiv:2002.08546), equations 4 to 6.

    >>> h = torch.tensor([[0.0, 9.0], [0.0, 8.0], [9.0, 0.0]])
    >>> pseudo_labels(h, torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9]]))  # the second row is as the first
    tensor([0, 0, 1])
    """
    rows = F.normalize(torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1).to(p), dim=1)
    labels = p.argmax(1)
    for _ in range(2):
        taken = torch.bincount(labels, minlength=p.shape[1]) > 0
        centroids = F.normalize((p.T @ rows) / p.sum(0).clamp(min=1e-8).unsqueeze(1), dim=1)
        labels = (rows @ centroids.T).masked_fill(~taken, -torch.inf).argmax(1)
        p = F.one_hot(labels, p.shape[1]).to(p)
    return labels
