"""What is to be said of target rows: whether they were used, and what can be known of it without their labels."""

from __future__ import annotations

import numpy as np

from acclimate.align import ALIGNMENTS
from acclimate.api.deciding import FEWEST, Decided, asked, evaluating, rows_to_label, some_of
from acclimate.api.finish import Judged, gap_between
from acclimate.api.prepare import Prepared
from acclimate.api.request import Request
from acclimate.backbones.base import Backbone
from acclimate.errors import UserError, plural
from acclimate.evaluate import Difference
from acclimate.run import Run
from acclimate.shallow.domains import tell_apart
from acclimate.shift.telling import apart
from acclimate.strategies import ADAPTATIONS, FEW_LABELS, STRATEGIES, Problem, Strategy, adapts
from acclimate.strategies.adapt import Adapt
from acclimate.strategies.alignment import check_alone
from acclimate.strategies.bottleneck import Bottleneck
from acclimate.strategies.consistency import Consistency
from acclimate.strategies.mapped import Mapped
from acclimate.strategies.opposed import Adda, Osbp
from acclimate.strategies.pretrain import check_one_process
from acclimate.strategies.tune import Tune

FEW_ROWS = 50  # to label: an accuracy of these is known to within some 14 points, a difference of two models to less
MOST_APART = 2000  # rows of each side that are told apart


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
    request: Request,
    prepared: Prepared,
    problem: Problem,
    chosen: tuple[str, Strategy],
    judged: Judged,
    source_only: Judged | None,
    metric: str,
) -> Decided:
    """What is to be said of target rows, and what would tell more; nothing without target rows. `chosen`: the strategy
    of the model, by its name.
    """
    if prepared.target is None:
        return Decided(())
    name, strategy = chosen
    rows = f"{plural(len(prepared.target), 'target row')} of {prepared.target.source}"
    if not adapts(strategy):
        todo, files, steps = _rows_to_label(request, prepared, None)
        told = f"The {rows} were not used by {name}.{_apart(prepared, problem, request.run)} Whether adapting to them "
        told += f"would help is not decidable without labels there: {todo}"
        by_name = f"By name these adapt to such rows: {', '.join(that_can(problem.task.name, problem.backbone))}."
        return Decided((by_name, told), files=files, next_steps=steps)
    if request.test is None:
        todo, files, steps = _rows_to_label(request, prepared, evaluating(request))
        told = f"{name} adapted to the {rows}. Whether that helped is not decidable: the numbers here are of source "
        told += "rows, to which probabilities were fitted, too, and methods like it have both helped and harmed on "
        return Decided((f"{told}real pairs (docs/adaptation.md); {todo}",), files=files, next_steps=steps)
    gap = None
    if source_only is not None:
        gap = gap_between(judged, source_only, problem.task, metric, request.run.seed)
    tuned = not strategy.frozen
    part = " Part of the difference may come from tuning the encoder, which the probe did not." if tuned else ""
    return Decided((f"{name} adapted to the {rows}. {_verdict(gap, metric)}{part}",))


def _rows_to_label(
    request: Request, prepared: Prepared, command: str | None
) -> tuple[str, tuple[tuple[str, str], ...], tuple[dict[str, str], ...]]:
    """What is to be done, a file of random target rows, and the next step: `command`, or to fit with their labels."""
    assert prepared.target is not None
    some = some_of(prepared.target, request.run, FEW_ROWS)
    if request.gate.private:
        way = "judge the model by them (acclimate evaluate)" if command else "give them with --target-labels"
        return f"label some {len(some)} of them, then {way}", (), ()
    return asked(
        request, prepared, f"the {plural(len(some), 'row')}", rows_to_label(prepared, some, np.ones(len(some))), command
    )


def _apart(prepared: Prepared, problem: Problem, run: Run) -> str:
    """How well target rows are told from training rows, in a sentence; nothing where features are not there."""
    assert prepared.target is not None
    ours, theirs = (some_of(data, run, MOST_APART) for data in (prepared.train, prepared.target))
    store = problem.store
    if store is None or min(len(ours), len(theirs)) < FEWEST or store.missing([*ours.inputs, *theirs.inputs]):
        return ""
    found = apart(tell_apart(store.get(ours.inputs), store.get(theirs.inputs), seed=run.seed)).auc
    if found.value is None or found.low is None or found.high is None:
        return ""
    return (
        f" A classifier tells them from the training rows with an AUC of {found.value:.2f} [{found.low:.2f}, "
        f"{found.high:.2f}] (0.5: not at all, 1: always)."
    )


def that_can(task: str, backbone: Backbone | None) -> tuple[str, ...]:
    """The strategies that adapt to rows without labels where the task is this one: all of them for classes, else those
    that read features alone. What changes inputs at random is for backbones of which such changes are known. `osbp` is
    left out: it answers another question, with a class more."""
    changes = backbone is not None and backbone.augments
    left_out = (Osbp,) if changes else (Consistency, Osbp)
    return tuple(
        name
        for name, strategy in ADAPTATIONS.items()
        if (task == "classify" or _without_classes(strategy)) and not isinstance(strategy, left_out)
    )


def _without_classes(strategy: Strategy) -> bool:
    if isinstance(strategy, Adapt):
        return strategy.source_weights != "pada" and not ALIGNMENTS[strategy.align].needs_classes
    return isinstance(strategy, (Adda, Mapped))


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
