"""Pairs put together from texts tokenised apart against the tokenizer's own, their windows, and the tokens kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.fakes.model import WORDS
from worker.errors import FatalError
from worker.rerank.pairs.tokenizer import OVERLAP, PairTokenizer, TokenCache, learn_template, windows
from worker.settings import RerankSettings

MAX_TOKENS = 24
SPECIAL = ["<s>", PAD := "<pad>", "</s>", UNKNOWN := "<unk>"]
CORPUS = [" ".join(WORDS), "Where does Kafka keep offsets, and why? " * 3, "café 東京 naïve [SEP] </s> it's 3.5%"]


def roberta_like() -> PreTrainedTokenizerFast:
    """Bytes, and two separators between the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, pad_token=PAD)


def xlm_roberta_like() -> PreTrainedTokenizerFast:
    """Pieces of sentences, with a space put before the first."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=SPECIAL, unk_token=UNKNOWN)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, pad_token=PAD)


@pytest.fixture(scope="module")
def tokenizers(model_folder: Path) -> dict[str, Any]:
    return {
        "bert": AutoTokenizer.from_pretrained(model_folder),
        "roberta": roberta_like(),
        "xlm-roberta": xlm_roberta_like(),
    }


@pytest.fixture(scope="module")
def pair_tokenizers(tokenizers: dict[str, Any]) -> dict[str, PairTokenizer]:
    return {
        layout: PairTokenizer(tokenizer, MAX_TOKENS, RerankSettings(token_cache_documents=20))
        for layout, tokenizer in tokenizers.items()
    }


def by_the_tokenizer(tokenizer: Any, query: str, document: str) -> tuple[list[int], list[int]]:
    encoded = tokenizer(
        # As a batch of one: without it the tokenizer takes an empty document for none.
        [query],
        [document],
        truncation="longest_first",
        max_length=MAX_TOKENS,
        return_token_type_ids=True,
    )
    return encoded["input_ids"][0], encoded["token_type_ids"][0]


TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from([*WORDS, "Café", "東京", "[SEP]", "</s>", "<s>", "  ", "it's", "\n", "?"]), max_size=40
    ).map(" ".join),
)


@pytest.mark.parametrize("layout", ["bert", "roberta", "xlm-roberta"])
def test_each_layout_is_learnt(tokenizers: dict[str, Any], layout: str) -> None:
    template = learn_template(tokenizers[layout], MAX_TOKENS)
    assert template is not None
    assert template.special_tokens == {"bert": 3, "roberta": 4, "xlm-roberta": 4}[layout]


@pytest.mark.parametrize("layout", ["bert", "roberta", "xlm-roberta"])
@given(query=TEXTS, documents=st.lists(TEXTS, min_size=1, max_size=3))
@example(query="", documents=[""])
@example(query="kafka " * 30, documents=["a " * n for n in (9, 10, 11, 12, 30, 31)])
@example(query="kafka " * 10, documents=["a " * n for n in (9, 10, 11, 12, 30, 31)])
@settings(max_examples=150, deadline=None)
def test_pairs_are_those_of_the_tokenizer(
    tokenizers: dict[str, Any], pair_tokenizers: dict[str, PairTokenizer], layout: str, query: str, documents: list[str]
) -> None:
    tokenizer, pairs = tokenizers[layout], pair_tokenizers[layout]
    for _ in range(2):  # the second time from the cache
        encoded = pairs.encode(query, documents)
        assert [(pair.input_ids, pair.token_type_ids) for pair in encoded] == [
            by_the_tokenizer(tokenizer, query, document) for document in documents
        ]
    assert [pair.document for pair in encoded] == list(range(len(documents)))


def test_what_was_not_read_is_told(tokenizers: dict[str, Any]) -> None:
    pairs = PairTokenizer(tokenizers["bert"], MAX_TOKENS, RerankSettings())
    assert [pair.truncated for pair in pairs.encode("kafka", ["a " * 20, "a " * 21, ""])] == [False, True, False]


@given(query_words=st.integers(0, 40), words=st.integers(0, 120), max_windows=st.integers(1, 10))
@settings(max_examples=80, deadline=None)
def test_windows_keep_the_query_and_read_the_document_in_order(
    tokenizers: dict[str, Any], query_words: int, words: int, max_windows: int
) -> None:
    tokenizer = tokenizers["bert"]
    asked = RerankSettings(long_documents="max", max_windows=max_windows)
    document = " ".join(WORDS[number % len(WORDS)] for number in range(words))
    pairs = PairTokenizer(tokenizer, MAX_TOKENS, asked).encode("mysql " * query_words, [document])
    query_tokens = {pair.token_type_ids.index(1) - 2 for pair in pairs}
    assert query_tokens <= {query_words, *range((MAX_TOKENS - 3) // 2, MAX_TOKENS)}
    assert all(pair.tokens <= MAX_TOKENS for pair in pairs)
    ids = tokenizer(document, add_special_tokens=False)["input_ids"]
    read = 0
    for pair in pairs:
        window = list(pair.input_ids[pair.token_type_ids.index(1) : -1])
        start = next(at for at in range(read, -1, -1) if ids[at : at + len(window)] == window)
        read = start + len(window)
    assert [pair.truncated for pair in pairs] == [read < words] * len(pairs)
    assert len(pairs) <= max_windows


def makes_other_pairs(tokenizers: dict[str, Any]) -> Any:
    """A tokenizer that cuts where no template expects it."""
    tokenizer = roberta_like()
    tokenizer.truncation_side = "left"
    return tokenizer


def has_no_backend(tokenizers: dict[str, Any]) -> Any:
    """A slow tokenizer, by all a caller can see."""

    class Slow:
        is_fast = False
        model_max_length = 64

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return tokenizers["bert"](*args, **kwargs)

    return Slow()


@pytest.mark.parametrize("make", [makes_other_pairs, has_no_backend])
def test_a_tokenizer_with_a_way_of_its_own_makes_the_pairs_itself(
    tokenizers: dict[str, Any], make: Callable[[dict[str, Any]], Any]
) -> None:
    tokenizer = make(tokenizers)
    documents = ["kafka", "kafka mysql " * 30]
    pairs = PairTokenizer(tokenizer, MAX_TOKENS, RerankSettings()).encode("paris", documents)
    assert [(pair.input_ids, pair.token_type_ids) for pair in pairs] == [
        by_the_tokenizer(tokenizer, "paris", document) for document in documents
    ]
    assert [(pair.document, pair.truncated) for pair in pairs] == [(0, None), (1, None)]
    with pytest.raises(FatalError, match="set truncate"):
        PairTokenizer(tokenizer, MAX_TOKENS, RerankSettings(long_documents="max"))


@pytest.mark.parametrize("layout", ["bert", "roberta", "xlm-roberta"])
@given(document=TEXTS.filter(str.strip) | st.text(st.sampled_from("aé東😀 \u0301"), min_size=30, max_size=200))
@settings(max_examples=80, deadline=None)
def test_a_window_is_found_in_its_text(tokenizers: dict[str, Any], layout: str, document: str) -> None:
    tokenizer = tokenizers[layout]
    pairs = PairTokenizer(tokenizer, MAX_TOKENS, RerankSettings(long_documents="max", max_windows=20))
    encoded = pairs.encode("kafka", [document])
    if len(encoded) == 1:
        assert encoded[0].window is None
        return
    found = [pair.window for pair in encoded if pair.window is not None]
    spans = pairs.spans([document] * len(found), found)
    ids = tokenizer(document, add_special_tokens=False)["input_ids"]
    offsets = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for pair, window, (start, stop) in zip(encoded, found, spans, strict=True):
        kept = [*pair.input_ids[pair.tokens - 1 - len(window) :]][: len(window)]
        assert kept == ids[window.start : window.stop]
        assert 0 <= start < stop <= len(document)
        assert all(start <= first and last <= stop for first, last in offsets[window.start : window.stop])
    assert spans == sorted(spans)


@given(tokens=st.integers(0, 3_000), room=st.integers(1, 600), at_most=st.integers(1, 12))
def test_windows_cover_a_document_as_far_as_their_number_allows(tokens: int, room: int, at_most: int) -> None:
    read = windows(tokens, room, at_most)
    assert 1 <= len(read) <= at_most
    assert read[0].start == 0
    assert all(len(window) <= room for window in read)
    assert all(len(window) == room for window in read[:-1])
    for one, following in pairwise(read):
        assert one.stop - following.start == room // OVERLAP
        assert one.stop < tokens, "the next one has something new"
    assert read[-1].stop == tokens or len(read) == at_most


def test_a_document_that_fits_is_one_window() -> None:
    assert windows(80, 80, 8) == [range(80)]
    assert windows(0, 80, 8) == [range(0)]


def test_a_longer_one_overlaps_by_an_eighth() -> None:
    assert windows(200, 80, 8) == [range(80), range(70, 150), range(140, 200)]
    assert windows(200, 80, 2) == [range(80), range(70, 150)]


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


def test_the_sentence_a_long_document_was_chosen_for_is_in_its_window(tokenizers: dict[str, Any]) -> None:
    document = "Nothing of the kind, naïve or not. " * 40 + "Where does Kafka keep offsets? " + "Mysql and more. " * 40
    pairs = PairTokenizer(tokenizers["roberta"], 64, RerankSettings(long_documents="max", max_windows=50))
    windows_of_it = [pair.window for pair in pairs.encode("kafka", [document]) if pair.window is not None]
    spans = pairs.spans([document] * len(windows_of_it), windows_of_it)
    holding = [document[slice(*span)] for span in spans if "Where does Kafka keep offsets?" in document[slice(*span)]]
    assert holding
    assert all(len(text) < len(document) / 4 for text in holding)
    assert document.startswith(document[slice(*spans[0])])
    assert document.endswith(document[slice(*spans[-1])])
