"""Records as a C or Go producer can send them and Python's client can't: header names of any bytes."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.patience import HANG_S
from worker.local.mock_kafka import PRODUCER, load_librdkafka

# rdkafka.h: rd_kafka_vtype_t, and RD_KAFKA_MSG_F_COPY.
END, TOPIC, PARTITION, VALUE, KEY, FLAGS, TIMESTAMP, HEADERS = 0, 1, 3, 4, 5, 7, 8, 10
COPY = 2

RawHeader = tuple[bytes, bytes | None]


class RawProducer:
    """librdkafka's producer itself; records of a partition are in it in the order in which they were sent."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._lib = lib = load_librdkafka()
        lib.rd_kafka_conf_new.restype = ctypes.c_void_p
        lib.rd_kafka_conf_set.argtypes = [ctypes.c_void_p, *[ctypes.c_char_p] * 3, ctypes.c_size_t]
        lib.rd_kafka_headers_new.restype = ctypes.c_void_p
        lib.rd_kafka_headers_new.argtypes = [ctypes.c_size_t]
        lib.rd_kafka_header_add.argtypes = [ctypes.c_void_p, *[ctypes.c_char_p, ctypes.c_ssize_t] * 2]
        lib.rd_kafka_flush.argtypes = [ctypes.c_void_p, ctypes.c_int]
        lib.rd_kafka_destroy.argtypes = [ctypes.c_void_p]
        error = ctypes.create_string_buffer(512)
        configuration = lib.rd_kafka_conf_new()
        options = {b"bootstrap.servers": bootstrap_servers.encode(), b"enable.idempotence": b"true", b"log_level": b"0"}
        for name, value in options.items():
            assert lib.rd_kafka_conf_set(configuration, name, value, error, 512) == 0
        self._producer = lib.rd_kafka_new(PRODUCER, configuration, error, 512)
        assert self._producer, error.value

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        headers: Sequence[RawHeader] = (),
        key: bytes | None = None,
        partition: int = 0,
        timestamp_ms: int = 0,
    ) -> None:
        """Send one record; a timestamp of 0 means now."""
        lib = self._lib
        native = lib.rd_kafka_headers_new(len(headers))
        for name, held in headers:
            assert lib.rd_kafka_header_add(native, name, len(name), held, -1 if held is None else len(held)) == 0
        sent = lib.rd_kafka_producev(
            ctypes.c_void_p(self._producer),
            *(ctypes.c_int(TOPIC), ctypes.c_char_p(topic.encode())),
            *(ctypes.c_int(PARTITION), ctypes.c_int32(partition)),
            *(ctypes.c_int(VALUE), ctypes.c_char_p(value), ctypes.c_size_t(len(value or b""))),
            *(ctypes.c_int(KEY), ctypes.c_char_p(key), ctypes.c_size_t(len(key or b""))),
            *(ctypes.c_int(TIMESTAMP), ctypes.c_int64(timestamp_ms)),
            *(ctypes.c_int(FLAGS), ctypes.c_int(COPY)),
            *(ctypes.c_int(HEADERS), ctypes.c_void_p(native)),
            ctypes.c_int(END),
        )
        assert sent == 0

    def flush(self) -> None:
        """Return when the broker has taken, or refused, all that was sent."""
        assert self._lib.rd_kafka_flush(self._producer, int(HANG_S * 1000)) == 0

    def close(self) -> None:
        self._lib.rd_kafka_destroy(self._producer)


@contextmanager
def raw_producer(bootstrap_servers: str) -> Iterator[RawProducer]:
    producer = RawProducer(bootstrap_servers)
    try:
        yield producer
    finally:
        producer.close()


def produce_raw(
    bootstrap_servers: str,
    topic: str,
    value: bytes | None,
    *,
    headers: Sequence[RawHeader] = (),
    key: bytes | None = None,
    partition: int = 0,
    timestamp_ms: int = 0,
) -> None:
    """Send one record and return when the broker has it."""
    with raw_producer(bootstrap_servers) as producer:
        producer.send(topic, value, headers=headers, key=key, partition=partition, timestamp_ms=timestamp_ms)
        producer.flush()
