"""What readers give and the index takes. Short, and apart from both: neither knows the other."""

from dataclasses import dataclass, field
from typing import Literal

from worker.documents.metadata import DocumentMetadata, check


@dataclass(frozen=True, slots=True)
class Document:
    """One text to index, as its author delimited it. Raises ValueError for metadata that no store takes."""

    id: str
    text: str
    source: str
    """What was read to find it, as the user named it. Ingesting a source again removes what it no longer holds."""
    origin: str
    """Where exactly, for people: `corpus.jsonl:17`."""
    metadata: DocumentMetadata = field(default_factory=dict)
    """What candidates and contexts carry, and filters can ask for."""
    format: Literal["text", "markdown"] = "text"
    """How to cut it."""

    def __post_init__(self) -> None:
        check(self.metadata)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot become a document."""

    source: str
    origin: str
    reason: str


ParsedRecord = Document | Rejected
"""What became of one record of a file or a sample."""
