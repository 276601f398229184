"""Inputs that are longer than what the model reads at a time: how many, what is lost of them, and what can be done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acclimate.data.findings import Finding, finding, lines_text, rows_text, verb
from acclimate.data.rows import Data, FloatArray, IntArray
from acclimate.errors import UserError, plural


@dataclass(frozen=True)
class Lengths:
    """What a tokeniser says of the kept inputs: tokens of each, the limit of the model, and what happens beyond it."""

    tokens: IntArray  # (n,), of the longest sequence where an input is read as several
    limit: int
    truncation: str  # "head", "head-tail", "chunk" or "fail"
    lost: IntArray | None = None  # (n,), of all sequences; None: what is beyond the limit, and nothing in windows
    total: int | None = None  # of all inputs; None: the sum of `tokens`
    how: str = ""  # words on the way of reading, where there are several


@dataclass(frozen=True)
class Seconds:
    """The same of sounds; `filled` says whether the model reads as much of shorter ones, with silence behind them."""

    each: FloatArray  # (n,)
    limit: float
    filled: bool
    truncation: str = "head"  # "head", "chunk" or "fail"
    windows: int = 0  # that those beyond the limit are read in, all together


def too_long_sounds(data: Data, seconds: Seconds, facts: dict[str, object]) -> list[Finding]:
    """Sounds beyond the model's limit, and a limit far beyond the sounds, where that costs time."""
    over = seconds.each > seconds.limit
    longest, whole = float(seconds.each.max(initial=0.0)), float(seconds.each.sum())
    lost = float((seconds.each[over] - seconds.limit).sum())
    chunks = seconds.truncation == "chunk"
    lines = [n for n, o in zip(data.lines, over.tolist(), strict=True) if o]
    facts["seconds"] = {
        "limit": seconds.limit,
        "max": longest,
        "total": whole,
        "over": len(lines),
        "lost": 0.0 if chunks else lost,
        "truncation": seconds.truncation,
        "windows": seconds.windows,
    }
    if lines:
        much = (
            f"{rows_text(len(lines))} ({len(lines) / len(data):.0%}) {verb(len(lines), 'are')} longer than "
            f"{seconds.limit:g} seconds"
        )
        if seconds.truncation == "fail":
            raise UserError(
                f"{data.source}: {much} ({lines_text(lines)}); cut them, raise --max-seconds if the model can take "
                "more, or choose --truncation chunk or head"
            )
        if chunks:
            text = (
                f"{much}; they are read in {plural(seconds.windows, 'window')} that overlap by a tenth, whose "
                f"features are "
                "averaged, so nothing is lost"
            )
            return [finding("truncated", "info", text, len(lines), lines)]
        text = (
            f"{much}; {lost:,.0f} seconds ({lost / whole:.0%} of all) from their end are not read: try --truncation "
            "chunk, or raise --max-seconds if the model can take more"
        )
        return [finding("truncated", "warning", text, len(lines), lines)]
    short = max(1, int(np.ceil(2 * longest)))
    if seconds.filled and len(data) and short <= seconds.limit / 4:
        text = (
            f"the longest sound has {longest:.2g} seconds, and this model fills every one up to {seconds.limit:g} "
            f"with silence; --max-seconds {short} takes about {seconds.limit / short:.0f} times less time, and may "
            "cost some accuracy"
        )
        return [finding("filled", "info", text, len(data))]
    return []


def too_long(data: Data, lengths: Lengths | Seconds, facts: dict[str, object]) -> list[Finding]:
    """Texts beyond the model's limit: how many, how many of their tokens are not read, and what can be done."""
    if isinstance(lengths, Seconds):
        return too_long_sounds(data, lengths, facts)
    tokens = np.asarray(lengths.tokens)
    if tokens.shape != (len(data),):
        raise ValueError(f"measure gave {tokens.shape} lengths for {len(data)} inputs")
    over = tokens > lengths.limit
    beyond = 0 if lengths.truncation == "chunk" else int((tokens[over] - lengths.limit).sum())
    lost = beyond if lengths.lost is None else int(lengths.lost.sum())
    total = int(tokens.sum()) if lengths.total is None else lengths.total
    lines = [n for n, o in zip(data.lines, over.tolist(), strict=True) if o]
    facts["tokens"] = {
        "limit": lengths.limit,
        "median": float(np.median(tokens)),
        "max": int(tokens.max()),
        "total": total,
        "over": len(lines),
        "lost": lost,
        "truncation": lengths.truncation,
    }
    if not lines:
        return []
    much = (
        f"{rows_text(len(lines))} ({len(lines) / len(data):.0%}) {verb(len(lines), 'are')} longer than "
        f"{plural(lengths.limit, 'token')}{lengths.how}"
    )
    if lengths.truncation == "fail":
        raise UserError(
            f"{data.source}: {much} ({lines_text(lines)}); shorten them, raise --max-length, or choose "
            "--truncation head, head-tail or chunk"
        )
    if lengths.truncation == "chunk" and not lost:
        return [
            finding("truncated", "info", f"{much}; they are read in windows, so nothing is lost", len(lines), lines)
        ]
    if lengths.truncation == "chunk":  # two long texts in one sequence
        text = (
            f"{much}; they are read in windows that go through the longer text, beside the beginning of the other: "
            f"{plural(lost, 'token')} ({lost / total:.0%} of all) are not read"
        )
        return [finding("truncated", "warning", text, len(lines), lines)]
    where = "their middle" if lengths.truncation == "head-tail" else "their end"
    other = "--truncation head-tail or chunk" if lengths.truncation == "head" else "--truncation chunk"
    text = (
        f"{much}; {plural(lost, 'token')} ({lost / total:.0%} of all) from {where} are not read: try "
        f"{other}, or a model that reads more"
    )
    return [finding("truncated", "warning", text, len(lines), lines)]
