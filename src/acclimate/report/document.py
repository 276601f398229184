"""The parts a report is written in: `content` fills them, HTML and Markdown render the same, so neither says less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, and what a page may draw beside it."""

    text: str
    tone: str = ""  # "good", "bad", "warn", "muted", "strong"
    order: float | None = None  # what the column is sorted by; a cell with one is set as a number
    interval: tuple[float, float, float] | None = None  # low, value, high between 0 and 1 of the column's scale
    share: float | None = None  # a bar of this length


@dataclass(frozen=True)
class Table:
    """Rows under a head; the caption says what to read from them."""

    kind: ClassVar[str] = "table"
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    fold: str = ""  # the words on the fold that hides it, empty where it stands open
    grouped: bool = False  # a row with one cell is a heading over the rows below it

    def right(self, column: int) -> bool:
        """Whether a column holds bare numbers and nothing else, to be set flush right."""
        cells = [row[column] for row in self.rows if len(row) > column and row[column].text]
        return bool(cells) and all(c.order is not None and c.interval is None and "[" not in c.text for c in cells)


@dataclass(frozen=True)
class Figure:
    """A drawing, made only where it is shown."""

    kind: ClassVar[str] = "figure"
    name: str  # of the figure in the page
    draw: Callable[[], str]  # the SVG; called by HTML only
    caption: str
    alt: str
    legend: tuple[tuple[str, int], ...] = ()  # text, number of the series


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Items:
    """A list."""

    kind: ClassVar[str] = "items"
    items: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True)
class Finding:
    """Something the gate found in the data, and on which lines."""

    severity: str
    message: str
    where: str


@dataclass(frozen=True)
class Findings:
    """What the gate found, the gravest first."""

    kind: ClassVar[str] = "findings"
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Step:
    """Something to do next, with its command where there is one."""

    kind: ClassVar[str] = "step"
    text: str
    command: str


@dataclass(frozen=True)
class Mistake:
    """A row that was answered wrongly."""

    texts: tuple[tuple[str, str], ...]  # the part that is shown, the rest that is folded
    truth: str
    predicted: str
    confidence: str
    line: str
    picture: str = ""  # a data URI, for HTML alone
    sound: str = ""  # the same


@dataclass(frozen=True)
class Mistakes:
    """The most confident mistakes."""

    kind: ClassVar[str] = "mistakes"
    rows: tuple[Mistake, ...]


Block: TypeAlias = Table | Figure | Text | Items | Findings | Heading | Step | Mistakes


@dataclass(frozen=True)
class Section:
    """A part of the report with a title."""

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    verdict: str
    subtitle: str
    headline: tuple[tuple[str, str, str], ...]  # label, value, what to add to it; the first is the main number
    sections: tuple[Section, ...]
    private: bool
