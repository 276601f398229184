"""What the gate looks for in rows that passed: duplicates, labels that contradict or nearly coincide, leaks, odd
columns."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acclimate.data import duplicates, label_columns
from acclimate.data.labels import as_text, is_blank, number
from acclimate.data.rows import Data, IntArray, Label
from acclimate.errors import UserError, plural

_OWNER = re.compile(
    r"(^|[^a-z])(patient|student|pupil|person|subject|customer|client|user|author|speaker|account|household|hospital|"
    r"site|school|scaffold|document|session|case)s?([^a-z]|$)|[^a-z](id|key|nr)$",
    re.IGNORECASE,
)
SHOWN = 20  # lines that a finding names


@dataclass(frozen=True)
class Finding:
    """One thing that the gate noticed. `lines` are the first of the rows concerned."""

    kind: str
    severity: str  # "error", "warning" or "info"
    message: str
    count: int
    lines: tuple[int, ...] = ()

    def to_json(self) -> dict[str, object]:
        """As plain JSON values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "count": self.count,
            "lines": list(self.lines),
        }


def finding(kind: str, severity: str, message: str, count: int, lines: Iterable[int] = ()) -> Finding:
    """A finding with its lines sorted and cut to the first twenty."""
    return Finding(kind, severity, message, count, tuple(sorted(lines)[:SHOWN]))


def rows_text(count: int) -> str:
    """A count with its noun: 1 row, 1,234 rows."""
    return plural(count, "row")


def verb(count: int, word: str) -> str:
    """A verb for that many rows: one row repeats, two repeat."""
    irregular = {"have": "has", "are": "is"}
    return irregular.get(word, word + "s") if count == 1 else word


def lines_text(lines: Sequence[int], most: int = 5) -> str:
    """The first few line numbers in words."""
    shown = ", ".join(str(n) for n in sorted(lines)[:most])
    return f"line{'s' if len(lines) > 1 else ''} {shown}{', ...' if len(lines) > most else ''}"


def repeated(exact_of: Sequence[Any], cluster: IntArray, lines: Sequence[int], but_for: str) -> list[Finding]:
    """Exact repeats, and those that are near duplicates: equal `but_for` what the kind of input says."""
    first_exact: set[Any] = set()
    first_cluster: set[int] = set()
    exact, near = [], []
    for one, c, line in zip(exact_of, cluster.tolist(), lines, strict=True):
        if one in first_exact:
            exact.append(line)
        elif c in first_cluster:
            near.append(line)
        first_exact.add(one)
        first_cluster.add(c)
    out = []
    if exact:
        text = (
            f"{rows_text(len(exact))} {verb(len(exact), 'repeat')} an earlier input exactly; duplicates "
            "never straddle a split"
        )
        out.append(finding("duplicate", "warning", text, len(exact), exact))
    if near:
        text = (
            f"{rows_text(len(near))} {verb(len(near), 'repeat')} an earlier input {but_for}; kept on the same side of "
            "a split"
        )
        out.append(finding("near_duplicate", "warning", text, len(near), near))
    return out


def conflicting(cluster: IntArray, labels: Sequence[Label], lines: Sequence[int], task: str) -> list[Finding]:
    """Equal inputs with different labels (numbers: further apart than one standard deviation)."""
    where: dict[int, list[int]] = defaultdict(list)
    for i, c in enumerate(cluster.tolist()):
        where[c].append(i)
    spread = float(np.std([float(str(v)) for v in labels])) if task == "regress" else 0.0
    bad: list[int] = []
    groups = 0
    for rows in where.values():
        if len(rows) < 2:
            continue
        if task == "regress":
            values = [float(str(labels[i])) for i in rows]
            differ = max(values) - min(values) > spread
        else:
            differ = label_columns.contradict([labels[i] for i in rows])
        if differ:
            groups += 1
            bad += [lines[i] for i in rows]
    if not bad:
        return []
    what = "more than one standard deviation apart" if task == "regress" else "different"
    text = (
        f"{groups:,} input{'s' if groups > 1 else ''} ({rows_text(len(bad))}) "
        f"{'have' if groups > 1 else 'has'} copies whose labels are {what}"
    )
    return [finding("conflicting_label", "warning", f"{text}; decide which is right", len(bad), bad)]


def fold_label(label: object) -> str:
    """A class name without differences of case, spaces, underscores and punctuation."""
    return " ".join(duplicates.fold(as_text(label)).replace("_", " ").split())


def near_labels(labels: Sequence[Label], lines: Sequence[int], *, private: bool) -> list[Finding]:
    """Classes whose names differ by case, white space or punctuation only."""
    counts: Counter[str] = Counter()
    where: dict[str, list[int]] = defaultdict(list)
    for label, line in zip(labels, lines, strict=True):
        for name in label if isinstance(label, tuple) else (label,):
            if isinstance(name, str) and number(name) is None:  # -2.2 and 2.2 are not one name
                counts[name] += 1
                where[name].append(line)
    same: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        same[fold_label(name)].append(name)
    out = []
    for names in same.values():
        if len(names) < 2:
            continue
        names.sort(key=lambda n: -counts[n])
        rare = [line for n in names[1:] for line in where[n]]
        if private:
            text = (
                f"{plural(len(names), 'class', 'classes')} differ only by case, spaces or punctuation "
                f"({rows_text(len(rare))} in the rarer)"
            )
        else:
            listed = " and ".join(f"{n!r} ({rows_text(counts[n])})" for n in names)
            text = f"the classes {listed} differ only by case, spaces or punctuation"
        out.append(
            finding(
                "label_typo",
                "warning",
                f"{text}; they count as different classes: make them equal if they are one",
                len(rare),
                rare,
            )
        )
    return out


def class_sizes(
    labels: Sequence[Label], lines: Sequence[int], task: str, *, of_train: bool, private: bool = False
) -> list[Finding]:
    """One class only, classes of one row, and a class with more than 80 % of the rows."""
    flat = [
        (name, line)
        for label, line in zip(labels, lines, strict=True)
        for name in (label if isinstance(label, tuple) else (label,))
    ]
    counts = Counter(name for name, _ in flat)
    out = []
    if len(counts) < 2 and of_train:
        out.append(
            finding(
                "one_class",
                "error",
                "every row has the same label, so there is nothing to learn; add rows of another class",
                len(labels),
            )
        )
    tiny = {name for name, n in counts.items() if n < 2}
    if tiny and of_train:
        text = (
            f"{len(tiny)} class{'es have' if len(tiny) > 1 else ' has'} a single row: it can be learned "
            "from but not tested; add rows or merge classes"
        )
        out.append(finding("tiny_class", "warning", text, len(tiny), [line for name, line in flat if name in tiny]))
    if task in ("classify", "ordinal") and len(counts) > 1:
        name, most = counts.most_common(1)[0]
        if most > 0.8 * len(labels):
            which = "one class" if private else f"class {as_text(name)!r}"
            said = "so accuracy says little: look at balanced accuracy or macro-F1"
            text = f"{which} has {most / len(labels):.0%} of the rows, {said}"
            out.append(finding("imbalance", "warning", text, most))
    return out


def yes_no(data: Data, *, of_train: bool) -> list[Finding]:
    """Empty cells by column, and columns with hardly a yes or hardly a no."""
    counts = label_columns.counted(data.labels or ())
    out = []
    gaps = {name: cells["not known"] for name, cells in counts.items() if cells["not known"]}
    if gaps:
        total, every = sum(gaps.values()), len(data) * len(counts)
        text = (
            f"{total:,} of {every:,} label cells ({total / every:.0%}) are empty and count neither as yes nor as no: "
            f"{_first([f'{name} {n:,}' for name, n in gaps.items()])}"
        )
        out.append(finding("unknown_labels", "info", text, total))
    thin = [
        f"{name} ({cells['yes']:,} yes, {cells['no']:,} no)"
        for name, cells in counts.items()
        if min(cells["yes"], cells["no"]) < 2
    ]
    if thin and of_train:
        text = f"hardly a yes or hardly a no, so that little can be learned and nothing tested: {_first(thin)}"
        severity = "error" if len(thin) == len(counts) else "warning"
        out.append(finding("thin_label", severity, f"label columns with {text}", len(thin)))
    return out


def _first(parts: Sequence[str]) -> str:
    return ", ".join(parts[:15]) + (f", and {len(parts) - 15} more" if len(parts) > 15 else "")


def odd_notes(odd: Mapping[str, Sequence[int]], lines: Sequence[int], strict: bool) -> list[str]:
    """What is said of cells that say neither yes nor no; an error where no row may be passed over in silence."""
    notes = []
    for name, where in odd.items():
        what = "1 cell" if len(where) == 1 else f"{len(where):,} cells"
        text = f"{what} of label column {name!r} {verb(len(where), 'say')} neither yes nor no"
        at = lines_text([lines[i] for i in where])
        if strict:
            raise UserError(f"{text} ({at}); correct them, or leave them empty where nobody knows")
        notes.append(f"{text} and {verb(len(where), 'count')} as not known ({at})")
    return notes


def odd_columns(columns: dict[str, list[object]], kept: Sequence[int]) -> list[Finding]:
    """Columns with one value, and columns that number or name the rows."""
    out = []
    for name, cells in columns.items():
        values = [as_text(cells[i]) for i in kept if not is_blank(cells[i])]
        distinct = len(set(values))
        if distinct <= 1 and len(kept) > 1:
            what = "is empty" if distinct == 0 else "has the same value in every row"
            out.append(finding("constant", "info", f"column {name!r} {what}; it is not used", len(kept)))
        elif len(values) == len(kept) >= 10 and distinct == len(values) and is_id(values):
            out.append(
                finding(
                    "id_like",
                    "info",
                    f"column {name!r} identifies the rows; it is not used (name it with --id-column to keep it)",
                    distinct,
                )
            )
    return out


def group_like(columns: dict[str, list[object]], kept: Sequence[int]) -> list[Finding]:
    """Columns that by their name say whose a row is, and whose values repeat: rows of one owner are no independent
    evidence, and a split through them flatters the number."""
    out = []
    for name, cells in columns.items():
        values = [as_text(cells[i]) for i in kept if not is_blank(cells[i])]
        distinct = len(set(values))
        if _OWNER.search(name) and 2 <= distinct < 0.8 * len(values) and distinct >= 0.02 * len(values):
            text = (
                f"column {name!r} may say whose a row is ({plural(distinct, 'different value')} in "
                f"{rows_text(len(values))}); "
                f"if so, name it with --group-column, so that no {name!r} is on both sides of a split"
            )
            out.append(finding("group_like", "warning", text, len(values)))
    return out


def is_id(values: Sequence[str]) -> bool:
    """All different (the caller checks), short, without spaces; whole numbers or codes, never measured amounts."""
    sample = values[:2_000]
    if any(len(v) > 64 or " " in v.strip() for v in sample):
        return False
    whole = all(re.fullmatch(r"\d+", v) for v in sample)
    return whole or not any(number(v) is not None for v in sample)


def unseen(data: Data, classes: tuple[Label, ...], *, private: bool) -> list[Finding]:
    """Classes that the model has never met, and classes of the model that this source lacks."""
    assert data.labels is not None
    known = set(classes)
    rows = [set(label) if isinstance(label, tuple) else {label} for label in data.labels]
    new = sorted({as_text(c) for row in rows for c in row - known})
    lines = [n for row, n in zip(rows, data.lines, strict=True) if row - known]
    out = []
    if new:
        what = f"{len(new)} class{'es' if len(new) > 1 else ''}" if private else ", ".join(repr(c) for c in new[:10])
        text = (
            f"{rows_text(len(lines))} {verb(len(lines), 'have')} a label that was never seen in training "
            f"({what}); they count as wrong"
        )
        out.append(finding("unseen_class", "warning", text, len(lines), lines))
    absent = sorted(as_text(c) for c in known - {c for row in rows for c in row})
    if absent:
        which = "" if private else f": {', '.join(repr(c) for c in absent[:10])}"
        text = f"{len(absent)} of the model's classes have no row here{which}"
        out.append(finding("absent_class", "info", text, len(absent)))
    return out
