"""Numbers and strings as a reader meets them: three significant digits, a real minus sign, nothing that can do harm."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

from acclimate.usage import size

DASH = "–"  # where there is no number
MINUS = "−"
GAP = "\u00a0"  # a space at which no line breaks
# Characters that reorder the text around them; a page may isolate them, Markdown and a terminal cannot.
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def finite(value: object) -> float | None:
    """The value as a float, or None where it is no finite number."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def decimals(values: Iterable[float | None]) -> int:
    """Digits after the point that give the largest of the values three significant digits (three from 0.01 to 1).

    >>> decimals([0.81]), decimals([0.004]), decimals([12.5, 3.0]), decimals([1500.0])
    (3, 5, 1, 0)
    """
    largest = max((abs(v) for v in values if v is not None), default=0.0)
    if largest == 0 or not math.isfinite(largest):
        return 0
    digits = max(0, 2 - math.floor(math.log10(largest)))
    return min(digits, 3) if largest >= 0.01 else min(digits, 8)


def number(value: object, digits: int | None = None, *, sign: bool = False) -> str:
    """A number with three significant digits, thousands separated; a dash where there is none.

    >>> number(0.81234), number(12345.6), number(-0.5), number(float("nan")), number(None), number(1.0)
    ('0.812', '12,346', '−0.500', '–', '–', '1.00')
    """
    known = finite(value)
    if known is None:
        return DASH
    if abs(known) >= 1e15 or (digits is None and 0 < abs(known) < 1e-6):
        return f"{known:{'+' if sign else ''}.2e}".replace("-", MINUS)
    places = decimals([known]) if digits is None else digits
    text = f"{known:{'+' if sign else ''},.{places}f}"
    if not any(c in "123456789" for c in text):
        text = text.lstrip("+-")  # nothing is left of it: no sign before a zero
    return text.replace("-", MINUS)


def count(value: object) -> str:
    """A whole number with its thousands separated.

    >>> count(12000), count(None)
    ('12,000', '–')
    """
    known = finite(value)
    return DASH if known is None else f"{round(known):,}".replace("-", MINUS)


def percent(share: object) -> str:
    """A share as per cent, with a digit after the point only where it is needed.

    >>> percent(0.5), percent(0.004), percent(1.0), percent(None)
    ('50\\xa0%', '0.4\\xa0%', '100\\xa0%', '–')
    """
    known = finite(share)
    if known is None:
        return DASH
    value = 100 * known
    fine = (0 < value < 1) or (99 < value < 100)
    return f"{value:.{1 if fine else 0}f}{GAP}%".replace("-", MINUS)


def span(low: object, high: object, digits: int | None = None) -> str:
    """An interval in brackets, both ends with the same digits after the point; a dash where there is none.

    >>> span(0.7, 0.85), span(None, 0.2)
    ('[0.700, 0.850]', '–')
    """
    ends = (finite(low), finite(high))
    if ends[0] is None or ends[1] is None:
        return DASH
    places = decimals(ends) if digits is None else digits
    return f"[{number(ends[0], places)}, {number(ends[1], places)}]"


def estimate(value: object, low: object = None, high: object = None, *, sign: bool = False) -> str:
    """A number followed by its interval, all with the same digits.

    >>> estimate(0.81, 0.7, 0.9), estimate(-0.02, -0.05, 0.01, sign=True), estimate(None)
    ('0.810 [0.700, 0.900]', '−0.020 [−0.050, +0.010]', '–')
    """
    known = [finite(v) for v in (value, low, high)]
    if known[0] is None:
        return DASH
    if 0 < max(abs(v) for v in known if v is not None) < 1e-6:  # no digits after the point would show it
        texts = [number(v, sign=sign) for v in known]
        return texts[0] if None in known else f"{texts[0]} [{texts[1]}, {texts[2]}]"
    places = decimals(known)
    first = number(known[0], places, sign=sign)
    if known[1] is None or known[2] is None:
        return first
    return f"{first} [{number(known[1], places, sign=sign)}, {number(known[2], places, sign=sign)}]"


def seconds(value: object) -> str:
    """A duration in the largest unit that fits.

    >>> seconds(0.42), seconds(83), seconds(7300), seconds(None)
    ('0.4 s', '1 min 23 s', '2 h 1 min', '–')
    """
    known = finite(value)
    if known is None:
        return DASH
    if known < 10:
        return f"{known:.1f} s"
    whole = round(known)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def memory(value: object) -> str:
    """Bytes in the unit that fits.

    >>> memory(0), memory(246_000_000), memory(None)
    ('0 kB', '246 MB', '–')
    """
    known = finite(value)
    return DASH if known is None else size(known)


def clean(value: object) -> str:
    """Text without what could break a page, a file or a terminal: control and direction marks become '�'.

    >>> clean("a\\x00b"), clean("x\\n y"), clean(None)
    ('a�b', 'x\\n y', '–')
    """
    if value is None:
        return DASH
    text = str(value).replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if _harmful(c) else c for c in text)


def _harmful(character: str) -> bool:
    if character in "\n\t":
        return False
    code = ord(character)
    return unicodedata.category(character) in ("Cc", "Cs") or character in BIDI or (code & 0xFFFE) == 0xFFFE


def one_line(value: object, width: float = 60) -> str:
    """Cleaned text on one line, shortened with '…' where it is wider than so many average letters.

    >>> one_line("two\\nlines"), one_line("abcdefgh", 5)
    ('two ⏎ lines', 'abcd…')
    """
    head = clean(value)[: int(width) * 4 + 64]  # enough for any shortening, and quick for a text of megabytes
    text = " ".join(head.strip().replace("\n", " ⏎ ").split())
    if breadth(text) <= width:
        return text
    kept, used = [], 1.0
    for character in text:
        used += breadth(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def prose(value: object, width: int = 800) -> str:
    """A sentence or a few, cleaned, on one line, and not without end.

    >>> prose("It was \\nso."), len(prose("x" * 10000))
    ('It was so.', 800)
    """
    text = " ".join(clean(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def breadth(text: str) -> float:
    """Width in average letters: a Chinese character counts 1.8, a combining mark nothing.

    >>> breadth("abcd"), breadth("你好")
    (4.0, 3.6)
    """
    total = 0.0
    for character in text:
        if unicodedata.combining(character):
            continue
        total += 1.8 if unicodedata.east_asian_width(character) in "WF" else 1.0
    return total


def lines(found: Sequence[object], total: int | None = None, shown: int = 12) -> str:
    """Line numbers, the first dozen of them.

    >>> lines([3, 8]), lines([5]), lines(list(range(1, 20)), shown=3), lines([])
    ('lines 3, 8', 'line 5', 'lines 1, 2, 3 and 16 more', '')
    """
    if not found:
        return ""
    everything = len(found) if total is None else max(total, len(found))
    first = ", ".join(count(n).replace(",", "") for n in found[:shown])
    more = everything - min(len(found), shown)
    return f"line{'s' if everything > 1 else ''} {first}" + (f" and {count(more)} more" if more else "")


def readable(name: object) -> str:
    """A name of the code as words.

    >>> readable("macro_f1"), readable("rmse"), readable("learning_rate")
    ('macro F1', 'RMSE', 'learning rate')
    """
    known = {
        "macro_f1": "macro F1", "weighted_f1": "weighted F1", "micro_f1": "micro F1", "f1": "F1", "rmse": "RMSE",
        "mae": "MAE", "r2": "R²", "roc_auc": "ROC-AUC", "mcc": "Matthews correlation", "ece": "calibration error",
        "calibration_error": "calibration error", "spearman": "Spearman correlation", "brier": "Brier score",
        "hamming": "Hamming loss", "ppv": "PPV", "npv": "NPV",
    }  # fmt: skip
    text = clean(name)
    return known.get(text, text.replace("_", " "))
