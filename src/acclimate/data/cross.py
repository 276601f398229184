"""Whether a second source repeats the first: the same inputs, groups or times on both sides make a score look better
than it is."""

from __future__ import annotations

from acclimate.data.findings import Finding, finding, rows_text, verb
from acclimate.data.kinds import kind_of
from acclimate.data.label_columns import contradict
from acclimate.data.rows import Data, Label


def cross_check(train: Data, other: Data, name: str, first: str = "train") -> tuple[Finding, ...]:
    """Rows of `other` (called `name`: "test", "valid") whose input or group is also in `train` (called `first`). Lines
    are those of `other`."""
    kind, both = kind_of(train), [*train.inputs, *other.inputs]
    everything = kind.clusters(both, kind.keys(both)).tolist()
    labels: dict[int, set[Label]] = {}
    for i, key in enumerate(everything[: len(train)]):
        labels.setdefault(key, set()).update(() if train.labels is None else (train.labels[i],))
    again, against = [], []
    for i, key in enumerate(everything[len(train) :]):
        if key not in labels:
            continue
        again.append(other.lines[i] if other.lines else i + 1)
        own = None if train.labels is None or other.labels is None else other.labels[i]
        if own is not None and all(contradict([own, one]) for one in labels[key]):
            against.append(again[-1])
    out = []
    if again:
        text = (
            f"{rows_text(len(again))} ({len(again) / len(other):.0%}) of {name} {verb(len(again), 'are')} "
            f"also in {first}, exactly or nearly: the score flatters the model"
        )
        out.append(finding("cross_split", "warning", text, len(again), again))
    if against:
        text = f"{rows_text(len(against))} of {name} {verb(len(against), 'are')} also in {first} with another label"
        out.append(finding("conflicting_label", "warning", text, len(against), against))
    out += _of_one_file(train, other, name, first, set(again))
    if train.groups is not None and other.groups is not None:
        owners = set(train.groups) & set(other.groups)
        shared = [
            other.lines[i] if other.lines else i + 1
            for i, g in enumerate(other.groups)
            if g in owners and not g.startswith("(none, line ")
        ]
        if shared:
            text = (
                f"{rows_text(len(shared))} of {name} {verb(len(shared), 'belong')} to groups that are also in {first}"
            )
            out.append(finding("cross_group", "warning", text, len(shared), shared))
    if (
        train.times is not None
        and other.times is not None
        and len(train)
        and float(other.times.min()) < float(train.times.max())
    ):
        early = int((other.times < train.times.max()).sum())
        out.append(
            finding(
                "cross_time",
                "warning",
                f"{rows_text(early)} of {name} {verb(early, 'are')} older than the latest row of {first}",
                early,
            )
        )
    return tuple(out)


def _of_one_file(train: Data, other: Data, name: str, first: str, again: set[int]) -> list[Finding]:
    """Rows of `other` that are new themselves, and hold a file that a row of `train` holds."""
    shared = kind_of(train).shared([*train.inputs, *other.inputs])
    if shared is None:
        return []
    known = set(shared[: len(train)].tolist())
    lines = [
        other.lines[i] if other.lines else i + 1 for i, c in enumerate(shared[len(train) :].tolist()) if c in known
    ]
    lines = [n for n in lines if n not in again]
    if not lines:
        return []
    text = f"{rows_text(len(lines))} of {name} {verb(len(lines), 'hold')} a file that is also in {first}"
    return [finding("cross_file", "warning", text, len(lines), lines)]
