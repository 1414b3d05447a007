"""Readers: JSONL, CSV, and Markdown or text files become documents; bad records become ``Rejected``, never exceptions.

All read UTF-8 (a byte-order mark is fine) and stream: memory does not grow with the file.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from worker.documents.document import Document, ParsedRecord, Rejected
from worker.documents.files.fields import from_fields, from_json
from worker.errors import FatalError

RECORD_FIELDS = frozenset({"id", "text", "content", "title"})
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})
TEXT_SUFFIXES = frozenset({".txt", ".text"})


def read(path: Path) -> Iterator[ParsedRecord]:
    """Read a `.jsonl` or `.csv` file, one text or Markdown file, or every such text in a folder.

    The path as given names the source: give the same one every time. Raises FatalError if it cannot be read at all.
    """
    if not path.exists():
        raise FatalError(f"{path} does not exist: give a .jsonl, .csv, .md or .txt file, or a folder of texts.")
    if path.is_dir():
        return _read_folder(path)
    readers: dict[str, Callable[[Path], Iterator[ParsedRecord]]] = {
        ".jsonl": _read_jsonl,
        ".ndjson": _read_jsonl,
        ".csv": _read_csv,
    }
    readers |= dict.fromkeys(MARKDOWN_SUFFIXES | TEXT_SUFFIXES, _read_one)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FatalError(f"{path}: cannot tell what it holds: expected one of {', '.join(sorted(readers))}.")
    return reader(path)


def _read_jsonl(path: Path) -> Iterator[ParsedRecord]:
    """Read one JSON object a line: `text` or `content`, and `id`, `title`, `metadata` where there are any.

    Without an `id` the line's number stands in, so that lines put in above it make it another document.
    """
    source = path.as_posix()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            origin = f"{source}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield Rejected(source, origin, _not_utf8(error))
                continue
            if text.strip():
                yield from_json(text, source=source, origin=origin)


def _read_csv(path: Path) -> Iterator[ParsedRecord]:
    """Read a table with a header; columns other than `id`, `text` or `content` and `title` become metadata."""
    source = path.as_posix()
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        try:
            for row in rows:
                yield _csv_document(row, source=source, origin=f"{source}:{rows.line_num}")
        except UnicodeDecodeError as error:
            yield Rejected(source, f"{source}: after line {rows.line_num}", _not_utf8(error))
        except csv.Error as error:
            yield Rejected(source, f"{source}:{rows.line_num}", f"not CSV: {error}")


def _csv_document(row: dict[str | None, Any], *, source: str, origin: str) -> ParsedRecord:
    if None in row:
        return Rejected(source, origin, "more cells than the header has columns")
    record = {name: cell for name, cell in row.items() if name in RECORD_FIELDS and cell is not None}
    metadata = {name: cell for name, cell in row.items() if name not in RECORD_FIELDS and cell}
    return from_fields({**record, "metadata": metadata}, source=source, origin=origin)


def _read_folder(folder: Path) -> Iterator[ParsedRecord]:
    suffixes = MARKDOWN_SUFFIXES | TEXT_SUFFIXES
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in suffixes and path.is_file()]
    visible = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not visible:
        raise FatalError(f"{folder} holds no text: expected files ending in {', '.join(sorted(suffixes))}.")
    for path in visible:
        yield _text_file(path, source=folder.as_posix())


def _read_one(path: Path) -> Iterator[ParsedRecord]:
    yield _text_file(path, source=path.as_posix())


def _text_file(path: Path, *, source: str) -> ParsedRecord:
    name = path.as_posix()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return Rejected(source, name, _not_utf8(error))
    except OSError as error:
        return Rejected(source, name, f"cannot be read: {error.strerror}")
    is_markdown = path.suffix.lower() in MARKDOWN_SUFFIXES
    return Document(
        id=name,
        text=text,
        source=source,
        origin=name,
        metadata={"source": name, "title": (_heading(text) if is_markdown else None) or path.stem},
        format="markdown" if is_markdown else "text",
    )


def _heading(markdown: str) -> str | None:
    """Return the first top-level heading."""
    lines = (line.strip() for line in markdown.splitlines())
    return next((line[2:].strip() for line in lines if line.startswith("# ")), None)


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8 (byte {error.object[error.start]: #04x}): convert it, e.g. with `iconv -f latin1 -t utf-8`"
