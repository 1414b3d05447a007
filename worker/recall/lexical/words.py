"""What is a word: of a chunk's text, which is indexed by them, and of a question's, which asks for them.

One rule for both, and not FTS5's own, to which a character newer than its tables of 2012 is part of the word before it.
"""

import re
import unicodedata
from collections.abc import Iterable

MOST_TERMS = 64
"""Of one question: each costs a look at the index, and what comes after so many is no question any more."""

_ENGLISH = """
a about an and are as at be but by can could did do does for from had has have how i if in into is it its me my no
not of on or our should so such than that the their them then there these they this to was we were what when where
which while who why will with would you your
"""
FUNCTION_WORDS = frozenset(_ENGLISH.split())
"""Of which questions are full, and which say nothing of what is asked for. Those of other languages are left out where
they are common (``LexicalFile``)."""

_WORD = re.compile(r"[^\W_]+")


def only_words(text: str) -> str:
    """Return a text as the index is given it: its words, with a space between them."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFC", text)))


def terms(text: str) -> list[str]:
    """Return the words of a text, each once, and what stands together of several (`ERR-4711-X`) as one term besides.

    Function words only if there are no others. Case, accents and endings are as they come: FTS5 takes them off here as
    there.
    """
    found: dict[str, None] = {}
    # Composed, for an accent of its own is no letter to `re`, and part of one to the index.
    for together in unicodedata.normalize("NFC", text).split():
        words = _WORD.findall(together)
        if len(words) > 1:
            found[" ".join(words)] = None
        found.update(dict.fromkeys(words))
        if len(found) >= MOST_TERMS:
            break
    telling = [term for term in found if term.lower() not in FUNCTION_WORDS]
    return (telling or list(found))[:MOST_TERMS]


def any_of(wanted: Iterable[str]) -> str:
    """Return the FTS5 expression for texts that have any of the terms; operators are words in it like others."""
    # Terms hold letters, digits and spaces alone, so there is no quote to double.
    return " OR ".join(f'"{term}"' for term in wanted)
