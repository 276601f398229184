"""Words with tags from CoNLL files, lists, spans and tables of words."""

from __future__ import annotations

from pathlib import Path

import pytest

from acclimate.data.rows import Columns
from acclimate.data.tagged import sentences, spans_of
from acclimate.errors import UserError


def test_conll_with_tabs_comments_documents_and_a_missing_tag(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_text("-DOCSTART- -X- O\n\nNew\tB-place\nYork\tI-place\n\n# a comment about this\nodd\n\nbare\tO\nword\n")
    found, table = sentences(path, Columns())
    assert [(s.given, s.tags, s.line, s.reason) for s in found] == [
        (("New", "York"), ("B-place", "I-place"), 3, None),
        (("odd",), None, 7, None),
        (("bare", "word"), None, 9, "bad_line"),
    ]
    assert table.columns["text"] == ["New York", "odd", "bare word"]


def test_the_last_of_many_columns_is_the_tag(tmp_path: Path) -> None:
    path = tmp_path / "x.conll"
    path.write_text("EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n")
    assert sentences(path, Columns())[0][0].tags == ("B-ORG", "O")


def test_spans_that_overlap_lie_outside_or_cut_words() -> None:
    rows = [
        {"text": "Dr Smith left", "spans": [[3, 8, "person"]]},
        {"text": "Dr Smith left", "spans": [[3, 6, "person"]]},
        {"text": "Dr Smith left", "spans": [[3, 99, "person"]]},
        {"text": "Dr Smith left", "spans": [[0, 8, "a"], [3, 8, "b"]]},
        {"text": "Dr Smith left", "spans": []},
        {"text": "  ", "spans": []},
    ]
    found, _ = sentences(rows, Columns())
    assert [s.tags for s in found[:2]] == [("O", "B-person", "O")] * 2
    assert [s.widened for s in found[:2]] == [0, 1]
    assert [s.reason for s in found] == [None, None, "bad_span", "overlap", None, "no_words"]


def test_a_table_with_a_word_a_row() -> None:
    rows = [
        {"sentence": "1", "word": "New", "tag": "B-place"},
        {"sentence": None, "word": "York", "tag": "I-place"},
        {"sentence": "2", "word": "odd", "tag": "O"},
    ]
    found, _ = sentences(rows, Columns(text=("word",), label="tag", id="sentence"))
    assert [(s.given, s.tags) for s in found] == [(("New", "York"), ("B-place", "I-place")), (("odd",), ("O",))]


def test_groups_are_read_and_must_be_there() -> None:
    rows = [{"tokens": ["a"], "tags": ["O"], "document": 7}]
    assert sentences(rows, Columns(group="document"))[0][0].group == "7"
    with pytest.raises(UserError, match="no column 'page' of groups"):
        sentences(rows, Columns(group="page"), grouped=True)
    assert sentences(rows, Columns(group="page"))[0][0].group is None


def test_what_holds_no_words_is_refused() -> None:
    with pytest.raises(UserError, match="neither a column of words"):
        sentences([{"a": 1}], Columns())


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        (["I-x", "I-x"], [(0, 2, "x")]),
        (["B-x", "I-y"], [(0, 1, "x"), (1, 2, "y")]),
        (["S-x", "B-x", "E-x", "E-x"], [(0, 1, "x"), (1, 3, "x"), (3, 4, "x")]),
        (["U-x", "B-x", "L-x", "O"], [(0, 1, "x"), (1, 3, "x")]),
    ],
)
def test_every_way_of_marking_entities(tags: list[str], spans: list[tuple[int, int, str]]) -> None:
    assert spans_of(tags) == spans
