"""`auto`: the candidates are judged on the same folds, and what tunes is taken where it is better on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from acclimate import ranks
from acclimate.advise.costs import announce, on_folds
from acclimate.advise.crossfit import Pairs, Trial, crossfit
from acclimate.data.kinds import kind_of
from acclimate.data.rows import Data
from acclimate.errors import UserError, plural
from acclimate.evaluate import difference, greater_is_better, value
from acclimate.metrics.skill import skill_difference, skill_value
from acclimate.oom import NoRoom
from acclimate.run import Run
from acclimate.strategies import BASELINES, OVER_DOMAINS, STRATEGIES, Problem, Splits, named, takers
from acclimate.strategies.foresee import Foreseen, foresee, foreseeable
from acclimate.tasks.answered import Answered, answered, rows_of
from acclimate.tasks.multitask import Multitask
from acclimate.usage import duration

FROZEN = ("linear_probe", "centroid", "knn", "hybrid")  # the most useful first, should time run out
MOVING = ("contrastive", "lp_ft")  # the cheaper first, which is of texts alone: of digits and sounds it gained nothing
CANDIDATES = (*FROZEN, *MOVING)
OF_DOMAINS = ("group_dro",)  # a candidate where rows have domains
OF_PARTS = ("feature_boosting",)  # a candidate where a table holds text, pictures or sounds
_KNOWN = {**STRATEGIES, **{name: OVER_DOMAINS[name] for name in OF_DOMAINS}}
_NAMED = 12  # strategies in a message
FEW_A_CLASS = 128  # texts up to which contrastive tuning is taken where they cannot tell: what was measured
MOST_FOLDS = 5  # that what tunes is judged on
LEAST = 4.0  # seconds that finding out what tuning costs takes by itself


@dataclass(frozen=True)
class Race:
    """Every trial, which one was chosen, and why, in words."""

    trials: tuple[Trial, ...]
    chosen: str
    decisions: tuple[str, ...]
    one: Foreseen | None = None  # a fit of the chosen one, where it moves weights
    why: Mapping[str, str] = field(default_factory=dict)  # for each of the others: how it compares to the chosen one

    def trial(self, name: str) -> Trial:
        """The trial of this name."""
        return next(t for t in self.trials if t.name == name)


def compare(problem: Problem, data: Data, metric: str, a: Trial, b: Trial) -> Any:
    """The paired difference a − b on rows that both judged, with its interval."""
    at = np.intersect1d(a.judged, b.judged)
    truth = problem.task.truth(data.take(at).labels or (), problem.decoder)

    def view(trial: Trial) -> Answered:
        return answered(problem.task, problem.decoder, truth, rows_of(trial.logits, at))

    weights = None if data.weights is None else data.weights[at]
    clusters = None if data.groups is None else np.unique(np.array(data.groups)[at], return_inverse=True)[1]
    if isinstance(problem.task, Multitask):
        one, two = (problem.task.columns(truth, np.asarray(x.outputs), x.decisions) for x in (view(a), view(b)))
        return skill_difference(one, two, len(at), weights, clusters, seed=0)
    return difference(problem.task.name, metric, truth, view(a), view(b), weights=weights, clusters=clusters, seed=0)


def race(
    problem: Problem,
    data: Data,
    pairs: Pairs,
    metric: str,
    run: Run,
    overrides: Mapping[str, Any] | None = None,
    *,
    candidates: Sequence[str] = CANDIDATES,
    every_fold: bool = False,
    asked: bool = False,
) -> Race:
    """Judge baselines, candidates that leave the backbone frozen, and within the time left those that move it; choose.

    Rule: the best out-of-fold value of the frozen candidates; then each that tunes is compared with the one chosen
    before it on the rows that both judged. Beyond the interval the better one is taken. Within it, where the rows
    cannot tell and that is said: `contrastive` with up to 128 texts a class (decisions/0014), else the one that is
    ahead, but nothing in the place of `contrastive`. One that was judged on fewer than all of its folds must be better
    beyond the interval. To demand that of all lost 3 points of macro-F1 with few rows (benchmarks/regret.py).
    `asked`: the user named the candidates, so that it is said of each that there is not for such data.
    """
    decisions: list[str] = []
    trials: list[Trial] = []

    def cut(text: str) -> None:
        """What was left out, and why, is said at once, and reported."""
        run.progress.say(text)
        decisions.append(text)

    baseline = kind_of(data).baseline
    frozen = [name for name in candidates if _KNOWN[name].frozen]
    order = ["majority", *frozen[:1], baseline, *frozen[1:]]
    if problem.backbone is not None and not problem.backbone.pretrained:
        frozen.append(baseline)  # as good a choice as any where nothing is carried over
    for name in order:
        some = any(t.name in frozen for t in trials)
        lacking = _lacking(name, problem, data)
        if lacking:
            if asked and name in candidates:
                cut(f"{name} was not run: {lacking}.")
            continue
        trial, why = _frozen(name, problem, data, pairs, run, every_fold, some)
        trials += [trial] if trial is not None else []
        if why:
            cut(why)
    known = [t for t in trials if t.name in frozen]
    best, one = _best(problem, data, metric, known), None
    every = [t for t in known if t.folds == best.folds]
    decisions.append(
        f"{best.name} has the best out-of-fold {metric} of the strategies with a frozen backbone"
        + (f" that were judged on {plural(best.folds, 'fold')}." if len(every) < len(known) else ".")
    )
    decisions += _level(problem, data, metric, best, known)
    moving = [name for name in STRATEGIES if name in candidates and not STRATEGIES[name].frozen]
    moving = sorted(moving, key=lambda name: name != MOVING[0])
    there = {name: _lacking(name, problem, data) for name in moving}
    for name in [name for name in moving if there[name]]:
        moving.remove(name)
        if asked:
            cut(f"{name} was not run: {there[name]}.")
    if not asked and kind_of(data).name != "text":
        moving = [name for name in moving if name != MOVING[0]]
    if problem.backbone is not None and problem.backbone.fixed and not asked:
        moving = moving[-1:]  # one sentence on why none of them is run
    if overrides and not moving:
        cut(unused(overrides))
    for name in moving:
        tuned, cost, said = _moving(name, overrides or {}, problem, data, pairs, run, one)
        for text in said:
            cut(text)
        if tuned is None:
            continue
        trials.append(tuned)
        gap = compare(problem, data, metric, tuned, best)
        whole = tuned.folds == min(len(pairs), MOST_FOLDS)
        ahead = gap.value is not None and gap.value * _sign(problem, metric) > 0
        few = kind_of(data).name == "text" and len(data) <= FEW_A_CLASS * max(1, len(problem.decoder.classes))
        taken, text = _taken_over(name, best.name, gap, ahead, whole, few)
        decisions.append(text)
        if ranks.agreed(taken):
            best, one = tuned, cost
    others = {t.name: compare(problem, data, metric, t, best) for t in trials if t.name != best.name}
    against = {name: f"{gap_text(gap)} against {best.name}" for name, gap in others.items()}
    return Race(tuple(trials), ranks.agreed(best.name), tuple(decisions), one, against)


def _taken_over(name: str, best: str, gap: Any, ahead: bool, whole: bool, few: bool) -> tuple[bool, str]:
    """Whether what tunes is taken in the place of the best so far, and why. `ahead`: the gap speaks for it; `whole`: it
    was judged on all its folds; `few`: there are so few rows that what is known of other data decides for contrastive.
    """
    if gap.verdict == "better":
        return True, f"{name} was chosen: better than {best} by {gap_text(gap)}."
    told = f"{gap_text(gap)} against {best}"
    if gap.verdict == "worse":
        return False, f"{name} was not chosen: {told}."
    if not whole:
        return False, f"{name} was not chosen: {told} on some of the folds is no evidence."
    undecided = f"{told}; these rows cannot tell them apart"
    if name == MOVING[0] and few:
        return True, f"{name} was chosen: {undecided}, and with so few it was seldom behind on other texts."
    if best == MOVING[0] or not ahead:
        return False, f"{name} was not chosen: {undecided}, and the cheaper one stays."
    return True, f"{name} was chosen: {undecided}, and the better one on the same folds is the better bet."


def check_candidates(names: Sequence[str], settings: Mapping[str, Any], beside: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of strategies to compare, each once; settings are for those that move the backbone, and for those `beside`,
    which may come in later."""
    found = tuple(dict.fromkeys(named(name)[0] for name in names))
    for name in found:
        if name not in _KNOWN:
            raise UserError(f"{name!r} is judged in any case; leave it out of the candidates")
        if not (_KNOWN[name].frozen or foreseeable(_KNOWN[name])):
            raise UserError(
                f"candidate {name!r}: how long it takes cannot be foretold, so that it is not raced; fit it alone with "
                f"--strategy {name}"
            )
    if not any(_KNOWN[name].frozen for name in found):
        raise UserError(
            f"candidates {', '.join(found) or 'none'}: one must leave the backbone frozen ({', '.join(FROZEN)}), so "
            "that there is a model whatever the time allows"
        )
    moving = [name for name in found if not _KNOWN[name].frozen]
    taken = [name for name in (*moving, *beside)]
    refuse_untaken([s for s in settings if not set(takers(s)) & set(taken)], taken or found)
    for name in moving:
        named(name, dict(settings) if tuple(names) != CANDIDATES else _taken(name, settings))
    return found


def _taken(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of these settings that a strategy has."""
    return {setting: value for setting, value in settings.items() if name in takers(setting)}


def unused(settings: Mapping[str, Any]) -> str:
    """What is said of settings where nothing that moves weights was fitted after all."""
    listed = ", ".join(f"{name}={value}" for name, value in settings.items())
    return (
        f"Settings that were given are for strategies that move weights, and none was fitted: {listed} had no effect."
    )


def refuse_untaken(settings: Sequence[str], considered: Sequence[str]) -> None:
    """One error for settings that none of the strategies that are considered takes, with the names of those that do."""
    for setting in settings:
        known = takers(setting)
        if not known:
            named(considered[0], {setting: None})  # which says that there is no such setting, and which are near
        more = f", and {len(known) - _NAMED} more (`acclimate methods`)" if len(known) > _NAMED else ""
        raise UserError(
            f"no strategy that is considered takes the setting {setting!r} ({', '.join(considered)}; settings are for "
            f"those that move weights); name one that does by --strategy: {', '.join(known[:_NAMED])}{more}"
        )


def _lacking(name: str, problem: Problem, data: Data) -> str:
    """Why there is no such strategy for this data; empty where there is."""
    if {**BASELINES, **_KNOWN}[name].needs_backbone and problem.backbone is None:
        return "it reads the features of a pretrained model, and there is none"
    if name == "centroid" and "regress" in (problem.task.name, *(one.task for one in problem.decoder.parts)):
        return "it chooses between classes, and the labels are numbers"
    if name == MOVING[0] and problem.task.name not in ("classify", "ordinal"):
        return "it pulls rows of one class together, and here no row has one class"
    if name == "hybrid" and not kind_of(data).beside:
        return f"of {kind_of(data).plural} there are no plain features to put beside those of a network"
    return ""


def _frozen(
    name: str, problem: Problem, data: Data, pairs: Pairs, run: Run, every_fold: bool, some: bool
) -> tuple[Trial | None, str]:
    """A baseline or a candidate that leaves the backbone frozen, judged; or nothing; and what is to be said of it."""
    strategy = {**BASELINES, **_KNOWN}[name]
    if run.once(f"late/{name}", partial(_late, run, some)):
        return None, f"{name} was not run: the time limit was reached before."
    if run.private and name == "hybrid" and kind_of(data).has_words:
        return None, "hybrid was not run: its bundle holds words of the training texts, and the run is private."
    try:
        trial = crossfit(
            name, strategy, problem, data, pairs, run, every_fold, droppable=some and name not in BASELINES
        )
    except UserError as error:
        return None, f"{name} was not run: {error}"
    if trial.folds < len(pairs):
        return trial, f"{name} was judged on {trial.folds} of the {plural(len(pairs), 'fold')}: the time was up."
    return trial, ""


def _level(problem: Problem, data: Data, metric: str, best: Trial, known: Sequence[Trial]) -> list[str]:
    """Which of these cannot be told from the best."""
    found = []
    for other in [t for t in known if t.name != best.name]:
        gap = compare(problem, data, metric, best, other)
        if gap.verdict == "not decidable":
            found.append(f"{best.name} against {other.name}: {gap_text(gap)}; these rows cannot tell them apart.")
    return found


def _late(run: Run, some: bool) -> bool:
    """Whether a candidate is passed over: the time is up, and there is one to choose already."""
    return run.left() <= 0 and some


def gap_text(gap: Any) -> str:
    """A difference with its interval and verdict."""
    if gap.low is None or gap.high is None:
        return f"{gap.value:+.3f}".replace("-", "−") + f" (n = {gap.n}: {gap.verdict})"
    numbers = f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]".replace("-", "−")
    return f"{numbers} ({gap.verdict}, n = {gap.n})"


def _best(problem: Problem, data: Data, metric: str, trials: list[Trial]) -> Trial:
    if not trials:
        raise UserError(
            "none of the strategies could be run on this data; see the reasons above or name one by --strategy"
        )
    sign = _sign(problem, metric)
    most = max(trial.folds for trial in trials)  # fewer rows, and others: such a value is not to be compared
    return max(
        [trial for trial in trials if trial.folds == most],
        key=lambda trial: sign * value_of(problem, data, metric, trial),
    )


def _sign(problem: Problem, metric: str) -> int:
    return 1 if greater_is_better(problem.task.name, metric) else -1


def value_of(problem: Problem, data: Data, metric: str, trial: Trial) -> float:
    """The metric on the rows that this trial judged."""
    at = trial.judged
    part = data.take(at)
    truth = problem.task.truth(part.labels or (), problem.decoder)
    found = answered(problem.task, problem.decoder, truth, rows_of(trial.logits, at))
    if isinstance(problem.task, Multitask):
        columns = problem.task.columns(truth, np.asarray(found.outputs), found.decisions)
        return skill_value(columns, len(at), part.weights)
    return value(problem.task.name, metric, truth, found.outputs, found.decisions, part.weights)


def _moving(
    name: str,
    overrides: Mapping[str, Any],
    problem: Problem,
    data: Data,
    pairs: Pairs,
    run: Run,
    ahead: Foreseen | None,
) -> tuple[Trial | None, Foreseen | None, list[str]]:
    """A strategy that moves the backbone, on as many folds as the time allows, leaving room for the last fit (of this
    one, or of the one `ahead`); and what one fit takes."""
    if problem.backbone is None:
        return None, None, []
    if problem.backbone.fixed:
        return None, None, [f"{name} was not run: {problem.backbone.fixed}."]
    untaken = sorted(set(overrides) - set(_taken(name, overrides)))
    if untaken:
        return None, None, [f"{name} was not run: it has no setting {untaken[0]!r}, which was given."]
    tune: Any = named(name, dict(overrides))[1]
    try:
        found = run.once(f"{name}/affordable", partial(_affordable, tune, problem, data, pairs, run, ahead))
    except (UserError, NoRoom) as error:
        return None, None, [f"{name} was not run: {error}"]
    folds, more = int(found["folds"]), "raise --time-limit to have it judged."
    if found["one"] is None:
        return None, None, [f"{name} was not run: {found['left']:.0f} s were left; {more}"]
    one = Foreseen(**found["one"])
    if folds < 1:
        why = f"a fold and the last fit take about {one.seconds + found['fold']:.1f} s here, and {found['left']:.1f} s"
        wanted = duration((one.seconds + found["fold"]) / 0.8)
        return (
            None,
            one,
            [
                f"{name} was not run: {why} are left of the time limit (ten minutes by default); "
                f"raise --time-limit by some {wanted} to have it judged."
            ],
        )
    said = [] if folds == len(pairs) else [f"{name} was judged on {folds} of the {plural(len(pairs), 'fold')}."]
    expected = on_folds(one, len(data), pairs[:folds])
    announce(name, [expected], run)
    try:
        tuned = replace(crossfit(name, tune, problem, data, pairs[:folds], run), foreseen=expected)
        took = tuned.seconds / tuned.folds
        said.append(f"A fold of {name} was foreseen to take {found['fold']:.0f} s, and took {took:.0f} s.")
        return tuned, one, said
    except (UserError, NoRoom) as error:
        return None, one, [f"{name} was not run to its end: {error}"]


def _affordable(
    tune: Any, problem: Problem, data: Data, pairs: Pairs, run: Run, ahead: Foreseen | None
) -> dict[str, Any]:
    """How many folds there is time for, beside the last fit; seconds of a fold, and what one fit takes."""
    if run.left() < LEAST:
        return {"folds": 0, "fold": 0.0, "one": None, "left": max(0.0, run.left())}
    one = foresee(tune, problem, Splits(data), run)
    fold = on_folds(one, len(data), pairs[:1]).seconds
    left, last = 0.8 * run.left(), max(one.seconds, 0.0 if ahead is None else ahead.seconds)
    folds = len(pairs) if np.isinf(left) else int((left - last) / max(1e-6, fold))
    return {"folds": min(len(pairs), folds, MOST_FOLDS), "fold": fold, "one": asdict(one), "left": max(0.0, left)}
