"""Pairs per second of one cross-encoder: the worker's reranker, in each backend, against the ways others run it.

``python -m benchmarks.scoring`` writes ``results/scoring.json`` and prints a table; ``--device cuda`` does the same on
a GPU, into ``results/scoring-cuda.json``. Every round has pairs of its own, the same for every contender, whose
order rotates, and measures the machine's own matrix product: ratios are taken within a round, medians over rounds.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from joblib import cpu_count
from transformers import AutoConfig, AutoTokenizer

from benchmarks import machine
from benchmarks.field import InfinityChoice, gather
from benchmarks.measure import measure
from benchmarks.peers.base import Setting
from benchmarks.summary import summarise, table
from benchmarks.workload import CANDIDATES, QUERIES, Workload, articles
from worker.batching.executor import SingleThreadExecutor
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.models.resolve import resolve
from worker.settings import RerankSettings, Settings

RESULTS = Path(__file__).parent / "results"
MIXES = {"cpu": ("short", "medium", "long"), "cuda": ("short", "medium", "long", "even")}
# A GPU is done with a CPU's load before its first batches overlap.
SCALE = {"cpu": 1, "cuda": 16}


def main() -> None:
    asked = _arguments()
    # A server started here must not outlive this process: ending it the polite way closes it too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = Settings(models="offline", rerank=RerankSettings(model=asked.model))
    model = resolve("cross-encoder", settings)
    threads = asked.threads or cpu_count()
    cache = settings.cache_dir.expanduser() / "benchmarks"
    cache.mkdir(parents=True, exist_ok=True)
    executor = SingleThreadExecutor("compute")
    setting = Setting(model.path, model.name, asked.device, threads, settings.rerank.max_length, executor, cache)
    kind = asked.device.partition(":")[0]
    facts = machine.facts(asked.device, threads)
    tokenizer = AutoTokenizer.from_pretrained(model.path, local_files_only=True)
    config = AutoConfig.from_pretrained(model.path, local_files_only=True)
    found_articles, corpus = articles()
    workload = Workload(found_articles, tokenizer, setting.max_length, asked.scale or SCALE[kind])
    rounds = [workload.round(number, asked.mixes or MIXES[kind]) for number in range(asked.rounds)]
    pythons = {"torch": asked.infinity_python, "optimum": asked.infinity_optimum_python}
    infinity = InfinityChoice(pythons, make=asked.with_infinity)
    found = gather(setting, asked.without, infinity)
    try:
        measured = measure(found.contenders, rounds, config, asked.device, executor)
    finally:
        found.close()
    result = {
        "what": f"one cross-encoder, {CANDIDATES} candidates a query, all queries of a mix at once",
        "model": model.name,
        "max_length": setting.max_length,
        "corpus": corpus,
        "rounds": asked.rounds,
        "machine": facts,
        **summarise(found, rounds, config, measured),
    }
    target = asked.out or RESULTS / ("scoring.json" if kind == "cpu" else f"scoring-{kind}.json")
    target.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(result))
    print(f"written to {target}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--without", action="append", default=[], metavar="PEER", help="part of a name; may be repeated"
    )
    parser.add_argument(
        "--mixes", nargs="+", choices=sorted(QUERIES), help="default: short medium long, on a GPU even too"
    )
    parser.add_argument("--scale", type=int, help="times as many queries; default 1, on a GPU 16")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="default: the cores of this process")
    parser.add_argument("--model", default=CROSS_ENCODER_NAME, help="a cross-encoder's folder, or the bundled one")
    parser.add_argument("--with-infinity", action="store_true", help="make environments for it in the cache folder")
    parser.add_argument("--infinity-python", type=Path, metavar="PATH", help="of an environment that has it")
    parser.add_argument("--infinity-optimum-python", type=Path, metavar="PATH", help="of one with an older torch")
    parser.add_argument("--out", type=Path, help="default: results/scoring.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
