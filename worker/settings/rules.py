"""Combinations of settings that can't work, refused at start: each in the user's words, with what to set instead."""

import re
from collections.abc import Iterator

from worker.errors import FatalError
from worker.settings import (
    KafkaSettings,
    RecallSettings,
    Settings,
    TelemetrySettings,
    answer_rules,
    index_rules,
    recall_rules,
    rerank_rules,
    security_rules,
)
from worker.settings.kafka import CLIENT_OPTIONS_BY_NAME
from worker.settings.sources import listed

_FIXED = "leave it out: the delivery guarantee rests on it"

CLIENT_OPTIONS_REFUSED = {
    "acks": _FIXED,
    "allow.auto.create.topics": "set kafka.create_topics",
    "auto.commit.enable": _FIXED,
    "auto.commit.interval.ms": "set kafka.commit_interval_s",
    "auto.offset.reset": "set kafka.auto_offset_reset",
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "delivery.timeout.ms": "set kafka.delivery_timeout_s",
    "enable.auto.commit": _FIXED,
    "enable.auto.offset.store": _FIXED,
    "enable.gapless.guarantee": _FIXED,
    "enable.idempotence": _FIXED,
    "enable.partition.eof": "leave it out: what is committed behind transactions rests on it",
    "group.id": "set kafka.group_id",
    "group.instance.id": "set kafka.group_instance_id",
    "group.protocol": "set kafka.group_protocol",
    "group.protocol.type": "set kafka.group_protocol",
    "heartbeat.interval.ms": "set kafka.session_timeout_s, of which it is a third, and 3 s at most",
    "isolation.level": _FIXED,
    "max.in.flight": _FIXED,
    "max.in.flight.requests.per.connection": _FIXED,
    "max.poll.interval.ms": "set kafka.max_poll_interval_s",
    "message.send.max.retries": _FIXED,
    "message.timeout.ms": "set kafka.delivery_timeout_s",
    "metadata.broker.list": "set kafka.bootstrap_servers",
    "offset.store.method": _FIXED,
    "partition.assignment.strategy": "set kafka.group_protocol",
    "queuing.strategy": _FIXED,
    "request.required.acks": _FIXED,
    "retries": _FIXED,
    "sasl.password": "set kafka.sasl_password, which is never shown",
    "sasl.username": "set kafka.sasl_username",
    "security.protocol": "set kafka.security_protocol",
    "session.timeout.ms": "set kafka.session_timeout_s",
    "ssl.ca.location": "set kafka.ssl_ca_location",
    "ssl.certificate.location": "set kafka.ssl_certificate_location",
    "ssl.key.location": "set kafka.ssl_key_location",
    "ssl.key.password": "set kafka.ssl_key_password, which is never shown",
    "transaction.timeout.ms": "set kafka.transaction_timeout_s",
    "transactional.id": "set worker_id, of which it is made",
}
"""librdkafka options, their aliases included, that ``kafka.client_options`` may not carry, and what to do instead."""

OTHER_NAMES = {
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.oauthbearer.client.credentials.client.id": "sasl_oauthbearer_client_id",
    "sasl.oauthbearer.client.credentials.client.secret": "sasl_oauthbearer_client_secret",
}
"""librdkafka's aliases of options that are settings."""

# Everybody in the group waits for a revoke: a consumer that takes longer than this share risks its own membership.
REVOKE_SHARE = 0.2

# What the liveness probe bears is 30 s (worker/telemetry/health.py): a poll that lasts as long would fail it.
LONGEST_POLL_S = 10.0

TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


def check_settings(settings: Settings) -> None:
    """Raise FatalError naming every impossible combination at once; reads no network, only whether files exist."""
    problems = [
        *_topics(settings.kafka),
        *security_rules.problems(settings.kafka),
        *_client_options(settings.kafka),
        *_kafka_bounds(settings.kafka, settings.recall),
        *recall_rules.problems(settings.recall),
        *rerank_rules.problems(settings.rerank, settings.recall),
        *answer_rules.problems(settings.answer),
        *index_rules.problems(settings.index),
        *_telemetry(settings.telemetry, settings.recall),
    ]
    if problems:
        raise FatalError(listed("settings that can't work", problems))


def _topics(kafka: KafkaSettings) -> Iterator[str]:
    topics = {
        "query_topic": kafka.query_topic,
        "answer_topic": kafka.answer_topic,
        "dead_letter_topic": kafka.dead_letter_topic,
        "documents_topic": kafka.documents_topic,
        "documents_dead_letter_topic": kafka.documents_dead_letter_topic,
    }
    if kafka.contexts_topic is not None:
        topics["contexts_topic"] = kafka.contexts_topic
    for name, topic in topics.items():
        if not TOPIC_NAME.fullmatch(topic) or topic in {".", ".."}:
            yield f"kafka.{name} is {topic!r}: a topic's name has up to 249 of the characters A-Z a-z 0-9 . _ -"
    if len(set(topics.values())) < len(topics):
        yield f"two of kafka.{', '.join(topics)} are the same: the worker would read its own"
    if kafka.documents_group_id == kafka.group_id:
        yield "kafka.documents_group_id is kafka.group_id: members of one group must read the same topic"
    yield from _reply_topics(kafka)
    if not kafka.bootstrap_servers.strip():
        yield "kafka.bootstrap_servers is empty: set host:port of at least one broker"
    if kafka.replication_factor == 0:
        yield "kafka.replication_factor is 0: set -1 for the broker's default, or 1 and more"


def _reply_topics(kafka: KafkaSettings) -> Iterator[str]:
    for name in kafka.reply_topics:
        beginning = name.removesuffix("*")
        if not beginning:
            yield f"kafka.reply_topics has {name!r}: any producer could write to any topic; name how they begin"
        elif not TOPIC_NAME.fullmatch(beginning):
            yield f"kafka.reply_topics has {name!r}: set names of topics, or how they begin with a * at the end"
        elif name in {kafka.query_topic, kafka.dead_letter_topic, kafka.contexts_topic}:
            yield f"kafka.reply_topics has {name!r}, which is this worker's own: no reply may go there"


def _client_options(kafka: KafkaSettings) -> Iterator[str]:
    for option in kafka.client_options:
        name = OTHER_NAMES.get(option, option.replace(".", "_"))
        if option in CLIENT_OPTIONS_REFUSED:
            yield f"kafka.client_options has {option}: {CLIENT_OPTIONS_REFUSED[option]}"
        elif name in CLIENT_OPTIONS_BY_NAME and getattr(kafka, name) is not None:
            yield f"kafka.client_options has {option}, which kafka.{name} sets as well: leave one of them out"


def _kafka_bounds(kafka: KafkaSettings, recall: RecallSettings) -> Iterator[str]:
    longest_revoke_s = kafka.max_poll_interval_s * REVOKE_SHARE
    if kafka.revoke_timeout_s > longest_revoke_s:
        yield (
            f"kafka.revoke_timeout_s is {kafka.revoke_timeout_s:g}, more than {REVOKE_SHARE:g} of "
            f"kafka.max_poll_interval_s: set at most {longest_revoke_s:g}, or a longer interval"
        )
    if kafka.group_protocol == "classic" and kafka.session_timeout_s > kafka.max_poll_interval_s:
        yield (
            f"kafka.session_timeout_s is {kafka.session_timeout_s:g}, more than kafka.max_poll_interval_s "
            f"({kafka.max_poll_interval_s:g}), which librdkafka refuses: set at most that"
        )
    if kafka.poll_timeout_s >= kafka.max_poll_interval_s:
        yield "kafka.poll_timeout_s is not below kafka.max_poll_interval_s: the broker would give up on a quiet topic"
    elif kafka.poll_timeout_s > LONGEST_POLL_S:
        yield (
            f"kafka.poll_timeout_s is {kafka.poll_timeout_s:g}: set at most {LONGEST_POLL_S:g}, or a quiet topic would "
            "fail the liveness probe"
        )
    if kafka.poll_batch > kafka.max_in_flight:
        yield (
            f"kafka.poll_batch is {kafka.poll_batch}, more than kafka.max_in_flight ({kafka.max_in_flight}): "
            "one poll would overshoot it"
        )
    if kafka.max_in_flight_pairs < recall.top_k:
        yield (
            f"kafka.max_in_flight_pairs is {kafka.max_in_flight_pairs}, less than one query's recall.top_k "
            f"({recall.top_k}): set at least that"
        )


def _telemetry(telemetry: TelemetrySettings, recall: RecallSettings) -> Iterator[str]:
    endpoint = telemetry.otlp_endpoint
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        yield "telemetry.otlp_endpoint must begin with http:// or https://, e.g. http://collector:4317"
    for name in ("trace_ratio", "trace_texts"):
        if endpoint is None and name in telemetry.model_fields_set:
            yield f"telemetry.{name} is set without telemetry.otlp_endpoint: set the endpoint, or leave it out"
    if telemetry.hang_timeout_s <= recall.timeout_s:
        yield (
            f"telemetry.hang_timeout_s is {telemetry.hang_timeout_s:g}, not more than recall.timeout_s "
            f"({recall.timeout_s:g}): a search within its time would be taken for a hang"
        )
