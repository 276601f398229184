"""Bytes to text: which encoding a file is in, how sure that is, and what had to be replaced."""

from __future__ import annotations

import codecs
import importlib.util
import re
from dataclasses import dataclass

from acclimate.errors import UserError

_MARKS = (  # the longer mark first: UTF-32-LE begins with the mark of UTF-16-LE
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What western European prose holds beyond ASCII. Letters that mean something else in the neighbouring code pages (ý
# þ ð š ž ...)
# are left out on purpose: where they occur, the statistical guess decides.
_WESTERN = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüßœÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜŒ«»“”‘’„–—…•€£§©®°´·º²½¡¿\u00a0")
_SAMPLE = 60_000  # bytes of lines with non-ASCII characters shown to the guesser


@dataclass(frozen=True)
class Decoded:
    """The text, without byte order mark and NUL, and how it was found."""

    text: str
    encoding: str
    guessed: bool  # True where nothing in the file proves the encoding
    notes: tuple[str, ...]


def decode(raw: bytes, source: str, encoding: str | None = None) -> Decoded:
    """The text of a file: a byte order mark decides, then strict UTF-8, then UTF-16 by its NULs, then a guess that
    is stated."""
    if encoding is not None:
        return _decode_as_told(raw, source, encoding)
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return _finish(*_strict(raw[len(mark) :], name, source), guessed=False, extra=())
    wide = _without_mark(raw)
    if wide is not None:
        note = f"read as {wide}, which its zero bytes show; it has no byte order mark"
        return _finish(raw.decode(wide), wide, guessed=True, extra=(note,))
    if _is_binary(raw):
        raise UserError(f"{source} is not a text file (it holds binary data); give a CSV, TSV, JSONL or Parquet file")
    try:
        return _finish(raw.decode("utf-8"), "utf-8", guessed=False, extra=())
    except UnicodeDecodeError:
        return _guess(raw)


def _decode_as_told(raw: bytes, source: str, encoding: str) -> Decoded:
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise UserError(
            f"unknown encoding {encoding!r}; give a name such as utf-8, utf-16, cp1252 or gb18030"
        ) from None
    for mark, marked in _MARKS:
        if raw.startswith(mark) and marked.replace("-le", "").replace("-be", "") == name.replace("-le", "").replace(
            "-be", ""
        ):
            raw, name = raw[len(mark) :], marked
            break
    text, name = _strict(raw, name, source)
    return _finish(text, name, guessed=False, extra=())


def _strict(raw: bytes, name: str, source: str) -> tuple[str, str]:
    try:
        return raw.decode(name), name
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{source} cannot be read as {name}: the bytes {raw[error.start : error.start + 4].hex(' ')} at "
            f"line {line} are not "
            f"valid there; give its true encoding, or save the file as UTF-8"
        ) from None


def _finish(text: str, encoding: str, *, guessed: bool, extra: tuple[str, ...]) -> Decoded:
    notes = list(extra)
    zeros = text.count("\x00")
    if zeros:
        text = text.replace("\x00", "")
        notes.append(f"{zeros} NUL character{'s' if zeros > 1 else ''} removed")
    # a second mark inside (files that were joined, or exported twice) would stick to the first name or cell
    text = text.removeprefix("\ufeff")
    return Decoded(text, encoding, guessed, tuple(notes))


def _without_mark(raw: bytes) -> str | None:
    """The UTF-16 flavour of bytes without a mark, or None. ASCII characters, line ends at least, put their NULs on
    one parity."""
    zeros = raw.count(0)
    if zeros < 2 or len(raw) % 2:
        return None
    odd = raw[1::2].count(0)
    name = "utf-16-le" if odd > zeros - odd else "utf-16-be"
    if max(odd, zeros - odd) < 0.95 * zeros:
        return None
    if zeros < 0.05 * len(raw) and _is(raw, "utf-8"):
        return None
    if not _is(raw, name):
        return None
    text = raw[:200_000].decode(name, errors="ignore")
    odd_ones = sum(1 for c in text if not (c.isprintable() or c.isspace()))
    return name if odd_ones <= 0.01 * len(text) else None


def _is(raw: bytes, name: str) -> bool:
    try:
        raw.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _is_binary(raw: bytes) -> bool:
    """Control bytes that no text in an ASCII-based encoding holds, beyond a stray few."""
    head = raw[:65_536]
    control = len(head) - len(
        head.translate(None, bytes(b for b in range(32) if b not in (7, 8, 9, 10, 11, 12, 13, 26, 27)))
    )
    return control > max(4, 0.05 * len(head)) or control * 5 > len(head)


def _guess(raw: bytes) -> Decoded:
    damaged = _nearly_utf8(raw)
    if damaged is not None:
        text, lines = damaged
        shown = ", ".join(str(n) for n in lines[:5]) + (", ..." if len(lines) > 5 else "")
        note = (
            f"read as utf-8 although {len(lines)} line{'s' if len(lines) > 1 else ''} hold invalid bytes, "
            f"now '\ufffd' (line {shown})"
        )
        return _finish(text, "utf-8", guessed=True, extra=(note,))
    sample = _telling_lines(raw)
    names = [name for name in (_western(sample), _japanese(sample), *_statistical(sample), "cp1252", "latin-1") if name]
    name = next(n for n in names if _is(raw, n))  # latin-1 accepts anything
    note = f"not UTF-8; read as {name}, which is a guess: if characters look wrong, save the file as UTF-8"
    return _finish(raw.decode(name), name, guessed=True, extra=(note,))


def _nearly_utf8(raw: bytes) -> tuple[str, list[int]] | None:
    """Text with its few bad bytes replaced, when at least ten times as many characters beyond ASCII are valid."""
    text = raw.decode("utf-8", errors="replace")
    before = raw.count(b"\xef\xbf\xbd")
    bad = text.count("\ufffd") - before
    good = sum(1 for c in text if c > "\x7f") - bad
    if good < 10 * bad:
        return None
    lines = []
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.isascii() and not _is(line, "utf-8"):
            lines.append(number)
    return text, lines


def _telling_lines(raw: bytes) -> bytes:
    out, size = [], 0
    for line in raw.replace(b"\r", b"\n").split(b"\n"):
        if not line.isascii():
            out.append(line)
            size += len(line)
            if size > _SAMPLE:
                break
    return b"\n".join(out)


def _western(sample: bytes) -> str | None:
    """cp1252 where accents are sprinkled singly among ASCII letters and all of them belong to western European
    prose."""
    runs = re.findall(rb"[\x80-\xff]+", sample)
    marked = sum(len(run) for run in runs)
    letters = len(re.findall(rb"[A-Za-z]", sample))
    if marked > 0.4 * letters or marked > 1.3 * len(runs):
        return None
    text = sample.decode("cp1252", errors="replace")
    return "cp1252" if all(c <= "\x7f" or c in _WESTERN for c in text) else None


def _japanese(sample: bytes) -> str | None:
    """The Japanese encoding under which a fifth of the characters are hiragana: no other language has them."""
    for name in ("cp932", "euc_jp"):
        if _is(sample, name):
            beyond = [c for c in sample.decode(name) if c > "\x7f"]
            if sum("\u3041" <= c <= "\u3096" for c in beyond) > 0.2 * len(beyond):
                return name
    return None


def _statistical(sample: bytes) -> list[str]:
    if importlib.util.find_spec("charset_normalizer") is None:
        return _by_trial(sample)
    import charset_normalizer

    matches = charset_normalizer.from_bytes(sample)
    return [match.encoding for match in matches if match.encoding not in ("utf_8", "ascii")]


def _by_trial(sample: bytes) -> list[str]:
    """Without the guesser: the double-byte encodings whose strict rules the sample obeys, where it is mostly beyond
    ASCII."""
    marked = sum(1 for byte in sample if byte > 0x7F)
    if marked < 0.3 * len(sample):
        return []
    pages = (
        ("gb18030", "big5", "shift_jis", "euc_kr")
        if all(len(r) % 2 == 0 for r in re.findall(rb"[\x80-\xff]+", sample))
        else ()
    )
    return [page for page in (*pages, "cp1251") if _is(sample, page)]
