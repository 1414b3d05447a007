"""The topics of a live index."""

import uuid
from collections.abc import Callable

import pytest

from worker.kafka.admin.topics import ensure, index_topics
from worker.settings import KafkaSettings
from worker.settings.kafka import for_documents


@pytest.fixture
def kafka(kafka_settings: Callable[..., KafkaSettings]) -> KafkaSettings:
    """As the index has it, with topics of its own."""
    name = uuid.uuid4().hex[:8]
    topics = {"documents_topic": f"documents-{name}", "documents_dead_letter_topic": f"dead-documents-{name}"}
    kafka = kafka_settings(**topics, documents_group_id=f"index-{name}")
    documents = for_documents(kafka)
    ensure(documents, create=True, names=index_topics(documents))
    return kafka
