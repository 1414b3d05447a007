"""What an ingestion tells, while it runs and at its end."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What was done, in chunks where nothing else is said."""

    documents: int = 0
    """Documents read, empty ones included."""
    empty: int = 0
    """Documents without any text: left out."""
    rejected: int = 0
    """Records that are no documents: left out."""
    added: int = 0
    updated: int = 0
    skipped: int = 0
    """Found unchanged: neither embedded nor written."""
    deleted: int = 0
    """No longer in their source."""
    seconds: float = 0.0


Progress = Callable[[IngestReport], None]
"""Told of the running report after every batch that is safely in the collection, on the ingesting thread."""
