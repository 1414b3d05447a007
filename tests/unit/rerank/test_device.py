"""Devices and precisions: what this machine has, and what is refused with a remedy."""

import pytest
import torch

from worker.errors import FatalError
from worker.rerank.device import choose_device, choose_dtype


def test_half_precision_on_a_cpu_is_refused_with_what_to_set() -> None:
    with pytest.raises(FatalError, match="set `auto` or `float32`"):
        choose_dtype("float16", torch.device("cpu"))
    assert choose_dtype("auto", torch.device("cpu")) is torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is torch.float16


@pytest.mark.parametrize("name", ["cuda:99", "nonsense"])
def test_a_device_this_machine_lacks_is_refused(name: str) -> None:
    with pytest.raises(FatalError, match="not on this machine"):
        choose_device(name)
