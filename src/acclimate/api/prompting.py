"""`--prompt`: a language model that is asked for the class of each judged row, beside the model that was fitted."""

from __future__ import annotations

from dataclasses import replace

from acclimate.advise.crossfit import Pairs, crossfit
from acclimate.api.finish import Choice, Judged, judged_on, judged_out_of_fold
from acclimate.api.prepare import Prepared
from acclimate.api.request import Request
from acclimate.backbones import load
from acclimate.backbones.writer import Writer
from acclimate.data.columns import Guess
from acclimate.data.kinds import kind_of
from acclimate.data.rows import Data
from acclimate.errors import UserError
from acclimate.model import Predictor
from acclimate.run import Run
from acclimate.strategies import Problem, Splits
from acclimate.strategies.prompted import prompts

SHOTS = 8  # examples in the prompt with some
ROWS = ("zero_shot", "few_shot")  # names of the rows in the report; their language model is not saved with the run


def check(request: Request, guessed: Guess) -> None:
    """Refuse a prompt where there are no classes of texts."""
    if request.prompt is None:
        return
    if guessed.task != "classify" or kind_of(guessed.columns).name != "text":
        raise UserError(
            f"--prompt asks a language model for the class of a text, and here the task is {guessed.task} and inputs "
            f"are {kind_of(guessed.columns).plural}; leave it out"
        )
    if request.target_labels is not None:
        raise UserError("--prompt stands beside a model for rows like the training ones; leave out --target-labels")


def beside(
    request: Request, prepared: Prepared, problem: Problem, data: Data, pairs: Pairs, run: Run
) -> dict[str, tuple[Predictor, Judged]]:
    """What the language model answers on the rows that give the number, without and with examples; none unasked."""
    if request.prompt is None:
        return {}
    writer = load(request.prompt, writes=True)
    assert isinstance(writer, Writer)
    found: dict[str, tuple[Predictor, Judged]] = {}
    usual = Choice(positive=problem.decoder.positive)
    for name, strategy in prompts(writer, SHOTS).items():
        run.progress.say(f"{name}: asking {request.prompt}")
        fitted = replace(strategy.fit(problem, Splits(prepared.train), run), strategy=name)
        if prepared.test is not None:
            found[name] = (fitted, judged_on(fitted, prepared.test, run, problem))
        else:
            trial = crossfit(name, strategy, problem, data, pairs, run, True)
            found[name] = (fitted, judged_out_of_fold(problem, trial, data, pairs, usual))
    return found
