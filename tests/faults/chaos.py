"""``make chaos``: a seeded random schedule of faults under traffic, a line for each, and the oracle's verdict.

``queries`` has workers that answer, ``index`` those of a live index; the faults beneath them are the same.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.faults import query_faults
from tests.faults.cluster import Cluster
from tests.faults.index import world as index
from tests.faults.oracle import Verdict
from tests.faults.schedule import Chaos
from tests.faults.world import TOPIC_MADE_AGAIN, Guarantee, Ordering, Promise, Protocol, World, running_world
from worker.settings import Settings

# What is deleted unanswered with its topic proves nothing: rarer than the others.
RARER = {TOPIC_MADE_AGAIN: 0.25}
# A backlog of an hour of faults is worked off at full speed, but it is one.
SETTLE_TIMEOUT_S = 1_800.0

Seed = Annotated[int, typer.Option(help="Same seed, same faults.")]
Minutes = Annotated[float, typer.Option(help="How long faults happen.")]
Group = Annotated[Protocol, typer.Option(help="How the workers form a group.")]
Report = Annotated[Path | None, typer.Option(help="Write the result to this JSON file.")]
Logs = Annotated[Path | None, typer.Option(help="Keep all logs here.")]

app = typer.Typer(pretty_exceptions_enable=False)


@app.command(name="queries")
def of_queries(
    seed: Seed = 1,
    minutes: Minutes = 5.0,
    events: Annotated[int, typer.Option(help="Queries asked meanwhile.")] = 5_000,
    guarantee: Annotated[Guarantee, typer.Option(help="What the workers promise.")] = "at_least_once",
    protocol: Group = "consumer",
    ordering: Annotated[Ordering, typer.Option(help="Whether answers of a key keep their order.")] = "none",
    report: Report = None,
    logs: Logs = None,
) -> None:
    """Exit 0 if nothing was lost, committed early, repeated beyond the bound, out of order or ended the wrong way."""
    promise = Promise(guarantee, protocol, ordering)
    print(f"chaos: seed {seed}, {minutes:g} minutes, {events:,} queries, {promise}", flush=True)
    with (
        _cluster(logs) as (cluster, data_dir),
        running_world(cluster, data_dir, promise, seed=seed, per_second=_pace(events, minutes)) as world,
    ):
        chaos = Chaos(world, query_faults.LANES, seed, lambda: world.progress)
        began_s = time.monotonic()
        world.traffic.ask(events)
        chaos.for_minutes(minutes, RARER)
        verdict = world.settle(SETTLE_TIMEOUT_S)
        result = {
            "seed": seed,
            "promise": asdict(promise),
            "ordered": promise.ordered,
            **_told(chaos, minutes, began_s),
            **_described(verdict),
            "repeats_allowed": world.repeats_allowed,
            "wrong": [*world.wrong(verdict), *_ended(world)],
        }
    _end(result, _counted(result), report)


@app.command(name="index")
def of_the_index(
    seed: Seed = 1,
    minutes: Minutes = 5.0,
    events: Annotated[int, typer.Option(help="Edits made meanwhile.")] = 5_000,
    documents: Annotated[int, typer.Option(help="Documents that are edited.")] = 1_500,
    protocol: Group = "consumer",
    report: Report = None,
    logs: Logs = None,
) -> None:
    """Exit 0 if the collection is the topic's last state by key, and what is poison, and that alone, dead-lettered."""
    print(
        f"chaos: seed {seed}, {minutes:g} minutes, {events:,} edits of {documents:,} documents, {protocol}", flush=True
    )
    per_second = _pace(events, minutes)
    with (
        _cluster(logs) as (cluster, data_dir),
        index.running_index(
            cluster, data_dir, protocol, seed=seed, documents=documents, per_second=per_second
        ) as world,
    ):
        chaos = Chaos(world, index.LANES, seed, lambda: world.progress)
        began_s = time.monotonic()
        world.traffic.ask(events)
        chaos.for_minutes(minutes, {})
        verdict = world.settle(SETTLE_TIMEOUT_S)
        result = {
            "seed": seed,
            "protocol": protocol,
            **_told(chaos, minutes, began_s),
            **verdict.described,
            "wrong": [*verdict.wrong, *_ended(world)],
        }
    counted = (
        f"{result['documents']:,} documents in {result['chunks']:,} chunks: {result['missing']} missing, "
        f"{result['other_state']} of another state, {result['left_over']} left over, {result['doubled']} doubled; "
        f"{sum(verdict.poison.values()):,} poison events, {result['not_dead_lettered']} of them not dead-lettered"
    )
    _end(result, counted, report)


@contextmanager
def _cluster(logs: Path | None) -> Iterator[tuple[Cluster, Path]]:
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        data_dir = logs or Path(scratch)
        with Cluster(Settings().cache_dir.expanduser(), data_dir) as cluster:
            yield cluster, data_dir


def _pace(events: int, minutes: float) -> float:
    # Events a second: they last as long as the faults do.
    return events / (minutes * 60) * 1.1


def _told(chaos: Chaos[Any], minutes: float, began_s: float) -> dict[str, Any]:
    exits = chaos.world.supervisor.exits
    return {
        "minutes_of_faults": minutes,
        "seconds": round(time.monotonic() - began_s, 1),
        "faults": sum(chaos.happened.values()),
        "faults_by_kind": dict(sorted(chaos.happened.items())),
        "worker_restarts_by_exit_code": dict(sorted(Counter(map(str, exits)).items())),
    }


def _ended(world: World | index.IndexWorld) -> list[str]:
    last_exits = world.supervisor.stop()
    return [f"at the end the workers ended with {last_exits}"] if any(last_exits) else []


def _described(verdict: Verdict) -> dict[str, Any]:
    return {
        "events": verdict.asked,
        "outcomes": dict(sorted(verdict.outcomes.items())),
        "lost": len(verdict.lost),
        "deleted_with_their_topic": verdict.deleted,
        "committed_early": len(verdict.committed_early),
        "repeats": verdict.repeats,
        "most_repeats_of_one": verdict.most_repeats,
        "out_of_order": len(verdict.disordered),
        "ended_the_wrong_way": len(verdict.mistaken),
    }


def _counted(result: dict[str, Any]) -> str:
    broken_order = f", {result['out_of_order']} out of order" if result["ordered"] else ""
    return (
        f"{result['outcomes']}\n{result['lost']} lost, {result['committed_early']} committed early{broken_order}, "
        f"{result['repeats']} repeated ({result['repeats_allowed']:,} allowed)"
    )


def _end(result: dict[str, Any], counted: str, report: Path | None) -> None:
    if report is not None:
        report.write_text(json.dumps(result, indent=1) + "\n")
    verdict = "BROKEN" if result["wrong"] else "as promised"
    print(f"{result['faults']:,} faults, {result['events']:,} events in {result['seconds']:,} s: {counted}")
    for line in result["wrong"]:
        print(f"  {line}")
    print(f"verdict: {verdict} (seed {result['seed']})")
    sys.exit(1 if result["wrong"] else 0)


if __name__ == "__main__":
    app()
