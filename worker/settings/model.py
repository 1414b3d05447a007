"""Every setting, once: its name, unit, default and why.

Read from, in falling order of precedence: environment variables (``RERANK_WORKER_`` and ``__`` between levels, e.g.
``RERANK_WORKER_KAFKA__GROUP_ID``), a ``.env`` file, the YAML file named by ``RERANK_WORKER_CONFIG``, the defaults.
"""

import os
import socket
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

ENV_PREFIX = "RERANK_WORKER_"
ENV_FILE = ".env"
CONFIG_FILE_VARIABLE = "RERANK_WORKER_CONFIG"
DEFAULT_CACHE_DIR = Path("~/.cache/rerank-worker")

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class KafkaSettings(_Section):
    """The broker, the topics and the consumer group."""

    bootstrap_servers: str = "localhost:9092"
    """Comma-separated `host:port` list."""
    query_topic: str = "rag.queries"
    """Topic of query events."""
    answer_topic: str = "rag.answers"
    """Topic of answer events; keep it compatible with `query_topic`'s partition count for co-partitioned joins."""
    dead_letter_topic: str = "rag.queries.dlq"
    """Topic of events that can't be answered, as they came."""
    group_id: str = "rerank-worker"
    """Consumer group: processes with the same one share the partitions."""
    group_protocol: Literal["classic", "consumer"] = "classic"
    """`consumer` is KIP-848 (brokers of 4.0 and newer); `classic` works everywhere and uses cooperative-sticky."""
    group_instance_id: str | None = None
    """Static membership: a name of its own for each process. Its partitions wait for it while it restarts, for as long
    as the session lasts, instead of going to others."""
    auto_offset_reset: Literal["earliest", "latest"] = "earliest"
    """Where a group without commits begins: `earliest` answers what was asked before the first worker ran."""
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
    session_timeout_s: Seconds = 45.0
    """A consumer not heard of for this long is replaced. `classic` only: for `consumer` groups the broker sets it."""
    max_poll_interval_s: Seconds = 300.0
    """The broker takes the partitions from a consumer that has not polled for this long."""
    max_in_flight: Count = 256
    """Queries in work at which partitions are paused; they resume at half of it. Bounds memory and reprocessing."""
    max_in_flight_pairs: Count = 16_384
    """(query, document) pairs in work at which partitions are paused, counted as `top_k` per query."""
    commit_interval_s: Seconds = 1.0
    """How often finished prefixes are committed: a crash repeats at most this much finished work."""
    revoke_timeout_s: Seconds = 20.0
    """Time in-flight queries of a revoked partition get to finish; the rest is left to the new owner."""
    drain_timeout_s: Seconds = 30.0
    """Time in-flight queries get after SIGTERM. Keep it below the orchestrator's grace period."""
    delivery_timeout_s: Seconds = 60.0
    """The broker has not taken an outcome for this long: its partition stops and says why, and it is tried again."""
    delivery_guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """`exactly_once`: answers, dead letters and offsets in one transaction; readers set `read_committed`."""
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
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    """Set with a `sasl_*` protocol."""
    sasl_username: str | None = None
    """SASL user."""
    sasl_password: SecretStr | None = None
    """SASL password."""
    ssl_ca_location: Path | None = None
    """PEM file of the broker's certificate authority; the system's when absent."""
    client_options: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Passed on to librdkafka for consumer, producer and admin; refused where the delivery guarantee rests on it."""


class RecallSettings(_Section):
    """The vector store and the model that embeds queries."""

    mode: Literal["server", "embedded"] = "server"
    """`embedded` opens a folder in this process: one process only, since readers beside a writer go stale."""
    host: str = "localhost"
    """Chroma server's host."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8000
    """Chroma server's port."""
    ssl: bool = False
    """Talk TLS to the Chroma server."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent with every request: for a proxy that authenticates, since Chroma 1.x has no auth of its own."""
    path: Path = Path(".local/chroma")
    """Folder of the embedded store."""
    collection: str = "documents"
    """Collection of queries that name none."""
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hub name or folder. Must be the model the collection was built with: checked at start."""
    top_k: Annotated[int, Field(ge=1, le=1_000)] = 20
    """Candidates of a query that says nothing: generous, since the reranker can only reorder what it is given."""
    max_batch: Count = 32
    """Most queries embedded and searched together."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the first query of a batch may wait for others while nothing is searched; what one poll brings goes
    together in any case, and so does what comes meanwhile."""
    timeout_s: Seconds = 10.0
    """One batch's search; Chroma's own client would wait for ever."""
    attempts: Count = 3
    """Tries of one search within `timeout_s`."""
    patience_s: Annotated[float, Field(ge=0)] = 600.0
    """How long a query waits for a store that is away before it is dead-lettered; partitions pause meanwhile."""


class RerankSettings(_Section):
    """The cross-encoder and its micro-batches."""

    model: str = "cross-encoder/ms-marco-MiniLM-L6-v2"
    """Hub name or folder of a cross-encoder with a single output."""
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    """What runs the cross-encoder: torch anywhere, ONNX Runtime or OpenVINO on a CPU (extras `onnx`, `openvino`)."""
    device: str = "auto"
    """`auto` (CUDA, else CPU) or a torch device such as `cuda:1`."""
    dtype: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto"
    """`auto`: float16 on CUDA, float32 on CPU. `int8` for `onnx` and `openvino`, which take that or `float32`.
    `bfloat16` on a CPU that multiplies it fast, and refused on others."""
    packed: bool = True
    """No padding in a batch, where the backend can: torch on a CPU, for models of the BERT and RoBERTa families."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads that compute on the CPU; 0 is as many as this process may use."""
    max_length: Annotated[int, Field(ge=16)] = 512
    """Tokens of one pair, cut as CrossEncoder does: the document first; a query only beyond half of it."""
    long_documents: Literal["truncate", "max", "mean"] = "truncate"
    """A document that does not fit beside the query: cut, or read window by window, each overlapping the one before by
    an eighth; its score is the best of them or their mean. Each window is a pair more to score."""
    max_windows: Count = 8
    """Most windows of one document; what lies behind them is not read, and its answer event says so."""
    token_cache_documents: Annotated[int, Field(ge=0)] = 10_000
    """Documents whose tokens are kept for the next query that finds them, the last used ones; 4 bytes a token, as many
    as a window has. 0: none."""
    batch_pairs: Count = 64
    """Most pairs of one forward pass."""
    batch_tokens: Count | None = None
    """Most tokens of one forward pass, padding included: what bounds memory and time. Unset: 16,384 on a GPU, 2,048 on
    a CPU, which larger batches only keep queries waiting for."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 1.0
    """How long the first pair of a batch may wait for others while the device is idle."""
    top_n: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Contexts of a query that says nothing."""
    min_score: float | None = None
    """Contexts with a lower rerank score are dropped; when none is left the LLM is never asked."""
    prior_weight: Annotated[float, Field(ge=0)] | None = None
    """Weight of the recall similarity added to the logit; unset is the model's own (0 for hub models)."""
    on_failure: Literal["degrade", "dead_letter"] = "degrade"
    """A reranker that fails: publish in recall order and say so, or dead-letter the query."""
    remote_url: str | None = None
    """An endpoint that ranks as Cohere's does, e.g. `https://api.cohere.com/v2/rerank`, asked for `model` instead of
    loading it; unset: the cross-encoder runs in this process."""
    remote_api_key: SecretStr | None = None
    """Sent to it as bearer token."""
    remote_timeout_s: Seconds = 30.0
    """The ranking of one query, retries included."""
    remote_attempts: Count = 3
    """Tries of one request, at connection errors, 429 and 5xx alone."""
    remote_concurrency: Count = 16
    """Most requests under way at once."""
    remote_documents: Count = 1_000
    """Most documents of one request: a query with more takes several."""
    remote_requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Most requests in any minute; unset: as many as there are."""


class AnswerSettings(_Section):
    """The LLM behind an OpenAI-compatible chat endpoint."""

    base_url: str | None = None
    """E.g. `https://api.openai.com/v1`; unset: answers are extracted from the contexts instead."""
    api_key: SecretStr | None = None
    """Sent as bearer token."""
    model: str | None = None
    """The name to ask the endpoint for."""
    timeout_s: Seconds = 60.0
    """One answer, retries included."""
    attempts: Count = 3
    """Tries of one answer, at connection errors, 429 and 5xx alone."""
    concurrency: Count = 8
    """Most requests under way at once."""
    max_tokens: Count = 300
    """Length of an answer."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """0: the same contexts give the same answer, as far as the endpoint allows."""
    sentences: Count = 2
    """Sentences of an extractive answer."""
    on_failure: Literal["degrade", "dead_letter"] = "degrade"
    """An LLM that fails: publish the contexts without an answer and say so, or dead-letter the query."""
    patience_s: Annotated[float, Field(ge=0)] = 0.0
    """How long a query waits for an LLM that is away, its partition pausing meanwhile, before `on_failure` holds."""
    circuit_failures: Count = 5
    """Requests in a row that fail before the LLM is left alone."""
    circuit_retry_s: Seconds = 15.0
    """How long it is left alone before one request tries it."""
    store_path: Path | None = None
    """File that keeps the LLM's answers, so that a query delivered again is not paid for again; unset: none is kept. It
    helps the workers that see the file: those of one host, or with the volume it is on."""
    store_ttl_s: Seconds = 86_400.0
    """How long an answer is kept."""
    store_max_answers: Count = 100_000
    """How many are kept, the newest ones."""


class TelemetrySettings(_Section):
    """What operators look at."""

    host: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from other hosts
    """Address of `/metrics`, `/live` and `/ready`."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 9464
    """Their port; 0 takes a free one and logs it."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto`: readable on a terminal, JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe event that is written."""


class Settings(BaseSettings):
    """Everything the worker can be told."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        # `NAME=` in a compose file means "not set", not an empty name.
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    worker_id: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    """Names this process in answers, logs and metrics."""
    models: Literal["auto", "hub", "offline"] = "auto"
    """Where models come from: `hub` (or its cache), `offline` (installed packages), `auto`: hub if it answers soon."""
    hub_timeout_s: Seconds = 3.0
    """How long `auto` waits for the hub before it takes the offline models."""
    cache_dir: Path = DEFAULT_CACHE_DIR
    """Built and exported models, the local broker's jars and the local stack's state."""
    kafka: KafkaSettings = KafkaSettings()
    recall: RecallSettings = RecallSettings()
    rerank: RerankSettings = RerankSettings()
    answer: AnswerSettings = AnswerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings passes it by name
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Add the YAML file below the environment."""
        config_file = os.environ.get(CONFIG_FILE_VARIABLE)
        yaml = (YamlConfigSettingsSource(settings_cls, config_file),) if config_file else ()
        return (init_settings, env_settings, dotenv_settings, *yaml)
