"""Texts into sentences, of any language: by Unicode's sentence boundaries (UAX #29), and lines by themselves.

The boundaries know no abbreviations: "Dr." ends a sentence. So what is too short for one is joined to what follows it.
"""

from collections.abc import Iterator

from semantic_text_splitter import TextSplitter

from worker.answer.completion import well_formed

# As many as are scored, each of them rather long. Finding sentences takes time with the square of the text.
MAX_CHARS = 4_000
# UTF-8, so that three Chinese characters count as much as nine letters.
MIN_BYTES = 9

# From 1 character on a chunk may end, and it ends at the highest boundary within the line: a sentence's.
_SPLITTER = TextSplitter((1, MAX_CHARS))


def sentences(text: str) -> list[str]:
    """Return the sentences of a text's beginning, as they stand there. Blocks for 0.1 s at the worst."""
    # A half of a character, which a store may hold, is refused by the splitter.
    lines = well_formed(text[:MAX_CHARS]).splitlines()
    found = [sentence for line in lines for sentence in _of_line(line)]
    if len(text) > MAX_CHARS and len(found) > 1:
        # The end of the text has cut it.
        found.pop()
    return [sentence for sentence in found if _is_long_enough(sentence)] or found


def _of_line(line: str) -> Iterator[str]:
    parts = [(start, start + len(part)) for start, part in _SPLITTER.chunk_indices(line)] if line.strip() else []
    begun: int | None = None
    for number, (start, stop) in enumerate(parts):
        begun = start if begun is None else begun
        rest = line[stop:].strip()
        if number == len(parts) - 1 or (_is_long_enough(line[begun:stop]) and _is_long_enough(rest)):
            yield line[begun:stop]
            begun = None


def _is_long_enough(text: str) -> bool:
    return len(text.encode()) >= MIN_BYTES
