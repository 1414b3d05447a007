"""The tiny models of these tests."""

from pathlib import Path

import pytest
from transformers import BertModel, BertTokenizerFast

from tests.fakes.model import save_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("cross-encoder") / "model", outputs=1)


@pytest.fixture(scope="session")
def three_output_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("classifier") / "model", outputs=3)


@pytest.fixture(scope="session")
def embedding_model_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embedding-model") / "model"
    BertTokenizerFast.from_pretrained(model_folder).save_pretrained(folder)
    BertModel.from_pretrained(model_folder).save_pretrained(folder)
    return folder
