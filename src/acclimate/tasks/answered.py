"""From logits, chunk by chunk, to what is kept of the answers: all outputs, or a digest a row above 100 classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from acclimate.data.rows import IntArray
from acclimate.metrics.digest import Digest, is_wide, slices
from acclimate.tasks.base import Floats, Task
from acclimate.tasks.decoder import Decoder

Outputs: TypeAlias = "Floats | Digest"  # (n, k) probabilities, (n,) values, or the digest of n rows


class Answered(NamedTuple):
    """What a model said of some rows."""

    outputs: Outputs
    decisions: Floats  # codes (n,), multi-hot (n, k) or values (n,)


def answered(task: Task, decoder: Decoder, truth: Floats, parts: Iterable[Floats]) -> Answered:
    """The answers to rows whose logits come in `parts`, one after the other; `truth` is of all the rows."""
    outputs: list[Floats] = []
    digests: list[Digest] = []
    decisions: list[Floats] = []
    start = 0
    for logits in parts:
        found = task.outputs(logits, decoder)
        decisions.append(task.decide(found, decoder))
        if is_wide(task.name, len(decoder.classes)):
            digests.append(Digest.of(truth[start : start + len(found)], found, decisions[-1]))
        else:
            outputs.append(found)
        start += len(found)
    kept = Digest.joined(digests) if digests else joined(outputs)
    return Answered(kept, joined(decisions))


def rows_of(logits: Floats, at: IntArray) -> Iterator[Floats]:
    """The logits of the rows at these places, in parts of a million numbers above 100 classes, else at once."""
    for part in slices(len(at), logits.shape[1]):
        yield logits[at[part]]


def joined(parts: list[Floats]) -> Floats:
    """One array of all; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
