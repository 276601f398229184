"""The RUN folder: where it lies, how it is written (whole or not at all), and how often a test file was used."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acclimate import files
from acclimate.data.kinds import kind_of
from acclimate.data.rows import Data
from acclimate.errors import MachineFailed, UserError
from acclimate.files import json_text

if TYPE_CHECKING:
    from acclimate.report.data import ReportData

STATE = "state"  # inside a RUN that is not finished
_MARK = "run.json"
REPORT = "report.json"
_ENTRIES: dict[str, tuple[type, bool]] = {  # of run.json: what each is, and whether none may be without it
    "asked": (dict, True), "seed": (int, True), "metric": (str, True), "arguments": (dict, False),
    "content": (dict, False), "columns": (dict, False), "corrections": (list, False),
}  # fmt: skip
LEARNED = "learned_from.json"
ADAPTED = "adapted_to.json"


def cannot_write(path: Path, error: OSError) -> MachineFailed:
    """The error for a path that cannot be written."""
    return MachineFailed(f"cannot write {path}: {error.strerror or error}; choose another --output-dir")


def new_folder(output_dir: str | Path | None, stem: str, overwrite: bool, resume: bool = False) -> Path:
    """The folder of a run: the one named, which must be free unless `overwrite`, or a dated one under runs/.

    With `resume` it may hold an unfinished run, or nothing.
    """
    if output_dir is not None and not str(output_dir).strip():
        raise UserError("the output folder has an empty name; leave --output-dir out for a dated one under runs/")
    if output_dir is None:
        stamp = datetime.datetime.now().strftime("%Y-%m-%d-%H%M%S")
        base = Path("runs") / f"{stamp}-{stem}"
        folder, count = base, 2
        while folder.exists():
            folder, count = base.with_name(f"{base.name}-{count}"), count + 1
        return folder
    folder = Path(output_dir)
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not nearest.is_dir() and nearest != folder or not os.access(nearest, os.W_OK):
        kind = MachineFailed if nearest.is_dir() else UserError
        raise kind(f"cannot write {folder}: {nearest} is no folder that can be written to; choose another --output-dir")
    put_back(folder)
    if not folder.exists() or folder.is_dir() and not _holds(folder) and not unfinished(folder):
        return folder
    if unfinished(folder) and (resume or overwrite):
        return folder
    if unfinished(folder):
        raise UserError(
            f"{folder} holds a run that is not finished; go on with it by --resume, or start anew with --overwrite"
        )
    if not overwrite:
        raise UserError(f"{folder} exists already; name another --output-dir, or replace it with --overwrite")
    if not folder.is_dir() or not (folder / _MARK).is_file():
        raise UserError(
            f"{folder} was not written by acclimate (it holds no {_MARK}), so --overwrite leaves it alone; name another"
        )
    return folder


def finished(folder: Path) -> bool:
    """Whether this folder holds a run that ended well, and none that is under way."""
    return (folder / _MARK).is_file() and not unfinished(folder)


def unfinished(folder: Path) -> bool:
    """Whether this folder holds a run that can be gone on with."""
    return (folder / STATE / "request.json").is_file()


def newest_unfinished() -> Path | None:
    """The unfinished run under runs/ that was begun last."""
    found = [p.parent.parent for p in Path("runs").glob(f"*/{STATE}/request.json")]
    return max(found, key=lambda p: (p / STATE / "request.json").stat().st_mtime, default=None)


def _holds(folder: Path) -> list[Path]:
    """What lies in a folder besides the state of an unfinished run."""
    return [p for p in folder.iterdir() if p.name != STATE]


def put_back(folder: Path) -> None:
    """An earlier process may have been killed between the two renames of `writing`: what was there comes back."""
    for old in folder.parent.glob(f".{folder.name}.*.part.old"):
        if _alive(old.with_suffix("")):
            continue
        if not folder.exists():
            os.replace(old, folder)
        else:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def writing(folder: Path, replace: bool = True) -> Iterator[Path]:
    """A hidden folder beside the target to write into; it takes the target's place when the block ends well."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        put_back(folder)
        for left_over in folder.parent.glob(f".{folder.name}.*.part"):
            if not _alive(left_over):
                shutil.rmtree(left_over, ignore_errors=True)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:6]}.part")
        temporary.mkdir()
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        try:
            yield temporary
        except Exception as error:
            if type(error).__name__ == "SafetensorError" or isinstance(error, OSError):
                raise MachineFailed(f"cannot write {folder}: {error}; nothing half-written was left there") from error
            raise
        if folder.exists() and not replace and _holds(folder):
            raise UserError(f"{folder} was written by another run meanwhile; this one is not kept: name another")
        try:
            _swap(temporary, folder)
        except OSError as error:
            raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, folder: Path) -> None:
    """The folder just written takes its place; what was there goes, or stays where that cannot be done."""
    if not folder.exists():
        os.replace(temporary, folder)
        return
    old = folder.with_name(f"{temporary.name}.old")
    os.replace(folder, old)
    try:
        os.replace(temporary, folder)
    except OSError:
        os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _alive(part: Path) -> bool:
    """Whether the process that writes this folder still runs."""
    number = part.name.removesuffix(".part").rsplit(".", 1)[-1].split("-")[0]
    return number.isdigit() and Path(f"/proc/{number}").exists()


def write_json(path: Path, value: Any) -> None:
    """Atomically; numbers that are not finite become null."""
    write_text(path, json_text(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomically, with one clear error."""
    try:
        files.write_text(path, text)
    except OSError as error:
        raise MachineFailed(f"cannot write {path}: {error.strerror or error}") from error


def write_report(data: ReportData | None, target: Path, run_dir: Path | None) -> Path:
    """The report as HTML, or Markdown where the name ends in .md."""
    if data is None and run_dir is not None and (run_dir / REPORT).exists():
        raise damaged(run_dir / REPORT, _why_unreadable(run_dir / REPORT))
    if data is None:
        raise UserError("this model was loaded without its run, so there is no report; load the RUN folder instead")
    from acclimate.report.html import render_html
    from acclimate.report.markdown import render_markdown

    render = render_markdown if target.suffix.lower() == ".md" else render_html
    write_text(target, render(data))
    return target


def read_json(path: Path) -> Any:
    """The JSON of one file of a run, with one clear error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run of acclimate: it holds no {path.name}") from error
    except OSError as error:
        raise MachineFailed(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: Path, why: str) -> UserError:
    """The error for a file of a run that does not hold what was written into it."""
    bundle = path.parent / "model"
    alone = f"; {bundle} alone predicts without it" if bundle.is_dir() else ""
    return UserError(f"{path} is damaged ({why}); put it back from a copy, or fit anew{alone}")


def about(folder: Path) -> dict[str, Any]:
    """What run.json says of the run in this folder, checked as far as it is used."""
    path = folder / _MARK
    made = read_json(path)
    if not isinstance(made, dict):
        raise damaged(path, f"it holds {_called(made)} in place of an object")
    for name, (kind, needed) in _ENTRIES.items():
        if (needed or name in made) and not isinstance(made.get(name), kind):
            held = f"{_called(made[name])} as {name!r}" if name in made else f"no {name!r}"
            raise damaged(path, f"it holds {held}")
    for name, kind in (("split", str), ("settings", dict)):
        if not isinstance(value := made["asked"].get(name), (kind, type(None))):
            raise damaged(path, f"it holds {_called(value)} as {name!r} of what was asked")
    return made


def about_if_there(folder: Path) -> dict[str, Any]:
    """The same; nothing where there is no run.json, since a model that was copied without it answers all the same."""
    return about(folder) if (folder / _MARK).exists() else {}


def _called(value: object) -> str:
    """What a JSON value is, in words."""
    words = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


def _why_unreadable(path: Path) -> str:
    """Why a report cannot be made from this file."""
    from acclimate.report.data import ReportData

    try:
        ReportData.from_json(read_json(path))
    except (UserError, TypeError, AttributeError) as error:
        return str(error)
    return "it holds no report"


def _hashes(path: Path) -> set[str]:
    """The hashes in a file of a run; none where there is no such file."""
    found = read_json(path) if path.is_file() else []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise damaged(path, "it holds no list of hashes")
    return set(found)


def versions() -> dict[str, str]:
    """What the run was made with."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("acclimate", "torch", "transformers", "peft", "scikit-learn", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def remember(run_dir: Path, parts: Sequence[Data], name: str = LEARNED) -> None:
    """Keep an 8-byte hash of the key of every input, so that `evaluate` can tell rows that were learned from
    (`LEARNED`) or adapted to without labels (`ADAPTED`)."""
    remember_keys(run_dir, [key for data in parts for key in kind_of(data).keys(data.inputs)], name)


def remember_keys(run_dir: Path, keys: Sequence[str], name: str = LEARNED) -> None:
    """The same for inputs whose keys are known."""
    write_json(run_dir / name, sorted({_short(key) for key in keys}))


def add_remembered(run_dir: Path, other: Path, name: str = LEARNED) -> None:
    """What another run kept under this name, too."""
    if (other / name).is_file():
        write_json(run_dir / name, sorted(_hashes(run_dir / name) | _hashes(other / name)))


def known(run_dir: Path, data: Data, name: str = LEARNED) -> int:
    """How many of these inputs were kept under this name (near duplicates count); 0 where no hashes were."""
    return known_keys(run_dir, kind_of(data).keys(data.inputs), name) if (run_dir / name).is_file() else 0


def known_keys(run_dir: Path, keys: Sequence[str], name: str = LEARNED) -> int:
    """How many inputs with these keys were kept under this name; 0 where no hashes were."""
    seen = _hashes(run_dir / name)
    return sum(_short(key) in seen for key in keys)


def _short(key: str) -> str:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def count_use(run_dir: Path, digest: str, source: str) -> int | None:
    """How often this test file was used with this run, this time included; None where the run cannot be written."""
    if not os.access(run_dir, os.W_OK):
        return None
    path = run_dir / "test_uses.json"
    uses = read_json(path) if path.is_file() else {}
    if not isinstance(uses, dict) or not all(map(_is_use, uses.values())):
        raise damaged(path, "it holds no counts of test files")
    entry = uses.setdefault(digest, {"source": source, "count": 0})
    entry["count"] += 1
    write_json(path, uses)
    return int(entry["count"])


def _is_use(entry: object) -> bool:
    return isinstance(entry, dict) and type(entry.get("count")) is int
