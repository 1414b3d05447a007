"""Records as any producer may send them, through librdkafka and its mock broker: copying one raises nothing."""

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.patience import HANG_S
from tests.raw_producer import RawHeader, produce_raw, raw_producer
from worker.kafka.consume.records import Record, from_message
from worker.local.mock_kafka import MockCluster

TOPIC = "queries"


@pytest.fixture(scope="module")
def cluster() -> MockCluster:
    return MockCluster([TOPIC], partitions=1)


def read(cluster: MockCluster, offset: int) -> Record:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(TOPIC, 0, offset)])
        message = consumer.poll(HANG_S)
        assert message is not None
        assert message.error() is None
        return from_message(message)
    finally:
        consumer.close()


def last_offset(cluster: MockCluster) -> int:
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g"})
    try:
        return consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), timeout=HANG_S)[1] - 1
    finally:
        consumer.close()


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xed\xa0\x80", b"\xff\xfe", b"ok\xc3"])
def test_a_header_whose_name_is_not_utf_8_is_told_and_key_and_value_stay(cluster: MockCluster, name: bytes) -> None:
    headers: list[RawHeader] = [(b"before", b"1"), (name, b"x")]
    produce_raw(cluster.bootstrap_servers, TOPIC, b"value\xff", headers=headers, key=b"\xfe")
    record = read(cluster, last_offset(cluster))
    assert record.unreadable_headers is not None
    assert "header's name" in record.unreadable_headers
    assert (record.key, record.value, record.headers) == (b"\xfe", b"value\xff", ())


def test_it_is_told_of_every_such_record_and_not_of_the_first_ones_alone(cluster: MockCluster) -> None:
    """An interpreter that has warmed up calls the client without the check that finds its failure."""
    first = last_offset(cluster) + 1
    with raw_producer(cluster.bootstrap_servers) as producer:
        for _ in range(30):
            producer.send(TOPIC, b"odd", headers=[(b"caf\xe9", b"x")])
            producer.send(TOPIC, b"fine", headers=[(b"fine", b"x")])
        producer.flush()
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, "group.id": "g", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(TOPIC, 0, first)])
        records: list[Record] = []
        while len(records) < 60:
            records += [from_message(message) for message in consumer.consume(10, HANG_S)]
    finally:
        consumer.close()
    assert [record.unreadable_headers is not None for record in records] == [True, False] * 30


@pytest.mark.parametrize(
    "header", [(b"", b"x"), (b"binary", b"\xff\x00\xfe"), (b"null", None), (b"empty", b""), ("é😀".encode(), b"x")]
)
def test_any_other_header_comes_as_it_was_sent(cluster: MockCluster, header: RawHeader) -> None:
    produce_raw(cluster.bootstrap_servers, TOPIC, b"v", headers=[header])
    record = read(cluster, last_offset(cluster))
    assert record.headers == ((header[0].decode(), header[1]),)
    assert record.unreadable_headers is None


@pytest.mark.parametrize("timestamp_ms", [-1, -5, 2**62, -(2**62), 253_402_300_800_000])
def test_a_timestamp_that_is_no_date_is_none(cluster: MockCluster, timestamp_ms: int) -> None:
    produce_raw(cluster.bootstrap_servers, TOPIC, b"v", timestamp_ms=timestamp_ms)
    assert read(cluster, last_offset(cluster)).timestamp_s is None
