"""Whether every backend scores as sentence-transformers does, and whether a pair's company changes its score."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder

from benchmarks.gpu.subject import Asked
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import RerankSettings

# Of short and long passages together: where padding and packing differ most.
LENGTHS = (12, 30, 60, 128, 250, 480)
TOP = 3


def backends(device: str) -> list[dict[str, Any]]:
    """Return the settings of what can run on the device."""
    precisions = ["float32", "float16", "bfloat16"] if device.startswith("cuda") else ["float32"]
    # In single precision a GPU pads.
    packed = precisions[1:] if device.startswith("cuda") else precisions
    return [
        *({"dtype": dtype, "packed": False} for dtype in precisions),
        *({"dtype": dtype, "packed": True} for dtype in packed),
    ]


def compare(folder: Path, device: str, queries: Sequence[Asked]) -> Iterator[dict[str, Any]]:
    """Yield what each backend's logits are beside ``CrossEncoder.predict`` in float32 on the same device."""
    expected = _predicted(folder, device, queries, torch.float32)
    if device.startswith("cuda"):
        half = _predicted(folder, device, queries, torch.float16)
        yield {"backend": "CrossEncoder.predict float16", **_against(expected, half)}
    for chosen in backends(device):
        scorer = CrossEncoderScorer(folder, "random", RerankSettings(device=device, **chosen))
        encoded = [scorer.encode(each.query.text, each.texts) for each in queries]
        pairs = [pair for query in encoded for pair in query]
        together = np.array(scorer.score(pairs))
        by_query = np.concatenate([scorer.score(query) for query in encoded])
        yield {
            "backend": f"{type(scorer._backend).__name__} {chosen['dtype']}",  # noqa: SLF001 - it has no public name
            **_against(expected, together),
            "largest_change_by_company": float(np.abs(together - by_query).max()),
        }


def _against(expected: NDArray[Any], logits: NDArray[Any]) -> dict[str, float]:
    tops = zip(_tops(expected), _tops(logits), strict=True)
    return {
        "largest_difference": float(np.abs(expected - logits).max()),
        "relative_difference": float(np.linalg.norm(expected - logits) / np.linalg.norm(expected - expected.mean())),
        "same_top": float(np.mean([mine == theirs for mine, theirs in tops])),
    }


def _tops(logits: NDArray[Any]) -> list[set[int]]:
    return [set(np.argsort(-row, kind="stable")[:TOP].tolist()) for row in logits.reshape(-1, 20)]


def _predicted(folder: Path, device: str, queries: Sequence[Asked], dtype: torch.dtype) -> NDArray[Any]:
    reference = CrossEncoder(str(folder), device=device, max_length=512, model_kwargs={"dtype": dtype})
    pairs = [(each.query.text, text) for each in queries for text in each.texts]
    scores: NDArray[Any] = reference.predict(pairs, activation_fn=torch.nn.Identity(), convert_to_numpy=True)
    return scores.astype(np.float32)
