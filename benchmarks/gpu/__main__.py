"""Everything there is to know of a GPU within minutes: parity, speed, batch sizes, the stage, company, memory.

``benchmarks/gpu.sh`` runs it on a machine that has torch and transformers and nothing else; ``--device cpu --quick``
rehearses it. Writes ``gpu-<device>.json`` after every part, so that what was measured is kept if time runs out.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from benchmarks import gemm, machine
from benchmarks.flops import total_flops
from benchmarks.gpu import beside, parity, speed, subject
from benchmarks.gpu.speed import Effort
from worker.rerank.backends.device import suited
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.scorer import CrossEncoderScorer
from worker.settings import RerankSettings

RESULTS = Path(__file__).parents[1] / "results"
LENGTHS = (32, 128, 256, 512)
EVEN = 128
# It takes ten times as long.
PREDICT_QUERIES = 60
# Passages of a real corpus differ: so many words each, the query of 8 besides.
MIXED = (20, 40, 60, 80, 120, 160, 240, 400)
Figures = dict[str, Any]


class Run:
    """One run on one device, part by part."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self.device: str = asked.device
        self.quick: bool = asked.quick
        self.cuda = asked.device.startswith("cuda")
        self.effort = Effort(0.0, 1) if asked.quick else Effort(1.0, 3)
        self.folder = subject.cross_encoder(folder / "cross-encoder")
        self.embedder = subject.embedder(folder / "embedder")
        self.config = AutoConfig.from_pretrained(self.folder)
        self.texts = subject.Texts()

    def settings(self, tokens: int = 512, **changes: Any) -> RerankSettings:
        return RerankSettings.model_validate({"device": self.device, "max_length": tokens, **changes})

    def queries(self, pairs: int, tokens: int) -> list[subject.Asked]:
        """Return queries of twenty passages that are cut to so many tokens."""
        return self.texts.queries(max(2, (pairs // 40 if self.quick else pairs) // subject.CANDIDATES), [tokens])

    def encoded(self, queries: Sequence[subject.Asked], settings: RerankSettings) -> list[EncodedPair]:
        scorer = CrossEncoderScorer(
            self.folder, "random", settings.model_copy(update={"device": "cpu", "dtype": "auto"})
        )
        return [pair for asked in queries for pair in scorer.encode(asked.query.text, asked.texts)]

    def parity(self) -> list[Figures]:
        """Every backend's logits beside ``CrossEncoder.predict``."""
        queries = self.texts.queries(2 if self.quick else 20, parity.LENGTHS)
        return list(parity.compare(self.folder, self.device, queries))

    def matrix(self) -> dict[str, dict[str, float]]:
        """The device's own matrix products at the model's shapes, FLOP/s."""
        return gemm.rates(self.config, self.device)

    def lengths(self) -> Iterator[Figures]:
        """Pairs per second by length: predict, padded and packed forward passes, and the stage."""
        for tokens in LENGTHS:
            queries = self.queries(min(8_000, 2_000_000 // tokens), tokens)
            yield {"tokens": tokens, **self._compared(queries, tokens)}

    def mixed(self) -> Figures:
        """The same with passages of many lengths."""
        count = 4 if self.quick else 200
        return {"words": MIXED, **self._compared(self.texts.queries(count, MIXED), 512)}

    def _compared(self, queries: Sequence[subject.Asked], tokens: int) -> Figures:
        settings = self.settings(tokens)
        pairs = self.encoded(queries, settings)
        budget = suited(torch.device(self.device), padded=False).tokens
        batches = speed.batches_of(pairs, budget)
        # The least padding there is: a queue seldom holds enough to choose from.
        alike = speed.batches_of(sorted(pairs, key=lambda pair: pair.tokens), budget)
        sizes = (32, 128) if self.cuda else (32,)
        predict = {
            f"predict_{size}": speed.predict(
                self.folder, self.device, queries[:PREDICT_QUERIES], tokens, size, self.effort
            )
            for size in sizes
        }
        padded = speed.forward(self.folder, self.settings(tokens, packed=False), alike, self.effort)
        packed = speed.forward(self.folder, settings, batches, self.effort)
        stage = speed.stage(self.folder, settings, queries, self.effort, clients=128)
        flops = total_flops(self.config, [pair.tokens for pair in pairs]) / len(pairs)
        return {
            "pairs": len(pairs),
            "mean_tokens": sum(pair.tokens for pair in pairs) / len(pairs),
            **predict,
            "padded": padded,
            "packed": packed,
            "stage": stage,
            "packed_useful_tflops": packed["pairs_per_s"] * flops / 1e12,
            "stage_over_predict": stage["pairs_per_s"] / predict["predict_32"],
            "stage_over_packed": stage["pairs_per_s"] / packed["pairs_per_s"],
        }

    def batch_tokens(self) -> Iterator[Figures]:
        """Forward passes by the size of a batch, at 128 tokens a pair."""
        settings = self.settings(EVEN)
        pairs = self.encoded(self.queries(8_000, EVEN), settings)
        for tokens in (4_096, 8_192, 16_384, 32_768, 65_536, 131_072)[: 2 if self.quick else None]:
            yield {
                "batch_tokens": tokens,
                **speed.forward(self.folder, settings, speed.batches_of(pairs, tokens), self.effort),
            }

    def stages(self) -> Iterator[Figures]:
        """The stage by its settings, at 128 tokens a pair."""
        queries = self.queries(8_000, EVEN)
        for changes in (
            {"batch_tokens": 16_384},
            {"batch_tokens": 65_536},
            {"batch_tokens": 131_072},
            {"token_cache_documents": 0},
        )[: 1 if self.quick else None]:
            for clients in (64, 256)[: 1 if self.quick else None]:
                figures = speed.stage(self.folder, self.settings(EVEN, **changes), queries, self.effort, clients)
                yield {**changes, "clients": clients, **figures}

    def kernels(self) -> list[Figures]:
        """Where the device's time goes in one packed batch of 128 tokens a pair."""
        settings = self.settings(EVEN)
        pairs = self.encoded(self.queries(400, EVEN), settings)
        return list(speed.kernels(self.folder, settings, speed.batches_of(pairs, 16_384)[0]))

    def embedding(self) -> Figures:
        """The stage while questions are embedded on the same device."""
        queries = self.queries(8_000, EVEN)
        return beside.with_embedder(self.folder, self.embedder, self.settings(EVEN), queries, self.effort, clients=64)

    def whole_way(self) -> Figures:
        """From a query's bytes to its answer's, recall simulated."""
        return beside.whole_way(self.folder, self.settings(EVEN), self.queries(8_000, EVEN), self.effort, in_flight=128)

    def several(self) -> Iterator[Figures]:
        """Several processes on the device."""
        queries = self.queries(4_000, EVEN)
        for processes in (1, 2) if self.quick else (1, 2, 4):
            yield beside.several(
                self.folder, self.settings(EVEN), queries, Effort(2 * self.effort.seconds, 3), 64, processes
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: one repeat of little")
    parser.add_argument("--only", nargs="+", metavar="PART")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder")
    asked = parser.parse_args()
    name = torch.cuda.get_device_name(asked.device) if asked.device.startswith("cuda") else "cpu"
    asked.out.mkdir(parents=True, exist_ok=True)
    target = asked.out / f"gpu-{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"
    result: Figures = {
        "what": "a cross-encoder of MiniLM-L6's shape, random weights; 20 passages a query",
        "machine": machine.facts(asked.device),
        "cuda": torch.version.cuda,
        "quick": asked.quick,
        "seconds": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = Run(asked, Path(folder))
        parts: list[Callable[[], Any]] = [
            run.parity, run.matrix, run.kernels, run.lengths, run.mixed, run.batch_tokens, run.stages, run.whole_way,
            run.embedding, run.several,
        ]  # fmt: skip
        for part in parts:
            if asked.only and part.__name__ not in asked.only:
                continue
            begun_s = time.perf_counter()
            print(f"== {part.__name__}: {part.__doc__}", flush=True)
            try:
                found = part()
                figures = list(found) if isinstance(found, Iterator) else found
            except Exception as error:  # noqa: BLE001 - one part that fails must not cost the others their minutes
                figures = {"failed": f"{type(error).__name__}: {error}"}
            result[part.__name__] = figures
            result["seconds"][part.__name__] = round(time.perf_counter() - begun_s, 1)
            target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
            for row in figures if isinstance(figures, list) else [figures]:
                print(json.dumps(_short(row)), flush=True)
    print(f"written to {target.name}: {result['seconds']}")


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    main()
