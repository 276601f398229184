"""Tiny pretrained folders, each made once a session, and runs without a trace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).parent))  # `tiny_models` is shared by tests in several folders

if TYPE_CHECKING:
    from acclimate.backbones.text import TextBackbone


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model: bert, roberta, albert, distilbert, gpt2 or llama."""
    import tiny_models

    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tiny_models.write(kind, tmp_path_factory.mktemp("models") / kind)
        return made[kind]

    return get


@pytest.fixture(scope="session")
def shared_bert(folder_of: Callable[[str], Path]) -> TextBackbone:
    """A tiny BERT that no test may change."""
    from acclimate.backbones.base import Origin
    from acclimate.backbones.text_loading import load_text

    folder = folder_of("bert")
    return load_text(str(folder), Origin("tiny-bert"))


@pytest.fixture
def bert(shared_bert: TextBackbone) -> TextBackbone:
    """A tiny BERT of the test's own."""
    return shared_bert.clone()
