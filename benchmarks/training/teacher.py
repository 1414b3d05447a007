"""The teacher: similarities of the packaged bi-encoder, which need no training and no labels.

Two figures per (query, passage): ``cosine`` of the mean vectors; and ``maxsim``, the mean over the query's tokens of
the best cosine among the passage's (late interaction, Khattab and Zaharia 2020, arXiv:2004.12832).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

PASSAGE_TOKENS = 160
QUERY_TOKENS = 48
BATCH = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts as vectors of length 1: one per text, and one per token without [CLS] and [SEP]."""

    means: torch.Tensor
    tokens: list[torch.Tensor]


class Teacher:
    """all-MiniLM-L6-v2 on the CPU; in bfloat16, which processors with AMX multiply several times faster."""

    def __init__(self, folder: Path) -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], *, max_tokens: int) -> Encoded:
        """Return the vectors of texts, in their order."""
        means: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        tokens: list[torch.Tensor] = [torch.empty(0)] * len(texts)
        by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for begin in range(0, len(texts), BATCH):
            places = by_length[begin : begin + BATCH]
            inputs = self._tokenizer(
                [texts[place] for place in places],
                truncation=True,
                max_length=max_tokens,
                padding=True,
                return_tensors="pt",
            )
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self._model(**inputs).last_hidden_state.float()
            mask = inputs["attention_mask"][..., None].float()
            batch_means = normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
            normal = normalize(hidden, dim=-1).bfloat16()
            for row, place in enumerate(places):
                length = int(inputs["attention_mask"][row].sum())
                means[place] = batch_means[row]
                # A copy: a view would keep the whole padded batch alive.
                tokens[place] = normal[row, 1 : length - 1].clone()
        return Encoded(torch.stack(means), tokens)


def judge(
    query_mean: torch.Tensor,
    query_tokens: torch.Tensor,
    passage_means: torch.Tensor,
    passage_tokens: Sequence[torch.Tensor],
) -> list[tuple[float, float]]:
    """Return (cosine, maxsim) per passage."""
    cosines = (passage_means @ query_mean).tolist()
    judged = []
    for cosine, tokens in zip(cosines, passage_tokens, strict=True):
        judged.append((cosine, float((query_tokens @ tokens.T).float().max(1).values.mean())))
    return judged
