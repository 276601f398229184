from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from acclimate.catalogue import feature_folders as features

DAY = 86_400


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with features of two models, one of them under two fingerprints, and a fetched model."""
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path))
    monkeypatch.delenv("ACCLIMATE_CACHE_LIMIT", raising=False)
    for name, model, days in (("aaaa1111", "minilm", 0), ("bbbb2222", "minilm", 40), ("cccc3333", "x" * 60, 2)):
        folder = tmp_path / "features" / name
        features.opened(folder, {"model": model, "width": 384, "dtype": "fp16"})
        (folder / "p.keys.npy").write_bytes(bytes(128 + 16 * 1_234_567))
        os.utime(folder / "about.json", (time.time() - days * DAY - 60,) * 2)
    (tmp_path / "models" / "minilm").mkdir(parents=True)
    (tmp_path / "models" / "minilm" / "w").write_bytes(bytes(2_000_000))
    (tmp_path / "downloads" / "models-minilm").mkdir(parents=True)
    return tmp_path


def left(root: Path) -> list[str]:
    return sorted(f.name for f in features.folders(root / "features"))


def test_the_list_fits_80_columns(cli, root: Path) -> None:
    result = cli("cache")
    assert result.exit_code == 0, result.exception
    assert result.stdout.splitlines() == [
        "model                    fingerprint      rows    values     size  last used",
        "minilm                   aaaa1111    1,234,567  384 fp16  19.8 MB  just now",
        "xxxxxxxxxxxxxxxxxxxxxxx… cccc3333    1,234,567  384 fp16  19.8 MB  2 d ago",
        "minilm                   bbbb2222    1,234,567  384 fp16  19.8 MB  40 d ago",
        "",
        "features 59.3 MB of at most 10 GB; models 2 MB, datasets 0 kB, downloads 0 kB",
        f"In {root}; `acclimate cache clear` frees the features.",
    ]
    assert max(len(line) for line in result.stdout.splitlines()[:-1]) <= 80


def test_the_list_as_json(cli, root: Path) -> None:
    answer = json.loads(cli("cache", "--json").stdout)
    assert [row["fingerprint"] for row in answer["features"]] == ["aaaa1111", "cccc3333", "bbbb2222"]
    assert answer["features"][1]["name"] == "x" * 60
    assert (answer["limit"], answer["others"]["models"]) == (10**10, 2_000_000)
    wrong = cli("cache", "--json", "clear")
    assert (wrong.exit_code, wrong.stderr) == (
        2,
        "error: --json stands after the command: acclimate cache clear --json\n",
    )


def test_an_empty_cache_says_so(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE", str(tmp_path / "none"))
    assert cli("cache").stdout.splitlines()[0] == "no features are kept"
    assert cli("cache", "clear").stdout == "nothing to remove\n"
    assert cli("cache", "clear", "--json").stdout == "{}\n"


@pytest.mark.parametrize(
    ("arguments", "stay"),
    [
        ([], []),
        (["minilm"], ["cccc3333"]),
        (["bbbb2222"], ["aaaa1111", "cccc3333"]),
        (["bbbb", "cccc3333"], ["aaaa1111"]),
        (["--older-than", "30d"], ["aaaa1111", "cccc3333"]),
        (["minilm", "--older-than", "1d"], ["aaaa1111", "cccc3333"]),
    ],
)
def test_clear_removes_what_is_named(arguments: list[str], stay: list[str], cli, root: Path) -> None:
    result = cli("cache", "clear", *arguments, "--yes")
    assert result.exit_code == 0, result.exception
    assert left(root) == stay
    assert (root / "models" / "minilm" / "w").exists()


def test_clear_says_what_was_freed(cli, root: Path) -> None:
    assert cli("cache", "clear", "minilm", "--yes").stdout.splitlines() == [
        "minilm aaaa1111: 19.8 MB freed",
        "minilm bbbb2222: 19.8 MB freed",
        "39.5 MB freed together",
    ]
    freed = json.loads(cli("cache", "clear", "--yes", "--json").stdout)
    assert list(freed) == ["x" * 60 + " cccc3333"]
    assert freed["x" * 60 + " cccc3333"]["freed_bytes"] > 19_000_000


def test_clear_all_removes_models_and_downloads_too(cli, root: Path) -> None:
    result = cli("cache", "clear", "--all", "--yes")
    assert result.exit_code == 0, result.exception
    assert "models/minilm: 2 MB freed" in result.stdout.splitlines()
    assert left(root) == []
    assert [f.name for part in ("models", "downloads") for f in (root / part).glob("[!.]*")] == []
    wrong = cli("cache", "clear", "minilm", "--all", "--yes")
    assert (wrong.exit_code, wrong.stderr.split(";")[0]) == (2, "error: --all removes everything")


def test_clear_leaves_what_is_in_use(cli, root: Path) -> None:
    held = features.opened(root / "features" / "aaaa1111", {})
    result = cli("cache", "clear", "--yes")
    assert "minilm aaaa1111: in use by a process, left" in result.stdout.splitlines()
    assert left(root) == ["aaaa1111"]
    del held


def test_clear_asks_first(cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = cli("cache", "clear", "minilm")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: this would remove the features of minilm (39.5 MB); add --yes to remove it without being asked\n",
    )
    assert len(left(root)) == 3


@pytest.mark.parametrize(("answer", "stay"), [("n\n", 3), ("y\n", 1)])
def test_clear_asks_on_a_terminal(answer: str, stay: int, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from acclimate.cli import cache
    from acclimate.cli.main import app

    class Terminal:
        stdin = type("In", (), {"isatty": lambda self: True})()

    monkeypatch.setattr(cache, "sys", Terminal)
    result = CliRunner().invoke(app, ["cache", "clear", "minilm"], input=answer)
    assert "Remove the features of minilm (39.5 MB)?" in result.output
    assert len(left(root)) == stay


def test_an_unknown_name_is_told_before_anything_goes(cli, root: Path) -> None:
    result = cli("cache", "clear", "minilm", "minilmm", "--yes")
    assert result.exit_code == 2
    assert "unknown name in the cache 'minilmm'; did you mean 'minilm'?" in result.stderr
    assert len(left(root)) == 3


def test_the_list_loads_no_torch(root: Path) -> None:
    import subprocess

    code = "import sys; from acclimate.cli.main import app; app(['cache'], standalone_mode=False)"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_both_precisions_of_one_fingerprint_are_counted(cli, root: Path) -> None:
    for name in ("dddd4444eeee", "dddd4444eeee-fp16"):
        folder = root / "features" / name
        features.opened(folder, {"model": "two", "width": 384, "dtype": "fp32"})
        (folder / "p.keys.npy").write_bytes(bytes(1_000_000))
    lines = cli("cache", "clear", "two", "--yes").stdout.splitlines()
    assert {line.split(":")[0] for line in lines[:2]} == {"two dddd4444eeee", "two dddd4444eeee-fp16"}
    assert lines[2] == "2 MB freed together"


def test_more_than_the_limit_is_explained(cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCLIMATE_CACHE_LIMIT", "20MB")
    lines = cli("cache").stdout.splitlines()
    at = lines.index("features 59.3 MB of at most 20 MB; models 2 MB, datasets 0 kB, downloads 0 kB")
    assert (
        lines[at + 1]
        == "More than the limit: the next run that adds features removes those that were used longest ago."
    )


def test_another_precision_is_listed_and_cleared_by_the_models_name(cli, root: Path) -> None:
    features.opened(root / "features" / "eeee5555", {"model": "minilm, int8", "width": 384, "dtype": "fp32"})
    assert any(line.startswith("minilm, int8 ") for line in cli("cache").stdout.splitlines())
    assert cli("cache", "clear", "minilm", "--yes").exit_code == 0
    assert left(root) == ["cccc3333"]


def test_a_limit_is_kept_for_later(cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = cli("cache", "--limit", "40MB").stdout.splitlines()
    at = lines.index("features 59.3 MB of at most 40 MB; models 2 MB, datasets 0 kB, downloads 0 kB")
    assert (
        lines[at + 1]
        == "More than the limit: the next run that adds features removes those that were used longest ago."
    )
    assert json.loads(cli("cache", "--json").stdout)["limit"] == 40_000_000
    wrong = cli("cache", "--limit", "40")
    assert wrong.exit_code == 2 and "--limit '40' is not a size; write 10GB" in wrong.stderr
    assert "--limit stands alone" in cli("cache", "--limit", "1GB", "clear", "--yes").stderr
    monkeypatch.setenv("ACCLIMATE_CACHE_LIMIT", "30MB")
    shown = cli("cache", "--limit", "0").stdout
    assert "of at most 30 MB" in shown
    assert "The limit was kept, but ACCLIMATE_CACHE_LIMIT=30MB comes before it." in shown
    monkeypatch.delenv("ACCLIMATE_CACHE_LIMIT")
    assert "features 59.3 MB; models" in cli("cache").stdout
