"""What of the section `rerank` can't work together: the model, where and in which precision it runs, its batches."""

from collections.abc import Iterator

from worker.settings.recall import RecallSettings
from worker.settings.rerank import RerankSettings

_NOW = (
    "set 'cross-encoder/ms-marco-MiniLM-L12-v2 (int8 weights)', which needs no hub either, or leave it out; scores are "
    "on another scale, so measure rerank.min_score anew and leave rerank.prior_weight out"
)

GONE = {
    "rerank-worker/offline-late-interaction": _NOW,
    "rerank-worker/offline-cross-encoder-v2": _NOW,
}
"""Names of models that earlier versions had, and what to set instead."""

_ALWAYS_SENT = "leave it out: each request has its own"

EXTRA_BODY_REFUSED = {
    "documents": _ALWAYS_SENT,
    "model": "set rerank.model",
    "query": _ALWAYS_SENT,
    "raw_scores": "leave it out: logits are asked for",
    "texts": _ALWAYS_SENT,
    "top_n": "leave it out: every document needs its score",
    "truncate": "leave it out: what is too long is cut",
}
"""Fields of a request that ``rerank.remote_extra_body`` may not carry, and what to do instead."""


def problems(rerank: RerankSettings, recall: RecallSettings) -> Iterator[str]:
    """Yield what can't work in scoring, here or elsewhere, and what to set instead."""
    if rerank.model in GONE:
        yield f"rerank.model is {rerank.model}, which is no longer there: {GONE[rerank.model]}"
    if rerank.remote_url is None:
        yield from _backend(rerank)
        for name in ("remote_api_key", "remote_dialect", "remote_extra_body"):
            if name in rerank.model_fields_set and getattr(rerank, name):
                yield f"rerank.{name} is set without rerank.remote_url: set the endpoint, or leave both out"
    elif not rerank.remote_url.startswith(("http://", "https://")):
        yield "rerank.remote_url must begin with http:// or https://, e.g. https://api.cohere.com/v2/rerank"
    elif "model" not in rerank.model_fields_set:
        yield "rerank.remote_url is set without rerank.model: set the model's name as the endpoint knows it"
    for name in EXTRA_BODY_REFUSED.keys() & rerank.remote_extra_body.keys():
        yield f"rerank.remote_extra_body has {name}: {EXTRA_BODY_REFUSED[name]}"
    if rerank.top_n > recall.top_k:
        yield f"rerank.top_n is {rerank.top_n}, more than recall.top_k ({recall.top_k}): only what is recalled is kept"
    yield from _sizes(rerank)


def _sizes(rerank: RerankSettings) -> Iterator[str]:
    tokens = rerank.batch_tokens
    if tokens is not None and tokens < rerank.max_length:
        yield (
            f"rerank.batch_tokens is {tokens}, less than one pair of rerank.max_length ({rerank.max_length}): "
            "set at least that"
        )
    if tokens is not None and rerank.batch_pairs is not None and tokens < rerank.batch_pairs:
        yield (
            f"rerank.batch_pairs is {rerank.batch_pairs}, more than rerank.batch_tokens ({tokens}) can hold even of "
            "pairs of one token: set fewer pairs, or more tokens"
        )
    if rerank.long_documents == "truncate":
        if "max_windows" in rerank.model_fields_set:
            yield "rerank.max_windows would not be used with rerank.long_documents truncate: set max or mean"
    elif rerank.remote_url is not None:
        yield (
            f"rerank.long_documents is {rerank.long_documents}, but the endpoint of rerank.remote_url reads documents "
            "in its own way: leave it out"
        )


def _backend(rerank: RerankSettings) -> Iterator[str]:
    if rerank.backend == "torch":
        if rerank.dtype == "int8":
            yield "rerank.dtype is int8 with rerank.backend torch, which has none: set rerank.backend openvino or onnx"
        if rerank.device == "cpu" and rerank.dtype == "float16":
            yield "rerank.dtype is float16 on rerank.device cpu, several times slower: set auto or float32"
        return
    if rerank.device not in {"auto", "cpu"}:
        yield (
            f"rerank.device is {rerank.device} with rerank.backend {rerank.backend}, which runs on the CPU: "
            "set auto or cpu, or rerank.backend torch"
        )
    if rerank.dtype in {"float16", "bfloat16"}:
        yield (
            f"rerank.dtype is {rerank.dtype} with rerank.backend {rerank.backend}: "
            "set auto, float32 or int8, or rerank.backend torch"
        )
