from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from acclimate.data.encoding import decode
from acclimate.data.read import read
from acclimate.errors import UserError

CSV = "text,label\nÄpfel für Ömer – süß,gut\nnaïve café,schlecht\n"
CHINESE = "text,label\n这家店的菜很好吃,好\n服务太差了不会再来,差\n味道不错下次还会来,好\n"


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_marks_and_utf8_are_certain(mark: bytes, encoding: str) -> None:
    found = decode(mark + CSV.encode(encoding), "f")
    assert (found.text, found.encoding, found.guessed, found.notes) == (CSV, encoding, False, ())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", [CSV, CHINESE])
def test_utf16_without_mark(encoding: str, text: str) -> None:
    found = decode(text.encode(encoding), "f")
    assert (found.text, found.encoding, found.guessed) == (text, encoding, True)
    assert "no byte order mark" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CSV, "cp1252"),
        ("text,label\ncafé,1\n", "cp1252"),
        ("text,label\n¿Qué tal? Señor “muy” bien,1\n", "cp1252"),
        (CHINESE * 5, "gb18030"),
        ("text,label\nПривет как дела сегодня,хорошо\nСовсем плохой день и погода,плохо\n" * 5, "cp1251"),
        ("text,label\nこの店はとても美味しいです,良い\n二度と行きたくない店です,悪い\n" * 5, "cp932"),
    ],
)
def test_legacy_encodings_are_guessed_and_said(text: str, encoding: str) -> None:
    found = decode(text.encode(encoding), "f")
    assert found.text == text
    assert found.guessed
    assert "guess" in found.notes[0]


def test_a_few_bad_bytes_do_not_turn_utf8_into_something_else() -> None:
    raw = (CHINESE * 10).encode() + b"caf\xe9,bad\n"
    found = decode(raw, "f")
    assert found.encoding == "utf-8"
    assert found.text.startswith(CHINESE)
    assert found.text.endswith("caf\ufffd,bad\n")
    assert "1 line hold" in found.notes[0] or "(line 41)" in found.notes[0]


def test_nul_is_removed_and_counted() -> None:
    found = decode(b"text,label\nab\x00c,1\nde,0\n", "f")
    assert found.text == "text,label\nabc,1\nde,0\n"
    assert found.notes == ("1 NUL character removed",)


def test_told_encoding(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_bytes(CSV.encode("mac-roman"))
    table = read(path, encoding="mac-roman")
    assert table.columns["text"][0] == "Äpfel für Ömer – süß"
    assert table.facts["encoding_guessed"] is False
    with pytest.raises(UserError, match="unknown encoding 'utf-9'"):
        read(path, encoding="utf-9")
    with pytest.raises(UserError, match="cannot be read as utf-8: the bytes .* at line 2"):
        read(path, encoding="utf-8")


def test_told_utf16_takes_the_mark_into_account() -> None:
    assert decode(codecs.BOM_UTF16_BE + CSV.encode("utf-16-be"), "f", "utf-16").text == CSV
    assert decode(codecs.BOM_UTF8 + CSV.encode(), "f", "utf-8").text == CSV


def test_without_the_guesser_the_strict_double_byte_encodings_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert decode((CHINESE * 5).encode("gb18030"), "f").text == CHINESE * 5
