"""The calls for a GPU, traced without one: dtypes, shapes and names of arguments, by torch's fake tensors."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import BertConfig, BertModel

from worker.rerank.backends.packed import Inputs, PackedEncoder
from worker.rerank.backends.packed_cuda import CudaOperators, cuda_packs, on_device
from worker.rerank.pairs.batch import FlatBatch

CUDA = torch.device("cuda", 0)
HIDDEN, HEADS = 64, 2
LENGTHS = np.array([7, 20, 3], np.int32)


class TracedOperators(CudaOperators):
    """Without what asks the driver: the number of multiprocessors, and pinned memory for the transfer."""

    def __init__(self) -> None:
        self.device = CUDA

    def inputs(self, batch: FlatBatch, heads: int, first_position: int) -> Inputs:
        size = 3 * len(batch.ids) + len(batch.starts)
        return on_device(torch.empty(size, dtype=torch.int32, device=self.device), batch, heads)


@pytest.fixture
def encoder() -> Iterator[PackedEncoder]:
    config = BertConfig(
        vocab_size=50, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=128
    )
    with FakeTensorMode(), torch.no_grad():
        with torch.device(CUDA):
            torch.set_default_dtype(torch.float16)
            try:
                model = BertModel(config)
            finally:
                torch.set_default_dtype(torch.float32)
        yield PackedEncoder(model.eval(), TracedOperators())


def batch() -> FlatBatch:
    ids = np.ones(LENGTHS.sum(), np.int32)
    return FlatBatch(ids, np.zeros_like(ids), LENGTHS)


def test_the_last_layer_gives_one_half_precision_row_a_text(encoder: PackedEncoder) -> None:
    first = encoder.first_tokens(batch())
    assert (first.shape, first.dtype, first.device) == ((len(LENGTHS), HIDDEN), torch.float16, CUDA)


def test_all_tokens_are_given_without_any_that_fill_up(encoder: PackedEncoder) -> None:
    states = encoder.all_tokens(batch())
    assert (states.shape, states.dtype, states.device) == ((LENGTHS.sum(), HIDDEN), torch.float16, CUDA)


def test_single_precision_and_processors_are_not_for_the_flash_kernel() -> None:
    assert not cuda_packs(CUDA, torch.float32)
    assert not cuda_packs(torch.device("cpu"), torch.bfloat16)
