"""A seeded random schedule of faults in lanes: what breaks software is two things at a time.

The seed fixes each lane's faults, their order and their lengths; the machine decides how they meet.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from random import Random
from typing import Generic

from tests.faults.faults import NOT_DONE, Faults, World, happen

LONGEST_PAUSE_S = 0.3


@dataclass
class Chaos(Generic[World]):
    """One run of it."""

    world: World
    lanes: Sequence[Faults[World]]
    """Faults of one lane never overlap."""
    seed: int
    progress: Callable[[], str] = lambda: ""
    """How far the workers are, in a few words."""
    happened: "Counter[str]" = field(default_factory=Counter)

    def for_minutes(self, minutes: float, rarer: dict[str, float]) -> None:
        """Let faults happen for so long. ``rarer`` says which are less likely than the others, and by which factor."""

        def endless(names: Sequence[str], random: Random) -> Iterator[str]:
            weights = [rarer.get(name, 1.0) for name in names]
            while time.monotonic() < until_s:
                yield from random.choices(names, weights)

        until_s = time.monotonic() + minutes * 60
        self._run(endless)

    def once_each(self) -> None:
        """Let every fault happen once, in an order of the seed's."""
        self._run(lambda names, random: random.sample(names, len(names)))

    def _run(self, turns: Callable[[Sequence[str], Random], Iterable[str]]) -> None:
        self._began_s = time.monotonic()
        self._over = threading.Event()
        with ThreadPoolExecutor(len(self.lanes), thread_name_prefix="lane") as lanes:
            running = [lanes.submit(self._lane, faults, number, turns) for number, faults in enumerate(self.lanes)]
            wait_for(running, return_when=FIRST_EXCEPTION)
            self._over.set()
        for lane in running:
            lane.result()
        self._say("", "no more faults; waiting for what is left")

    def _lane(
        self, faults: Faults[World], number: int, turns: Callable[[Sequence[str], Random], Iterable[str]]
    ) -> None:
        random = Random(f"{self.seed}-{number}")
        for name in turns(sorted(faults), random):
            if self._over.wait(random.uniform(0, LONGEST_PAUSE_S)):
                return
            detail = happen(self.world, name, faults, random)
            self.happened[name] += not detail.startswith(NOT_DONE)
            self._say(name, detail)

    def _say(self, name: str, detail: str) -> None:
        elapsed_s = time.monotonic() - self._began_s
        print(f"{elapsed_s:7.1f} s  {name:24} {detail:40} {self.progress()}", flush=True)
