"""Lines as files of any origin have them."""

import gzip
from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.evaluation.readers.lines import read_lines


def test_a_byte_order_mark_carriage_returns_and_blank_lines_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  \n two \n")
    assert [(line.text, line.where) for line in read_lines(path)] == [("one", f"{path}:1"), (" two ", f"{path}:4")]


def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n"))
    assert [line.text for line in read_lines(path)] == ["one", "two"]


def test_what_is_no_utf_8_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"one\ntw\xf6\n")
    with pytest.raises(FatalError, match=r"latin1\.txt:2: not UTF-8 \(byte 0xf6\)"):
        list(read_lines(path))


@pytest.mark.parametrize(
    "content",
    [None, b"no gzip", gzip.compress(b"cut off" * 99, mtime=0)[:-9]],
    ids=["missing", "no gzip", "cut off"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "missing.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FatalError, match=r"missing\.gz cannot be read: \w"):
        list(read_lines(path))
