"""The index's oracle finds what it is there to find: a proof by an oracle that can't say no is none."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.index.edits import REASON, Editor
from tests.faults.index.fake_embedder import WORDS_A_CHUNK, FakeEmbedder
from tests.faults.index.oracle import CHUNKER, Held, Place, Verdict, Written, judge
from worker.documents.document import Document

SOURCE = "kafka:docs"
FORMER = " ".join(f"former{number}" for number in range(3 * WORDS_A_CHUNK))
LAST = " ".join(f"last{number}" for number in range(2 * WORDS_A_CHUNK))


def written(offset: int, key: str | None, value: object, reason: str | None = None) -> Written:
    encoded = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    headers = {} if reason is None else {REASON: reason.encode()}
    return Written(0, offset, None if key is None else key.encode(), encoded, headers)


TOPIC = [
    written(0, "grown", {"text": FORMER, "metadata": {"n": 1}}),
    written(1, "gone", {"text": "to be deleted", "metadata": {}}),
    written(2, "grown", {"text": LAST, "metadata": {"n": 2}}),
    written(3, "grown", b"{", "invalid_json"),
    written(4, "gone", None),
    written(5, None, {"text": "of nothing"}, "invalid_key"),
]
LETTERS: list[tuple[Place, str]] = [((0, 3), "invalid_json"), ((0, 5), "invalid_key")]


def held(key: str, text: str, **metadata: object) -> dict[str, Held]:
    """What stands in the collection when a document was brought in."""
    chunks = CHUNKER.chunks(Document(key, text, SOURCE, "", metadata))
    vectors = FakeEmbedder().embed_documents([chunk.text for chunk in chunks])
    return {
        chunk.id: Held(chunk.text, {**chunk.metadata, "_hash": chunk.content_hash}, vector)
        for chunk, vector in zip(chunks, vectors, strict=True)
    }


@pytest.fixture
def judged() -> Callable[..., Verdict]:
    """The oracle's word on a collection, by default the one that the topic wants, and on dead letters."""

    def judge_it(collection: dict[str, Held] | None = None, letters: list[tuple[Place, str]] = LETTERS) -> Verdict:
        return judge(TOPIC, held("grown", LAST, n=2) if collection is None else collection, letters, source=SOURCE)

    return judge_it


def test_all_is_well_where_each_key_stands_as_its_last_event_says(judged: Callable[..., Verdict]) -> None:
    verdict = judged(letters=[*LETTERS, LETTERS[0]])
    assert verdict.wrong == []
    assert (verdict.documents, verdict.chunks, verdict.repeats) == (1, 2, 1)
    assert verdict.poison == {"invalid_json": 1, "invalid_key": 1}


def test_what_is_missing_is_found(judged: Callable[..., Verdict]) -> None:
    collection = held("grown", LAST, n=2)
    del collection["grown#2"]
    assert judged(collection).missing == ["grown#2"]
    assert judged({}).missing == ["grown", "grown#2"]


def test_a_former_state_is_found_and_what_it_had_more(judged: Callable[..., Verdict]) -> None:
    verdict = judged(held("grown", FORMER, n=1))
    assert (verdict.other_state, verdict.left_over) == (["grown", "grown#2"], ["grown#3"])
    # Metadata are of the state too.
    assert judged(held("grown", LAST, n=1)).other_state == ["grown", "grown#2"]


def test_what_a_deleted_document_leaves_is_found(judged: Callable[..., Verdict]) -> None:
    assert judged(held("grown", LAST, n=2) | held("gone", "to be deleted")).left_over == ["gone"]


def test_a_text_that_stands_twice_is_found(judged: Callable[..., Verdict]) -> None:
    collection = held("grown", LAST, n=2)
    collection["grown#3"] = collection["grown#2"]
    assert judged(collection).doubled == ["grown#2", "grown#3"]


def test_a_vector_of_another_text_is_found(judged: Callable[..., Verdict]) -> None:
    collection = held("grown", LAST, n=2)
    collection["grown"] = replace(collection["grown"], vector=collection["grown#2"].vector)
    assert judged(collection).wrong_vector == ["grown"]


def test_poison_is_dead_lettered_with_its_reason_and_nothing_else_is(judged: Callable[..., Verdict]) -> None:
    verdict = judged(letters=[((0, 3), "invalid_utf8"), ((0, 2), "invalid_json")])
    assert verdict.not_dead_lettered == [(0, 5)]
    assert verdict.mistaken == [((0, 2), "invalid_json"), ((0, 3), "invalid_utf8")]


def test_edits_are_of_every_kind_and_the_seeds_alone() -> None:
    first, again, other = ([Editor(seed, 50)(number) for number in range(100)] for seed in (1, 1, 2))
    assert first == again
    assert first != other
    editor = Editor(1, 300)
    events = [editor(number) for number in range(3_000)]
    reasons = {dict(each.headers)[REASON] for each in events if each.headers}
    assert len(reasons) == 7
    texts = [json.loads(each.value)["text"] for each in events if each.value and b'"begun"' in each.value]
    words = {len(text.split()) for text in texts}
    assert min(words) <= WORDS_A_CHUNK
    assert max(words) > 15 * WORDS_A_CHUNK
    assert sum(each.value is None for each in events) > 100
