"""Label cells to values: the user's own type is found, and kept, for the whole column at once."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from acclimate.data.rows import Label
from acclimate.errors import UserError, unknown

TASKS = ("classify", "ordinal", "multilabel", "regress", "multitask")
# Tasks whose answers are more than a label (acclimate.structured).
STRUCTURED = ("detect", "forecast", "generate", "match", "segment", "speak", "tag", "transcribe")
_ALIASES = {
    "classification": "classify",
    "classifier": "classify",
    "binary": "classify",
    "multiclass": "classify",
    "multi-class": "classify",
    "text-classification": "classify",
    "sequence-classification": "classify",
    "single-label-classification": "classify",
    "sentiment": "classify",
    "ordinal-regression": "ordinal",
    "ordinal-classification": "ordinal",
    "ordered": "ordinal",
    "multi-task": "multitask",
    "multi-label": "multilabel",
    "multi-label-classification": "multilabel",
    "multilabel-classification": "multilabel",
    "tagging": "tag",
    "ner": "tag",
    "detection": "detect",
    "object-detection": "detect",
    "segmentation": "segment",
    "semantic-segmentation": "segment",
    "retrieval": "match",
    "matching": "match",
    "contrastive": "match",
    "named-entity-recognition": "tag",
    "token": "tag",  # token-classification
    "pos": "tag",
    "tts": "speak",
    "text-to-speech": "speak",
    "text-to-audio": "speak",
    "speech-synthesis": "speak",
    "asr": "transcribe",
    "speech-recognition": "transcribe",
    "automatic-speech-recognition": "transcribe",
    "speech-to-text": "transcribe",
    "transcription": "transcribe",
    "generation": "generate",
    "text-generation": "generate",
    "text2text-generation": "generate",
    "seq2seq": "generate",
    "translation": "generate",
    "translate": "generate",
    "summarization": "generate",
    "summarize": "generate",
    "instruction-tuning": "generate",
    "sft": "generate",
    "regression": "regress",
    "regressor": "regress",
}
_WHOLE = re.compile(r"-?(0|[1-9]\d*)\Z")  # "01" is a code, not the number 1
_REAL = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z")
_BLANK = re.compile(r"[\s\u200b-\u200f\u2060\ufeff]*\Z")


def task_name(text: str) -> str:
    """The task's own name for any of its usual names.

    >>> task_name("multi-label"), task_name("Regression"), task_name("binary_classification")
    ('multilabel', 'regress', 'classify')
    >>> task_name("stars=Regression, topic=classify")
    'stars=regress,topic=classify'
    """
    if "=" in str(text):  # of several label columns, by name
        pairs = [part.rpartition("=") for part in str(text).split(",")]
        return ",".join(f"{column.strip()}={task_name(name)}" for column, _, name in pairs)
    plain = str(text).strip().casefold().replace("_", "-").replace(" ", "-")
    if plain in (*TASKS, *STRUCTURED):
        return plain
    short = plain.removesuffix("-classification")
    for name in (plain, short):
        if name in _ALIASES:
            return _ALIASES[name]
    raise unknown("task", text, (*TASKS, *STRUCTURED))


def is_blank(cell: object) -> bool:
    """Nothing that can be read: None, NaN, or text of white space only. The words "NA" and "null" are text."""
    if cell is None:
        return True
    if isinstance(cell, str):
        return _BLANK.match(cell) is not None
    return isinstance(cell, float) and math.isnan(cell)


def typed_labels(cells: Sequence[object], typed: bool) -> tuple[list[Label | None], str]:
    """Values (None where missing) and their one kind: "int", "float", "bool", "str" or "list".

    Text (`typed=False`) becomes numbers or booleans only where every cell allows it.

    >>> typed_labels(["1", "2", None], False)
    ([1, 2, None], 'int')
    >>> typed_labels(["1.0", "2"], False), typed_labels(["01", "2"], False), typed_labels(["True", "false"], False)
    (([1.0, 2.0], 'float'), (['01', '2'], 'str'), ([True, False], 'bool'))
    >>> typed_labels(["1", "NA"], False), typed_labels(["1", "2"], True)
    ((['1', 'NA'], 'str'), (['1', '2'], 'str'))
    """
    present = [cell for cell in cells if not is_blank(cell)]
    kind = _typed_kind(present) if typed else _text_kind(present)
    return [None if is_blank(cell) else _convert(cell, kind) for cell in cells], kind


def _text_kind(present: Sequence[object]) -> str:
    seen = {str(cell).strip() for cell in present}
    if not seen:
        return "str"
    if {s.casefold() for s in seen} <= {"true", "false"}:
        return "bool"
    if all(_WHOLE.match(s) for s in seen):
        return "int" if all(len(s) < 19 for s in seen) else "str"  # beyond 64 bits it is a code
    if any(_WHOLE.match(s) and len(s) > 15 for s in seen):
        return "str"  # as floats, neighbours would become one
    if all(_REAL.match(s) for s in seen):
        return "float"
    return "str"


def respelled(cells: Sequence[object], typed: bool, *, private: bool = False) -> str:
    """A sentence on labels that are written differently and count as one class; empty where there are none.

    `private`: it quotes none.

    >>> respelled(["0.1", "0.10", "2.5"], False), respelled(["1", "2"], False)
    ("labels written differently are one class where they are the same number: '0.1' and '0.10'", '')
    """
    if typed:
        return ""
    _, kind = typed_labels(cells, typed)
    if kind not in ("int", "float"):
        return ""
    written: dict[float, set[str]] = {}
    for cell in cells:
        if not is_blank(cell):
            text = str(cell).strip()
            written.setdefault(float(text), set()).add(text)
    several = [" and ".join(repr(t) for t in sorted(texts)) for _, texts in sorted(written.items()) if len(texts) > 1]
    if not several:
        return ""
    more = f"; and {len(several) - 3} more" if len(several) > 3 else ""
    which = f"{len(several)} of them" if private else f"{', '.join(several[:3])}{more}"
    return f"labels written differently are one class where they are the same number: {which}"


def _typed_kind(present: Sequence[object]) -> str:
    kinds = {_kind_of(cell) for cell in present}
    if kinds == {"int", "float"}:
        large = any(isinstance(cell, int) and abs(cell) > 2**53 for cell in present)
        return "str" if large else "float"
    if "list" in kinds and kinds <= {"list", "str"}:
        return "list"
    return kinds.pop() if len(kinds) == 1 else "str"


def _kind_of(cell: object) -> str:
    if isinstance(cell, bool):
        return "bool"
    if isinstance(cell, int):
        return "int"
    if isinstance(cell, (float, Decimal)):
        return "float"
    return "list" if isinstance(cell, (list, tuple, set, frozenset)) else "str"


def _convert(cell: object, kind: str) -> Label:
    if kind == "list":
        return label_set(cell, None)
    if kind == "bool":
        return cell if isinstance(cell, bool) else str(cell).strip().casefold() == "true"
    if kind == "int":
        return int(str(cell))
    if kind == "float":
        return float(str(cell))
    return cell if isinstance(cell, str) else as_text(cell)


def as_text(cell: object) -> str:
    """A cell as it would stand in a text file: whole floats without ".0", dates in ISO form."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return str(int(cell))
    if isinstance(cell, (datetime.datetime, datetime.date)):
        return cell.isoformat()
    return str(cell)


def number(cell: object) -> float | None:
    """A finite number, or None."""
    if isinstance(cell, (bool, int, float, Decimal)):
        value = float(cell)
        return value if math.isfinite(value) else None
    text = str(cell).strip() if cell is not None else ""
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def label_set(cell: object, delimiter: str | None) -> tuple[str, ...]:
    """The classes of one multi-label cell, sorted, each once.

    >>> label_set("b | a|b", "|"), label_set('["x", "y"]', None), label_set([], None)
    (('a', 'b'), ('x', 'y'), ())
    """
    parts: Iterable[object]
    if isinstance(cell, (list, tuple, set, frozenset)):
        parts = cell
    else:
        text = as_text(cell).strip()
        parts = _json_list(text) or (text.split(delimiter) if delimiter else [text])
        if text == "[]":
            parts = []
    return tuple(sorted({as_text(part).strip() for part in parts if not is_blank(part)}))


def _json_list(text: str) -> list[object] | None:
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        value = json.loads(text)
    except ValueError:  # a list as Python prints it
        inner = re.findall(r"'((?:[^'\\]|\\.)*)'", text)
        return list(inner) or None
    return value if isinstance(value, list) else None


def find_label_delimiter(cells: Sequence[object]) -> str | None:
    """The sign that joins several classes in one text cell, when splitting at it leaves few, recurring classes."""
    texts = [str(cell) for cell in cells if isinstance(cell, str) and not is_blank(cell)]
    for sign in ("|", ";", ","):
        joined = [t for t in texts if sign in t]
        if len(joined) < max(2, 0.05 * len(texts)):
            continue
        parts = {p.strip() for t in texts for p in t.split(sign) if p.strip()}
        if len(parts) <= max(2, min(len(set(texts)), 0.5 * len(texts))) and max(len(p) for p in parts) <= 40:
            return sign
    return None


def match_classes(values: Sequence[Label | None], classes: Sequence[Label]) -> tuple[list[Label | None], int]:
    """Values in the type of the classes that a model knows, and how many had to change type to match.

    A blank in a column of whole numbers makes pandas write 1.0 for 1; both mean the class 1.

    >>> match_classes([1.0, "2", 7], [1, 2])
    ([1, 2, 7], 2)
    """
    same: dict[tuple[type, Label], Label] = {(type(c), c): c for c in classes}
    by_text: dict[str, Label] = {as_text(c).casefold() if isinstance(c, bool) else as_text(c): c for c in classes}
    out: list[Label | None] = []
    changed = 0
    for value in values:
        if value is None or (type(value), value) in same:
            out.append(value)
            continue
        text = as_text(value)
        known = by_text.get(text, by_text.get(_canonical(text)))
        changed += known is not None
        out.append(value if known is None else known)
    return out, changed


def _canonical(text: str) -> str:
    """ "1.0" as "1", "True" as "true"."""
    bare = text.strip()
    if _REAL.match(bare):
        return as_text(float(bare))
    return bare.casefold() if bare.casefold() in ("true", "false") else bare


def check_kind(task: str, kind: str) -> None:
    """Refuse a task that the labels cannot serve."""
    if task == "regress" and kind in ("list", "bool"):
        raise UserError(
            f"task 'regress' needs numbers as labels, but they are of kind {kind}; use classify or multilabel"
        )
    if task in ("classify", "ordinal") and kind == "list":
        raise UserError(f"task {task!r} needs one label a row, but the labels are lists; use the task multilabel")
