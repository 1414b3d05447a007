"""Step 2: fine-tune the packaged bi-encoder into a cross-encoder.

``python -m benchmarks.training.train DATA OUT --steps N`` goes on from ``OUT/checkpoint.pt`` if there is one, and
writes ``OUT/model``, a folder that ``CrossEncoder`` loads, and ``OUT/log.jsonl``. Of the base, the word and position
embeddings stay as they are: the adapter could not hold them. While the learning rate falls, the change of every matrix
is cut to the adapter's rank again and again, so that the weights learn to live with it.

Loss, per query: squared error to the teacher's figures, both less their mean over the query's passages; a little of the
squared error to the figures themselves (so that scores of different queries can be compared with one threshold); and
cross-entropy where a passage is known to answer.
"""

import argparse
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.nn.functional import log_softmax
from transformers import AutoTokenizer, BertForSequenceClassification

from benchmarks.training.pack import RANK, factors
from worker.models.packages import embedding_folder

PAIRS_PER_QUERY = 8
QUERIES_PER_STEP = 4
PASSAGE_TOKENS = 128
QUERY_TOKENS = 40
WARM_UP_STEPS = 150
# The rate stays at its peak for this share of the steps and then falls to 0: a run may be prolonged from a checkpoint.
PLATEAU = 0.6
# A labelled query comes this many times as often as another; there are few of them, each pass with other passages.
LABELLED_WEIGHT = 5
# Teacher's figure of a pair as a logit. On real search questions with known answers cosine + 1.5 maxsim ranked best.
MAXSIM_WEIGHT = 1.5
SCALE = 7.0
OFFSET = 1.2
ORDER_WEIGHT = 0.25
LEVEL_WEIGHT = 0.02
DISTILLED_BESIDE_LABELS = 0.5
CHECKPOINT_EVERY = 250
CUT_EVERY = 50
BLOCK = 1024

Group = dict[str, Any]


class Data:
    """Tokenised groups, in batches of like length without end."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._rng = rng
        self._tokenizer = AutoTokenizer.from_pretrained(embedding_folder())
        with (folder / "passages.jsonl").open(encoding="utf-8") as file:
            self._passages = self._ids([json.loads(line) for line in file], PASSAGE_TOKENS)
        with (folder / "groups.jsonl").open(encoding="utf-8") as file:
            self._groups: list[Group] = [json.loads(line) for line in file]
        for group, ids in zip(
            self._groups, self._ids([group["query"].rstrip("?") for group in self._groups], QUERY_TOKENS), strict=True
        ):
            group["ids"] = ids

    def batches(self) -> Iterator[list[tuple[Group, list[int]]]]:
        """Yield steps of (group, which of its passages)."""
        labelled = [group for group in self._groups if any(group["labels"])]
        while True:
            pool = [*self._groups, *labelled * (LABELLED_WEIGHT - 1)]
            self._rng.shuffle(pool)
            for begin in range(0, len(pool), BLOCK):
                block = [(group, self._choose(group)) for group in pool[begin : begin + BLOCK]]
                block.sort(key=self._tokens)
                steps = [block[at : at + QUERIES_PER_STEP] for at in range(0, len(block), QUERIES_PER_STEP)]
                self._rng.shuffle(steps)
                yield from steps

    def inputs(self, batch: Sequence[tuple[Group, list[int]]]) -> dict[str, torch.Tensor]:
        """Return the padded pairs of a step."""
        cls, sep = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        rows, kinds = [], []
        for group, chosen in batch:
            query = [cls, *group["ids"], sep]
            for place in chosen:
                passage = [*self._passages[group["passages"][place]], sep]
                rows.append(query + passage)
                kinds.append([0] * len(query) + [1] * len(passage))
        longest = max(map(len, rows))
        return {
            "input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in rows]),
            "token_type_ids": torch.tensor([kind + [0] * (longest - len(kind)) for kind in kinds]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
        }

    def _ids(self, texts: list[str], max_tokens: int) -> list[list[int]]:
        encoded = self._tokenizer(texts, add_special_tokens=False, truncation=True, max_length=max_tokens)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _choose(self, group: Group) -> list[int]:
        places = range(len(group["passages"]))
        positive = [place for place in places if group["labels"][place]]
        others = [place for place in places if not group["labels"][place]]
        chosen = [self._rng.choice(positive)] if positive else []
        return chosen + self._rng.sample(others, min(PAIRS_PER_QUERY - len(chosen), len(others)))

    def _tokens(self, item: tuple[Group, list[int]]) -> int:
        group, chosen = item
        return len(group["ids"]) + max(len(self._passages[group["passages"][place]]) for place in chosen)


def loss_of(scores: torch.Tensor, batch: Sequence[tuple[Group, list[int]]]) -> torch.Tensor:
    """Return the mean loss per query of the scores of a step's pairs, which stand query after query."""
    total = torch.zeros(())
    begin = 0
    for group, chosen in batch:
        mine = scores[begin : begin + len(chosen)]
        begin += len(chosen)
        judged = torch.tensor([group["judged"][place] for place in chosen])
        target = SCALE * (judged[:, 0] + MAXSIM_WEIGHT * judged[:, 1] - OFFSET)
        error = mine - target
        distilled = ORDER_WEIGHT * (error - error.mean()).square().mean() + LEVEL_WEIGHT * error.square().mean()
        labels = torch.tensor([float(group["labels"][place]) for place in chosen])
        if labels.sum() > 0:
            total = total - (log_softmax(mine, 0) * labels).sum() + DISTILLED_BESIDE_LABELS * distilled
        else:
            total = total + distilled
    return total / len(batch)


class Trainer:
    """The model, its optimizer and where it stands; saved and read back as one."""

    def __init__(self, out: Path, data: Path, init: Path, *, steps: int, learning_rate: float, seed: int) -> None:
        self._out = out
        self._steps = steps
        self._learning_rate = learning_rate
        # "eager": of the attention implementations, the only one whose backward pass is fast in bfloat16 on a CPU.
        self._model = BertForSequenceClassification.from_pretrained(
            init,
            num_labels=1,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="eager",
        ).train()
        self._model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_("word_embeddings" not in name and "position_embeddings" not in name)
        self._base = load_file(embedding_folder() / "model.safetensors")
        self._trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98))
        self._step, self._seconds = 0, 0.0
        if self._checkpoint.exists():
            state = torch.load(self._checkpoint)
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._step, self._seconds = state["step"], state["seconds"]
        self._data = Data(data, random.Random(seed + self._step))

    def run(self) -> None:
        """Train until the last step, saving on the way."""
        losses: list[float] = []
        pairs, begun_s = 0, time.monotonic()
        for batch in self._data.batches():
            if self._step >= self._steps:
                return
            loss = self._train(batch)
            losses.append(loss)
            pairs += sum(len(chosen) for _, chosen in batch)
            self._step += 1
            if self._step > PLATEAU * self._steps and (self._step % CUT_EVERY == 0 or self._step == self._steps):
                self._cut()
            if self._step % CHECKPOINT_EVERY == 0 or self._step == self._steps:
                lap_s = time.monotonic() - begun_s
                self._seconds += lap_s
                self._save(sum(losses) / len(losses), pairs / lap_s)
                losses.clear()
                pairs, begun_s = 0, time.monotonic()

    def _train(self, batch: Sequence[tuple[Group, list[int]]]) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * rate(self._step, self._steps)
        with torch.autocast("cpu", torch.bfloat16):
            scores = self._model(**self._data.inputs(batch)).logits[:, 0]
        loss = loss_of(scores.float(), batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        return loss.item()

    @torch.no_grad()
    def _cut(self) -> None:
        for name, parameter in self._model.bert.encoder.named_parameters():
            if parameter.dim() > 1:
                base = self._base[f"encoder.{name}"]
                b, a = factors(parameter - base, RANK)
                parameter.copy_(base + b.float() @ a.float())

    def _save(self, loss: float, pairs_per_s: float) -> None:
        entry = {"step": self._step, "hours": self._seconds / 3600, "loss": loss, "pairs_per_s": pairs_per_s}
        with (self._out / "log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        print(entry, flush=True)
        fresh = self._checkpoint.with_suffix(".new")
        torch.save(
            {
                "model": self._model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "step": self._step,
                "seconds": self._seconds,
            },
            fresh,
        )
        fresh.replace(self._checkpoint)
        self._model.save_pretrained(self._out / "model")
        AutoTokenizer.from_pretrained(embedding_folder()).save_pretrained(self._out / "model")

    @property
    def _checkpoint(self) -> Path:
        return self._out / "checkpoint.pt"


def rate(step: int, steps: int) -> float:
    """Return the share of the peak learning rate at a step."""
    plateau_end = PLATEAU * steps
    falling = (steps - step) / (steps - plateau_end) if step > plateau_end else 1.0
    return min(1.0, (step + 1) / WARM_UP_STEPS, max(falling, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--init", type=Path, default=embedding_folder(), help="the base, or a model trained before")
    parser.add_argument("--learning-rate", type=float, default=1.5e-4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        args.out, args.data, args.init, steps=args.steps, learning_rate=args.learning_rate, seed=args.seed
    )
    trainer.run()


if __name__ == "__main__":
    main()
