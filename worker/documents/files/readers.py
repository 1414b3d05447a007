"""Readers: JSONL, CSV, and Markdown or text files become documents; bad records become ``Rejected``, never exceptions.

All read UTF-8 (a byte-order mark is fine) and stream: memory does not grow with the file.
"""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.documents.document import Document, ParsedRecord, Rejected
from worker.documents.files.fields import from_fields, from_json
from worker.errors import FatalError

RECORD_FIELDS = frozenset({"id", "text", "content", "title"})
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})
TEXT_SUFFIXES = frozenset({".txt", ".text"})

MAX_CELL_CHARS = 64 * 1024 * 1024
"""A cell may be a book; a quote that is never closed makes one of the rest of the file, which must end somewhere."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read, and the source it belongs to: the file or folder as the user named it."""

    path: Path
    source: str

    @property
    def name(self) -> str:
        """The path as text that every store and terminal takes, whatever bytes the file system holds."""
        return os.fsencode(self.path.as_posix()).decode(errors="backslashreplace")

    def read(self) -> Iterator[ParsedRecord]:
        """Yield the file's records; what can't be read is ``Rejected``."""
        if self.name != self.path.as_posix():
            yield Rejected(self.source, self.name, "its name is not UTF-8: rename it")
            return
        try:
            yield from READERS[self.path.suffix.lower()](self)
        except OSError as error:
            yield Rejected(self.source, self.name, f"cannot be read: {error.strerror}")


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to read, known before anything is read or loaded."""

    files: Sequence[InputFile]
    skipped: Counter[str]
    """Files in folders that are none of these, by ending; hidden ones are not counted."""

    def read(self) -> Iterator[ParsedRecord]:
        """Yield the records of all files, in order."""
        for file in self.files:
            yield from file.read()


def find(paths: Sequence[Path]) -> Found:
    """Find the files to read: those given, and every one that can be read in the folders given.

    The path as given names the source: give the same one every time. Raises FatalError if one of them does not exist,
    or can't be read at all.
    """
    files: list[InputFile] = []
    skipped: Counter[str] = Counter()
    for path in paths:
        source = os.fsencode(path.as_posix()).decode(errors="backslashreplace")
        if not path.exists():
            raise FatalError(f"{source} does not exist: give a .jsonl, .csv, .md or .txt file, or a folder of such.")
        if not path.is_dir():
            if path.suffix.lower() not in READERS:
                raise FatalError(f"{source}: cannot tell what it holds: expected one of {', '.join(sorted(READERS))}.")
            files.append(InputFile(path, source))
            continue
        inside = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file.relative_to(path))]
        readable = [InputFile(file, source) for file in inside if file.suffix.lower() in READERS]
        if not readable:
            raise FatalError(f"{source} holds no text: expected files ending in {', '.join(sorted(READERS))}.")
        files += readable
        skipped.update(file.suffix or "without an ending" for file in inside if file.suffix.lower() not in READERS)
    return Found(files, skipped)


def read(path: Path) -> Iterator[ParsedRecord]:
    """Read one file or folder; see ``find``."""
    return find([path]).read()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_jsonl(file: InputFile) -> Iterator[ParsedRecord]:
    """Read one JSON object a line: `text` or `content`, and `id` (or BEIR's `_id`), `title`, `metadata` if any.

    Without an `id` the line's number stands in, so that lines put in above it make it another document.
    """
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            origin = f"{file.name}:{number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield Rejected(file.source, origin, _not_utf8(error))
                continue
            if text.strip():
                yield from_json(text, source=file.source, file=file.name, origin=origin)


def _read_csv(file: InputFile) -> Iterator[ParsedRecord]:
    """Read a table with a header; columns other than `id`, `text` or `content` and `title` become metadata."""
    # Python's own limit is 131,072 characters, and the whole process's.
    csv.field_size_limit(MAX_CELL_CHARS)
    # A row with bytes that are no UTF-8 is told apart after it was read: those behind it must be read too.
    with file.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        rows = csv.DictReader(lines)
        columns = list(rows.fieldnames or ())
        if not {"text", "content"} & set(columns):
            found = ", ".join(map(ascii, columns)) or "nothing"
            reason = f"no column text or content; found {found}{_separator(columns)}"
            yield Rejected(file.source, f"{file.name}:1", reason)
            return
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield Rejected(file.source, f"{file.name}:{rows.reader.line_num}", f"not CSV: {error}")
                continue
            yield _csv_document(row, file, origin=f"{file.name}:{rows.line_num}")


def _separator(columns: Sequence[str]) -> str:
    other = next((mark for mark in (";", "\t", "|") if len(columns) == 1 and mark in columns[0]), None)
    return "" if other is None else f": its cells are separated by {other!r}, commas are expected"


def _csv_document(row: dict[str | None, Any], file: InputFile, *, origin: str) -> ParsedRecord:
    if None in row:
        return Rejected(file.source, origin, "more cells than the header has columns")
    try:
        "".join(f"{name}{cell or ''}" for name, cell in row.items()).encode()
    except UnicodeEncodeError:
        return Rejected(file.source, origin, f"not UTF-8: {_CONVERT}")
    record = {name: cell for name, cell in row.items() if name in RECORD_FIELDS and cell is not None}
    metadata = {name: cell for name, cell in row.items() if name not in RECORD_FIELDS and cell}
    return from_fields({**record, "metadata": metadata}, source=file.source, file=file.name, origin=origin)


def _read_text(file: InputFile) -> Iterator[ParsedRecord]:
    path, name = file.path, file.name
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        yield Rejected(file.source, name, _not_utf8(error))
        return
    is_markdown = path.suffix.lower() in MARKDOWN_SUFFIXES
    yield Document(
        id=name,
        text=text,
        source=file.source,
        origin=name,
        metadata={"source": name, "title": (_heading(text) if is_markdown else None) or path.stem},
        format="markdown" if is_markdown else "text",
    )


def _heading(markdown: str) -> str | None:
    """Return the first top-level heading."""
    lines = (line.strip() for line in markdown.splitlines())
    return next((line[2:].strip() for line in lines if line.startswith("# ")), None)


_CONVERT = "convert it, e.g. with `iconv -f latin1 -t utf-8`"


def _not_utf8(error: UnicodeDecodeError) -> str:
    if error.object[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "not UTF-8 but UTF-16: convert it, e.g. with `iconv -f utf-16 -t utf-8`"
    return f"not UTF-8 (byte {error.object[error.start]:#04x}): {_CONVERT}"


READERS: Mapping[str, Callable[[InputFile], Iterator[ParsedRecord]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".csv": _read_csv,
    **dict.fromkeys(MARKDOWN_SUFFIXES | TEXT_SUFFIXES, _read_text),
}
