"""What a worker answered already: candidates from the answer topic or a file, and its own ranking of them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from schemas import wire
from worker.errors import FatalError
from worker.evaluation.questions import Question
from worker.evaluation.rankings import Found, Scored
from worker.evaluation.readers.candidates import Recorded, recorded
from worker.evaluation.readers.lines import Line
from worker.kafka.admin.reach import require_reachable
from worker.kafka.admin.whole_topic import read_whole
from worker.settings import KafkaSettings


def read_answers(kafka: KafkaSettings) -> list[Recorded]:
    """Return the answers on the topic that carried their candidates, oldest first within a partition. Blocks.

    Somebody else's records are passed over. FatalError if there is no such answer, or as ``read_whole``.
    """
    topic = kafka.answer_topic
    require_reachable(kafka)

    def answers() -> Iterator[Line]:
        for message in read_whole(kafka, topic):
            value = message.value()
            try:
                wire.decode_answer(value)
            except wire.WireError:
                continue
            yield Line((value or b"").decode("utf-8-sig"), f"{topic} {message.partition()}-{message.offset()}")

    return recorded(answers(), topic, once=False)


def matched(records: Sequence[Recorded], questions: Sequence[Question] | None) -> tuple[list[Question], list[Recorded]]:
    """Return the questions and, under their ids, what is recorded of them: by id, else by the very same text.

    Of a question that was answered several times the last one counts. ``questions`` None: the records tell what was
    asked. FatalError if nothing matches.
    """
    if questions is None:
        latest = {each.question_id: each for each in records}
        return [Question(each.question_id, each.text) for each in latest.values()], list(latest.values())
    by_id = {each.question_id: each for each in records}
    by_text = {each.text: each for each in records}
    found = {each.id: by_id.get(each.id) or by_text.get(each.text) for each in questions}
    asked = [each for each in questions if found[each.id] is not None]
    if not asked:
        raise FatalError(
            f"none of the {len(questions)} questions is among the {len(by_id)} that have candidates, by id or by text"
        )
    of_asked = [record for each in asked if (record := found[each.id]) is not None]
    return asked, [replace(each, question_id=question.id) for each, question in zip(of_asked, asked, strict=True)]


def candidates_of(records: Sequence[Recorded]) -> Found:
    """Return the candidates by question."""
    return {each.question_id: each.candidates for each in records}


def as_answered(records: Sequence[Recorded]) -> Scored | None:
    """Return the worker's own scores as a reranker to evaluate; None where any record has none.

    Its times are the answers' own, waiting for a micro-batch included, by the number of their candidates.
    """
    if any(each.scores is None for each in records):
        return None
    seconds: dict[int, list[float]] = {}
    for each in records:
        if each.rerank_s is not None:
            seconds.setdefault(len(each.candidates), []).append(each.rerank_s)
    models = ", ".join(dict.fromkeys(each.model for each in records if each.model))
    return Scored(
        f"{models or 'the reranker'} (as answered)",
        {each.question_id: each.scores or () for each in records},
        {each.question_id: each.windows for each in records},
        seconds,
    )
