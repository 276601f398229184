"""The formulas of the alignments' docstrings restated as slow loops over rows, in 64 bits, with gradients by autograd.

Each takes (settings, loss, source, target, progress) and gives a scalar. Where a docstring says sg[...], it detaches.
An adversary's gradient reversal is left to the test: it multiplies the gradient of the features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from acclimate.align import View


def parts(view: View) -> list[float]:
    """w̃."""
    n = len(view.features)
    raw = [1.0] * n if view.weights is None else [float(w) for w in view.weights]
    return [w / sum(raw) for w in raw]


def probabilities(logits: Tensor, temperature: float = 1.0) -> list[list[Tensor]]:
    rows = []
    for z in logits:
        e = [torch.exp((v - z.max().detach()) / temperature) for v in z]
        rows.append([v / sum(e) for v in e])
    return rows


def entropy_of(p: list[Tensor]) -> Tensor:
    return sum((-v * torch.log(v) for v in p), torch.zeros((), dtype=torch.float64))


def zero(view: View) -> Tensor:
    return view.features.sum() * 0


def squared(x: Tensor, y: Tensor) -> Tensor:
    return sum(((a - b) ** 2 for a, b in zip(x, y, strict=True)), x.sum() * 0)


def covariance(view: View) -> list[list[Tensor]]:
    w, x = parts(view), view.features
    n, d = x.shape
    mean = [sum(w[i] * x[i, j] for i in range(n)) for j in range(d)]
    free = 1 - sum(v * v for v in w)
    return [
        [sum(w[i] * (x[i, j] - mean[j]) * (x[i, k] - mean[k]) for i in range(n)) / free for k in range(d)]
        for j in range(d)
    ]


def coral(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    c_s, c_t, d = covariance(source), covariance(target), source.features.shape[1]
    return sum((c_s[j][k] - c_t[j][k]) ** 2 for j in range(d) for k in range(d)) / (4 * d * d)


NEIGHBOURS = ((1, 0, 0, 0, 1), (1, 1, 1, 0, 1), (-1, 0, 1, 0, 1), (-1, 0, 1, 1, 0))  # sign, sides, which of the pair


def middle(settings: Any, xs: list[Tensor], xt: list[Tensor], ws: list[float], wt: list[float]) -> float:
    """b."""
    if not isinstance(settings.bandwidth, str):
        return float(settings.bandwidth)
    rows, mass = xs + xt, [w / 2 for w in ws] + [w / 2 for w in wt]
    pairs = range(len(rows))
    if settings.bandwidth == "mean":
        return float(sum(mass[i] * mass[j] * float(squared(rows[i], rows[j]).detach()) for i in pairs for j in pairs))
    apart = sorted(float(squared(rows[i], rows[j]).detach()) for i in pairs for j in pairs if i < j)
    if settings.estimator == "linear":
        sides, starts = (xs, xt), range(0, min(len(xs), len(xt)) // 2 * 2, 2)
        near = [squared(sides[a][i + e], sides[c][i + f]).detach() for _, a, c, e, f in NEIGHBOURS for i in starts]
        apart = sorted(float(v) for v in near)
    return apart[(len(apart) - 1) // 2]


def mmd_of(settings: Any, layers: list[tuple[list[Tensor], list[Tensor]]], ws: list[float], wt: list[float]) -> Tensor:
    b = [middle(settings, xs, xt, ws, wt) for xs, xt in layers]
    m = settings.kernels

    def k(side: int, i: int, other: int, j: int) -> Tensor:
        value = torch.ones((), dtype=torch.float64)
        for layer, width in zip(layers, b, strict=True):
            apart = squared(layer[side][i], layer[other][j])
            value = value * sum(torch.exp(-apart / (2.0 ** (u - m // 2) * width)) for u in range(m)) / m
        return value

    n, w = (len(ws), len(wt)), (ws, wt)
    if settings.estimator == "linear":
        pairs = range(0, min(n) // 2 * 2, 2)
        total: Any = 0.0
        for sign, a, c, first, second in NEIGHBOURS:
            mass = [w[a][i + first] * w[c][i + second] for i in pairs]
            seen = [v * k(a, i + first, c, i + second) for v, i in zip(mass, pairs, strict=True)]
            total = total + sign * sum(seen) / sum(mass)
        return total
    value = torch.zeros((), dtype=torch.float64)
    for a in (0, 1):
        for c in (0, 1):
            same_left_out = a == c and settings.estimator == "unbiased"
            mass = 1 - sum(v * v for v in w[a]) if same_left_out else 1.0
            for i in range(n[a]):
                for j in range(n[c]):
                    if not (same_left_out and i == j):
                        value = value + (1 if a == c else -1) * w[a][i] * w[c][j] * k(a, i, c, j) / mass
    return value


def mmd(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    return mmd_of(settings, [(list(source.features), list(target.features))], parts(source), parts(target))


def jan(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    predictions = tuple([torch.stack(p) for p in probabilities(v.logits)] for v in (source, target))
    layers = [(list(source.features), list(target.features)), (predictions[0], predictions[1])]
    return mmd_of(settings, layers, parts(source), parts(target))


def perceptron(net: Any, x: Tensor) -> list[Tensor]:
    """Three layers, unit by unit."""
    for at in (0, 2, 4):
        x = torch.stack([sum(w * v for w, v in zip(unit, x, strict=True)) for unit in net[at].weight]) + net[at].bias
        if at < 4:
            x = torch.stack([torch.clamp(v, min=0) for v in x])
    return list(x)


def dann(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    value = zero(source)
    for view, sign in ((source, -1), (target, 1)):
        for w, x in zip(parts(view), view.features, strict=True):
            value = value + w * torch.log(1 + torch.exp(sign * perceptron(loss.critic, x)[0])) / 2
    return value


def cdan(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    value = zero(source)
    for view, sign in ((source, -1), (target, 1)):
        p = [[v.detach() for v in row] for row in probabilities(view.logits)]
        w = parts(view)
        if settings.entropy:
            w = [v * float(1 + torch.exp(-entropy_of(row).detach())) for v, row in zip(w, p, strict=True)]
            w = [v / sum(w) for v in w]
        for i, x in enumerate(view.features):
            if loss.features_map is None:
                product = torch.stack([v * q for v in x for q in p[i]])
            else:
                m = settings.random_width
                f = [sum(x[j] * loss.features_map[j, r] for j in range(len(x))) for r in range(m)]
                g = [sum(p[i][c] * loss.classes_map[c, r] for c in range(len(p[i]))) for r in range(m)]
                product = torch.stack([a * b / math.sqrt(m) for a, b in zip(f, g, strict=True)])
            value = value + w[i] * torch.log(1 + torch.exp(sign * perceptron(loss.critic, product)[0])) / 2
    return value


def mdd(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    value = zero(source)
    for view in (source, target):
        for w, x, z in zip(parts(view), view.features, view.logits, strict=True):
            said = probabilities(torch.stack(perceptron(loss.rival, x)).unsqueeze(0))[0][int(z.argmax())]
            value = value - (settings.margin * w * said.log() if view is source else w * (1 - said).log())
    return value


def wasserstein(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    value, steep = zero(source), zero(source)
    for view, other, sign in ((source, target, -1), (target, source, 1)):
        mean = sum(w * x.detach() for w, x in zip(parts(other), other.features, strict=True))
        for w, x in zip(parts(view), view.features, strict=True):
            value = value + sign * w * perceptron(loss.critic, x)[0]
            for at in (x.detach(), (x.detach() + mean) / 2):
                at = at.clone().requires_grad_()
                (slope,) = torch.autograd.grad(perceptron(loss.critic, at)[0], at, create_graph=True)
                steep = steep + w * (norm(slope) - 1) ** 2 / 4
    return value + settings.penalty * steep


def cmd(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    w, d = (parts(source), parts(target)), source.features.shape[1]
    every = [float(v) for view in (source, target) for x in view.features.detach() for v in x]
    r = max(every) - min(every) if settings.span == "range" else settings.span
    value = zero(source)
    for k in range(1, settings.moments + 1):
        gaps = []
        for j in range(d):
            sides = []
            for part, view in zip(w, (source, target), strict=True):
                mean = sum(p * x[j] for p, x in zip(part, view.features, strict=True))
                central = sum(p * (x[j] - mean) ** k for p, x in zip(part, view.features, strict=True))
                sides.append(mean if k == 1 else central)
            gaps.append(sides[0] - sides[1])
        value = value + sum(g * g for g in gaps).sqrt() / r**k
    return value


def clustered(source: View, target: View) -> list[int]:
    """The class of each target row: k-means by cosine, from the source's classes."""
    w, classes = parts(source), source.logits.shape[1]
    assert source.labels is not None
    unit = [[x.detach() / norm(x.detach()) for x in v.features] for v in (source, target)]
    centres: list[Any] = [None] * classes
    for c in range(classes):
        mine = [p * x for p, x, y in zip(w, unit[0], source.labels, strict=True) if int(y) == c]
        centres[c] = sum(mine) / norm(sum(mine)) if mine else None
    found: list[int] = []
    while True:
        near = [{c: float(x @ m) for c, m in enumerate(centres) if m is not None} for x in unit[1]]
        now = [max(row, key=lambda c, row=row: row[c]) for row in near]  # type: ignore[misc]
        if now == found:
            return found
        found = now
        for c in set(found):
            mine = [p * x for p, x, y in zip(parts(target), unit[1], found, strict=True) if y == c]
            centres[c] = sum(mine) / norm(sum(mine))


def cdd(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    assert source.labels is not None
    labels = [source.labels.tolist(), clustered(source, target)]
    rows, w = [list(source.features), list(target.features)], [parts(source), parts(target)]
    joint = [(p / 2, x.detach()) for part, side in zip(w, rows, strict=True) for p, x in zip(part, side, strict=True)]
    b = sum(p * q * float(squared(x, y)) for p, x in joint for q, y in joint)

    def k(x: Tensor, y: Tensor) -> Tensor:
        u = [i - settings.kernels // 2 for i in range(settings.kernels)]
        return sum(torch.exp(-squared(x, y) / (2.0**i * b)) for i in u) / settings.kernels

    def mean(a: int, c: int, e: int, f: int) -> Tensor:
        """E k of rows of side a and class c, and rows of side e and class f."""
        i_s = [i for i, y in enumerate(labels[a]) if y == c]
        j_s = [j for j, y in enumerate(labels[e]) if y == f]
        mass = sum(w[a][i] for i in i_s) * sum(w[e][j] for j in j_s)
        return sum(w[a][i] * w[e][j] * k(rows[a][i], rows[e][j]) for i in i_s for j in j_s) / mass

    same, other = [], []
    for c in sorted(set(labels[0])):
        for f in sorted(set(labels[1])):
            apart = mean(0, c, 0, c) + mean(1, f, 1, f) - 2 * mean(0, c, 1, f)
            (same if c == f else other).append(apart)
    return sum(same, zero(source)) / max(1, len(same)) - sum(other, zero(source)) / max(1, len(other))


def mcc(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    p = probabilities(target.logits, settings.temperature)
    n, classes = target.logits.shape
    w = [s * float(1 + torch.exp(-entropy_of(row).detach())) for s, row in zip(parts(target), p, strict=True)]
    w = [n * v / sum(w) for v in w]
    c = [[sum(w[i] * p[i][a] * p[i][b] for i in range(n)) for b in range(classes)] for a in range(classes)]
    rows = [[v / sum(row) for v in row] for row in c]
    return sum(rows[a][b] for a in range(classes) for b in range(classes) if a != b) / classes


def gram_values(rows: list[list[Tensor]] | Tensor, view: View) -> tuple[Tensor, float]:
    """Eigenvalues of n·Σ w̃·xxᵀ from the largest, and n."""
    w = parts(view)
    n = 1 / sum(v * v for v in w)
    d = len(rows[0])
    gram = [[sum(n * w[i] * rows[i][a] * rows[i][b] for i in range(len(w))) for b in range(d)] for a in range(d)]
    return torch.linalg.eigvalsh(torch.stack([torch.stack(row) for row in gram])).flip(0), n


def bnm(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    values, n = gram_values(probabilities(target.logits), target)
    return -sum(v.sqrt() for v in values) / n


def entropy(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    return sum(w * entropy_of(p) for w, p in zip(parts(target), probabilities(target.logits), strict=True))


def infomax(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    p, w = probabilities(target.logits), parts(target)
    mean = [sum(w[i] * p[i][c] for i in range(len(w))) for c in range(len(p[0]))]
    return entropy(settings, loss, source, target, progress) - entropy_of(mean)


def norm(x: Tensor) -> Tensor:
    return sum(v * v for v in x).sqrt()


def afn(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    value = zero(source)
    for view in (source, target):
        for w, x in zip(parts(view), view.features, strict=True):
            value = value + w * (norm(x) - norm(x).detach() - settings.step) ** 2
    return value


def hafn(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    means = [sum(w * norm(x) for w, x in zip(parts(v), v.features, strict=True)) for v in (source, target)]
    return (means[0] - settings.radius) ** 2 + (means[1] - settings.radius) ** 2


def bsp(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    return sum(gram_values(v.features, v)[0][: settings.largest].sum() for v in (source, target))


def deepjdot(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    assert source.labels is not None
    p, a, b = probabilities(target.logits), parts(source), parts(target)
    n, m = len(a), len(b)
    cost = [
        [
            settings.feature_weight * squared(source.features[i], target.features[j])
            - settings.label_weight * p[j][int(source.labels[i])].log()
            for j in range(m)
        ]
        for i in range(n)
    ]
    rules = np.zeros((n + m, n * m))
    for i in range(n):
        rules[i, i * m : (i + 1) * m] = 1
    for j in range(m):
        rules[n + j, j::m] = 1
    plan = linprog([float(c.detach()) for row in cost for c in row], A_eq=rules, b_eq=a + b).x
    return sum(float(plan[i * m + j]) * cost[i][j] for i in range(n) for j in range(m))


def sliced_wasserstein(settings: Any, loss: Any, source: View, target: View, progress: float) -> Tensor:
    value = zero(source)
    for direction in loss.directions.T:
        sides = []
        for view in (source, target):
            placed = [sum(a * b for a, b in zip(x, direction, strict=True)) for x in view.features]
            sides.append(sorted(zip(placed, parts(view), strict=True), key=lambda pair: float(pair[0].detach())))
        i, j = 0, 0
        left = [sides[0][0][1], sides[1][0][1]]
        while i < len(sides[0]) and j < len(sides[1]):  # move the lowest mass that is left to the lowest place
            moved = min(left)
            value = value + moved * (sides[0][i][0] - sides[1][j][0]) ** 2
            left = [left[0] - moved, left[1] - moved]
            if left[0] <= 1e-15:
                i += 1
                left[0] = sides[0][i][1] if i < len(sides[0]) else 0.0
            if left[1] <= 1e-15:
                j += 1
                left[1] = sides[1][j][1] if j < len(sides[1]) else 0.0
    return value / settings.projections


ORACLES: dict[str, Callable[[Any, Any, View, View, float], Tensor]] = {
    "coral": coral, "mmd": mmd, "jan": jan, "dann": dann, "cdan": cdan, "mdd": mdd, "mcc": mcc, "bnm": bnm,
    "entropy": entropy, "infomax": infomax, "afn": afn, "hafn": hafn, "bsp": bsp, "deepjdot": deepjdot,
    "sliced_wasserstein": sliced_wasserstein, "wasserstein": wasserstein, "cmd": cmd, "cdd": cdd,
}  # fmt: skip
