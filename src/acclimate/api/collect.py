"""The facts of a report: the verdict in words, the map of features, the mistakes worth reading."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acclimate.advise.labels import SOURCE_ONLY
from acclimate.api.finish import Judged, unseen
from acclimate.data.kinds import kind_of
from acclimate.data.label_columns import Marks
from acclimate.errors import plural
from acclimate.evaluate import Difference, Scores, greater_is_better
from acclimate.metrics.digest import Digest
from acclimate.metrics.estimate import Estimate
from acclimate.model import Predictor, holds
from acclimate.report.results import difference
from acclimate.strategies import BASELINES, without_transfer

MOST_POINTS = 800  # in the map of features
MOST_MISTAKES = 20
SINGLE_TASK = "single_task"
ALONE = "alone_"  # before the kind of column of a table that is read by itself
BASELINE_NAMES = {
    "majority": "majority class",
    "tfidf": "TF-IDF + linear",
    "pixels": "pixels + linear",
    "spectra": "spectra + linear",
    "statistics": "statistics + linear",
    "boosting": "gradient boosting",
    "fingerprints": "fingerprints + linear",
    "forest": "fingerprints + forest",
    "source_only": "the source alone",
    "zero_shot": "a prompt",
    "few_shot": "a prompt with examples",
    SINGLE_TASK: "each label column alone",
    f"{ALONE}columns": "numbers and categories alone",
    f"{ALONE}text": "the text alone",
    f"{ALONE}image": "the pictures alone",
    f"{ALONE}audio": "the sounds alone",
}


def baseline_name(name: str, task: str) -> str:
    """What a baseline is called in the report."""
    if name == "majority" and task in ("regress", "multitask"):
        return "mean of the training rows" if task == "regress" else "majority class or mean"
    return BASELINE_NAMES.get(name, name)


def estimate_text(estimate: Estimate) -> str:
    """0.812 [0.771, 0.846], or why there is no interval."""
    if estimate.value is None:
        return f"undefined ({estimate.note})"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f} ({estimate.note or 'no interval'})"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def verdict(
    scores: Scores,
    strategy: str,
    model_name: str,
    baselines: Sequence[dict[str, Any]],
    task: str,
    transfers: bool = True,
) -> str:
    """One sentence: the number, and whether transfer beat doing without. A baseline that wins comes first.

    Without `transfers` nothing was carried over from elsewhere, and none of it speaks of transfer.
    """
    main = scores.estimates[scores.metric]
    metric = scores.metric.replace("_", " ")
    number = f"{metric} {estimate_text(main)} on {plural(scores.n, 'row')}"
    using = strategy if strategy in BASELINES else f"{strategy} on {model_name}"
    without = [b for b in baselines if b["key"] in BASELINES and b["value"] is not None]
    best_of = max if greater_is_better(task, scores.metric) else min
    rival = best_of(without, key=lambda b: b["value"]) if without else None
    if not transfers:
        return f"{using} reaches {number}. {_beside(rival, metric)}Nothing here was pretrained, so this is no transfer."
    if strategy in BASELINES:
        return f"Without transfer, as asked: {using} reaches {number}."
    if rival is None or rival.get("difference") is None:
        return f"{using}: {number}."
    beaten = [b for b in without if b["difference"] and b["difference"]["verdict"] == "worse"]
    if beaten:
        best = best_of(beaten, key=lambda b: b["value"])
        return (
            f"No gain from transfer: {best['name']} without a pretrained model has {metric} {best['value']:.3f}, "
            f"{using} has less: {number}."
        )
    other = f"{rival['name']} ({rival['value']:.3f})"
    if rival["difference"]["verdict"] == "better":
        return (
            f"Transfer helps: {using} reaches {number}; better than {other}, the best that was tried without transfer."
        )
    return f"Not decidable: {using} reaches {number}; these rows cannot tell it from {other}, which needs no transfer."


def beside_source(rows: Sequence[dict[str, Any]]) -> str:
    """A sentence behind the headline: how the model does beside the same probe without adapting; nothing without it."""
    row = next((b for b in rows if b["key"] == SOURCE_ONLY and b["difference"]), None)
    if row is None or row["value"] is None:
        return ""
    gap = row["difference"]
    said = {"better": "Better than", "worse": "Worse than"}.get(gap["verdict"], "Not to be told from")
    return f" {said} {row['name']} ({row['value']:.3f}), which did not adapt: difference {difference(gap)}."


def _beside(rival: dict[str, Any] | None, metric: str) -> str:
    """What the best of the others has, where they can be told apart; else that they cannot."""
    if rival is None or rival.get("difference") is None:
        return ""
    told = {"worse": "more", "better": "less"}.get(rival["difference"]["verdict"])
    name = f"{rival['name']} ({metric} {rival['value']:.3f})"
    return f"{name} has {told}. " if told else f"These rows cannot tell it from {name}. "


def one_class(task: str, judged: Judged) -> str:
    """A warning behind the number where only one class could be judged; else nothing."""
    if task not in ("classify", "ordinal") or not len(judged.truth) or len(np.unique(judged.truth)) > 1:
        return ""
    return (
        " All rows that give this number are of one class, so it says nothing of the others; give test data that hold "
        "every class."
    )


def baseline_rows(
    entries: Sequence[tuple[str, Scores, Difference | None]], metric: str, task: str
) -> list[dict[str, Any]]:
    """Baselines with their estimate and the paired difference of the model to them."""
    rows = []
    for key, scores, gap in entries:
        estimate = scores.estimates[metric]
        rows.append(
            {
                "key": key,
                "name": baseline_name(key, task),
                **_numbers(estimate),
                "difference": None if gap is None else gap.to_json(),
            }
        )
    return rows


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def projection(features: Any, labels: Sequence[Any], seed: int) -> dict[str, Any] | None:
    """The two directions of greatest variance of the features (PCA), at most 800 rows, coloured by class."""
    if len(features) < 3:
        return None
    at = np.sort(np.random.default_rng(seed).permutation(len(features))[:MOST_POINTS])
    centred = np.asarray(features[at], np.float64) - features[at].mean(0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    if len(scale) < 2:
        return None
    points = left[:, :2] * scale[:2]
    points = points * np.where(
        points[np.abs(points).argmax(0), [0, 1]] < 0, -1, 1
    )  # a sign that does not depend on LAPACK
    share = float((scale[:2] ** 2).sum() / (scale**2).sum())
    return {
        "x": points[:, 0].round(4).tolist(),
        "y": points[:, 1].round(4).tolist(),
        "label": [_label(labels[i]) for i in at],
        "method": f"PCA, {share:.0%} of the variance",
    }


def mistakes(judged: Judged, predictor: Predictor) -> list[dict[str, Any]]:
    """The most confident mistakes, or the largest errors of a regression, as readable rows."""
    task, decoder, data = predictor.task, predictor.decoder, judged.data
    answers = task.answers(judged.decisions, decoder)
    if task.name == "regress":
        assert not isinstance(judged.outputs, Digest)
        size = np.abs(judged.outputs - judged.truth)
        order = np.argsort(-size)[:MOST_MISTAKES]
        confidence: Any = np.full(len(size), np.nan)
    else:
        told = judged.outputs
        confidence = told.said if isinstance(told, Digest) else task.confidence(told, judged.decisions)
        wrong = (
            (judged.decisions != judged.truth)
            if task.name != "multilabel"
            else ((judged.decisions != judged.truth) & ~np.isnan(judged.truth)).any(1)
        )
        at = np.flatnonzero(wrong)
        order = at[np.argsort(-confidence[at], kind="stable")][:MOST_MISTAKES]
    rows, kind = [], kind_of(data)
    lines = () if Path(str(data.source)).is_dir() else data.lines  # the files of a folder have none
    for i in order:
        value = data.inputs[i]
        rows.append({
            "input": kind.shown(value),
            **({} if kind.picture is None else {"picture": kind.picture(value)}),
            **({} if kind.played is None else {"sound": kind.played(value)}),
            "truth": _label(data.labels[i] if data.labels else None),
            "predicted": f"{answers[i]:.4g}" if isinstance(answers[i], float) else _label(answers[i]),
            "confidence": None if np.isnan(confidence[i]) else float(confidence[i]),
            "line": lines[i] if lines else None,
        })  # fmt: skip
    return rows


def _label(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value)
    gaps = f"; {len(value.unknown)} not known" if isinstance(value, Marks) and value.unknown else ""
    return (", ".join(map(str, value)) or "(none)") + gaps


def next_steps(
    run_dir: str,
    judged: Judged,
    predictor: Predictor,
    scores: Scores,
    rows: Sequence[dict[str, Any]],
    train_rows: int,
    finding_kinds: set[str],
    fit_again: Callable[[Mapping[str, str | None]], str],
) -> list[dict[str, str]]:
    """What to do now, most useful first. `fit_again` makes the command that fits with arguments changed."""
    new = "NEW_FOLDER" if Path(str(judged.data.source)).is_dir() else "NEW.csv"
    steps = [
        {
            "text": "Predict new rows.",
            "command": f"acclimate predict {shlex.quote(run_dir)} {new} -o predictions.csv",
        }
    ]
    whole = [r for r in rows if r["difference"] and not r["key"].startswith(ALONE)]
    lost = [r for r in whole if r["difference"]["verdict"] == "worse"]
    level = [r for r in whole if r["difference"]["verdict"] == "not decidable"]
    plain = lost[-1]["key"] if lost else ""
    if plain in set(without_transfer(judged.data)) - {"majority"}:
        steps.append(
            {
                "text": f"{baseline_name(plain, '')} does better here: fit without a pretrained model, smaller and "
                "faster.",
                "command": fit_again({"strategy": plain, "target_labels": None}),
            }
        )
    elif level:
        steps.append(
            {
                "text": (
                    f"Label more rows: {plural(scores.n, 'test row')} cannot tell this model from {level[-1]['name']}."
                ),
                "command": "",
            }
        )
    if "truncated" in finding_kinds:
        steps.append(
            {
                "text": f"Some {kind_of(judged.data).plural} were cut off: read them whole, in windows.",
                "command": fit_again({"truncation": "chunk"}),
            }
        )
    if "conflicting_label" in finding_kinds or "label_typo" in finding_kinds:
        steps.append(
            {
                "text": "Correct the labels that contradict each other or differ by spelling alone (see the data).",
                "command": "",
            }
        )
    if unseen(judged.data, predictor.decoder):
        steps.append(
            {"text": "The test rows hold classes that training never saw: add labelled rows of them.", "command": ""}
        )
    if predictor.strategy in ("linear_probe", "ridge", "hybrid", "knn", "centroid") and train_rows >= 100:
        steps.append(
            {
                "text": "See whether tuning the backbone pays with more time.",
                "command": fit_again({"strategy": "lp_ft", "time_limit": None}),
            }
        )
    if holds(predictor):
        steps.append({"text": f"Mind when sharing: the saved model holds {holds(predictor)}.", "command": ""})
    return steps
