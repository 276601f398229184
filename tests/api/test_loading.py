"""The backbone that is loaded for the columns that there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from acclimate.api.loading import backbone_for
from acclimate.data.rows import Columns
from acclimate.errors import UserError

ONE, TWO = (Columns(label="y", text=text, kind="text") for text in (("a",), ("a", "b")))


def test_it_is_frozen_and_reads_pairs_as_the_columns_ask(folder_of: Callable[[str], Path]) -> None:
    folder = str(folder_of("bert"))
    single, pair = backbone_for(ONE, folder), backbone_for(TWO, folder)
    assert not pair.training and not any(p.requires_grad for p in pair.parameters())
    assert pair.width == 4 * single.width  # so that what is counted of the rows is counted as they will be read
    assert backbone_for(TWO, folder, pairs="joint").width == single.width


def test_what_does_not_fit_the_columns_is_refused(folder_of: Callable[[str], Path]) -> None:
    folder = str(folder_of("bert"))
    with pytest.raises(UserError, match="there are no two"):
        backbone_for(ONE, folder, pairs="apart")
    with pytest.raises(UserError, match="reads image, and the inputs here are texts"):
        backbone_for(ONE, "small-cnn:16")
