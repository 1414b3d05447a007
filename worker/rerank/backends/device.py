"""The torch device a scorer runs on: which one, in which precision, and what its failures mean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from worker.errors import FatalError
from worker.models.threads import cpu_threads
from worker.settings import RerankSettings

CPU_ALLOCATOR = "DefaultCPUAllocator"
CPU = torch.device("cpu")
CPU_BATCH_TOKENS = 2_048
CPU_BATCH_PAIRS = 64
# To start a pass takes the host a millisecond or two, however large it is: the device must have several to do. An H100
# (132 multiprocessors) did 77,000 pairs/s in batches of 16,384 tokens and 87,000 in four times that.
GPU_BATCH_TOKENS_PER_MULTIPROCESSOR = 512
# For what is no GPU of CUDA and does not tell.
OTHER_BATCH_TOKENS = 16_384
# Tokens are what counts there.
DEVICE_BATCH_PAIRS = 4_096
HALF_PRECISION = {"float16": torch.float16, "bfloat16": torch.bfloat16}
NEEDED = {"float16": "a GPU", "bfloat16": "a GPU, or a processor with AVX-512 BF16 or AMX"}
"""What multiplies faster in a half precision than in float32."""


def prepare(settings: RerankSettings) -> tuple[torch.device, torch.dtype]:
    """Return the device and the dtype of the settings, with torch's threads set. FatalError if they can't be had."""
    device = choose_device(settings.device)
    if device.type == "cpu":
        torch.set_num_threads(cpu_threads(settings))
    return device, choose_dtype(settings.dtype, device)


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
        return torch.float16 if device.type == "cuda" else _on_cpu()
    if device.type == "cpu" and name in HALF_PRECISION and not fast_on_cpu(name):
        remedy = "`float32` or `bfloat16`" if fast_on_cpu("bfloat16") else "`auto` or `float32`"
        raise FatalError(
            f"RERANK_WORKER_RERANK__DTYPE={name} needs {NEEDED[name]}: it is slower than float32 here; set {remedy}"
        )
    return HALF_PRECISION.get(name, torch.float32)


def _on_cpu() -> torch.dtype:
    """Return the dtype that surely is the fastest of this processor, of those that rank alike."""
    # AMX alone: with AVX-512 BF16 and no tiles some processors are twice as fast in bfloat16 and others half (below).
    return torch.bfloat16 if torch.cpu.get_capabilities().get("amx_bf16") else torch.float32


def fast_on_cpu(name: str) -> bool:
    """Return whether this processor multiplies faster in a half precision than in float32."""
    # Without instructions of its own bfloat16 is emulated, several times slower than float32; with them it is twice as
    # fast (AVX-512) or more (AMX, which multiplies tiles). Not on each: an Intel one (model 207) with
    # AVX-512 BF16 and no AMX had half of float32's rate. The capabilities don't tell that, `rerank-worker tune` does.
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
    pairs: int
    """Most pairs of one, where no number is set."""
    under_way: int
    """How many may be started before the first is done: a device must find its next batch when it ends one."""


def suited(device: torch.device, *, padded: bool) -> Batches:
    """Return what batches suit a device: a GPU must be filled, a CPU is by twenty passages (`rerank-worker tune`)."""
    if device.type == "cpu":
        return Batches(padded, CPU_BATCH_TOKENS, CPU_BATCH_PAIRS, under_way=1)
    tokens = OTHER_BATCH_TOKENS
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        tokens = GPU_BATCH_TOKENS_PER_MULTIPROCESSOR * properties.multi_processor_count
    return Batches(padded, tokens, DEVICE_BATCH_PAIRS, under_way=2)


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


Pending = Callable[[], list[float]]
"""Waits for a forward pass that was started, and returns its fp32 logits. FatalError when the device is lost."""


def pending(scores: torch.Tensor) -> Pending:
    """Return scores (pairs,) that may still be computed, to be read once, in one transfer.

    A device is synchronised once per batch, not once per pair, and by who waits for the batch: whoever started it may
    start the next one meanwhile.
    """
    if scores.device.type != "cuda":
        values: list[float] = scores.float().cpu().tolist()
        return lambda: values
    host = torch.empty(scores.shape, dtype=torch.float32, pin_memory=True)
    host.copy_(scores, non_blocking=True)
    # Blocking: the other kind spins, and the processor has queries to read meanwhile.
    copied = torch.cuda.Event(blocking=True)
    copied.record()

    def wait() -> list[float]:
        with inference(scores.device):
            copied.synchronize()
            values: list[float] = host.tolist()
            return values

    return wait
