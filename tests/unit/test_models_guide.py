"""The settings blocks of docs/guides/models.md load, and resolve to what the text around them says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import XLMRobertaConfig

from tests.fakes.endpoint import FakeEndpoint
from tests.fakes.tei import fake_tei
from worker.domain import Candidate, Query
from worker.models.resolve import resolve
from worker.rerank.backends.packed import can_pack
from worker.rerank.remote import RemoteReranker
from worker.settings import CONFIG_FILE_VARIABLE, Settings
from worker.settings.load import load_settings

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "models.md"
LARGE, SMALL, INSTRUCTED, TEI = re.findall(
    r"^```yaml\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
)
EMBEDDING = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
# Of their config.json on the hub: layers, width, inner width.
SHAPES = {
    "BAAI/bge-reranker-v2-m3": (24, 1024, 4096),
    "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1": (12, 384, 1536),
}
OF_THE_DEFAULT = (6, 384, 1536)
COMMIT = "a" * 40
QUERY = Query("q", "kafka consumer groups", "docs", top_k=20, top_n=3)
CANDIDATES = [Candidate("d1", "bread rises", 1, 0.1), Candidate("d2", "kafka consumer groups", 2, 0.2)]

Load = Callable[[str], Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    def load(block: str) -> Settings:
        file = tmp_path / "worker.yaml"
        file.write_text(block, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(file))
        return load_settings()

    return load


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub that holds what the blocks name, without its weights."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in (EMBEDDING, *SHAPES):
        repo = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(COMMIT)
        (repo / "snapshots" / COMMIT).mkdir(parents=True)
        for file in ("config.json", "model.safetensors"):
            (repo / "snapshots" / COMMIT / file).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(("block", "name"), list(zip([LARGE, SMALL], SHAPES, strict=True)))
def test_a_multilingual_block_takes_its_models_from_the_hub(load: Load, hub_cache: Path, block: str, name: str) -> None:
    settings = load(block).model_copy(update={"models": "hub"})
    found = [resolve("embedding", settings), resolve("cross-encoder", settings)]
    assert [(model.name, model.source) for model in found] == [(EMBEDDING, "cache"), (name, "cache")]
    assert found[1].min_score is None, "nobody measured one"


@pytest.mark.parametrize("name", SHAPES)
def test_its_cross_encoder_is_scored_without_padding(name: str) -> None:
    layers, width, inner = SHAPES[name]
    shape = {"num_hidden_layers": layers, "hidden_size": width, "intermediate_size": inner}
    assert can_pack(XLMRobertaConfig(**shape, num_attention_heads=width // 64))


@pytest.mark.parametrize(("name", "times"), list(zip(SHAPES, [28, 2], strict=True)))
def test_its_arithmetic_is_what_the_guide_says(name: str, times: int) -> None:
    def arithmetic(layers: int, width: int, inner: int) -> int:
        return layers * (4 * width * width + 2 * width * inner)

    assert round(arithmetic(*SHAPES[name]) / arithmetic(*OF_THE_DEFAULT)) == times


async def test_the_instruction_goes_with_every_request(load: Load, endpoint: FakeEndpoint) -> None:
    endpoint.reply(200, {"results": [{"index": 0, "relevance_score": 0.1}, {"index": 1, "relevance_score": 0.9}]})
    settings = load(INSTRUCTED).rerank
    assert settings.remote_url is not None
    remote = RemoteReranker(settings, f"{endpoint.base_url}{settings.remote_url.partition(':8000')[2]}")
    best = (await remote.rerank(QUERY, CANDIDATES))[0]
    await remote.close()
    assert (best.candidate.document_id, remote.gives_logits) == ("d2", False)
    [request] = endpoint.requests
    assert request["body"]["model"] == "Qwen/Qwen3-Reranker-0.6B"
    assert request["body"]["instruction"].startswith("Find the passages of our manual")


async def test_tei_is_asked_for_logits(load: Load) -> None:
    settings = load(TEI).rerank
    with fake_tei() as tei:
        remote = RemoteReranker(settings, tei.url)
        best = (await remote.rerank(QUERY, CANDIDATES))[0]
        await remote.close()
    assert (best.candidate.document_id, best.logit, remote.gives_logits) == ("d2", 6.0, True)
