"""`acclimate demo`: the two honest halves of transfer, on real sentiment data with real pretrained weights.

With 128 labelled movie snippets the pretrained features win; with all labels, words alone catch up at home while the
pretrained features still win on other kinds of text. At the end the model is to be used on tweets: what adapting to
unlabelled ones gives, and what a handful of labelled ones.
"""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from acclimate import api
from acclimate.api import finish, runs
from acclimate.api.deciding import GENTLE, beside_labels, candidates
from acclimate.api.encoder_too import BY, moving
from acclimate.api.finish import Judged
from acclimate.api.model import Model
from acclimate.backbones import load as load_backbone
from acclimate.catalogue import cache, datasets
from acclimate.data.rows import Data
from acclimate.data.split import holdout
from acclimate.errors import plural
from acclimate.evaluate import Scores
from acclimate.features import Store
from acclimate.model import Predictor
from acclimate.progress import Progress
from acclimate.run import Run, pick_device
from acclimate.strategies import EVERY, Problem, Splits, Strategy, named
from acclimate.tasks import TASKS
from acclimate.validate import Verdict, decide
from acclimate.validate.verdict import ADAPT

CLEAR = 0.3  # snippets whose mean rating is nearer to 0 than this are left out: people disagreed on the sign
FEW = 128
MOST_TUNED = 1000  # rows for fine-tuning in the second half: more would take longer than a demonstration should
MOST_JUDGED = 1000  # rows of each domain that judge a fine-tuned model, which must encode every one of them anew
DOMAINS = {"movie": "movies", "tweets": "tweets", "amazon": "Amazon", "nyt": "NYT"}
SOURCE = 1600  # movie snippets that the last part learns from
LABELLED = (20, 50, 200)  # tweets
COLUMNS = ("tfidf", "linear_probe", "hybrid", "lp_ft")


@dataclass(frozen=True)
class Line:
    """One strategy on one domain."""

    labels: int
    strategy: str
    domain: str
    scores: Scores


@dataclass(frozen=True)
class Tweets:
    """What the last part found: the verdict, and (labelled tweets, strategy, scores) line by line."""

    movies: int
    unlabelled: int
    verdict: Verdict
    lines: list[tuple[str, str, Scores]]


def run(output_dir: str | None = None, quick: bool = False) -> None:
    """Fetch, fit, compare, report. Writes the data, both runs and a table to `output_dir`."""
    start = time.monotonic()
    progress = Progress(quiet=False)
    folder = Path(output_dir) if output_dir else Path("runs") / f"demo-{datetime.now():%Y-%m-%d-%H%M%S}"
    parts = _domains(quick)
    home = parts["movie"]
    train_at, test_at = holdout(home, "classify", share=0.25, seed=0)
    pool, test = home.take(train_at), home.take(test_at if not quick else test_at[:500])
    few = pool.take(_balanced(pool, FEW))
    away = {name: data for name, data in parts.items() if name != "movie"}
    _write_csv(folder / "data" / "movie-128.csv", few)
    _write_csv(folder / "data" / "movie-test.csv", test)
    limit = 60 if quick else 120
    progress.say(
        f"1 · acclimate fit with {FEW} labelled movie snippets, judged on {len(test):,} others (--time-limit {limit})"
    )
    model = api.fit(
        str(folder / "data" / "movie-128.csv"),
        label="label",
        test_data=str(folder / "data" / "movie-test.csv"),
        output_dir=folder / "run",
        time_limit=limit,
    )
    assert isinstance(model, Model)
    problem, run_ = _problem(few, progress)
    everything = [x for data in (pool, test, *away.values()) for x in data.inputs]
    progress.say(f"2 · the same strategies on four kinds of text ({len(everything):,} snippets pass the encoder once)")
    assert problem.store is not None
    problem.store.get(everything)
    columns = _columns(model.predictor.strategy, quick)
    lines = [line for s in columns for line in _judge(problem, s, few, test, away, run_)]
    progress.say(f"3 · and with all {len(pool):,} labelled movie snippets")
    for s in columns:
        rows = pool if EVERY[s].frozen else pool.take(np.arange(MOST_TUNED))
        lines += _judge(problem, s, rows, test, away, run_)
    progress.say("4 · and now you have 0, 20, 50, 200 labelled tweets")
    tweets = _tweets(problem, pool.take(np.arange(min(len(pool), SOURCE))), away["tweets"], run_, quick)
    _finish(model, lines, columns, tweets, folder, time.monotonic() - start)


def _tweets(problem: Problem, movies: Data, tweets: Data, run_: Run, quick: bool) -> Tweets:
    """Movies to tweets: the verdict without labels, then what each handful of labels brings; judged on other tweets."""
    half = len(tweets) // 2
    seen, judged_on = tweets.take(np.arange(half)), _clustered(tweets.take(np.arange(half, len(tweets))))
    movies, unlabelled = replace(movies, groups=None), replace(seen, labels=None, groups=None)
    found, rows = candidates(problem, movies, unlabelled, run_)
    verdict = decide(found, rows, gentle=GENTLE)

    def scores(strategy: str | Strategy, few: Data | None, target: Data | None) -> Scores:
        splits = Splits(movies, target=target, target_labelled=few)
        made = named(strategy)[1] if isinstance(strategy, str) else strategy
        fitted = made.fit(problem, splits, run_)
        judged = finish.judged_on(fitted, judged_on, run_, problem)
        return finish.scores_of(judged, problem.task, problem.decoder, "accuracy", 0)

    lines = [("0", "linear_probe", scores("linear_probe", None, None))]
    lines += [("0", name, scores(way, None, unlabelled)) for name, way in _without_labels(verdict, quick).items()]
    for n in LABELLED:
        few = replace(seen.take(_balanced(seen, n)), groups=None)
        lines.append((str(n), "last_layer", scores("last_layer", few, unlabelled)))
    return Tweets(len(movies), len(unlabelled), verdict, lines)


def _without_labels(verdict: Verdict, quick: bool) -> dict[str, str | Strategy]:
    """What adapts without labels: what the verdict leads with, and, where it adapts by that as `fit` does, what moves
    the encoder."""
    best = beside_labels(verdict)
    ways: dict[str, str | Strategy] = {best: best}
    if verdict.answer == ADAPT and verdict.name == GENTLE and not quick:
        ways[f"{BY} with {GENTLE}"] = moving()
    return ways


def _show(tweets: Tweets, console: Any) -> None:
    from rich.table import Table

    table = Table(
        title=f"accuracy on tweets; learned from {tweets.movies:,} movie snippets, {tweets.unlabelled:,} unlabelled "
        "tweets and so many labelled ones",
        title_justify="left", box=None,
    )  # fmt: skip
    for heading in ("labelled tweets", "strategy", "accuracy"):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "strategy" else "right")
    for labels, strategy, scores in tweets.lines:
        table.add_row(labels, strategy, _cell(scores))
    console.print(table)
    v = tweets.verdict
    console.print(f"Without a label the verdict on adapting is: {v.answer} ({v.why}).", highlight=False)
    best = max(tweets.lines[1:], key=lambda line: line[2].value or 0.0)
    gain = (best[2].value or 0.0) - (tweets.lines[0][2].value or 0.0)
    console.print(
        f"Best here: {best[1]} with {best[0]} labelled tweets, {gain:+.3f} against the movies alone. "
        "acclimate fit MOVIES.csv --label LABEL --target-data TWEETS.csv [--target-labels FEW.csv]", highlight=False,
    )  # fmt: skip


def _columns(chosen: str, quick: bool) -> tuple[str, ...]:
    """The strategies to show, among them the one that the run chose, which its verdict speaks of."""
    shown = COLUMNS[:3] if quick else COLUMNS
    return shown if chosen in shown else (*shown[:-1], chosen, shown[-1])


def _domains(quick: bool) -> dict[str, Data]:
    """The four domains: label = the sign of the mean valence where it exceeds 0.3; group = the source document."""
    source = datasets.pull("vader", progress=lambda line: print(line, file=sys.stderr))
    found = {}
    for name in DOMAINS:
        with open(source / f"{name}.csv", encoding="utf-8", newline="") as file:
            rows = [r for r in csv.DictReader(file) if abs(float(r["valence"])) > CLEAR and r["text"].strip()]
        order = np.random.default_rng(0).permutation(len(rows))
        rows = [rows[i] for i in order[: 1200 if quick else len(rows)]]
        found[name] = Data(
            inputs=tuple(r["text"] for r in rows),
            labels=tuple("positive" if float(r["valence"]) > 0 else "negative" for r in rows),
            groups=tuple(r["document"] for r in rows),
            source=name,
        )
    return found


def _balanced(data: Data, n: int) -> np.ndarray[Any, Any]:
    """The first n/2 rows of each class."""
    assert data.labels is not None
    of = {c: [i for i, y in enumerate(data.labels) if y == c][: n // 2] for c in sorted(set(data.labels), key=str)}
    return np.array(sorted(i for rows in of.values() for i in rows))


def _write_csv(path: Path, data: Data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(data.inputs, data.labels or (), strict=True))


def _problem(train: Data, progress: Progress) -> tuple[Problem, Run]:
    run_ = Run(device=pick_device(), cache=cache.features(), progress=progress)
    backbone = load_backbone("minilm").requires_grad_(False)
    task = TASKS["classify"]
    decoder = replace(task.decoder(train.labels or (), "str"), positive="positive")
    return Problem(task, decoder, backbone, Store(backbone, run_)), run_


def _judge(problem: Problem, strategy: str, train: Data, test: Data, away: dict[str, Data], run_: Run) -> list[Line]:
    """Fit on movie snippets alone; judge on held-out ones and on the three other domains."""
    # Fewer passes than the default, whose last ones change little: this is to be watched.
    settings = {"num_train_epochs": 10 if len(train) <= FEW else 3} if strategy == "lp_ft" else None
    fitted: Predictor = named(strategy, settings)[1].fit(problem, Splits(replace(train, groups=None)), run_)
    lines = []
    most = None if EVERY[strategy].frozen else MOST_JUDGED
    for name, data in {"movie": test, **away}.items():
        data = data.take(np.arange(min(len(data), most or len(data))))  # the rows are in random order
        judged: Judged = finish.judged_on(fitted, _clustered(data), run_, problem)
        lines.append(
            Line(len(train), strategy, name, finish.scores_of(judged, problem.task, problem.decoder, "accuracy", 0))
        )
    return lines


def _clustered(data: Data) -> Data:
    """Rows of one document belong together in the intervals; where each row is its own document, they do not."""
    return data if data.groups is not None and len(set(data.groups)) < len(data) else replace(data, groups=None)


def _finish(
    model: Model, lines: list[Line], columns: tuple[str, ...], tweets: Tweets, folder: Path, seconds: float
) -> None:
    """The table on the screen and in the report, and what to type next."""
    from rich.console import Console
    from rich.table import Table

    console, tuned = Console(), [name for name in columns if not EVERY[name].frozen]
    table = Table(
        title="accuracy ± half its 95 % interval; learned from movie snippets alone",
        title_justify="left",
        caption=f"judged on {plural(MOST_JUDGED, 'row')} of each kind: {' and '.join(tuned)}; the others on all of them"
        if tuned
        else None,
        caption_justify="left",
        box=None,
    )
    for heading in ("labels", "strategy", *DOMAINS.values()):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "strategy" else "right")
    sizes = sorted({(line.labels, line.strategy) for line in lines}, key=lambda k: (k[0] > FEW, columns.index(k[1])))
    by_key = {(line.labels, line.strategy, line.domain): line.scores for line in lines}
    for labels, strategy in sizes:
        cells = [_cell(by_key[labels, strategy, d]) for d in DOMAINS]
        table.add_row(f"{labels:,}", strategy, *cells, end_section=(labels, strategy) == (FEW, columns[-1]))
    console.print(table)
    assert model.report_data is not None and model.run_dir is not None
    domains = [_domain(name, by_key, sizes, model) for name in DOMAINS]
    data = replace(model.report_data, domains=domains)
    shown = Model(model.predictor, model.columns, run_dir=model.run_dir, scores=model.scores, report_data=data)
    runs.write_json(model.run_dir / "report.json", data.to_json())
    shown.report(model.run_dir / "report.html")
    shown.report(model.run_dir / "report.md")
    console.print(f"\n{model!r}", highlight=False)
    console.print(_reading(by_key, columns), highlight=False)
    console.print()
    _show(tweets, console)
    console.print(f"\n{seconds:.0f} s. Report: {model.run_dir}/report.html", highlight=False, soft_wrap=True)
    console.print("Now your own:  acclimate fit YOUR.csv --label LABEL", highlight=False)


def _cell(scores: Scores) -> str:
    e = scores.estimates["accuracy"]
    interval = "" if e.low is None or e.high is None else f" ±{(e.high - e.low) / 2:.3f}"
    return f"{e.value:.3f}{interval}"


def _domain(name: str, by_key: dict[Any, Scores], sizes: list[tuple[int, str]], model: Model) -> dict[str, Any]:
    """The rows of one domain, the run's own model first."""
    own = (FEW, model.predictor.strategy)
    rows = []
    for labels, strategy in sorted(sizes, key=lambda size: size != own):
        estimate = by_key[labels, strategy, name].estimates["accuracy"].to_json()
        rows.append({**estimate, "name": f"{strategy}, {labels:,} labels", "difference": None})
    return {"name": DOMAINS[name], "rows": rows}


def _reading(by_key: dict[Any, Scores], columns: tuple[str, ...]) -> str:
    """What the table says, computed from it."""
    few = {s: by_key[FEW, s, "movie"].value or 0.0 for s in columns if (FEW, s, "movie") in by_key}
    many = {k[1]: v.value or 0.0 for k, v in by_key.items() if k[0] != FEW and k[2] == "movie"}
    tweets = {k[1]: v.value or 0.0 for k, v in by_key.items() if k[0] != FEW and k[2] == "tweets"}
    best_few = max((s for s in few if s != "tfidf"), key=few.__getitem__)
    best_away = max((s for s in tweets if s != "tfidf"), key=tweets.__getitem__)
    home = "catches up with" if many["tfidf"] < many["linear_probe"] else "overtakes"
    gap = abs(many["tfidf"] - many["linear_probe"])
    if many["tfidf"] < many["linear_probe"] and gap > 0.02:
        home = "still trails"
    return (
        f"With {FEW} labels {best_few} gets {few[best_few]:.2f} of the movie snippets right, TF-IDF (which knows no "
        f"pretrained model) {few['tfidf']:.2f}. With all labels TF-IDF {home} linear_probe on movies "
        f"({many['tfidf']:.2f} and {many['linear_probe']:.2f}); on tweets, of which none was seen, {best_away} gets "
        f"{tweets[best_away]:.2f} right and TF-IDF {tweets['tfidf']:.2f}."
    )
