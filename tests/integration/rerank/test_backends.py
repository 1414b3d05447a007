"""The backends beside torch on a real cross-encoder: the same scores in fp32, the same quality in int8."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder

from worker.documents.samples.corpus import Question, documents, questions
from worker.errors import FatalError
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME, cross_encoder_folder
from worker.models.resolve import resolve
from worker.recall.embedder import SentenceEmbedder
from worker.rerank.backends.int8 import require_fast_int8
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import RerankSettings, Settings

pytestmark = pytest.mark.slow

BACKENDS = ("onnx", "openvino")
TOP_K = 20
# Of a logit. Measured on 2,650 pairs of TREC DL 2021: 0.22, and in other company 0.03.
INT8_TOLERANCE = 0.4
INT8_COMPANY_TOLERANCE = 0.1
# As above: 0.05.
BFLOAT16_TOLERANCE = 0.1
NDCG_LOSS = 0.005

Recalled = Sequence[tuple[Question, Sequence[str], Sequence[str]]]
"""Each question with the ids and the texts of its candidates."""


@pytest.fixture(scope="module")
def folder(cache_dir: Path) -> Path:
    return cross_encoder_folder(cache_dir)


@pytest.fixture(scope="module")
def recalled() -> Recalled:
    embedding = resolve("embedding", Settings(models="offline"))
    embedder = SentenceEmbedder(embedding.path, embedding.name)
    corpus = documents()
    vectors = embedder.embed_documents([document.text for document in corpus])

    def recall(question: Question) -> tuple[Question, list[str], list[str]]:
        nearest = np.argsort(-vectors @ embedder.embed_queries([question.text])[0], kind="stable")[:TOP_K]
        return question, [corpus[index].id for index in nearest], [corpus[index].text for index in nearest]

    # Every other one: each is scored in six ways.
    return [recall(question) for question in questions() if question.relevant][::2]


def a_scorer(folder: Path, cache_dir: Path, backend: str, dtype: str = "float32") -> CrossEncoderScorer:
    settings = RerankSettings.model_validate({"backend": backend, "dtype": dtype, "device": "cpu"})
    return CrossEncoderScorer(folder, CROSS_ENCODER_NAME, settings, cache_dir)


def in_int8(folder: Path, cache_dir: Path, backend: str) -> CrossEncoderScorer:
    try:
        require_fast_int8()
    except FatalError as error:
        pytest.skip(str(error))
    return a_scorer(folder, cache_dir, backend, "int8")


def hundred(scorer: CrossEncoderScorer, recalled: Recalled) -> list[EncodedPair]:
    return [pair for question, _, texts in recalled[:5] for pair in scorer.encode(question.text, texts)]


def ndcg(ranked: Sequence[str], relevant: Mapping[str, int]) -> float:
    """nDCG@10 with linear gains (Järvelin and Kekäläinen, 2002)."""

    def dcg(grades: Sequence[int]) -> float:
        return sum(grade / math.log2(rank + 2) for rank, grade in enumerate(grades[:10]))

    return dcg([relevant.get(each, 0) for each in ranked]) / dcg(sorted(relevant.values(), reverse=True))


def quality(scorer: CrossEncoderScorer, recalled: Recalled) -> float:
    """Return the mean nDCG@10 of ranking by the logit alone, which int8 moves most."""
    gained = []
    for question, ids, texts in recalled:
        scores = np.array(scorer.score(scorer.encode(question.text, texts)))
        gained.append(ndcg([ids[place] for place in np.argsort(-scores, kind="stable")], question.relevant))
    return float(np.mean(gained))


@pytest.fixture(scope="module")
def quality_in_fp32(folder: Path, cache_dir: Path, recalled: Recalled) -> float:
    return quality(a_scorer(folder, cache_dir, "torch"), recalled)


@pytest.mark.parametrize("backend", ["torch", *BACKENDS])
def test_in_fp32_real_pairs_score_as_in_sentence_transformers_whatever_their_company(
    folder: Path, cache_dir: Path, recalled: Recalled, backend: str
) -> None:
    scorer = a_scorer(folder, cache_dir, backend)
    reference = CrossEncoder(str(folder), device="cpu", max_length=512)
    texts = [(question.text, text) for question, _, texts in recalled[:5] for text in texts]
    expected = reference.predict(texts, activation_fn=torch.nn.Identity()).tolist()
    pairs = hundred(scorer, recalled)
    assert scorer.score(pairs) == pytest.approx(expected, abs=1e-4)
    assert [scorer.score([pair])[0] for pair in pairs[:20]] == pytest.approx(expected[:20], abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_in_int8_real_pairs_score_nearly_the_same_whatever_their_company(
    folder: Path, cache_dir: Path, recalled: Recalled, backend: str
) -> None:
    exact, scorer = a_scorer(folder, cache_dir, "torch"), in_int8(folder, cache_dir, backend)
    pairs = hundred(scorer, recalled)
    together = scorer.score(pairs)
    assert together == pytest.approx(exact.score(pairs), abs=INT8_TOLERANCE)
    assert [scorer.score([pair])[0] for pair in pairs[:20]] == pytest.approx(together[:20], abs=INT8_COMPANY_TOLERANCE)


def test_bfloat16_scores_nearly_the_same_and_ranks_as_well(
    folder: Path, cache_dir: Path, recalled: Recalled, quality_in_fp32: float
) -> None:
    exact = a_scorer(folder, cache_dir, "torch")
    try:
        scorer = a_scorer(folder, cache_dir, "torch", "bfloat16")
    except FatalError as error:
        pytest.skip(str(error))
    pairs = hundred(scorer, recalled)
    assert scorer.score(pairs) == pytest.approx(exact.score(pairs), abs=BFLOAT16_TOLERANCE)
    assert quality(scorer, recalled) >= quality_in_fp32 - NDCG_LOSS


@pytest.mark.parametrize("backend", BACKENDS)
def test_int8_ranks_as_well_as_fp32(
    folder: Path,
    cache_dir: Path,
    recalled: Recalled,
    quality_in_fp32: float,
    backend: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = quality(in_int8(folder, cache_dir, backend), recalled)
    with capsys.disabled():
        print(f"\n{backend}: nDCG@10 over {len(recalled)} questions {quality_in_fp32:.4f} in fp32, {measured:.4f} int8")
    assert measured >= quality_in_fp32 - NDCG_LOSS
