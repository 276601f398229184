"""RUN/state: what was asked of a run that is not finished yet, and what it has found so far. Gone when it ends well.

`request.json` holds the arguments and the hashes of the data, `trials/` the out-of-fold predictions of every candidate
that was judged, further folders what was decided by the clock and the checkpoints of a training.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from acclimate import ranks
from acclimate.api import runs
from acclimate.api.request import Request
from acclimate.catalogue import cache
from acclimate.data.rows import Table
from acclimate.data.split import hash_of
from acclimate.errors import UserError
from acclimate.files import plain, write_text
from acclimate.interrupt import Interrupted, Terminated
from acclimate.settings import parse_duration

SOURCES = ("train_data", "valid_data", "test_data", "target_data", "target_labels")
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


def begun(folder: Path) -> dict[str, Any] | None:
    """What was asked of the unfinished run in this folder; None where there is none."""
    try:
        found: dict[str, Any] = json.loads((folder / runs.STATE / "request.json").read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return None


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
        if asked["train_data"] is None and folder is not None and runs.finished(folder):
            raise runs.nothing_to_resume(folder)
        if asked["train_data"] is None:
            raise UserError(
                f"{'runs/' if folder is None else folder} holds no unfinished run to go on with; give the training "
                "data to start one"
            )
        return folder, None
    arguments: dict[str, Any] = before["arguments"]
    alone = asked["train_data"] is None
    for name, value in asked.items():
        usual = same_form(name, defaults[name])
        mine, theirs = same_form(name, value), arguments.get(name, usual)
        if name in SOURCES and not alone:  # known by their hashes, wherever they lie
            mine, theirs = mine is not None, theirs is not None
        if mine != theirs and not (alone and mine == usual):
            raise _differs(name, mine, theirs, folder)
    if not alone:
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


def _differs(name: str, mine: Any, theirs: Any, folder: Path) -> UserError:
    return UserError(
        f"{name} is {mine!r} here and {theirs!r} in the unfinished run {folder}; give what it was begun with, leave "
        f"the options out ({command(folder)}), or start anew with --overwrite"
    )


def command(folder: Path) -> str:
    """What goes on with the run in this folder."""
    return f"acclimate fit --resume --output-dir {shlex.quote(str(folder))}"


def sha256_of(sources: Mapping[str, Any], tables: Mapping[str, Table]) -> dict[str, str]:
    """The hash of every source: of the file, or of the cells where it came from memory."""
    found = {}
    for role, table in tables.items():
        source = sources[role]
        if isinstance(source, (str, Path)):
            try:
                found[role] = hash_of(source)
            except OSError as error:
                raise UserError(f"{source} was read, and now it cannot be ({error.strerror}); put it back") from error
        else:
            digest = hashlib.sha256()
            for name, values in table.columns.items():
                digest.update(repr((name, list(values))).encode("utf-8", "surrogatepass"))
            found[role] = digest.hexdigest()
    return found


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
            overwrite = bool((begun(request.folder) or {}).get("overwrite"))
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
        return runs.CannotWrite(
            f"cannot use {error.filename}: {error.strerror}; set ACCLIMATE_CACHE to a folder that can be written to"
        )
    return runs.CannotWrite(f"cannot use {error.filename}: {error.strerror}")


def _failed(run_dir: Path, error: BaseException) -> None:
    """A machine that failed can be put right, and the run gone on with; where nothing was found yet, nothing stays."""
    folder = run_dir / runs.STATE
    if any(folder.glob("trials/*.npz")) or any(folder.rglob("place.json")):
        if isinstance(error, (OSError, runs.CannotWrite)):
            text = str(error) if isinstance(error, UserError) else f"{error.strerror}: {error.filename or run_dir}"
            raise UserError(f"{text}. What was found so far is kept: go on with {command(run_dir)}") from error
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
    used = 0.0
    if before is None:
        for old in folder.iterdir():
            if old.name != "lock":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        asked = {
            "arguments": dict(request.arguments),
            "sha256": dict(request.sha256),
            "folder": str(Path.cwd()),
            "overwrite": request.overwrite,
            "versions": runs.versions(),
        }
        write_text(folder / "request.json", json.dumps(asked, indent=1, ensure_ascii=False))
    else:
        for role, digest in request.sha256.items():
            if before["sha256"].get(role) != digest:
                raise UserError(
                    f"the {role} data is not what the unfinished run {request.folder} was begun with (its hash "
                    "differs); give the same rows, or start anew with --overwrite"
                )
        for name, version in runs.versions().items():
            if before["versions"].get(name) != version:
                request.run.progress.say(
                    f"note: begun with {name} {before['versions'].get(name)}, going on with {version}: the last digits "
                    "may differ"
                )
        used = _used(folder)
    write_text(folder / "session.json", json.dumps({"used": used, "began": time.time()}))
    return used


def _used(folder: Path) -> float:
    """Seconds of work so far: those of each earlier session, until the last thing that it wrote."""
    try:
        session = json.loads((folder / "session.json").read_text(encoding="utf-8"))
        newest = max(p.stat().st_mtime for p in folder.rglob("*") if p.name != "lock")
        return float(session["used"]) + max(0.0, newest - float(session["began"]))
    except (OSError, ValueError, KeyError):
        return 0.0


def interrupted(folder: Path, stop: KeyboardInterrupt) -> Interrupted:
    """What a run says that was stopped."""
    code, by = (143, "SIGTERM") if isinstance(stop, Terminated) else (130, "Ctrl-C")
    before = begun(folder)
    if before is None:
        return Interrupted(f"stopped by {by} before anything was found", code)
    if any(str(before["arguments"].get(name)).startswith("<") for name in SOURCES):
        way = f"call fit again as before, with output_dir={str(folder)!r} and resume=True"
    else:
        way = command(folder)
    return Interrupted(f"stopped by {by}; go on with: {way}", code)
