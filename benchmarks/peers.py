"""Adaptation without target labels on real pairs of domains: acclimate beside skada and pytorch-adapt, in one run.

Run: python benchmarks/peers.py [--data FOLDER] [--seeds S] [--pairs TEXT] [--ours] [--table]
FOLDER holds vader4, uci_sentences, fsdd and heart. The peers' rows are left out where they are not installed:
pip install skada "skorch==1.2.*" pytorch-adapt pytorch-metric-learning (skada 0.6.0 cannot fit with skorch 1.4).
A seed draws at most 1,600 source rows and halves the target: every method sees the rows of one half without labels and
is judged on the other half. "source" sees no target row, "target" learns from the labels of the first half. Peers use
their own defaults of every loss; networks are theirs to bring, so they get layers of 128 and 64 units on the same
standardised features, and on digits also our small network; Adam 1e-3, 30 passes, batches of 64 and 64. One thread;
seconds are processor time. Results are kept after every method, and a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from domains import Domain, Given, digits, drawn, heart, sentences, speakers
from intervals import half_width
from kept import Kept
from torch import nn

from acclimate.api.deciding import GENTLE, candidates
from acclimate.backbones.small import SmallCnn
from acclimate.data.rows import Data
from acclimate.features import Store
from acclimate.run import Run
from acclimate.strategies import ADAPTATIONS, Problem, Splits, named
from acclimate.strategies.base import Strategy
from acclimate.tasks import TASKS
from acclimate.validate import decide

RESULTS = Path(__file__).parent / "results" / "peers.json"
TEXTS = [("movie", "tweets"), ("movie", "products"), ("tweets", "NYT"), ("yelp", "imdb"), ("amazon", "yelp")]
SITES = [("Cleveland", "Hungary"), ("Cleveland", "VA Long Beach"), ("Cleveland", "Switzerland")]
FIXED = ("self_train", "mcc", "shot", "standardise", "coral", "linear_ot", "dann", "mmd")  # ours, whatever the pair
EPOCHS, BATCH, RATE = 30, 64, 1e-3
SCRATCH = {"learning_rate": RATE, "head_learning_rate": RATE, "batch_size": BATCH, "num_train_epochs": EPOCHS}
Rows = list[dict[str, Any]]
Method = Callable[[Domain, Domain, Domain, int], Any]  # source, half seen, half judged, seed -> classes of the last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pairs", default="", help="only pairs whose name holds this text")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--table", action="store_true", help="only print what is known")
    given = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(RESULTS)
    if not given.table:
        pairs = [p for p in every_pair(given.data) if given.pairs in p[0]]
        for seed in range(given.seeds):
            for name, source, target in pairs:
                run(name, drawn(source, target, seed), seed, kept, ours=given.ours)
    print(table(kept.rows))


def every_pair(folder: Path) -> Iterator[tuple[str, Domain, Domain]]:
    """Name, source, target."""
    known = digits()
    for a, b in (("digits", "MNIST"), ("MNIST", "digits")):
        yield f"{a} > {b}", known[a], known[b]
    for domains, pairs in ((heart(folder), SITES), (sentences(folder), TEXTS)):
        for a, b in pairs:
            yield f"{a} > {b}", domains[a], domains[b]
    people = speakers(folder)
    for name in people:
        others = [d for other, d in people.items() if other != name]
        source = Domain(np.concatenate([d.x for d in others]), np.concatenate([d.y for d in others]))
        yield f"five > {name}", source, people[name]


def run(pair: str, parts: tuple[Domain, Domain, Domain], seed: int, kept: Kept, *, ours: bool) -> None:
    """Every method that is not known yet, on one draw."""
    from sklearn.metrics import balanced_accuracy_score

    pictures = parts[0].x.ndim > 2
    methods = our_methods(pictures) | ({} if ours else skada_methods(pictures) | adapt_methods(pictures))
    for name, method in methods.items():
        key = {"pair": pair, "seed": seed, "method": name}
        if kept.has(key):
            continue
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                answers = np.asarray(method(*parts, seed))
            except Exception as error:
                if not kind_of(name):  # ours must not fail; that a peer does is a result
                    raise
                kept.add({**key, "error": f"{type(error).__name__}: {str(error)[:200]}"})
                continue
        truth = parts[2].y
        kept.add({
            **key, "accuracy": round(float((answers == truth).mean()), 4),
            "balanced": round(float(balanced_accuracy_score(truth, answers)), 4), "n": len(truth),
            "seconds": round(time.process_time() - start, 2),
        })  # fmt: skip


def our_methods(pictures: bool) -> dict[str, Method]:
    """By the strategies of acclimate, with their defaults."""

    def fitted(strategy: Strategy | None, *, labelled: bool = False) -> Method:
        def method(source: Domain, seen: Domain, rest: Domain, seed: int) -> Any:
            backbone = SmallCnn(seed=seed) if pictures else Given(source.x.shape[1])
            task, learn = TASKS["classify"], (seen if labelled else source).data()
            assert learn.labels is not None
            problem = Problem(task, task.decoder(learn.labels, "int"), backbone, Store(backbone, Run()))
            splits = Splits(learn) if labelled else Splits(learn, None, seen.data())
            way = strategy or picked(problem, learn, seen.data(), Run(seed=seed))
            model = way.fit(problem, splits, Run(seed=seed))
            logits = model.logits(list(rest.inputs()))
            return np.array(model.task.answers(model.task.decide(logits, model.decoder), model.decoder))

        return method

    if pictures:
        plain = named("full", dict(SCRATCH))[1]
        methods = {"source": plain, "consistency": ADAPTATIONS["consistency"]}
    else:
        plain = named("linear_probe")[1]
        methods = {"source": plain} | {name: ADAPTATIONS[name] for name in FIXED}
    found = {name: fitted(way) for name, way in methods.items()} | {"target": fitted(plain, labelled=True)}
    return found if pictures else {"picked": fitted(None)} | found


def picked(problem: Problem, learn: Data, target: Data, run: Run) -> Strategy:
    """What `acclimate fit --target-data` hands back: what the verdict says, without a label of the target."""
    made, rows = candidates(problem, learn, target, run)
    name = decide(made, rows, gentle=GENTLE).name
    return named("linear_probe" if name == made[0].name else name)[1]


class Net(nn.Module):
    """A peer's network: `body`, whose output is aligned, and `head`."""

    def __init__(self, body: nn.Module, classes: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(64, classes)

    def forward(self, x: Any, sample_weight: Any = None) -> Any:
        """Logits."""
        return self.head(self.body(x))


def bodies(pictures: bool) -> dict[str, Callable[[Domain, int], nn.Module]]:
    """Name of a network -> the network up to its 64 features."""

    def layers(source: Domain, seed: int) -> nn.Module:
        flat = int(np.prod(source.x.shape[1:]))
        return nn.Sequential(nn.Flatten(), nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())

    return {"": layers} | ({", our net": lambda source, seed: SmallCnn(seed=seed).model} if pictures else {})


def stacked(source: Domain, seen: Domain) -> tuple[Any, Any, Any]:
    """Inputs, labels (−1 on the target) and domains (1 and −1), as skada wants them."""
    x = np.concatenate([source.x, seen.x])
    y = np.concatenate([source.y, np.full(len(seen.y), -1)])
    return x, y.astype(np.int64), np.concatenate([np.ones(len(source.y), int), np.full(len(seen.y), -1)])


def skada_methods(pictures: bool) -> dict[str, Method]:
    """skada's quick maps before logistic regression, and its losses on a network."""
    try:
        import skada
        from skada import deep
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        return {}

    def shallow(adapter: Any) -> Method:
        def method(source: Domain, seen: Domain, rest: Domain, seed: int) -> Any:
            model = skada.make_da_pipeline(
                adapter(), LogisticRegression(max_iter=2000).set_fit_request(sample_weight=False)
            )
            x, y, domain = stacked(*(Domain(d.x.reshape(len(d.x), -1).astype(float), d.y) for d in (source, seen)))
            model.fit(x, y, sample_domain=domain)
            return model.predict(rest.x.reshape(len(rest.x), -1).astype(float))

        return method

    def network(loss: Any, body: Any) -> Method:
        def method(source: Domain, seen: Domain, rest: Domain, seed: int) -> Any:
            torch.manual_seed(seed)
            np.random.seed(seed)
            channel = (lambda x: x[:, None]) if pictures else (lambda x: x)
            more = {"num_features": 64} if loss.__name__ == "DANN" else {}
            module = Net(body(source, seed), int(source.y.max()) + 1)
            model = loss(
                module, layer_name="body", train_split=None, max_epochs=EPOCHS, batch_size=2 * BATCH, verbose=0,
                optimizer=torch.optim.Adam, lr=RATE, iterator_train__drop_last=True, **more,
            )  # fmt: skip
            x, y, domain = stacked(source, seen)
            model.fit(channel(x).astype(np.float32), y, sample_domain=domain)
            return model.predict(channel(rest.x).astype(np.float32), sample_domain=np.full(len(rest.y), -1))

        return method

    maps = {"CORAL": skada.CORALAdapter, "SubspaceAlignment": skada.SubspaceAlignmentAdapter,
            "LinearOT": skada.LinearOTMappingAdapter, "OTMapping": skada.OTMappingAdapter}  # fmt: skip
    losses = {"MCC": deep.MCC, "DeepCoral": deep.DeepCoral, "DANN": deep.DANN}
    return {f"skada {name}": shallow(adapter) for name, adapter in maps.items()} | {
        f"skada {name}{net}": network(loss, body)
        for net, body in bodies(pictures).items()
        for name, loss in losses.items()
    }


def adapt_methods(pictures: bool) -> dict[str, Method]:
    """pytorch-adapt's hooks."""
    try:
        from pytorch_adapt import hooks
        from pytorch_adapt.models import Discriminator
    except ImportError:
        return {}

    def network(kind: str, body: Any) -> Method:
        def method(source: Domain, seen: Domain, rest: Domain, seed: int) -> Any:
            torch.manual_seed(seed)
            net = Net(body(source, seed), int(source.y.max()) + 1).train()
            models = {"G": net.body, "C": net.head}
            if kind == "DANN":
                models["D"] = Discriminator(in_size=64, h=64)
            optimizers = [torch.optim.Adam(model.parameters(), lr=RATE) for model in models.values()]
            extra = {"MCC": hooks.MCCHook, "BNM": hooks.BNMHook}
            hook = hooks.DANNHook(optimizers) if kind == "DANN" else hooks.ClassifierHook(
                optimizers, post=[extra[kind]()]
            )  # fmt: skip
            ours, theirs, judged = (tensor(d, pictures) for d in (source, seen, rest))
            labels, rng = torch.from_numpy(source.y).long(), np.random.default_rng(seed)
            for _ in range(EPOCHS * (len(ours) // BATCH)):
                a, b = (rng.integers(0, len(part), BATCH) for part in (ours, theirs))
                hook({**models, "src_imgs": ours[a], "src_labels": labels[a], "target_imgs": theirs[b],
                      "src_domain": torch.zeros(BATCH), "target_domain": torch.ones(BATCH)})  # fmt: skip
            with torch.no_grad():
                return net.eval()(judged).argmax(1).numpy()

        return method

    return {
        f"pytorch-adapt {kind}{net}": network(kind, body)
        for net, body in bodies(pictures).items()
        for kind in ("MCC", "BNM", "DANN")
    }


def tensor(domain: Domain, pictures: bool) -> torch.Tensor:
    """Inputs, with a channel where they are pictures."""
    found = torch.from_numpy(domain.x)
    return found[:, None] if pictures else found


def table(found: Rows) -> str:
    """Means over seeds with the 95 % t interval; heart by balanced accuracy. Best peer: the best of its methods."""
    lines = [
        "| pair (seeds) | source | ours: picked without labels | ours: best fixed | skada: best | pytorch-adapt: best "
        "| target |",
        "|" + "---|" * 7,
    ]
    for pair in dict.fromkeys(r["pair"] for r in found):
        key = "balanced" if pair.startswith("Cleveland") else "accuracy"
        values: dict[str, list[float]] = {}
        for r in found:
            if r["pair"] == pair and key in r:
                values.setdefault(r["method"], []).append(r[key])
        seeds = len(values["source"])
        cells = [interval(values["source"]), interval(values["picked"]) if "picked" in values else ""]
        for part in ("", "skada ", "pytorch-adapt "):
            some = {n: v for n, v in values.items() if kind_of(n) == part and n not in ("source", "picked", "target")}
            best = max(some, key=lambda n: statistics.mean(some[n]), default="")
            cells.append(f"{best.removeprefix(part)} {interval(some[best])}" if best else "")
        cells.append(interval(values["target"]) if "target" in values else "")
        lines.append(f"| {pair} ({seeds}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def kind_of(method: str) -> str:
    """Whose method it is."""
    return next((part for part in ("skada ", "pytorch-adapt ") if method.startswith(part)), "")


def interval(values: list[float]) -> str:
    """Mean ± half the width of the interval."""
    mean = f"{statistics.mean(values):.3f}"
    if len(values) < 2:
        return mean
    return f"{mean}±{half_width(values):.3f}"


if __name__ == "__main__":
    main()
