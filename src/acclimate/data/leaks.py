"""Leaks: the label can be read off another column, or stands in the text itself."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from acclimate.data.findings import Finding, finding, fold_label
from acclimate.data.labels import as_text, is_blank, number
from acclimate.data.rows import Label

_LEAK_ROWS = 20  # fewer rows prove nothing about a leak
_PURITY = 0.99


def leaking_columns(
    columns: dict[str, list[object]],
    kept: Sequence[int],
    labels: Sequence[Label],
    task: str,
    learned_from: Sequence[str] = (),
) -> list[Finding]:
    """Columns, most of them beside the input, from which the label can be read off almost without error."""
    if len(kept) < _LEAK_ROWS or task == "multilabel":
        return []
    out = []
    for name, cells in columns.items():
        values = [None if is_blank(cells[i]) else as_text(cells[i]) for i in kept]
        if task == "regress":
            share = _numeric_twin(values, [float(str(v)) for v in labels])
            how = f"moves with the label (correlation {share:.3f})"
        else:
            share = max(_purity(values, labels), _sorted_purity(values, labels))
            how = f"tells the label of {share:.1%} of the rows"
        if share > _PURITY:
            text = (
                f"column {name!r} {how}; it is not an input, but if the text was made from it, or it from "
                "the label, the task is not what it seems"
            )
            if name in learned_from:
                text = f"column {name!r} {how}, and it is learned from; if it came about after the label, drop it"
            out.append(finding("leak", "warning", text, len(kept)))
    return out


def _purity(values: Sequence[str | None], labels: Sequence[Label]) -> float:
    """Share of rows that the commonest label of their value gets right; 0 where the values hardly recur or the
    labels hardly vary."""
    table: dict[str | None, Counter[Label]] = defaultdict(Counter)
    for value, label in zip(values, labels, strict=True):
        table[value][label] += 1
    if not 2 <= len(table) <= len(values) / 5:
        return 0.0
    # a value seen once is right by itself: only those that recur count
    right = sum(c.most_common(1)[0][1] for c in table.values() if sum(c.values()) > 1)
    majority = Counter(labels).most_common(1)[0][1]
    share = right / len(values)
    return (
        share
        if (share * len(values) - majority) > 0.9 * (len(values) - majority) and len(values) - majority >= 5
        else 0.0
    )


def _sorted_purity(values: Sequence[str | None], labels: Sequence[Label]) -> float:
    """The same for amounts: share of rows in the right place when the rows, sorted by the number, form one block a
    class."""
    numbers = [None if v is None else number(v) for v in values]
    pairs = [(x, label) for x, label in zip(numbers, labels, strict=True) if x is not None]
    if len(pairs) < 0.95 * len(values) or len({x for x, _ in pairs}) <= len(values) / 5:
        return 0.0
    distinct = sorted({int(x) for x, _ in pairs})
    if len(distinct) == len(pairs) and distinct[-1] - distinct[0] == len(pairs) - 1:
        return 0.0  # a running number: the file is sorted by label
    counts = Counter(label for _, label in pairs)
    if len(counts) < 2 or len(pairs) - counts.most_common(1)[0][1] < 10:
        return 0.0
    pairs.sort(key=lambda p: p[0])
    runs = 1 + sum(a[1] != b[1] for a, b in zip(pairs, pairs[1:], strict=False))
    by_chance = len(pairs) * (1 - sum((n / len(pairs)) ** 2 for n in counts.values()))
    extra = max(0, runs - len(counts))
    return 1 - extra / 2 / len(pairs) if extra <= 0.02 * by_chance else 0.0


def _numeric_twin(values: Sequence[str | None], labels: Sequence[float]) -> float:
    pairs = [
        (x, y)
        for x, y in ((None if v is None else number(v), y) for v, y in zip(values, labels, strict=True))
        if x is not None
    ]
    if len(pairs) < 0.9 * len(values):
        return 0.0
    a, b = np.array(pairs, dtype=np.float64).T
    if a.std() == 0 or b.std() == 0:
        return 0.0
    return abs(float(np.corrcoef(a, b)[0, 1]))


def label_in_text(
    keys: Sequence[str], labels: Sequence[Label], lines: Sequence[int], *, private: bool
) -> list[Finding]:
    """Class names that stand, as words, in nearly all texts of their class and hardly in others."""
    names = {label: fold_label(label) for label in set(labels) if isinstance(label, str)}
    names = {label: name for label, name in names.items() if len(name) >= 3 or not name.isascii()}
    if len(keys) < _LEAK_ROWS or not names or len(names) > 50:
        return []
    step = max(1, len(keys) // 5_000)
    rows = [(f" {keys[i]} " if keys[i].isascii() else keys[i], labels[i], lines[i]) for i in range(0, len(keys), step)]
    own: list[int] = []
    total = others = elsewhere = 0
    told = set()
    for label, name in names.items():
        word = f" {name} " if name.isascii() else name
        mine = [line for text, other, line in rows if other == label and word in text]
        n_mine = sum(other == label for _, other, _ in rows)
        foreign = sum(word in text for text, other, _ in rows if other != label)
        own += mine
        total += n_mine
        elsewhere += foreign
        others += len(rows) - n_mine
        if n_mine >= 5 and len(mine) >= 0.9 * n_mine and foreign <= 0.2 * (len(rows) - n_mine):
            told.add(label)
    if not told:
        return []
    share = len(own) / total
    which = (
        f"{len(told)} class name{'s' if len(told) > 1 else ''}"
        if private
        else ", ".join(repr(str(t)) for t in sorted(map(str, told))[:5])
    )
    text = (
        f"the input spells out the label ({which}; {share:.0%} of the rows): remove it from the text unless "
        "it will be there in use"
    )
    return [finding("leak", "warning", text, len(own), own)]
