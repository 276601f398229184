"""The number and what stands beside it: how it came about, baselines, candidates, other domains."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from acclimate.errors import plural
from acclimate.report import figures
from acclimate.report.data import Json, ReportData
from acclimate.report.document import Block, Cell, Figure, Heading, Items, Table, Text
from acclimate.report.words import (
    count,
    decimals,
    estimate,
    finite,
    memory,
    number,
    one_line,
    prose,
    readable,
    seconds,
    span,
)

_ERRORS = "rmse mae log_loss brier calibration_error hamming empty_rate wer cer mase perplexity cepstral_distance"
LOWER_IS_BETTER = frozenset(_ERRORS.split())
LONGEST = 60  # lines of a plot; above that the table draws its own intervals
TONES = {"better": "good", "worse": "bad", "not decidable": "muted"}


def lower_better(metric: str) -> bool:
    """Whether less is better."""
    return metric in LOWER_IS_BETTER


def best(rows: Sequence[Json], metric: str) -> Json | None:
    """The row with the best value, the first of equals; None where no row has a value."""
    known = [r for r in rows if finite(r.get("value")) is not None]
    if not known:
        return None
    sign = -1.0 if lower_better(metric) else 1.0
    return max(known, key=lambda r: sign * float(r["value"]))


def main_estimate(data: ReportData) -> Json:
    """The estimate of the report's metric, with "n"."""
    scores = data.scores
    found = (scores.get("metrics") or {}).get(data.metric) or {}
    return {
        "value": finite(found.get("value", scores.get("value"))),
        "low": finite(found.get("low", scores.get("low"))),
        "high": finite(found.get("high", scores.get("high"))),
        "n": finite(found.get("n", scores.get("n"))),
        "note": found.get("note") or "",
    }


def difference(found: Json | None) -> str:
    """A paired difference with its interval, without the verdict."""
    if not found or finite(found.get("value")) is None:
        return "–"
    return estimate(found.get("value"), found.get("low"), found.get("high"), sign=True)


def verdict(found: Json | None) -> Cell:
    """The verdict's words; a difference without one, or none at all, is a dash."""
    said = str((found or {}).get("verdict") or "")
    return Cell(said or "–", TONES.get(said, "muted"))


def headline(data: ReportData) -> tuple[tuple[str, str, str], ...]:
    """The main number, its n and the strongest baseline, for the top of the page."""
    main = main_estimate(data)
    places = decimals([main["value"], main["low"], main["high"]])
    interval = f"95 % interval {span(main['low'], main['high'], places)}" if main["low"] is not None else main["note"]
    found = [(readable(data.metric), number(main["value"], places), interval or "no interval")]
    if main["n"] is not None:
        found.append(
            ("tested on", plural(int(main["n"]), "row"), "lower is better" if lower_better(data.metric) else "")
        )
    other = best(data.baselines, data.metric)
    if other is not None:
        gap = other.get("difference")
        said = f"difference {difference(gap)}: {verdict(gap).text}" if gap else ""
        value = number(other.get("value"), decimals([finite(other.get(k)) for k in ("value", "low", "high")]))
        found.append((f"best baseline: {one_line(other.get('name'), 40)}", value, said))
    return tuple(found)


def how(data: ReportData) -> list[Block]:
    """How the number came about: the protocol, the rows of each part, what was noted while scoring."""
    blocks: list[Block] = []
    if data.how_tested:
        blocks.append(Text(prose(data.how_tested)))
    if data.splits:
        total = sum(data.splits.values())
        rows = tuple(
            (
                Cell(one_line(readable(k), 60)),
                Cell(count(n), order=float(n)),
                Cell("", share=n / total if total else 0.0),
            )
            for k, n in data.splits.items()
        )
        blocks.append(Table(("part", "rows", "share"), rows, "Which rows were used for what."))
    notes = [prose(n) for n in data.scores.get("notes") or []]
    if notes:
        blocks.append(Items(tuple(notes)))
    return blocks


def baselines(data: ReportData) -> list[Block]:
    """This model beside the baselines: a plot, and a table with paired differences."""
    main = main_estimate(data)
    if main["value"] is None and not data.baselines:
        return []
    me = {"name": own_name(data), **main}
    rows = [me, *data.baselines]
    blocks: list[Block] = []
    if main["value"] is not None:
        drawn = [_row(r, i == 0) for i, r in enumerate(rows)]
        draw = partial(figures.intervals, drawn, "baselines", _alt_rows(rows), lower_better=lower_better(data.metric),
                       metric=readable(data.metric))  # fmt: skip
        blocks.append(Figure("baselines", draw, _caption_baselines(data), _alt_rows(rows)))
    if data.baselines:
        blocks.append(_difference_table(rows, data.metric, "Differences are paired: both answered the same rows."))
    if data.columns:
        blocks.append(columns(data))
    blocks += _all_metrics(data)
    return blocks


def columns(data: ReportData) -> Table:
    """Each of several label columns in its own metric, beside its best baseline and beside the column alone."""
    rows = []
    for one in map(ReportData.from_json, data.columns):
        alone = next((r for r in one.baselines if r.get("key") == "single_task"), None)
        other = best([r for r in one.baselines if r is not alone], one.metric) or {}
        gap, gain = other.get("difference"), (alone or {}).get("difference")
        main = main_estimate(one)
        rows.append((
            Cell(label_of(one), "strong"), Cell(readable(one.metric)), estimate_cell(main), number_cell(main["n"]),
            Cell(f"{one_line(other.get('name') or '–', 40)}: {difference(gap)}"), verdict(gap),
            *((Cell(difference(gain)), verdict(gain)) if alone else ()),
        ))  # fmt: skip
    head = ("label", "metric", "this model", "n", "this model minus the best baseline", "it is")
    more = ("minus the column alone", "it is") if rows and len(rows[0]) > len(head) else ()
    caption = (
        "Every label column on the rows that know it. Skill, above, is their mean on the way from a constant answer "
    )
    caption += "(0) to one without error (1)."
    return Table((*head, *more), tuple(rows), caption)


def label_of(one: ReportData) -> str:
    """The label column that this part of a report is about."""
    return one_line(one.title.rpartition(": ")[2], 60)


def own_name(data: ReportData) -> str:
    """What this model is called beside others."""
    if data.model_name.startswith("no "):  # "no pretrained model"
        return f"{data.strategy}, {data.model_name}"
    return f"{data.strategy} on {data.model_name}" if data.model_name else data.strategy


def _row(entry: Json, main: bool = False) -> figures.Row:
    value, low, high = (finite(entry.get(k)) for k in ("value", "low", "high"))
    return figures.Row(str(entry.get("name")), value, low, high, main)


def _alt_rows(rows: Sequence[Json]) -> str:
    said = "; ".join(
        f"{one_line(r.get('name'), 40)} {estimate(r.get('value'), r.get('low'), r.get('high'))}" for r in rows[:12]
    )
    return f"Dots with 95 % intervals: {said}"


def _caption_baselines(data: ReportData) -> str:
    other = best(data.baselines, data.metric)
    if other is None:
        return "The dot is the estimate, the line its 95 % interval. There was no baseline to compare with."
    gap = other.get("difference") or {}
    name, said = one_line(other.get("name"), 40), gap.get("verdict")
    tail = f"by {number(abs(float(gap['value'])))}" if finite(gap.get("value")) is not None else ""
    if said == "better":
        first = f"This model is ahead of the strongest baseline, {name}, {tail}; the interval of that excludes 0."
    elif said == "worse":
        first = f"The baseline {name} is ahead of this model {tail}: it is simpler and better here, so prefer it."
    elif said is None:
        return f"The band is this model's 95 % interval. It was not compared with {name} row by row."
    else:
        first = f"Between this model and the strongest baseline, {name}, these rows cannot decide."
    return f"{first} The band is this model's 95 % interval; the paired differences below are sharper than overlap."


def _difference_table(rows: Sequence[Json], metric: str, caption: str) -> Table:
    body = tuple(
        (
            Cell(one_line(r.get("name"), 60), "strong" if i == 0 else ""),
            estimate_cell(r),
            number_cell(r.get("n")),
            Cell("this model", "muted") if i == 0 else Cell(difference(r.get("difference"))),
            Cell("") if i == 0 else verdict(r.get("difference")),
        )
        for i, r in enumerate(rows)
    )  # fmt: skip
    return Table(("", readable(metric), "n", "this model minus it", "this model is"), body, caption)


def number_cell(value: object) -> Cell:
    """A whole number as a cell."""
    return Cell(count(value), order=finite(value))


def _scale(rows: Sequence[Json]) -> tuple[float, float]:
    ends = [v for r in rows for v in (finite(r.get(k)) for k in ("value", "low", "high")) if v is not None]
    return min(ends, default=0.0), max(ends, default=1.0)


def estimate_cell(found: Json, scale: tuple[float, float] | None = None) -> Cell:
    """An estimate as a cell, with a small interval drawn on `scale` where one is given."""
    value, low, high = (finite(found.get(k)) for k in ("value", "low", "high"))
    if value is None:
        return Cell(one_line(found.get("note"), 40) if found.get("note") else "–", "muted")
    drawn = None
    if scale is not None and low is not None and high is not None and scale[1] > scale[0]:
        drawn = tuple(min(1.0, max(0.0, (v - scale[0]) / (scale[1] - scale[0]))) for v in (low, value, high))
    few = " (too few rows)" if low is None and too_small(found) else ""
    return Cell(f"{estimate(value, low, high)}{few}", order=value, interval=drawn)  # type: ignore[arg-type]


def too_small(found: Json) -> bool:
    """Whether the rows were too few for a number or its interval."""
    note = str(found.get("note") or "")
    return "too small" in note or "too few" in note


def _all_metrics(data: ReportData) -> list[Block]:
    found: Json = data.scores.get("metrics") or {}
    if len(found) < 2:
        return []
    noted = any(e.get("note") for e in found.values())
    rows = tuple(
        (
            Cell(readable(name), "strong" if name == data.metric else ""),
            estimate_cell(e),
            number_cell(e.get("n")),
            Cell("lower" if lower_better(name) else "higher", "muted"),
            *([Cell(prose(e["note"], 200) if e.get("note") else "", "muted")] if noted else []),
        )
        for name, e in found.items()
    )
    head = ("metric", "estimate [95 % interval]", "n", "better is", *(["note"] if noted else []))
    return [Table(head, rows, "Every metric of this model on the same rows.")]


def candidates(data: ReportData) -> list[Block]:
    """What was compared on the way, and the log of decisions."""
    blocks: list[Block] = []
    if data.candidates:
        scale = _scale(data.candidates)
        noted = any(c.get("note") for c in data.candidates)
        rows = tuple(
            (
                Cell(one_line(c.get("name"), 50), "strong" if c.get("chosen") else ""),
                estimate_cell(c, scale),
                number_cell(c.get("n")),
                Cell(seconds(c.get("seconds")), order=finite(c.get("seconds"))),
                Cell("chosen", "good") if c.get("chosen") else Cell(one_line(c.get("why") or "", 120), "muted"),
                *([Cell(one_line(c.get("note"), 120) if c.get("note") else "", "muted")] if noted else []),
            )
            for c in data.candidates
        )
        head = ("candidate", readable(data.metric), "n", "time", "", *(["note"] if noted else []))
        blocks.append(Table(head, rows, _caption_candidates(data)))
    if data.costs:
        blocks.append(_costs(data.costs))
    if data.decisions:
        blocks += [Heading("What was decided, in order"), Items(tuple(map(prose, data.decisions)), ordered=True)]
    return blocks


def _costs(rows: Sequence[Json]) -> Table:
    """Time and memory of every part, beside what was foreseen."""
    told = any(finite(r.get("foreseen_seconds")) is not None for r in rows)
    columns = [("time", seconds, "seconds"), ("memory", memory, "memory")]
    if told:
        columns += [("time foreseen", seconds, "foreseen_seconds"), ("memory foreseen", memory, "foreseen_memory")]
    found = tuple(
        (
            Cell(one_line(r.get("name"), 50)),
            Cell(one_line(r.get("part"), 50)),
            *(Cell(words(r.get(key)), order=finite(r.get(key))) for _, words, key in columns),
        )
        for r in rows
    )
    caption = "What each part took; memory is the most that was held beyond what was in use before it."
    return Table(("strategy", "part", *(name for name, _, _ in columns)), found, caption)


def _caption_candidates(data: ReportData) -> str:
    chosen = next((c for c in data.candidates if c.get("chosen")), None)
    if chosen is None:
        return _same_rows(data)
    rest = best([c for c in data.candidates if c is not chosen], data.metric)
    first = f"Chosen: {one_line(chosen.get('name'), 40)}."
    if rest is not None and finite(chosen.get("value")) is not None:
        gap = abs(float(chosen["value"]) - float(rest["value"]))
        overlap = _overlap(chosen, rest)
        closeness = (
            "their intervals overlap, so another draw of rows could turn this around"
            if overlap
            else "their intervals do not overlap"
        )
        away = number(gap, decimals([float(chosen["value"])]))
        named = one_line(rest.get("name"), 40)
        ahead, keys = best([chosen, rest], data.metric) is rest and gap > 0, [b.get("key") for b in data.baselines]
        why = "a baseline, which needs no transfer" if rest.get("name") in keys else "why it was left stands below"
        first += f" {named} is {away} ahead ({why})" if ahead else f" The next, {named}, is {away} away"
        first += f"; {closeness}."
    return f"{first} {_same_rows(data)}"


def _same_rows(data: ReportData) -> str:
    """Whether the candidates were judged on as many rows."""
    if len({c.get("n") for c in data.candidates}) > 1:
        return (
            "Not all were judged on all rows (n): a value from fewer was not compared with the others; what tunes was "
            "compared on the rows that both judged."
        )
    return "All were compared on the same rows."


def _overlap(a: Json, b: Json) -> bool:
    ends = [finite(v) for v in (a.get("low"), a.get("high"), b.get("low"), b.get("high"))]
    if any(e is None for e in ends):
        return True
    low_a, high_a, low_b, high_b = (float(e) for e in ends if e is not None)
    return low_a <= high_b and low_b <= high_a


def domains(data: ReportData) -> list[Block]:
    """The same model on further test sets; the first row of each set is this model."""
    shown = [d for d in data.domains if d.get("rows")]
    if not shown:
        return []
    drawn: list[figures.Row] = []
    body: list[tuple[Cell, ...]] = []
    scale = _scale([r for d in shown for r in d["rows"]])
    many = sum(1 + len(d["rows"]) for d in shown) > LONGEST
    for domain in shown:
        drawn.append(figures.Row(str(domain.get("name")), heading=True))
        body.append((Cell(one_line(domain.get("name"), 60), "strong"),))
        for i, r in enumerate(domain["rows"]):
            drawn.append(_row(r, i == 0))
            gap = r.get("difference")
            body.append((
                Cell(one_line(r.get("name"), 50)), estimate_cell(r, scale if many else None), number_cell(r.get("n")),
                Cell("" if i == 0 else difference(gap)), Cell("") if i == 0 else verdict(gap),
            ))  # fmt: skip
    alt = "Dots with 95 % intervals for " + ", ".join(one_line(d.get("name"), 30) for d in shown[:12])
    blocks: list[Block] = []
    if not many:
        draw = partial(
            figures.intervals,
            drawn,
            "domains",
            alt,
            lower_better=lower_better(data.metric),
            metric=readable(data.metric),
        )
        blocks.append(Figure("domains", draw, _caption_domains(shown, data.metric), alt))
    head = ("", readable(data.metric), "n", "this model minus it", "this model is")
    blocks.append(
        Table(head, tuple(body), "Each test set by itself; differences are paired on its rows.", grouped=True)
    )
    return blocks


def _caption_domains(shown: Sequence[Json], metric: str) -> str:
    said: dict[str, list[str]] = {"better": [], "not decidable": [], "worse": []}
    for domain in shown:
        rival = best(domain["rows"][1:], metric)
        word = ((rival or {}).get("difference") or {}).get("verdict")
        if word in said:
            said[word].append(one_line(domain.get("name"), 30))
    parts = [f"{word} on {', '.join(names)}" for word, names in said.items() if names]
    return (
        f"Against the strongest other row of each set, this model is {'; '.join(parts)}."
        if parts
        else "The dot is the estimate, the line its 95 % interval."
    )
