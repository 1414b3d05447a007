"""The scorer against plain sentence-transformers, on a model with random weights."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from worker.errors import FatalError, TransientError
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import RerankSettings

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

QUERY = "capital france"
DOCUMENTS = ["paris capital", "kafka consumer groups share work " * 4, "debezium mysql permissions", "a"]
SETTINGS = RerankSettings(device="cpu", dtype="float32", threads=1, max_length=64)


PADDED = SETTINGS.model_copy(update={"packed": False})


@pytest.fixture(scope="module", params=[SETTINGS, PADDED], ids=["packed", "padded"])
def scorer(model_folder: Path, request: pytest.FixtureRequest) -> CrossEncoderScorer:
    return CrossEncoderScorer(model_folder, "random", request.param)


@pytest.fixture
def padded(model_folder: Path) -> CrossEncoderScorer:
    return CrossEncoderScorer(model_folder, "random", PADDED)


@pytest.fixture(scope="module")
def reference(model_folder: Path) -> "CrossEncoder":
    # Here, not above: it takes seconds to import, and another lane need not wait for it.
    from sentence_transformers import CrossEncoder  # noqa: PLC0415

    return CrossEncoder(str(model_folder), device="cpu")


def predicted(reference: "CrossEncoder", pairs: list[tuple[str, str]]) -> list[float]:
    return [float(score) for score in reference.predict(pairs, activation_fn=torch.nn.Identity())]


def test_scores_are_those_of_sentence_transformers(scorer: CrossEncoderScorer, reference: "CrossEncoder") -> None:
    scores = scorer.score(scorer.encode(QUERY, DOCUMENTS))
    assert scores == pytest.approx(predicted(reference, [(QUERY, document) for document in DOCUMENTS]), abs=1e-4)
    assert len({round(score, 3) for score in scores}) == len(DOCUMENTS)


def test_a_score_does_not_depend_on_its_company(scorer: CrossEncoderScorer) -> None:
    pairs = scorer.encode(QUERY, DOCUMENTS)
    alone = [scorer.score([pair])[0] for pair in pairs]
    assert scorer.score(pairs) == pytest.approx(alone, abs=1e-4)
    assert scorer.score(pairs[::-1]) == pytest.approx(alone[::-1], abs=1e-4)


def test_a_long_document_is_cut_and_the_query_is_not(scorer: CrossEncoderScorer) -> None:
    query_ids = scorer.encode(QUERY, ["a"])[0].input_ids[:-2].tolist()
    [pair] = scorer.encode(QUERY, ["kafka " * 500])
    assert pair.tokens == 64
    assert pair.input_ids[: len(query_ids)].tolist() == query_ids


@pytest.mark.parametrize("query_words", [1, 30, 40, 60, 61, 62, 500])
@pytest.mark.parametrize("document", ["", "kafka", "kafka " * 30, "debezium mysql " * 300])
def test_pairs_beyond_the_window_score_as_in_sentence_transformers(
    scorer: CrossEncoderScorer, reference: "CrossEncoder", query_words: int, document: str
) -> None:
    query = "paris permissions " * (query_words // 2) + "france"
    [score] = scorer.score(scorer.encode(query, [document]))
    assert score == pytest.approx(predicted(reference, [(query, document)])[0], abs=1e-4)


def test_a_query_beyond_the_window_leaves_half_of_it_to_the_document(scorer: CrossEncoderScorer) -> None:
    [pair] = scorer.encode("paris " * 500, ["kafka " * 500])
    assert pair.tokens == 64
    assert 28 <= sum(pair.token_type_ids) - 1 <= 32


def test_windows_of_a_long_document_score_as_the_texts_they_are(model_folder: Path, reference: "CrossEncoder") -> None:
    scorer = CrossEncoderScorer(model_folder, "random", SETTINGS.model_copy(update={"long_documents": "max"}))
    words = ("kafka consumer groups debezium mysql " * 24).split()
    pairs = scorer.encode(QUERY, ["paris", " ".join(words)])
    room = 64 - 3 - 2
    read = [range(59), range(52, 111), range(104, 120)]
    assert [(pair.document, pair.truncated) for pair in pairs] == [(0, False), *[(1, False)] * 3]
    assert [pair.tokens for pair in pairs[1:]] == [len(window) + 64 - room for window in read]
    texts = ["paris", *(" ".join(words[window.start : window.stop]) for window in read)]
    assert scorer.score(pairs) == pytest.approx(predicted(reference, [(QUERY, text) for text in texts]), abs=1e-4)


def test_nothing_is_encoded_for_a_query_without_documents(scorer: CrossEncoderScorer) -> None:
    assert scorer.encode(QUERY, []) == []


def test_a_lost_device_is_fatal(padded: CrossEncoderScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(**inputs: torch.Tensor) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(padded._backend, "_model", fault)
    with pytest.raises(FatalError, match="device cpu is lost"):
        padded.score(padded.encode(QUERY, DOCUMENTS))


def test_out_of_memory_reaches_the_batcher_as_it_is(
    padded: CrossEncoderScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**inputs: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(padded._backend, "_model", full)
    with pytest.raises(torch.OutOfMemoryError):
        padded.score(padded.encode(QUERY, DOCUMENTS))


def test_a_model_that_gives_no_numbers_is_not_started_with(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossEncoderScorer, "score", lambda self, pairs: [float("nan")] * len(pairs))
    with pytest.raises(TransientError, match="not a number"):
        CrossEncoderScorer(model_folder, "random", SETTINGS)


def test_a_model_with_several_outputs_is_no_reranker(three_output_folder: Path) -> None:
    with pytest.raises(FatalError, match="3 outputs"):
        CrossEncoderScorer(three_output_folder, "classifier", SETTINGS)


def test_an_embedding_model_is_refused_instead_of_ranking_at_random(embedding_model_folder: Path) -> None:
    with pytest.raises(FatalError, match="not a cross-encoder but BertModel"):
        CrossEncoderScorer(embedding_model_folder, "bi-encoder", SETTINGS)


def test_damaged_weights_are_refused(model_folder: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(model_folder, tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(FatalError, match="can't be loaded"):
        CrossEncoderScorer(damaged, "damaged", SETTINGS)


def test_torch_takes_no_more_threads_than_the_process_may_use(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # stands in for a container's CPU quota
    torch.set_num_threads(2)
    CrossEncoderScorer(model_folder, "random", RerankSettings(device="cpu"))
    assert torch.get_num_threads() == 1


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="can't be loaded"):
        CrossEncoderScorer(tmp_path, "nothing", SETTINGS)
