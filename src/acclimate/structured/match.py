"""Matching: pictures or sounds and texts in one space, so that either finds the other; and class names find inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from acclimate.data.account import Audit, why
from acclimate.data.columns import guess
from acclimate.data.findings import Finding, finding, rows_text
from acclimate.data.kinds import kind_of
from acclimate.data.labels import is_blank
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data, Table
from acclimate.errors import UserError, plural, unknown
from acclimate.metrics.base import mean_of
from acclimate.run import Run
from acclimate.strategies.tune import Tune
from acclimate.structured.answering import answers_to
from acclimate.structured.base import Asked, Baseline, Measure, New, State, Structured, StructuredNetwork, labels_of
from acclimate.structured.gate import accounted
from acclimate.structured.match_network import LOSSES, MatchNetwork, Ranked, Towers

_TEXTS = ("text", "caption", "title", "name", "description", "label")
_KEPT = 20_000  # texts that a model remembers to answer with
_AMONG = (1, 5, 10)


@dataclass(frozen=True)
class Match(Structured):
    """Each input with the text that belongs to it, among all texts; and back.

    Use when texts say what is seen or heard and there is no fixed list of classes; afterwards class names that were
    never trained on can be given (`model.choose`). Loss "infonce" for batches of a few hundred rows at most, "sigmoid"
    where batches are small. Texts stay as they are pretrained ("locked": Zhai et al. 2022, arXiv:2111.07991) unless
    text="tuned". Rows: a table with a column of paths and one of texts, or class folders (their names are the texts).
    """

    text_model: str = "minilm"
    text: str = "locked"  # or "tuned"
    loss: str = "infonce"  # or "sigmoid"
    width: int = 256  # of the common space

    name: ClassVar[str] = "match"
    noun: ClassVar[str] = "pair"
    metric: ClassVar[str] = "recall_at_1"
    model: ClassVar[str] = "mobilenetv2"
    strategies: ClassVar[Mapping[str, Tune | None]] = {
        "linear_probe": Tune(moves="head", batch_size=128, num_train_epochs=40, weight_decay=0.1),
        "partial": Tune(moves="top:3", batch_size=64, learning_rate=1e-4, num_train_epochs=20),
        "full": Tune(batch_size=64, learning_rate=1e-4, num_train_epochs=20),
    }
    parts: ClassVar[tuple[str, ...]] = ("group",)
    readings: ClassVar[tuple[str, ...]] = ("max_length", "seconds", "image_size", "truncation")
    candidates: ClassVar[tuple[str, ...]] = ("linear_probe", "partial")

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise unknown("loss of match", self.loss, LOSSES)
        if self.text not in ("locked", "tuned"):
            raise unknown("text of match", self.text, ("locked", "tuned"))
        if self.width < 1:
            raise UserError(f"width {self.width!r} must be 1 or more")

    def read(self, source: Any, asked: Asked, role: str, state: State | None = None) -> tuple[Data, Audit]:
        """Pairs; rows without a text, and inputs that cannot be read, are counted with their lines."""
        table = read(source)
        columns, text = columns_of(table, asked.columns)
        if text is None:
            raise UserError(
                f"{table.source} has no column of texts; name it with --text-column (its columns: "
                f"{', '.join(table.columns)})"
            )
        seen = kind_of(columns).read(table, columns, asked.progress)
        cells = table.columns[text]
        reasons = [r or ("no_text" if is_blank(c) else None) for r, c in zip(seen.reasons, cells, strict=True)]
        kept = [i for i, reason in enumerate(reasons) if reason is None]
        group = table.columns.get(asked.columns.group or "")
        if group is None and asked.columns.group is not None and role == "train":
            raise UserError(
                f"{table.source} has no column {asked.columns.group!r} of groups; its columns: "
                f"{', '.join(table.columns)}"
            )
        data = Data(
            inputs=tuple(seen.inputs[i] for i in kept),
            labels=tuple(str(cells[i]).strip() for i in kept),
            lines=tuple(table.lines[i] for i in kept),
            groups=None if group is None else tuple(str(group[i]) for i in kept),
            source=table.source,
            kind=kind_of(columns).name,
        )
        return data, accounted(self, table, role, reasons, _findings(data, asked.private), {})

    def read_new(self, source: Any, asked: Asked) -> New:
        """Inputs to find texts for; texts in the source are not read."""
        table = read(source, may_be_empty=True)
        columns, _ = columns_of(table, asked.columns, texts=False)
        seen = kind_of(columns).read(table, columns, asked.progress)
        problems = tuple(why(r or "") for r in seen.reasons)
        return New(table, seen.inputs, problems)

    def given(self, inputs: Any) -> list[Any] | None:
        """Paths of files, or what Python holds of pictures and sounds."""
        if isinstance(inputs, (str, Path)):
            is_table = Path(inputs).suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet")
            return [inputs] if Path(inputs).is_file() and not is_table else None
        return super().given(inputs)

    def learn(self, train: Data) -> State:
        """The texts to answer with, and the kind of input."""
        texts = list(dict.fromkeys(labels_of(train)))
        if len(texts) < 2:
            raise UserError("all rows have the same text: there is nothing to tell apart")
        return {"texts": texts[:_KEPT], "kind": train.kind}

    def network(self, model: str, state: State, reading: Mapping[str, Any]) -> StructuredNetwork:
        """Both backbones with projections."""
        from acclimate.backbones import load

        folder, sounds = Path(model), state["kind"] == "audio"
        if (folder / "towers.json").is_file():
            names = str(folder / "inner"), str(folder / "text")
        else:
            names = "whisper-tiny" if sounds and model == self.model else model, self.text_model
        cut, seconds, size = (reading.get(name) for name in ("truncation", "seconds", "image_size"))
        inner = load(names[0], seconds=seconds, image_size=size, truncation=cut if sounds else None)
        text = load(names[1], max_length=reading.get("max_length"), truncation=None if sounds else cut)
        if inner.modality != state["kind"]:
            raise UserError(f"{model!r} reads {inner.modality}, and the inputs here are {state['kind']}")
        if text.modality != "text":
            raise UserError(f"text_model {self.text_model!r} reads {text.modality}; give a model of texts")
        return MatchNetwork(Towers(inner, text, locked=self.text == "locked"), self.width, self.loss)

    def baselines(self, train: Data, state: State, run: Run) -> dict[str, Callable[[], Baseline]]:
        """The text of the training input whose plain features (pixels, spectra) are nearest, and texts like it."""
        return {f"nearest_{kind_of(train).baseline}": partial(Nearest, train)}

    def judged(self, network: StructuredNetwork, data: Data, run: Run, label: str = "judging") -> list[Any]:
        """The places of the right text among all texts of these rows, and of the right input among all inputs."""
        assert isinstance(network, MatchNetwork)
        ours = torch.tensor(answers_to(network, data.inputs, run, label), dtype=torch.float64)
        texts = list(dict.fromkeys(labels_of(data)))
        with torch.inference_mode():
            theirs = network.vectors_of(texts).double()
        return ranked(ours @ theirs.T, texts, labels_of(data))

    def judged_by(self, baseline: Baseline, data: Data) -> list[Any]:
        """The same of what does without transfer."""
        assert isinstance(baseline, Nearest)
        texts = list(dict.fromkeys(labels_of(data)))
        return ranked(baseline.similar(data.inputs, texts), texts, labels_of(data))

    def told(self, network: StructuredNetwork, inputs: Sequence[Any], state: State, run: Run) -> list[Any]:
        """The text of the training rows that is nearest to each input."""
        return nearest(network, inputs, state["texts"], run)

    def measures(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> dict[str, Measure]:
        """Recall among the first 1, 5, 10 texts of all different ones here, and 1/place, both ways."""
        place = np.array([a.place for a in answers], float)
        back = np.array([a.back for a in answers], float)
        found = {f"recall_at_{k}": Measure(mean_of((place <= k).astype(float))) for k in _AMONG}
        found["reciprocal_rank"] = Measure(mean_of(1 / place))
        return {**found, **{f"back_recall_at_{k}": Measure(mean_of((back <= k).astype(float))) for k in _AMONG}}

    def notes(self, truth: Sequence[Any], answers: Sequence[Any], state: State) -> tuple[str, ...]:
        """Among how many texts."""
        texts = len(set(truth))
        if not texts:
            return ()
        new = len(set(truth) - set(state["texts"]))
        among = f"each input is matched with {plural(texts, 'text')}, of which {new:,} were not in training"
        return (f"{among}; chance {1 / texts:.3g}",)

    def errors(self, truth: Sequence[Any], answers: Sequence[Any]) -> list[float]:
        """How many wrong texts come before the right one."""
        return [float(a.place - 1) for a in answers]

    def keys(self, inputs: Sequence[Any]) -> list[str]:
        """By the bytes of the file."""
        from acclimate.keys import key_of

        return [key_of(one, "image").hex() for one in inputs]

    def columns(self, inputs: Sequence[Any], answers: Sequence[Any]) -> dict[str, list[Any]]:
        """The nearest text."""
        return {"text": [None if one is None else str(one) for one in answers]}

    def shown(self, inputs: Sequence[Any], truth: Sequence[Any], answers: Sequence[Any]) -> list[dict[str, Any]]:
        """The picture with the right text, its place, and the text that came first."""
        found = []
        for one, text, said in zip(inputs, truth, answers, strict=True):
            row = {"input": Path(str(one)).name, "truth": f"{text} (place {said.place})", "predicted": said.text}
            found.append(row | _thumbnail(one))
        return found


def columns_of(table: Table, asked: Columns, *, texts: bool = True) -> tuple[Columns, str | None]:
    """Which column holds the files, and which the texts, which need not be there unless `texts` are wanted."""
    named = [*asked.text, *asked.labels, *_TEXTS]
    text = next((n for n in named if n in table.columns), None)
    if texts and text is None and (asked.text or asked.labels):
        raise UserError(f"{table.source} has no column {named[0]!r}; its columns: {', '.join(table.columns)}")
    columns = replace(asked, text=(), label=text)
    found = guess(table, columns, "classify").columns
    if found.file is None:
        raise UserError(
            f"{table.source} has no column of pictures or sounds; name it with --file-column (its columns: "
            f"{', '.join(table.columns)})"
        )
    return found, text


def ranked(similar: Tensor, texts: Sequence[str], truth: Sequence[str]) -> list[Any]:
    """Places by similarity (n, m) of n inputs to m different texts; of equals the right one comes last.

    >>> ranked(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), ["a", "b"], ["a", "b"])
    [Ranked(text='a', place=1, back=1), Ranked(text='a', place=2, back=1)]
    """
    number = {text: i for i, text in enumerate(texts)}
    own = torch.tensor([number[text] for text in truth])
    right = similar[torch.arange(len(own)), own]
    others = torch.ones_like(similar, dtype=torch.bool)
    others[torch.arange(len(own)), own] = False
    place = 1 + ((similar >= right[:, None]) & others).sum(1)
    same = own[:, None] == torch.arange(len(texts))  # (n, m): whether input i has text j
    best = torch.where(same, similar, torch.full_like(similar, -torch.inf)).max(0).values  # of each text
    before = ((similar >= best) & ~same).sum(0)
    first = similar.argmax(1).tolist()
    return [Ranked(texts[first[i]], int(place[i]), 1 + int(before[own[i]])) for i in range(len(own))]


def nearest(network: StructuredNetwork, inputs: Sequence[Any], texts: Sequence[str], run: Run) -> list[str]:
    """For each input the one of these texts that is nearest: zero-shot classification where they are class names."""
    assert isinstance(network, MatchNetwork)
    if not inputs:
        return []
    ours = torch.tensor(answers_to(network, inputs, run, "predicting"), dtype=torch.float64)
    with torch.inference_mode():
        theirs = network.vectors_of(list(texts)).double()
    return [texts[i] for i in (ours @ theirs.T).argmax(1).tolist()]


class Nearest:
    """Similarity of a text to an input: that of the text (TF-IDF) to the text of the nearest training input, by plain
    features; without transfer."""

    def __init__(self, train: Data) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        from acclimate.plain import fit_plain

        plain = fit_plain(train.kind, train.inputs, 1)
        assert plain is not None
        self.plain = plain
        self.known = np.asarray(plain.transform(train.inputs).toarray(), float)
        self.words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
        self.texts = self.words.fit_transform(labels_of(train))
        self.train = labels_of(train)

    def _at(self, inputs: Sequence[Any]) -> Any:
        mine = np.asarray(self.plain.transform(list(inputs)).toarray(), float)
        square = (mine**2).sum(1)[:, None] + (self.known**2).sum(1) - 2 * mine @ self.known.T
        return square.argmin(1)

    def answers(self, inputs: Sequence[Any]) -> list[Any]:
        """The text of the nearest training input."""
        return [self.train[i] for i in self._at(inputs)]

    def similar(self, inputs: Sequence[Any], texts: Sequence[str]) -> Tensor:
        """(n, m)."""
        return torch.from_numpy((self.texts[self._at(inputs)] @ self.words.transform(texts).T).toarray())


def _findings(data: Data, private: bool) -> list[Finding]:
    counts: dict[str, int] = {}
    for text in labels_of(data):
        counts[text] = counts.get(text, 0) + 1
    shared = [line for text, line in zip(labels_of(data), data.lines, strict=True) if counts[text] > 1]
    found = list(kind_of(data).findings(data, private))
    if shared:
        message = f"{rows_text(len(shared))} share their text with another row; they are no negatives of each other"
        found.append(finding("shared_text", "info", message, len(shared), shared))
    return found


def _thumbnail(one: Any) -> dict[str, Any]:
    from acclimate.data.kinds import KINDS

    picture = KINDS["image"].picture
    try:
        return {} if picture is None else {"picture": picture(one)}
    except (UserError, OSError, ValueError):
        return {}
