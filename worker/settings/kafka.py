"""Settings of the section `kafka`."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from schemas.limits import MAX_EVENT_BYTES
from worker.settings.fields import Count, Names, Seconds, Section, UserPath

CLIENT_OPTIONS_BY_NAME = (
    "https_ca_location",
    "sasl_oauthbearer_client_id",
    "sasl_oauthbearer_client_secret",
    "sasl_oauthbearer_scope",
    "sasl_oauthbearer_token_endpoint_url",
    "sasl_mechanism",
    "sasl_password",
    "sasl_username",
    "ssl_ca_location",
    "ssl_certificate_location",
    "ssl_key_location",
    "ssl_key_password",
)
"""Settings that are options of librdkafka by their names, with dots for underscores."""


class KafkaSettings(Section):
    """The broker, the topics and the consumer group."""

    bootstrap_servers: str = "localhost:9092"
    """Comma-separated `host:port` list."""
    query_topic: str = "rag.queries"
    """Topic of query events."""
    answer_topic: str = "rag.answers"
    """Topic of answer events; keep it compatible with `query_topic`'s partition count for co-partitioned joins."""
    dead_letter_topic: str = "rag.queries.dlq"
    """Topic of events that can't be answered, as they came."""
    contexts_topic: str | None = None
    """Topic to which the contexts of every query go when its answer begins to be written, to be shown meanwhile. Best
    effort, under either delivery guarantee: no answer and no offset waits for them. Nothing is sent when absent."""
    documents_topic: str = "rag.documents"
    """Topic of document events, which `rerank-worker index` follows; keep its last record of each key (compaction), and
    an index can be built from it again."""
    documents_dead_letter_topic: str = "rag.documents.dlq"
    """Topic of document events that can't be indexed, as they came."""
    documents_group_id: str = "rerank-worker-index"
    """Consumer group of `rerank-worker index`. Another name begins at the topic's beginning."""
    reply_topics: Names = ()
    """Topics to which a query may have its answer or its failure sent, by the header `reply-topic`, instead of to
    `answer_topic`: names, or beginnings of names with a `*` at the end. In the environment separated by commas. Never
    the query, contexts and dead-letter topics, and none that begins with two underscores. What else a query names is
    refused."""
    group_id: str = "rerank-worker"
    """Consumer group: processes with the same one share the partitions."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """`consumer` is KIP-848 (brokers of 4.0 and newer); `classic` works everywhere and uses cooperative-sticky."""
    group_instance_id: str | None = None
    """Static membership: a name of its own for each process. Its partitions wait for it while it restarts, for as long
    as the session lasts, instead of going to others."""
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where a group without commits begins: `earliest` answers what was asked before the first worker ran. An offset
    that is not in the log any more is no such case: what is there is read from its beginning."""
    create_topics: bool = False
    """Create missing topics at start. Off: a missing topic is a fatal error that names the command to create it."""
    partitions: Count = 12
    """Partitions of topics created here: the ceiling of useful consumers."""
    replication_factor: Annotated[int, Field(ge=-1)] = -1
    """Replicas of topics created here; -1 is the broker's default."""
    poll_timeout_s: Seconds = 0.05
    """Longest wait of one poll: the delay of a pause, a resume or a commit behind a quiet topic."""
    poll_batch: Count = 64
    """Most events taken from one poll: how far admission can overshoot `max_in_flight`."""
    max_event_bytes: Annotated[int, Field(ge=1_024)] = MAX_EVENT_BYTES
    """Bytes of the largest query event that is read; a larger one is dead-lettered, `event_too_large`. Reading takes
    the loop's time, some 60 ms for 64 of 64 KiB."""
    session_timeout_s: Seconds = 45.0
    """A consumer not heard of for this long is replaced. `classic` only: for `consumer` groups the broker sets it, and
    `index` should know it: no longer here than there."""
    max_poll_interval_s: Seconds = 300.0
    """The broker takes the partitions from a consumer that has not polled for this long."""
    max_in_flight: Count = 256
    """Queries in work at which partitions are paused; they resume at half of it. Bounds memory and reprocessing."""
    max_in_flight_pairs: Count = 16_384
    """(query, document) pairs in work at which partitions are paused, counted as `top_k` per query."""
    max_unpublished_bytes: Count = 67_108_864
    """Bytes of outcomes that wait for the broker at which partitions are paused: memory while a topic takes nothing."""
    commit_interval_s: Seconds = 1.0
    """How often finished prefixes are committed: a crash repeats at most this much finished work."""
    revoke_timeout_s: Seconds = 20.0
    """Time in-flight queries of a revoked partition get to finish; the rest is left to the new owner."""
    drain_timeout_s: Seconds = 30.0
    """Time in-flight queries get after SIGTERM. The orchestrator's grace period must be longer than this and
    `close_timeout_s` together."""
    close_timeout_s: Seconds = 15.0
    """Time the last commit, leaving the group and ending threads get after that; then the process ends where it is,
    and what is not committed is worked on again."""
    delivery_timeout_s: Seconds = 60.0
    """The broker has not taken an outcome for this long: its partition stops and says why, and it is tried again."""
    delivery_guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """`exactly_once`: answers, dead letters and offsets in one transaction; readers set `read_committed`."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "gzip"
    """How answers and dead letters are compressed. `gzip` is what every client reads; `lz4` and `zstd` cost less."""
    partitioner: Literal[
        "consistent", "consistent_random", "murmur2", "murmur2_random", "fnv1a", "fnv1a_random", "random"
    ] = "murmur2_random"
    """Which partition a key goes to: `murmur2_random` as Java, Kafka Streams and JavaScript clients do."""
    ordering: Literal["none", "key", "partition"] = "none"
    """Outcomes leave in the order of their queries, per key or per partition: the slow hold back those behind them."""
    transaction_interval_s: Seconds = 0.05
    """`exactly_once`: finished queries of this time share a transaction. The least it adds to an answer's latency."""
    transaction_timeout_s: Annotated[float, Field(ge=1)] = 30.0
    """`exactly_once`: the broker aborts a transaction open for longer; readers wait for one a dead worker left."""
    publish_retry_max_s: Seconds = 30.0
    """Longest wait before the next try of an outcome that can't be published; the waits grow to it, with jitter."""
    poison_limit: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the last `poison_window` events that may be poison; above it the worker ends. 1 bears all."""
    poison_window: Count = 200
    """How many events `poison_limit` looks at, and how many may be poison after a start before it looks."""
    startup_timeout_s: Seconds = 30.0
    """The broker and the topics must answer within this at start."""
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How to talk to the broker."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] | None = None
    """Set with a `sasl_*` protocol. `OAUTHBEARER`: with tokens of an OpenID Connect provider. `AWS_MSK_IAM`: with what
    AWS knows this process by (extra `msk-iam`)."""
    sasl_username: str | None = None
    """SASL user."""
    sasl_password: SecretStr | None = None
    """SASL password."""
    sasl_oauthbearer_token_endpoint_url: str | None = None
    """`OAUTHBEARER`: where the provider gives tokens, by the client credentials grant."""
    sasl_oauthbearer_client_id: str | None = None
    """`OAUTHBEARER`: whom the provider knows."""
    sasl_oauthbearer_client_secret: SecretStr | None = None
    """`OAUTHBEARER`: the client's secret."""
    sasl_oauthbearer_scope: str | None = None
    """`OAUTHBEARER`: scopes to ask for, separated by spaces."""
    sasl_oauthbearer_extensions: dict[str, str] = Field(default_factory=dict)
    """`OAUTHBEARER`: sent to the broker with each token, as Confluent Cloud's `logicalCluster` and `identityPoolId`. In
    the environment as JSON."""
    https_ca_location: UserPath | None = None
    """`OAUTHBEARER`: PEM file, or folder, of the authority of the token endpoint's certificate; that of
    `SSL_CERT_FILE`, or the system's, when absent."""
    msk_region: str | None = None
    """`AWS_MSK_IAM`: the cluster's AWS region."""
    ssl_ca_location: UserPath | None = None
    """PEM file, or folder, of the authority of the brokers' certificates; the system's when absent."""
    ssl_certificate_location: UserPath | None = None
    """PEM file of this client's certificate, with those between it and its authority. Read when a client is made:
    restart to renew it."""
    ssl_key_location: UserPath | None = None
    """PEM file of its private key; it may be the same file."""
    ssl_key_password: SecretStr | None = None
    """What the private key is encrypted with."""
    client_options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Passed on to librdkafka for consumer, producer and admin; refused where the delivery guarantee rests on it."""


def for_documents(kafka: KafkaSettings, *, into: str | None = None) -> KafkaSettings:
    """Return how the live index uses the broker: documents stand where queries do, and nothing is answered.

    ``into`` names a collection that is built beside the usual one, from the topic's beginning by a group of its own.

    At least once, whatever queries have: no transaction reaches into the vector store, and to bring a document in again
    changes nothing. What orders documents is not what is published but what is written.
    """
    return kafka.model_copy(
        update={
            "query_topic": kafka.documents_topic,
            "dead_letter_topic": kafka.documents_dead_letter_topic,
            "group_id": kafka.documents_group_id if into is None else f"{kafka.documents_group_id}-{into}",
            "auto_offset_reset": kafka.auto_offset_reset if into is None else "earliest",
            "contexts_topic": None,
            "reply_topics": (),
            "delivery_guarantee": "at_least_once",
            "ordering": "none",
        }
    )
