"""Molecules in SMILES, by rdkit: one spelling for each, what is wrong with a bad one, scaffolds, bits, drawings.

rdkit comes with the extra `molecules`; nothing here imports it before it is used.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from acclimate.errors import UserError

SYNTAX, VALENCE = "bad_syntax", "bad_valence"  # reasons of the gate
RADIUS, BITS = 2, 2048
_SIZE = (200, 140)  # of a drawing, in pixels


class Smiles(str):
    """A molecule in its canonical spelling; `written` as the user has it. Salts and stereo are part of both."""

    written: str

    def __new__(cls, canonical: str, written: str = "") -> Smiles:
        """`written` is the canonical spelling where none is given."""
        one = super().__new__(cls, canonical)
        one.written = written or canonical
        return one

    def __reduce__(self) -> tuple[type[Smiles], tuple[str, str]]:
        return Smiles, (str(self), self.written)


class Parsed(NamedTuple):
    """A molecule, or the reason of the gate why it is none."""

    smiles: Smiles | None
    problem: str | None


def available() -> bool:
    """Whether rdkit is installed."""
    return importlib.util.find_spec("rdkit") is not None


def parse(written: str) -> Parsed:
    """The molecule of one SMILES text: OCC is CCO, C1CC is bad syntax, C(C)(C)(C)(C)C has a carbon with five bonds.

    What is kept can be read again in its canonical spelling.
    """
    text = written.strip()
    if len(text.split()) != 1:  # rdkit would take what follows a space for a name
        return Parsed(None, SYNTAX)
    chem = _rdkit()
    with _silent():
        molecule = chem.MolFromSmiles(text)
        if molecule is None:
            return Parsed(None, SYNTAX if chem.MolFromSmiles(text, sanitize=False) is None else VALENCE)
        canonical = chem.MolToSmiles(molecule)
        again = chem.MolFromSmiles(canonical) is not None
    return Parsed(Smiles(canonical if again else text, text), None)


def scaffold(smiles: str) -> str:
    """Rings and what links them (Bemis & Murcko 1996, J. Med. Chem. 39), without stereo; "" where there is no ring."""
    _rdkit()
    from rdkit.Chem.Scaffolds import MurckoScaffold

    reduced: Any = MurckoScaffold.MurckoScaffoldSmiles
    with _silent():
        molecule = _molecule(smiles)
        if not molecule.GetRingInfo().NumRings():  # rdkit takes hours to strip a chain of thousands of atoms
            return ""
        return str(reduced(mol=molecule, includeChirality=False))


def scaffolds(inputs: Sequence[str]) -> tuple[str, ...]:
    """One group a molecule: its scaffold, or the molecule itself where it has no ring."""
    return tuple(scaffold(one) or f"no ring: {one}" for one in inputs)


def fingerprints(inputs: Sequence[str], radius: int = RADIUS, bits: int = BITS) -> Any:
    """Morgan fingerprints, a scipy CSR matrix (n, bits) of zeros and ones.

    Bit h(e) mod b is set for every environment e of up to `radius` bonds around an atom. Rogers & Hahn 2010, J. Chem.
    Inf. Model. 50.
    """
    _rdkit()
    from rdkit.Chem import rdFingerprintGenerator
    from scipy.sparse import csr_matrix

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
    with _silent():
        found = [np.array(generator.GetFingerprint(_molecule(one)).GetOnBits(), np.int64) for one in inputs]
    starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum([len(row) for row in found])]).astype(np.int64)
    at = np.concatenate([*found, np.zeros(0, np.int64)])
    return csr_matrix((np.ones(len(at)), at, starts), shape=(len(inputs), bits))


def drawing(smiles: str) -> str:
    """The molecule as SVG."""
    _rdkit()
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas = rdMolDraw2D.MolDraw2DSVG(*_SIZE)
    with _silent():
        rdMolDraw2D.PrepareAndDrawMolecule(canvas, _molecule(smiles))
        canvas.FinishDrawing()
        return str(canvas.GetDrawingText()).partition("?>")[2].strip()


def _molecule(smiles: str) -> Any:
    molecule = _rdkit().MolFromSmiles(str(smiles))
    if molecule is None:
        raise UserError(f"{str(smiles)[:60]!r} is no molecule that rdkit can read; give a valid SMILES")
    return molecule


def _silent() -> Any:
    """No word from rdkit while this is held: what it would print is told by the gate."""
    from rdkit import rdBase

    return rdBase.BlockLogs()


def _rdkit() -> Any:
    try:
        from rdkit import Chem
    except ImportError:
        raise UserError(
            "molecules are read by rdkit, which is not installed: pip install 'acclimate[molecules]' (to learn from "
            "SMILES as mere text, give --modality smiles)"
        ) from None
    return Chem
