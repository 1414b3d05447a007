"""Folders of files that are built once on a machine and then only read, by several processes at once."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from worker.errors import FatalError

BUILD_TIMEOUT_S = 300.0
MANIFEST = "sha256.json"


def built_folder(folder: Path, build: Callable[[Path], None], *, what: str) -> Path:
    """Return ``folder``, which ``build`` fills if it is not there or a file of it is damaged.

    Several processes may start at once: one builds, under a lock, in a folder beside it that takes its name when it is
    whole. One that is built needs only to be read. Blocks for as long as ``build`` does. FatalError if another process
    builds for too long or the folder can't be written, and whatever ``build`` raises.
    """
    if _intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / "lock", timeout=BUILD_TIMEOUT_S):
            if not _intact(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _build(folder, build)
    except Timeout as error:
        raise FatalError(f"another process has been building a model for {BUILD_TIMEOUT_S:g} s: {error}") from error
    except OSError as error:
        raise FatalError(
            f"{what} can't be built in {folder.parent}: {error}; "
            "set RERANK_WORKER_CACHE_DIR to a folder that can be written"
        ) from error
    return folder


def sha256(path: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as scratch:
        built = Path(scratch) / "model"
        built.mkdir()
        build(built)
        manifest = {file.name: sha256(file) for file in sorted(built.iterdir())}
        (built / MANIFEST).write_text(json.dumps(manifest, indent=1))
        built.rename(folder)


def _intact(folder: Path) -> bool:
    try:
        manifest: dict[str, str] = json.loads((folder / MANIFEST).read_text())
        return bool(manifest) and all(sha256(folder / name) == digest for name, digest in manifest.items())
    except (OSError, ValueError):
        return False
