"""What brokers and other clients see of ours."""

import logging

import pytest
import structlog
from confluent_kafka import Consumer, KafkaError, Producer

from worker.kafka.config import (
    best_effort_config,
    common_config,
    consumer_config,
    outcome_config,
    producer_config,
    tell_error,
    transactional_config,
)
from worker.settings import KafkaSettings


def test_the_clients_of_a_worker_have_its_name_and_those_of_commands_the_commands() -> None:
    kafka = KafkaSettings()
    assert consumer_config(kafka, "worker-3")["client.id"] == "worker-3"
    assert outcome_config(kafka, "worker-3")["client.id"] == "worker-3"
    assert transactional_config(kafka, "t", "worker-3")["client.id"] == "worker-3"
    assert common_config(kafka)["client.id"] == "rerank-worker-command"
    named = KafkaSettings(client_options={"client.id": "billing"})
    assert consumer_config(named, "worker-3")["client.id"] == "billing"


def test_a_member_hears_of_a_rebalance_soon_however_long_its_session() -> None:
    for session_s, heartbeat_ms in ((45.0, 3_000), (6.0, 2_000)):
        config = consumer_config(KafkaSettings(session_timeout_s=session_s))
        assert config["heartbeat.interval.ms"] == heartbeat_ms


def test_by_default_answers_are_what_every_client_reads_and_lie_where_java_looks_for_them() -> None:
    config = producer_config(KafkaSettings())
    assert (config["compression.type"], config["partitioner"]) == ("gzip", "murmur2_random")


def test_compression_and_partitioner_are_settings_and_options_of_the_client_still_count() -> None:
    config = producer_config(KafkaSettings(compression="zstd", partitioner="consistent_random"))
    assert (config["compression.type"], config["partitioner"]) == ("zstd", "consistent_random")
    options = {"compression.codec": "snappy", "partitioner": "random"}
    config = producer_config(KafkaSettings(client_options=options))
    assert (config["compression.codec"], config["partitioner"]) == ("snappy", "random")
    assert "compression.type" not in config
    assert "compression.level" not in config


def test_gzip_is_quick_unless_the_client_s_own_option_says_otherwise() -> None:
    assert producer_config(KafkaSettings())["compression.level"] == 1
    assert producer_config(KafkaSettings(client_options={"compression.level": 9}))["compression.level"] == 9
    assert "compression.level" not in producer_config(KafkaSettings(compression="zstd"))


@pytest.mark.parametrize("partitioner", KafkaSettings.model_json_schema()["properties"]["partitioner"]["enum"])
def test_the_client_takes_every_partitioner_there_is_to_choose(partitioner: str) -> None:
    Producer(producer_config(KafkaSettings.model_validate({"partitioner": partitioner})))


def test_an_option_of_the_producer_does_not_warn_in_the_consumer(caplog: pytest.LogCaptureFixture) -> None:
    kafka = KafkaSettings(client_options={"linger.ms": 3, "fetch.wait.max.ms": 50})
    caplog.set_level(logging.DEBUG, logger="librdkafka")
    consumer = Consumer(consumer_config(kafka))
    producer = Producer(producer_config(kafka))
    consumer.poll(0)
    producer.poll(0)
    consumer.close()
    assert [record for record in caplog.records if "CONFWARN" in record.getMessage()] == []


def test_a_producer_of_what_may_be_lost_has_nothing_that_could_end_it_and_the_client_takes_it() -> None:
    config = best_effort_config(KafkaSettings(delivery_guarantee="exactly_once"), "worker-3")
    assert (config["client.id"], config["enable.idempotence"]) == ("worker-3", False)
    assert "transactional.id" not in config
    Producer(config)


def test_a_broker_that_is_away_is_told_of_once_and_not_at_every_attempt(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="librdkafka")
    refused = "BROKERFAIL [rdkafka#producer-%s] nobody:1/bootstrap: Connection refused (after %sms in state CONNECT)"
    for attempt in range(20):
        logging.getLogger("librdkafka").error(refused, attempt, 3 * attempt)
    assert len([record for record in caplog.records if "nobody:1" in record.getMessage()]) == 1


def test_what_an_error_callback_is_given_over_and_over_is_told_once_for_each_kind_of_client() -> None:
    with structlog.testing.capture_logs() as told:
        for attempt in range(20):
            reason = f"somebody:1: Connection refused (after {attempt}ms in state CONNECT)"
            error = KafkaError(KafkaError._TRANSPORT, reason)
            tell_error("kafka consumer error", error)
            tell_error("kafka producer error", error)
    assert [event["event"] for event in told] == ["kafka consumer error", "kafka producer error"]
    assert told[0]["code"] == "_TRANSPORT"
    assert "Connection refused" in told[0]["reason"]
