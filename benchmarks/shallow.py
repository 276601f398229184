"""Adaptation on features alone, on real pairs: every method of `acclimate.shallow`, and label-shift weights.

Source-only and a model trained on labelled target rows stand beside; target labels are used for scoring alone (and for
the latter). Run: python benchmarks/shallow.py --data FOLDER (folders vader4, uci_sentences, heart and fsdd); it needs
POT. Texts are read by MiniLM, spoken digits as statistics of log-mel bands; a domain gives at most 1,600 rows. Every
method adapts to all unlabelled target rows and is judged on one half of them; "target" learns from the other half.
Results go to benchmarks/results/shallow.json, with tables; what is there is not run again; --table prints those of the
last run. Where skada is installed (0.6), its KLIEP is run beside ours. shallow_peers.py has more of skada.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from intervals import half_width
from raw import patients, reviews, snippets
from shallow_peers import Skada, skada_kliep

RESULTS = Path(__file__).parent / "results" / "shallow.json"
MOST = 1600
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
PAIRS = [
    ("movie", "tweets"), ("movie", "products"), ("movie", "NYT"), ("tweets", "NYT"), ("yelp", "imdb"),
    ("amazon", "yelp"), ("Cleveland", "Hungary"), ("Cleveland", "VA Long Beach"), ("Cleveland", "Switzerland"),
    ("tweets", "tweets, 85 % positive"), ("yelp", "yelp, 85 % positive"),
]  # fmt: skip
SPOKEN = [("not george", "george"), ("not lucas", "lucas"), ("not theo", "theo")]  # ten classes
REGRESSIONS = [("movie", "tweets"), ("movie", "products"), ("tweets", "NYT")]


class Domain(NamedTuple):
    """Rows of one source."""

    x: np.ndarray
    y: np.ndarray  # classes 0, 1
    value: np.ndarray  # for regression
    group: np.ndarray  # rows of one article or review

    def take(self, at: np.ndarray) -> Domain:
        """Some of the rows."""
        return Domain(*(part[at] for part in self))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not arguments.table:
        found = run(Path(arguments.data), arguments.seeds)
    RESULTS.write_text(json.dumps(found, indent=0))
    print(tables(found))


def run(folder: Path, seeds: int) -> dict[str, Any]:
    """What is in the results is not run again: a run that is cut off goes on, and new methods are added."""
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    found = {"rows": [], "label_shift": [], **found}
    domains = {**sentences(folder), **heart(folder), **spoken(folder)}
    for seed in range(seeds):
        for pair in PAIRS + SPOKEN:
            done = {r["method"] for r in found["rows"] if (r["pair"], r["seed"]) == (" → ".join(pair), seed)}
            found["rows"] += classify(*drawn(domains, *pair, seed), pair, seed, done)
            if pair in PAIRS and not any(
                (t["pair"], t["seed"]) == (" → ".join(pair), seed) for t in found["label_shift"]
            ):
                rows, test = label_shift(*drawn(domains, *pair, seed), pair, seed)
                found["rows"] += rows
                found["label_shift"].append(test)
            RESULTS.write_text(json.dumps(found, indent=0))
            print(seed, " → ".join(pair), flush=True)
        for pair in REGRESSIONS:
            name = f"rating: {' → '.join(pair)}"
            done = {r["method"] for r in found["rows"] if (r["pair"], r["seed"]) == (name, seed)}
            found["rows"] += regress(*drawn(domains, *pair, seed), name, seed, done)
        found |= {"load": os.getloadavg()[0], "threads": os.environ.get("OMP_NUM_THREADS")}
        RESULTS.write_text(json.dumps(found, indent=0))
    return found


def sentences(folder: Path) -> dict[str, Domain]:
    from acclimate.backbones import load
    from acclimate.catalogue import cache
    from acclimate.features import Store
    from acclimate.run import Run

    store = Store(load("minilm"), Run(cache=cache.features()))
    found = {}
    for name, rows in snippets(folder).items():
        # A shared number of rows from each, so that the 10,605 of movies are not all read.
        some = [rows[i] for i in np.sort(np.random.default_rng(0).permutation(len(rows))[: 2 * MOST])]
        group = np.array([f"{name} {row.id.split('_')[0] if '_' in row.id else row.id}" for row in some])
        y, rating = np.array([row.label for row in some]), np.array([row.rating for row in some])
        found[name] = Domain(store.get([row.text for row in some]).astype(float), y, rating, group)
    for name, pairs in reviews(folder).items():
        y = np.array([label for _, label in pairs])
        group = np.array([f"{name} {i}" for i in range(len(pairs))])
        found[name] = Domain(store.get([text for text, _ in pairs]).astype(float), y, y.astype(float), group)
    return found


def spoken(folder: Path) -> dict[str, Domain]:
    """Spoken digits of each speaker, and of all others."""
    from pairs import speech

    return {n: Domain(d.x, d.y, d.y.astype(float), np.arange(len(d.y))) for n, d in speech(folder).items()}


def heart(folder: Path) -> dict[str, Domain]:
    """Raw columns of the patients of each site."""
    rows = patients(folder)
    every = Domain(rows.x, rows.y, rows.y.astype(float), rows.id)
    return {site: every.take(np.flatnonzero(rows.site == site)) for site in np.unique(rows.site)}


def drawn(domains: dict[str, Domain], source: str, target: str, seed: int) -> tuple[Domain, Domain]:
    """Rows of both; a target that is the source with other class shares takes rows that are not in the source."""
    rng = np.random.default_rng(seed)
    ours = domains[source]
    order = rng.permutation(len(ours.y))
    name, _, share = target.partition(", ")
    if not share:
        theirs = domains[name]
        return ours.take(order[:MOST]), theirs.take(rng.permutation(len(theirs.y))[:MOST])
    half = len(order) // 2
    rest = order[half:]
    positive, negative = rest[ours.y[rest] == 1], rest[ours.y[rest] == 0]
    count = min(len(positive), int(0.85 / 0.15 * len(negative)))
    at = rng.permutation(np.concatenate([positive[:count], negative[: round(0.15 / 0.85 * count)]]))
    return ours.take(order[:half]), ours.take(at)


def one_half(y: np.ndarray, seed: int) -> np.ndarray:
    """Which target rows are judged: half of each class, so that the model trained on the others knows both."""
    judged, rng = np.zeros(len(y), bool), np.random.default_rng(seed)
    for c in np.unique(y):
        at = rng.permutation(np.flatnonzero(y == c))
        judged[at[: len(at) // 2]] = True
    return judged


def head(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], Any]:
    """A logistic regression whose strength is chosen on folds of the (mapped, weighted) source; and its fold models."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fit(at: np.ndarray, strength: float) -> Any:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=3000))
        return model.fit(x[at], y[at], logisticregression__sample_weight=weights[at])

    count = min(5, int(np.bincount(y).min()))
    folds = list(StratifiedKFold(count, shuffle=True, random_state=0).split(x, y))
    classes = int(y.max()) + 1
    best = (math.inf, STRENGTHS[0], [], np.zeros((len(y), classes)))
    for strength in STRENGTHS:
        models, held = [fit(a, strength) for a, _ in folds], np.zeros((len(y), classes))
        for model, (_, at) in zip(models, folds, strict=True):
            held[at] = model.predict_proba(x[at])
        loss = float(-(weights * np.log(np.maximum(held[np.arange(len(y)), y], 1e-12))).sum())
        if loss >= best[0]:
            break
        best = (loss, strength, models, held)
    return fit(np.arange(len(y)), best[1]).predict_proba, best[2:]


def methods() -> dict[str, Any]:
    """Every map and reweighter with its defaults, JDA also with its other classifier; skada's KLIEP if it is there."""
    from acclimate.shallow import SHALLOW, Adapter, Jda, Reweighter

    found = {name: kind() for name, kind in SHALLOW.items() if issubclass(kind, (Adapter, Reweighter))}
    found["jda, logistic"] = Jda(labeller="logistic")
    return {**found, **skada_kliep()}


def classify(source: Domain, target: Domain, pair: tuple[str, str], seed: int, done: set[str]) -> list[dict[str, Any]]:
    """A row for every method that is not done."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    from acclimate.shallow import Adapter

    score = balanced_accuracy_score if pair[0] == "Cleveland" else accuracy_score
    judged = one_half(target.y, seed)
    both, side = np.concatenate([source.x, target.x]), np.repeat([0, 1], [len(source.y), len(target.y)])
    ones, labels = np.ones(len(source.y)), np.concatenate([source.y, np.full(len(target.y), -1)])
    rows: list[dict[str, Any]] = []

    def add(method: str, proba: np.ndarray, seconds: float = 0.0, **more: float) -> None:
        value = float(score(target.y[judged], proba[judged].argmax(1)))
        rows.append(
            {"pair": " → ".join(pair), "method": method, "seed": seed, "value": value, "seconds": seconds, **more}
        )

    if "source-only" not in done:
        add("source-only", head(source.x, source.y, ones)[0](target.x))
    if "target" not in done:
        trained = target.take(np.flatnonzero(~judged))
        add("target", head(trained.x, trained.y, np.ones(len(trained.y)))[0](target.x))
    for name, method in methods().items():
        if name in done:
            continue
        start = time.process_time()
        if isinstance(method, Adapter):
            mapped = method.fit_transform(both, labels, domain=side)
            seconds = time.process_time() - start
            add(name, head(mapped[side == 0], source.y, ones)[0](mapped[side == 1]), seconds)
            continue
        weights = method.weights(both, side) if isinstance(method, Skada) else method.fit(both, domain=side).weights_
        seconds, weights = time.process_time() - start, weights[: len(source.y)]
        if not (np.isfinite(weights).all() and weights.sum() > 0):
            rows.append({"pair": " → ".join(pair), "method": name, "seed": seed, "error": "weights are 0 or NaN"})
            continue
        weights = weights / weights.mean()
        weighted = head(source.x, source.y, weights)[0]
        add(name, weighted(target.x), seconds, effective=float(weights.sum() ** 2 / (weights**2).sum()))
    return rows


def label_shift(
    source: Domain, target: Domain, pair: tuple[str, str], seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Source-only with estimated class shares, always and where the diagnostic says so."""
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    from acclimate.shift.mixture import decide, explained
    from acclimate.shift.prior import bbse, em

    score = balanced_accuracy_score if pair[0] == "Cleveland" else accuracy_score
    judged, rows = one_half(target.y, seed), []
    plain, (models, held) = head(source.x, source.y, np.ones(len(source.y)))

    def add(method: str, proba: np.ndarray) -> None:
        value = float(score(target.y[judged], proba[judged].argmax(1)))
        rows.append({"pair": " → ".join(pair), "method": method, "seed": seed, "value": value, "seconds": 0.0})

    folds = np.stack([model.predict_proba(target.x) for model in models])
    start = time.process_time()
    found = explained(source.x, source.y, target.x, groups=np.concatenate([source.group, target.group]), seed=seed)
    test: dict[str, Any] = {"pair": " → ".join(pair), "seed": seed, **found.to_json()}
    test["seconds"] = time.process_time() - start
    test["true"] = float(target.y.mean())
    for name, estimate in (("bbse", bbse), ("em", em)):
        prior = estimate(held, source.y, folds, seed=seed)
        decision = decide(prior, found)
        test[name] = (prior.target[1], prior.low[1], prior.high[1])
        moved = plain(target.x) * prior.weights
        add(f"{name}, always", moved)
        add(f"{name}, if explained", moved if decision.apply else plain(target.x))
        test["apply"], test["why"] = decision.apply, decision.why  # of EM
    return rows, test


def regress(source: Domain, target: Domain, name: str, seed: int, done: set[str]) -> list[dict[str, Any]]:
    """Root mean squared error of the mean rating, −4 to 4."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from acclimate.shallow import SHALLOW, Adapter, Jda, Reweighter

    judged = one_half(target.y, seed)
    both, side = np.concatenate([source.x, target.x]), np.repeat([0, 1], [len(source.y), len(target.y)])
    value = np.concatenate([source.value, np.full(len(target.y), np.nan)])

    def ridge(x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> Any:
        model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(1, 5, 9)))
        return model.fit(x, y, ridgecv__sample_weight=weights)

    found = {}
    if "source-only" not in done:
        found["source-only"] = ridge(source.x, source.value).predict(target.x)
        found["target"] = ridge(target.x[~judged], target.value[~judged]).predict(target.x)
    for method, kind in SHALLOW.items():
        if method in done or issubclass(kind, Jda):  # which takes classes alone
            continue
        if issubclass(kind, Adapter):
            z = kind().fit_transform(both, domain=side)
            found[method] = ridge(z[side == 0], source.value).predict(z[side == 1])
        elif issubclass(kind, Reweighter):
            weights = kind().fit(both, domain=side).weights_[side == 0]
            found[method] = ridge(source.x, source.value, weights).predict(target.x)
        else:
            found[method] = kind().fit(both, value, domain=side).predict(target.x)
    errors = {m: float(np.sqrt(((p - target.value)[judged] ** 2).mean())) for m, p in found.items()}
    return [{"pair": name, "method": m, "seed": seed, "value": e} for m, e in errors.items()]


def tables(found: dict[str, Any]) -> str:
    lines = []
    rows = found.get("rows", [])
    for marks in (False, True):
        part = [r for r in rows if r["pair"].startswith("rating") == marks]
        methods = list(dict.fromkeys(r["method"] for r in part))
        pairs = list(dict.fromkeys(r["pair"] for r in part))
        lines += ["", "| method | " + " | ".join(pairs) + " |", "|---" * (len(pairs) + 1) + "|"]
        for method in methods:
            cells = []
            for pair in pairs:
                values = [r["value"] for r in part if (r["pair"], r["method"]) == (pair, method) and "value" in r]
                mean, half = interval(values) if values else (math.nan, math.nan)
                cells.append(f"{mean:.3f} ± {half:.3f}" if values else "")
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += differences(rows)
    lines += ["", "| pair | p | explained | true share | BBSE | EM | applied |", "|---" * 7 + "|"]
    tests = found.get("label_shift", [])
    for pair in dict.fromkeys(t["pair"] for t in tests):
        those = [t for t in tests if t["pair"] == pair]
        means = [np.mean([t[k] for t in those]) for k in ("p", "share", "true")]
        priors = [np.mean([t[k][0] for t in those]) for k in ("bbse", "em")]
        applied = f"{sum(t['apply'] for t in those)} of {len(those)}"
        lines.append(f"| {pair} | " + " | ".join(f"{v:.3f}" for v in (*means, *priors)) + f" | {applied} |")
    lines += ["", *(f"Beside skada, {name}: {json.dumps(found[name])}" for name in ("tca", "kliep") if name in found)]
    return "\n".join(lines)


def differences(rows: list[dict[str, Any]]) -> list[str]:
    """By pair, over the seeds that every method has: mean, and the paired difference to source-only, its interval."""
    said = [
        "source-only", "standardise", "subspace", "gfk", "tca", "jda", "jda, logistic", "density_ratio", "kmm", "kliep",
        "skada KLIEP", "target",
    ]  # fmt: skip
    value = {(r["pair"], r["method"], r["seed"]): r["value"] for r in rows if "value" in r}
    lines = ["", "| source → target (seeds) | " + " | ".join(said) + " |", "|---" * (len(said) + 1) + "|"]
    for pair in dict.fromkeys(r["pair"] for r in rows):
        seeds, cells = [s for p, m, s in value if (p, m) == (pair, "kliep")], []
        for method in said:
            known = [s for s in seeds if (pair, method, s) in value]
            if not known:
                cells.append("")
                continue
            mean = f"{np.mean([value[pair, method, s] for s in known]):.3f}"
            gap, half = interval([value[pair, method, s] - value[pair, "source-only", s] for s in known])
            few = "" if len(known) == len(seeds) else f", {len(known)} seeds"
            cells.append(mean if method == "source-only" else f"{mean} ({gap:+.3f} ±{half:.3f}{few})")
        lines.append(f"| {pair} ({len(seeds)}) | " + " | ".join(cells) + " |")
    return lines


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % t interval over seeds."""
    return float(np.mean(values)), half_width(values) if len(values) > 1 else math.nan


if __name__ == "__main__":
    main()
