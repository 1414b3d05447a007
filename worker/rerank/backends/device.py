"""The torch device a scorer runs on: which one, in which precision, and what its failures mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from joblib import cpu_count

from worker.errors import FatalError
from worker.settings import RerankSettings

CPU_ALLOCATOR = "DefaultCPUAllocator"
CPU = torch.device("cpu")
CPU_BATCH_TOKENS = 2_048
GPU_BATCH_TOKENS = 16_384
HALF_PRECISION = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def prepare(settings: RerankSettings) -> tuple[torch.device, torch.dtype]:
    """Return the device and the dtype of the settings, with torch's threads set. FatalError if they can't be had."""
    device = choose_device(settings.device)
    if device.type == "cpu":
        torch.set_num_threads(cpu_threads(settings))
    return device, choose_dtype(settings.dtype, device)


def cpu_threads(settings: RerankSettings) -> int:
    """Return how many threads compute on the CPU."""
    # Counts what affinity and the container's CPU quota leave: more threads than that take turns and spin.
    return settings.threads or int(cpu_count())


def choose_device(name: str) -> torch.device:
    """Return the torch device of a setting; FatalError if this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FatalError(f"RERANK_WORKER_RERANK__DEVICE={name} is not on this machine; set `auto` or `cpu`") from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a setting; FatalError for half precision on a CPU that is slower in it."""
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if device.type == "cpu" and name in HALF_PRECISION and not fast_on_cpu(name):
        remedy = "`float32` or `bfloat16`" if fast_on_cpu("bfloat16") else "`auto` or `float32`"
        raise FatalError(f"RERANK_WORKER_RERANK__DTYPE={name} is slow on this machine's processor; set {remedy}")
    return HALF_PRECISION.get(name, torch.float32)


def fast_on_cpu(name: str) -> bool:
    """Return whether this processor multiplies faster in a half precision than in float32."""
    # Without instructions of its own bfloat16 is emulated, several times slower than float32; with them it is twice as
    # fast (AVX-512) or more (AMX, which multiplies tiles).
    capabilities = torch.cpu.get_capabilities()
    return name == "bfloat16" and any(capabilities.get(each) for each in ("amx_bf16", "avx512_bf16"))


def out_of_memory(error: Exception) -> bool:
    """Return whether a forward pass failed for lack of memory: one of fewer pairs may succeed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # torch has no class of its own for a processor's memory.
    return isinstance(error, RuntimeError) and CPU_ALLOCATOR in str(error)


@dataclass(frozen=True, slots=True)
class Batches:
    """What batches suit a scorer."""

    padded: bool
    """Whether each pair costs as many tokens as the longest of its batch."""
    tokens: int
    """The budget it does well with where none is set; more only makes queries wait."""


def suited(device: torch.device, *, padded: bool) -> Batches:
    """Return what batches suit a device: a GPU must be filled, a CPU is by twenty passages (`rerank-worker tune`)."""
    return Batches(padded, CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS)


@contextmanager
def inference(device: torch.device) -> Iterator[None]:
    """Run a forward pass. FatalError when the device is lost; torch's other errors pass.

    Out of memory is not fatal: fewer pairs may fit, so torch's own error goes to the batcher, which tries the halves.
    """
    try:
        with torch.inference_mode():
            yield
    except torch.AcceleratorError as error:
        # After a CUDA fault every call of this process fails: only a new one gets the device back.
        raise FatalError(f"the device {device} is lost: {error}") from error


def moved(scores: torch.Tensor) -> list[float]:
    """Return scores as floats, in one transfer: a device is synchronised once per batch, not once per pair."""
    values: list[float] = scores.float().cpu().tolist()
    return values
