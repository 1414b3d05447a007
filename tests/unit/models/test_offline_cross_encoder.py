"""What keeps the offline cross-encoder from being built of other files. No weights are loaded."""

import sys
from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.models import offline_cross_encoder
from worker.models.offline_cross_encoder import cross_encoder_folder


@pytest.fixture
def damaged_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package whose model was cut off."""
    model = tmp_path / "package" / "model.onnx"
    model.parent.mkdir()
    model.write_bytes(b"cut off")
    monkeypatch.setattr(offline_cross_encoder, "package_file", lambda *_: model)
    return model


def test_files_that_are_not_those_that_were_measured_build_nothing(damaged_package: Path, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"model.onnx is not the file that was measured; .*rerank-worker\[offline\]"):
        cross_encoder_folder(tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["lock"]


def test_a_missing_package_names_the_extra_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_cross_encoder, "CROSS_ENCODER_PACKAGE", "not-installed-anywhere")
    with pytest.raises(FatalError, match=r"not-installed-anywhere is not installed: .*rerank-worker\[offline\]"):
        cross_encoder_folder(tmp_path)


def test_a_missing_reader_of_its_files_names_the_extra_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "worker.models.dequantise", raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)  # as if it were not there
    with pytest.raises(FatalError, match=r"needs onnx, which is not installed: .*rerank-worker\[offline\]"):
        cross_encoder_folder(tmp_path)


def test_a_cache_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    with pytest.raises(FatalError, match="RERANK_WORKER_CACHE_DIR"):
        cross_encoder_folder(blocked)
