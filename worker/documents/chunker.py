"""Cutting documents into chunks that the embedding model reads to their end."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from worker.documents.document import Document
from worker.documents.metadata import DocumentMetadata

MAX_CHUNK_TOKENS = 256
"""Chunks of models that would read more: a passage that answers one question, and fits a cross-encoder's pair."""

MAX_CHUNK_CHARS = 8_192
"""Tokens bound no text: a word of more than 100 characters is one (unknown) token of BERT's, and spaces are none."""

MAX_CUT_CHARS = 16_384
"""Of a text that is cut at once. The splitter measures a text again and again: for a megabyte of Chinese it took two
minutes, in parts a tenth of that."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is embedded and stored: a document, or a part of one."""

    id: str
    """The document's id for its first chunk, `id#2` and so on for the others: a short document keeps its own id."""
    text: str
    metadata: DocumentMetadata
    content_hash: str
    """Of text, metadata and source: equal means nothing to do."""


class Chunker:
    """Cuts at the largest boundary that fits: headings and blocks in Markdown, else paragraphs, sentences, words."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        """``tokenizer`` measures; it must not truncate. ``max_tokens`` is what the model reads of a text."""
        capacity = min(max_tokens, MAX_CHUNK_TOKENS)
        self._splitters: dict[str, TextSplitter | MarkdownSplitter] = {
            "text": TextSplitter.from_huggingface_tokenizer(tokenizer, capacity),
            "markdown": MarkdownSplitter.from_huggingface_tokenizer(tokenizer, capacity),
        }

    def chunks(self, document: Document) -> list[Chunk]:
        """Return the document's chunks in order, without blank ones; the same document gives the same chunks."""
        splitter = self._splitters[document.format]
        texts = (text for part in _parts(document.text, MAX_CUT_CHARS) for text in splitter.chunks(part))
        bounded = [text for long in texts for text in _parts(long, MAX_CHUNK_CHARS) if not text.isspace()]
        return [_chunk(document, number, text, len(bounded)) for number, text in enumerate(bounded, start=1)]


def _parts(text: str, most: int) -> Iterator[str]:
    """Yield a text in parts of so many characters at most, each as long as the largest boundary in it allows."""
    begun = 0
    while len(text) - begun > most:
        ends = (text.rfind(boundary, begun, begun + most) + len(boundary) for boundary in ("\n\n", "\n", " "))
        # In the second half: a part is never so short that there would be many.
        end = next((end for end in ends if end > begun + most // 2), begun + most)
        yield text[begun:end]
        begun = end
    yield text[begun:]


def _chunk(document: Document, number: int, text: str, parts: int) -> Chunk:
    position: DocumentMetadata = {"chunk": number} if parts > 1 else {}
    metadata = {**document.metadata, **position}
    identity = json.dumps([text, metadata, document.source], sort_keys=True, ensure_ascii=True)
    return Chunk(
        id=document.id if number == 1 else f"{document.id}#{number}",
        text=text,
        metadata=metadata,
        content_hash=hashlib.sha256(identity.encode()).hexdigest()[:32],
    )
