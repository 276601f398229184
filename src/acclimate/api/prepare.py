"""From files to rows that passed the gate, split so that the rows which give the number stay apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from acclimate.api.reading import measure_with, pairs_told
from acclimate.backbones.base import Backbone
from acclimate.data import domains, label_cells
from acclimate.data.audit import Audit, audit, by_file, cross_check
from acclimate.data.columns import Guess, guess
from acclimate.data.findings import Finding, rows_text, verb
from acclimate.data.label_columns import classes_of
from acclimate.data.labels import is_blank, number
from acclimate.data.read import read
from acclimate.data.rows import Columns, Data, Input, Table
from acclimate.data.series_tables import gathered, refuse_uneven
from acclimate.data.split import folds, holdout
from acclimate.errors import UserError, plural, unknown
from acclimate.progress import Progress
from acclimate.run import Run

LABELS = "target_labels"  # the role of a few labelled rows from where the model will be used
SAMPLING = "sampling_weight"  # the column of label_these.csv that says how many target rows a row stands for
SPLITS = ("scaffold", "random")
FEW = 200  # rows below which the number comes from out-of-fold predictions


@dataclass(frozen=True)
class Gate:
    """How rows are read and judged."""

    on_bad: str = "skip"
    label_delimiter: str | None = None
    private: bool = False
    split: str | None = None  # "scaffold", "random", or what suits the kind of input

    def __post_init__(self) -> None:
        if self.on_bad not in ("skip", "fail"):
            raise UserError(f"on_bad must be 'skip' or 'fail', got {self.on_bad!r}")
        if self.split not in (None, *SPLITS):
            raise unknown("split", str(self.split), SPLITS)


@dataclass(frozen=True)
class Prepared:
    """Everything that fitting needs to know of the data."""

    columns: Columns
    task: str
    reasons: tuple[str, ...]
    train: Data  # rows to learn from, held-out ones excluded
    test: Data | None  # rows that give the number; None: out-of-fold predictions of `train` do
    valid: Data | None  # the user's own rows to choose by
    audits: tuple[Audit, ...]
    how: str  # one sentence: which rows give the number
    hashes: dict[str, str] = field(default_factory=dict)
    target: Data | None = None  # rows from where the model will be used, without labels
    labelled: Data | None = None  # a few rows from there with labels, to learn from

    @property
    def everything(self) -> list[Input]:
        """Every input of every part, for one pass of the backbone."""
        parts = (self.train, self.valid, self.test, self.target, self.labelled)
        return [x for part in parts if part is not None for x in part.inputs]


@dataclass(frozen=True)
class Sources:
    """What was read, before anything was judged: a wrong path or column is told before a model is loaded."""

    tables: dict[str, Table]  # train, and valid, test and target where given
    guessed: Guess


def gather(
    train: Any,
    columns: Columns,
    task: str | None,
    gate: Gate,
    valid: Any = None,
    test: Any = None,
    target: Any = None,
    target_labels: Any = None,
) -> Sources:
    """Read every source and infer columns and task from the training rows."""
    given = {"train": train, "valid": valid, "test": test, "target": target, LABELS: target_labels}
    tables = {role: gathered(read(source), columns) for role, source in given.items() if source is not None}
    table = tables["train"]
    guessed = guess(table, columns, task, gate.label_delimiter, private=gate.private)
    if guessed.columns.label is None:
        raise UserError(
            f"no label column was named or found in {table.source}; name it with --label ({', '.join(table.columns)})"
        )
    for role in ("valid", "test", LABELS):
        if role in tables:
            refuse_uneven(tables[role], guessed.columns.labels)
        lacking = [n for n in guessed.columns.labels if role in tables and n not in tables[role].columns]
        if lacking:
            raise UserError(
                f"{tables[role].source} has no column {lacking[0]!r}, so it cannot serve as {_called(role)}"
                f"; its columns: {', '.join(tables[role].columns)}"
            )
    if "target" in tables:
        has_inputs(tables["target"], guessed.columns)
    return Sources(tables, guessed)


def _called(role: str) -> str:
    return "target labels" if role == LABELS else f"{role} data"


def has_inputs(table: Table, columns: Columns) -> None:
    """Refuse target data without the columns that hold the inputs of the training rows."""
    lacking = [name for name in columns.inputs if name not in table.columns]
    if lacking:
        raise UserError(
            f"{table.source} has no column {lacking[0]!r}, which holds the inputs of the training rows; rename the "
            f"column that holds them there (its columns: {', '.join(table.columns)})"
        )


def prepare(
    sources: Sources, backbone: Backbone | None, gate: Gate, run: Run | None = None, tuning: Sequence[str] = ()
) -> Prepared:
    """Audit every source, check them against each other, and split. `tuning`: strategies that may tune the backbone."""
    guessed, run = sources.guessed, run or Run()
    measure, progress = measure_with(backbone, bool(tuning)), run.progress
    data, report = gated(sources.tables["train"], guessed.columns, guessed.task, gate, measure, "train", None, progress)
    classes = _classes(data, guessed.columns, guessed.task)
    others: dict[str, Data] = {}
    audits, reasons = [report], [*guessed.reasons, *pairs_told(backbone, tuning)]
    for role, table in sources.tables.items():
        if role == "target":
            others[role], target_report, said = unlabelled(table, guessed, gate, measure, progress)
            found = [*_adapted_to(data, others[role], "train"), *_adapted_to(others.get("test"), others[role], "test")]
            found = by_file(found, table, guessed.columns, gate.private)
            audits.append(replace(target_report, findings=(*target_report.findings, *found)))
            reasons += said
        elif role != "train":
            columns = present(guessed.columns, table)
            if role == LABELS:
                columns, counted = sampled(columns, table)
                reasons += counted
            other, other_report = gated(table, columns, guessed.task, gate, measure, role, classes, progress)
            found = list(cross_check(data, other, role.replace("_", " ")))
            if role == LABELS:
                refuse_new_classes(other, guessed.task, classes, gate.private)
                found += cross_check(others["test"], other, "target labels", "test") if "test" in others else ()
            found = by_file(found, table, columns, gate.private)
            audits.append(replace(other_report, findings=(*other_report.findings, *found)))
            others[role] = other
    _check_domains(data, others)
    few = others.get(LABELS)
    train, test, how = _split(data, guessed.task, others.get("test"), others.get("valid"), few, run.seed)
    return Prepared(
        guessed.columns,
        guessed.task,
        tuple(reasons),
        train,
        test,
        others.get("valid"),
        tuple(audits),
        how,
        target=others.get("target"),
        labelled=few,
    )


def _check_domains(data: Data, others: dict[str, Data]) -> None:
    if data.domains is None:
        return
    if "valid" in others:
        raise UserError(
            "a domain column and valid data both say which rows settings are chosen by; leave out one of the two"
        )
    if data.times is not None:
        raise UserError(
            "a domain column and a time column both say which rows a model is judged on; leave out one of the two"
        )


def _adapted_to(rows: Data | None, target: Data, name: str) -> list[Finding]:
    """That target rows are known from elsewhere: what is learned from twice, or judged after it was adapted to."""
    found = (
        () if rows is None else cross_check(replace(rows, labels=None), replace(target, labels=None), "target", name)
    )
    same = next((f for f in found if f.kind == "cross_split"), None)
    if same is None:
        return []
    why = (
        "rows from where the model will be used should be others"
        if name == "train"
        else "what adapts to them is then judged on rows that it has seen, if without their labels"
    )
    text = (
        f"{rows_text(same.count)} ({same.count / len(target):.0%}) of target {verb(same.count, 'are')} also in {name}"
    )
    return [replace(same, message=f"{text}, exactly or nearly: {why}")]


def refuse_new_classes(few: Data, task: str, classes: tuple[Any, ...] | None, private: bool = False) -> None:
    """A class that no training row has cannot be learned from a few rows beside thousands of others."""
    if classes is None or few.labels is None or task == "regress":
        return
    for label, line in zip(few.labels, few.lines, strict=True):
        for name in label if isinstance(label, tuple) else (label,):
            if name not in classes:
                known = ", ".join(repr(c) for c in classes[:8]) + (" ..." if len(classes) > 8 else "")
                raise UserError(
                    f"{few.source}, line {line}: the label{'' if private else f' {name!r}'} is not among the classes "
                    f"of the training rows ({known}); correct it, or give the row of a new class with the training rows"
                )


def unlabelled(
    table: Table, guessed: Guess, gate: Gate, measure: Any, progress: Progress | None = None
) -> tuple[Data, Audit, list[str]]:
    """The inputs of the target alone: what else the file holds, its labels before all, is not looked at."""
    said = []
    if there := [name for name in guessed.columns.labels if name in table.columns]:
        named = f"column {there[0]!r} is" if len(there) == 1 else f"{len(there)} label columns are"
        said.append(
            f"{table.source}: its {named} ignored, since target data is used without labels; give labelled rows of it "
            "as test data, to be judged on"
        )
    whole = guessed.columns
    row_id = whole.id if whole.id in table.columns else None
    columns = Columns(
        text=whole.text,
        file=whole.file,
        kind=whole.kind,
        id=row_id,
        features=whole.features,
        holds=whole.holds,
        rate=whole.rate,
    )
    data, report = gated(table, columns, guessed.task, gate, measure, "target", None, progress)
    return data, report, said


def present(columns: Columns, table: Table) -> Columns:
    """The parts that this table has: a test file must hold label and text; the rest is used where it is there."""
    have = set(table.columns)
    return replace(
        columns,
        group=columns.group if columns.group in have else None,
        time=columns.time if columns.time in have else None,
        id=columns.id if columns.id in have else None,
        weight=columns.weight if columns.weight in have else None,
        domain=columns.domain if columns.domain in have else None,
        subgroup=tuple(s for s in columns.subgroup if s in have),
        drop=tuple(d for d in columns.drop if d in have),
    )


def sampled(columns: Columns, table: Table) -> tuple[Columns, tuple[str, ...]]:
    """The same columns with `SAMPLING` as the weight, where the table has it and it has no other part; and a sentence
    on that."""
    if SAMPLING not in table.columns or SAMPLING in columns.used or columns.weight is not None:
        return columns, ()
    if any(number(cell) is None for cell in table.columns[SAMPLING] if not is_blank(cell)):
        return columns, (f"{table.source}: {SAMPLING} holds other things than numbers, so that it weighs nothing",)
    said = f"{table.source}: its rows count by {SAMPLING}, by which they stand for all target rows"
    return replace(columns, weight=SAMPLING), (said,)


def gated(
    table: Table,
    columns: Columns,
    task: str,
    gate: Gate,
    measure: Any,
    role: str,
    classes: tuple[Any, ...] | None,
    progress: Progress | None = None,
) -> tuple[Data, Audit]:
    """The usable rows of a table and their account; an error where there is none."""
    data, report = audit(
        table,
        columns,
        task,
        on_bad=gate.on_bad,
        label_delimiter=gate.label_delimiter,
        classes=classes,
        measure=measure,
        private=gate.private,
        role=role,
        progress=progress,
        split=gate.split,
    )
    if progress is not None:
        known, said = table.facts.get("notes"), report.facts.get("notes")
        for note in said if isinstance(said, list) else ():
            if not (isinstance(known, list) and note in known):  # those of reading were told when it was read
                progress.say(f"{table.source}: {note}")
    if not len(data):
        reasons = ", ".join(f"{len(lines)} {reason}" for reason, lines in report.dropped.items())
        raise UserError(
            f"{table.source}: no row passed the gate ({report.read} read; {reasons or 'the file is empty'})"
        )
    return data, report


def _classes(data: Data, columns: Columns, task: str) -> tuple[Any, ...] | None:
    if task == "regress" or data.labels is None:
        return None
    if task == "multilabel":
        return classes_of(data.labels)
    if columns.tasks:
        return label_cells.classes_of(data, columns)
    return tuple(sorted(set(data.labels)))


def _split(
    data: Data, task: str, test: Data | None, valid: Data | None, few: Data | None, seed: int
) -> tuple[Data, Data | None, str]:
    if test is not None:
        return (
            data,
            test,
            f"measured on the test data you gave ({plural(len(test), 'row')}), which took no part in any choice",
        )
    if few is not None:
        how = (
            f"measured on out-of-fold predictions of the {len(few):,} labelled target rows, each by models that did "
            "not learn from it; strategy and number come from the same rows, so the number leans to the good side"
        )
        return data, None, how
    if data.domains is not None:
        names = domains.of(data)[0]
        return (
            data,
            None,
            (
                f"measured by leaving each of {len(names)} domains out ({', '.join(names)}): its rows are judged by "
                "what was learned from the others; strategy and number come from the same rows, so the number leans "
                "to the good side"
            ),
        )
    if len(data) < FEW and valid is not None:
        return (
            data,
            None,
            (
                f"measured on the {plural(len(valid), 'row')} of the valid data you gave, since "
                f"{plural(len(data), 'row')} are too few "
                f"to hold any out (fewer than {FEW}); settings were chosen by the same rows, so the number leans to "
                "the good side"
            ),
        )
    if len(data) < FEW:
        return (
            data,
            None,
            (
                f"measured on repeated out-of-fold predictions, since {plural(len(data), 'row')} are too few to "
                f"hold any out "
                f"(fewer than {FEW}); strategy and number come from the same rows, so the number leans to the good side"
            ),
        )
    try:
        train_at, test_at = holdout(data, task, share=0.2, seed=seed)
    except UserError:
        if data.times is not None or valid is not None:
            raise
        folds(data, task)  # where these are impossible too, their error says more
        how = (
            f"measured on out-of-fold predictions, since no fifth of the {plural(len(data), 'row')} can be held out "
            "(the classes are too small); strategy and number come from the same rows, so the number leans to the good "
            "side"
        )
        return data, None, how
    by = "the latest 20 %" if data.times is not None else "20 %, stratified"
    apart = " (no group on both sides)" if data.groups is not None else ""
    return (
        data.take(train_at),
        data.take(test_at),
        (
            f"measured on {plural(len(test_at), 'row')} held out at the start ({by}{apart}, duplicates kept "
            f"together), used once"
        ),
    )


def folds_of(prepared: Prepared, seed: int) -> list[tuple[Any, Any]]:
    """The folds that every candidate shares: five; repeated three times below 200 rows; three above 20,000 rows.

    With domains every fold is one of them.
    """
    if prepared.train.domains is not None:
        return domains.leave_one_out(prepared.train, prepared.task)
    n = len(prepared.train)
    k = 3 if n > 20_000 else 5
    repeats = 3 if n < FEW and prepared.train.times is None else 1
    return list(folds(prepared.train, prepared.task, k=k, seed=seed, repeats=repeats))
