"""Real pairs of domains as features, and label-free candidates on them; shared by benchmarks, nothing is run here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import raw
import torch
import torch.nn.functional as F
from raw import patients, reviews, snippets

from acclimate.align import ALIGNMENTS, View
from acclimate.backbones import load
from acclimate.catalogue import cache
from acclimate.features import Store
from acclimate.run import Run

MOST = 1600  # rows of a domain
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)


class Domain(NamedTuple):
    """Rows of one source."""

    x: Any  # (n, d) float64
    y: Any  # (n,)
    text: Any = ()  # (n,) where there is one

    def take(self, at: Any) -> Domain:
        """Some of the rows."""
        return Domain(self.x[at], self.y[at], self.text[at] if len(self.text) else ())


def sentences(folder: Path, most: int | None = 2 * MOST) -> dict[str, Domain]:
    """Sentiment of sentences of seven kinds, through MiniLM; at most so many of each."""
    store = Store(load("minilm"), Run(cache=cache.features()))
    found = {}
    for name, rows in snippets(folder).items():
        some = [rows[i] for i in np.sort(np.random.default_rng(0).permutation(len(rows))[:most])]
        found[name] = _read(store, [row.text for row in some], [row.label for row in some])
    for name, pairs in reviews(folder).items():
        found[name] = _read(store, [text for text, _ in pairs], [label for _, label in pairs])
    return found


def _read(store: Store, texts: list[str], labels: list[int]) -> Domain:
    return Domain(store.get(texts).astype(float), np.array(labels), np.array(texts, object))


def heart(folder: Path) -> dict[str, Domain]:
    """Raw columns of the patients of each site."""
    rows = patients(folder)
    return {site: Domain(rows.x, rows.y).take(np.flatnonzero(rows.site == site)) for site in np.unique(rows.site)}


def digits_by(model: str) -> dict[str, Domain]:
    """The same pictures as an image model reads them: grey, each pixel as it is."""
    store = Store(load(model), Run(cache=cache.features()))
    found = {}
    for name, (x, y) in raw.digits(float).items():
        pictures = [np.repeat((255 * p).round().astype(np.uint8)[:, :, None], 3, axis=2) for p in x]
        found[name] = Domain(store.get(pictures).astype(float), y)
    return found


def digits() -> dict[str, Domain]:
    """Two kinds of written digits, 64 columns."""
    return {name: Domain(x.reshape(len(x), -1), y) for name, (x, y) in raw.digits(float).items()}


def mel(samples: Any, rate: int) -> Any:
    """Mean and deviation, over time, of the log energies in 20 mel bands.  # (40,)"""
    bands = log_mel(samples, rate)
    return np.concatenate([bands.mean(0), bands.std(0)])


def mfcc(samples: Any, rate: int) -> Any:
    """Mean and deviation, over time, of 13 cepstral coefficients of 26 mel bands and of their differences.  # (52,)"""
    from scipy.fft import dct

    found = dct(log_mel(samples, rate, 26), type=2, norm="ortho", axis=1)[:, :13]
    steps = np.diff(found, axis=0) if len(found) > 1 else np.zeros_like(found)
    return np.concatenate([found.mean(0), found.std(0), steps.mean(0), steps.std(0)])


def speech(folder: Path, features: Callable[[Any, int], Any] = mel) -> dict[str, Domain]:
    """Spoken digits as statistics over time; "not NAME": all other speakers."""
    from scipy.io import wavfile

    found: dict[str, tuple[list[Any], list[int]]] = {}
    for path in sorted((folder / "fsdd").rglob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        rate, samples = wavfile.read(path)
        x, y = found.setdefault(speaker, ([], []))
        x.append(features(samples.astype(float), rate))
        y.append(int(digit))
    return all_others({name: Domain(np.array(x), np.array(y)) for name, (x, y) in found.items()})


def every_domain(folder: Path) -> dict[str, Domain]:
    """All of these, as they come."""
    return {**sentences(folder), **heart(folder), **digits(), **speech(folder)}


def all_others(one: dict[str, Domain]) -> dict[str, Domain]:
    """These, and as "not NAME" all others together."""
    rest = {}
    for name in one:
        others = [d for other, d in one.items() if other != name]
        rest[f"not {name}"] = Domain(np.concatenate([d.x for d in others]), np.concatenate([d.y for d in others]))
    return {**one, **rest}


def log_mel(samples: Any, rate: int, bands: int = 20) -> Any:
    """Log energy in triangular bands that are evenly spaced on the mel scale; frames of 25 ms, every 10.  # (t, bands)

    mel = 2595 log10(1 + f/700)."""
    size, step = round(0.025 * rate), round(0.010 * rate)
    samples = np.pad(samples / 32768, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::step] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), bands + 2) / 2595) - 1)
    f = np.fft.rfftfreq(512, 1 / rate)
    rise = (f[:, None] - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - f[:, None]) / np.diff(edges)[1:]
    return np.log(power @ np.maximum(0, np.minimum(rise, fall)) + 1e-8)


def drawn(domains: dict[str, Domain], source: str, target: str, seed: int) -> tuple[Domain, Domain]:
    """At most `MOST` rows of both. "tweets, skewed": of the target one in four of the rows of lower classes is kept."""
    rng = np.random.default_rng(seed)
    name, _, skewed = target.partition(", ")
    ours, theirs = domains[source], domains[name]
    at = rng.permutation(len(theirs.y))
    if skewed:
        low = theirs.y[at] < (theirs.y.max() + 1) / 2
        at = at[~low | (np.cumsum(low) % 6 == 0)]
    return ours.take(rng.permutation(len(ours.y))[:MOST]), theirs.take(at[:MOST])


class Made(NamedTuple):
    """A candidate: class probabilities and features of the last layer, of held-out source rows and target rows."""

    name: str
    source: Any
    target: Any
    source_features: Any
    target_features: Any
    predict: Any = None  # the same of any rows like the target's


def strength_of(x: Any, y: Any) -> float:
    """C by four folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    found = [cross_val_score(LogisticRegression(C=c, max_iter=2000), x, y, cv=4).mean() for c in STRENGTHS]
    return STRENGTHS[int(np.argmax(found))]


def candidates(source: Domain, held: Domain, target: Any, seed: int) -> list[Made]:
    """Source-only first; then maps, self-training and bottlenecks with alignment losses."""
    mean, spread = source.x.mean(0), widths(source.x)
    s, h, t = ((x - mean) / spread for x in (source.x, held.x, target))
    strength = strength_of(s, source.y)
    middle, width = t.mean(0), widths(t)
    plain, moved_rows = (s, source.y, h, t), (s, source.y, h, (t - middle) / width)

    def by_source(made: Made) -> Made:  # takes raw rows
        return made._replace(predict=lambda x: made.predict((x - mean) / spread))

    def by_target(made: Made) -> Made:
        return made._replace(predict=lambda x: made.predict(((x - mean) / spread - middle) / width))

    found = [by_source(probe("source-only", *plain, strength))]
    found.append(by_target(probe("standardised", *moved_rows, strength)))
    for name, transport in (("coral", False), ("linear_ot", True)):
        moved = gaussian_map(s, t, transport)
        found.append(by_source(probe(name, moved(s), source.y, moved(h), t, strength)))
    found.append(by_source(self_trained("self-training", *plain, strength)))
    found.append(by_target(self_trained("standardised + self-training", *moved_rows, strength)))
    found.append(by_source(bottleneck("bottleneck", None, 0.0, *plain, seed)))
    for align in ("mcc", "infomax", "dann"):
        for weight in (0.3, 1.0):
            found.append(by_source(bottleneck(f"{align} {weight:g}", align, weight, *plain, seed)))
    found.append(by_target(bottleneck("standardised + mcc 1", "mcc", 1.0, *moved_rows, seed)))
    return found


def widths(x: Any) -> Any:
    """Deviations of the columns; one that hardly varies is not blown up."""
    spread = x.std(0)
    return np.maximum(spread, 0.2 * spread.mean())


def probe(name: str, s: Any, y: Any, h: Any, t: Any, strength: float, weights: Any = None) -> Made:
    """Logistic regression."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=3000).fit(s, y, sample_weight=weights)
    return Made(name, model.predict_proba(h), model.predict_proba(t), h, t, model.predict_proba)


def self_trained(name: str, s: Any, y: Any, h: Any, t: Any, strength: float, rounds: int = 6) -> Made:
    """Class-balanced self-training: each round takes the surest rows of every class, as many as its source share."""
    made = probe(name, s, y, h, t, strength)
    share = np.bincount(y) / len(y)
    for r in range(1, rounds + 1):
        taken, answers = [], []
        for k in range(len(share)):
            count = int(round(share[k] * len(t) * 0.9 * r / rounds))
            odds = np.log(made.target[:, k] + 1e-12) - np.log(np.delete(made.target, k, 1).max(1) + 1e-12)
            rows = np.argsort(-odds, kind="stable")[:count]
            taken.append(rows)
            answers.append(np.full(len(rows), k))
        at, pseudo = np.concatenate(taken), np.concatenate(answers)
        weights = np.concatenate([np.ones(len(s)), np.full(len(at), len(s) / len(t))])
        made = probe(name, np.concatenate([s, t[at]]), np.concatenate([y, pseudo]), h, t, strength, weights)
    return made


def gaussian_map(s: Any, t: Any, transport: bool) -> Any:
    """CORAL (whiten, then colour), or the optimal transport map of two Gaussians; covariances by Ledoit and Wolf."""
    from sklearn.covariance import ledoit_wolf

    a, b = ledoit_wolf(s)[0], ledoit_wolf(t)[0]

    def power(c: Any, e: float) -> Any:
        values, vectors = np.linalg.eigh(c)
        return (vectors * np.maximum(values, 1e-6 * values[-1]) ** e) @ vectors.T

    root, inverse = power(a, 0.5), power(a, -0.5)
    matrix = inverse @ power(root @ b @ root, 0.5) @ inverse if transport else inverse @ power(b, 0.5)
    middle, goal = s.mean(0), t.mean(0)
    return lambda x: (x - middle) @ matrix + goal


def bottleneck(
    name: str, align: str | None, weight: float, s: Any, y: Any, h: Any, t: Any, seed: int, steps: int = 400
) -> Made:
    """One hidden layer of 64, cross-entropy on the source plus λ times an alignment loss."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        d, classes, n = s.shape[1], int(y.max()) + 1, 64
        body = torch.nn.Sequential(torch.nn.Linear(d, 64), torch.nn.ReLU())
        head = torch.nn.Linear(64, classes)
        loss = None if align is None else ALIGNMENTS[align]().attach(64, classes)
        extra = list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []
        optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters(), *extra], lr=1e-3, weight_decay=1e-2)
        S, T, Y = torch.from_numpy(s).float(), torch.from_numpy(t).float(), torch.from_numpy(y).long()
        rng = np.random.default_rng(seed)
        for step in range(steps):
            progress = step / steps
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 - progress)
            a, b = (torch.from_numpy(rng.integers(0, size, n)) for size in (len(s), len(t)))
            f = F.dropout(body(S[a]), 0.2)
            z = head(f)
            total = F.cross_entropy(z, Y[a])
            if loss is not None:
                g = body(T[b])
                total = total + weight * loss(View(f, z, labels=Y[a]), View(g, head(g)), progress)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        with torch.no_grad():
            fs, ft = (body(torch.from_numpy(x).float()) for x in (h, t))
            ps, pt = (torch.softmax(head(f), 1).double().numpy() for f in (fs, ft))

        def predict(rows: Any) -> Any:
            with torch.no_grad():
                return torch.softmax(head(body(torch.from_numpy(rows).float())), 1).double().numpy()

    return Made(name, ps, pt, fs.double().numpy(), ft.double().numpy(), predict)
