"""What is to be said of target rows: whether they were used, and what can be known of it without their labels."""

from __future__ import annotations

from acclimate.api.finish import Judged, gap_between
from acclimate.api.prepare import Prepared
from acclimate.api.request import Request
from acclimate.errors import UserError
from acclimate.evaluate import Difference
from acclimate.strategies import FEW_LABELS, STRATEGIES, Problem, Strategy, adapts
from acclimate.strategies.alignment import check_alone
from acclimate.strategies.bottleneck import Bottleneck
from acclimate.strategies.pretrain import check_one_process
from acclimate.strategies.tune import Tune


def check(strategy: tuple[str, Strategy] | None, request: Request) -> None:
    """Refuse a strategy that adapts where there is nothing to adapt to, and labels that it would not read;
    or several processes where it compares whole batches.
    """
    name = None if strategy is None else strategy[0]
    if strategy is not None and adapts(strategy[1]) and request.target is None:
        raise UserError(
            f"strategy {name!r} adapts to rows from where the model will be used; give them with --target-data"
        )
    if name in FEW_LABELS and request.target_labels is None:
        raise UserError(
            f"strategy {name!r} learns from labelled rows of where the model will be used; give them with "
            "--target-labels"
        )
    if strategy is not None and isinstance(strategy[1], Tune) and strategy[1].pretrains:
        check_one_process()
    elif strategy is not None and adapts(strategy[1]) and isinstance(strategy[1], (Tune, Bottleneck)):
        check_alone(strategy[0])
    if request.target_labels is None:
        return
    if strategy is not None and name not in FEW_LABELS and not isinstance(strategy[1], Tune):
        tuning = ", ".join(n for n, known in STRATEGIES.items() if isinstance(known, Tune))
        raise UserError(
            f"strategy {name!r} learns from no labelled target row; give these rows with --test-data to judge it by, "
            f"or leave --strategy out, or choose one of {', '.join(FEW_LABELS)}, or one that tunes: {tuning}"
        )
    if name is None and (request.settings or request.asked.get("candidates")):
        raise UserError(
            "with --target-labels the candidates and their settings are fixed; name one by --strategy to set it: "
            f"{', '.join(FEW_LABELS)}"
        )


def said(
    prepared: Prepared,
    problem: Problem,
    name: str,
    judged: Judged,
    source_only: Judged | None,
    metric: str,
    seed: int,
    *,
    given: bool,
    used: bool,
    tuned: bool,
) -> tuple[str, ...]:
    """Sentences for the report; none without target rows. `given`: the rows that give the number are the user's own.

    `used`: the strategy read the target rows.
    """
    if prepared.target is None:
        return ()
    rows = f"{len(prepared.target):,} target rows of {prepared.target.source}"
    label = "label some 50 of them and give those as test data"
    if not used:
        return (
            f"The {rows} were not used by {name}. Whether adapting to them would help is not decidable without labels "
            f"there: {label}, then compare --strategy self_train. `acclimate shift` shows how far they are from the "
            "training rows.",
        )
    if not given:
        return (
            f"{name} adapted to the {rows}. Whether that helped is not decidable: the numbers here are of source rows, "
            f"and methods like it have both helped and harmed on real pairs (docs/adaptation.md); {label}. "
            "Probabilities, too, were fitted to source rows.",
        )
    gap = None if source_only is None else gap_between(judged, source_only, problem.task, metric, seed)
    part = " Part of the difference may come from tuning the encoder, which the probe did not." if tuned else ""
    return (f"{name} adapted to the {rows}. {_verdict(gap, metric)}{part}",)


def _verdict(gap: Difference | None, metric: str) -> str:
    if gap is None or gap.value is None or gap.low is None or gap.high is None:
        return "On the test data it cannot be compared with the same probe on the source alone."
    found = (
        f"{metric} {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] against the probe that learned from the source"
    )
    if gap.verdict == "better":
        return f"Adapt: on the test data it helped ({found})."
    if gap.verdict == "worse":
        return f"Do not adapt: on the test data it did harm ({found})."
    return f"Not decidable: the test data are too few to tell whether it helped ({found})."
