"""Scores, facts and decisions as one HTML file, as Markdown, and as a few lines for a terminal."""

from __future__ import annotations

from acclimate.report.data import ReportData
from acclimate.report.html import render_html
from acclimate.report.markdown import render_markdown
from acclimate.report.terminal import summary

__all__ = ["ReportData", "render_html", "render_markdown", "summary"]
