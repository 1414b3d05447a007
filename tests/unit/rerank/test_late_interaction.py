"""Late interaction against its definition, worked out pair by pair on a model with random weights."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from worker.errors import FatalError
from worker.rerank.late_interaction import LateInteractionScorer
from worker.settings import RerankSettings

QUERIES = ["capital france", "debezium permissions mysql kafka"]
DOCUMENTS = ["paris capital", "kafka consumer groups share work " * 4, "debezium mysql permissions", "a"]
SETTINGS = RerankSettings(device="cpu", threads=1, max_length=64)


@pytest.fixture(scope="module", params=[True, False], ids=["packed", "padded"])
def scorer(embedding_model_folder: Path, request: pytest.FixtureRequest) -> LateInteractionScorer:
    settings = SETTINGS.model_copy(update={"packed": request.param})
    return LateInteractionScorer(embedding_model_folder, "random", settings)


@pytest.fixture(scope="module")
def by_definition(embedding_model_folder: Path) -> "ByDefinition":
    return ByDefinition(embedding_model_folder)


class ByDefinition:
    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()

    def score(self, query: str, document: str) -> float:
        best = [
            max(float(torch.cosine_similarity(mine, other, dim=0)) for other in self._words(document))
            for mine in self._words(query)
        ]
        return sum(best) / len(best)

    def _words(self, text: str) -> torch.Tensor:
        with torch.inference_mode():
            vectors: torch.Tensor = self._model(**self._tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        return vectors[1:-1]


def test_a_score_is_the_mean_best_cosine_of_the_querys_words(
    scorer: LateInteractionScorer, by_definition: ByDefinition
) -> None:
    pairs = [pair for query in QUERIES for pair in scorer.encode(query, DOCUMENTS)]
    expected = [by_definition.score(query, document) for query in QUERIES for document in DOCUMENTS]
    assert scorer.score(pairs) == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 3) for score in expected}) == len(expected)


def test_a_score_does_not_depend_on_its_company(scorer: LateInteractionScorer) -> None:
    pairs = [pair for query in QUERIES for pair in scorer.encode(query, DOCUMENTS)]
    alone = [scorer.score([pair])[0] for pair in pairs]
    assert scorer.score(pairs[::-1]) == pytest.approx(alone[::-1], abs=1e-5)


def test_a_text_scores_highest_against_itself(scorer: LateInteractionScorer) -> None:
    scores = scorer.score(scorer.encode(DOCUMENTS[2], DOCUMENTS))
    assert scores[2] == pytest.approx(1.0, abs=1e-5) == max(scores)


@pytest.mark.parametrize("query", ["", "capital"])
@pytest.mark.parametrize("document", ["", "\u200b", "paris"])
def test_texts_without_a_word_have_a_score_too(scorer: LateInteractionScorer, query: str, document: str) -> None:
    [score] = scorer.score(scorer.encode(query, [document]))
    assert -1 <= score <= 1 + 1e-5


def test_a_long_document_is_cut_and_the_query_is_not(scorer: LateInteractionScorer) -> None:
    [pair] = scorer.encode("capital france", ["kafka " * 500])
    assert pair.tokens == 64
    [score] = scorer.score([pair])
    assert score == scorer.score(scorer.encode("capital france", ["kafka " * 5_000]))[0]


def test_a_long_document_can_be_read_window_by_window(embedding_model_folder: Path) -> None:
    settings = SETTINGS.model_copy(update={"long_documents": "max", "max_windows": 3})
    scorer = LateInteractionScorer(embedding_model_folder, "random", settings)
    pairs = scorer.encode("capital france", ["kafka " * 100 + "capital france", "capital " * 500])
    assert [(pair.document, pair.truncated) for pair in pairs] == [(0, False)] * 2 + [(1, True)] * 3
    texts = ["kafka " * 59, "kafka " * 48 + "capital france"]
    assert scorer.score(pairs[:2]) == pytest.approx(scorer.score(scorer.encode("capital france", texts)), abs=1e-5)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="can't be loaded"):
        LateInteractionScorer(tmp_path, "nothing", SETTINGS)
