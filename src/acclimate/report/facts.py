"""What the data is, how training went, and what the run was made of."""

from __future__ import annotations

from functools import partial
from typing import Any

from acclimate.data.account import which_dropped, why
from acclimate.errors import plural
from acclimate.report import figures
from acclimate.report.data import Json, ReportData
from acclimate.report.document import Block, Cell, Figure, Finding, Findings, Heading, Items, Step, Table, Text
from acclimate.report.results import lower_better, number_cell
from acclimate.report.words import clean, count, finite, lines, number, one_line, percent, prose, readable

SEVERITIES = ("error", "warning", "info")
FOLD = 12  # longer tables are folded


def audits(data: ReportData) -> list[Block]:
    """The gate: every row accounted for, the findings, the classes."""
    blocks: list[Block] = []
    for audit in data.audits:
        if len(data.audits) > 1:
            blocks.append(Heading(f"{readable(audit.get('role') or 'data')}: {one_line(audit.get('source'), 80)}"))
        blocks += _audit(audit, named=len(data.audits) == 1)
    return blocks


def _audit(audit: Json, named: bool) -> list[Block]:
    read, kept = int(audit.get("read") or 0), int(audit.get("kept") or 0)
    dropped: dict[str, Any] = audit.get("dropped") or {}
    sizes = {reason: int(found) if isinstance(found, int) else len(found) for reason, found in dropped.items()}
    lost = sum(sizes.values())
    where = f"{one_line(audit.get('source'), 80)}: " if named and audit.get("source") else ""
    blocks: list[Block] = [Text(f"{where}{count(read)} rows read = {count(kept)} kept + {count(lost)} dropped.")]
    if read != kept + lost:
        blocks.append(
            Text(f"These counts do not add up: {plural(abs(read - kept - lost), 'row')} unaccounted for.", "warning")
        )
    if lost:

        def told(found: Any) -> str:
            return "" if isinstance(found, int) else lines(found)

        rows = tuple(
            (
                Cell(one_line(why(reason), 90)),
                number_cell(sizes[reason]),
                Cell(percent(sizes[reason] / read if read else None)),
                Cell(one_line(which_dropped(audit.get("facts") or {}, reason, told(found)), 200), "muted"),
            )
            for reason, found in dropped.items()
            if sizes[reason]
        )
        blocks.append(
            Table(("dropped because", "rows", "of all", "where"), rows, "Rows that were left out, by reason.")
        )
    # The gate also reports what it dropped; that stands in the table above already.
    found = sorted(
        (f for f in audit.get("findings") or [] if not sizes.get(str(f.get("kind")))),
        key=lambda f: _rank(f.get("severity")),
    )
    if found:
        listed = tuple(Finding(_severity(f), prose(f.get("message")), place_of(f)) for f in found)
        blocks.append(Findings(listed))
    facts: Json = audit.get("facts") or {}
    if facts.get("label_tasks"):
        blocks.append(_cells(facts["label_tasks"]))
    blocks += _marks(facts["label_columns"]) if facts.get("label_columns") else _labels(audit.get("labels") or {})
    shown = ("label_columns", "label_tasks", "dropped_files")
    return blocks + _reading({name: value for name, value in facts.items() if name not in shown})


def _rank(severity: Any) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _severity(finding: Json) -> str:
    return str(finding.get("severity")) if finding.get("severity") in SEVERITIES else "info"


def place_of(finding: Json, shown: int = 12) -> str:
    """The lines of a finding, unless its message names them; it keeps the first twenty, and counts them all."""
    found = finding.get("lines") or []
    if "line" in str(finding.get("message")) and any(str(n) in str(finding.get("message")) for n in found[:1]):
        return ""  # the message names them
    total = finite(finding.get("count"))
    return lines(found, int(total) if total is not None else None, shown)


def _marks(columns: Json) -> list[Block]:
    """Several label columns: how many rows say yes, say no, and are not known."""
    rows = tuple(
        (
            Cell(one_line(name, 60)),
            *(number_cell(float(cells.get(kind) or 0)) for kind in ("yes", "no", "not known")),
            Cell(percent(cells["yes"] / judged if (judged := cells["yes"] + cells["no"]) else None)),
        )
        for name, cells in columns.items()
    )
    caption = f"{plural(len(rows), 'label column')}; a cell that is not known counts neither as yes nor as no."
    fold = f"All {count(len(rows))} label columns" if len(rows) > FOLD else ""
    return [Table(("label", "yes", "no", "not known", "yes of known"), rows, caption, fold)]


def _cells(columns: Json) -> Table:
    """Several label columns that are a task each: how many of the rows know each, and what it holds."""
    rows = []
    for name, told in columns.items():
        target, classes = told.get("target"), told.get("classes") or {}
        holds = "; ".join(f"{one_line(c, 30)} {count(n)}" for c, n in list(classes.items())[:FOLD])
        holds += f"; and {count(len(classes) - FOLD)} more" if len(classes) > FOLD else ""
        if target:
            holds = f"mean {number(target['mean'])}, sd {number(target['sd'])}, from {number(target['min'])} to "
            holds += number(target["max"])
        known, gaps = float(told.get("known") or 0), float(told.get("not known") or 0)
        rows.append((Cell(one_line(name, 60)), Cell(readable(told.get("task") or "")), number_cell(known),
                     number_cell(gaps), number_cell(known + gaps), Cell(holds)))  # fmt: skip
    caption = f"{plural(len(rows), 'label column')}, a task each; a cell that is not known counts nowhere."
    return Table(("label", "task", "known", "not known", "rows kept", "holds"), tuple(rows), caption)


def _labels(labels: Json) -> list[Block]:
    sizes = {str(name): float(n) for name, n in labels.items() if finite(n) is not None}
    if not sizes:
        return []
    total, most = sum(sizes.values()) or 1.0, max(sizes.values()) or 1.0
    order = sorted(sizes, key=lambda name: -sizes[name])
    rows = tuple(
        (
            Cell(one_line(name, 60)),
            number_cell(sizes[name]),
            Cell(percent(sizes[name] / total), order=sizes[name]),
            Cell("", share=sizes[name] / most),
        )
        for name in order
    )
    first, last = order[0], order[-1]
    caption = (
        f"{plural(len(sizes), 'class', 'classes')}; the largest, {one_line(first, 40)},"
        f" has {percent(sizes[first] / total)} of the labels,"
        f" the smallest, {one_line(last, 40)}, {plural(int(sizes[last]), 'row')}."
    )
    fold = f"All {count(len(rows))} classes" if len(rows) > FOLD else ""
    return [Table(("class", "rows", "share", ""), rows, caption, fold)]


def _reading(facts: Json) -> list[Block]:
    notes = facts.get("notes") or []
    rows = _pairs({k: v for k, v in facts.items() if k != "notes"})
    blocks: list[Block] = [Items(tuple(map(prose, notes)))] if notes else []
    if rows:
        blocks.append(Table(("fact", "value"), rows, "How the source was read.", "How the source was read"))
    return blocks


def _pairs(values: Json, path: str = "") -> tuple[tuple[Cell, ...], ...]:
    """Nested settings as rows of name and value."""
    rows: list[tuple[Cell, ...]] = []
    for key, value in values.items():
        name = f"{path}{readable(key)}"
        if isinstance(value, dict):
            rows += _pairs(value, f"{name} · ")
        else:
            rows.append((Cell(one_line(name, 80)), Cell(one_line(_value(value), 300))))
    return tuple(rows)


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value) if abs(value) >= 10000 else str(value)
    if isinstance(value, float):
        return number(value) if value == 0 or abs(value) >= 1e-3 else f"{value:.2e}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(v) for v in value[:40]) + (
            f" and {count(len(value) - 40)} more" if len(value) > 40 else ""
        )
    return clean(value)


def training(data: ReportData) -> list[Block]:
    """Curves of the losses and of the metric on validation rows."""
    steps = {key: figures.series(data.history, key) for key in ("train_loss", "valid_loss", "valid_metric")}
    if not any(xs for xs, _ in steps.values()):
        return []
    alt = "Curves over training steps: " + ", ".join(readable(k) for k, (xs, _) in steps.items() if xs)
    draw = partial(figures.curves, data.history, "training", alt, metric=readable(data.metric))
    return [Figure("training", draw, _caption_training(steps, data.metric), alt)]


def _caption_training(steps: dict[str, tuple[list[float], list[float]]], metric: str) -> str:
    said = []
    xs, ys = steps["train_loss"]
    if ys:
        said.append(f"The training loss went from {number(ys[0])} to {number(ys[-1])}.")
    xs, ys = steps["valid_loss"]
    if ys:
        at = min(range(len(ys)), key=lambda i: ys[i])
        if at == len(ys) - 1:
            said.append(
                f"The validation loss was lowest ({number(ys[at])}) at the last step: longer training may help."
            )
        else:
            said.append(f"The validation loss was lowest at step {count(xs[at])} ({number(ys[at])})")
            said.append(f"and rose to {number(ys[-1])} by step {count(xs[-1])}.")
    xs, ys = steps["valid_metric"]
    if ys:
        at = (min if lower_better(metric) else max)(range(len(ys)), key=lambda i: ys[i])
        name = readable(metric)
        said.append(
            f"{name[:1].upper()}{name[1:]} on validation rows was best at step {count(xs[at])} ({number(ys[at])})."
        )
    return " ".join(said)


def thresholds(data: ReportData) -> list[Block]:
    """How probabilities become decisions."""
    rows = _pairs(data.thresholds)
    if not rows:
        return []
    fold = f"All {count(len(rows))} thresholds" if len(rows) > 2 * FOLD else ""
    return [
        Table(
            ("decision", "value"),
            rows,
            "How a probability becomes a decision.",
            fold,
        )
    ]


def steps(data: ReportData) -> list[Block]:
    """What to do next, each with a command to copy where there is one."""
    return [
        Step(prose(s.get("text") or ""), clean(s.get("command") or ""))
        for s in data.next_steps
        if s.get("text") or s.get("command")
    ]


def intervals(data: ReportData) -> list[Block]:
    """What the intervals cover and what they do not."""
    if not data.scores:
        return []
    covers = data.scores.get("covers")
    methods = sorted({str(e["method"]) for e in (data.scores.get("metrics") or {}).values() if e.get("method")})
    texts = [
        f"The intervals are at 95 % and speak of {prose(covers)}." if covers else "",
        "Of many such intervals, about 95 in 100 hold the true value."
        + (f" Ways of computing it here: {'; '.join(methods)}." if methods else ""),
        "They cannot speak of labels that are wrong, nor of data that differ from the rows tested here "
        "(another hospital, another year, another product).",
        "“Not decidable” means that the interval of the paired difference holds 0: neither is shown to be better.",
    ]
    return [Text(t) for t in texts if t]


_CALLED = {"weight": "λ (--lambda)", "weight_schedule": "λ over training (--lambda)"}


def provenance(data: ReportData) -> list[Block]:
    """Model, licence, settings, versions."""
    base = {
        "base model": data.model_name or None,
        "licence of the base model": data.licence or None,
        "strategy": data.strategy,
        "task": data.task,
    }
    blocks: list[Block] = [Table(("", ""), _pairs({k: v for k, v in base.items() if v}), "What the run was made of.")]
    named = {_CALLED.get(key, key): value for key, value in data.settings.items()}
    for title, values in (("Settings", named), ("Versions", data.versions)):
        rows = _pairs(values)
        if rows:
            blocks.append(Table(("name", "value"), rows, f"{title}.", f"{title} ({count(len(rows))})"))
    return blocks
