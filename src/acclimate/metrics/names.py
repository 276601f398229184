"""What metrics are called, here and elsewhere, and which one decides where the user named none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acclimate.errors import UserError, unknown
from acclimate.metrics.digest import UNRANKED, is_wide
from acclimate.metrics.tables import METRICS, RANKED

DOMINANT = 0.8  # a class with a greater share than this makes accuracy say little
ALIASES = {
    "acc": "accuracy",
    "bacc": "balanced_accuracy",
    "average_recall": "balanced_accuracy",
    "macro_recall": "balanced_accuracy",
    "f1": "macro_f1",
    "f1_macro": "macro_f1",
    "f1_weighted": "weighted_f1",
    "f1_micro": "micro_f1",
    "matthews": "mcc",
    "matthews_correlation": "mcc",
    "matthews_corrcoef": "mcc",
    "kappa": "quadratic_kappa",
    "qwk": "quadratic_kappa",
    "quadratic_weighted_kappa": "quadratic_kappa",
    "cohen_kappa": "quadratic_kappa",
    "auc": "roc_auc",
    "auroc": "roc_auc",
    "roc_auc_ovr": "roc_auc",
    "ap": "average_precision",
    "auprc": "average_precision",
    "pr_auc": "average_precision",
    "neg_log_loss": "log_loss",
    "cross_entropy": "log_loss",
    "nll": "log_loss",
    "ece": "calibration_error",
    "expected_calibration_error": "calibration_error",
    "brier_score": "brier",
    "brier_score_loss": "brier",
    "mean_absolute_error": "mae",
    "root_mean_squared_error": "rmse",
    "r_2": "r2",
    "r2_score": "r2",
    "r_squared": "r2",
    "spearmanr": "spearman",
    "map": "mean_average_precision",
    "hamming_loss": "hamming",
    "exact_match": "subset_accuracy",
}


def metric_name(text: str, task: str | None = None, classes: int = 0) -> str:
    """The canonical name of a metric; with a task, one that the task has, and with as many classes.

    >>> metric_name("F1-macro")
    'macro_f1'
    """
    name = text.strip().lower().replace("-", "_").replace(" ", "_").replace("²", "2")
    name = ALIASES.get(name, name)
    if task == "multilabel" and name == "average_precision":
        name = "mean_average_precision"
    if task == "multilabel" and name == "accuracy":
        name = "subset_accuracy"
    known = list(METRICS[task]) if task else list(dict.fromkeys(m for metrics in METRICS.values() for m in metrics))
    if name not in known:
        raise unknown("metric" if task is None else f"metric for {task}", text, known)
    if task is not None and is_wide(task, classes) and name in RANKED:
        raise UserError(f"{name} is {UNRANKED}, and there are {classes:,}; choose by log_loss, brier or accuracy")
    return name


def default_metric(task: str, class_shares: Mapping[Any, float] | Sequence[float] | None = None) -> str:
    """The metric that decides where the user named none.

    >>> default_metric("classify", {"spam": 0.5, "ham": 0.5}), default_metric("classify", [0.95, 0.05])
    ('accuracy', 'balanced_accuracy')
    """
    fixed = {"ordinal": "quadratic_kappa", "multilabel": "macro_f1", "regress": "rmse", "multitask": "skill"}
    if task in fixed:
        return fixed[task]
    if task != "classify":
        raise unknown("task", task, METRICS)
    shares = list(class_shares.values() if isinstance(class_shares, Mapping) else class_shares or ())
    total = sum(shares)
    return "balanced_accuracy" if total > 0 and max(shares) / total > DOMINANT else "accuracy"
