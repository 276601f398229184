"""The report as one HTML file that asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from acclimate.report.content import document
from acclimate.report.data import ReportData
from acclimate.report.document import Document
from acclimate.report.svg import marker
from acclimate.report.words import clean

if TYPE_CHECKING:
    from jinja2 import Template

FOLDER = Path(__file__).parent


def render_html(data: ReportData) -> str:
    """The whole page; the same data give the same bytes."""
    return render_page(document(data))


def render_page(doc: Document) -> str:
    """Any document as a page."""
    from markupsafe import Markup

    script = (FOLDER / "page.js.j2").read_text(encoding="utf-8")
    return _template().render(
        doc=doc,
        style=Markup((FOLDER / "page.css.j2").read_text(encoding="utf-8")),
        script=Markup(script),
        # Even if something slipped through the escaping, a browser runs this one script and fetches nothing.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        marks=[Markup(marker(i)) for i in range(9)],
        safe=Markup,
    )


@cache
def _template() -> Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html.j2")


def _clean(value: object) -> object:
    """No text reaches the page with a control or direction mark; what is ready-made HTML passes."""
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
