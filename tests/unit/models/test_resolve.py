"""Where models come from when the cache is partial and the hub is away, refuses or is slow. No weights are loaded."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from structlog.testing import capture_logs

from worker.errors import FatalError
from worker.models import offline_cross_encoder, packages
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME, HUB_NAME
from worker.models.resolve import DEFAULT_CROSS_ENCODER, DEFAULT_EMBEDDING, resolve, resolve_here
from worker.settings import Settings

COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that nobody listens for."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def cache(hub_cache: Path, name: str, *files: str) -> Path:
    repo = hub_cache / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    for file in files:
        (snapshot / file).write_text("{}")
    return snapshot


@pytest.fixture
def refusing_hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Answers everything with one status, as a proxy does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - named by http.server

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=[0.01])
        serving.start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()
        serving.join()


def named(model: str, **changes: object) -> Settings:
    return Settings.model_validate({"recall": {"embedding_model": model}, "rerank": {"model": model}, **changes})


def test_what_the_cache_holds_needs_no_hub(hub_cache: Path) -> None:
    snapshot = cache(hub_cache, "some/model", "config.json", "model.safetensors")
    model = resolve("cross-encoder", named("some/model"))
    assert (model.name, model.source, model.path) == ("some/model", "cache", snapshot)


def test_a_cache_without_the_weights_is_not_taken(hub_cache: Path) -> None:
    cache(hub_cache, DEFAULT_EMBEDDING, "config.json")
    assert resolve("embedding", Settings()).source == "bundled"


def test_an_unreachable_hub_gives_the_offline_model_and_one_line_that_says_why() -> None:
    with capture_logs() as logs:
        model = resolve("embedding", Settings())
    assert model.source == "bundled"
    [line] = [log for log in logs if log["event"] == "taking the offline model"]
    assert "can't be reached" in line["reason"]


@pytest.mark.parametrize("refusing_hub", [200, 403, 503], indirect=True)
def test_a_proxy_in_the_hubs_place_gives_the_offline_model(refusing_hub: None) -> None:
    assert resolve("embedding", Settings()).source == "bundled"


@pytest.mark.parametrize("refusing_hub", [403], indirect=True)
def test_a_hub_that_was_asked_for_and_fails_is_fatal(refusing_hub: None) -> None:
    with pytest.raises(FatalError, match=r"could not be fetched.*RERANK_WORKER_MODELS=auto"):
        resolve("embedding", Settings(models="hub"))


def test_a_hub_that_takes_the_connection_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert resolve("embedding", Settings(hub_timeout_s=0.2)).source == "bundled"


def test_hf_hub_offline_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with capture_logs() as logs:
        assert resolve("embedding", Settings()).source == "bundled"
    assert logs[0]["reason"] == "HF_HUB_OFFLINE is set"


@pytest.mark.parametrize("models", ["auto", "hub", "offline"])
@pytest.mark.parametrize("role", ["embedding", "cross-encoder"])
def test_another_model_is_never_swapped_silently(role: str, models: str) -> None:
    with pytest.raises(FatalError, match="somebody/else"):
        resolve(role, named("somebody/else", models=models))  # type: ignore[arg-type]  # parametrized


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    model = resolve("cross-encoder", named(str(tmp_path), models="hub"))
    assert (model.source, model.path) == ("folder", tmp_path)


def test_a_missing_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("EMBEDDING_PACKAGE", "LLM_PACKAGE"):
        monkeypatch.setattr(packages, package, "not-installed-anywhere")
    with pytest.raises(FatalError, match=r"rerank-worker\[llm\]"):
        resolve("llm", Settings())
    with pytest.raises(FatalError, match=r"rerank-worker\[offline\].*can't be reached"):
        resolve("embedding", Settings())


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The offline cross-encoder's folder, as if it had been built: see tests/integration/models."""
    monkeypatch.setattr(offline_cross_encoder, "cross_encoder_folder", lambda _cache_dir: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [DEFAULT_CROSS_ENCODER, HUB_NAME, CROSS_ENCODER_NAME])
def test_in_the_hubs_absence_the_offline_cross_encoder_stands_in_under_its_own_name(built: Path, name: str) -> None:
    model = resolve("cross-encoder", named(name, models="offline"))
    assert (model.name, model.source, model.path) == (CROSS_ENCODER_NAME, "bundled", built)
    assert "int8" in model.name
    assert model.min_score == offline_cross_encoder.MIN_SCORE


def test_the_offline_cross_encoder_asked_for_by_name_needs_no_word_with_the_hub(built: Path) -> None:
    with capture_logs() as logs:
        assert resolve("cross-encoder", named(CROSS_ENCODER_NAME)).source == "bundled"
    assert logs == []


@pytest.mark.parametrize("models", ["auto", "hub"])
def test_a_model_that_has_to_be_here_comes_from_the_cache_or_a_folder_and_never_from_the_hub(
    hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, models: str
) -> None:
    def asked(*_: object) -> None:
        pytest.fail("the hub was asked")

    monkeypatch.setattr("worker.models.hub.require_reachable", asked)
    monkeypatch.setattr("worker.models.hub.download", asked)
    cached = cache(hub_cache, "a/cached", "config.json", "model.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    found = [
        resolve_here("embedding", Settings.model_validate({"models": models, "recall": {"embedding_model": name}}))
        for name in ("a/cached", str(folder))
    ]
    assert [(each.source, each.path) for each in found] == [("cache", cached), ("folder", folder)]
    with pytest.raises(FatalError, match="'a/not-here' is neither a folder here"):
        resolve_here(
            "embedding", Settings.model_validate({"models": models, "recall": {"embedding_model": "a/not-here"}})
        )
