"""The lag that is shown is that of the partitions this process has now; counters are there before their events."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import schemas
import worker
from worker.kafka.codes import REFUSED
from worker.query import failures
from worker.recall import stage
from worker.telemetry.labels import DEAD_LETTER_REASONS, LEGS, LEXICAL_ERRORS, LLM_ERRORS, RERANKER_ERRORS, STORE_ERRORS
from worker.telemetry.metrics import Metrics

LAG = "rerank_worker_consumer_lag_records"


@pytest.mark.parametrize("left", ["stopping", "stopped", "none"])
def test_a_partition_that_has_left_shows_no_lag(left: str) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, group="askers")
    labels = {"group": "askers", "topic": "queries", "partition": "0"}

    def report(state: str) -> None:
        partition = {"fetch_state": state, "consumer_lag": 4_864}
        metrics.observe_statistics({"topics": {"queries": {"partitions": {"0": partition}}}})

    report("active")
    assert registry.get_sample_value(LAG, labels) == 4_864
    report(left)
    assert registry.get_sample_value(LAG, labels) is None


def test_counters_with_known_labels_begin_at_zero() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    unborn = [
        family.name
        for family in registry.collect()
        if family.type == "counter" and not [sample for sample in family.samples if sample.name.endswith("_total")]
    ]
    assert unborn == []
    assert registry.get_sample_value("rerank_worker_dead_letters_total", {"reason": "invalid_json"}) == 0
    metrics.observe_dead_letter("invalid_json")
    assert registry.get_sample_value("rerank_worker_dead_letters_total", {"reason": "invalid_json"}) == 1


def test_every_reason_of_a_dead_letter_in_the_code_begins_at_zero() -> None:
    sources = [*Path(worker.__file__).parent.rglob("*.py"), *Path(schemas.__file__).parent.rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    constant = re.compile(r"^([A-Z_]+) = \"(\w+)\"$", re.MULTILINE)
    constants = {name: value for text in texts for name, value in constant.findall(text)}
    raised = re.compile(r"(?:Poison|Wire|Undecodable)Error\(\s*(\"\w+\"|[A-Z_]+),|dead_letter\(\"\w+\", (\"\w+\")")
    named = {one or other for text in texts for one, other in raised.findall(text)}
    found = {name.strip('"') if name.startswith('"') else constants[name] for name in named}
    assert {"invalid_json", "invalid_filter"} <= found
    assert found | set(REFUSED.values()) == set(DEAD_LETTER_REASONS)


def test_partitions_without_an_owner_can_be_told_by_the_metrics_of_those_who_own_some() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, group="askers")
    # -1 is librdkafka's own; the others are there whoever owns them.
    partitions = {str(number): {"fetch_state": "none"} for number in range(-1, 12)}
    metrics.observe_statistics({"topics": {"queries": {"partitions": partitions}}})
    metrics.assigned_partitions.set(5)
    labels = {"group": "askers", "topic": "queries"}
    assert registry.get_sample_value("rerank_worker_topic_partitions", labels) == 12
    assert registry.get_sample_value("rerank_worker_assigned_partitions", {"group": "askers"}) == 5


def test_every_code_of_an_endpoint_begins_at_zero() -> None:
    known = {*LLM_ERRORS, *RERANKER_ERRORS}
    assert known == {code for code in failures.SENTENCES if code.startswith(("llm_", "reranker_"))}


def test_every_code_of_the_lexical_leg_begins_at_zero() -> None:
    assert set(LEXICAL_ERRORS) == {code for code in failures.SENTENCES if code.startswith("lexical_")}


def test_contexts_are_counted_by_what_found_them() -> None:
    registry = CollectorRegistry()
    example = Path(schemas.__file__).parent / "examples/answer-event.contexts-only.json"
    answer = schemas.decode_answer(example.read_bytes())
    answer = answer.model_copy(update={"contexts": answer.candidates})
    Metrics(registry).observe_answer(answer, publish_s=0.1, end_to_end_s=0.1)
    counted = {leg: registry.get_sample_value("rerank_worker_contexts_by_leg_total", {"legs": leg}) for leg in LEGS}
    found = [context.legs for context in answer.contexts]
    assert counted == {
        "dense": found.count(["dense"]),
        "lexical": found.count(["lexical"]),
        "both": found.count(["dense", "lexical"]),
    }
    assert all(counted.values())


def test_every_code_of_the_store_begins_at_zero() -> None:
    source = Path(stage.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'return "(\w+)"', source)) == set(STORE_ERRORS)
