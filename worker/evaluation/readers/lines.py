"""Lines of a text file with where they stand, so that errors can say it: UTF-8, gzip too, any line ends, no blanks.

Short: all readers share it.
"""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from worker.errors import FatalError


class Line(NamedTuple):
    """One line that is not blank."""

    text: str
    """Without its end; blanks around it are left where they are."""
    where: str
    """`file:number`."""

    def error(self, what: str) -> FatalError:
        """Return an error that names the line."""
        return FatalError(f"{self.where}: {what}")


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines; a byte-order mark and carriage returns are no part of them. FatalError: unreadable, no UTF-8."""
    unpacked = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with unpacked(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text and not text.isspace():
                    yield Line(text, f"{path}:{number}")
    except UnicodeDecodeError as error:
        raise FatalError(f"{path}:{number}: not UTF-8 (byte {error.object[error.start]:#04x})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise FatalError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
