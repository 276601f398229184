"""Methods on features beside skada's: the time TCA takes, and how near KLIEP comes to its optimum and to a known ratio.

Run: PYTHONPATH=src OMP_NUM_THREADS=1 python benchmarks/shallow_peers.py [tca] [kliep], in an interpreter that has skada
(0.6) and scikit-learn. Results go to benchmarks/results/shallow.json; shallow.py prints them with its tables.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from acclimate.shallow import Kliep, Tca
from acclimate.shallow.base import Scale, median_square, squared_distances
from acclimate.shallow.weights import WIDTHS, mixture_shares

RESULTS = Path(__file__).parent / "results" / "shallow.json"


def main() -> None:
    warnings.simplefilter("ignore")
    ways: dict[str, Callable[[], dict[str, Any]]] = {"tca": tca, "kliep": kliep}
    for name in sys.argv[1:] or ways:
        found = json.loads(RESULTS.read_text())
        found[name] = ways[name]()
        RESULTS.write_text(json.dumps(found, indent=0))
        print(name, json.dumps(found[name]))


class Skada(NamedTuple):
    """skada's KLIEP on columns scaled as ours are: it chooses among our widths, or has gamma 1, as it comes."""

    choose: bool

    def weights(self, both: np.ndarray, side: np.ndarray) -> np.ndarray:
        """Of the source rows."""
        from skada import KLIEPReweightAdapter

        scaled = Scale.of(both)(both)
        gammas = [float(1 / (2 * w**2 * median_square(scaled))) for w in WIDTHS]
        method = KLIEPReweightAdapter(gamma=gammas if self.choose else 1.0, random_state=0)
        where = np.where(side == 1, -2, 1)
        method.fit(scaled, sample_domain=where)
        return np.asarray(method.compute_weights(scaled, sample_domain=where)[side == 0])


def skada_kliep() -> dict[str, Skada]:
    """Both of them, or none where skada is not installed."""
    try:
        import skada  # noqa: F401
    except ImportError:
        return {}
    import sklearn

    sklearn.set_config(enable_metadata_routing=False)  # importing skada turns it on for all
    return {"skada KLIEP": Skada(True), "skada KLIEP, gamma 1": Skada(False)}


def kliep() -> dict[str, Any]:
    """p_s = N(0, 1), p_t = N(1, 1/4): the mean log w over target rows (more is better) and the weights' mean error."""
    from skada import KLIEPReweightAdapter

    rng = np.random.default_rng(0)
    both, side = (
        np.concatenate([rng.normal(size=1500), 0.5 * rng.normal(size=1000) + 1])[:, None],
        np.repeat([0, 1], [1500, 1000]),
    )
    source, target, gamma = both[:1500], both[1500:], 1 / (2 * 0.3**2)
    true = 2 * np.exp(-2 * (source[:, 0] - 1) ** 2 + source[:, 0] ** 2 / 2)
    theirs = KLIEPReweightAdapter(gamma=gamma, random_state=0).fit(both, sample_domain=np.where(side == 1, -2, 1))
    near, far = (np.exp(-gamma * squared_distances(rows, theirs.centers_)) for rows in (source, target))
    level = near.mean(0)
    alphas = {
        "skada": theirs.alpha_,
        "even": np.ones(100),
        "optimum": mixture_shares(np.log(far) - np.log(level)) / level,
    }
    found: dict[str, Any] = {n: round(float(np.log(far @ a / (level @ a)).mean()), 3) for n, a in alphas.items()}
    ours = Kliep().fit(both, domain=side).weights_[:1500]
    weights = {"skada": near @ theirs.alpha_, "ours": ours}
    return found | {f"error, {n}": round(float(np.abs(w / w.mean() - true).mean()), 3) for n, w in weights.items()}


def tca() -> dict[str, Any]:
    """CPU seconds on one thread, in turn, medians of five."""
    from skada import TransferComponentAnalysisAdapter

    rng = np.random.default_rng(0)
    found: dict[str, Any] = {"threads": os.environ.get("OMP_NUM_THREADS"), "load": round(os.getloadavg()[0], 1)}
    for n in (1600, 3200):
        x = rng.normal(size=(n, 384)) / np.sqrt(np.arange(1, 385))
        side = np.repeat([0, 1], n // 2)
        x[side == 1] += 0.1
        where = np.where(side == 1, -2, 1)
        ways: dict[str, Callable[[], Any]] = {
            "skada": lambda x=x, where=where: TransferComponentAnalysisAdapter(n_components=30).fit_transform(
                x, sample_domain=where
            ),
            "ours": lambda x=x, side=side: Tca().fit_transform(x, domain=side),
            "ours, exact": lambda x=x, side=side, n=n: Tca(landmarks=n).fit_transform(x, domain=side),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(5):
            for name, way in ways.items():
                start = time.process_time()
                way()
                times[name].append(time.process_time() - start)
        found[str(n)] = {k: round(float(np.median(v)), 3) for k, v in times.items()}
        found[str(n)]["ratio"] = round(float(np.median(np.array(times["skada"]) / np.array(times["ours"]))), 1)
    return found


if __name__ == "__main__":
    main()
