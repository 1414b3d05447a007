"""The story: rows of PostgreSQL change, and what questions find changes with them."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from schemas.events import AnswerEvent, QueryEvent
from worker.client import QueryClient
from worker.errors import FatalError
from worker.kafka.admin.dead_letters import Wanted, oldest
from worker.settings import KafkaSettings

SCHEMA = (Path(__file__).parent / "schema.sql").read_text()

# Seconds, and minutes where everything else on the machine has work to do.
CHANGE_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 120.0
LOOK_S = 0.05

WHEN_OPEN = "When is the shop open?"
HOW_LONG_TO_RETURN = "Within how many days can goods be returned?"
HOW_LONG_COVERED = "For how many years does the warranty cover defects?"
CLAUSES = (
    "The cover begins on the day of purchase, and a receipt is the proof of it.",
    "Batteries and other parts that wear are covered for six months.",
    "Whoever opens the case without need loses the cover for what is inside.",
    "A device that is mended keeps the rest of its time, and at least three months of it.",
    "Within the country the way to us and back is paid by us.",
)
# Over 2 kB, and so not in the row itself.
LONG_BODY = "The warranty covers defects for four years. " + " ".join(
    f"Clause {number}: {CLAUSES[number % len(CLAUSES)]}" for number in range(1, 37)
)


@dataclass(frozen=True, slots=True)
class Step:
    """What has happened, and what became of it."""

    said: str
    sql: str
    """What was done in the database; empty: nothing."""
    found: str
    """The question and what answers it, or why the event was set aside."""
    seconds: float
    """From the commit in the database until an answer showed it, or the event was set aside."""


class Story:
    """Tells it once, on a new database whose connector and index run. Blocking; one thread."""

    def __init__(
        self, database: "psycopg.Connection[tuple[object, ...]]", client: QueryClient, documents: KafkaSettings
    ) -> None:
        """``documents``: the index's settings, as ``for_documents`` makes them."""
        self._database = database
        self._client = client
        self._documents = documents
        self._begun = datetime.now(UTC)

    def steps(self) -> Iterator[Step]:
        """Do one step after the other; FatalError where an answer does not follow in time."""
        yield self._found("Rows that were there before the connector", "", WHEN_OPEN, 1, "9 to 18")
        sql = "INSERT INTO docs VALUES (2, 'Returns', 'Unused goods can be returned within 30 days.', 'en')"
        yield self._found("A row is inserted", sql, HOW_LONG_TO_RETURN, 2, "within 30 days")
        sql = "UPDATE docs SET body = 'Unused goods can be returned within 60 days.' WHERE id = 2"
        yield self._found("It is updated", sql, HOW_LONG_TO_RETURN, 2, "within 60 days")
        sql = "UPDATE docs SET id = 20 WHERE id = 2"
        yield self._found("Its primary key changes", sql, HOW_LONG_TO_RETURN, 20, "within 60 days", not_under=2)
        yield self._gone("It is deleted", "DELETE FROM docs WHERE id = 20", HOW_LONG_TO_RETURN, 20)
        sql = "UPDATE docs SET title = 'Guarantee' WHERE id = 3"
        yield self._set_aside("Beside a large column, which Debezium leaves out, a title changes", sql)
        yield self._found("... so what is found of it is as it was", "", HOW_LONG_COVERED, 3, "Warranty")
        sql = "ALTER TABLE docs REPLICA IDENTITY FULL; UPDATE docs SET title = title WHERE id = 3"
        yield self._found("The table is told to log whole rows", sql, HOW_LONG_COVERED, 3, "Guarantee")

    def _found(self, said: str, sql: str, question: str, row: int, words: str, *, not_under: int | None = None) -> Step:
        """Expect words in what is found of a row, and nothing under another's id."""

        def shows(answer: AnswerEvent) -> bool:
            moved = not_under is None or not texts_of(answer, not_under)
            return moved and any(words in text for text in texts_of(answer, row))

        return self._answered(said, sql, question, shows)

    def _gone(self, said: str, sql: str, question: str, row: int) -> Step:
        return self._answered(said, sql, question, lambda answer: not texts_of(answer, row))

    def _answered(self, said: str, sql: str, question: str, shows: Callable[[AnswerEvent], bool]) -> Step:
        committed_s = self._commit(sql)
        while not shows(answer := self.ask(question)):
            if time.monotonic() > committed_s + CHANGE_TIMEOUT_S:
                raise FatalError(f"the answer to {question!r} has not followed: {quoted(answer)}")
        return Step(said, sql, f"{question} {quoted(answer)}", time.monotonic() - committed_s)

    def _set_aside(self, said: str, sql: str) -> Step:
        committed_s = self._commit(sql)
        wanted = Wanted(reason="unavailable_value", since=self._begun)
        while not (letters := oldest(self._documents, wanted, 1)[0]):
            if time.monotonic() > committed_s + CHANGE_TIMEOUT_S:
                raise FatalError("no event was set aside as unavailable_value")
            time.sleep(LOOK_S)
        seconds, info = time.monotonic() - committed_s, letters[0].info
        return Step(said, sql, f"set aside, {info.error_class}: {info.error_message}", seconds)

    def _commit(self, sql: str) -> float:
        """Return when the change was there for others, or now where there is none."""
        if sql:
            self._database.execute(sql.encode())
        return time.monotonic()

    def ask(self, question: str) -> AnswerEvent:
        """Ask once; raises as ``QueryClient.ask``."""
        return self._client.ask(QueryEvent(id=str(uuid.uuid4()), text=question), timeout_s=ANSWER_TIMEOUT_S)


def write_first_rows(database: "psycopg.Connection[tuple[object, ...]]") -> None:
    """Make the table, its publication and the rows that the connector finds when it comes."""
    database.execute(SCHEMA.encode())
    first = [
        (1, "Opening hours", "The shop is open from 9 to 18 o'clock, Monday to Saturday.", "en"),
        (3, "Warranty", LONG_BODY, "en"),
    ]
    with database.cursor() as cursor:
        cursor.executemany("INSERT INTO docs VALUES (%s, %s, %s, %s)", first)


def texts_of(answer: AnswerEvent, row: int) -> list[str]:
    """Return what of a row was found: texts, and its title; nothing if it was not."""
    # Chunks after a document's first are called 3#2 and so on.
    found = [context for context in answer.contexts if context.document_id.partition("#")[0] == str(row)]
    return [text for context in found for text in (context.text, str(context.metadata.get("title")))]


def quoted(answer: AnswerEvent) -> str:
    """Return the answer in one line, with the title of what it rests on."""
    if answer.answer is None or not answer.contexts:
        return "(no answer)"
    return f"{answer.contexts[0].metadata.get('title')}: {answer.answer.text}"
