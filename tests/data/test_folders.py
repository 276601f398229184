"""Folders of pictures as tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from acclimate.data.account import how_read
from acclimate.data.audit import audit
from acclimate.data.columns import guess
from acclimate.data.read import read, there
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from drawn import bars, folder


def test_class_folders_become_labels(tmp_path: Path) -> None:
    table = read(folder(tmp_path / "set", 6))
    assert table.columns["label"] == ["dash"] * 3 + ["one"] * 3
    assert table.columns["file"][:2] == ["dash/000.png", "dash/002.png"]
    found = guess(table, Columns())
    assert (found.columns.kind, found.columns.file, found.columns.label) == ("image", "file", "label")
    data, account = audit(table, found.columns, found.task)
    assert data.kind == "image" and account.kept == 6
    assert data.inputs[0] == str(tmp_path / "set" / "dash" / "000.png")


def test_two_levels_are_domains_and_a_folder_around_them_is_passed_over(tmp_path: Path) -> None:
    for domain in ("photo", "cartoon"):
        folder(tmp_path / "set" / "all" / domain, 4)
    table = read(tmp_path / "set")
    assert set(table.columns) == {"file", "label", "domain"}
    assert table.columns["domain"] == ["cartoon"] * 4 + ["photo"] * 4
    assert any("--domain-column domain" in str(note) for note in table.facts["notes"])  # type: ignore[attr-defined]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    table = read(folder(tmp_path, 2) / "one")
    assert set(table.columns) == {"file"}


def test_parts_are_not_taken_for_classes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        folder(tmp_path / part, 4)
    with pytest.raises(UserError, match=r"one by one: .*/train --valid-data .*/val"):
        read(tmp_path)


def test_a_table_in_the_folder_names_its_files(tmp_path: Path) -> None:
    folder(tmp_path, 4)
    (tmp_path / "metadata.csv").write_text("file_name,label\ndash/000.png,x\none/001.png,y\nnone.png,x\n")
    table = read(tmp_path)
    found = guess(table, Columns())
    assert found.columns.file == "file_name"
    data, account = audit(table, found.columns, found.task)
    assert len(data) == 2 and account.dropped == {"missing_file": (4,)}
    assert any("none.png" in finding.message for finding in account.findings)


def test_paths_in_a_table_start_from_its_folder(tmp_path: Path) -> None:
    folder(tmp_path / "pictures", 4)
    (tmp_path / "set.csv").write_text(
        "path,kind,label\npictures/dash/000.png,a,x\npictures/one/001.png,b,y\n", encoding="utf-8"
    )
    found = guess(read(tmp_path / "set.csv"), Columns())
    assert (found.columns.file, found.columns.kind) == ("path", "image")
    data, _ = audit(read(tmp_path / "set.csv"), found.columns, found.task)
    assert data.inputs[1] == str(tmp_path / "pictures" / "one" / "001.png")


def test_pictures_in_python(tmp_path: Path) -> None:
    pixels, labels = bars(8)
    for cells in (pixels, [Image.fromarray(p) for p in pixels]):
        table = read({"image": cells, "label": labels})
        found = guess(table, Columns())
        data, account = audit(table, found.columns, found.task)
        assert found.columns.file == "image" and account.kept == 8
        assert len(set(data.clusters.tolist())) == 8  # type: ignore[union-attr]


def test_a_text_column_named_by_the_user_is_read_as_text(tmp_path: Path) -> None:
    table = read({"text": ["a.png", "b.png"], "label": [0, 1]})
    assert guess(table, Columns(text=("text",))).columns.kind == "text"
    with pytest.raises(UserError, match="does not hold image files"):
        guess(read({"text": ["a", "b"], "label": [0, 1]}), Columns(file="text", kind="image"))
    with pytest.raises(UserError, match="name one of the two"):
        guess(table, Columns(text=("text",), file="text"))


def test_files_at_different_depths_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "a" / "b" / "c", 2)
    folder(tmp_path / "x", 2)
    with pytest.raises(UserError, match="folders deep"):
        read(tmp_path)


def test_a_folder_without_data_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(UserError, match="and no pictures"):
        read(tmp_path)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    folder(tmp_path / "set", 4)
    (tmp_path / "set" / "one" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    table = read(tmp_path / "set")
    _, account = audit(table, guess(table, Columns()).columns, "classify")
    assert account.read == 5 and list(account.dropped) == ["missing_file"]


def test_a_table_counts_only_beside_the_files_that_it_lists(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("text,label\na,b\n")
    with pytest.raises(UserError, match=r"is a folder; give one of its files: labels.csv"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"give one of its files: labels.csv"):
        there(tmp_path, str(tmp_path))


def test_a_table_in_a_folder_is_read_as_asked_and_said(tmp_path: Path) -> None:
    folder(tmp_path, 4)
    (tmp_path / "labels.csv").write_text("file_name|label\ndash/000.png|é,x\n", encoding="latin-1")
    table = read(tmp_path, delimiter="|", encoding="latin-1")
    assert table.columns == {"file_name": ["dash/000.png"], "label": ["é,x"]}
    assert table.facts["notes"][-1] == (  # type: ignore[index]
        f"labels.csv in {tmp_path} says which files are read and what their labels are, and names of folders such as "
        f"{next(p.name for p in tmp_path.iterdir() if p.is_dir())} are not read as labels"
    )
    assert how_read(table.facts).startswith("by its labels.csv, ")
    (tmp_path / "labels.csv").write_text("file_name,label\n")
    assert len(read(tmp_path, may_be_empty=True)) == 0


@pytest.mark.parametrize("private", [False, True])
def test_findings_about_a_folder_name_files_and_no_lines(private: bool, tmp_path: Path) -> None:
    folder(tmp_path, 4)
    copy = (tmp_path / "one" / "001.png").read_bytes()
    (tmp_path / "one" / "secret copy.png").write_bytes(copy)
    (tmp_path / "one" / "secret empty.png").write_bytes(b"")
    table = read(tmp_path)
    columns = guess(table, Columns()).columns
    _, account = audit(table, columns, "classify", private=private)
    found = {f.kind: f for f in account.findings}
    assert found["duplicate"].lines == ()
    assert ("one/secret copy.png" in found["duplicate"].message) is not private
    text = json.dumps(account.to_json())
    assert ("secret" in text) is not private
    with pytest.raises(UserError) as refused:
        audit(table, columns, "classify", private=private, on_bad="fail")
    assert ("secret empty.png" in str(refused.value)) is not private and "line" not in str(refused.value)
