"""What moves: the weights of a backbone that a strategy lets go of, and in which layer each of them lies."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from acclimate.backbones.base import Backbone, in_eval
from acclimate.errors import UserError, plural
from acclimate.tasks.base import Network

PARTS = ("top", "first", "middle")
_PART = re.compile(rf"({'|'.join(PARTS)}):0*([1-9][0-9]*)")
_WHOLE = ("all", "head", "bias", "norm", "surgical")  # those that need no number


def understood(moves: str) -> bool:
    """Whether this names weights of a backbone itself (adapters are put beside them, and named elsewhere)."""
    return moves in _WHOLE or _PART.fullmatch(moves) is not None


def top(moves: str) -> int:
    """K of "top:K"; 0 for anything else.

    >>> top("top:2"), top("first:2"), top("all")
    (2, 0, 0)
    """
    found = _PART.fullmatch(moves)
    return int(found[2]) if found and found[1] == "top" else 0


def release(backbone: Backbone, moves: str) -> None:
    """Let what `moves` names move, and nothing else."""
    backbone.requires_grad_(False)
    chosen = {"all": _all, "head": _none, "bias": _biases, "norm": _norms}.get(moves)
    for tower in backbone.towers:
        for parameter in _part(tower, moves, whole=len(backbone.towers) > 1) if chosen is None else chosen(tower):
            parameter.requires_grad_(True)


def separate_blocks(backbone: Backbone, what: str) -> list[nn.Module]:
    """The blocks, or a clear error where there are none to tell apart; `what` cannot be done then."""
    if not backbone.blocks:
        raise UserError(
            f"{backbone.origin.name!r} has no separate blocks (one layer is shared or single), so {what}; use "
            "linear_probe, lora or full"
        )
    return backbone.blocks


def layers(backbone: Backbone) -> dict[int, int]:
    """The layer of each parameter, by its id: 0 before the first block (stem), l in block l of L, L after the last.
    Of networks that read side by side the last layers are level, and L is that of the deepest."""
    found: dict[int, int] = {}
    for tower in backbone.towers:
        below = depth(backbone) - len(tower.blocks)
        before, after = tower.stem_and_top()
        found |= {id(p): at for at, block in enumerate(tower.blocks, below + 1) for p in block.parameters()}
        found |= {id(p): below for p in before} | {id(p): depth(backbone) for p in after}
    return found


def depth(backbone: Backbone) -> int:
    """The number of blocks, of the deepest where networks read side by side."""
    return max(len(tower.blocks) for tower in backbone.towers)


def _all(backbone: Backbone) -> list[nn.Parameter]:
    return list(backbone.parameters())


def _none(backbone: Backbone) -> list[nn.Parameter]:
    """The head alone moves."""
    return []


def _biases(backbone: Backbone) -> list[nn.Parameter]:
    """Every parameter that is called a bias, those of norms included."""
    found = [p for name, p in backbone.named_parameters() if re.search(r"(^|[._])bias$", name)]
    if not found:
        raise UserError(f"{backbone.origin.name!r} has no biases to move; use norm_only or lora")
    return found


def _norms(backbone: Backbone) -> list[nn.Parameter]:
    """Scales and shifts of LayerNorm, BatchNorm, GroupNorm and what else is called a norm (each Llama has its own)."""
    norms = [m for m in backbone.modules() if "Norm" in type(m).__name__]
    found = [p for norm in norms for p in norm.parameters(recurse=False) if p.ndim == 1]
    if not found:
        raise UserError(f"{backbone.origin.name!r} has no norms with weights to move; use bitfit or lora")
    return found


def _part(backbone: Backbone, moves: str, *, whole: bool) -> list[nn.Parameter]:
    """The first K blocks and the stem, K in the middle, or the last K and what follows them; all blocks where there are
    fewer and `whole` says that this will do."""
    read = _PART.fullmatch(moves)
    assert read is not None, moves  # what is not understood was refused when the strategy was made
    where, k = read[1], int(read[2])
    blocks = separate_blocks(backbone, f"its {where} {k} cannot be tuned alone")
    k = min(k, len(blocks)) if whole else k
    if k > len(blocks):
        raise UserError(
            f"moves={moves!r}: {backbone.origin.name!r} has {plural(len(blocks), 'block')}; give 1 to {len(blocks)}"
        )
    start = {"top": len(blocks) - k, "first": 0, "middle": (len(blocks) - k) // 2}[where]
    found = [p for block in blocks[start : start + k] for p in block.parameters()]
    before, after = backbone.stem_and_top()
    return found + {"top": after, "first": before, "middle": []}[where]


def set_dropout(backbone: nn.Module, p: float) -> None:
    """The same dropout everywhere."""
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        for name, value in list(vars(module).items()):
            if "dropout" in name and isinstance(value, float):  # of attention, a plain number in Llama and its like
                setattr(module, name, p)


def thirds(backbone: Backbone) -> list[str]:
    """The parts that `surgical` chooses from: the first, the middle and the last third of the blocks.

    Where there are two blocks there is no middle.
    """
    count = len(separate_blocks(backbone, "no part of it can be chosen"))
    k = -(-count // 3)
    if count < 2:
        raise UserError(f"{backbone.origin.name!r} has one block, so no part of it can be chosen; use full")
    return [f"{where}:{k}" for where in ("first", "middle", "top") if where != "middle" or count > 2]


def by_gradient(network: Network, batches: Sequence[list[int]], loss: Callable[[list[int]], Tensor]) -> tuple[str, str]:
    """The third of the blocks whose weights the rows ask to change most, and a sentence on it.

    RGN(b) = ‖∂L/∂θ_b‖/‖θ_b‖ of block b, with L the mean loss of the rows and dropout off; a third has the mean of its
    blocks. Lee et al. 2022 (arXiv:2210.11466), section 4, where RGN sets rates instead. `loss(rows)` is a mean.
    """
    backbone = network.backbone
    blocks, parts = backbone.blocks, thirds(backbone)
    rows = sum(map(len, batches))
    release(backbone, "all")
    with in_eval(network):
        for batch in batches:
            (loss(batch) * (len(batch) / rows)).backward()  # type: ignore[no-untyped-call]
    ratios = [_relative(block) for block in blocks]
    network.zero_grad(set_to_none=True)
    found: dict[str, float] = {}
    for part in parts:
        release(backbone, part)
        at = [i for i, block in enumerate(blocks) if any(p.requires_grad for p in block.parameters())]
        found[part] = sum(ratios[i] for i in at) / len(at)
    if not any(found.values()):
        raise UserError(f"no gradient of {rows} training rows reaches the blocks of {backbone.origin.name!r}; use full")
    best = max(found, key=found.__getitem__)
    listed = ", ".join(f"{part} {ratio:.2e}" for part, ratio in found.items())
    return best, f"{best} was chosen: relative gradient norms on {plural(rows, 'training row')} are {listed}"


def _relative(block: nn.Module) -> float:
    gradients = [p.grad.double().square().sum() for p in block.parameters() if p.grad is not None]
    weights = [p.detach().double().square().sum() for p in block.parameters()]
    if not gradients:
        return 0.0
    return float(torch.stack(gradients).sum().sqrt() / torch.stack(weights).sum().sqrt().clamp(min=1e-30))
