"""Any source to a `Table`: every row in order, with its line number; what had to be guessed is in `facts`."""

from __future__ import annotations

import difflib
import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from acclimate.data import frames, header
from acclimate.data.dialect import cut
from acclimate.data.encoding import Decoded, decode
from acclimate.data.folders import has_files, in_folder, listed, of_one, read_folder
from acclimate.data.rows import Table
from acclimate.data.series_tables import of_npz
from acclimate.errors import MachineFailed, UserError, plural

_DATA = (".csv", ".tsv", ".txt", ".tab", ".jsonl", ".ndjson", ".json", ".parquet")
_FOREIGN = (  # first bytes -> what it is and what to do
    (b"\xd0\xcf\x11\xe0", "an old Excel or Office file", "open it in a spreadsheet program and save it as CSV (UTF-8)"),
    (b"%PDF", "a PDF", "give a CSV, TSV, JSONL or Parquet file"),
    (b"SQLite format 3", "an SQLite data base", "export the table as CSV"),
    (b"ARROW1", "an Arrow (Feather) file", "save it as Parquet"),
    (b"\x89PNG", "an image", "give a CSV, TSV, JSONL or Parquet file"),
    (b"\xff\xd8\xff", "an image", "give a CSV, TSV, JSONL or Parquet file"),
    (b"GIF8", "an image", "give a CSV, TSV, JSONL or Parquet file"),
    (b"RIFF", "a sound or video file", "give a CSV, TSV, JSONL or Parquet file"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"BZh", "a bzip2 archive", "unpack it first"),
    (b"\xfd7zXZ", "an xz archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (
        b"\x80\x04\x95",
        "a Python pickle",
        "save the frame with to_csv or to_parquet (a pickle can run code when it is opened)",
    ),
)


def read(
    source: Any, *, delimiter: str | None = None, encoding: str | None = None, may_be_empty: bool = False
) -> Table:
    """Read a file (CSV, TSV, text, Parquet, JSONL, JSON, NPZ), a folder of pictures, a frame, an Arrow table, a
    `datasets.Dataset`, a dict or a list.

    The content of a file decides, not its name. Cells of text files stay text ("NA" and "null" too); an empty cell
    is None. A header without rows is refused unless it `may_be_empty`.

    >>> table = read([{"text": "good", "label": 1}, {"text": "bad", "label": 0}])
    >>> table.columns["label"], table.lines
    ([1, 0], (1, 2))
    """
    if isinstance(source, Table):
        return source
    if isinstance(source, (str, Path)):
        path, name = Path(source).expanduser(), str(source)
        if not _is_folder(path):
            if path.suffix.lower() == ".npz" and _is_file(path):
                return of_npz(path, name)
            one = of_one(path, name) if _is_file(path) else None
            return one if one is not None else read_file(path, name, delimiter, encoding, may_be_empty)
        there(path, name)
        table = listed(path)
        if table is None:
            return read_folder(path, name)
        return in_folder(read(table, delimiter=delimiter, encoding=encoding, may_be_empty=may_be_empty), path, name)
    package = type(source).__module__.split(".")[0]
    if package == "pandas" and hasattr(source, "iloc") and hasattr(source, "columns"):
        return frames.from_pandas(source)
    if package == "pyarrow" and hasattr(source, "to_pylist") and hasattr(source, "column_names"):
        return frames.from_arrow(source, "<arrow>")
    if package == "datasets":
        return frames.from_dataset(source)
    if isinstance(source, Mapping):
        return frames.from_columns(source)
    if isinstance(source, (list, tuple)):
        return frames.from_rows(source)
    raise UserError(
        f"cannot read a {type(source).__module__}.{type(source).__name__}; give a path, a pandas.DataFrame, a "
        "pyarrow.Table, "
        "a datasets.Dataset, a list of dicts or a dict of lists"
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a text that was meant as data: too long for a name, or with a NUL
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_file(path: Path, name: str, delimiter: str | None, encoding: str | None, may_be_empty: bool = False) -> Table:
    """The file at `path`, called `name` in messages, as its content says."""
    raw = _bytes(path.expanduser(), name)
    facts: dict[str, object] = {"bytes": len(raw)}
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name} is a damaged gzip file ({error}); make it again") from None
        facts["compression"] = "gzip"
        path = path.with_suffix("")
    _refuse_foreign(raw, name, path.suffix.lower())
    if raw[:4] == b"PAR1":
        return _parquet(raw, name, facts)
    decoded = decode(raw, name, encoding)
    if not decoded.text.strip():
        raise UserError(f"{name} is empty; give a file with at least one row")
    facts |= {"encoding": decoded.encoding, "encoding_guessed": decoded.guessed}
    table = _json(decoded, path.suffix.lower(), name, facts) if decoded.text.lstrip()[0] in "[{" else None
    return (
        table if table is not None else _delimited(decoded, path.suffix.lower(), name, delimiter, facts, may_be_empty)
    )


def there(path: Path, name: str) -> None:
    """Refuse what cannot be read: an address, a folder without data, a path where nothing is."""
    if name.split("://")[0] in ("http", "https", "s3", "gs", "hf", "ftp"):
        raise UserError(f"{name} is an address; download the file first and give its path")
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError):  # a text that was meant as data: too long for a name, or with a NUL
        raise UserError(f"{name[:60]!r}... is no file name; give a path, or a list of texts") from None
    if is_folder and has_files(path):
        return
    if is_folder:
        inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in _DATA)
        what = (
            f"give one of its files: {', '.join(inside[:8])}"
            if inside
            else "it holds no CSV, TSV, JSONL or Parquet file, and no pictures"
        )
        raise UserError(f"{name} is a folder; {what}")
    if not exists:
        raise UserError(f"there is no file {name}{_neighbours(path)}")


def _bytes(path: Path, name: str) -> bytes:
    there(path, name)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise MachineFailed(f"{name} cannot be read: {error.strerror or error}") from None
    if not raw:
        raise UserError(f"{name} is empty (0 bytes); give a file with at least one row")
    return raw


def _neighbours(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    files = [p.name for p in folder.iterdir() if p.is_file()]
    near = difflib.get_close_matches(path.name, files, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {str(folder / near[0])!r}?"
    data = sorted(f for f in files if Path(f).suffix.lower() in _DATA)
    return f"; the folder holds {', '.join(data[:8])}" if data else "; check the path"


def _refuse_foreign(raw: bytes, name: str, suffix: str) -> None:
    if raw[:4] == b"PK\x03\x04":
        if suffix in (".xlsx", ".xlsm", ".ods") or b"xl/" in raw or b"opendocument.spreadsheet" in raw[:200]:
            raise UserError(
                f"{name} is a spreadsheet; save the sheet as CSV (UTF-8) in your spreadsheet program and give that file"
            )
        raise UserError(f"{name} is a zip archive; unpack it and give the CSV, TSV, JSONL or Parquet file inside")
    for magic, what, remedy in _FOREIGN:
        if raw.startswith(magic):
            raise UserError(f"{name} is {what}; {remedy}")


def _parquet(raw: bytes, name: str, facts: dict[str, object]) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(raw))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{name} is a damaged Parquet file ({str(error).splitlines()[0]}); write it again") from None
    read_in = frames.from_arrow(table, name, "parquet")
    read_in.facts.update(facts)
    return read_in


def _json(decoded: Decoded, suffix: str, name: str, facts: dict[str, object]) -> Table | None:
    """JSON lines, a JSON list of objects or an object of columns; None where the text is no JSON after all."""
    by_name = suffix in (".json", ".jsonl", ".ndjson")
    lines = decoded.text.split("\n")
    share = _json_share(lines)
    if share > 0.5 or (share > 0 and suffix in (".jsonl", ".ndjson")):
        head = next(row for row in map(_parsed, lines) if isinstance(row, dict))
        single = sum(1 for line in lines if line.strip()) == 1
        if not (single and (_records(head) or (suffix == ".json" and _is_columns(head)))):
            return _json_lines(decoded, lines, name, facts)
    try:
        whole = json.loads(decoded.text, parse_constant=_no_number)
    except ValueError as error:
        if not by_name:
            return None
        remedy = "give one object a line (JSONL) or a list of objects"
        raise UserError(f"{name} is not valid JSON: {error}; {remedy}") from None
    except RecursionError:
        raise UserError(f"{name} is nested too deeply to be a table; give one object a line (JSONL)") from None
    whole = _records(whole) or whole
    if _is_columns(whole):
        table = replace(frames.from_columns(whole), source=name)
        table.facts["format"] = "json"
    elif isinstance(whole, list) and whole:
        table = frames.from_rows(whole, name, "json")
    elif by_name:
        remedy = "give one object a line (JSONL), a list of objects or an object of lists"
        raise UserError(f"{name} holds no table; {remedy}")
    else:
        return None
    table.facts.update(facts, notes=list(decoded.notes))
    return table


def _records(value: object) -> list[object] | None:
    """The one list of objects inside an object: {"version": 1, "data": [{...}, {...}]}."""
    if not isinstance(value, dict):
        return None
    found = [v for v in value.values() if isinstance(v, list) and v and all(isinstance(x, dict) for x in v)]
    return found[0] if len(found) == 1 else None


def _is_columns(value: object) -> TypeGuard[dict[str, list[object]]]:
    return isinstance(value, dict) and bool(value) and all(isinstance(v, list) for v in value.values())


def _no_number(_: str) -> None:
    """NaN and Infinity are no JSON and no value."""


def _parsed(line: str) -> object:
    try:
        return json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None


def _json_share(lines: list[str]) -> float:
    head = [line for line in lines if line.strip()][:50]
    return sum(isinstance(_parsed(line), dict) for line in head) / len(head)


def _json_lines(decoded: Decoded, lines: list[str], name: str, facts: dict[str, object]) -> Table:
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    problems: list[str | None] = []
    names: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _parsed(line)
        numbers.append(number)
        if isinstance(row, dict):
            names.update(dict.fromkeys(row))
            problems.append(None)
        else:
            problems.append("not a JSON object")
        rows.append(row if isinstance(row, dict) else {})
    columns = {n: [_finite(frames.plain(row.get(n))) for row in rows] for n in names}
    bad = sum(p is not None for p in problems)
    notes = list(decoded.notes) + ([f"{bad} of {len(rows)} lines are not JSON objects"] if bad else [])
    return Table(columns, tuple(numbers), tuple(problems), name, True, facts | {"format": "jsonl", "notes": notes})


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _delimited(
    decoded: Decoded, suffix: str, name: str, delimiter: str | None, facts: dict[str, object], may_be_empty: bool
) -> Table:
    if delimiter is not None and len(delimiter) != 1:
        delimiter = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";"}.get(delimiter)
        if delimiter is None:
            raise UserError("a delimiter is one character, such as ',' or ';' or 'tab'")
    records = cut(decoded.text, suffix, delimiter)
    rows, lines = records.rows, records.lines
    notes = [*decoded.notes, *records.notes]
    if not rows:
        raise UserError(f"{name} is empty; give a file with at least one row")
    named = header.has_header(rows)
    names, body, first = _named_columns(rows, named, notes)
    if not body and not may_be_empty:
        raise UserError(f"{name} has a header ({', '.join(names)[:80]}) but no rows; give a file with at least one")
    columns, problems = _cells(names, body, notes)
    if problems and all(problems):
        raise UserError(
            f"{name}: the header has {plural(len(names), 'name')} but the rows have {plural(_mode(body), 'field')}; "
            f"correct the header, or "
            "quote cells that hold the delimiter"
        )
    facts |= {"format": "delimited", "header": named, **records.facts, "notes": notes}
    return Table(columns, tuple(lines[first:]), tuple(problems), name, False, facts)


def _named_columns(rows: list[list[str]], named: bool, notes: list[str]) -> tuple[list[str], list[list[str]], int]:
    """Names, the records that are rows, and the position of the first of them."""
    if not named:
        names = header.invented(rows, _mode(rows))
        notes.append(f"the first line looks like data, so the columns are called {', '.join(names)}")
        return names, rows, 0
    orange = header.orange_note(rows)
    if orange:
        notes.append(orange)
    if len(rows[0]) == 1 and rows[0][0].strip().casefold() not in header.KNOWN:
        notes.append("line 1 is taken as the name of the column; if it is a row, write a name such as text above it")
    head, body = rows[0], rows[1:]
    if (
        body
        and _mode(body) == len(head) + 1
        and sum(len(r) == len(head) + 1 for r in body) >= 0.9 * len(body)
        and any(r[-1] for r in body)
    ):
        head = ["", *head]  # R writes row names without a name above them
    names, changed = header.names_of(head)
    notes += changed
    return names, body, 1


def _mode(rows: list[list[str]]) -> int:
    widths = Counter(len(row) for row in rows)
    return max(widths, key=lambda w: (widths[w], -w))


def _cells(
    names: list[str], body: list[list[str]], notes: list[str]
) -> tuple[dict[str, list[object]], list[str | None]]:
    """Columns and the problem of each row: a row with too few or too many fields keeps its place, with no cells."""
    width = len(names)
    problems: list[str | None] = []
    whole: list[list[str]] = []
    blank = [""] * width
    short = long = padded = 0
    for row in body:
        extra = row[width:]
        if len(row) == width:
            problems.append(None)
            whole.append(row)
        elif extra and not any(cell.strip() for cell in extra):
            padded += 1
            problems.append(None)
            whole.append(row[:width])
        else:
            short, long = short + (len(row) < width), long + (len(row) > width)
            problems.append(
                f"{len(row)} field{'s' if len(row) != 1 else ''} where the file has {plural(width, 'column')}"
            )
            whole.append(blank)
    if short or long:
        notes.append(
            f"{plural(short + long, 'row')} {'does' if short + long == 1 else 'do'} not fit the "
            f"{plural(width, 'column')} ({short} too short, {long} too long)"
        )
    if padded:
        notes.append(
            f"{plural(padded, 'row')} {'ends' if padded == 1 else 'end'} with empty extra fields, which are ignored"
        )
    return {name: [row[j] or None for row in whole] for j, name in enumerate(names)}, problems
