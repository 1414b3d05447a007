"""Packed batches against transformers' own forward pass, on models with random weights."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ElectraConfig,
    PreTrainedConfig,
    PreTrainedModel,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from worker.rerank.backends.packed import PackedBackend, PackedEncoder, can_pack
from worker.rerank.backends.packed_cpu import CpuOperators
from worker.rerank.backends.torch_padded import PaddedBackend
from worker.rerank.pairs.batch import EncodedPair, FlatBatch

CPU = torch.device("cpu")
WORDS = 90
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 80,
    "num_labels": 1,
    "initializer_range": 0.2,
}
MODELS: dict[str, tuple[type[PreTrainedModel], PreTrainedConfig]] = {
    "bert": (BertForSequenceClassification, BertConfig(**SIZES)),
    "xlm-roberta": (
        XLMRobertaForSequenceClassification,
        XLMRobertaConfig(**SIZES | {"type_vocab_size": 1, "pad_token_id": 1}),
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(5)
    kind, config = MODELS[request.param]
    return kind(config).eval()


def pair(model: PreTrainedModel, length: int, seed: int) -> EncodedPair:
    ids = [random.Random(seed + place).randrange(2, WORDS) for place in range(length)]
    second = model.config.type_vocab_size > 1
    types = [int(second and place > length // 3) for place in range(length)]
    return EncodedPair(np.array(ids, np.int32), np.array(types, np.int32))


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(2, 70), min_size=1, max_size=12), seed=st.integers(0, 1_000))
def test_logits_are_those_of_transformers(model: PreTrainedModel, lengths: Sequence[int], seed: int) -> None:
    pairs = [pair(model, length, seed + number) for number, length in enumerate(lengths)]
    batch = FlatBatch.of(pairs)
    expected = PaddedBackend(model, CPU).start(batch)()
    assert PackedBackend(model, CpuOperators()).start(batch)() == pytest.approx(expected, abs=1e-4)


def test_hidden_states_are_those_of_transformers(model: PreTrainedModel) -> None:
    pairs = [pair(model, length, length) for length in (9, 30, 4, 30)]
    with torch.inference_mode():
        states = PackedEncoder(model.base_model, CpuOperators()).all_tokens(FlatBatch.of(pairs))
        for state, each in zip(states.split([each.tokens for each in pairs]), pairs, strict=True):
            ids, kinds = torch.from_numpy(each.input_ids), torch.from_numpy(each.token_type_ids)
            alone = model.base_model(ids[None], token_type_ids=kinds[None]).last_hidden_state[0]
            torch.testing.assert_close(state, alone, atol=1e-4, rtol=0)


def test_what_computes_otherwise_is_not_packed() -> None:
    bert = BertConfig(**SIZES)
    assert can_pack(bert)
    assert not can_pack(BertConfig(**SIZES | {"hidden_act": "relu"}))
    assert not can_pack(ElectraConfig())
