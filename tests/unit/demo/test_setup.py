"""How the demo keeps away from everything else on the machine."""

from pathlib import Path

import pytest

from worker.demo.setup import own_variables, settings_with
from worker.models.resolve import ResolvedModel
from worker.settings import Settings

BUNDLED = ResolvedModel("cross-encoder", "offline", Path("/nowhere"), "bundled", min_score=0.5)
FROM_HUB = ResolvedModel("cross-encoder", "hub", Path("/nowhere"), "hub")


def test_no_name_of_a_production_worker_is_used() -> None:
    demo, usual = settings_with(own_variables(BUNDLED)), Settings()
    assert demo.kafka.group_id != usual.kafka.group_id
    assert demo.recall.collection != usual.recall.collection
    topics = {demo.kafka.query_topic, demo.kafka.answer_topic, demo.kafka.dead_letter_topic}
    assert topics.isdisjoint({usual.kafka.query_topic, usual.kafka.answer_topic, usual.kafka.dead_letter_topic})


def test_the_process_that_gets_the_variables_has_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = own_variables(BUNDLED)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().model_dump() == settings_with(variables).model_dump()


def test_what_the_user_has_set_beside_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_WORKER_RERANK__TOP_N", "5")
    assert settings_with(own_variables(BUNDLED)).rerank.top_n == 5


def test_a_threshold_belongs_to_the_model_it_was_measured_for() -> None:
    assert settings_with(own_variables(BUNDLED)).rerank.min_score == 0.5
    assert settings_with(own_variables(FROM_HUB)).rerank.min_score is None
