"""Search-style queries made from an encyclopedia article by rules: free, unlimited, and as terse as people type.

Their relevance is the teacher's to judge, so a rule may be crude: `uses of consent` is a fine query though no passage
answers it.
"""

import random
import re
from collections.abc import Iterator

from bm25s.stopwords import STOPWORDS_EN_PLUS

ABOUT_THING = (
    "{}",
    "what is {}",
    "what is a {}",
    "define {}",
    "{} definition",
    "{} meaning",
    "what does {} mean",
    "how does {} work",
    "types of {}",
    "uses of {}",
    "examples of {}",
    "causes of {}",
    "effects of {}",
    "benefits of {}",
    "why is {} important",
    "what is {} used for",
    "what is {} made of",
    "history of {}",
    "where is {}",
    "where is {} found",
    "when was {} invented",
    "how long is {}",
    "how big is {}",
    "largest {}",
    "how to {}",
    "cost of {}",
)
ABOUT_PERSON = (
    "{}",
    "who is {}",
    "who was {}",
    "what is {} known for",
    "where was {} born",
    "when did {} die",
    "how did {} die",
    "{} biography",
    "{} works",
    "what did {} do",
)
VERBS = re.compile(r"\b(?:is|are|was|were|has|had|became|began|consists?|includes?|refers?|contains?|occurs?)\b")
YEAR = re.compile(r"\b(?:in|since|from|on|until)\s+(?:[A-Z][a-z]+ )?(?:\d{1,2},? )?(1\d{3}|20\d{2})\b")
NUMBER = re.compile(r"\b(\d[\d,.]*|two|three|four|five|six|seven|eight|nine|ten|twelve|hundreds|thousands|millions)\b ")
BORN = re.compile(r"\((?:[^)]*\bborn\b|[^)]*\d{3,4}\s*[\u2013-]\s*(?:[^)]*\d{3,4}))")
SENTENCE_END = re.compile(r"(?<=[a-z0-9)\]\"'][.!?])\s+(?=[A-Z\"'(])")
WORD = re.compile(r"[\w'’-]+")  # noqa: RUF001 - Wikipedia's apostrophe


def sentences(text: str) -> list[str]:
    """Split prose into sentences, roughly."""
    return [sentence.strip() for sentence in SENTENCE_END.split(text) if sentence.strip()]


def from_title(title: str, first_sentence: str, description: str, rng: random.Random) -> Iterator[str]:
    """Yield the queries a title invites; endlessly varied only by their order."""
    name = re.sub(r"\s*\(.*?\)", "", title).lower()
    forms = list(ABOUT_PERSON if BORN.search(first_sentence) else ABOUT_THING)
    rng.shuffle(forms)
    for form in forms:
        yield form.format(name)
    if description:
        yield description.lower()


def from_sentence(sentence: str, title: str, rng: random.Random) -> Iterator[str]:
    """Yield queries that this sentence answers: keywords, and questions by swapping a part for a question word."""
    words = WORD.findall(sentence)
    content = [word.lower() for word in words if word.lower() not in STOPWORDS_EN_PLUS]
    if len(content) > 3:
        kept = sorted(rng.sample(range(len(content)), min(len(content), rng.randint(3, 6))))
        yield " ".join(content[place] for place in kept)
    name = re.sub(r"\s*\(.*?\)", "", title).lower()
    if year := YEAR.search(sentence):
        rest = _clip(f"{sentence[: year.start()]} {sentence[year.end() :]}", 9)
        yield f"when {rest}"
    if number := NUMBER.search(sentence):
        what = _clip(sentence[number.end() :], 4)
        yield f"how many {what} {name}"
    if (verb := VERBS.search(sentence)) and verb.start() < len(sentence) // 2:
        predicate = _clip(sentence[verb.start() :], rng.randint(5, 10))
        yield f"{rng.choice(('what', 'what', 'who', 'which'))} {predicate}"


def comparison(title: str, other: str) -> str:
    """Return the query that asks for two things at once."""
    return f"difference between {title.lower()} and {other.lower()}"


def _clip(text: str, words: int) -> str:
    return " ".join(WORD.findall(text.partition(";")[0])[:words]).lower()
