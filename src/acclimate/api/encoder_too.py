"""Where the verdict is to adapt, the encoder of texts moves too, as far as the time allows: the same loss, beside the
source's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from acclimate import ranks
from acclimate.advise.costs import foretold, on_folds
from acclimate.advise.crossfit import Pairs
from acclimate.advise.race import refuse_untaken, unused
from acclimate.api.deciding import FILE, GENTLE, Decided, evaluating
from acclimate.api.prepare import Prepared
from acclimate.api.request import Request
from acclimate.errors import UserError
from acclimate.oom import NoRoom
from acclimate.run import Run
from acclimate.strategies import EVERY, STRATEGIES, Problem, Splits, Strategy, named
from acclimate.strategies.checks import fits
from acclimate.strategies.tune import Tune
from acclimate.usage import duration

BY = "lora"
_ROOM = 0.8  # of the time left, since what is foretold may be too little
MEAN, WORST = 5.9, -3.8  # points of right answers more than `GENTLE` on the frozen encoder gives, over these pairs
KNOWN = "nine known pairs of sentences, one draw each (docs/adaptation.md)"


def encoder_too(
    decided: Decided, request: Request, prepared: Prepared, problem: Problem, pairs: Pairs, run: Run
) -> tuple[Decided, tuple[str, Strategy] | None, Pairs]:
    """The verdict with what is said of it, the strategy by which the encoder moves, if it does, and the folds that it
    is judged on where no test rows are there.

    Only where the verdict is to adapt by `GENTLE`, for texts through a pretrained network: there it was measured. It
    needs the time of one fit, and of one fold where no test rows give the number. The settings that the user asked for
    hold for it.
    """
    settings = request.settings
    stays = replace(decided, said=(unused(settings), *decided.said)) if settings else decided
    if decided.adapt != GENTLE or prepared.target is None or ranks.world() > 1 or not could_move(problem, settings):
        return stays, None, pairs
    tune = moving(settings)
    found = run.once("adapt/encoder", partial(_affordable, tune, prepared, problem, pairs, run))
    run.progress.say(found["said"])
    decided = replace(decided, said=(found["said"], *decided.said))  # the last one is the verdict
    if not found["taken"]:
        return replace(stays, said=(found["said"], *stays.said)), None, pairs
    if decided.files:
        decided = replace(decided, next_steps=(_judging(request, prepared), *decided.next_steps))
    return decided, (BY, tune), pairs[: int(found["folds"])] if prepared.test is None else pairs


def _judging(request: Request, prepared: Prepared) -> dict[str, str]:
    """The step that judges what moved: with labels of the target `fit` compares candidates on frozen features alone."""
    label = " and ".join(map(repr, prepared.columns.labels))
    return {
        "text": f"Fill in {label} of {request.folder / FILE}, all of it or a first part; this then judges the model.",
        "command": evaluating(request),
    }


def moving(settings: Mapping[str, Any] | None = None) -> Tune:
    """What moves the encoder: L(θ) = L_source(θ) + λ·L_target(θ) with low-rank weights and the gentle loss.

    Of the settings all hold but those that would make it another strategy: what moves, and by which loss.
    """
    usual, tune = STRATEGIES[BY], named(BY, dict(settings or {}))[1]
    assert isinstance(usual, Tune) and isinstance(tune, Tune)
    return replace(tune, moves=usual.moves, align=GENTLE)


def could_move(problem: Problem, settings: Mapping[str, Any]) -> bool:
    """Whether there is an encoder that moves where the verdict is to adapt: that of texts, which was measured."""
    backbone = problem.backbone
    if backbone is None or backbone.modality != "text" or backbone.fixed or not backbone.pretrained:
        return False
    return _fits(moving(settings), problem)


def refuse_unused(request: Request, problem: Problem) -> None:
    """Of `auto`: settings that no candidate takes with this backbone, nor the encoder that may move, are refused."""
    if request.strategy != "auto" or not request.settings:
        return
    backbone, names = problem.backbone, request.candidates
    some = backbone is not None and not backbone.fixed
    if some and not all(EVERY[name].frozen for name in names):
        return
    if request.target is None or not could_move(problem, request.settings):
        refuse_untaken(list(request.settings), [name for name in names if EVERY[name].frozen])


def _fits(tune: Tune, problem: Problem) -> bool:
    try:
        fits(tune, problem)
    except UserError:
        return False
    return True


def _affordable(tune: Tune, prepared: Prepared, problem: Problem, pairs: Pairs, run: Run) -> dict[str, Any]:
    """Whether the encoder moves, on how many folds it is judged, and what is said of it."""
    kept = f"The encoder stayed as it was. Moving it too ({BY} with {GENTLE})"
    nothing = {"taken": False, "folds": 0}
    try:
        one = foretold(BY, tune, problem, Splits(prepared.train, target=prepared.target), run)
    except NoRoom as error:
        return {**nothing, "said": f"{kept} does not fit into memory ({error})."}
    assert one is not None
    fold = on_folds(one, len(prepared.train), pairs[:1]).seconds if prepared.test is None else 0.0
    left = _ROOM * run.left()
    if one.seconds + fold > left:
        took = duration(one.seconds + fold)
        why = f"{_gained()}; it takes about {took}, for which --time-limit is too short"
        return {**nothing, "said": f"{kept} {why}."}
    folds = len(pairs) if left == float("inf") or not fold else min(len(pairs), int((left - one.seconds) / fold))
    part = "" if not fold or folds == len(pairs) else f" It is judged on {folds} of {len(pairs)} folds."
    said = (
        f"The encoder moves too, by low-rank weights ({BY} with {GENTLE} beside the source's loss), which {_gained()}."
        f"{part}"
    )
    return {"taken": True, "folds": folds, "said": said}


def _gained() -> str:
    """What it gave elsewhere: mostly for the better, and not always."""
    gains = f"{MEAN:+.1f} points over {GENTLE} on the frozen encoder in the mean and {WORST:+.1f} at worst"
    return f"gained {gains} on {KNOWN}"
