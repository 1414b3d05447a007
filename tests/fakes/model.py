"""A cross-encoder with random weights and a tiny vocabulary: loads in milliseconds, needs no hub."""

import string
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

WORDS = ["paris", "france", "capital", "kafka", "consumer", "groups", "debezium", "mysql", "permissions"]


def save_model(folder: Path, *, outputs: int) -> Path:
    torch.manual_seed(7)
    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *string.ascii_lowercase]
    (folder / "vocab.txt").write_text("\n".join([*vocabulary, *(f"##{letter}" for letter in string.ascii_lowercase)]))
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary) + 26,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=outputs,
        # Larger than usual, so that different texts get clearly different scores.
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder
