"""The sample corpus holds together."""

from worker.demo.corpus import documents, questions


def test_the_corpus_is_large_enough_and_without_repeats() -> None:
    corpus = documents()
    assert len(corpus) >= 150
    assert len({document.id for document in corpus}) == len(corpus)
    assert len({document.text for document in corpus}) == len(corpus)
    assert all(20 <= len(document.text.split()) <= 120 for document in corpus)
    assert all(document.metadata.keys() == {"title", "topic"} for document in corpus)


def test_questions_point_to_documents_and_some_have_no_answer() -> None:
    ids = {document.id for document in documents()}
    asked = questions()
    assert sum(bool(question.relevant) for question in asked) >= 30
    assert sum(not question.relevant for question in asked) >= 1
    assert len({question.id for question in asked}) == len(asked)
    assert all(question.relevant.keys() <= ids for question in asked)
    assert all(1 <= grade <= 3 for question in asked for grade in question.relevant.values())


def test_the_first_question_is_the_one_of_the_readme() -> None:
    assert questions()[0].text == "What permissions does Debezium need on MySQL?"
