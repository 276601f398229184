"""Where the model is right and wrong: confusions, calibration, classes, subgroups, the map, the mistakes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from acclimate.errors import plural
from acclimate.report import figures
from acclimate.report.data import Json, ReportData
from acclimate.report.document import Block, Cell, Figure, Mistake, Mistakes, Table, Text
from acclimate.report.facts import FOLD
from acclimate.report.results import estimate_cell, lower_better, too_small
from acclimate.report.words import clean, count, estimate, finite, number, one_line, percent, prose, readable

LEAD = ("f1", "recall", "sensitivity", "accuracy")  # what classes are ranked by, the first that is there
SHOWN, KEPT = 280, 4000  # characters of an input that are open, and that are kept at all
PAIRS = 15


def confusions(data: ReportData) -> list[Block]:
    """A matrix, or with many classes its largest entries off the diagonal."""
    matrix: list[list[int]] = [[int(finite(n) or 0) for n in row] for row in data.scores.get("confusion") or []]
    classes = [str(c) for c in data.scores.get("classes") or []]
    if not matrix or len(classes) != len(matrix) or any(len(row) != len(classes) for row in matrix):
        return []
    pairs = sorted(
        ((n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if i != j and n),
        key=lambda p: (-p[0], p[1], p[2]),
    )
    total, wrong = sum(map(sum, matrix)), sum(n for n, _, _ in pairs)
    if not wrong:
        caption = f"No mistakes among {plural(total, 'row')}."
    else:
        n, i, j = pairs[0]
        first = "Most mistakes are" if 2 * n > wrong else "The most frequent mistake is"
        caption = f"{first} {one_line(classes[i], 40)} taken for {one_line(classes[j], 40)}"
        caption += f" ({count(n)} of {count(wrong)} mistakes; {plural(total, 'row')})."
        caption += _lopsided(matrix, classes) if len(classes) == 2 else ""
    if len(classes) <= figures.MANY:
        alt = f"Confusion matrix of {len(classes)} classes. {caption}"
        draw = partial(figures.confusion, matrix, classes, "confusion", alt)
        return [Figure("confusion", draw, f"{caption} Shade is the share of the true class's rows.", alt)]
    blocks: list[Block] = [Text(caption)]
    if pairs:
        rows = tuple(
            (Cell(one_line(classes[i], 50)), Cell(one_line(classes[j], 50)), Cell(count(n), order=float(n)),
             Cell(percent(n / sum(matrix[i])), order=n / sum(matrix[i])))
            for n, i, j in pairs[:PAIRS]
        )  # fmt: skip
        left = f", {count(len(pairs) - PAIRS)} rarer pairs not shown" if len(pairs) > PAIRS else ""
        blocks.append(
            Table(
                ("true", "taken for", "rows", "of the true class"),
                rows,
                f"The most confused pairs of {count(len(classes))} classes{left}.",
            )
        )
    return blocks


def _lopsided(matrix: list[list[int]], classes: list[str]) -> str:
    a, b = matrix[0][1], matrix[1][0]
    return f" The other way round: {count(min(a, b))}." if a != b else " As many go the other way."


def calibration(data: ReportData) -> list[Block]:
    """Whether probabilities mean what they say."""
    found: Any = data.calibration if data.calibration else data.scores.get("reliability")
    listed = (found.get("bins") or []) if isinstance(found, dict) else (found or [])
    bins = [b for b in map(_bin, listed) if b is not None]
    if not bins:
        return []
    n = sum(b.n for b in bins)
    claimed, true = (sum(v * b.n for v, b in ((getattr(b, key), b) for b in bins)) / n for key in ("claimed", "true"))
    gap = sum(abs(b.claimed - b.true) * b.n for b in bins) / n
    if abs(claimed - true) < 0.02:
        first = f"On average it claims {percent(claimed)} and {percent(true)} comes true: no bias to speak of."
    else:
        word = "over-confident" if claimed > true else "under-confident"
        points = number(100 * abs(claimed - true), 0)
        first = f"On average it claims {percent(claimed)} and {percent(true)} comes true: {word} by {points} points."
    off = [b for b in bins if b.low is not None and b.high is not None and not b.low <= b.claimed <= b.high]
    worst = max(bins, key=lambda b: (b in off, abs(b.claimed - b.true) * math.sqrt(b.n)))
    second = f"The mean distance from the diagonal is {number(gap)} over {plural(n, 'row')}."
    if off:
        second += f" Clearest: where it says {percent(worst.claimed)}, {percent(worst.true)} comes true"
        second += f" ({plural(worst.n, 'row')})."
    elif all(b.low is not None for b in bins):
        second += " No point's interval misses the diagonal."
    alt = f"Reliability diagram with {plural(len(bins), 'point')}. {first}"
    draw = partial(figures.reliability, bins, "reliability", alt)
    temperature = finite(found.get("temperature")) if isinstance(found, dict) else None
    third = f" Probabilities were scaled with temperature {number(temperature)}." if temperature is not None else ""
    return [Figure("reliability", draw, f"{first} {second}{third}", alt)]


def _bin(entry: Json) -> figures.Bin | None:
    claimed, true, n = finite(entry.get("confidence")), finite(entry.get("accuracy")), finite(entry.get("n"))
    if claimed is None or true is None or not n:
        return None
    return figures.Bin(claimed, true, finite(entry.get("accuracy_low")), finite(entry.get("accuracy_high")), int(n))


def classes(data: ReportData) -> list[Block]:
    """Each class by itself; with many, the weakest open and all of them folded."""
    found: dict[str, Json] = data.scores.get("per_class") or {}
    if not found:
        return []
    metrics = _metrics(found.values())
    lead = next((m for m in LEAD if m in metrics), metrics[0] if metrics else "")
    known = [(name, e) for name in found if (e := finite((found[name].get(lead) or {}).get("value"))) is not None]
    known.sort(key=lambda pair: pair[1])
    caption = ""
    if known:
        (low, a), (high, b) = known[0], known[-1]
        word = readable(lead)
        caption = f"Weakest: {one_line(low, 40)} ({word} {number(a)}, {plural(_size(found[low]), 'row')})"
        caption += (
            f"; strongest: {one_line(high, 40)} ({word} {number(b)}, {plural(_size(found[high]), 'row')})."
            if low != high
            else "."
        )
    unknown = len(found) - len(known)
    if unknown:
        caption += f" {plural(unknown, 'class has', 'classes have')} too few rows for a number."
    everything = _estimates_table("class", found, list(found), metrics, lead, caption)
    if len(found) <= FOLD:
        return [everything]
    weakest = _estimates_table(
        "class", found, [n for n, _ in known[:10]], metrics, lead, f"The ten weakest classes. {caption}"
    )
    return [
        weakest,
        Table(
            everything.head, everything.rows, f"All {count(len(found))} classes.", f"All {count(len(found))} classes"
        ),
    ]


def _metrics(rows: Any) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(k for k, v in row.items() if isinstance(v, dict) and k != "support"))
    return list(names)


def _size(row: Json) -> int:
    """Rows of the class or group: its support, or what recall counts; other metrics may count the predicted ones."""
    support = finite((row.get("support") or {}).get("value"))
    if support is not None:
        return int(support)
    for name in ("recall", "sensitivity", *row):
        n = finite((row.get(name) or {}).get("n")) if isinstance(row.get(name), dict) else None
        if n is not None:
            return int(n)
    return 0


def _estimates_table(
    first: str, found: dict[str, Json], names: Sequence[str], metrics: Sequence[str], lead: str, caption: str
) -> Table:
    ends = [
        v
        for n in names
        for k in ("value", "low", "high")
        if (v := finite((found[n].get(lead) or {}).get(k))) is not None
    ]
    scale = (min(ends, default=0.0), max(ends, default=1.0))
    rows = []
    for name in names:
        row = found[name]
        cells = [Cell(one_line(name, 50)), Cell(count(_size(row)), order=float(_size(row)))]
        cells += [_few(row.get(m) or {}, scale if m == lead else None) for m in metrics]
        rows.append(tuple(cells))
    return Table((first, "n", *(readable(m) for m in metrics)), tuple(rows), caption)


def _few(found: Json, scale: tuple[float, float] | None) -> Cell:
    if found.get("note") == "too few" or (finite(found.get("value")) is None and too_small(found)):
        return Cell("too few", "muted")
    return estimate_cell(found, scale)


def subgroups(data: ReportData) -> list[Block]:
    """Each subgroup column: its groups, and the widest gap between two of them with its interval."""
    blocks: list[Block] = []
    for column, groups in (data.scores.get("per_subgroup") or {}).items():
        if not groups:
            continue
        metrics = _metrics(groups.values())
        lead = data.metric if data.metric in metrics else metrics[0] if metrics else ""
        caption = f"By {one_line(column, 40)}. {_gap(groups, lead, (data.scores.get('gaps') or {}).get(column) or {})}"
        fold = f"All {count(len(groups))} groups of {one_line(column, 40)}" if len(groups) > 2 * FOLD else ""
        table = _estimates_table(one_line(column, 40), groups, list(groups), metrics, lead, caption)
        blocks.append(Table(table.head, table.rows, table.caption, fold))
    return blocks


def _gap(groups: dict[str, Json], metric: str, gaps: Json) -> str:
    """The widest gap between two groups, with the interval of the scores where they have one."""
    known = [
        (str(name), e)
        for name, row in groups.items()
        if finite((e := row.get(metric) or {}).get("value")) is not None and not too_small(e)
    ]
    few = len(groups) - len(known)
    tail = f" {plural(few, 'group has', 'groups have')} too few rows." if few else ""
    if len(known) < 2:
        return f"Fewer than two groups have enough rows to be compared.{tail}"
    known.sort(key=lambda pair: float(pair[1]["value"]), reverse=not lower_better(metric))
    one, two = (f"{one_line(n, 30)} {number(e['value'])} (n {count(e.get('n'))})" for n, e in (known[0], known[-1]))
    first = f"Widest gap in {readable(metric)}: {one} against {two}"
    found = gaps.get(metric) or {}
    low = finite(found.get("low"))
    if low is None:
        return f"{first}.{tail}"
    decided = "a gap" if low > 0 else "not decidable"
    return f"{first}; difference {estimate(found.get('value'), low, found.get('high'))}: {decided}.{tail}"


def feature_map(data: ReportData) -> list[Block]:
    """The features in the plane, coloured by class."""
    found = data.projection or {}
    points = [
        (x, y, label)
        for x, y, label in zip(
            map(finite, found.get("x") or []), map(finite, found.get("y") or []), found.get("label") or [], strict=False
        )
        if x is not None and y is not None
    ]
    if len(points) < 3:
        return []
    shown = points[:: math.ceil(len(points) / figures.POINTS)]
    labels = [p[2] for p in shown]
    names, codes = _bands(labels) if data.task == "regress" else _series(labels)
    xs, ys = [float(p[0]) for p in shown], [float(p[1]) for p in shown]
    method = f" ({one_line(found.get('method'), 40)})" if found.get("method") else ""
    caption = f"Each point is a row's features, pressed into the plane{method}. "
    caption += _gradient(xs, ys, labels) if data.task == "regress" else _neighbours(xs, ys, codes)
    if len(shown) < len(points):
        caption += f" {count(len(shown))} of {count(len(points))} rows are drawn."
    alt = f"Map of {count(len(shown))} rows coloured by {'value' if data.task == 'regress' else 'class'}."
    draw = partial(figures.projection, xs, ys, codes, "map", alt)
    legend = tuple((one_line(name, 40), code) for code, name in enumerate(names))
    return [Figure("map", draw, caption, alt, legend)]


def _series(labels: Sequence[Any]) -> tuple[list[str], list[int]]:
    """The eight most frequent classes have a colour each, the others share one."""
    texts = [", ".join(map(str, v)) if isinstance(v, (list, tuple)) else str(v) for v in labels]
    sizes = Counter(texts)
    order = sorted(sizes, key=lambda name: (-sizes[name], name))
    own = order if len(order) <= 9 else order[:8]
    names = own if len(order) <= 9 else [*own, f"{count(len(order) - 8)} other classes"]
    place = {name: i for i, name in enumerate(own)}
    return names, [place.get(text, 8) for text in texts]


def _bands(labels: Sequence[Any]) -> tuple[list[str], list[int]]:
    """Values in four bands of equal size."""
    values = [finite(v) or 0.0 for v in labels]
    order = sorted(values)
    cuts = [order[len(order) * i // 4] for i in (1, 2, 3)]
    edges = [order[0], *cuts, order[-1]]
    return [f"{number(a)} to {number(b)}" for a, b in zip(edges, edges[1:], strict=False)], [
        sum(v >= c for c in cuts) for v in values
    ]


def _neighbours(xs: list[float], ys: list[float], codes: list[int]) -> str:
    """How often a point's nearest neighbour in the map has its own colour, beside what chance would give."""
    import numpy as np
    from scipy.spatial import cKDTree

    points, code = np.column_stack([xs, ys]), np.array(codes)
    _, near = cKDTree(points).query(points, k=2)
    rows = np.arange(len(code))
    other = np.where(near[:, 0] == rows, near[:, 1], near[:, 0])
    share = float(np.mean(code[other] == code))
    chance = float(sum((n / len(codes)) ** 2 for n in Counter(codes).values()))
    own = f"{percent(share)} of the points have a nearest neighbour of their own colour;"
    own += f" chance would give {percent(chance)}."
    if share > chance + 0.3 * (1 - chance):
        return f"{own} The pretrained features already separate much of it."
    return f"{own} The plane shows little of what separates them (it keeps two of many directions)."


def _gradient(xs: list[float], ys: list[float], labels: Sequence[Any]) -> str:
    """How much of the values a straight line through the map explains (R² of least squares on both coordinates)."""
    import numpy as np

    values = np.array([finite(v) or 0.0 for v in labels])
    columns = np.column_stack([np.ones(len(xs)), xs, ys])
    weights = np.linalg.lstsq(columns, values, rcond=None)[0]
    total = float(((values - values.mean()) ** 2).sum())
    share = 1 - float(((values - columns @ weights) ** 2).sum()) / total if total > 0 else 0.0
    return f"One direction in this map explains {percent(max(0.0, share))} of the variance of the values."


def scatter(data: ReportData) -> list[Block]:
    """Predicted against true values of a regression."""
    found = data.scatter or {}
    pairs = [
        (t, p)
        for t, p in zip(map(finite, found.get("truth") or []), map(finite, found.get("predicted") or []), strict=False)
        if t is not None and p is not None
    ]
    if not pairs:
        return []
    errors = [p - t for t, p in pairs]
    mean = sum(errors) / len(errors)
    size = sorted(abs(e) for e in errors)
    half, most = size[len(size) // 2], size[len(size) * 9 // 10]
    caption = f"Half of the predictions are within {number(half)} of the truth, nine in ten within {number(most)}."
    caption += (
        f" On average they are {number(abs(mean))} too {'high' if mean > 0 else 'low'}."
        if abs(mean) > 0.1 * (size[len(size) // 2] or 1)
        else ""
    )
    shown = pairs[:: math.ceil(len(pairs) / figures.POINTS)]
    alt = f"Predicted against true values of {plural(len(shown), 'row')}; the diagonal is a perfect answer."
    draw = partial(figures.scatter, [t for t, _ in shown], [p for _, p in shown], "scatter", alt)
    return [Figure("scatter", draw, f"{caption} The dashed line is a perfect answer.", alt)]


PICTURES = ("data:image/jpeg;base64,", "data:image/svg+xml;base64,")
SOUNDS = ("data:audio/mpeg;base64,",)


def mistakes(data: ReportData) -> list[Block]:
    """The most confident mistakes, or that they are withheld."""
    note = [Text(prose(data.mistakes_note))] if data.mistakes_note else []
    if data.private:
        return [
            Text(
                "This report is private: it shows no input text. Predict the test rows to see which went wrong.",
                "note",
            )
        ]
    if not data.mistakes:
        return []
    rows = tuple(
        Mistake(
            tuple(_fold(text) for text in _texts(m.get("input"))),
            one_line(_label(m.get("truth")), 80),
            one_line(_label(m.get("predicted")), 80),
            percent(m.get("confidence")) if finite(m.get("confidence")) is not None else "",
            f"line {clean(m['line'])}" if m.get("line") is not None else "",
            str(m["picture"]) if str(m.get("picture", "")).startswith(PICTURES) else "",
            str(m["sound"]) if str(m.get("sound", "")).startswith(SOUNDS) else "",
        )
        for m in data.mistakes
    )
    return [*note, Mistakes(rows)]


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, (list, tuple)) else (str(found),)


def _label(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return number(value) if isinstance(value, float) else str(value)


def _fold(text: str) -> tuple[str, str]:
    """The text as it is shown at first, and the rest of it."""
    head = clean(text[:KEPT])
    left = len(text) - KEPT
    tail = f" … ({count(left)} more characters)" if left > 0 else ""
    if len(head) <= SHOWN:
        return head, ""
    cut = head.rfind(" ", SHOWN - 40, SHOWN)
    cut = cut if cut > 0 else SHOWN
    return head[:cut], head[cut:] + tail
