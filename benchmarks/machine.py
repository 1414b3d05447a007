"""What the figures were measured on: never the host's name, nor a path of it."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from joblib import cpu_count

# What decides how fast a processor multiplies matrices.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
PACKAGES = ("torch", "transformers", "sentence-transformers", "onnxruntime", "openvino", "flashrank")
ROOT = Path(__file__).parents[1]


def facts(device: str = "cpu", threads: int | None = None) -> dict[str, object]:
    """Return what a reader needs to judge a figure."""
    flags, model = _processor()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "cpu": model,
        "cores": cpu_count(),
        "threads": threads or cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "load_at_start": round(os.getloadavg()[0], 2),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _processor() -> tuple[set[str], str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set(), platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(flags|model name|cpu family|model)\s*: (.+)$", text, flags=re.MULTILINE))
    name = fields.get("model name", platform.machine())
    # A virtual machine may hide the model: the family and number still tell the generation.
    return set(
        fields.get("flags", "").split()
    ), f"{name} (family {fields.get('cpu family')}, model {fields.get('model')})"


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
