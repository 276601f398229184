"""`acclimate methods`: what can be chosen, read from the dictionaries in which it is registered."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

from acclimate.cli import options
from acclimate.files import json_text


def methods(as_json: options.AsJson = False) -> None:
    """List strategies, alignments and adapters with their settings, and the metrics of each task."""
    ways, kinds, losses, adapting, measures = strategies(), settings(), alignments(), adapters(), metrics()
    before, ties = pretraining(), holds()
    if as_json:
        found = {
            "strategies": ways, "settings": kinds, "alignments": losses, "pretraining": before, "holds": ties,
            "adapters": adapting, "metrics": measures,
        }  # fmt: skip
        typer.echo(json_text(found, indent=2))
        return
    typer.echo("Strategies (--strategy NAME)")
    wide = max(map(len, ways))
    for name, what in ways.items():
        typer.echo(f"  {name:<{wide}} {what}")
    typer.echo("\nTheir settings (--set KEY=VALUE)")
    _echo(kinds)
    typer.echo("\nAlignments (--align NAME:KEY=VALUE,...)")
    _echo(losses)
    typer.echo("\nPretraining on the target's texts (--pretrain NAME:KEY=VALUE,...)")
    _echo(before)
    typer.echo("\nTies to the pretrained network (--hold NAME[:WEIGHT][,KEY=VALUE])")
    _echo(ties)
    typer.echo("\nAdapting to the very rows that are judged (predict and evaluate, --adapt NAME[:KEY=VALUE,...])")
    _echo(adapting)
    typer.echo("\nMetrics (--metric NAME); (-): less is better")
    for task, names in measures.items():
        typer.echo(f"  {task:<14} {', '.join(name if up else f'{name} (-)' for name, up in names.items())}")


def _echo(settings: dict[str, dict[str, object]]) -> None:
    for kind, fields in settings.items():
        typer.echo(f"  {kind:<14} {', '.join(f'{name}={value!r}' for name, value in fields.items()) or 'none'}")


def strategies() -> dict[str, str]:
    """Every strategy by name, from cheap to dear, with the settings that make it what it is."""
    from acclimate.data.kinds import KINDS
    from acclimate.strategies import ADAPTATIONS, BASELINES, EVERY, FEW_LABELS, OVER_DOMAINS

    found = {"auto": "the baselines and what the time allows, judged on the same folds; the default"}
    for name, strategy in EVERY.items():
        changed = {key: value for key, value in fields(strategy).items() if value != fields(type(strategy)())[key]}
        made = ", ".join(f"{key}={value!r}" for key, value in changed.items())
        kinds = {
            " without transfer": BASELINES, " to --target-data": ADAPTATIONS, " from --target-labels": FEW_LABELS,
            " with --domain-column": OVER_DOMAINS,
        }  # fmt: skip
        what = next((text for text, names in kinds.items() if name in names), "")
        read = [kind.plural for kind in KINDS.values() if name in (kind.baseline, *kind.also)]
        what += f", of {', '.join(read)}" if read else ""
        found[name] = f"{type(strategy).__name__}({made}){what}"
    return found


def settings() -> dict[str, dict[str, object]]:
    """The settings of each kind of strategy, with their defaults."""
    from acclimate.strategies import BASELINES, EVERY

    every = {name: strategy for name, strategy in EVERY.items() if name not in BASELINES}
    return {type(strategy).__name__: fields(type(strategy)()) for strategy in every.values()}


def alignments() -> dict[str, dict[str, object]]:
    """The losses between domains, with their settings and defaults."""
    from acclimate.align import ALIGNMENTS

    return {name: fields(kind()) for name, kind in ALIGNMENTS.items()}


def pretraining() -> dict[str, dict[str, object]]:
    """What may come before tuning, with its settings and defaults."""
    from acclimate.strategies.pretrain import PRETRAINING

    return {name: fields(kind()) for name, kind in PRETRAINING.items()}


def holds() -> dict[str, dict[str, object]]:
    """What ties a tuned network to the pretrained one, with its settings and defaults."""
    from acclimate.hold import HOLDS

    return {name: fields(kind()) for name, kind in HOLDS.items()}


def adapters() -> dict[str, dict[str, object]]:
    """The settings of each adapter, with their defaults."""
    from acclimate.testtime import ADAPTERS

    return {name: fields(adapter) for name, adapter in ADAPTERS.items()}


def metrics() -> dict[str, dict[str, bool]]:
    """The metrics of each task, and whether more is better."""
    from acclimate.metrics.tables import METRICS

    return {task: {name: metric.greater_is_better for name, metric in known.items()} for task, known in METRICS.items()}


def fields(strategy: Any) -> dict[str, object]:
    """What `--set` can change, and its value here; λ by the name that options call it."""
    found = {field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy) if field.init}
    return {"lambda" if name == "weight" else name: value for name, value in found.items()}
