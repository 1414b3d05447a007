"""What the worker asks of an LLM that is down, and what it does not pay for twice."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chromadb
import pytest

from schemas.contexts import ContextsEvent
from schemas.events import AnswerStatus, QueryEvent
from tests.fakes.llm import FakeLlm, fake_llm
from tests.patience import HANG_S
from worker.client import QueryClient
from worker.local.chroma import LocalChroma
from worker.local.process import await_condition
from worker.models.resolve import resolve
from worker.recall.embedder import SentenceEmbedder
from worker.settings import KafkaSettings, RecallSettings, Settings

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
    told = {degradation.model_dump_json() for answer in found for degradation in answer.degradations}
    assert {answer.degradations[0].code for answer in found} == {"llm_unavailable"}
    assert len(told) == 1, "whatever the endpoint said, and however often, the event says the same"
    assert "127.0.0.1" not in told.pop()
    assert llm.requests <= 5 + 1
    assert worker.stop() == 0


FILLER = "The weekly notes of the canal office list repairs, tolls and the names of boats that passed. "
SENTENCE = "The sluice at Harrow opens at dawn and closes at nightfall."


def test_the_llm_is_shown_what_the_reranker_judged_by(
    kafka_settings: Callable[..., KafkaSettings], chroma_server: LocalChroma, start_worker: Callable, llm: FakeLlm
) -> None:
    recall = RecallSettings(host=chroma_server.host, port=chroma_server.port, collection="long-documents")
    text = FILLER * 60 + SENTENCE + " " + FILLER * 3
    # One document in one piece, as collections that others fill may well hold it.
    embedding = resolve("embedding", Settings(models="offline"))
    embedder = SentenceEmbedder(embedding.path, embedding.name)
    client = chromadb.HttpClient(host=chroma_server.host, port=chroma_server.port)
    made = client.get_or_create_collection(recall.collection, embedding_function=None)
    made.upsert(["notes"], embeddings=embedder.embed_documents([text]), documents=[text])
    kafka = kafka_settings()
    worker = start_worker(kafka, recall, **answering_by(llm), RERANK__LONG_DOCUMENTS="max").await_ready()
    with QueryClient(kafka) as client:
        answer = client.ask(QueryEvent(id="q", text="When does the sluice at Harrow open?"), timeout_s=HANG_S)
    [context] = answer.contexts
    assert context.rerank_windows is not None
    assert context.rerank_windows > 2
    assert context.window is not None
    shown = context.text[slice(*context.window)]
    assert SENTENCE in shown
    assert len(shown) < len(text)
    [prompt] = llm.asked
    assert SENTENCE in prompt
    assert prompt.count(FILLER) < 60
    assert answer.answer is not None
    assert not answer.answer.prompt_truncated
    assert worker.stop() == 0


def test_a_completion_no_worker_ends_of(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable, llm: FakeLlm
) -> None:
    kafka = kafka_settings()
    worker = start_worker(kafka, collection, KAFKA__POISON_WINDOW="10", **answering_by(llm)).await_ready()
    message = {"role": "assistant", "content": [{"type": "text", "text": "<think>[2]</think>Paris \ud83d [1]."}]}
    llm.completion = {"choices": [{"finish_reason": "length", "message": message}], "usage": {}}
    with QueryClient(kafka) as client:
        odd = client.ask_all(EVENTS, timeout_s=HANG_S)
        llm.completion = {"choices": [{"finish_reason": "content_filter", "message": {"content": None}}]}
        declined = client.ask_all(
            [event.model_copy(update={"id": f"{event.id}-no"}) for event in EVENTS], timeout_s=HANG_S
        )
    assert {answer.status for answer in odd} == {AnswerStatus.OK}
    assert {(a.answer.text, a.answer.usage, a.answer.truncated) for a in odd if a.answer} == {
        ("Paris \ufffd [1].", None, True)
    }
    assert {answer.degradations[0].code for answer in declined} == {"llm_declined"}
    assert worker.metric(CIRCUIT_OPEN) == 0
    assert llm.requests == 2 * len(EVENTS)
    assert worker.stop() == 0


def test_contexts_are_there_while_the_llm_still_writes(
    kafka_settings: Callable[..., KafkaSettings], collection: RecallSettings, start_worker: Callable, llm: FakeLlm
) -> None:
    # Under the guarantee that shows an answer last: no transaction holds them back. Under the other one, the tests of
    # metrics and of rights wait for them.
    kafka = kafka_settings(contexts_topic=f"contexts-{uuid.uuid4().hex[:8]}")
    changes = {"KAFKA__DELIVERY_GUARANTEE": "exactly_once", "ANSWER__TIMEOUT_S": "600"}
    worker = start_worker(kafka, collection, **answering_by(llm), **changes).await_ready()
    llm.fall_ill("silent")
    seen: list[tuple[ContextsEvent, str]] = []

    def see(contexts: ContextsEvent) -> None:
        seen.append((contexts, llm.mood))
        llm.heal()

    with QueryClient(kafka, on_contexts=see) as client:
        answer = client.ask(EVENTS[0], timeout_s=HANG_S, key="user-7")
    (contexts, mood), *again = seen
    assert mood == "silent", "the answer was not there yet"
    assert answer.status is AnswerStatus.OK
    assert answer.answer is not None
    assert (contexts.query_id, contexts.attempt_id) == (answer.query_id, answer.attempt_id)
    assert contexts.contexts == answer.contexts
    assert all(each == contexts for each, _ in again)
    counted = "rerank_worker_time_to_contexts_seconds_count"
    assert await_condition(lambda: worker.metric(counted) == 1, timeout_s=HANG_S), worker.describe()
    assert worker.stop() == 0
