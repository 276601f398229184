"""How far two sets of rows are apart, as a report of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from acclimate.report import figures
from acclimate.report.document import Block, Cell, Document, Figure, Section, Table, Text
from acclimate.report.words import count, estimate, finite, number, one_line, percent, prose

Json = dict[str, Any]


@dataclass(frozen=True)
class ShiftData:
    """What `measure_shift` found, as plain values."""

    source: str
    target: str
    sizes: tuple[int, int]
    used: tuple[int, int]
    model_name: str
    created: str
    shift: Json  # of `acclimate.shift.Shift`
    classes: tuple[str, ...]
    rows: tuple[tuple[str, ...], tuple[str, ...]]  # the inputs least like the other side; empty where private
    lines: tuple[tuple[int, ...], tuple[int, ...]]
    projection: Json | None
    notes: tuple[str, ...]
    private: bool = False

    def to_json(self) -> Json:
        """Plain values, named."""
        out = {name: getattr(self, name) for name in ("source", "target", "model_name", "created", "private")}
        rows = {"source": self.rows[0], "target": self.rows[1]}
        lines = {"source": self.lines[0], "target": self.lines[1]}
        sizes = {"rows": list(self.sizes), "rows_used": list(self.used), "classes": list(self.classes)}
        return {**out, **sizes, "shift": self.shift, "unlike_rows": rows, "unlike_lines": lines, "notes": self.notes}


def verdict(data: ShiftData) -> str:
    """What it comes to, in a sentence or two."""
    auc, p = data.shift["apart"]["auc"], float(data.shift["mmd"]["p"])
    low, value = float(auc["low"]), float(auc["value"])
    if low <= 0.5 and p > 0.05:
        first = f"No difference between {data.source} and {data.target} was found."
    else:
        how = "hardly" if value < 0.65 else "partly" if value < 0.85 else "easily"
        first = (
            f"{data.source} and {data.target} can {how} be told apart: of one row of each, a classifier knows which is "
            f"which in {percent(value)} of cases (95 % interval {percent(low)} to {percent(auc['high'])})."
        )
    labels = data.shift.get("labels")
    if not labels:
        return first
    apply = bool(labels["decision"]["apply"])
    return f"{first} Class shares {'have moved, and that explains it' if apply else 'are not to be corrected'}."


def document(data: ShiftData) -> Document:
    """The report in its order."""
    found: tuple[tuple[str, str, list[Block]], ...] = (
        ("apart", "Can they be told apart?", _apart(data)),
        ("map", "Map of the features", _map(data)),
        ("labels", "Have class shares moved?", _labels(data)),
        ("words", "Words that differ most", _words(data)),
        ("rows", "Rows least like the other side", _rows(data)),
    )
    auc = data.shift["apart"]["auc"]
    headline = (
        ("AUC of a domain classifier", estimate(auc["value"], auc["low"], auc["high"]), "0.5: cannot be told apart"),
        ("rows", f"{count(data.sizes[0])} and {count(data.sizes[1])}", "source and target"),
    )
    sections = tuple(Section(key, title, tuple(blocks)) for key, title, blocks in found if blocks)
    title = one_line(f"{data.source} → {data.target}", 120)
    about = " · ".join(("shift", data.model_name, data.created))
    return Document(title, prose(verdict(data)), about, headline, sections, data.private)


def _apart(data: ShiftData) -> list[Block]:
    apart, mmd = data.shift["apart"], data.shift["mmd"]
    rows = []
    for name, entry, reads in (
        ("AUC of a classifier that tells source from target", apart["auc"], "0.5 none, 1 wholly apart"),
        ("proxy A-distance", apart["a_distance"], "0 none, 2 wholly apart"),
    ):
        rows.append((Cell(name), Cell(estimate(entry["value"], entry["low"], entry["high"])), Cell(reads)))
    value = f"{number(mmd['value'])}, p = {number(mmd['p'])}"
    rows.append((Cell("MMD², unbiased"), Cell(value), Cell(f"p over {count(mmd['permutations'])} permutations")))
    caption = "Classifiers judge rows that they did not learn from. No label of the target was looked at."
    notes: list[Block] = [Text(note) for note in data.notes]
    return [Table(("measure", "value", "how to read it"), tuple(rows), caption), *notes]


def _map(data: ShiftData) -> list[Block]:
    found = data.projection
    if not found:
        return []
    codes = [0 if side == "source" else 1 for side in found["label"]]
    alt = f"Map of {count(len(codes))} rows, source and target in two colours."
    draw = partial(figures.projection, found["x"], found["y"], codes, "map", alt)
    caption = f"Each point is a row's features, pressed into the plane ({found['method']})."
    return [Figure("map", draw, caption, alt, (("source", 0), ("target", 1)))]


def _labels(data: ShiftData) -> list[Block]:
    found = data.shift.get("labels")
    if not found:
        return []
    em, bbse = found["em"], found["bbse"]
    rows = tuple(
        (
            Cell(one_line(name, 40)),
            Cell(number(em["source"][k])),
            Cell(estimate(em["target"][k], em["low"][k], em["high"][k])),
            Cell(estimate(bbse["target"][k], bbse["low"][k], bbse["high"][k])),
        )
        for k, name in enumerate(data.classes)
    )
    caption = "Estimates hold only if class shares are all that changed; the test of that stands below."
    decision = found["decision"]
    text = f"{'They are to be used' if decision['apply'] else 'They are not to be used'}: {decision['why']}."
    return [Table(("class", "share in source", "in target, by EM", "by BBSE"), rows, caption), Text(text)]


def _words(data: ShiftData) -> list[Block]:
    found = [w for w in data.shift.get("words") or [] if (finite(w["p"]) or 0.0) < 0.05]
    if not found or data.private:
        return []
    rows = tuple(
        (
            Cell(one_line(w["name"], 30)),
            Cell(percent(w["source"]), order=float(w["source"])),
            Cell(percent(w["target"]), order=float(w["target"])),
        )
        for w in found
    )
    caption = "Shares of the texts that hold the word; all differ at p < 0.05 after Holm's correction."
    return [Table(("word", "of source texts", "of target texts"), rows, caption)]


def _rows(data: ShiftData) -> list[Block]:
    if data.private:
        return [Text("Inputs are not shown (private).")]
    out: list[Block] = []
    for name, texts, lines in zip(("source", "target"), data.rows, data.lines, strict=True):
        rows = tuple((Cell(str(line)), Cell(one_line(text, 110))) for text, line in zip(texts, lines, strict=True))
        out.append(Table(("line", f"in {name}"), rows, f"The {name} rows that look least like the other side."))
    return out
