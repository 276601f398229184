"""The account that the gate gives: what was read, kept and dropped, and what was noticed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from acclimate.data.findings import Finding, lines_text
from acclimate.data.rows import Columns, Table
from acclimate.files import plain

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_NAMED = 5  # files that are named in a message
REASONS = {
    "unparsed": "not parsed (wrong number of fields)",
    "blank_input": "nothing to read (blank or null)",
    "bad_syntax": "no SMILES (syntax)",
    "bad_valence": "no possible molecule (valence or aromaticity)",
    "missing_label": "no label",
    "bad_label": "label is not a number",
    "bad_time": "time cannot be read",
    "bad_weight": "weight is not a number of at least 0",
    "missing_domain": "no domain",
    "missing_file": "the file is not there",
    "empty_file": "the file is empty (0 bytes)",
    "not_a_picture": "the file is no picture",
    "not_a_sound": "the file is no sound that can be read (WAV, FLAC, Ogg, MP3, AIFF ... can)",
    "cut_short": "the file ends early: its header says that the sound is longer",
    "no_samples": "the sound has no samples",
    "bad_series": "no series that can be read (NPZ, a sound, or lists of numbers)",
    "uneven_channels": "the channels of the series differ in length",
    "no_steps": "the series has no steps",
    "no_numbers": "the series holds no number: every value is missing",
    "other_channels": "the series has another number of channels than most",
    "short_context": "too few known steps before the forecast",
    "no_future": "nothing was measured in the steps to forecast",
    "no_transcript": "no transcript, or one of punctuation alone",
    "silent_sound": "nothing but silence (60 dB and more below full scale)",
    "too_long": "longer than is read at a time in training (the setting `longest`)",
    "text_too_long": "more letters than the sound has frames for (the setting `frames_a_second`)",
    "broken_file": "the file is damaged or cut off",
    "no_input": "nothing to answer (blank or null)",
    "no_answer": "no answer",
    "bad_messages": "messages are no list of {role, content} that ends with user or assistant",
    "too_large": "more pixels than can be read (178 million)",
    "no_annotation": "nothing says what is in the picture",
    "bad_annotation": "what says so cannot be read",
    "no_picture": "boxes of a picture that the file does not list",
    "twice_listed": "the file lists this picture (its id) twice",
    "unknown_class": "a box of a class that the file does not name",
    "bad_box": "a box that is no four numbers, or has no label",
    "other_size": "the answer was drawn on a picture of another size",
    "no_usable_box": "every box lies outside of the picture or is empty",
    "no_mask": "no mask",
    "bad_mask": "the mask cannot be read",
    "unknown_colour": "a colour of the mask that no class has (classes.csv says which colour is which)",
    "unknown_index": "an index of the mask that no class has",
    "all_ignored": "every pixel of the mask is ignored (255)",
    "no_words": "no words",
    "no_tags": "no tags",
    "out_of_step": "not as many tags as words",
    "bad_span": "a span that is not inside the text, holds no word or has no label",
    "overlap": "spans overlap",
    "bad_line": "a word without a tag among words with tags",
    "no_text": "no text",
}


def why(reason: str) -> str:
    """Why a row cannot be used, in words.

    >>> why("no_mask"), why("")
    ('no mask', '')
    """
    return REASONS.get(reason, reason.replace("_", " "))


@dataclass(frozen=True)
class Audit:
    """The account of one source: read = kept + dropped, findings, facts and class counts."""

    source: str
    role: str
    read: int
    kept: int
    dropped: dict[str, tuple[int, ...]]  # reason -> lines of the rows
    findings: tuple[Finding, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gone = sum(len(lines) for lines in self.dropped.values())
        assert self.read == self.kept + gone, (
            f"{self.source}: {self.read} read, {self.kept} kept and {gone} dropped do not add up"
        )

    def to_json(self) -> dict[str, object]:
        """As plain JSON values, with every dropped line."""
        return {
            "source": self.source,
            "role": self.role,
            "read": self.read,
            "kept": self.kept,
            "dropped": {reason: list(lines) for reason, lines in self.dropped.items()},
            "findings": [f.to_json() for f in self.findings],
            "facts": plain(self.facts),
            "labels": dict(self.labels),
        }


def how_read(facts: Mapping[str, object]) -> str:
    """Format, encoding and dialect in words.

    >>> how_read({"format": "delimited", "encoding": "cp1252", "encoding_guessed": True, "delimiter": "semicolon"})
    'semicolon between fields, cp1252 (a guess)'
    >>> how_read({"format": "parquet"}), how_read({"format": "delimited", "encoding": "utf-8", "delimiter": "none"})
    ('parquet', 'one field a line, utf-8')
    """
    kind = str(facts.get("format", ""))
    if kind == "delimited":
        sign = str(facts.get("delimiter", "comma"))
        kind = "one field a line" if sign == "none" else f"{sign} between fields"
        kind += ", quotation marks are text" if facts.get("quoting") == "none" else ""
        kind += "" if facts.get("header", True) else ", no header"
    if "listed_in" in facts:
        kind = f"by its {facts['listed_in']}, {kind}"
    if "encoding" not in facts:
        return kind
    return f"{kind}, {facts['encoding']}{' (a guess)' if facts.get('encoding_guessed') else ''}"


def why_dropped(account: Audit) -> str:
    """How many rows were dropped, for each reason, in brackets; empty where none were.

    >>> why_dropped(Audit("x.csv", "train", 3, 1, {"no_mask": (2, 3)}, ()))
    ' (2: no mask)'
    """
    told = [f"{len(lines):,}: {why(reason)}" for reason, lines in account.dropped.items()]
    return f" ({'; '.join(told)})" if told else ""


def has_no_lines(facts: Mapping[str, object]) -> bool:
    """Whether the rows are the files of a folder: their numbers tell nobody anything."""
    return facts.get("format") in ("folder", "file")


def by_file(
    found: Sequence[Finding], table: Table, columns: Columns, private: bool, *, but: Collection[str] = ()
) -> list[Finding]:
    """Findings about the files of a folder, which has no lines: their names stand in the message (unless `private`).

    `but`: kinds of findings that name them already.
    """
    if not has_no_lines(table.facts):
        return list(found)
    out = []
    for one in found:
        names = "" if one.kind in but else named_files(table, columns, one.lines, private)
        out.append(replace(one, message=one.message + names, lines=()))
    return out


def named_files(table: Table, columns: Columns, lines: Sequence[int], private: bool) -> str:
    """The files of these rows by name, where inputs are files."""
    if columns.file is None or private:
        return ""
    cells = dict(zip(table.lines, table.columns[columns.file], strict=True))
    names = [str(cells[n]) for n in lines if isinstance(cells[n], str)]
    return f": {', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}" if names else ""


def which_dropped(facts: Mapping[str, object], reason: str, lines: str) -> str:
    """Which rows were dropped for this reason: their files by name where they are known, else their `lines`."""
    files = facts.get("dropped_files")
    named = str(files.get(reason) or "") if isinstance(files, dict) else ""
    return named or ("" if has_no_lines(facts) else lines)


def render(account: Audit) -> RichTable:
    """The account as a table for the terminal."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    view = RichTable(title=f"{escape(account.source)} ({account.role})", title_justify="left", show_header=True)
    view.add_column("what")
    view.add_column("rows", justify="right")
    view.add_column("which", overflow="fold", min_width=40)
    view.add_row("read", f"{account.read:,}", escape(how_read(account.facts)))
    for reason, lines in account.dropped.items():
        which = escape(which_dropped(account.facts, reason, lines_text(lines)))
        view.add_row(f"dropped: {why(reason)}", f"{len(lines):,}", which)
    view.add_row("kept", f"{account.kept:,}", "")
    colour = {"error": "red", "warning": "yellow", "info": "dim"}
    for one in account.findings:
        if one.kind in account.dropped:
            continue
        where = f" ({lines_text(one.lines)})" if one.lines else ""
        view.add_row(
            f"[{colour[one.severity]}]{one.severity}[/]: {one.kind}", f"{one.count:,}", escape(one.message + where)
        )
    notes = account.facts.get("notes")
    for note in notes if isinstance(notes, list) else []:
        view.add_row("[dim]note[/]", "", escape(str(note)))
    return view
