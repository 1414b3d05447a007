"""The sample corpus holds together."""

from collections import Counter
from importlib import resources
from pathlib import Path

from worker.documents.document import Document
from worker.documents.files.readers import read
from worker.documents.samples.corpus import documents, questions

TOPICS = {"cdc", "kafka", "mysql", "vector-search", "reranking", "operations"}


def test_the_corpus_is_large_enough_and_without_repeats() -> None:
    corpus = documents()
    assert len(corpus) >= 160
    assert len({document.id for document in corpus}) == len(corpus)
    assert len({" ".join(document.text.lower().split()) for document in corpus}) == len(corpus)
    assert len({document.metadata["title"] for document in corpus}) == len(corpus)


def test_every_passage_is_short_and_says_enough() -> None:
    words = {document.id: len(document.text.split()) for document in documents()}
    assert {name: count for name, count in words.items() if not 40 <= count <= 120} == {}


def test_every_passage_has_a_title_and_one_of_the_topics() -> None:
    corpus = documents()
    assert all(document.metadata.keys() == {"title", "topic"} for document in corpus)
    assert Counter(document.metadata["topic"] for document in corpus).keys() == TOPICS


def test_questions_point_to_documents() -> None:
    ids = {document.id for document in documents()}
    asked = questions()
    assert sum(bool(question.relevant) for question in asked) >= 36
    assert len({question.id for question in asked}) == len({question.text for question in asked}) == len(asked)
    assert {name for question in asked for name in question.relevant} <= ids
    assert all(grade in {1, 2, 3} for question in asked for grade in question.relevant.values())


def test_an_answerable_question_has_a_passage_that_answers_it_fully() -> None:
    assert all(max(question.relevant.values()) == 3 for question in questions() if question.relevant)


def test_some_questions_have_no_answer() -> None:
    assert sum(not question.relevant for question in questions()) >= 3


def test_the_first_question_is_the_one_of_the_readme() -> None:
    assert questions()[0].text == "What permissions does Debezium need on MySQL?"


def test_the_file_can_be_ingested_like_any_other() -> None:
    with resources.as_file(resources.files("worker.documents.samples") / "corpus.jsonl") as path:
        records = list(read(Path(path)))
    read_back = [record for record in records if isinstance(record, Document)]
    assert len(read_back) == len(records)
    assert [(each.id, each.text, each.metadata["title"], each.metadata["topic"]) for each in read_back] == [
        (each.id, each.text, each.metadata["title"], each.metadata["topic"]) for each in documents()
    ]
