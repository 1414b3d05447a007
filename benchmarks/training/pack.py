"""Step 4: what training changed, small enough to ship in the package.

``python -m benchmarks.training.pack MODEL ADAPTER`` writes the difference between a trained cross-encoder and the
packaged base: weight matrices cut to a rank by singular values, everything else whole, in fp16. Then
``worker/local/offline_cross_encoder/merge.py`` builds the model from it at set-up.
"""

import argparse
import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from worker.local.offline_models import embedding_folder

Tensors = dict[str, torch.Tensor]

# 7.7 MB: the most that stays under the 8 MB the package may carry.
RANK = 88


def factors(difference: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return B and A with ``B @ A`` the best approximation of this rank (Eckart and Young 1936)."""
    left, values, right = torch.linalg.svd(difference, full_matrices=False)
    root = values[:rank].sqrt()
    return (left[:, :rank] * root).half().contiguous(), (root[:, None] * right[:rank]).half().contiguous()


def packed(base: Tensors, trained: Tensors, rank: int) -> tuple[Tensors, float]:
    """Return the adapter's tensors (see merge.py for their names) and the share of the change that the cut loses."""
    adapter: Tensors = {}
    lost = changed = 0.0
    for name, tensor in trained.items():
        before = base.get(name.removeprefix("bert."))
        if before is None or "pooler" in name:
            adapter[name] = tensor.half() if tensor.dim() > 1 else tensor.float()
        elif torch.equal(before.float(), tensor.float()):
            continue
        elif name.startswith("bert.encoder") and tensor.dim() > 1:
            difference = tensor.float() - before.float()
            b, a = factors(difference, rank)
            adapter[f"{name}.B"], adapter[f"{name}.A"] = b, a
            lost += float((difference - b.float() @ a.float()).square().sum())
            changed += float(difference.square().sum())
        else:
            adapter[f"{name}.d"] = (tensor.float() - before.float()).half()
    return adapter, lost / changed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--rank", type=int, default=RANK)
    args = parser.parse_args()
    base_file = embedding_folder() / "model.safetensors"
    adapter, lost = packed(load_file(base_file), load_file(args.model / "model.safetensors"), args.rank)
    digest = hashlib.sha256(base_file.read_bytes()).hexdigest()
    save_file(adapter, args.adapter, metadata={"base_sha256": digest, "rank": str(args.rank)})
    size = args.adapter.stat().st_size
    print(f"{args.adapter}: {size / 1e6:.2f} MB, sha256 {hashlib.sha256(args.adapter.read_bytes()).hexdigest()}")
    print(f"the cut to rank {args.rank} loses {lost:.2%} of the squared change")


if __name__ == "__main__":
    main()
