"""Devices and precisions: what this machine has, and what is refused with a remedy."""

import pytest
import torch

from worker.errors import FatalError
from worker.rerank.backends.device import choose_device, choose_dtype, out_of_memory

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: request.param)


@pytest.mark.parametrize("processor", [{}, {"amx_bf16": False, "avx2": True}], indirect=True)
@pytest.mark.parametrize(
    ("dtype", "needs"),
    [("float16", "a GPU"), ("bfloat16", "a GPU, or a processor with AVX-512 BF16 or AMX")],
)
def test_half_precision_is_refused_on_a_processor_that_is_slow_in_it(processor: None, dtype: str, needs: str) -> None:
    with pytest.raises(FatalError, match=f"DTYPE={dtype} needs {needs}: .*; set `auto` or `float32`$"):
        choose_dtype(dtype, CPU)


@pytest.mark.parametrize("processor", [{"amx_bf16": True}, {"avx512_bf16": True}], indirect=True)
def test_a_processor_with_instructions_for_it_takes_bfloat16_alone(processor: None) -> None:
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(FatalError, match=r"float16 needs a GPU: .*; set `float32` or `bfloat16`$"):
        choose_dtype("float16", CPU)


@pytest.mark.parametrize("processor", [{"avx2": True}, {"avx512_bf16": True, "amx_bf16": False}], indirect=True)
def test_left_to_itself_a_cpu_that_may_be_slow_in_it_takes_no_half_precision(processor: None) -> None:
    assert choose_dtype("auto", CPU) is torch.float32


@pytest.mark.parametrize("processor", [{"avx512_bf16": True, "amx_bf16": True}], indirect=True)
def test_left_to_itself_a_cpu_with_tiles_and_a_gpu_take_the_half_precision_they_are_fast_in(processor: None) -> None:
    assert choose_dtype("auto", CPU) is torch.bfloat16
    assert choose_dtype("auto", torch.device("cuda")) is torch.float16


@pytest.mark.parametrize("name", ["cuda:99", "nonsense"])
def test_a_device_this_machine_lacks_is_refused(name: str) -> None:
    with pytest.raises(FatalError, match="not on this machine"):
        choose_device(name)


def test_a_lack_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60)
    assert out_of_memory(refused.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes do not match"))
