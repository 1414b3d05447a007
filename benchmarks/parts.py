"""What each part of the cross-encoder stage buys by itself on the CPU: the same pairs with and without it, in turns.

``python -m benchmarks.parts`` writes ``results/parts.json``; some 3 minutes. A part's gain is the time without it
divided by the time with it, round by round.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from joblib import cpu_count
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.common import print_table, save, summary
from benchmarks.machine import facts
from benchmarks.workload import Workload, articles
from worker.batching.executor import SingleThreadExecutor
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.models.resolve import resolve
from worker.rerank.backends.device import CPU, CPU_BATCH_TOKENS, inference, prepare
from worker.rerank.backends.packed import PackedBackend
from worker.rerank.backends.packed_cpu import CpuOperators
from worker.rerank.backends.torch_padded import PaddedBackend
from worker.rerank.pairs.batch import EncodedPair, FlatBatch
from worker.rerank.pairs.tokenizer import PairTokenizer
from worker.settings import RerankSettings, Settings

MIX = "medium"
SETTINGS = RerankSettings(model=CROSS_ENCODER_NAME, device="cpu")

Trial = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    begun = facts()
    resolved = resolve("cross-encoder", Settings(models="offline", rerank=SETTINGS))
    tokenizer = AutoTokenizer.from_pretrained(resolved.path, local_files_only=True)
    found, corpus = articles()
    queries = Workload(found, tokenizer, SETTINGS.max_length, scale=1).round(0, [MIX])[0].queries
    cached = PairTokenizer(tokenizer, SETTINGS.max_length, SETTINGS)
    uncached = PairTokenizer(tokenizer, SETTINGS.max_length, SETTINGS.model_copy(update={"token_cache_documents": 0}))
    pairs = [pair for each in queries for pair in cached.encode(each.query.text, each.texts)]
    executor = SingleThreadExecutor("compute")
    model = executor.submit(lambda: _load(resolved.path)).result()
    packed, padded = PackedBackend(model, CpuOperators()), PaddedBackend(model, CPU)
    encoder, batches = packed._encoder, _in_turn(pairs)  # noqa: SLF001 - its parts are what is measured

    def whole_last_layer() -> None:
        with inference(CPU):
            for batch in batches:
                encoder.all_tokens(FlatBatch.of(batch))

    def first_tokens_alone() -> None:
        with inference(CPU):
            for batch in batches:
                encoder.first_tokens(FlatBatch.of(batch))

    def on(thread: SingleThreadExecutor, call: Trial) -> Trial:
        return lambda: thread.submit(call).result()

    def one_by_one() -> None:
        for query in queries:
            packed.start(FlatBatch.of(cached.encode(query.query.text, query.texts)))()

    parts: Mapping[str, tuple[Trial, Trial]] = {
        "no padding, against padded batches of sorted pairs": (
            on(executor, lambda: [padded.start(FlatBatch.of(batch))() for batch in _alike(pairs)]),
            on(executor, whole_last_layer),
        ),
        "the last layer for the first token alone": (
            on(executor, whole_last_layer),
            on(executor, first_tokens_alone),
        ),
        "pairs of several queries in a batch": (
            on(executor, one_by_one),
            on(executor, lambda: [packed.start(FlatBatch.of(batch))() for batch in batches]),
        ),
        "tokens of known documents kept (tokenising alone)": (
            lambda: [uncached.encode(each.query.text, each.texts) for each in queries],
            lambda: [cached.encode(each.query.text, each.texts) for each in queries],
        ),
    }
    gains = {name: _gains(without, with_it, asked.rounds) for name, (without, with_it) in parts.items()}
    gains["one thread computes"] = [_beside(first_tokens_alone, executor) for _ in range(asked.rounds)]
    result: dict[str, Any] = {
        "what": "time without a part of the cross-encoder stage, divided by the time with it",
        "machine": begun,
        "model": resolved.name,
        "corpus": corpus,
        "mix": MIX,
        "pairs": len(pairs),
        "threads": cpu_count(),
        "gains": {name: summary(values) for name, values in gains.items()},
    }
    save("parts", result)
    print_table(
        ("part", "gain", "least", "most"),
        [(name, each["median"], each["min"], each["max"]) for name, each in result["gains"].items()],
    )


def _load(folder: Any) -> Any:
    _, dtype = prepare(SETTINGS)
    return AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, dtype=dtype).eval()


def _in_turn(pairs: Sequence[EncodedPair]) -> list[list[EncodedPair]]:
    """Return batches of the default budget, without padding."""
    batches: list[list[EncodedPair]] = [[]]
    for pair in pairs:
        if batches[-1] and sum(each.tokens for each in batches[-1]) + pair.tokens > CPU_BATCH_TOKENS:
            batches.append([])
        batches[-1].append(pair)
    return batches


def _alike(pairs: Sequence[EncodedPair]) -> list[list[EncodedPair]]:
    """Return batches of pairs of like length, of the default budget with the padding."""
    batches: list[list[EncodedPair]] = [[]]
    for pair in sorted(pairs, key=lambda each: each.tokens):
        if (len(batches[-1]) + 1) * pair.tokens > CPU_BATCH_TOKENS:
            batches.append([])
        batches[-1].append(pair)
    return batches


def _gains(without: Trial, with_it: Trial, rounds: int) -> list[float]:
    without(), with_it()
    return [_seconds(without) / _seconds(with_it) for _ in range(rounds)]


def _beside(call: Trial, executor: SingleThreadExecutor) -> float:
    """Compute while another thread's team of two idles beside it, then with that thread gone and its team with it."""
    other = SingleThreadExecutor("other")
    other.submit(lambda: torch.relu(torch.zeros(1_000_000))).result()
    beside_s = _seconds(lambda: executor.submit(call).result())
    other.close()
    other.join(60)
    return beside_s / _seconds(lambda: executor.submit(call).result())


def _seconds(trial: Trial) -> float:
    begun_s = time.perf_counter()
    trial()
    return time.perf_counter() - begun_s


if __name__ == "__main__":
    main()
