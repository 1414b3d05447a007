"""What a forward pass is given: pairs of token ids, one flat row of them, or a rectangle."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, PreTrainedConfig

Ints = NDArray[np.int32]


@dataclass(slots=True, eq=False)
class EncodedPair:
    """A query and a document, or one window of it, tokenised: what a scorer is given.

    Not to be changed; frozen, it would take twice as long to make, and a GPU scores it in ten microseconds.
    """

    input_ids: Ints
    """(tokens,): views of one array that the pairs of a query share."""
    token_type_ids: Ints
    """(tokens,)."""
    document: int = 0
    """Which of the documents that were encoded together, from 0."""
    truncated: bool | None = None
    """Words of the document are in none of its pairs; None if that is not known."""
    window: range | None = None
    """Which of the document's tokens, where it was cut into windows."""

    @property
    def tokens(self) -> int:
        """Length in tokens, special tokens included: the unit of cost."""
        return len(self.input_ids)


@dataclass(frozen=True, eq=False)
class FlatBatch:
    """The tokens of some texts, one text behind the other; nothing is padded."""

    ids: Ints
    """(tokens,)."""
    types: Ints
    """(tokens,): 0 for the query, 1 for the document."""
    lengths: Ints
    """(texts,): tokens of each."""

    @classmethod
    def of(cls, pairs: Sequence[EncodedPair]) -> "FlatBatch":
        """Return the pairs' tokens in the order of the pairs, of which there is one at least."""
        return cls(
            np.concatenate([pair.input_ids for pair in pairs]),
            np.concatenate([pair.token_type_ids for pair in pairs]),
            np.fromiter((pair.tokens for pair in pairs), np.int32, len(pairs)),
        )

    @cached_property
    def starts(self) -> Ints:
        """(texts + 1,): where each text begins, and where the last one ends."""
        starts = np.zeros(len(self.lengths) + 1, np.int32)
        np.cumsum(self.lengths, out=starts[1:])
        return starts

    @cached_property
    def places(self) -> Ints:
        """(tokens,): each token's place in its text, from 0."""
        places = np.arange(len(self.ids), dtype=np.int32)
        places -= np.repeat(self.starts[:-1], self.lengths)
        return places

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(texts, tokens of the longest): where a rectangle of the texts has a token of them."""
        mask: NDArray[np.bool_] = np.arange(self.longest) < self.lengths[:, None]
        return mask

    def padded(self, flat: Ints, filler: int) -> torch.Tensor:
        """Return one value per token as an int64 rectangle, (texts, tokens of the longest)."""
        mask = self.mask
        rectangle = np.full(mask.shape, filler, np.int64)
        rectangle[mask] = flat
        return torch.from_numpy(rectangle)


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

    def batch(self, batch: FlatBatch) -> dict[str, torch.Tensor]:
        """Return int64 tensors (pairs, tokens of the longest) by the names, in their order."""
        inputs = {
            "input_ids": batch.padded(batch.ids, self._padding),
            "attention_mask": torch.from_numpy(batch.mask.astype(np.int64)),
        }
        if "token_type_ids" in self.names:
            inputs["token_type_ids"] = batch.padded(batch.types, 0)
        return inputs
