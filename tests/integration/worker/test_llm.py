"""What the worker asks of an LLM that is down, and what it does not pay for twice."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.events import AnswerStatus, QueryEvent
from tests.fakes.llm import FakeLlm, fake_llm
from tests.patience import HANG_S
from worker.client import QueryClient
from worker.local.process import await_condition
from worker.settings import KafkaSettings, RecallSettings

pytestmark = pytest.mark.slow

EVENTS = [QueryEvent(id=f"q{number}", text="capital of france", top_k=1) for number in range(20)]
CIRCUIT_OPEN = "rerank_worker_llm_circuit_open"


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    with fake_llm() as fake:
        yield fake


def answering_by(llm: FakeLlm) -> dict[str, str]:
    return {"ANSWER__BASE_URL": llm.base_url, "ANSWER__MODEL": "fake-llm"}


def test_an_answer_is_not_paid_for_again_after_a_crash(
    kafka_settings: Callable[..., KafkaSettings],
    collection: RecallSettings,
    start_worker: Callable,
    llm: FakeLlm,
    tmp_path: Path,
) -> None:
    # Nothing is committed before the crash: all of it is delivered again.
    kafka = kafka_settings(commit_interval_s=60.0)
    environment = answering_by(llm) | {"ANSWER__STORE_PATH": str(tmp_path / "answers")}
    worker = start_worker(kafka, collection, **environment).await_ready()
    with QueryClient(kafka) as client:
        answers = client.ask_all(EVENTS, timeout_s=HANG_S)
    assert {answer.status for answer in answers} == {AnswerStatus.OK}
    assert llm.requests == len(EVENTS)
    worker.kill()

    worker = start_worker(kafka, collection, **environment).await_ready()
    lookups = "rerank_worker_answer_store_lookups_total"
    assert await_condition(lambda: worker.metric(lookups) == len(EVENTS), timeout_s=HANG_S)
    assert worker.stop() == 0
    assert llm.requests == len(EVENTS)


def test_queries_with_patience_wait_for_an_llm_that_is_down_and_leave_it_alone(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable, llm: FakeLlm
) -> None:
    kafka = kafka_settings()
    llm.fall_ill("broken")
    changes = {"ANSWER__CONCURRENCY": "2", "ANSWER__PATIENCE_S": "240", "ANSWER__CIRCUIT_RETRY_S": "2"}
    worker = start_worker(kafka, collection, **answering_by(llm), **changes).await_ready()
    with QueryClient(kafka) as client, ThreadPoolExecutor(1) as asking:
        answers = asking.submit(client.ask_all, EVENTS, timeout_s=HANG_S)
        assert await_condition(lambda: worker.metric(CIRCUIT_OPEN) == 1, timeout_s=HANG_S)
        asked = llm.requests
        assert asked <= 5 + 1
        assert not answers.done()
        llm.heal()
        found = answers.result(HANG_S)
        assert await_condition(lambda: worker.metric(CIRCUIT_OPEN) == 0, timeout_s=HANG_S)
    assert {answer.status for answer in found} == {AnswerStatus.OK}
    assert all(answer.answer for answer in found)
    # Those the LLM refused were asked again once; the trials between are few.
    assert llm.requests <= asked + len(EVENTS) + 5
    assert worker.stop() == 0


def test_without_patience_queries_go_without_an_answer(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable, llm: FakeLlm
) -> None:
    kafka = kafka_settings()
    llm.fall_ill("broken")
    changes = {"ANSWER__CONCURRENCY": "2", "ANSWER__CIRCUIT_RETRY_S": "120"}
    worker = start_worker(kafka, collection, **answering_by(llm), **changes).await_ready()
    with QueryClient(kafka) as client:
        found = client.ask_all(EVENTS, timeout_s=HANG_S)
    assert {answer.status for answer in found} == {AnswerStatus.DEGRADED}
    assert all(answer.contexts and not answer.answer for answer in found)
    assert {answer.degradations[0].stage for answer in found} == {"answer"}
    assert llm.requests <= 5 + 1
    assert worker.stop() == 0
