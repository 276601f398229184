"""The order of a report: which sections it has and what is at its top."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from acclimate.report import detail, facts, results
from acclimate.report.data import ReportData
from acclimate.report.document import Block, Document, Figure, Heading, Section, Text
from acclimate.report.svg import identifiers
from acclimate.report.words import one_line, prose, readable

_Part: TypeAlias = tuple[str, str, list[Block]]  # of a section: key, title and content


def document(data: ReportData) -> Document:
    """The whole report in its order; a section without content is left out."""
    found: tuple[_Part, ...] = (
        ("how", "How this number was obtained", results.how(data)),
        ("data", "The data", facts.audits(data)),
        ("result", "Result beside the baselines", results.baselines(data)),
        ("candidates", "Candidates and decisions", results.candidates(data)),
        ("training", "Training", facts.training(data)),
        ("confusion", "What is taken for what", detail.confusions(data)),
        ("calibration", "Do probabilities mean what they say?", detail.calibration(data)),
        ("classes", "Class by class", detail.classes(data)),
        ("subgroups", "Subgroups", detail.subgroups(data)),
        ("map", "Map of the features", detail.feature_map(data)),
        ("scatter", "Predicted against true", detail.scatter(data)),
        ("domains", "On other test sets", results.domains(data)),
        ("mistakes", _title_of_mistakes(data), detail.mistakes(data)),
        ("thresholds", "From probability to decision", facts.thresholds(data)),
        ("next", "What to do next", facts.steps(data)),
        ("intervals", "What the intervals cover", facts.intervals(data)),
        ("settings", "Settings and versions", facts.provenance(data)),
    )
    at = next(i for i, (key, _, _) in enumerate(found) if key == "candidates")
    found = (*found[:at], *columns(data), *found[at:])
    sections = tuple(Section(key, title, tuple(blocks)) for key, title, blocks in found if blocks)
    about = [readable(data.task), data.strategy, data.model_name, data.created]
    return Document(
        title=one_line(data.title, 120),
        verdict=prose(data.verdict),
        subtitle=" · ".join(one_line(part, 60) for part in about if part),
        headline=results.headline(data),
        sections=sections,
        private=data.private,
    )


def _title_of_mistakes(data: ReportData) -> str:
    """Structured answers have errors, and no one confidence."""
    sure = not data.mistakes or any("confidence" in one for one in data.mistakes)
    return "Most confident mistakes" if sure else "Rows with the most errors"


def columns(data: ReportData) -> list[_Part]:
    """A section for each of several label columns: its numbers beside the baselines, and what a report shows of one."""
    sections: list[_Part] = []
    for i, stored in enumerate(data.columns, 1):
        one = ReportData.from_json(stored)
        parts = (
            ("", results.baselines(one)),
            ("What is taken for what", detail.confusions(one)),
            ("Do probabilities mean what they say?", detail.calibration(one)),
            ("Class by class", detail.classes(one)),
            ("Subgroups", detail.subgroups(one)),
            ("Map of the features", detail.feature_map(one)),
            ("Predicted against true", detail.scatter(one)),
            ("Most confident mistakes", detail.mistakes(one)),
        )
        blocks: list[Block] = [Text(f"{readable(one.task)}. {prose(one.verdict)}")]
        for title, found in parts:
            if found:
                blocks += [*([Heading(title)] if title else []), *(_own(block, f"column-{i}") for block in found)]
        sections.append((f"column-{i}", f"Label {results.label_of(one)}", blocks))
    return sections


def _own(block: Block, prefix: str) -> Block:
    """A figure with ids that no other column's has."""
    if not isinstance(block, Figure):
        return block
    return replace(block, name=f"{prefix}-{block.name}", draw=lambda: identifiers(block.draw(), prefix))
