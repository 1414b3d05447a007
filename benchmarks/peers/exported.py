"""The model as ONNX in a folder of its own, for the peers that run no safetensors."""

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from benchmarks.peers.base import Setting

# To come from worker.rerank.export once that is there.
FILE = "model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class _Logits(torch.nn.Module):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        return logits


def onnx_folder(setting: Setting) -> Path:
    """Return a folder with the model as fp32 ONNX and its tokenizer, exporting it if need be. Blocks for seconds."""
    folder = setting.cache / f"onnx-{setting.folder.name}"
    if not (folder / FILE).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        for name in BESIDE:
            shutil.copy(setting.folder / name, folder / name)
        _export(setting.folder, folder / FILE)
    return folder


def _export(folder: Path, target: Path) -> None:
    ids = torch.ones(2, 16, dtype=torch.long)
    building = target.with_suffix(".building")
    torch.onnx.export(
        _Logits(folder),
        (ids, ids, ids * 0),
        str(building),
        input_names=list(INPUTS),
        output_names=["logits"],
        dynamic_axes={name: {0: "pairs", 1: "tokens"} for name in INPUTS} | {"logits": {0: "pairs"}},
        dynamo=False,
    )
    building.rename(target)
