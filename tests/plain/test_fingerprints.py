"""Fingerprints as plain features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acclimate.data.molecules import fingerprints
from acclimate.plain import fit_plain, load, save

pytest.importorskip("rdkit")
INPUTS = ["CC(=O)Oc1ccccc1C(=O)O", "CCO", "C"]


def test_rows_are_fingerprints_of_length_one_and_survive_a_folder(tmp_path: Path) -> None:
    plain = fit_plain("molecule", INPUTS[:1], 10)
    assert plain is not None and (plain.width, plain.holds) == (2048, "")
    found = plain.transform(INPUTS)
    bits = fingerprints(INPUTS).toarray()
    assert found.toarray() == pytest.approx(bits / np.sqrt(bits.sum(1, keepdims=True)), abs=1e-15)
    save(plain, tmp_path)
    again = load(tmp_path)
    assert again == plain
    assert (again.transform(INPUTS) != found).nnz == 0  # type: ignore[union-attr]
    assert plain.transform([]).shape == (0, 2048)
