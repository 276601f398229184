from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from acclimate.data.read import read
from acclimate.data.rows import Table
from acclimate.errors import UserError


def write(folder: Path, content: str | bytes, name: str = "f.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def notes(table: Table) -> str:
    said = table.facts["notes"]
    assert isinstance(said, list)
    return " | ".join(said)


def test_plain_csv(tmp_path: Path) -> None:
    table = read(write(tmp_path, 'text,label\n"a, b",1\n"say ""hi""",0\nplain,\n'))
    assert table.columns == {"text": ["a, b", 'say "hi"', "plain"], "label": ["1", "0", None]}
    assert table.lines == (2, 3, 4)
    assert table.problems == (None, None, None)
    assert not table.typed
    assert table.facts["delimiter"] == "comma"
    assert table.facts["encoding"] == "utf-8"
    assert table.facts["header"] is True
    assert table.facts["notes"] == []


def test_f12_everything_at_once(tmp_path: Path) -> None:
    """Quotes, newline in a cell, return, semicolon, mark, short and long row, unnamed index, null, NA, white space."""
    content = (
        "\ufeff;text;label\r\n"
        '0;"first line\nsecond; line";a\r\n'
        "1;NA;b\r\n"
        "2;null;a\r\n"
        "3;short\r\n"
        "4;;b\r\n"
        "5;   ;a\r\n"
        "6;with\rreturn;b\r\n"
        "7;one;two;three\r\n"
        "8;None;NA\r\n"
    )
    table = read(write(tmp_path, content))
    assert table.columns["text"] == [
        "first line\nsecond; line",
        "NA",
        "null",
        None,
        None,
        "   ",
        "with\rreturn",
        None,
        "None",
    ]
    assert table.columns["label"] == ["a", "b", "a", None, "b", "a", "b", None, "NA"]
    assert list(table.columns) == ["column_1", "text", "label"]
    assert table.lines == (2, 4, 5, 6, 7, 8, 9, 10, 11)
    assert [i for i, p in enumerate(table.problems) if p] == [3, 7]
    assert table.problems[3] == "2 fields where the file has 3 columns"
    assert table.problems[7] == "4 fields where the file has 3 columns"
    assert table.facts["delimiter"] == "semicolon"
    assert "carriage returns inside the text" in notes(table)
    assert "column 1 has no name" in notes(table)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_with_the_others_inside(tmp_path: Path, delimiter: str) -> None:
    others = " ".join(c for c in ",;|" if c != delimiter)
    rows = [["text", "label"]] + [[f"a {others} {i}", str(i % 2)] for i in range(6)]
    table = read(write(tmp_path, "\n".join(delimiter.join(r) for r in rows)))
    assert table.columns["text"] == [f"a {others} {i}" for i in range(6)]
    assert table.columns["label"] == ["0", "1"] * 3


def test_delimiter_may_be_told(tmp_path: Path) -> None:
    path = write(tmp_path, "text:label\na,b:1\nc,d:0\n")
    assert list(read(path, delimiter=":").columns) == ["text", "label"]
    with pytest.raises(UserError, match="one character"):
        read(path, delimiter="::")


def test_excels_sep_line(tmp_path: Path) -> None:
    table = read(write(tmp_path, "sep=;\r\ntext;label\r\na, b;1\r\n"))
    assert table.columns == {"text": ["a, b"], "label": ["1"]}
    assert table.lines == (3,)


def test_unquoted_commas_make_long_rows_not_one_column(tmp_path: Path) -> None:
    table = read(write(tmp_path, "text,label\nwell, well, well,1\ngood,1\nbad,0\nso, so,0\nfine,1\n"))
    assert table.columns["label"] == [None, "1", "0", None, "1"]
    assert [p is not None for p in table.problems] == [True, False, False, True, False]


def test_trailing_delimiters_are_no_problem(tmp_path: Path) -> None:
    table = read(write(tmp_path, "text,label\na,1,\nb,0,,\nc,1\n"))
    assert table.columns["label"] == ["1", "0", "1"]
    assert set(table.problems) == {None}
    assert "2 rows end with empty extra fields" in notes(table)


def test_row_names_as_r_writes_them(tmp_path: Path) -> None:
    table = read(write(tmp_path, '"text","label"\n"1","good one","a"\n"2","bad one","b"\n'))
    assert table.columns == {"column_1": ["1", "2"], "text": ["good one", "bad one"], "label": ["a", "b"]}


def test_repeated_names(tmp_path: Path) -> None:
    table = read(write(tmp_path, "text,text,label\na,b,1\n"))
    assert table.columns == {"text": ["a"], "text_2": ["b"], "label": ["1"]}
    assert "occurs twice" in notes(table)


def test_carriage_return_alone_ends_lines(tmp_path: Path) -> None:
    table = read(write(tmp_path, 'text,label\ra,1\r"b\nc",0\r'))
    assert table.columns == {"text": ["a", "b\nc"], "label": ["1", "0"]}
    assert table.lines == (2, 3)


def test_mixed_newlines_inside_quotes_are_kept(tmp_path: Path) -> None:
    table = read(write(tmp_path, 'text,label\n"a\r\nb\rc\nd",1\ne,0\n'))
    assert table.columns["text"] == ["a\r\nb\rc\nd", "e"]


def test_doubled_carriage_returns(tmp_path: Path) -> None:
    table = read(write(tmp_path, "text,label\r\r\na,1\r\r\nb,0\r\r\n"))
    assert table.columns == {"text": ["a", "b"], "label": ["1", "0"]}


def test_unicode_line_separators_do_not_end_rows(tmp_path: Path) -> None:
    table = read(write(tmp_path, "text,label\na\u2028b\x0bc\x85d,1\ne,0\n"))
    assert table.columns["text"] == ["a\u2028b\x0bc\x85d", "e"]


def test_unbalanced_quotes_do_not_swallow_rows(tmp_path: Path) -> None:
    lines = [f"sentence number {i}\t{i % 2}" for i in range(40)]
    lines[3] = '"He never closed this one\t1'
    lines[20] = 'and he said "no" to it\t0'
    lines[30] = '"Quoted" at the start\t0'
    table = read(write(tmp_path, "\n".join(lines) + "\n", "f.txt"))
    assert len(table) == 40
    assert table.columns["text"][3] == '"He never closed this one'
    assert table.columns["text"][30] == '"Quoted" at the start'
    assert table.columns["label"] == [line.split("\t")[1] for line in lines]
    assert table.facts["quoting"] == "none"
    assert "ordinary characters" in notes(table)


def test_one_open_quote_among_properly_quoted_rows(tmp_path: Path) -> None:
    lines = [f'"well, sentence {i}",{i % 2}' for i in range(40)]
    lines[7] = '"never closed,1'
    table = read(write(tmp_path, "text,label\n" + "\n".join(lines) + "\n"))
    assert len(table) == 40
    assert table.columns["text"][7:9] == ['"never closed', "well, sentence 8"]
    assert table.lines[7:9] == (9, 10)
    assert "never closed (line 9)" in notes(table)


def test_embedded_newlines_stay_when_quoting_is_right(tmp_path: Path) -> None:
    lines = [f'"first {i}, yes\nsecond {i}, no\n\nfourth",{"ab"[i % 2]}' for i in range(30)]
    table = read(write(tmp_path, "text,label\n" + "\n".join(lines) + "\n"))
    assert len(table) == 30
    assert table.columns["text"][2] == "first 2, yes\nsecond 2, no\n\nfourth"
    assert table.lines[:3] == (2, 6, 10)


def test_backslash_escaped_quotes(tmp_path: Path) -> None:
    lines = [f'"he said \\"no, {i}\\", twice",{i % 2}' for i in range(10)]
    table = read(write(tmp_path, "text,label\n" + "\n".join(lines) + "\n"))
    assert table.columns["text"][0] == 'he said "no, 0", twice'
    assert table.facts["quoting"] == "backslash"


def test_space_after_the_delimiter(tmp_path: Path) -> None:
    lines = [f'"{i % 2}", "well, text {i}"' for i in range(10)]
    table = read(write(tmp_path, "label, text\n" + "\n".join(lines) + "\n"))
    assert table.columns["text"][1] == "well, text 1"


def test_blank_lines_are_counted_not_rows(tmp_path: Path) -> None:
    table = read(write(tmp_path, "text,label\na,1\n\nb,0\n\n"))
    assert table.lines == (2, 4)
    assert table.facts["blank_lines"] == 2


def test_very_long_field(tmp_path: Path) -> None:
    table = read(write(tmp_path, f'text,label\n"{"x " * 200_000}",1\n'))
    assert len(str(table.columns["text"][0])) == 400_000


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("Crust is not good.\t0\nLoved it.\t1\nGreat stuff\t1\nHm\t0\n", ["text", "label"]),
        (
            "1\t2.25\tan odd film it was\n2\t-0.5\tnot so good a film\n3\t1.0\tquite all right\n",
            ["column_1", "column_2", "text"],
        ),
        (
            "positive,I loved it so\nnegative,I hated it so\npositive,A fine film\npositive,What fun\nnegative,Hm no\n",
            ["label", "text"],
        ),
        ("A whole sentence stands in the first line of this file.\nAnd another.\n", ["text"]),
    ],
)
def test_files_without_header(tmp_path: Path, content: str, names: list[str]) -> None:
    table = read(write(tmp_path, content, "f.txt"))
    assert list(table.columns) == names
    assert table.lines[0] == 1
    assert len(table) == content.count("\n")
    assert "first line looks like data" in notes(table)


@pytest.mark.parametrize(
    "content",
    [
        "text,label\na,text\nb,label\n",
        ",0,1\n0,good film,5\n1,bad film,3\n",
        "country,2019,2020\nA,1,2\nB,3,4\n",
        "body,sent\nso good,pos\nso bad,neg\n",
        "label\na\nb\n",
        "foo,bar\n1,2\n3,4\n",
    ],
)
def test_a_header_is_not_taken_for_data(tmp_path: Path, content: str) -> None:
    table = read(write(tmp_path, content))
    assert len(table) == 2
    assert table.facts["header"] is True


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "f.csv", r"is empty \(0 bytes\)"),
        (b"  \n \n", "f.csv", "is empty"),
        (b"\xef\xbb\xbf", "f.csv", "is empty"),
        (b"text,label\n", "f.csv", r"has a header \(text, label\) but no rows"),
        (b"id,text,label,more\n1,a,b\n2,c,d\n", "f.csv", "the header has 4 names but the rows have 3 fields"),
        (b"PK\x03\x04....xl/workbook.xml", "f.xlsx", "save the sheet as CSV"),
        (b"PK\x03\x04....xl/workbook.xml", "f.csv", "save the sheet as CSV"),
        (b"PK\x03\x04....data.csv", "f.zip", "zip archive; unpack it"),
        (b"%PDF-1.7", "f.csv", "is a PDF"),
        (b"PAR1 and then nothing", "f.parquet", "damaged Parquet"),
        (b"\x1f\x8b\x08broken", "f.csv.gz", "damaged gzip"),
        (bytes(range(256)) * 20, "f.csv", "binary data"),
        (b'{"a": 1,', "f.json", "not valid JSON"),
        (b"[1, 2]", "f.json", "row 1 of .* is a int"),
        (b"[" * 100_000, "f.json", "nested too deeply|not valid JSON"),
    ],
)
def test_refusals(tmp_path: Path, content: bytes, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, content, name))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    write(tmp_path, "text,label\na,1\n", "train.csv")
    with pytest.raises(UserError, match="did you mean .*train.csv"):
        read(tmp_path / "trian.csv")
    with pytest.raises(UserError, match="is a folder; give one of its files: train.csv"):
        read(tmp_path)
    with pytest.raises(UserError, match="does not exist either"):
        read(tmp_path / "no" / "x.csv")
    with pytest.raises(UserError, match="download the file first"):
        read("https://example.org/x.csv")
    with pytest.raises(UserError, match="is no file name; give a path, or a list of texts"):
        read("a long text " * 1000)


def test_json_lines(tmp_path: Path) -> None:
    content = '{"text": "a", "label": 1}\n\n{"text": "NA", "tags": ["x"]}\nnot json\n{"text": null, "label": NaN}\n'
    table = read(write(tmp_path, content, "f.csv"))
    assert table.columns == {
        "text": ["a", "NA", None, None],
        "label": [1, None, None, None],
        "tags": [None, ["x"], None, None],
    }
    assert table.lines == (1, 3, 4, 5)
    assert table.problems == (None, None, "not a JSON object", None)
    assert table.typed
    assert table.facts["format"] == "jsonl"


@pytest.mark.parametrize(
    "value",
    [
        [{"text": "a", "label": 1}, {"text": "b", "label": 0}],
        {"text": ["a", "b"], "label": [1, 0]},
        {"version": 2, "data": [{"text": "a", "label": 1}, {"text": "b", "label": 0}]},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json(tmp_path: Path, value: object, indent: int | None) -> None:
    table = read(write(tmp_path, json.dumps(value, indent=indent), "f.json"))
    assert table.columns == {"text": ["a", "b"], "label": [1, 0]}
    assert table.lines == (1, 2)
    assert table.typed


def test_json_lines_with_a_broken_first_line(tmp_path: Path) -> None:
    table = read(write(tmp_path, '{"text": "a", \n{"text": "b"}\n', "f.jsonl"))
    assert table.problems == ("not a JSON object", None)


def test_a_csv_that_begins_with_a_bracket(tmp_path: Path) -> None:
    table = read(write(tmp_path, "[id],text\n1,a b\n2,c d\n"))
    assert list(table.columns) == ["[id]", "text"]


def test_gzip(tmp_path: Path) -> None:
    table = read(write(tmp_path, gzip.compress(b"text,label\na,1\nb,0\n"), "f.csv.gz"))
    assert table.columns["label"] == ["1", "0"]
    assert table.facts["compression"] == "gzip"


def test_nothing_from_the_file_is_changed(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label\na,1\n")
    before = path.read_bytes()
    read(path)
    assert path.read_bytes() == before


def test_rows_are_in_order_at_scale(tmp_path: Path) -> None:
    body = "".join(f'{i},"text, number {i}",{"ab"[i % 2]}\n' for i in range(20_000))
    table = read(write(tmp_path, "id,text,label\n" + body))
    assert table.columns["id"] == [str(i) for i in range(20_000)]
    assert table.lines[-1] == 20_001


def test_broken_files_are_read_or_refused_never_worse(tmp_path: Path) -> None:
    """Two hundred mutilated files: whatever is read keeps its lines in order and its columns equally long."""
    rng = random.Random(0)
    base = b"id,text,label\n" + b"".join(b'%d,"some, text %d",%d\n' % (i, i, i % 2) for i in range(20))
    path = tmp_path / "f.csv"
    for _ in range(200):
        raw = bytearray(base)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(raw))
            raw[at : at + rng.randint(0, 3)] = rng.choice(
                [b'"', b"\r", b"\n", b",", b";", b"\x00", b"\xe9", b"\t", b'""', b"", b"\\"]
            )
        path.write_bytes(bytes(raw))
        try:
            table = read(path)
        except UserError:
            continue
        assert {len(cells) for cells in table.columns.values()} == {len(table)} == {len(table.problems)}
        assert list(table.lines) == sorted(set(table.lines))
        assert len(table) >= 15


def test_quotes_that_open_in_one_row_and_close_in_another_swallow_no_rows(tmp_path):
    # Nothing but numbers beside the text: the rows between the two quotation marks are known by their numbers.
    lines = [f"{i}_1\t{i / 7:.3f}\tplain text number {i}" for i in range(40)]
    lines[10] = '10_1\t0.5\t"All those sleek studs, hair full.'
    lines[17] = '17_1\t-0.25\tAll just waiting for a shower of it."'
    path = tmp_path / "snippets.txt"
    path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    table = read(path)
    assert len(table) == 40
    assert [t for t in table.problems if t] == []
    assert table.columns[list(table.columns)[-1]][17] == 'All just waiting for a shower of it."'
