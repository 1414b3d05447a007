"""``make chaos``: a seeded random schedule of faults under traffic, a line for each, and the oracle's verdict.

Three lanes run at once, of faults to the consumer group, to Kafka and to what else it lives on: what breaks software is
two things at a time. The seed fixes each lane's faults, their order and their lengths; the machine decides how they
meet.
"""

import json
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from tests.faults.cluster import Cluster
from tests.faults.faults import LANES, NOT_DONE, Fault, happen
from tests.faults.oracle import Verdict
from tests.faults.world import TOPIC_MADE_AGAIN, Guarantee, Ordering, Promise, Protocol, World, running_world
from worker.settings import Settings

LONGEST_PAUSE_S = 0.3
# What is deleted unanswered with its topic proves nothing: rarer than the others.
WEIGHTS = {TOPIC_MADE_AGAIN: 0.25}
# A backlog of an hour of faults is worked off at full speed, but it is one.
SETTLE_TIMEOUT_S = 1_800.0


@dataclass
class Chaos:
    """One run."""

    world: World
    seed: int
    minutes: float
    happened: "Counter[str]" = field(default_factory=Counter)

    def run(self, events: int) -> Verdict:
        """Ask the events and let the faults happen meanwhile; then wait for what is left, without faults."""
        self._began_s = time.monotonic()
        self._over = threading.Event()
        self.world.traffic.ask(events)
        with ThreadPoolExecutor(len(LANES), thread_name_prefix="lane") as lanes:
            running = [lanes.submit(self._lane, faults, number) for number, faults in enumerate(LANES)]
            wait(running, return_when=FIRST_EXCEPTION)
            self._over.set()
        for lane in running:
            lane.result()
        self._say("", "no more faults; waiting for what is left")
        return self.world.settle(SETTLE_TIMEOUT_S)

    def _lane(self, faults: dict[str, Fault], number: int) -> None:
        random = Random(f"{self.seed}-{number}")
        names = sorted(faults)
        weights = [WEIGHTS.get(name, 1.0) for name in names]
        while not self._over.wait(random.uniform(0, LONGEST_PAUSE_S)) and self._elapsed_s < self.minutes * 60:
            [name] = random.choices(names, weights)
            detail = happen(self.world, name, random)
            self.happened[name] += not detail.startswith(NOT_DONE)
            self._say(name, detail)

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _say(self, name: str, detail: str) -> None:
        seen, pending = self.world.observer.progress
        print(f"{self._elapsed_s:7.1f} s  {name:24} {detail:40} {seen - pending:>7,} of {seen:,}", flush=True)


def main(
    seed: Annotated[int, typer.Option(help="Same seed, same faults.")] = 1,
    minutes: Annotated[float, typer.Option(help="How long faults happen.")] = 5.0,
    events: Annotated[int, typer.Option(help="Queries asked meanwhile.")] = 5_000,
    guarantee: Annotated[Guarantee, typer.Option(help="What the workers promise.")] = "at_least_once",
    protocol: Annotated[Protocol, typer.Option(help="How they form a group.")] = "consumer",
    ordering: Annotated[Ordering, typer.Option(help="Whether answers of a key keep their order.")] = "none",
    report: Annotated[Path | None, typer.Option(help="Write the result to this JSON file.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Keep all logs here.")] = None,
) -> None:
    """Exit 0 if nothing was lost, committed early, repeated beyond the bound, out of order or ended the wrong way."""
    promise = Promise(guarantee, protocol, ordering)
    print(f"chaos: seed {seed}, {minutes:g} minutes, {events:,} events, {promise}", flush=True)
    # Asked at a pace that lasts as long as the faults do.
    per_second = events / (minutes * 60) * 1.1
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch:
        data_dir = logs or Path(scratch)
        cache_dir = Settings().cache_dir.expanduser()
        with (
            Cluster(cache_dir, data_dir) as cluster,
            running_world(cluster, data_dir, promise, seed=seed, per_second=per_second) as world,
        ):
            chaos = Chaos(world, seed, minutes)
            began_s = time.monotonic()
            verdict = chaos.run(events)
            seconds = time.monotonic() - began_s
            exits = world.supervisor.exits
            wrong = world.wrong(verdict)
            last_exits = world.supervisor.stop()
            if any(last_exits):
                wrong.append(f"at the end the workers ended with {last_exits}")
    result = {
        "seed": seed,
        "promise": asdict(promise),
        "ordered": promise.ordered,
        "minutes_of_faults": minutes,
        "seconds": round(seconds, 1),
        "faults": sum(chaos.happened.values()),
        "faults_by_kind": dict(sorted(chaos.happened.items())),
        "worker_restarts_by_exit_code": dict(sorted(Counter(map(str, exits)).items())),
        **_described(verdict),
        "repeats_allowed": world.repeats_allowed,
        "wrong": wrong,
    }
    if report is not None:
        report.write_text(json.dumps(result, indent=1) + "\n")
    print(_summary(result))
    sys.exit(1 if wrong else 0)


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


def _summary(result: dict[str, Any]) -> str:
    verdict = "BROKEN" if result["wrong"] else "as promised"
    broken_order = f", {result['out_of_order']} out of order" if result["ordered"] else ""
    lines = [
        f"{result['faults']:,} faults, {result['events']:,} events in {result['seconds']:,} s: {result['outcomes']}",
        (
            f"{result['lost']} lost, {result['committed_early']} committed early{broken_order}, "
            f"{result['repeats']} repeated ({result['repeats_allowed']:,} allowed)"
        ),
        *(f"  {line}" for line in result["wrong"]),
        f"verdict: {verdict} (seed {result['seed']})",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
