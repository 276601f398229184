from __future__ import annotations

from collections.abc import Callable

from rich.console import Console

from acclimate.report import ReportData, summary

Make = Callable[..., ReportData]


def printed(data: ReportData, report: str | None = None, width: int = 140) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(summary(data, report), crop=False)
    return capture.get()


def test_summary_says_what_matters_in_order(example: ReportData) -> None:
    text = printed(example, "runs/x/report.html")
    parts = [
        example.verdict[:60],
        "lp_ft on minilm",
        "0.850 [0.819, 0.876]",
        "TF-IDF + linear",
        "+0.053 [+0.023, +0.083]",
        "better",
        "3,000 rows read = 2,972 kept + 28 dropped",
        "warning",
        "another label elsewhere",
        "runs/x/report.html",
        "acclimate predict runs/2026-11-25-reviews new.csv -o predictions.csv",
    ]
    place = 0
    for part in parts:
        place = text.index(part, place) + len(part)
    assert "one side of every split" not in text  # for information only


def test_markup_of_the_data_is_plain_text(make: Make) -> None:
    text = printed(make(verdict="[red]bold[/red] \x1b[31m", strategy="[b]"), "[link=x]r.html")
    assert "[red]bold[/red] \ufffd[31m" in text
    assert "[b] on minilm" in text and "[link=x]r.html" in text


def test_little_is_known() -> None:
    bare = ReportData(
        title="t", verdict="It works.", created="c", task="classify", metric="accuracy", strategy="knn", model_name="m"
    )
    lines = [line.rstrip() for line in printed(bare).splitlines() if line.strip()]
    assert lines[0] == "It works."
    assert lines[-1].split() == ["knn", "on", "m", "–", "–"]


def test_a_command_and_a_path_are_one_line_at_any_width(make: Make) -> None:
    command = "acclimate fit reviews.csv --label y --target-data tweets.csv --target-labels runs/x/label_these.csv " * 2
    told = f"Not decidable: label the 20 rows in runs/x/label_these.csv, then: {command.strip()}"
    data = make(next_steps=[{"text": "Fill in the column.", "command": command.strip()}], target_verdict=told)
    path = "runs/" + "long/" * 30 + "report.html"
    lines = printed(data, path, width=80).splitlines()
    assert lines[-1].strip() == command.strip()
    assert sum("--target-labels" in line for line in lines) == 1  # not wrapped within the verdict
    assert any(line.endswith(path) for line in lines)
    assert "then run the last line here" in " ".join(" ".join(lines).split())
    assert max(len(line) for line in lines if "fit reviews" not in line and path not in line) <= 80


def test_a_finding_names_the_file_that_it_is_about(make: Make) -> None:
    finding = {"kind": "duplicate", "severity": "warning", "message": "2 rows repeat", "count": 2, "lines": [3]}
    audits = [
        {"source": f"data/{name}.csv", "role": role, "read": 1, "dropped": {}, "findings": [finding]}
        for name, role in (("a", "train"), ("b", "target"), ("c", "target_labels"))
    ]
    text = printed(make(audits=audits))
    for whose in ("train data a.csv: 2 rows", "target data b.csv: 2 rows", "target labels c.csv: 2 rows"):
        assert whose in text
