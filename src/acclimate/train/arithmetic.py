"""In which numbers a network trains, and whether its blocks are compiled: found out by timing a few of its own steps.

Nothing is assumed of the device: bf16 takes half as long as fp32 on one machine and twice as long on another.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, in_eval
from acclimate.backbones.kernels import learning, product
from acclimate.oom import out_of_memory
from acclimate.run import Run
from acclimate.train.checkpoint import random_state, set_random_state

MIXED = ("auto", "no", "bf16", "fp16")  # as `accelerate` names them
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_WORTH = 1.2  # times as quick, or the more exact one stays
_WORTH_A_TRIAL = 20.0  # seconds still to train, below which there is nothing to gain
_PRODUCT = 1.5  # times as quick a product in bf16 must be on a CPU before steps are tried
_ALIKE = 0.99  # cosine between the gradients and those of fp32, dropout off
_TIMED = 3  # steps of each, after one that is not timed
_PART = 8  # rows of the batch, by which a short run is told
_TRIED = 12  # about so many steps a trial takes
_SHARE = 0.1  # of the time left that a trial may take
_WORTH_COMPILING = 120.0  # seconds still to train, below which compiling costs more than it brings
_COSTS = 60.0  # seconds that compiling is reckoned to take, since it shows only afterwards

Rows = list[int]


@dataclass(frozen=True)
class Arithmetic:
    """`numbers`: fp32, tf32 (matrix products rounded to 11 bits), or autocast to bf16 or fp16. `padded`: texts are
    padded though they could be packed. `compiled`: the blocks run through torch.compile."""

    numbers: str = "fp32"
    padded: bool = False
    compiled: bool = False

    @contextmanager
    def at_work(self, device: str) -> Iterator[None]:
        """To be held in a forward pass: its products are in half precision, where that was chosen."""
        if self.numbers not in _HALF:
            yield
            return
        with torch.autocast(torch.device(device).type, _HALF[self.numbers]):
            yield

    def scaler(self, device: str) -> torch.amp.GradScaler | None:
        """What keeps small gradients from vanishing in fp16; nothing for the others, whose range is that of fp32."""
        return torch.amp.GradScaler(torch.device(device).type) if self.numbers == "fp16" else None

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """To be held in whole steps: the backbone pads, its blocks are compiled and products are in TF32, as chosen.

        TF32 holds for the backward pass too, which asks when it runs, not when the forward pass did.
        """
        backbone = getattr(network, "backbone", None)
        blocks = backbone.blocks if isinstance(backbone, Backbone) and self.compiled else []
        before = torch.get_float32_matmul_precision()
        if isinstance(backbone, Backbone):
            backbone.padded = self.padded
        try:
            if self.numbers == "tf32":
                torch.set_float32_matmul_precision("high")
            for block in blocks:
                block.compile(dynamic=True)
            quick = backbone if isinstance(backbone, Backbone) and not self.compiled else None
            with nullcontext() if quick is None else learning(quick, self.numbers == "fp32"):
                yield
        finally:
            torch.set_float32_matmul_precision(before)
            for block in blocks:
                block._compiled_call_impl = None  # not a part of what is saved, nor of a copy
            if isinstance(backbone, Backbone):
                backbone.padded = False


def choose(
    network: nn.Module,
    loss_of: Callable[[Rows], Tensor],
    batches: Sequence[Rows],
    steps: int,
    mixed: str,
    run: Run,
) -> tuple[Arithmetic, str]:
    """How to train, and a sentence on it (empty where there was nothing to choose). A run that goes on keeps
    the choice.

    `loss_of(rows)` is the mean loss of a batch, `steps` how many the run has. Weights, gradients, random numbers and
    running statistics are left as they were.
    """
    found: dict[str, Any] = run.once("arithmetic", lambda: _found(network, loss_of, batches, steps, mixed, run))
    return Arithmetic(**found["chosen"]), found["note"]


def _found(
    network: nn.Module, loss_of: Callable[[Rows], Tensor], batches: Sequence[Rows], steps: int, mixed: str, run: Run
) -> dict[str, Any]:
    asked = Arithmetic() if mixed in ("auto", "no") else Arithmetic(mixed)
    note = f"trained in {mixed}, as asked for" if asked.numbers == mixed else ""
    # On a GPU small batches wait for the host, which has less to do where texts are padded.
    untried = {"chosen": asdict(replace(asked, padded=torch.device(run.device).type == "cuda")), "note": note}
    if _nothing_to_try(network, mixed, run.device):
        return untried
    with _undisturbed(network):
        trial = _Trial(network, loss_of, batches[len(batches) // 2], run.device)
        try:
            if trial.surely_short(asked, _WORTH_A_TRIAL / max(1, steps)):
                return untried
            if not trial.longer_than(asked, _WORTH_A_TRIAL / max(1, steps), _SHARE * run.left() / _TRIED):
                return untried
            return _tried(trial, asked, note, steps, mixed, run)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
    # A whole batch does not fit: training itself goes on with parts of it, and says so.
    if torch.device(run.device).type == "cuda":
        torch.cuda.empty_cache()
    return untried


def _tried(trial: _Trial, asked: Arithmetic, note: str, steps: int, mixed: str, run: Run) -> dict[str, Any]:
    chosen = asked
    if mixed == "auto":
        chosen, note = _numbers(trial)
    chosen, more = _layout(trial, chosen)
    chosen, last = _compiled(trial, chosen, steps, run)
    return {"chosen": asdict(chosen), "note": "; ".join(part for part in (note, more, last) if part)}


def _nothing_to_try(network: nn.Module, mixed: str, device: str) -> bool:
    """On a CPU numbers are all there is to choose, and they only where a product in bf16 is much quicker."""
    return torch.device(device).type == "cpu" and (mixed != "auto" or bf16_gain(_width(network)) < _PRODUCT)


def _width(network: nn.Module) -> int:
    """A side of the matrices that take most of the time, roughly."""
    sides = [int(p.shape[-1]) for p in network.parameters() if p.ndim == 2]
    return max(64, min(1024, int(median(sides)))) if sides else 384


def _numbers(trial: _Trial) -> tuple[Arithmetic, str]:
    """The most exact numbers that are nearly as quick as the quickest."""
    candidates = [Arithmetic(name) for name in _candidates(trial.device)]
    times = trial.race(candidates)
    fine = [c for c in candidates if c in times and (c.numbers == "fp32" or trial.alike(c))]
    quickest = min(times[c] for c in fine)
    chosen = next(c for c in fine if times[c] <= quickest * _WORTH)
    listed = ", ".join(f"{c.numbers} {times[c] * 1e3:.1f}" for c in candidates if c in times)
    return chosen, f"trained in {chosen.numbers} (ms a step on trial: {listed})"


def _candidates(device: str) -> list[str]:
    """Numbers that may be quicker here, the most exact first."""
    if torch.device(device).type == "cuda":
        return ["fp32", "tf32", "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"]
    return ["fp32", "bf16"]


def bf16_gain(size: int, rows: int = 512) -> float:
    """How many times as quick as fp32 a product in bf16 is on this CPU; takes some 10 to 50 ms."""
    pairs = {dtype: (torch.ones(rows, size, dtype=dtype), torch.ones(size, size, dtype=dtype)) for dtype in _BOTH}
    times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in _BOTH}
    for _ in range(_TIMED + 1):
        for dtype, (left, right) in pairs.items():
            start = time.perf_counter()
            product(left, right)
            times[dtype].append(time.perf_counter() - start)
    return median(times[torch.float32][1:]) / median(times[torch.bfloat16][1:])


_BOTH = (torch.float32, torch.bfloat16)


def _layout(trial: _Trial, chosen: Arithmetic) -> tuple[Arithmetic, str]:
    """Packed or padded, where there is a choice; on a CPU packed texts are always quicker."""
    backbone = getattr(trial.network, "backbone", None)
    if torch.device(trial.device).type == "cpu" or not isinstance(backbone, Backbone) or not backbone.packs:
        return chosen, ""
    padded = replace(chosen, padded=True)
    times = trial.race([chosen, padded])
    if times.get(padded, float("inf")) * _WORTH > times.get(chosen, float("inf")):
        return chosen, ""
    return padded, f"texts are padded ({times[padded] * 1e3:.1f} ms a step, packed {times[chosen] * 1e3:.1f})"


def _compiled(trial: _Trial, chosen: Arithmetic, steps: int, run: Run) -> tuple[Arithmetic, str]:
    """Whether compiled blocks pay: tried only on a GPU, and where minutes of training lie ahead."""
    backbone = getattr(trial.network, "backbone", None)
    if torch.device(trial.device).type != "cuda" or not isinstance(backbone, Backbone) or not backbone.blocks:
        return chosen, ""
    took = trial.race([chosen]).get(chosen, 0.0)
    if steps * took < _WORTH_COMPILING or run.left() < steps * took + 2 * _COSTS:
        return chosen, ""
    compiled = Arithmetic(chosen.numbers, chosen.padded or backbone.packs, True)
    run.progress.say("trying whether compiled blocks are quicker")
    start = time.monotonic()
    times = trial.race([chosen, compiled])
    spent = time.monotonic() - start
    if compiled not in times:
        return chosen, "blocks could not be compiled here"
    ratio = times[chosen] / times[compiled]
    if ratio < _WORTH or (steps * (times[chosen] - times[compiled])) < spent or not trial.alike(compiled):
        return chosen, f"not compiled ({ratio:.2f} times the speed on trial)"
    return compiled, f"compiled blocks ({ratio:.2f} times the speed on trial)"


class _Trial:
    """Steps without their last part: forward and backward of one batch, timed."""

    def __init__(self, network: nn.Module, loss_of: Callable[[Rows], Tensor], rows: Rows, device: str) -> None:
        self.network, self.loss_of, self.rows, self.device = network, loss_of, rows, device
        self.exact: list[Tensor] = []  # the gradient in fp32

    def race(self, candidates: Sequence[Arithmetic]) -> dict[Arithmetic, float]:
        """Seconds a step of each, in turn; one that fails here is left out."""
        times: dict[Arithmetic, list[float]] = {}
        for candidate in candidates:
            if self._took(candidate) is not None:
                times[candidate] = []
        for _ in range(_TIMED):
            for candidate, found in times.items():
                took = self._took(candidate)
                found.append(float("inf") if took is None else took)
        return {candidate: median(found) for candidate, found in times.items()}

    def surely_short(self, candidate: Arithmetic, seconds: float) -> bool:
        """Whether a step takes less than this by what a part of the batch takes, which costs more a row than all."""
        part = self.rows[: max(_PART, len(self.rows) // 4)]
        if len(part) == len(self.rows):
            return False
        few = _Trial(self.network, self.loss_of, part, self.device)
        return (few._took(candidate) or seconds) * len(self.rows) / len(part) < seconds

    def longer_than(self, candidate: Arithmetic, seconds: float, most: float) -> bool:
        """Whether a step takes longer, and at most `most`; the first has more to do: a second is asked only then."""
        took = self._took(candidate) or 0.0
        if took > seconds:
            took = self._took(candidate) or 0.0
        return seconds < took <= most

    def _took(self, candidate: Arithmetic) -> float | None:
        self.network.train()
        try:
            with candidate.applied(self.network), warnings.catch_warnings():
                if candidate.compiled:
                    warnings.simplefilter("ignore")  # what the compiler would advise
                self._wait()
                start = time.perf_counter()
                self._gradients(candidate)
                self._wait()
                return time.perf_counter() - start
        except Exception as error:
            if candidate == Arithmetic() or out_of_memory(error):
                raise  # not a question of the numbers
            return None

    def alike(self, candidate: Arithmetic) -> bool:
        """Whether the gradient points where it does in fp32, with dropout off."""
        if not self.exact:
            self.exact = [gradient.clone() for gradient in self._gradient(Arithmetic())]
        found = self._gradient(candidate)
        # One weight after the other: a second copy of all would be memory that training itself does not need.
        sums = [torch.zeros((), dtype=torch.float64) for _ in range(3)]
        for one, other in zip(self.exact, found, strict=True):
            for total, (a, b) in zip(sums, ((one, other), (one, one), (other, other)), strict=True):
                total += torch.dot(a.reshape(-1), b.reshape(-1).to(a.dtype)).double().cpu()
        across, ours, theirs = map(float, sums)
        return math.isfinite(theirs) and across >= _ALIKE * math.sqrt(ours * theirs)

    def _gradient(self, candidate: Arithmetic) -> list[Tensor]:
        with in_eval(self.network), candidate.applied(self.network):
            self._gradients(candidate)
        return [p.grad for p in self.network.parameters() if p.grad is not None]

    def _gradients(self, candidate: Arithmetic) -> None:
        self.network.zero_grad(set_to_none=True)
        with candidate.at_work(self.device):
            loss = self.loss_of(self.rows)
        # In fp16 small gradients would vanish; the power of two is gone from a cosine, and from a time.
        (loss * (1024.0 if candidate.numbers == "fp16" else 1.0)).backward()  # type: ignore[no-untyped-call]

    def _wait(self) -> None:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """Random numbers, running statistics and gradients are afterwards what they were."""
    device = next(network.parameters()).device
    drawn = random_state(device)
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        network.zero_grad(set_to_none=True)
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        set_random_state(drawn, device)
