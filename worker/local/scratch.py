"""A folder for one run of something that starts servers. Short: one thing."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.errors import FatalError, WorkerError


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """Yield a folder of this run's own; it is kept, and named, only if something failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    try:
        yield folder
    except WorkerError as error:
        raise FatalError(f"{error}\nThe logs are in {folder}") from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
