"""Who takes part: every way of running the model that this machine has, and why the others are missing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.peers import ours, plain
from benchmarks.peers.base import Contender, Setting, UnavailableError
from benchmarks.peers.flash import FlashRank
from benchmarks.peers.infinity import Infinity, environment
from worker.rerank.backends.device import CPU_BATCH_PAIRS

OUR_BATCH = CPU_BATCH_PAIRS
# Kind of device: backend, dtype, and other settings that differ from the defaults.
BACKENDS: dict[str, list[tuple[str, str, dict[str, bool]]]] = {
    "cpu": [
        ("torch", "float32", {}),
        ("torch", "float32", {"packed": False}),
        ("torch", "bfloat16", {}),
        ("onnx", "float32", {}),
        ("onnx", "int8", {}),
        ("openvino", "float32", {}),
        ("openvino", "int8", {}),
    ],
    "cuda": [("torch", "float16", {}), ("torch", "bfloat16", {}), ("torch", "float32", {})],
}
INFINITY_ENGINES = ("torch", "optimum")

Maker = Callable[[], Contender]


@dataclass(slots=True)
class Field:
    """The contenders, the reference first, and why others do not run."""

    contenders: list[Contender] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        for contender in self.contenders:
            contender.close()


@dataclass(frozen=True, slots=True)
class InfinityChoice:
    """Where infinity comes from: by engine a python that has it, else an environment made for it, or nowhere."""

    pythons: Mapping[str, Path | None]
    make: bool

    def find(self, cache: Path, engine: str) -> Path:
        python = self.pythons[engine]
        if python is not None:
            return python
        if not self.make:
            raise UnavailableError("not asked for: --with-infinity makes its environment")
        return environment(cache, engine)


def gather(setting: Setting, without: Sequence[str], infinity: InfinityChoice) -> Field:
    """Load every contender but those whose name holds a word of ``without``; print why one is skipped."""
    found = Field()
    try:
        for name, make in _makers(setting, infinity):
            if any(word.lower() in name.lower() for word in without):
                found.skipped[name] = "left out on the command line"
            else:
                _load(found, name, make)
    except BaseException:
        found.close()
        raise
    return found


def _load(found: Field, name: str, make: Maker) -> None:
    try:
        found.contenders.append(make())
    except UnavailableError as error:
        found.skipped[name] = str(error)
        print(f"skipped {name}: {error}", flush=True)
    else:
        print(f"loaded {name}", flush=True)


def _makers(setting: Setting, infinity: InfinityChoice) -> Iterator[tuple[str, Maker]]:
    cuda = setting.device.startswith("cuda")
    for precision in ("float32", "float16") if cuda else ("float32",):
        model = plain.load(setting, precision)
        suffix = f", {precision}" if cuda else ""
        name = f"predict per query{suffix}"
        yield name, partial(plain.PerQuery, model, name, setting.executor, precision)
        for batch in (plain.DEFAULT_BATCH, OUR_BATCH):
            name = f"predict all at once, batch {batch}{suffix}"
            yield name, partial(plain.AllAtOnce, model, name, batch, setting.executor, precision)
    for engine in () if cuda else INFINITY_ENGINES:
        yield f"infinity {engine}", partial(_infinity, setting, infinity, engine)
    if not cuda:
        yield "FlashRank", partial(FlashRank, setting)
    for backend, dtype, changes in BACKENDS["cuda" if cuda else "cpu"]:
        name = f"ours, {backend} {dtype}{', padded' if changes else ''}"
        yield name, partial(ours.load, setting, name, backend, {"dtype": dtype, **changes})


def _infinity(setting: Setting, choice: InfinityChoice, engine: str) -> Infinity:
    return Infinity(setting, choice.find(setting.cache, engine), engine)
