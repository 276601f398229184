"""The order of a report: which sections it has and what is at its top."""

from __future__ import annotations

from acclimate.report import detail, facts, results
from acclimate.report.data import ReportData
from acclimate.report.document import Block, Document, Section
from acclimate.report.words import one_line, prose, readable


def document(data: ReportData) -> Document:
    """The whole report in its order; a section without content is left out."""
    found: tuple[tuple[str, str, list[Block]], ...] = (
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
        ("mistakes", "Most confident mistakes", detail.mistakes(data)),
        ("thresholds", "From probability to decision", facts.thresholds(data)),
        ("next", "What to do next", facts.steps(data)),
        ("intervals", "What the intervals cover", facts.intervals(data)),
        ("settings", "Settings and versions", facts.provenance(data)),
    )
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
