"""The hub models come from: what its cache here holds, whether it answers, downloads, and its progress bars."""

from functools import partial
from pathlib import Path

import httpx
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError

from worker.batching.executor import SingleThreadExecutor
from worker.errors import FatalError, TransientError

# Weights in formats nobody here loads would double a download.
DOWNLOADED = ("*.json", "*.txt", "*.safetensors", "*.model", "1_Pooling/*")


def from_cache(name: str) -> Path | None:
    """Return the folder of a model whose weights the hub's cache holds, else None."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), local_files_only=True))
    except (OSError, ValueError):
        # Not there, known to be incomplete, or a name that no hub has.
        return None
    return folder if _has_weights(folder) else None


def require_reachable(timeout_s: float) -> None:
    """Return if the hub answers in time; TransientError says why not."""
    if constants.is_offline_mode():
        raise TransientError("HF_HUB_OFFLINE is set")
    # httpx's timeouts cover neither the look-up of the name nor the sum of all steps: this one does.
    thread = SingleThreadExecutor("hub-probe")
    try:
        # Any answer will do, since mirrors differ in what their root holds; where a proxy refuses, the download fails.
        thread.submit(partial(httpx.head, constants.ENDPOINT, timeout=timeout_s)).result(timeout_s)
    except (httpx.HTTPError, TimeoutError) as error:
        raise TransientError(f"{constants.ENDPOINT} can't be reached within {timeout_s:g} s ({error!r})") from error
    finally:
        thread.close()


def download(name: str) -> Path:
    """Return the folder of a model fetched from the hub; TransientError if that failed, FatalError if it never can."""
    try:
        folder = Path(snapshot_download(name, allow_patterns=list(DOWNLOADED), endpoint=constants.ENDPOINT))
    except RepositoryNotFoundError as error:
        raise FatalError(f"the hub has no model {name!r}, or it is private: set HF_TOKEN, or another name") from error
    except Exception as error:
        raise TransientError(
            f"the model {name!r} could not be fetched from {constants.ENDPOINT}: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error
    if not _has_weights(folder):
        raise FatalError(f"the model {name!r} has no safetensors weights on the hub; name one that has, or a folder")
    return folder


def hide_loading_bars() -> None:
    """Keep transformers from drawing a progress bar for the milliseconds of loading weights from disk."""
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - takes a second to import

    transformers_logging.disable_progress_bar()


def _has_weights(folder: Path) -> bool:
    # Other libraries, and downloads that were cut off, leave folders in the cache with a file or two.
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
