"""Several label columns that are a task each: what does not combine with them, and what each would have got alone."""

from __future__ import annotations

import numpy as np

from acclimate.advise.crossfit import Pairs, Trial, crossfit
from acclimate.api.finish import (
    Choice,
    Judged,
    column_judged,
    columns_out_of_fold,
    finished,
    gap_between,
    judged_on,
    side_by_side,
    within,
)
from acclimate.api.request import Request
from acclimate.data.label_cells import column_of
from acclimate.data.rows import Columns, Data
from acclimate.errors import UserError
from acclimate.evaluate import Difference
from acclimate.metrics.skill import NAME
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Problem, Splits, Strategy
from acclimate.strategies.multitask import problem_of
from acclimate.tasks.multitask import Multitask, Part
from acclimate.usage import duration

SOON = 600.0  # seconds that training each column alone may take where nothing is said and no time limit is given


def check(request: Request, columns: Columns) -> None:
    """Refuse what is said of several label columns where there are none, and what is made for one label alone."""
    if not columns.tasks:
        for name, given in (("label_weight", request.label_weight), ("single_task", request.single_task is not None)):
            if given:
                raise UserError(
                    f"{name} speaks of several label columns that are a task each, and there is one task here; leave "
                    "it out, or name them with --label, each once, and --task multitask where all say yes or no"
                )
        return
    named = f"there are {len(columns.tasks)} label columns, a task each"
    for given, what, todo in (
        (request.target is not None or request.target_labels is not None, "target rows are adapted to for one label",
         "fit one label at a time, or leave the target rows out"),
        (columns.domain is not None, "domains are left out for one label",
         "fit one label at a time, or name the domain with --group-column or --subgroup-column"),
        (request.class_weight is not None, "class weights are of the classes of one label",
         "weigh whole columns with --label-weight COLUMN=NUMBER"),
        (request.class_order is not None, "an order of classes is of one label",
         "write the classes so that they sort, or fit that label alone"),
        (request.metric is not None, "a metric is of one label", "each column has its own; leave --metric out"),
    ):  # fmt: skip
        if given:
            raise UserError(f"{what}, and {named}: {todo}")


def alone(
    request: Request,
    problem: Problem,
    strategy: tuple[str, Strategy],
    together: Judged,
    splits: Splits,
    test: Data | None,
    folds: tuple[Data, Pairs],
    seconds: float,
    run: Run,
) -> tuple[Judged | None, str]:
    """Each column trained by itself with the same strategy and rows, on the rows of the number; and a sentence on what
    learning all of them `together` gained or lost.

    `seconds` is what the columns together took. Nothing where the backbone is frozen: each column is alone there.
    """
    task, (name, chosen) = problem.task, strategy
    assert isinstance(task, Multitask)
    if chosen.frozen:
        what = "features" if chosen.needs_backbone else "inputs"
        return None, (
            f"{name} moves no backbone: each label column is fitted by itself on the same {what} and gets the head "
            "that it would get alone, so that learning several at once gains and loses nothing."
        )
    known = sum(len(column_of(splits.train, j)[0]) for j in range(len(task.parts)))
    expected = seconds * known / max(1, len(splits.train))
    limit = run.left() if request.run.deadline is not None or request.single_task else SOON
    if not run.once("alone/affordable", lambda: request.single_task is not False and expected <= limit):
        why = "as asked" if request.single_task is False else f"it takes about {duration(expected)}"
        return None, (
            f"Whether {name} gains from learning the label columns together was not measured ({why}); for that add "
            "--single-task, and a --time-limit that allows for it where there is one."
        )
    run.progress.say(f"{name} for each label column alone: about {duration(expected)}")
    if test is None:
        apart = _on_folds(problem, task, strategy, folds, run)
    else:
        apart = _on_test(problem, task, chosen, splits, test, run)
    return apart, gain(problem, together, apart, name, run.seed)


def _on_test(problem: Problem, task: Multitask, strategy: Strategy, splits: Splits, test: Data, run: Run) -> Judged:
    """A fit for each column, on the test rows that know it."""
    each = []
    for j in range(len(task.parts)):
        known, own = column_of(test, j)
        if len(own):
            one = judged_on(_fitted_alone(problem, j, strategy, splits, run.at(f"alone/{j + 1}")), own, run)
            each.append((known, one.outputs, one.decisions))
        else:
            each.append((known, np.zeros((0, 1)), np.zeros(0)))
    return side_by_side(problem, test, each)


def _fitted_alone(problem: Problem, j: int, strategy: Strategy, splits: Splits, run: Run) -> Predictor:
    """Column j on the rows that know it, its temperature from the rows to choose by."""
    single, train = problem_of(problem, j), column_of(splits.train, j)[1]
    valid = None if splits.valid is None else column_of(splits.valid, j)[1]
    valid = valid if valid is not None and len(valid) else None
    fitted = strategy.fit(single, Splits(train, valid, read=splits.train.inputs), run)
    if valid is None:
        return fitted
    logits = fitted.logits(valid.inputs, run)
    choice = Choice(positive=single.decoder.positive)
    return finished(single, fitted, logits, np.arange(len(valid)), valid, choice)[0]


def _on_folds(
    problem: Problem, task: Multitask, strategy: tuple[str, Strategy], folds: tuple[Data, Pairs], run: Run
) -> Judged:
    """The same folds for each column, on the rows that know it."""
    data, pairs = folds
    trials: list[Trial] = []
    for j in range(len(task.parts)):
        known, own = column_of(data, j)
        mine = within(pairs, known, len(data))
        single, label = problem_of(problem, j), f"{strategy[0]}-alone-{j + 1}"
        trials.append(crossfit(label, strategy[1], single, own, mine, run, every_fold=True))
    return columns_out_of_fold(problem, trials, data, pairs)


def gain(problem: Problem, together: Judged, apart: Judged, name: str, seed: int) -> str:
    """The gain or loss of learning the columns together, by column, in a sentence."""
    task = problem.task
    assert isinstance(task, Multitask)
    whole = gap_between(together, apart, task, NAME, seed)
    told = []
    for j, part in enumerate(task.parts):
        one, two = (column_judged(x, task, j) for x in (together, apart))
        if len(one.data):
            told.append(f"{part.name} {_text(gap_between(one, two, part.task, part.metric, seed), part)}")
    return f"{name} for all label columns at once, less each alone: {_text(whole, None)} over all; {'; '.join(told)}"


def _text(gap: Difference, part: Part | None) -> str:
    metric = (NAME if part is None else part.metric).replace("_", " ")
    if gap.value is None:
        return f"{metric} undefined"
    numbers = f"{gap.value:+.3f}"
    if gap.low is not None and gap.high is not None:
        numbers += f" [{gap.low:+.3f}, {gap.high:+.3f}]"
    return f"{metric} {numbers.replace('-', '−')} ({gap.verdict})"
