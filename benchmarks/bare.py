"""Questions of the sample corpus, and the very pairs a worker scores for them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.events import QueryEvent
from worker.documents.files.ingest import ingest
from worker.documents.samples.corpus import documents, questions
from worker.domain import Candidate, Query
from worker.models.offline_cross_encoder import CROSS_ENCODER_NAME
from worker.models.resolve import resolve
from worker.recall.chroma_search import ChromaSearch
from worker.recall.embedder import SentenceEmbedder, load_embedder
from worker.rerank.backends.device import Batches
from worker.rerank.pairs.batch import EncodedPair
from worker.rerank.scorer import Scorer, load_scorer
from worker.settings import RecallSettings, RerankSettings, Settings

TOP_K = 20
COLLECTION = "benchmark"


@dataclass(frozen=True)
class Bare:
    """Recall and scorer in this process, with nothing around them."""

    settings: Settings
    embedder: SentenceEmbedder
    search: ChromaSearch
    scorer: Scorer

    def query(self, number: int) -> Query:
        """Return the query that the event of this number asks."""
        return Query(f"q{number}", text(number), COLLECTION, TOP_K, 3)

    def recall(self, queries: Sequence[Query]) -> list[list[Candidate]]:
        """Return each query's candidates; raises what recall raised."""
        found = []
        vectors = self.embedder.embed_queries([query.text for query in queries])
        for result in self.search.find(queries, vectors, within_s=self.settings.recall.timeout_s):
            if isinstance(result, Exception):
                raise result
            found.append(list(result))
        return found

    def alone(self, number: int) -> tuple[float, float]:
        """Recall, encode and score one query by itself; return the seconds of recall and of the rest."""
        query = self.query(number)
        begun_s = time.perf_counter()
        [candidates] = self.recall([query])
        recalled_s = time.perf_counter()
        self.scorer.start(self.scorer.encode_all([(query.text, [candidate.text for candidate in candidates])])[0])()
        return recalled_s - begun_s, time.perf_counter() - recalled_s

    def pairs(self, count: int) -> list[EncodedPair]:
        """Return the pairs of the first ``count`` queries, encoded and sorted by length: the least padding there is."""
        queries = [self.query(number) for number in range(count)]
        pairs = [
            pair
            for query, candidates in zip(queries, self.recall(queries), strict=True)
            for pair in self.scorer.encode_all([(query.text, [candidate.text for candidate in candidates])])[0]
        ]
        return sorted(pairs, key=lambda pair: pair.tokens)

    def score_all(self, pairs: Sequence[EncodedPair]) -> float:
        """Score pairs in full batches of the worker's own budgets and return the seconds."""
        limits = self.scorer.batches
        begun_s = time.perf_counter()
        start = 0
        while start < len(pairs):
            end = min(start + limits.pairs, len(pairs))
            while end - start > 1 and cost([pair.tokens for pair in pairs[start:end]], limits) > limits.tokens:
                end -= 1
            self.scorer.start(pairs[start:end])()
            start = end
        return time.perf_counter() - begun_s


def cost(tokens: Sequence[int], limits: Batches) -> int:
    """Return what a batch of pairs of so many tokens takes."""
    return len(tokens) * max(tokens) if limits.padded else sum(tokens)


def text(number: int) -> str:
    """Return a question no other number asks, so that nothing gains by remembering it."""
    asked = questions()
    return f"{asked[number % len(asked)].text} ({number})"


def event(number: int, candidates: int = TOP_K) -> QueryEvent:
    """Return the event of this number: no answer is generated."""
    return QueryEvent(id=f"q{number}", text=text(number), top_k=candidates, generate=False, collection=COLLECTION)


def bare(recall: RecallSettings, threads: int) -> Bare:
    """Ingest the sample corpus and load recall and scorer; ``threads`` are torch's, 0 for all there are."""
    rerank = RerankSettings(model=CROSS_ENCODER_NAME, threads=threads)
    settings = Settings(models="offline", recall=recall, rerank=rerank)
    ingest(documents(), settings=settings)
    embedder = load_embedder(resolve("embedding", settings), settings)
    search = ChromaSearch(recall, embedder)
    scorer = load_scorer(resolve("cross-encoder", settings), rerank, settings.cache_dir)
    return Bare(settings, embedder, search, scorer)
