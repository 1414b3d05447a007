"""Step 4: what training changed, small enough to ship in the package.

``python -m benchmarks.training.pack MODEL ADAPTER`` writes the difference between a trained cross-encoder and the
packaged base: weight matrices cut to a rank by singular values, everything else whole, in fp16. Then
``worker/models/offline_cross_encoder/merge.py`` builds the model from it at set-up. Beside ADAPTER goes a JSON file
with its sha256 and the scores that the built model must give.
"""

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from worker.models.offline_cross_encoder import merge
from worker.models.packages import embedding_folder

Tensors = dict[str, torch.Tensor]

# 7.7 MB: the most that stays under the 8 MB the package may carry.
RANK = 88


GOLDEN_PAIRS = (
    (
        "What permissions does Debezium need on MySQL?",
        "The Debezium MySQL connector requires a dedicated replication user with REPLICATION SLAVE privileges.",
    ),
    (
        "What permissions does Debezium need on MySQL?",
        "Kafka consumer groups distribute partition reads across multiple consumers.",
    ),
    ("capital of france", "Paris is the capital and most populous city of France."),
    ("capital of france", "Lyon is the third-largest city of France, after Paris and Marseille."),
    ("capital of france", "Capital is wealth that is used to produce more wealth."),
    ("how do vaccines work", "A vaccine trains the immune system to recognise a pathogen before it causes disease."),
    ("how do vaccines work", "The city works department repairs roads and bridges."),
    ("define photosynthesis", "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen."),
    ("", "A document without a query."),
    ("a query without a document", ""),
)


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
    base_digest = hashlib.sha256(base_file.read_bytes()).hexdigest()
    save_file(adapter, args.adapter, metadata={"base_sha256": base_digest, "rank": str(args.rank)})
    digest = hashlib.sha256(args.adapter.read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch) / "model"
        merge.merge(base=embedding_folder(), adapter=args.adapter, out=built)
        golden = [
            {"query": query, "document": document, "score": round(score, 4)}
            for (query, document), score in zip(GOLDEN_PAIRS, merge.scores(built, GOLDEN_PAIRS), strict=True)
        ]
    manifest = {"sha256": digest, "golden": golden}
    args.adapter.with_suffix(".json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{args.adapter}: {args.adapter.stat().st_size / 1e6:.2f} MB, sha256 {digest}")
    print(f"the cut to rank {args.rank} loses {lost:.2%} of the squared change")


if __name__ == "__main__":
    main()
