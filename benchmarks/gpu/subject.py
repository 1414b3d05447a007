"""What is measured: a cross-encoder of MiniLM-L6's shape with random weights, and texts of so many tokens.

Speed and parity need no training, and a machine with a GPU may have no network: the weights come from a fixed seed, the
tokenizer from this repository's own prose.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer, PreTrainedModel

from worker.domain import Candidate, Query

ROOT = Path(__file__).parents[2]
SEED = 7
CANDIDATES = 20
VOCABULARY = 30_522
# Of so few pages come fewer words than a model has; ids it never sees take nothing but room.
LEARNT_WORDS = 4_000
QUERY_WORDS = 8
# Larger than a training begins with, so that different texts get clearly different scores.
SPREAD = 0.05


@dataclass(frozen=True, slots=True)
class Asked:
    """One query and its candidates."""

    query: Query
    candidates: Sequence[Candidate]

    @property
    def texts(self) -> list[str]:
        return [candidate.text for candidate in self.candidates]


def cross_encoder(folder: Path) -> Path:
    """Write the model to be measured into a folder."""
    config = _config()
    config.num_labels = 1
    return _saved(folder, BertForSequenceClassification(config))


def embedder(folder: Path) -> Path:
    """Write a model of the same shape that embeds into a folder."""
    return _saved(folder, BertModel(_config()))


def _config() -> BertConfig:
    torch.manual_seed(SEED)
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1_536,
        max_position_embeddings=512,
        initializer_range=SPREAD,
    )


def _saved(folder: Path, model: PreTrainedModel) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.eval()
    model.save_pretrained(folder)
    made = BertWordPieceTokenizer()
    made.train([str(page) for page in _pages()], vocab_size=LEARNT_WORDS, show_progress=False)
    made.save_model(str(folder))
    BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=512).save_pretrained(folder)
    return folder


def _pages() -> list[Path]:
    return sorted(page for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


class Texts:
    """Queries whose pairs have so many tokens, no text twice."""

    def __init__(self) -> None:
        self._words = re.findall(r"[a-z]{2,}", " ".join(page.read_text(encoding="utf-8") for page in _pages()).lower())

    def queries(self, count: int, tokens: Sequence[int], *, seed: int = SEED) -> list[Asked]:
        """Return queries, the length of each passage drawn from ``tokens``: at least so many, query included.

        Cut by the scorer's ``max_length``, pairs of one such length have exactly that.
        """
        chance = random.Random(seed)
        return [
            Asked(
                Query(f"q{number}", self._text(chance, QUERY_WORDS), "docs", top_k=CANDIDATES, top_n=3),
                [
                    Candidate(f"d{rank}", self._text(chance, chance.choice(tokens)), rank, 0.5, 0.5)
                    for rank in range(1, CANDIDATES + 1)
                ],
            )
            for number in range(count)
        ]

    def _text(self, chance: random.Random, words: int) -> str:
        return " ".join(chance.choices(self._words, k=words))
