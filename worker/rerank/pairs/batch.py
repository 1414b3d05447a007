"""From pairs to padded batches, for the backends that are given rectangles of tokens."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedConfig

from worker.rerank.pairs.tokenizer import EncodedPair


class ModelInputs:
    """Makes the padded batches of one model, by its configuration."""

    def __init__(self, config: PreTrainedConfig) -> None:
        self._padding = int(getattr(config, "pad_token_id", 0) or 0)
        takes_types = getattr(config, "type_vocab_size", 0) > 1
        self.names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_types else [])]

    @classmethod
    def of(cls, folder: Path) -> "ModelInputs":
        """Return those of the model in a folder."""
        return cls(AutoConfig.from_pretrained(folder, local_files_only=True))

    def batch(self, pairs: Sequence[EncodedPair]) -> dict[str, torch.Tensor]:
        """Return int64 tensors (pairs, tokens of the longest) by the names, in their order."""
        ids = [pair.input_ids for pair in pairs]
        inputs = {"input_ids": padded(ids, self._padding), "attention_mask": mask(ids)}
        if "token_type_ids" in self.names:
            inputs["token_type_ids"] = padded([pair.token_type_ids for pair in pairs], 0)
        return inputs


def padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Return rows of ids as one int64 tensor, each filled up to the longest."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows], dtype=torch.long)


def mask(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the attention mask of ``padded``: 1 where there is a token."""
    return padded([[1] * len(row) for row in rows], 0)
