"""The report as Markdown: everything the page says, without its figures."""

from __future__ import annotations

import re

from acclimate.report.content import document
from acclimate.report.data import ReportData
from acclimate.report.document import (
    Block,
    Document,
    Figure,
    Findings,
    Heading,
    Items,
    Mistake,
    Mistakes,
    Step,
    Table,
    Text,
)
from acclimate.report.words import clean


def render_markdown(data: ReportData) -> str:
    """CommonMark with pipe tables; what came from the data is escaped and can format nothing."""
    return render_text(document(data))


def render_text(doc: Document) -> str:
    """Any document as Markdown."""
    private = " · **private: no input text is shown**" if doc.private else ""
    parts = [f"# {escape(doc.verdict)}", f"{escape(doc.title)}  \n{escape(doc.subtitle)}{private}"]
    parts.append(
        "\n".join(
            f"- {escape(label)}: **{escape(value)}**{f' ({escape(more)})' if more else ''}"
            for label, value, more in doc.headline
        )
    )
    for section in doc.sections:
        parts.append(f"## {escape(section.title)}")
        parts += [_block(b) for b in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """One line of text in which no character has a meaning of its own.

    >>> escape("a|b `c` <script> *d*")
    'a\\\\|b \\\\`c\\\\` &lt;script&gt; \\\\*d\\\\*'
    """
    line = re.sub(r"[ \t\n]+", " ", clean(text)).strip().replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    line = re.sub(r"(?i)\b(https?|ftp|mailto|www)([:.])", r"\1\\\2", line)  # a bare address would become a link
    return re.sub(r"^([-+#=!]|\d+[.)](?=\s|$))", lambda f: f[0][:-1] + "\\" + f[0][-1], line)


def _block(block: Block) -> str:
    match block:
        case Table():
            return _table(block)
        case Figure(caption=caption):
            return escape(caption)
        case Text(text=text):
            return escape(text)
        case Items(items=items, ordered=ordered):
            return "\n".join(f"{f'{i}.' if ordered else '-'} {escape(item)}" for i, item in enumerate(items, 1))
        case Findings(findings=findings):
            return "\n".join(
                f"- **{f.severity}** {escape(f.message)}{f' ({escape(f.where)})' if f.where else ''}" for f in findings
            )
        case Heading(text=text):
            return f"### {escape(text)}"
        case Step(text=text, command=command):
            return "\n\n".join(part for part in (escape(text), _code(command) if command else "") if part)
        case Mistakes(rows=rows):
            return "\n".join(_mistake(i, row) for i, row in enumerate(rows, 1))


def _table(table: Table) -> str:
    bars = [
        all(len(row) <= j or (not row[j].text and row[j].share is not None) for row in table.rows)
        for j in range(len(table.head))
    ]
    columns = [j for j, bar in enumerate(bars) if not bar]
    head = [escape(table.head[j]) for j in columns]
    right = [any(len(row) > j and row[j].order is not None for row in table.rows) for j in columns]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join('---:' if r else '---' for r in right)}|"]
    for row in table.rows:
        cells = [escape(row[j].text) if j < len(row) else "" for j in columns]
        if table.grouped and len(row) == 1:
            cells[0] = f"**{cells[0]}**"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\n{escape(table.caption)}"


def _code(command: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", command)), default=0))
    return f"{fence}sh\n{clean(command)}\n{fence}"


def _mistake(i: int, row: Mistake) -> str:
    where = f"{row.line}: " if row.line else ""
    sure = f" at {row.confidence}" if row.confidence else ""
    answer = f"true **{escape(row.truth)}**, predicted **{escape(row.predicted)}**{sure}"
    texts = "".join(f"\n   > {escape(shown + rest)}\n" for shown, rest in row.texts)
    return f"{i}. {where}{answer}\n{texts}"
