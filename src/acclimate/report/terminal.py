"""What `fit` prints at its end: verdict, scores beside the baselines, where the report is, what to type next."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from acclimate.errors import plural
from acclimate.report.data import Json, ReportData
from acclimate.report.document import Document
from acclimate.report.document import Table as Sheet
from acclimate.report.document import Text as Paragraph
from acclimate.report.facts import place_of
from acclimate.report.results import TONES, difference, label_of, main_estimate, own_name
from acclimate.report.words import clean, count, estimate, one_line, prose, readable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

COLOURS = {"good": "green", "bad": "red", "warn": "yellow", "muted": "dim", "error": "red", "warning": "yellow"}
FINDINGS = 3


def summary(data: ReportData, report: str | None = None) -> RenderableType:
    """The few lines for a terminal; `report` is the path of the HTML file. Text from the data is never markup."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(), Text(prose(data.verdict), style="bold"), Text(), _scores(data)]
    found = [
        (str(f.get("severity")), _whose(a), f)
        for a in data.audits
        for f in a.get("findings") or []
        if f.get("severity") in ("error", "warning")
    ]
    found.sort(key=lambda one: one[0] != "error")
    dropped = sum(len(v) for a in data.audits for v in (a.get("dropped") or {}).values())
    read = sum(int(a.get("read") or 0) for a in data.audits)
    if data.audits:
        parts += [Text(), Text(f"{plural(read, 'row')} read = {count(read - dropped)} kept + {count(dropped)} dropped")]
    for severity, whose, finding in found[:FINDINGS]:
        place = place_of(finding, shown=4)
        parts.append(
            Text.assemble(
                (f"{severity}  ", COLOURS[severity]),
                f"{whose}: {one_line(finding.get('message'), 200)}",
                (f"  {place}" if place else "", "dim"),
            )
        )
    if len(found) > FINDINGS:
        parts.append(Text(f"and {plural(len(found) - FINDINGS, 'more finding')} in the report", style="dim"))
    told = data.target_verdict
    steps = [s for s in data.next_steps if s.get("command")]
    steps = [s for s in steps if s is steps[0] or f"then: {s['command']}" in told]
    if told:
        for step in steps:  # a command within a paragraph would be wrapped, so that a copy of it does not run
            told = told.replace(f"then: {step['command']}", "then run the last line here")
        parts += [Text(), Text(prose(told), style="bold")]
    parts.append(Text())
    if report:
        parts.append(_whole(("report  ", "dim"), clean(report)))
    for step in steps:
        parts.append(Text.assemble(("next    ", "dim"), (one_line(step.get("text"), 200), "dim")))
        parts.append(_whole((clean(step["command"]), "cyan")))
    return Group(*parts)


def _whose(audit: Json) -> str:
    """The file that a finding is about, and what it serves as."""
    name = PurePath(str(audit.get("source") or "")).name
    role = str(audit.get("role") or "").replace("_", " ")
    return one_line(f"{role} data {name}".replace("labels data", "labels") if role else name, 60)


def _whole(*parts: str | tuple[str, str]) -> Text:
    """A line that is not wrapped, whatever the width: a path or a command that is to be copied. Print without crop."""
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ignore")


def _scores(data: ReportData) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("", f"{readable(data.metric)} [95 %]", "n", "this model minus it", ""):
        table.add_column(head, justify="left")
    _add(table, data, own_name(data))
    for one in map(ReportData.from_json, data.columns):
        table.add_row()
        _add(table, one, f"{label_of(one)}, {readable(one.metric)}")
    return table


def _add(table: Table, data: ReportData, own: str) -> None:
    """A row for this model and one for each baseline."""
    from rich.text import Text

    rows: list[tuple[str, Json, bool]] = [(own, main_estimate(data), True)]
    rows += [(str(b.get("name")), b, False) for b in data.baselines]
    for name, row, mine in rows:
        gap = row.get("difference")
        said = str((gap or {}).get("verdict") or "")
        table.add_row(
            Text(one_line(name, 40), style="bold" if mine else ""),
            Text(estimate(row.get("value"), row.get("low"), row.get("high")), style="bold" if mine else ""),
            Text(count(row.get("n"))),
            Text("" if mine else difference(gap)),
            Text("" if mine else said, style=COLOURS.get(TONES.get(said, ""), "")),
        )


def of_document(doc: Document) -> RenderableType:
    """A whole document for a terminal, without its figures."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(doc.title, style="bold"), Text(doc.verdict)]
    for section in doc.sections:
        blocks = [block for block in section.blocks if block.kind in ("table", "text")]
        if blocks:
            parts += [Text(), Text(section.title, style="bold")]
        for block in blocks:
            if isinstance(block, Paragraph):
                parts.append(Text(clean(block.text)))
            elif isinstance(block, Sheet):
                table = Table(box=None, header_style="dim", pad_edge=False)
                for name in block.head:
                    table.add_column(Text(name), overflow="fold")
                for row in block.rows:
                    table.add_row(*(Text(clean(cell.text)) for cell in row))
                parts.append(table)
    return Group(*parts)
