"""The model as ONNX in a folder of its own, for the peers that run no safetensors."""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx.helper import make_node, make_tensor_value_info
from onnx.numpy_helper import from_array

from benchmarks.peers.base import Setting
from worker.rerank.backends.export import MODEL_FILE, exported

BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def onnx_folder(setting: Setting) -> Path:
    """Return a folder with the worker's own fp32 export and the model's tokenizer. Blocks for seconds at first."""
    folder = setting.cache / f"onnx-{setting.folder.name}"
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load(exported(setting.folder, setting.cache, "float32"))
    _as_column(model.graph)
    onnx.save(model, folder / MODEL_FILE)
    for name in BESIDE:
        if (setting.folder / name).is_file():
            shutil.copy(setting.folder / name, folder / name)
    return folder


def _as_column(graph: onnx.GraphProto) -> None:
    """Give the logits the shape that transformers gives them and the peers expect: (pairs, 1)."""
    last = next(node for node in graph.node if "logits" in node.output)
    last.output[list(last.output).index("logits")] = "logits.flat"
    graph.initializer.append(from_array(np.array([1], dtype=np.int64), "logits.axis"))
    graph.node.append(make_node("Unsqueeze", ["logits.flat", "logits.axis"], ["logits"]))
    del graph.output[:]
    graph.output.append(make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["pairs", 1]))
