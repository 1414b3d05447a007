"""The tables of docs/performance.md and the README's headline figures, written from ``results/*.json``.

``python -m benchmarks.table``. A results file has a section or a row here; one that is absent has none in the document.
A test keeps both equal.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.headlines import HEADLINES
from worker.settings import KafkaSettings

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
RESULTS = Path(__file__).parent / "results"

Section = Callable[[dict[str, Any]], str]


def scoring(result: dict[str, Any]) -> str:
    """Return pairs per second of every contender, one column a mix."""
    mixes, machine = result["mixes"], result["machine"]
    header = ["20 candidates a query, many queries at once", *(_described(name, mix) for name, mix in mixes.items())]
    names = list(next(iter(mixes.values()))["contenders"])
    rows = [[name, *(_cell(mix["contenders"][name]) for mix in mixes.values())] for name in names]
    limits = [
        f"{precision} {max(way['median'] for way in ways.values()):,.0f}"
        for precision, ways in result["gemm_gflops_per_s"].items()
    ]
    where = f"{machine['threads']} threads of {machine['cpu']}" if machine["device"] == "cpu" else machine["device"]
    return (
        f"{_table(header, rows)}\n\n"
        f"Pairs per second; in brackets, times the plain loop (`{result['reference']}`) in the same round; then the "
        f"share of the machine's own matrix products in that precision, in the same run ({', '.join(limits)} GFLOP/s). "
        f"Medians of {result['rounds']} rounds on {where}; model `{result['model']}`, {result['corpus']}."
        f"{_refused(result['skipped'])}"
    )


def _refused(skipped: dict[str, str]) -> str:
    """Return which of the worker's own backends and precisions are missing, and what each needs."""
    reasons = [f"{name} ({reason})" for name, reason in skipped.items() if name.startswith("ours")]
    return f" Missing: {'; '.join(reasons)}." if reasons else ""


def gpu(result: dict[str, Any]) -> str:
    """Return pairs per second of a GPU by length, and what one process and several get out of it."""
    machine, matrix = result["machine"], max(result["matrix"]["float16"].values())
    header = [
        "float16",
        "predict, batch 32",
        "predict, batch 128",
        "padded passes",
        "packed passes",
        "through the stage",
    ]
    named = [
        *((f"{row['tokens']} tokens", row) for row in result["lengths"]),
        (f"many lengths, {result['mixed']['mean_tokens']:.0f} in the mean", result["mixed"]),
    ]
    rows = [
        [
            name,
            f"{row['predict_32']:,.0f}",
            f"{row['predict_128']:,.0f}",
            f"{row['padded']['pairs_per_s']:,.0f}",
            f"{row['packed']['pairs_per_s']:,.0f}, {1e12 * row['packed_useful_tflops'] / matrix:.0%}",
            f"{row['stage']['pairs_per_s']:,.0f}",
        ]
        for name, row in named
    ]
    several = ", ".join(f"{row['processes']}: {row['pairs_per_s']:,.0f}" for row in result["several"])
    beside, way = result["embedding"], result["whole_way"]
    packed = next(row for row in result["parity"] if row["backend"] == "PackedBackend float16")
    difference, company = packed["largest_difference"], packed["largest_change_by_company"]
    return (
        f"{_table(header, rows)}\n\n"
        f"{machine['device']}, torch {machine['versions']['torch']}, {machine['cores']} cores of {machine['cpu']}; "
        f"{result['what']}. Pairs per second; the share is of the device's own matrix products in the same run "
        f"({matrix / 1e12:,.0f} TFLOP/s). Padded passes got pairs sorted by length. At 128 tokens, by processes on the "
        f"device: {several} pairs/s; with questions embedded beside them {beside['pairs_per_s']:,.0f} pairs/s and "
        f"{beside['questions_embedded_per_s']:,.0f} questions/s; from a query's bytes to its answer's, recall "
        f"simulated and Kafka left out, {way['queries_per_s']:,.0f} queries/s at "
        f"{way['process_cpu_us_per_query']:,.0f} us of processor each. Packed float16 logits differ from float32's by "
        f"{difference:.4f} at most, and by {company:.0e} with a pair's company."
    )


def parts(result: dict[str, Any]) -> str:
    """Return what each part buys."""
    rows = [[name, _spread(gain)] for name, gain in result["gains"].items()]
    return (
        f"{_table(['part of the cross-encoder stage', 'times as fast with it'], rows)}\n\n"
        f"{result['pairs']} pairs of {result['mix']} passages, {result['threads']} threads; medians, least and most."
    )


def neighbour(result: dict[str, Any]) -> str:
    """Return what a busy process takes from the scorer, one column a policy of waiting."""
    cells: dict[tuple[str, str, int], dict[str, list[dict[str, Any]]]] = {}
    for row in sorted(result["rows"], key=lambda row: bool(row["beside"])):
        scoring = cells.setdefault((row["backend"], row["dtype"], row["threads"]), {})
        scoring.setdefault(row["policy"], []).append(row)
    policies = list(result["policies"])
    rows = [
        [
            f"{backend} {dtype}, {threads} {'thread' if threads == 1 else 'threads'}",
            *(_alone_and_beside(*found[policy]) if policy in found else "" for policy in policies),
        ]
        for (backend, dtype, threads), found in sorted(cells.items(), key=lambda each: each[0][0] != "torch")
    ]
    machine, targets, verdict = result["machine"], result["targets"], result["verdict"]["the worker's"]
    return (
        f"{_table(['pairs/s alone, beside a busy process', *policies], rows)}\n\n"
        f"By how OpenMP's threads wait for each other; in brackets, the busy case over one thread alone. The worst of "
        f"the worker's is {verdict['worst']:.2f} (target {targets['worst']}); alone it does {verdict['quiet']:.2f} of "
        f"the best policy (target {targets['quiet']}). ONNX Runtime and OpenVINO have threads of their own. The pairs "
        f"of one query at a time, medians of {result['rounds']} rounds on {machine['cores']} cores of "
        f"{machine['cpu']}, load average {machine['load_at_start']:g} at the start."
    )


def _alone_and_beside(alone: dict[str, Any], beside: dict[str, Any]) -> str:
    rates = (f"{row['pairs_per_s']['median']:,.0f}" for row in (alone, beside))
    return f"{', '.join(rates)} ({beside['times_one_thread_alone']['median']:.2f})"


def end_to_end(result: dict[str, Any]) -> str:
    """Return the worker's latency under load beside ideal queueing, and what it costs around the scorer."""
    idle = result["idle"]
    held = idle[
        "waited_for_batches_ms"
    ]  # Figures of a worker that searched on the thread that embedded have no "embed".
    header = ["Poisson arrivals", "queries/s", "p50 ms", "p95 ms", "p99 ms", "ideal p99 ms", "p99 / ideal p99"]
    rows = [
        [
            f"{row['load']:.0%} of capacity{_as_it_was(row)}",
            f"{row['queries_per_second']:.2f}",
            *(f"{row['latency_ms'][name]:,.0f}" for name in ("p50", "p95", "p99")),
            f"{row['ideal_ms']['p99']:,.0f}",
            _times_ideal(row),
        ]
        for row in result["open_loop"]
    ]
    queries = [row["queries"] for row in result["open_loop"]]
    return (
        f"{_table(header, rows)}\n\n"
        f"Kafka → worker → Kafka, {result['candidates']} candidates, no answers generated, {min(queries):,} to "
        f"{max(queries):,} queries a load, from when a query was due; ideal is {_ideal(result)}. "
        f"{capacity(result)} One query alone took {idle['alone_ms']['median']:.0f} ms bare and "
        f"{idle['worker_ms']['median']:.0f} ms through Kafka; batching held an idle worker's query for "
        f"{held['recall'] + held.get('embed', 0.0):.1f} ms before recall and "
        f"{held['rerank']:.1f} ms before reranking."
    )


def _as_it_was(row: dict[str, Any]) -> str:
    """Return what the load was of the capacity measured around it, which is known once it is over."""
    share = row.get("share_of_capacity")
    return f" ({share['min']:.0%} to {share['max']:.0%})" if share else ""


def _times_ideal(row: dict[str, Any]) -> str:
    ratio = f"{row['latency_ms']['p99'] / row['ideal_ms']['p99']:.2f}"
    # Figures that were not held against an ideal had one round.
    rounds = row.get("p99_times_ideal")
    return f"{ratio} ({rounds['min']:.2f} to {rounds['max']:.2f})" if rounds else ratio


def _ideal(result: dict[str, Any]) -> str:
    if "ideal" not in result:
        return "one server that takes the same arrivals in turn, 1 / capacity for each, and nothing else"
    model, load, target = (result["ideal"][name] for name in ("model", "load", "target"))
    return f"{model} (target at {load:.0%}: {target} times; in brackets, what each round had)"


def capacity(result: dict[str, Any]) -> str:
    """Return what the worker does at a backlog, over the bare scorer beside an idle broker and beside a busy one."""
    backlog = result["backlog"]
    shared, per_core = (
        _spread(backlog[name]) if name in backlog else "not measured yet" for name in ("ratio_shared", "ratio_per_core")
    )
    return (
        f"With {result['scorer_threads']} of {result['machine']['cores']} cores for the scorer the worker's capacity, "
        f"at a backlog, is {_spread(backlog['ratio'])} times the bare scorer's on the same pairs beside an idle "
        f"broker (from the first answer on {backlog['ratio_from_first_answer']['median']:.2f}); beside a broker kept "
        f"as busy: {shared} (target {backlog['target']}); by processor time: {per_core}. Cores used: "
        f"{_cores(backlog['cores_used'])}{_cores_beside(backlog)}."
    )


def _cores_beside(backlog: dict[str, Any]) -> str:
    if "bare_shared_cores_used" not in backlog:
        return ""
    others = {role: used for role, used in backlog["bare_shared_cores_used"].items() if role in {"kafka", "chroma"}}
    return f"; beside the bare scorer: {_cores(others)}"


def _cores(used: dict[str, Any]) -> str:
    return ", ".join(f"{role} {cores['median']:.2f}" for role, cores in used.items())


def scaling(result: dict[str, Any]) -> str:
    """Return the efficiency of several consumers, and how long a rebalance takes."""
    header = ["consumers, each with a simulated accelerator", "queries/s", "efficiency"]
    rows = [
        [count, f"{row['queries_per_second']['median']:,.0f}", f"{row['efficiency']['median']:.2f}"]
        for count, row in result["consumers"].items()
    ]
    return (
        f"{_table(header, rows)}\n\n"
        f"A simulation: a batch holds its device for {result['hold_ms']:g} ms and no core; Kafka, delivery, pipeline "
        f"and micro-batches are real. {result['partitions']} partitions. {' '.join(_rebalances(result))}"
    )


def _rebalances(result: dict[str, Any]) -> Iterator[str]:
    for protocol, (one, *_) in result["rebalance"].items():
        yield (
            f"With the {protocol} protocol a consumer that joins answers after {one['join_to_first_answer_s']:.1f} s, "
            f"while what moves to it stands still for {one['join_longest_gap_s']:.1f} s at most; one that is killed is "
            f"replaced in all its partitions within {one['kill_to_last_partition_s']:.1f} s, of which "
            f"{one['session_timeout_s']:g} s are its session."
        )
    default_s = KafkaSettings.model_fields["session_timeout_s"].default
    yield (
        f"By default the session is {default_s:g} s (`kafka.session_timeout_s`): for that long nobody knows that a "
        "consumer was killed."
    )


def growth(result: dict[str, Any]) -> str:
    """Return throughput and memory against what grows."""
    candidates = ["candidates a query", "pairs/s", "worker's memory MiB"]
    vectors = ["vectors in Chroma", "recall of 20, p50 ms", "of 32 queries at once, ms"]
    texts = ", ".join(f"{row['text']} {row['pairs_per_second']:,.0f}" for row in result["text"])
    backlogs = ", ".join(
        f"{row['backlog']:,} events at {row['queries_per_second']:,.0f}/s with {row['peak_rss_mib']:,.0f} MiB at most"
        for row in result["backlog"]
    )
    simulated = (
        f"Pairs per second by length of the passages: {texts}. With simulated recall and scorer a worker works off "
        f"{backlogs}."
    )
    return "\n\n".join(
        (
            _table(
                candidates,
                [
                    [f"{row['candidates']:,}", f"{row['pairs_per_second']:,.0f}", f"{row['rss_mib']:,.0f}"]
                    for row in result["candidates"]
                ],
            ),
            _table(
                vectors,
                [
                    [f"{row['vectors']:,}", f"{row['recall_p50_ms']:.1f}", f"{row['recall_of_32_p50_ms']:.1f}"]
                    for row in result["collection"]
                ],
            ),
            simulated,
        )
    )


def memory(result: dict[str, Any]) -> str:
    """Return one sentence."""
    first, last = result["warm_up_events"], result["events"]
    return (
        f"Memory of a worker (simulated scorer) grew {result['growth']:+.2%} between its {first:,}th and its "
        f"{last:,}th event (target: {result['target']:.0%} at most)."
    )


def host_path(result: dict[str, Any]) -> str:
    """Return what the processor does around a device, of each checkout that was measured."""
    subjects, targets = result["subjects"], result["targets"]
    named = {
        f"us of processor a query, the whole process (target: {targets['worker_us_per_query']})": "worker_us_per_query",
        f"us of processor a pair, the rerank stage alone (target: {targets['stage_us_per_pair']})": "stage_us_per_pair",
        f"share of the time the device was busy (target: {targets['device_busy']})": "device_busy",
        "queries/s": "queries_per_s",
        "cores: worker": "worker_cores",
        "cores: broker": "broker_cores",
    }
    rows = [
        [name, *(_digits(subject[figure]["median"]) for subject in subjects.values())] for name, figure in named.items()
    ]
    return (
        f"{_table(['around a simulated device', *subjects], rows)}\n\n"
        f"A simulation: recall is a list in memory, a device of {result['device_pairs_per_s']:,.0f} pairs/s takes no "
        "processor; Kafka, delivery, tokenizer, batches and publishing are real. "
        f"{result['candidates']} pairs of 128 tokens a query, the queries there before the worker; "
        f"{result['machine']['cores']} cores of {result['machine']['cpu']}, shared with the broker."
    )


def live_index(result: dict[str, Any]) -> str:
    """Return documents a second beside `ingest`, and how soon changes are found."""
    per_s, ratio = result["documents_per_s"], result["ratio"]
    rows = [
        [
            f"new {name}",
            _digits(found["documents_per_s"]),
            f"{found['p50_s'] * 1000:,.0f}",
            f"{found['p95_s'] * 1000:,.0f}",
        ]
        for name, found in result["freshness"].items()
    ]
    return (
        f"The live index brought in {_digits(per_s['index']['median'])} documents/s from a backlog on Kafka, `ingest` "
        f"{_digits(per_s['ingest']['median'])} of the same documents: {ratio['median']:.2f} times "
        f"({ratio['min']:.2f} to {ratio['max']:.2f} in {ratio['n']} rounds; target: 0.9). From an event's timestamp to "
        f"Chroma's answer:\n\n{_table(['events', 'a second', 'p50, ms', 'p95, ms'], rows)}\n\n"
        f"{result['machine']['cores']} cores of {result['machine']['cpu']}, shared with broker, Chroma and producer."
    )


# File in results: its section, in the order of docs/performance.md.
SECTIONS: dict[str, Section] = {
    "scoring.json": scoring,
    "scoring-cuda.json": scoring,
    "gpu-nvidia-h100-80gb-hbm3.json": gpu,
    "parts.json": parts,
    "neighbour.json": neighbour,
    "end_to_end.json": end_to_end,
    "end_to_end-spare.json": capacity,
    "host-path.json": host_path,
    "scaling.json": scaling,
    "growth.json": growth,
    "memory.json": memory,
    "live_index.json": live_index,
}


def rendered(results: Path = RESULTS) -> str:
    """Return the tables of docs/performance.md."""
    parts = [
        section(json.loads((results / name).read_text(encoding="utf-8")))
        for name, section in SECTIONS.items()
        if (results / name).is_file()
    ]
    return "\n\n".join(parts)


def headlines(results: Path = RESULTS) -> str:
    """Return the README's table."""
    rows = [
        headline(json.loads((results / name).read_text(encoding="utf-8")))
        for name, headline in HEADLINES
        if (results / name).is_file()
    ]
    return _table(["what", "measured"], rows) if rows else ""


def replaced(document: str, body: str, block: str = "benchmarks") -> str:
    """Return the document with the text between the block's markers changed. ValueError if it has no markers."""
    begin, end = markers(block)
    if begin not in document or end not in document:
        raise ValueError(f"the document lacks {begin} or {end}")
    return re.sub(
        f"{re.escape(begin)}.*{re.escape(end)}",
        lambda _: "\n".join(filter(None, (begin, body, end))),
        document,
        flags=re.DOTALL,
    )


def markers(block: str) -> tuple[str, str]:
    """Return the comments between which a block stands."""
    return f"<!-- {block}:begin -->", f"<!-- {block}:end -->"


def _described(name: str, mix: dict[str, Any]) -> str:
    return f"{name} (mean {mix['tokens_mean']:.0f} tokens, p95 {mix['tokens_p95']})"


def _cell(row: dict[str, Any]) -> str:
    share = "" if row["share_of_limit"] is None else f", {row['share_of_limit']['median']:.0%}"
    return f"{row['pairs_per_s']['median']:,.0f} ({row['ratio']['median']:.2f}){share}"


def _digits(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


def _spread(figures: dict[str, float]) -> str:
    return f"{figures['median']:.2f} ({figures['min']:.2f} to {figures['max']:.2f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    for path, block, body in ((PERFORMANCE, "benchmarks", rendered()), (README, "headlines", headlines())):
        path.write_text(replaced(path.read_text(encoding="utf-8"), body, block), encoding="utf-8")
        print(f"wrote the {block} of {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
