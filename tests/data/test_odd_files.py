"""Each file of the folder of odd files is read, or refused with a clear error; skipped where the folder is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from acclimate.data.audit import audit
from acclimate.data.columns import guess
from acclimate.data.read import read
from acclimate.data.rows import Columns
from acclimate.errors import UserError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
ODD = SHARED / "odd" / "csv"
FILES = sorted(ODD.glob("*")) if ODD.is_dir() else []
pytestmark = pytest.mark.skipif(not FILES, reason="the folder of odd files is not here")

ROWS = {
    "adult_sample_missing.tab": 22,
    "cyber-security-breaches.tab": 1057,
    "imdb_labelled.txt": 1000,
    "imports-85.tab": 207,
    "sample-polish.txt": 203,
    "weird.tab": 8,
}
ENCODINGS = {
    "sample-arabic-1.txt": "cp1256",
    "sample-chinese.txt": "big5",
    "sample-english.bom.txt": "utf-8",
    "sample-french-1.txt": "cp1252",
    "sample-greek.txt": "cp1253",
    "sample-hebrew-2.txt": "cp1255",
    "sample-korean.txt": "cp949",
    "sample-russian.txt": "mac_cyrillic",
    "sample-turkish.txt": "cp1254",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_read_or_refused(path: Path) -> None:
    if path.suffix == ".xlsx":
        with pytest.raises(UserError, match="save the sheet as CSV"):
            read(path)
        return
    table = read(path)
    assert len(table) > 0
    assert all(len(cells) == len(table) for cells in table.columns.values())
    assert len(table.lines) == len(table.problems) == len(table)
    assert list(table.lines) == sorted(set(table.lines))
    assert len(table) == ROWS.get(path.name, len(table))
    assert table.facts["encoding"] == ENCODINGS.get(path.name, table.facts["encoding"])
    assert not any(isinstance(c, str) and "\ufffd" in c for cells in table.columns.values() for c in cells)


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix != ".xlsx"], ids=lambda p: p.name)
def test_gate_never_crashes(path: Path) -> None:
    table = read(path)
    try:
        found = guess(table, Columns(), None)
    except UserError as error:
        assert "no text column found" in str(error)
        return
    _, account = audit(table, found.columns, found.task)
    assert account.read == len(table)


@pytest.mark.parametrize("name", ["amazon_cells", "imdb", "yelp"])
def test_all_rows_of_the_sentences(name: str) -> None:
    path = SHARED / "uci_sentences" / f"{name}_labelled.txt"
    if not path.exists():
        pytest.skip(f"{path.name} is measuring data that lies beside the repository, and it is not here")
    table = read(path)
    raw = [line.rsplit("\t", 1) for line in path.read_text(encoding="utf-8").split("\n") if line]
    assert len(table) == len(raw) == 1000
    assert [str(c).replace('"', "") for c in table.columns["text"]] == [text.replace('"', "") for text, _ in raw]
    assert table.columns["label"] == [label for _, label in raw]
    assert set(table.problems) == {None}
