"""A RUN folder or a bundle as the model that it holds, whatever its task."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from acclimate.api import runs
from acclimate.api.model import Model, if_there
from acclimate.api.model import load as load_rows
from acclimate.api.structured_model import StructuredModel
from acclimate.data.rows import Columns
from acclimate.errors import UserError
from acclimate.evaluate import Scores
from acclimate.report.data import ReportData


def load(path: str | Path) -> Model | StructuredModel:
    """A model from a RUN folder or a saved bundle. Needs no network."""
    folder = Path(path)
    bundle = folder / "model" if (folder / "model").is_dir() else folder
    if not (bundle / "acclimate.json").is_file():
        return load_rows(path)  # which says what is wrong
    from acclimate.structured import bundle as bundles

    if not bundles.is_structured(bundle):
        return load_rows(path)
    learned = bundles.load(bundle)
    try:
        values = runs.read_json(bundle / "columns.json")
        parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        columns = Columns(**parts)
    except (AttributeError, TypeError) as error:
        raise UserError(f"{bundle / 'columns.json'} is damaged ({error}); copy the bundle again or fit anew") from error
    if bundle == folder:
        return StructuredModel(learned, columns)
    asked = runs.about_if_there(folder).get("asked", {})
    data = if_there(folder / runs.REPORT, ReportData.from_json)
    scores = if_there(folder / "metrics.json", Scores.from_json)
    private = bool(asked.get("private")) or data is not None and data.private
    return StructuredModel(learned, columns, folder, scores, data, private)


def not_structured(task: str, **given: Any) -> None:
    """Refuse what has a meaning for labels of whole rows alone."""
    for name, value in given.items():
        if value is not None:
            option = shlex.quote("--" + name.strip("_").replace("_", "-"))
            raise UserError(f"{option} is for labels of whole rows, and task {task!r} has structured answers")
