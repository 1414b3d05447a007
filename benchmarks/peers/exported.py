"""The model as ONNX in a folder of its own, for the peers that run no safetensors."""

import shutil
from pathlib import Path

from benchmarks.peers.base import Setting
from worker.rerank.export import exported

BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def onnx_folder(setting: Setting) -> Path:
    """Return a folder with the worker's own fp32 export and the model's tokenizer. Blocks for seconds at first."""
    source = exported(setting.folder, setting.cache, "float32").parent
    folder = setting.cache / f"onnx-{setting.folder.name}"
    shutil.copytree(source, folder, dirs_exist_ok=True)
    for name in BESIDE:
        if (setting.folder / name).is_file():
            shutil.copy(setting.folder / name, folder / name)
    return folder
