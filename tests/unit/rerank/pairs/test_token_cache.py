"""Documents that come again are not tokenised again, and no more are kept than was said."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from worker.rerank.pairs.token_cache import TokenCache


@dataclass
class FakeTokenizer:
    """One token per character."""

    seen: list[str] = field(default_factory=list)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        self.seen += texts
        return [[ord(letter) for letter in text] for text in texts]


def test_a_document_is_tokenised_once_however_often_it_comes() -> None:
    tokenizer = FakeTokenizer()
    cache = TokenCache(tokenizer, documents=10, max_tokens=100)
    assert [tokens.total for tokens in cache.of(["a", "bb", "a"])] == [1, 2, 1]
    assert [list(tokens.ids) for tokens in cache.of(["bb", "c"])] == [[98, 98], [99]]
    assert tokenizer.seen == ["a", "bb", "c"]


def test_those_used_longest_ago_are_forgotten() -> None:
    tokenizer = FakeTokenizer()
    cache = TokenCache(tokenizer, documents=2, max_tokens=100)
    for document in ("a", "b", "a", "c", "a", "b"):
        cache.of([document])
    assert tokenizer.seen == ["a", "b", "c", "b"]


def test_nothing_is_kept_if_so_set_and_a_text_that_comes_twice_at_once_is_still_tokenised_once() -> None:
    tokenizer = FakeTokenizer()
    cache = TokenCache(tokenizer, documents=0, max_tokens=100)
    for _ in range(2):
        cache.of(["a", "a"])
    assert tokenizer.seen == ["a", "a"]


def test_of_a_long_document_no_more_is_kept_than_can_be_read() -> None:
    [tokens] = TokenCache(FakeTokenizer(), documents=1, max_tokens=3).of(["abcdef"])
    assert (list(tokens.ids), tokens.total) == ([97, 98, 99], 6)


@given(
    calls=st.lists(st.lists(st.text(max_size=3), max_size=5), max_size=8),
    documents=st.integers(0, 4),
    max_tokens=st.integers(1, 3),
)
def test_what_comes_from_the_cache_is_what_the_tokenizer_would_say(
    calls: list[list[str]], documents: int, max_tokens: int
) -> None:
    cache = TokenCache(FakeTokenizer(), documents=documents, max_tokens=max_tokens)
    for texts in calls:
        found = [(list(tokens.ids), tokens.total) for tokens in cache.of(texts)]
        assert found == [([ord(letter) for letter in text][:max_tokens], len(text)) for text in texts]
