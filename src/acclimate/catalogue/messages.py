"""Message catalogues of gettext: what a program says in English, and how it says it in another language."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from acclimate.catalogue.archives import Archive
from acclimate.catalogue.unpack import write_csv

_LITTLE, _BIG = 0x950412DE, 0xDE120495


def read_mo(data: bytes) -> Iterator[tuple[str, str, str]]:
    """(context, text, translation) of every message of a compiled catalogue; singular and plural are two messages.

    The format is that of GNU gettext, "The Format of GNU MO Files": two tables of lengths and places of strings.
    """
    (magic,) = struct.unpack("<I", data[:4])
    if magic not in (_LITTLE, _BIG):
        raise ValueError("not a compiled message catalogue")
    order = "<" if magic == _LITTLE else ">"
    count, texts, translations = struct.unpack(order + "3I", data[8:20])
    for i in range(count):
        text, translation = (_string(data, order, table + 8 * i) for table in (texts, translations))
        context, mark, said = text.rpartition("\x04")
        forms, translated = said.split("\x00"), translation.split("\x00")
        if not forms[0] or not all(translated):
            continue  # the first message is the catalogue's header
        yield context if mark else "", forms[0], translated[0]
        if len(forms) == 2 and len(translated) > 1:
            yield context if mark else "", forms[1], translated[-1]


def _string(data: bytes, order: str, at: int) -> str:
    length, place = struct.unpack(order + "2I", data[at : at + 8])
    return data[place : place + length].decode("utf-8")


def django(archives: tuple[Archive, ...], out: Path) -> dict[str, dict[str, object]]:
    """English and French of everything Django says; `app` is the part that says it, `context` a hint for translators.

    Some messages are said by several parts, and stand there once for each.
    """
    rows = []
    for name in sorted(archives[0].names()):
        if not name.endswith(".mo") or "/locale/fr/" not in name:
            continue
        app = name.partition("/locale/")[0].rpartition("/")[2]
        rows += [(en, fr, app, context) for context, en, fr in read_mo(archives[0].read(name))]
    return {"en-fr.csv": write_csv(out / "en-fr.csv", ("en", "fr", "app", "context"), rows)}
