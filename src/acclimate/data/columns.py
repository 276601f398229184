"""Which column is the label, which the text, and which task they make: what the user did not name is inferred, and
said."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from acclimate.data.find_kind import as_table, spotted
from acclimate.data.find_task import find_task
from acclimate.data.findings import is_id
from acclimate.data.header import is_number
from acclimate.data.label_cells import MULTITASK, tasks_of
from acclimate.data.labels import (
    as_text,
    check_kind,
    is_blank,
    task_name,
    typed_labels,
)
from acclimate.data.rows import Columns, Input, Table
from acclimate.data.series_tables import refuse_uneven
from acclimate.errors import UserError, plural

__all__ = ["Guess", "guess", "index_like", "task_name", "texts_of", "typed_labels"]

_LABEL_NAMES = [
    "label", "labels", "target", "class", "y", "category", "sentiment", "polarity", "label_text", "label_name",
    "labels_text", "class_label", "intent", "topic", "emotion", "rating", "stars", "score", "outcome", "result",
    "diagnosis", "grade", "annotation", "is_spam", "spam", "toxic", "gold", "gold_label", "tag", "tags",
]  # fmt: skip
_TEXT_NAMES = [
    "text", "sentence", "review", "content", "comment", "tweet", "message", "document", "body", "abstract",
    "review_text", "review_body", "text_clean", "sentences", "texts", "utterance", "post", "description",
    "snippet", "note", "notes", "article", "headline", "title", "question", "prompt", "input", "smiles",
]  # fmt: skip
_PAIRS = (
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
)
_SAMPLE = 20_000
_ALONE = {"text": "text", "image": "picture", "audio": "sound"}  # kinds that a table may hold beside other columns


@dataclass(frozen=True)
class Guess:
    """Columns with every part filled that could be, the task, and one sentence for each thing inferred."""

    columns: Columns
    task: str
    reasons: tuple[str, ...]


def guess(
    table: Table,
    columns: Columns,
    task: str | None = None,
    label_delimiter: str | None = None,
    *,
    private: bool = False,
) -> Guess:
    """Infer label, text and task where not named. Without a label column, `columns.label` stays None and a reason
    says so. `private`: no sentence quotes a cell.

    >>> from acclimate.data.read import read
    >>> found = guess(read({"text": ["so good", "so bad", "good one"], "label": ["pos", "neg", "pos"]}), Columns())
    >>> found.columns.label, found.columns.text, found.task
    ('label', ('text',), 'classify')
    """
    check(table, columns)
    chosen = None if task is None else task_name(task)
    asked, named = columns.kind, bool(columns.inputs)
    columns, reasons = spotted(table, columns)
    if columns.label is None:
        label, why = _find_label(table, columns)
        columns = replace(columns, label=label)
        reasons.append(why)
    if columns.kind == "table" or not (columns.inputs or asked or _text_of(table, _free(table, columns))):
        by_name = bool(asked or columns.file)
        columns, more = as_table(table, columns, _free(table, columns), asked=by_name, private=private)
        reasons += more
    if not columns.inputs:
        text, why = _find_text(table, columns)
        columns = replace(columns, text=text)
        reasons.append(why)
    elif not (asked or named) and columns.kind != "table":
        reasons += _passed_over(table, columns)
    if columns.kind in _ALONE and asked != columns.kind and (beside := _beside(table, columns)):
        reasons.append(beside)
    if columns.label is None:
        refuse_uneven(table, _LABEL_NAMES)
        return Guess(columns, chosen or "classify", tuple(reasons))
    if isinstance(columns.label, tuple):
        return _several(table, columns, chosen, label_delimiter, reasons)
    if chosen == MULTITASK or "=" in (chosen or ""):
        raise UserError(
            f"--task {task} speaks of several label columns, and there is one, {columns.label!r}; name each with a "
            "--label of its own"
        )
    cells = table.columns[columns.label]
    if chosen is None:
        chosen, why = find_task(cells, table.typed, label_delimiter)
        reasons.append(why)
    _, kind = typed_labels(cells, table.typed)
    if label_delimiter is None:
        check_kind(chosen, kind)
    elif chosen != "multilabel":
        raise UserError(
            f"a label delimiter ({label_delimiter!r}) is for the task multilabel, not for {chosen!r}; drop one "
            "of the two"
        )
    return Guess(columns, chosen, tuple(reasons))


def _several(table: Table, columns: Columns, task: str | None, delimiter: str | None, reasons: list[str]) -> Guess:
    """Several label columns are one multi-label task where each says yes or no, else a task each."""
    named = f"{plural(len(columns.labels), 'label column')}"
    if delimiter is not None:
        raise UserError(f"{named} are given, and a label delimiter ({delimiter!r}) is for one; drop one of the two")
    tasks, why = tasks_of(table, columns.labels, task)
    if tasks:
        return Guess(replace(columns, tasks=tasks), MULTITASK, (*reasons, *why))
    said = f"task multilabel: {named}, each says yes or no; an empty cell is not known and counts neither way"
    return Guess(columns, "multilabel", (*reasons, said))


def check(table: Table, columns: Columns) -> None:
    """Every named column exists and no column is both label and something else that would give the answer away."""
    refuse_uneven(table, columns.used)
    for name in columns.used:
        if name not in table.columns:
            raise missing_column(name, table)
    if len(columns.text) > 2 and columns.kind != "table":
        raise UserError(
            f"at most two text columns can be read together, got {len(columns.text)}: {', '.join(columns.text)}"
        )
    if len(set(columns.text)) != len(columns.text):
        raise UserError(f"the text column {columns.text[0]!r} is named twice; name two different columns, or one")
    if len(columns.features) != len(columns.holds):
        raise UserError(
            f"{plural(len(columns.features), 'column')} are read, and of {len(columns.holds)} it is said what they hold"
        )
    if len(set(columns.labels)) < len(columns.labels):
        raise UserError(f"a label column is named twice ({', '.join(columns.labels)}); name each once")
    for name in columns.labels:
        if name not in (*columns.inputs, columns.weight, columns.domain):
            continue
        raise UserError(
            f"column {name!r} cannot be both the label and something else; name another column for one of them"
        )
    for name in columns.drop:
        if name in replace(columns, drop=()).used:
            raise UserError(f"column {name!r} is to be dropped and is also given a part; take it out of one of the two")


def missing_column(name: str, table: Table) -> UserError:
    """The error for a column that a table does not have."""
    names = list(table.columns)
    folded = {n.casefold().strip(): n for n in names}
    near = folded.get(name.casefold().strip()) or next(
        iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6)), None
    )
    hint = f"; did you mean {near!r}? Its" if near else "; its"
    shown = ", ".join(names[:20]) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
    return UserError(f"there is no column {name!r} in {table.source}{hint} columns: {shown}")


def _free(table: Table, columns: Columns) -> list[str]:
    taken = set(columns.used)
    return [name for name in table.columns if name not in taken]


def _find_label(table: Table, columns: Columns) -> tuple[str | None, str]:
    free = [n for n in _free(table, columns) if any(not is_blank(c) for c in table.columns[n])]
    by_name = {n.casefold().strip(): n for n in reversed(free)}
    for name in _LABEL_NAMES:
        if name in by_name:
            return by_name[name], f"label column {by_name[name]!r}, by its name"
    ending = [n for n in free if re.search(r"(^|[_\s-])(label|target|class|category|sentiment)$", n.casefold().strip())]
    if len(ending) == 1:
        return ending[0], f"label column {ending[0]!r}, by its name"
    text = columns.inputs or _text_of(table, free)
    rest = [n for n in free if n not in text and not index_like(table.columns[n]) and not _names_rows(table.columns[n])]
    coded = [n for n in rest if _few_values(table.columns[n], table.typed) and not _is_prose(table.columns[n])]
    picked = coded if len(coded) == 1 else rest if len(rest) == 1 and text else []
    if picked and picked[0] not in text:
        why = "the only column with few, recurring values" if picked is coded else "the only column beside the text"
        return picked[0], f"label column {picked[0]!r}: {why}"
    return None, f"no label column found; name it with --label (columns: {', '.join(list(table.columns)[:20])})"


def _text_of(table: Table, free: Sequence[str]) -> tuple[str, ...]:
    by_name = {n.casefold().strip(): n for n in reversed(free)}
    for first, second in _PAIRS:
        if first in by_name and second in by_name:
            return by_name[first], by_name[second]
    for name in _TEXT_NAMES:
        if name in by_name and _is_textual(table.columns[by_name[name]]):
            return (by_name[name],)
    lengths = {n: _prose_length(table.columns[n]) for n in free}
    best = max(lengths, key=lambda n: lengths[n], default=None)
    return (best,) if best is not None and lengths[best] > 0 else ()


def _find_text(table: Table, columns: Columns) -> tuple[tuple[str, ...], str]:
    free = _free(table, columns)
    text = _text_of(table, free)
    if not text:
        raise UserError(
            f"no text column found in {table.source}; name one or two with --text-column (columns: "
            f"{', '.join(list(table.columns)[:20])})"
        )
    names = " and ".join(repr(n) for n in text)
    by_name = any({t.casefold().strip() for t in text} <= set(known) for known in (_TEXT_NAMES, *_PAIRS))
    what = "columns" if len(text) == 2 else "column"
    also = [n for n in free if n not in text and _is_prose(table.columns[n])] if len(text) == 1 else []
    hint = ""
    if also:
        hint = f"; {' and '.join(map(repr, also[:3]))} {'holds' if len(also) == 1 else 'hold'} text too: give "
        hint += f"--text-column {text[0]} --text-column {also[0]} to read both"
    return text, f"text {what} {names}, {'by name' if by_name else 'the longest text'}{hint}"


def _beside(table: Table, columns: Columns) -> str:
    """That other columns hold something, too, and how they are read."""
    cells = {name: table.columns[name] for name in _free(table, columns)}
    kept = [
        n for n, c in cells.items() if not (index_like(c) or _names_rows(c)) and len(set(map(str, _present(c)))) > 1
    ]
    if not kept:
        return ""
    named = ", ".join(map(repr, kept[:5])) + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")
    what = f"column{' is' if len(kept) == 1 else 's are'} not learned from: {named}"
    read = _ALONE[columns.kind]
    return f"the {read} alone is read; {len(kept)} other {what} (--modality table reads them beside the {read})"


def _passed_over(table: Table, columns: Columns) -> list[str]:
    """That text was given up for files or molecules, which nobody had asked for."""
    also = [n for n in _free(table, columns) if _is_prose(table.columns[n])]
    if not also:
        return []
    which = f"columns {', '.join(map(repr, also[:3]))} hold" if len(also) > 1 else f"column {also[0]!r} holds"
    instead = f"--text-column {also[0]} reads it in the place of {columns.inputs[0]!r}"
    return [f"{which} text, which is not read; {instead}"]


def _present(cells: Sequence[object]) -> list[object]:
    return [c for c in cells[:_SAMPLE] if not is_blank(c)]


def _is_textual(cells: Sequence[object]) -> bool:
    values = _present(cells)
    return not values or sum(isinstance(v, str) and not is_number(v) for v in values) > 0.5 * len(values)


def _is_prose(cells: Sequence[object]) -> bool:
    return _prose_length(cells) > 30


def _prose_length(cells: Sequence[object]) -> float:
    """Mean length in characters where the column holds varied text; 0 for numbers, dates and recurring codes."""
    values = [v for v in _present(cells) if isinstance(v, str)]
    if not values or not _is_textual(cells) or index_like(cells):
        return 0.0
    mean = sum(map(len, values)) / len(values)
    varied = len(set(values)) / len(values)
    if len(values) > 20 and varied < (0.3 if mean < 30 else 0.05):
        return 0.0
    dated = sum(bool(re.match(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\s*\d{1,2}:\d{2}(:\d{2})?\s*\Z", v)) for v in values)
    if dated > 0.5 * len(values):
        return 0.0
    spaced = sum(" " in v.strip() or not v.isascii() for v in values)
    return mean if spaced > 0.3 * len(values) else mean / 2  # codes and addresses lose against prose of the same length


def index_like(cells: Sequence[object]) -> bool:
    """A running number: whole numbers that go up by one."""
    values = cells if len(cells) <= _SAMPLE else cells[:_SAMPLE]
    if len(values) < 3:
        return False
    texts = [as_text(v) if v is not None else "" for v in values]
    if not all(t.isascii() and t.isdigit() for t in texts):
        return False
    numbers = [int(t) for t in texts]
    return all(b - a == 1 for a, b in zip(numbers, numbers[1:], strict=False))


def _names_rows(cells: Sequence[object]) -> bool:
    values = [as_text(c) for c in _present(cells)]
    return len(values) >= 10 and len(set(values)) == len(values) and is_id(values)


def _few_values(cells: Sequence[object], typed: bool) -> bool:
    values, _ = typed_labels(_present(cells), typed)
    distinct = len(set(map(str, values)))
    return 2 <= distinct <= max(2, min(50, len(values) // 2))


def texts_of(table: Table, columns: Columns) -> list[Input | None]:
    """One input a row, in order; None where there is nothing to judge: a row that was not parsed, a blank or null text.

    Of two text columns one may be blank; it is then read as empty text.

    >>> from acclimate.data.read import read
    >>> texts_of(read({"text": ["a", " ", None, "NA"]}), Columns(text=("text",)))
    ['a', None, None, 'NA']
    """
    if not columns.text:
        raise UserError("no text column is named; name one or two with --text-column")
    for name in columns.text:
        if name not in table.columns:
            raise missing_column(name, table)
    parts = [
        [None if is_blank(c) else c if isinstance(c, str) else as_text(c) for c in table.columns[n]]
        for n in columns.text
    ]
    if len(parts) == 1:
        return [None if problem else text for text, problem in zip(parts[0], table.problems, strict=True)]
    return [
        None if problem or (a is None and b is None) else (a or "", b or "")
        for a, b, problem in zip(parts[0], parts[1], table.problems, strict=True)
    ]
