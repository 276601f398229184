"""A text and the text that answers it, as people keep them: two columns, instruction data, messages of a dialogue.

The text to answer is a `str`, or turns ((role, content), ...) where it is a dialogue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from acclimate.data.read import read
from acclimate.data.rows import Columns, Table
from acclimate.errors import UserError

Turns: TypeAlias = tuple[tuple[str, str], ...]
Asking: TypeAlias = str | Turns

ASKED = ("input", "text", "source", "prompt", "question", "query")
ANSWERED = ("output", "target", "answer", "completion", "response", "summary", "translation")
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}  # as ShareGPT calls them


@dataclass(frozen=True)
class Exchange:
    """One row as it was read: what asks, what answers it where that is known, and why it cannot be used if so."""

    asks: Asking | None
    answer: str | None
    line: int
    reason: str | None = None


def exchanges(source: Any, columns: Columns, *, answered: bool) -> tuple[list[Exchange], Table]:
    """Every row of a source. `answered`: their answers are read, too, and one that lacks it has a reason."""
    table = read(source, may_be_empty=True)
    names = table.columns
    if "messages" in names and not columns.text:
        found = [_dialogue(table, i, "messages", answered) for i in range(len(table))]
    elif "instruction" in names and not columns.text:
        output = columns.labels[0] if columns.labels else next((n for n in ANSWERED if n in names), None)
        found = [_pair(table, i, ("instruction", "input"), output, answered) for i in range(len(table))]
    else:
        asks, output = _two(table, columns, answered)
        found = [_pair(table, i, (asks,), output, answered) for i in range(len(table))]
    return found, table


def as_turns(value: Any) -> Turns | None:
    """Messages [{"role", "content"}, ...], as a list or JSON, as turns; None where they are none.

    >>> as_turns([{"role": "human", "content": "Hi"}])
    (('user', 'Hi'),)
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)) or not value:
        return None
    found = []
    for one in value:
        if isinstance(one, Mapping):
            role, content = one.get("role", one.get("from")), one.get("content", one.get("value"))
        elif isinstance(one, (list, tuple)) and len(one) == 2:
            role, content = one
        else:
            return None
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        found.append((_ROLES.get(role, role), content))
    return tuple(found)


def text_of(asks: Asking) -> str:
    """What asks as one text.

    >>> text_of((("user", "Hi"), ("assistant", "Hello"), ("user", "Bye")))
    'Hi\\nHello\\nBye'
    """
    return asks if isinstance(asks, str) else "\n".join(content for _, content in asks)


def _two(table: Table, columns: Columns, answered: bool) -> tuple[str, str | None]:
    """The names of the columns of texts and of answers."""
    names = table.columns
    for asked in (*columns.text[:1], *(columns.labels[:1] if answered else ())):
        if asked not in names:
            raise UserError(f"{table.source} has no column {asked!r}; its columns: {', '.join(names)}")
    output = columns.labels[0] if columns.labels else next((n for n in ANSWERED if n in names), None)
    asks = columns.text[0] if columns.text else next((n for n in ASKED if n in names and n != output), None)
    rest = [n for n in names if n not in (asks, output)]
    if asks is None and len(rest) == (1 if output in names or not answered else 2):
        asks, rest = rest[0], rest[1:]
    if answered and output is None and asks is not None and len(rest) == 1:
        output = rest[0]
    if asks is None or (answered and output is None):
        raise UserError(
            f"{table.source} does not say which column asks and which answers; name them with --text-column and "
            f"--label (its columns: {', '.join(names)}), or give messages, or instruction, input and output"
        )
    return asks, output


def _cell(table: Table, i: int, name: str | None) -> str:
    cell = None if name is None or name not in table.columns else table.columns[name][i]
    text = "" if cell is None or cell != cell else str(cell)
    return text.strip()


def _pair(table: Table, i: int, asks: Sequence[str], output: str | None, answered: bool) -> Exchange:
    line = table.lines[i]
    if table.problems[i] is not None:
        return Exchange(None, None, line, "unparsed")
    given = "\n\n".join(part for part in (_cell(table, i, name) for name in asks) if part)
    if not given:
        return Exchange(None, None, line, "no_input")
    answer = _cell(table, i, output) or None
    return Exchange(given, answer, line, "no_answer" if answered and answer is None else None)


def _dialogue(table: Table, i: int, name: str, answered: bool) -> Exchange:
    """The last turn of the assistant is the answer, and all before it asks."""
    line = table.lines[i]
    if table.problems[i] is not None:
        return Exchange(None, None, line, "unparsed")
    cell = table.columns[name][i]
    if cell is None or not len(str(cell).strip()):
        return Exchange(None, None, line, "no_input")
    turns = as_turns(cell)
    if turns is None or turns[-1][0] not in ("user", "assistant"):
        return Exchange(None, None, line, "bad_messages")
    answer = turns[-1][1].strip() if turns[-1][0] == "assistant" else ""
    asks = turns[:-1] if turns[-1][0] == "assistant" else turns
    if not any(content.strip() for role, content in asks if role == "user"):
        return Exchange(None, None, line, "no_input")
    return Exchange(asks, answer or None, line, "no_answer" if answered and not answer else None)
