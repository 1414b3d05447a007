"""Flat batches against the rectangles and places one would write down by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, XLMRobertaConfig

from worker.rerank.pairs.batch import EncodedPair, FlatBatch, ModelInputs

ROWS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=6)


def pairs_of(rows: Sequence[Sequence[int]]) -> list[EncodedPair]:
    return [EncodedPair(np.array(row, np.int32), np.array(row, np.int32) % 2) for row in rows]


@given(ROWS)
def test_tokens_lie_behind_each_other_and_know_their_places(rows: list[list[int]]) -> None:
    batch = FlatBatch.of(pairs_of(rows))
    assert batch.ids.tolist() == [token for row in rows for token in row]
    assert batch.places.tolist() == [place for row in rows for place in range(len(row))]
    assert [batch.ids[start:].tolist()[: len(row)] for start, row in zip(batch.starts, rows, strict=False)] == rows
    assert batch.starts[-1] == len(batch.ids)
    assert batch.longest == max(map(len, rows))
    assert {each.dtype for each in (batch.ids, batch.types, batch.lengths, batch.starts, batch.places)} == {
        np.dtype(np.int32)
    }


@pytest.mark.parametrize(
    ("config", "padding", "typed"),
    [(BertConfig(), 0, True), (XLMRobertaConfig(type_vocab_size=1, pad_token_id=1), 1, False)],
)
def test_a_rectangle_is_filled_up_with_the_models_padding(config: BertConfig, padding: int, typed: bool) -> None:
    inputs = ModelInputs(config).batch(FlatBatch.of(pairs_of([[5, 6, 7], [8]])))
    expected = {
        "input_ids": [[5, 6, 7], [8, padding, padding]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        **({"token_type_ids": [[1, 0, 1], [0, 0, 0]]} if typed else {}),
    }
    assert {name: tensor.tolist() for name, tensor in inputs.items()} == expected
