"""FlashRank, its own code on our model: it fetches only what is not in its cache folder, so ours is put there."""

import math
from collections.abc import Sequence

from benchmarks.peers.base import Padding, Scores, Setting, UnavailableError
from benchmarks.peers.exported import onnx_folder
from benchmarks.workload import Asked
from worker.rerank.backends.export import MODEL_FILE

# fp32 can't tell probabilities from 1 beyond this.
CLOSEST_TO_ONE = 1e-7


class FlashRank:
    """``Ranker.rerank`` query by query, fp32: it has no way to take several at once.

    ONNX Runtime's threads are its default, one per core of this process: FlashRank has no setting for them.
    """

    name = "FlashRank, its Ranker on our ONNX export"
    precision = "float32"

    def __init__(self, setting: Setting) -> None:
        try:
            from flashrank import Ranker, RerankRequest  # noqa: PLC0415
            from flashrank.Ranker import model_file_map  # noqa: PLC0415
        except ImportError as error:
            raise UnavailableError(f"{error}: `uv pip install flashrank`") from error
        folder = onnx_folder(setting)
        self._executor = setting.executor
        model_file_map[folder.name] = MODEL_FILE
        self._request = RerankRequest
        self._ranker = Ranker(
            folder.name, cache_dir=str(folder.parent), max_length=setting.max_length, log_level="ERROR"
        )

    def score(self, queries: Sequence[Asked]) -> Scores:
        return self._executor.submit(lambda: [self._one(asked) for asked in queries]).result()

    def _one(self, asked: Asked) -> list[float]:
        passages = [{"id": number, "text": text} for number, text in enumerate(asked.texts)]
        ranked = self._ranker.rerank(self._request(query=asked.query.text, passages=passages))
        scores = {each["id"]: _logit(float(each["score"])) for each in ranked}
        return [scores[number] for number in range(len(passages))]

    def padding(self) -> Padding | None:
        return None

    def close(self) -> None:
        pass


def _logit(probability: float) -> float:
    bounded = min(max(probability, CLOSEST_TO_ONE), 1 - CLOSEST_TO_ONE)
    return math.log(bounded / (1 - bounded))
