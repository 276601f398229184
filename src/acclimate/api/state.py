"""RUN/state: what was asked of a run that is not finished yet, and what it has found so far. Gone when it ends well.

`request.json` holds the arguments and a key of the data's content, `model.json` the fingerprint of the weights: without
them nothing else counts, since it could be of anything. `trials/` holds the out-of-fold predictions of every candidate
that was judged, further folders what was decided by the clock and the checkpoints of a training: what is damaged there
is left aside and done anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from acclimate import ranks
from acclimate.api import runs
from acclimate.api.request import Request
from acclimate.catalogue import cache
from acclimate.data.folders import base_of, file_of
from acclimate.data.read import read
from acclimate.data.rows import FILES, Table
from acclimate.data.split import hash_of
from acclimate.errors import MachineFailed, UserError
from acclimate.files import json_text, plain, read_object, write_text
from acclimate.interrupt import Interrupted, Terminated
from acclimate.keys import key_of
from acclimate.run import Run
from acclimate.settings import parse_duration

_ASKED = {"arguments", "content", "folder", "overwrite", "versions"}  # what request.json holds
_ROLES = {
    "train_data": "train",
    "valid_data": "valid",
    "test_data": "test",
    "target_data": "target",
    "target_labels": "target_labels",
}
SOURCES = tuple(_ROLES)
# How a run is carried out, not what it is: these may differ when it goes on.
HOW = ("output_dir", "overwrite", "resume", "quiet", "num_workers", "checkpoint_every", "others")


def same_form(name: str, value: Any) -> Any:
    """An argument as plain JSON, alike whether it came from the command line or from Python."""
    if name == "time_limit" and value is not None:
        return parse_duration(value)
    if name in SOURCES and value is not None and not isinstance(value, (str, os.PathLike)):
        return f"<{type(value).__name__}>"
    value = plain(value)
    return None if value in ([], {}) else value


def begun(run_dir: Path) -> dict[str, Any] | None:
    """What was asked of the unfinished run in this folder; None where there is none."""
    path = run_dir / runs.STATE / "request.json"
    found = read_object(path)
    if found.keys() >= _ASKED:
        return found
    if path.exists() or _anything(run_dir):
        raise _unknown(path, run_dir, "data and settings")
    return None


def same_model(run_dir: Path, run: Run, fingerprint: str | None) -> bool:
    """Whether the unfinished run was begun with these weights; noted down where it begins."""
    path = run_dir / runs.STATE / "model.json"

    def check() -> None:
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if _anything(run_dir):
                raise _unknown(path, run_dir, "weights") from None

    ranks.by_first(check)
    return bool(run.once("model", lambda: fingerprint) == fingerprint)


def _anything(run_dir: Path) -> bool:
    """Whether anything was found that could be gone on from."""
    folder = run_dir / runs.STATE
    return any(any(folder.rglob(kept)) for kept in ("trials/*.npz", "place.json", "*.safetensors"))


def _unknown(path: Path, run_dir: Path, what: str) -> UserError:
    return UserError(
        f"{path} is missing, damaged or of an earlier version, and it alone says of which {what} the "
        f"unfinished run {run_dir} is, so that it cannot be gone on with; start anew: give the training data, and "
        "--overwrite in place of --resume"
    )


def go_on(
    output_dir: str | Path | None, asked: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[Path | None, dict[str, Any] | None]:
    """The folder of the run to go on with and its arguments; None for what starts from nothing.

    Without training data the stored arguments are taken; whatever is given must be what the run was begun with.
    """
    folder = Path(output_dir) if output_dir is not None else runs.newest_unfinished()
    if folder is not None:
        runs.put_back(folder)
    before = None if folder is None else begun(folder)
    if before is None or folder is None:
        if asked["train_data"] is None:
            raise UserError(
                f"{'runs/' if folder is None else folder} holds no unfinished run to go on with; give the training "
                "data to start one"
            )
        return folder, None
    arguments: dict[str, Any] = before["arguments"]
    for name, mine, theirs in _differing(asked, arguments, defaults):
        raise UserError(
            f"{name} is {mine!r} here and {theirs!r} in the unfinished run {folder}; give what it was begun with, "
            f"leave the options out ({command(folder)}), or start anew with --overwrite"
        )
    if asked["train_data"] is not None:
        return folder, None
    if any(str(arguments.get(name)).startswith("<") for name in SOURCES):
        raise UserError(
            f"the data of the unfinished run {folder} came from memory; call fit again as before, with "
            f"output_dir={str(folder)!r} and resume=True"
        )
    there = Path(before["folder"])
    for name in (*SOURCES, "model"):  # paths were relative to where the run was begun
        if (
            arguments.get(name) is not None
            and not Path(arguments[name]).exists()
            and (there / arguments[name]).exists()
        ):
            arguments[name] = str(there / arguments[name])
    return folder, {**arguments, "overwrite": bool(before["overwrite"])}


def _differing(
    asked: Mapping[str, Any], arguments: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Arguments that are not those of the run, with both values. Without training data what is left out is no
    difference."""
    alone = asked["train_data"] is None
    for name, value in asked.items():
        usual = same_form(name, defaults[name])
        mine, theirs = same_form(name, value), arguments.get(name, usual)
        if name in SOURCES and not alone:  # known by their content, wherever they lie
            mine, theirs = mine is not None, theirs is not None
        if mine != theirs and not (alone and mine == usual):
            yield name, mine, theirs


def done(output_dir: str | Path | None, asked: Mapping[str, Any], defaults: Mapping[str, Any]) -> Path | None:
    """The folder of a finished run of the same data and settings, of which nothing is left to do; an error where they
    differ; None where no finished run is named."""
    if output_dir is None:
        return None
    folder = Path(output_dir)
    runs.put_back(folder)
    if not runs.finished(folder):
        return None
    made = runs.about(folder)
    given = {name: asked[name] for name in SOURCES if asked[name] is not None}
    what = [name for name, _, _ in _differing(asked, made.get("arguments", {}), defaults)]
    if not what and asked["train_data"] is not None:
        tables = {_ROLES[name]: read(source) for name, source in given.items()}
        known = made.get("columns", {})
        among = zip(known.get("features", ()), known.get("holds", ()), strict=False)
        now = content_of(tables, [known.get("file"), *(name for name, kind in among if kind in FILES)])
        what = [f"the {role} data" for role, key in now.items() if made.get("content", {}).get(role) != key]
    if what:
        raise UserError(
            f"{folder} is a finished run, and {what[0]} differs from what it was made with; name another --output-dir, "
            "or fit anew with --overwrite in place of --resume"
        )
    return folder


def command(folder: Path) -> str:
    """What goes on with the run in this folder."""
    return f"acclimate fit --resume --output-dir {shlex.quote(str(folder))}"


def sha256_of(sources: Mapping[str, Any]) -> dict[str, str]:
    """The hash of every file, as it is on the disk."""
    found = {}
    for role, source in sources.items():
        if isinstance(source, (str, Path)):
            try:
                found[role] = hash_of(source)
            except OSError as error:
                raise UserError(f"{source} was read, and now it cannot be ({error.strerror}); put it back") from error
    return found


def content_of(tables: Mapping[str, Table], files: Collection[str | None] = ()) -> dict[str, str]:
    """A key of every table's cells as they were read: line ends, encoding and place of a file do not count.

    In the columns `files` a path counts as what the file holds.
    """
    found = {}
    for role, table in tables.items():
        digest = hashlib.sha256()
        for name, values in table.columns.items():
            digest.update(repr(name).encode())
            held = [_held(value, table) for value in values] if name in files else values
            for at in range(0, len(values), 1000):
                digest.update(repr(held[at : at + 1000]).encode("utf-8", "surrogatepass"))
        found[role] = digest.hexdigest()
    return found


def _held(cell: object, table: Table) -> object:
    """The content of a picture or a recording; what cannot be read stays what it is called."""
    try:
        return key_of(file_of(cell, base_of(table)), "image")
    except UserError:
        return cell


@contextmanager
def kept(request: Request) -> Iterator[tuple[Request, float]]:
    """The request with a run that keeps its state, and the seconds used before. One process at a time is at work on it.

    What was found by a run that fails stays, to go on from.
    """
    folder = request.folder / runs.STATE
    if not ranks.first():  # the first process keeps the state; the others wait until it has read or begun it
        used = float(ranks.agreed(0.0))
        deadline = None if request.run.deadline is None else request.run.deadline - used
        yield replace(request, run=replace(request.run, state=folder, deadline=deadline)), used
        return
    try:
        runs.put_back(request.folder)
        new = not request.folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        for made in (folder, request.folder) if request.gate.private and new else (folder,):
            made.chmod(0o700)
        with _alone(request.folder):
            used = ranks.agreed(_begin(request, folder))
            deadline = None if request.run.deadline is None else request.run.deadline - used
            run = replace(request.run, state=folder, deadline=deadline)
            overwrite = bool(read_object(folder / "request.json").get("overwrite"))
            try:
                yield replace(request, run=run, overwrite=overwrite), used
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                _failed(request.folder, error)
                raise
    except OSError as error:
        raise _blamed(request.folder, error) from error


def _blamed(run_dir: Path, error: OSError) -> UserError:
    """The error for a path that cannot be used: this run's, or another, such as one in the cache."""
    if error.filename is None or Path(error.filename).absolute().is_relative_to(run_dir.absolute()):
        return runs.cannot_write(run_dir, error)
    if Path(error.filename).absolute().is_relative_to(cache.root().absolute()):
        return MachineFailed(
            f"cannot use {error.filename}: {error.strerror}; set ACCLIMATE_CACHE to a folder that can be written to"
        )
    return MachineFailed(f"cannot use {error.filename}: {error.strerror}")


def _failed(run_dir: Path, error: BaseException) -> None:
    """A machine that failed can be put right, and the run gone on with; where nothing was found yet, nothing stays."""
    folder = run_dir / runs.STATE
    if _anything(run_dir):
        if isinstance(error, (OSError, MachineFailed)):
            text = str(error) if isinstance(error, UserError) else f"{error.strerror}: {error.filename or run_dir}"
            raise MachineFailed(f"{text}. What was found so far is kept: go on with {command(run_dir)}") from error
        return
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        run_dir.rmdir()  # only where nothing else is in it


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(run_dir / runs.STATE / "lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"another process is at work on {run_dir}; wait until it ends, or name another --output-dir"
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.release()


def _begin(request: Request, folder: Path) -> float:
    """Write down what is asked, or check that it is what was asked before; the seconds that were used until then."""
    before = begun(request.folder) if request.resume else None
    if before is None:
        for old in folder.iterdir():
            if old.name != "lock":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        asked = {
            "arguments": dict(request.arguments),
            "content": dict(request.content),
            "folder": str(Path.cwd()),
            "overwrite": request.overwrite,
            "versions": runs.versions(),
        }
        write_text(folder / "request.json", json_text(asked, indent=1))
    else:
        for role, key in request.content.items():
            if before["content"].get(role) != key:
                raise UserError(
                    f"the {role} data is not what the unfinished run {request.folder} was begun with (its content "
                    "differs); give the same rows, or start anew with --overwrite"
                )
        for name, version in runs.versions().items():
            if before["versions"].get(name) != version:
                request.run.progress.say(
                    f"note: begun with {name} {before['versions'].get(name)}, going on with {version}: the last digits "
                    "may differ"
                )
    return replace(request.run, state=folder).used()  # the first process alone is here


def interrupted(folder: Path, stop: KeyboardInterrupt) -> Interrupted:
    """What a run says that was stopped."""
    code, by = (143, "SIGTERM") if isinstance(stop, Terminated) else (130, "Ctrl-C")
    before = read_object(folder / runs.STATE / "request.json")
    if not before.keys() >= _ASKED:
        return Interrupted(f"stopped by {by} before anything was found", code)
    if any(str(before["arguments"].get(name)).startswith("<") for name in SOURCES):
        way = f"call fit again as before, with output_dir={str(folder)!r} and resume=True"
    else:
        way = command(folder)
    return Interrupted(f"stopped by {by}; go on with: {way}", code)
