"""Settings of the section `rerank`."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, SecretStr

from worker.settings.fields import Count, Seconds, Section


class RerankSettings(Section):
    """The cross-encoder and its micro-batches."""

    model: str = "cross-encoder/ms-marco-MiniLM-L6-v2"
    """Hub name or folder of a cross-encoder with a single output."""
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    """What runs the cross-encoder: torch anywhere, ONNX Runtime or OpenVINO on a CPU (extras `onnx`, `openvino`)."""
    device: str = "auto"
    """`auto` (CUDA, else CPU) or a torch device such as `cuda:1`."""
    dtype: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto"
    """`auto`: float16 on CUDA, bfloat16 on a CPU with AMX, else float32. `int8` for `onnx` and `openvino`, which take
    that or `float32`, their `auto`. `bfloat16` on a CPU with instructions for it, and refused on others; without AMX
    it may be slower than float32: `rerank-worker tune` tells."""
    packed: bool = True
    """No padding in a batch, where the backend can: torch, for models of the BERT and RoBERTa families, on a CPU and,
    in half precision, on GPUs from Ampere on."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Threads that compute on the CPU; 0 is as many as this process may use. Beside other work fewer may do as much:
    `rerank-worker tune` measures both."""
    max_length: Annotated[int, Field(ge=16)] = 512
    """Tokens of one pair, cut as CrossEncoder does: the document first; a query only beyond half of it."""
    long_documents: Literal["truncate", "max", "mean"] = "truncate"
    """A document that does not fit beside the query: cut, or read window by window, each overlapping the one before by
    an eighth; its score is the best of them or their mean. Each window is a pair more to score."""
    max_windows: Count = 8
    """Most windows of one document; what lies behind them is not read, and its answer event says so."""
    token_cache_documents: Annotated[int, Field(ge=0)] = 10_000
    """Documents whose tokens are kept for the next query that finds them, the last used ones: their text, and 4 bytes a
    token, as many as a window has. 0: none."""
    batch_pairs: Count | None = None
    """Most pairs of one forward pass. Unset: 4,096 on a GPU, where tokens count, 64 on a CPU."""
    batch_tokens: Count | None = None
    """Most tokens of one forward pass, padding included: what bounds memory and time. Unset: 2,048 on a CPU, which
    larger batches only keep queries waiting for; on a GPU 512 for each of its multiprocessors (67,584 on an H100)."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 1.0
    """How long the first pair of a batch may wait for others while the device is idle."""
    top_n: Annotated[int, Field(ge=1, le=1_000)] = 3
    """Contexts of a query that says nothing."""
    min_score: float | None = None
    """Contexts with a lower rerank score are dropped; when none is left the LLM is never asked. What range
    scores have is the model's: a cross-encoder's logits are any number, a remote reranker's are what it answers, 0 to 1
    from Cohere; each plus or minus `prior_weight` at most."""
    prior_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the recall similarity added to the score: a blend for where recall knows what the model does not."""
    on_failure: Literal["degrade", "dead_letter"] = "degrade"
    """A reranker that fails: publish in recall order and say so, or dead-letter the query."""
    remote_url: str | None = None
    """An endpoint that ranks, e.g. `https://api.cohere.com/v2/rerank`, asked for `model` instead of loading it; unset:
    the cross-encoder runs in this process."""
    remote_dialect: Literal["cohere", "tei"] = "cohere"
    """How it is asked: as Cohere's `POST /v2/rerank`, like Jina's, vLLM's and infinity's; or as `POST /rerank` of
    text-embeddings-inference, which gives logits."""
    remote_extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """More fields of every request, e.g. `{"instruction": "..."}` for a model that takes one."""
    remote_api_key: SecretStr | None = None
    """Sent to it as bearer token."""
    remote_timeout_s: Seconds = 30.0
    """The ranking of one query, retries included."""
    remote_attempts: Count = 3
    """Tries of one request, at connection errors, 429 and 5xx alone."""
    remote_concurrency: Count = 16
    """Most requests under way at once."""
    remote_documents: Count | None = None
    """Most documents of one request: a query with more takes several. Unset: 1,000, and 32 of `tei`, which is what its
    servers take unless told otherwise (`--max-client-batch-size`)."""
    remote_requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    """Most requests in any minute; unset: as many as there are."""
