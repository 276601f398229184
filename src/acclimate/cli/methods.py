"""`acclimate methods`: what can be chosen, read from the dictionaries in which it is registered."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import typer

from acclimate.cli import options


def methods(as_json: options.AsJson = False) -> None:
    """List the strategies and adapters with their settings, and the metrics of each task."""
    ways, kinds, measures, adapting = strategies(), settings(), metrics(), adapters()
    if as_json:
        found = {"strategies": ways, "settings": kinds, "metrics": measures, "adapters": adapting}
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    typer.echo("Strategies (--strategy NAME)")
    for name, what in ways.items():
        typer.echo(f"  {name:<14} {what}")
    typer.echo("\nTheir settings (--set KEY=VALUE)")
    for kind, fields in kinds.items():
        typer.echo(f"  {kind:<14} {', '.join(f'{name}={value!r}' for name, value in fields.items()) or 'none'}")
    typer.echo("\nAdapting to the very rows that are judged (predict and evaluate, --adapt NAME[:KEY=VALUE,...])")
    for name, fields in adapting.items():
        typer.echo(f"  {name:<14} {', '.join(f'{key}={value!r}' for key, value in fields.items())}")
    typer.echo("\nMetrics (--metric NAME); (-): less is better")
    for task, names in measures.items():
        typer.echo(f"  {task:<14} {', '.join(name if up else f'{name} (-)' for name, up in names.items())}")


def strategies() -> dict[str, str]:
    """Every strategy by name, from cheap to dear, with the settings that make it what it is."""
    from acclimate.strategies import ADAPTATIONS, BASELINES, STRATEGIES

    found = {"auto": "the baselines and what the time allows, judged on the same folds; the default"}
    for name, strategy in {**BASELINES, **STRATEGIES, **ADAPTATIONS}.items():
        changed = {key: value for key, value in fields(strategy).items() if value != fields(type(strategy)())[key]}
        made = ", ".join(f"{key}={value!r}" for key, value in changed.items())
        what = " without transfer" if name in BASELINES else " to --target-data" if name in ADAPTATIONS else ""
        found[name] = f"{type(strategy).__name__}({made}){what}"
    return found


def settings() -> dict[str, dict[str, object]]:
    """The settings of each kind of strategy, with their defaults."""
    from acclimate.strategies import ADAPTATIONS, STRATEGIES

    every = {**STRATEGIES, **ADAPTATIONS}
    return {type(strategy).__name__: fields(type(strategy)()) for strategy in every.values()}


def adapters() -> dict[str, dict[str, object]]:
    """The settings of each adapter, with their defaults."""
    from acclimate.testtime import ADAPTERS

    return {name: fields(adapter) for name, adapter in ADAPTERS.items()}


def metrics() -> dict[str, dict[str, bool]]:
    """The metrics of each task, and whether more is better."""
    from acclimate.metrics.tables import METRICS

    return {task: {name: metric.greater_is_better for name, metric in known.items()} for task, known in METRICS.items()}


def fields(strategy: Any) -> dict[str, object]:
    """What `--set` can change, and its value here."""
    return {field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy) if field.init}
