"""What the LLM is told, and what is read back from it.

Passages come from whoever filled the collection: they are data. They stand in the user's message, never in the system
prompt, between delimiters that no passage can write, and the model is told so.
"""

# ruff: noqa: RUF001 - brackets and marks of other scripts are what this reads

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from worker.answer.completion import well_formed
from worker.domain import Context
from worker.settings import AnswerSettings

# Of English, Russian and Chinese alike a token of today's models is 3 to 5 bytes; no tokenizer of the LLM's is at hand.
BYTES_PER_TOKEN = 4

# A run of anything but words before "passage": what in it could pass for the `<` of a delimiter is replaced, and not
# removed, since that joins what stood on both sides. From the run's beginning, so that no text takes quadratic time.
_BEFORE_PASSAGE = re.compile(r"(?<![\W_])[\W_]++(?=passage)", re.IGNORECASE)
_NO_OPENING = str.maketrans(dict.fromkeys("<＜﹤〈‹«⟨", "("))
# What could pass for the number of another passage, or for a citation of it.
_NUMBERED = re.compile(r"[\[【［〔]([\d\s,;、，；†-]+)[\]】］〕]")
# `[1]`, `[1, 2]`, and as some models write them: 【1】, 【1†source】.
_CITATION = re.compile(r"\s?[\[【［](\d+(?:\s*[,;、，；]\s*\d+)*)(?:†[^\]】］]{0,100})?[\]】］]")
_BETWEEN = re.compile(r"\s*[,;、，；]\s*")
# A number of more digits points nowhere, and Python refuses to read one of 4,301.
MAX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request's messages."""

    messages: Sequence[dict[str, str]]
    truncated: bool
    """The question or a passage was too long and is cut."""

    @classmethod
    def of(cls, question: str, contexts: Sequence[Context], settings: AnswerSettings) -> Self:
        """Make the messages: the judged texts, numbered from 1 in the order of ``contexts``, in the user's template."""
        asked, *passages = [
            _cut(well_formed(text), tokens)
            for text, tokens in [
                (question, settings.question_tokens),
                *((context.judged_text, settings.passage_tokens) for context in contexts),
            ]
        ]
        numbered = "\n".join(f"[{number}] {neutralised(text)}" for number, (text, _) in enumerate(passages, 1))
        user = settings.user_prompt.format(
            question=neutralised(asked[0]), passages=f"<passages>\n{numbered}\n</passages>"
        )
        system = [{"role": "system", "content": settings.system_prompt}] if settings.system_prompt.strip() else []
        return cls([*system, {"role": "user", "content": user}], any(cut for _, cut in (asked, *passages)))


def read_citations(text: str, contexts: Sequence[Context]) -> tuple[str, list[str]]:
    """Return the text without citations that point nowhere, and the ids of the documents it does cite.

    ``[1]``, ``[1, 2]``, ``[1][2]`` and ``【1】`` are citations; ids come in order of first citation, without repeats.
    """
    cited: list[str] = []

    def keep_real(match: re.Match[str]) -> str:
        numbers = [int(number) for number in _BETWEEN.split(match[1]) if len(number) <= MAX_DIGITS]
        real = [number for number in numbers if 1 <= number <= len(contexts)]
        for number in real:
            document_id = contexts[number - 1].candidate.document_id
            if document_id not in cited:
                cited.append(document_id)
        lead = " " if match[0].startswith(" ") and real else ""
        return lead + "".join(f"[{number}]" for number in real)

    return _CITATION.sub(keep_real, text).strip(), cited


def neutralised(text: str) -> str:
    """Take from a text what could pass for our delimiters or for another passage's number."""
    return _NUMBERED.sub(r"(\1)", _BEFORE_PASSAGE.sub(lambda run: run[0].translate(_NO_OPENING), text))


def _cut(text: str, tokens: int) -> tuple[str, bool]:
    """Return the beginning of a text that counts as so many tokens, and whether anything is missing."""
    room = tokens * BYTES_PER_TOKEN
    encoded = text.encode()
    return encoded[:room].decode(errors="ignore"), len(encoded) > room
