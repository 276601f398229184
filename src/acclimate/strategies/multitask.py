"""Several label columns on one frozen backbone: a fit for each column, side by side in one model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acclimate.data.label_cells import column_of
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies.base import Constant, Problem, Splits, Strategy
from acclimate.tasks.heads import Heads
from acclimate.tasks.multitask import Multitask


def fit(strategy: Strategy, problem: Problem, splits: Splits, run: Run) -> Predictor:
    """`strategy.fit`; of several label columns what leaves the backbone frozen is fitted to each by itself.

    One set of features then serves all columns, and each gets what it would get alone: there is nothing to gain from
    the others, and nothing to lose. What moves the backbone learns from all columns together, in one loss.
    """
    if not isinstance(problem.task, Multitask) or not strategy.frozen:
        return strategy.fit(problem, splits, run)
    return side_by_side(strategy, problem, splits, run)


def side_by_side(strategy: Strategy, problem: Problem, splits: Splits, run: Run) -> Predictor:
    """A fit for each label column on the rows that know it, with their heads in one model."""
    assert isinstance(problem.task, Multitask)
    found = []
    for j, part in enumerate(problem.task.parts):
        own = Splits(_of(splits.train, j, part.name), _of(splits.valid, j, ""), read=splits.train.inputs)
        single = problem_of(problem, j)
        try:
            found.append(_learner(strategy, single, own).fit(single, own, run))
        except UserError as error:
            raise UserError(f"{error} (label column {part.name!r})") from error
    names = [part.name for part in problem.task.parts]
    first = found[0]
    return replace(
        first,
        task=problem.task,
        decoder=problem.decoder,
        head=Heads.of([one.head for one in found]),
        backbone=next((one.backbone for one in found if one.backbone is not None), None),
        plain=next((one.plain for one in found if one.plain is not None), None),
        settings=_together(names, [one.settings for one in found]),
        trained=tuple(
            f"head.parts.{j}.{name.removeprefix('head.')}" for j, one in enumerate(found) for name in one.trained
        ),
        notes=tuple(f"{name}: {note}" for name, one in zip(names, found, strict=True) for note in one.notes),
    )


def problem_of(problem: Problem, j: int) -> Problem:
    """The same with column j alone."""
    assert isinstance(problem.task, Multitask)
    return replace(problem, task=problem.task.parts[j].task, decoder=problem.decoder.parts[j])


def predictor_of(predictor: Predictor, j: int) -> Predictor:
    """The model of column j alone: the same backbone and plain features, its head and its decoder."""
    assert isinstance(predictor.task, Multitask) and isinstance(predictor.head, Heads)
    head: Any = predictor.head.parts[j]
    return replace(predictor, task=predictor.task.parts[j].task, decoder=predictor.decoder.parts[j], head=head)


def _of(data: Data | None, j: int, name: str) -> Any:
    """The rows that know column j; None where there are none, or an error with its name."""
    part = None if data is None else column_of(data, j)[1]
    if part is not None and len(part):
        return part
    if name:
        raise UserError(f"no row at hand has a label in column {name!r}; give more rows that do")
    return None


def _learner(strategy: Strategy, problem: Problem, own: Splits) -> Strategy:
    """Class shares alone where the rows at hand, such as a fold, know one class of the column."""
    classes = problem.task.name in ("classify", "ordinal")
    return Constant() if classes and len(set(own.train.labels or ())) < 2 else strategy


def _together(names: list[str], settings: list[dict[str, Any]]) -> dict[str, Any]:
    """Each setting once where all columns have the same, else by column."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in settings for key in one):
        values = [one.get(key) for one in settings]
        same = all(value == values[0] for value in values)
        found[key] = values[0] if same else dict(zip(names, values, strict=True))
    return found
