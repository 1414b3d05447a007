"""Adapter + base weights = cross-encoder.

The adapter holds, for a base tensor ``k``: ``k.A`` and ``k.B`` (a low-rank update ``B @ A``), or ``k.d`` (a full
update), or ``k`` itself (a tensor that the base does not have: pooler and classifier). Its metadata names the sha256 of
the base it was made for.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder

from worker.errors import FatalError
from worker.models.hub import hide_loading_bars

MAX_TOKENS = 256
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Write the folder of a one-logit ``BertForSequenceClassification``. FatalError if the base is another one."""
    with safe_open(adapter, "pt") as file:
        expected = file.metadata()["base_sha256"]
    weights_file = base / "model.safetensors"
    if hashlib.sha256(weights_file.read_bytes()).hexdigest() != expected:
        raise FatalError(f"{weights_file} is not the base this adapter was made for; install the pinned version")
    weights = _updated(load_file(weights_file), load_file(adapter))
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    config.pop("_name_or_path", None)
    config |= {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
    }
    (out / "config.json").write_text(json.dumps(config, indent=1))
    for name in TOKENIZER_FILES:
        shutil.copyfile(base / name, out / name)


def scores(folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the logits of (query, document) pairs by plain sentence-transformers, on the CPU."""
    hide_loading_bars()
    model = CrossEncoder(str(folder), device="cpu", max_length=MAX_TOKENS, local_files_only=True)
    logits = model.predict(list(pairs), activation_fn=torch.nn.Identity(), show_progress_bar=False)
    return [float(logit) for logit in logits]


def _updated(base: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    weights = {
        name if name.startswith("bert.") else f"bert.{name}": tensor.float()
        for name, tensor in base.items()
        if "position_ids" not in name
    }
    for key, tensor in adapter.items():
        name, _, kind = key.rpartition(".")
        match kind:
            case "B":
                weights[name] = weights[name] + tensor.float() @ adapter[f"{name}.A"].float()
            case "d":
                weights[name] = weights[name] + tensor.float()
            case "A":
                continue
            case _:
                weights[key] = tensor.float()
    return {name: tensor.contiguous() for name, tensor in weights.items()}
