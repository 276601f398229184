"""Molecules: what rdkit makes of SMILES, what the gate says of them, and what is said where rdkit is not there."""

from __future__ import annotations

import importlib.util
import pickle
import re
from typing import Any

import numpy as np
import pytest

from acclimate.data import molecules
from acclimate.data.audit import audit
from acclimate.data.columns import guess
from acclimate.data.kinds import kind_of
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data
from acclimate.data.split import folds, holdout
from acclimate.errors import UserError

needs_rdkit = pytest.mark.skipif(importlib.util.find_spec("rdkit") is None, reason="rdkit is not installed")
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
ROWS = ["CCO", "c1ccccc1C", "c1ccccc1CC", "CCN", "C1CCCCC1O", "C1CCCCC1N"]


NAMED = Columns(label="y", text=("smiles",))


def gate(smiles: list[Any], columns: Columns = NAMED, **settings: Any) -> Any:
    table = read({"smiles": smiles, "y": [i % 2 for i in range(len(smiles))]})
    found = guess(table, columns)
    return audit(table, found.columns, found.task, **settings)


@needs_rdkit
@pytest.mark.parametrize(
    ("written", "canonical", "problem"),
    [
        ("OCC", "CCO", None),
        (" C(C)O ", "CCO", None),
        ("[Na+].[Cl-]", "[Cl-].[Na+]", None),  # salts stay whole
        ("N[C@@H](C)C(=O)O", "C[C@H](N)C(=O)O", None),  # and so does stereo
        ("C1CC", None, "bad_syntax"),
        ("C(C", None, "bad_syntax"),
        ("CCO ethanol", None, "bad_syntax"),  # rdkit takes the second word for a name
        ("hello", None, "bad_syntax"),
        ("C(C)(C)(C)(C)C", None, "bad_valence"),
        ("c1cccc1", None, "bad_valence"),
    ],
)
def test_a_molecule_has_one_spelling_and_what_is_none_has_a_reason(
    written: str, canonical: str | None, problem: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    found = molecules.parse(written)
    assert (found.smiles, found.problem) == (canonical, problem)
    assert canonical is None or found.smiles.written == written.strip()  # type: ignore[union-attr]
    assert capfd.readouterr() == ("", "")  # rdkit would print each of them


@needs_rdkit
def test_the_log_of_rdkit_is_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    from rdkit import Chem

    molecules.parse("C1CC")
    Chem.MolFromSmiles("C1CC")
    assert "unclosed ring" in capfd.readouterr().err


@needs_rdkit
def test_spelling_survives_a_pickle_and_equals_its_text() -> None:
    one = molecules.parse("OCC").smiles
    assert one is not None
    again = pickle.loads(pickle.dumps(one))
    assert (again, again.written, type(again)) == ("CCO", "OCC", molecules.Smiles)


@needs_rdkit
def test_scaffolds_are_rings_and_what_links_them() -> None:
    assert molecules.scaffold(ASPIRIN) == "c1ccccc1"
    assert molecules.scaffold("c1ccccc1CCC1CCCCC1C") == "c1ccc(CCC2CCCCC2)cc1"
    assert molecules.scaffold("CCO") == ""
    assert molecules.scaffolds(["CCO", "CCN", "Cc1ccccc1"]) == ("no ring: CCO", "no ring: CCN", "c1ccccc1")


@needs_rdkit
def test_fingerprints_are_the_bits_that_rdkit_sets() -> None:
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator

    inputs = [ASPIRIN, "CCO", "[Na+].[Cl-]"]
    found = molecules.fingerprints(inputs)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    wanted = np.stack([np.array(list(generator.GetFingerprint(Chem.MolFromSmiles(s)))) for s in inputs])
    assert np.array_equal(found.toarray(), wanted)
    assert molecules.fingerprints([], bits=64).shape == (0, 64)
    with pytest.raises(UserError, match="'xyz' is no molecule that rdkit can read"):
        molecules.fingerprints(["xyz"])


@needs_rdkit
def test_a_drawing_is_svg_without_a_prolog() -> None:
    drawn = molecules.drawing(ASPIRIN)
    assert drawn.startswith("<svg") and drawn.endswith("</svg>")
    assert len(re.findall("<path", drawn)) > 10


@needs_rdkit
def test_the_gate_drops_what_is_no_molecule_and_finds_other_spellings() -> None:
    bad = ["C1CC", "C(C)(C)(C)(C)C", None]
    data, report = gate(["CCO", "OCC", "CCO", *bad, "[Na+].[Cl-]", "*CC"])
    assert report.dropped == {"bad_syntax": (4,), "bad_valence": (5,), "blank_input": (6,)}
    assert data.kind == "molecule" and data.inputs == ("CCO", "CCO", "CCO", "[Cl-].[Na+]", "*CC")
    assert data.clusters.tolist() == [0, 0, 0, 1, 2]
    found = {f.kind: f for f in report.findings}
    assert "in another spelling" in found["near_duplicate"].message and found["near_duplicate"].lines == (2,)
    assert found["duplicate"].lines == (3,)
    assert found["several_parts"].lines == (7,)
    assert found["any_atom"].lines == (8,)
    assert "no possible molecule (valence or aromaticity)" in found["bad_valence"].message
    assert found["blank_input"].message == "1 row dropped: no SMILES (blank or null)"
    with pytest.raises(UserError, match=r"1 row no SMILES \(syntax\) \(line 4\)"):
        gate(["CCO", "OCC", "CCO", *bad], on_bad="fail")


@needs_rdkit
def test_scaffolds_are_the_groups_unless_something_else_says_what_is_kept_apart() -> None:
    data, report = gate(ROWS * 10)
    assert len(set(data.groups)) == 4
    told = next(f for f in report.findings if f.kind == "split_by_scaffold")
    assert "4 for 60 rows (--split random lifts this)" in told.message
    for part in (holdout(data, "classify", seed=1), *folds(data, "classify", k=2)):
        sides = [{data.groups[i] for i in rows} for rows in part]
        assert not sides[0] & sides[1]
    assert gate(ROWS, split="random")[0].groups is None
    assert gate(ROWS, split="scaffold")[0].groups == data.groups[:6]
    grouped = Columns(label="y", text=("smiles",), group="y")
    assert gate(ROWS, replace_label(grouped))[0].groups == ("0", "1") * 3
    with pytest.raises(UserError, match="a split by scaffold and column 'y' both say what is kept apart"):
        gate(ROWS, replace_label(grouped), split="scaffold")
    with pytest.raises(UserError, match="for molecules that rdkit reads, and the inputs are texts"):
        gate(ROWS, Columns(label="y", text=("smiles",), kind="text"), split="scaffold")


def replace_label(columns: Columns) -> Columns:
    """The same without a label, which is then the group."""
    return Columns(text=columns.text, group=columns.group, kind="molecule")


@needs_rdkit
def test_what_python_gives_is_one_molecule_or_told() -> None:
    columns = Columns(text=("smiles",), kind="molecule")
    given = kind_of(columns).given
    assert given("OCC", columns, 0) == "CCO" and given(" ", columns, 0) is None and given(None, columns, 0) is None
    with pytest.raises(UserError, match=r"input 3 \('C1CC'\) is no SMILES"):
        given("C1CC", columns, 2)
    with pytest.raises(UserError, match="input 1 is float, not a SMILES text"):
        given(1.5, columns, 0)
    with pytest.raises(UserError, match="molecules are read from one column, and smiles and y are named"):
        gate(ROWS, Columns(text=("smiles", "y"), kind="molecule"))


@pytest.mark.parametrize(
    ("name", "cells", "settings", "kind"),
    [
        ("smiles", ROWS, {}, "molecule"),
        ("Canonical_SMILES", ROWS, {}, "molecule"),
        ("drug", ROWS, {"kind": "molecule", "text": ("drug",)}, "molecule"),
        ("drug", ROWS, {"text": ("drug",)}, "text"),
        ("smiles", ROWS, {"kind": "text"}, "text"),
        ("smiles", ["she smiles at me", "he smiles a lot", "what smiles do"] * 2, {}, "text"),
        ("smiles", [f"{one}>>{one}" for one in ROWS], {}, "text"),  # reactions
    ],
)
def test_molecules_are_told_by_name_and_cells(
    name: str, cells: list[str], settings: dict[str, Any], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there in (True, False):
        monkeypatch.setattr("acclimate.data.find_kind.available", lambda there=there: there)
        found = guess(read({name: cells, "y": [0, 1] * 3}), Columns(label="y", **settings))
        assert found.columns.text == (name,)
        told = "smiles" if kind == "molecule" and not there and "kind" not in settings else kind
        assert found.columns.kind == told
        assert any(reason.startswith("molecules from column") for reason in found.reasons) == (kind == "molecule")


def test_without_rdkit_smiles_are_text_and_the_gate_says_what_was_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acclimate.data.find_kind.available", lambda: False)
    data, report = gate(["CCO ", "CCO", "cco", "C1CC", None, "OCC"])
    assert data.kind == "smiles" and data.inputs == ("CCO", "CCO", "cco", "C1CC", "OCC")
    assert data.clusters.tolist() == [0, 0, 1, 2, 3]  # upper and lower case are different atoms
    assert data.groups is None and report.dropped == {"blank_input": (5,)}
    assert "no molecule was read by rdkit" in next(f for f in report.findings if f.kind == "unchecked").message


def test_a_model_of_molecules_says_that_it_needs_rdkit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rdkit", None)
    columns = Columns(label="y", text=("smiles",), kind="molecule")
    with pytest.raises(UserError, match=r"molecules are read by rdkit.*pip install 'acclimate\[molecules\]'"):
        kind_of(columns).given("CCO", columns, 0)
    with pytest.raises(UserError, match="give --modality smiles"):
        gate(ROWS, columns)


def test_rows_of_other_kinds_have_no_groups_of_their_own() -> None:
    assert kind_of(Data(("a",))).owners is None
