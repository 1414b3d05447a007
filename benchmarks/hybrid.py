"""Is a lexical leg worth it? Recall and ranking with it and without, SQLite's FTS5 beside tantivy.

``python -m benchmarks.hybrid [--dl21 FOLDER] [--chunks N]`` writes ``results/hybrid.json``; some 5 minutes, most of
them for embedding, and for scoring what any order has among its first 20. Three sets of questions:

- `sample`: the sample corpus with its own questions and judgements.
- `codes`: MADE UP: the sample corpus again, a code such as `ERR-4711-X` in each passage, and a question for each code.
- `dl21`: TREC Deep Learning 2021 (``candidates.jsonl.gz`` and ``qrels.txt``, not ours to ship), all passages together.
  They are BM25's first 100 of each question: what BM25 had not found is not there, which flatters the lexical leg.

Quality does not depend on the machine. Latencies are of the lexical leg alone, in a collection of ``--chunks`` chunks
(the passages over and over), and need a quiet one; processor time bears a busy one. tantivy is measured where it is
installed; it is no dependency.
"""

import argparse
import gzip
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import percentile, print_table, save, significant
from benchmarks.machine import facts
from worker.documents.samples import corpus
from worker.domain import Candidate
from worker.evaluation.measures import measured
from worker.evaluation.questions import Question
from worker.evaluation.rankings import Found, Scored, in_order
from worker.evaluation.readers.qrels import read_qrels
from worker.evaluation.reranking import Subject, score
from worker.evaluation.significance import difference
from worker.models.resolve import resolve
from worker.recall.embedder import SentenceEmbedder
from worker.recall.lexical.file import LexicalFile
from worker.recall.lexical.fusion import fused
from worker.recall.lexical.words import any_of, terms
from worker.settings import Settings

TOP_K = 20
CODES_ASKED = 50
PAGE = 1_000
UNHURRIED_S = 600.0
MEASURES = (f"R@{TOP_K}", "nDCG@10")
Search = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Texts by id, and the questions whose answers among them are known."""

    name: str
    texts: Mapping[str, str]
    questions: Sequence[Question]
    relevant_from: int = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dl21", type=Path, help="the folder of TREC Deep Learning 2021")
    parser.add_argument("--chunks", type=int, default=100_000, help="of the collection that is timed")
    options = parser.parse_args()
    sets = [sample(), codes()] + ([dl21(options.dl21)] if options.dl21 else [])
    settings = Settings(models="offline")
    result: dict[str, Any] = {"what": "hybrid recall; see benchmarks/hybrid.py", "machine": facts(), "top_k": TOP_K}
    with tempfile.TemporaryDirectory(prefix="rerank-benchmark-") as folder:
        result["quality"] = {each.name: quality(each, settings, Path(folder)) for each in sets}
        result["speed"] = speed(sets[-1], options.chunks, Path(folder))
    print(f"written to {save('hybrid', result)}")
    tell(result)


def sample() -> Judged:
    texts = {document.id: document.text for document in corpus.documents()}
    asked = [Question(each.id, each.text, each.relevant) for each in corpus.questions() if each.relevant]
    return Judged("sample", texts, asked)


def codes() -> Judged:
    """A code in each passage, unlike the others by a digit or a letter; asked for are some of them."""
    draw = random.Random(7)
    numbers = draw.sample(range(4_000, 5_000), len(corpus.documents()))
    texts, questions = {}, []
    for document, number in zip(corpus.documents(), numbers, strict=True):
        code = f"ERR-{number}-{draw.choice('XYZ')}"
        texts[document.id] = f"{document.text} It is reported as {code}."
        questions.append(Question(f"code-{number}", f"What is wrong when {code} is reported?", {document.id: 1}))
    return Judged("codes", texts, draw.sample(questions, CODES_ASKED))


def dl21(folder: Path) -> Judged:
    with gzip.open(folder / "candidates.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = {passage["id"]: passage["text"] for row in rows for passage in row["passages"]}
    grades = read_qrels(folder / "qrels.txt")
    # What is not in the pool can't be found by anybody.
    asked = [
        Question(row["qid"], row["query"], {key: grade for key, grade in grades[row["qid"]].items() if key in texts})
        for row in rows
    ]
    # 2 and 3 are TREC's "relevant"; 1 is "on the topic".
    return Judged("dl21", texts, [each for each in asked if each.is_answerable(2)], relevant_from=2)


def quality(judged: Judged, settings: Settings, folder: Path) -> dict[str, Any]:
    """Return what each order's first 20 hold, before and after the cross-encoder, and how that differs from dense."""
    print(f"{judged.name}: {len(judged.texts):,} texts, {len(judged.questions)} questions ...", flush=True)
    orders = recalled(judged, settings, folder)
    found: Found = {
        each.id: [
            Candidate(text, judged.texts[text], rank, 0.0)
            for rank, text in enumerate(
                dict.fromkeys(chain.from_iterable(order[each.id] for order in orders.values())), 1
            )
        ]
        for each in judged.questions
    }
    most = max(map(len, found.values()))
    subject = Subject(settings, resolve("cross-encoder", settings), "")
    scored = score(subject, judged.questions, found, top_ks=[most], watch=lambda *_: None)
    values = {name: values_of(judged, order, found, scored) for name, order in orders.items()}
    return {
        "texts": len(judged.texts),
        "questions": len(judged.questions),
        "relevant_from": judged.relevant_from,
        "orders": {
            name: {
                measure: {
                    "mean": significant(float(np.mean(each))),
                    **({} if name == "dense" else against(values["dense"][measure], each)),
                }
                for measure, each in of.items()
            }
            for name, of in values.items()
        },
    }


def recalled(judged: Judged, settings: Settings, folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return the first 20 of each question, by order."""
    model = resolve("embedding", settings)
    embedder = SentenceEmbedder(model.path, model.name)
    ids, texts = list(judged.texts), list(judged.texts.values())
    vectors = embedder.embed_documents(texts)
    asked = embedder.embed_queries([each.text for each in judged.questions])
    # Exactly, so that what an approximate index would miss blurs nothing.
    nearest = np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :TOP_K]
    dense = {each.id: [ids[row] for row in rows] for each, rows in zip(judged.questions, nearest, strict=True)}
    orders = {"dense": dense}
    for name, new in engines().items():
        search = new(judged.texts, folder / f"{judged.name}-{name}")
        lexical = {each.id: search(each.text) for each in judged.questions}
        orders[f"lexical ({name})"] = lexical
        orders[f"hybrid ({name})"] = {key: fused(dense[key], lexical[key])[:TOP_K] for key in dense}
    return orders


def values_of(judged: Judged, order: Mapping[str, list[str]], found: Found, scored: Scored) -> dict[str, Any]:
    before = [order[each.id] for each in judged.questions]
    places = {key: {each.document_id: place for place, each in enumerate(of)} for key, of in found.items()}
    after = []
    for each in judged.questions:
        chosen = [places[each.id][text] for text in order[each.id]]
        candidates = [replace(found[each.id][place], recall_rank=rank) for rank, place in enumerate(chosen, 1)]
        scores = [scored.scores[each.id][place] for place in chosen]
        after.append([candidate.document_id for candidate in in_order(candidates, scores, TOP_K)])
    recall, ndcg = MEASURES
    first = measured(MEASURES, judged.questions, before, judged.relevant_from)
    second = measured([ndcg], judged.questions, after, judged.relevant_from)
    return {recall: first[recall], ndcg: first[ndcg], f"{ndcg} reranked": second[ndcg]}


def against(dense: Any, other: Any) -> dict[str, Any]:
    """Return the difference to dense, question by question, with its 95 % interval."""
    found = difference(dense, other)
    interval = {"difference": found.mean, "low": found.low, "high": found.high, "p": found.p}
    rounded = {name: significant(value, 3) for name, value in interval.items()}
    return rounded | {"wins": found.wins, "losses": found.losses}


def engines() -> dict[str, Callable[[Mapping[str, str], Path], Search]]:
    """Return how each engine is filled and asked; tantivy's only where it is installed."""
    try:
        import tantivy  # noqa: F401, PLC0415 - measured beside, and no dependency
    except ModuleNotFoundError:
        print("tantivy is not installed: FTS5 alone")
        return {"fts5": fts5}
    return {"fts5": fts5, "tantivy": tantivy_of}


def fts5(texts: Mapping[str, str], folder: Path) -> Search:
    file = LexicalFile(folder / "words.sqlite3", writes=True)
    ids = list(texts)
    file.fill(
        lambda: ({each: texts[each] for each in ids[at : at + PAGE]} for at in range(0, len(ids), PAGE)), anew=False
    )

    def search(text: str) -> list[str]:
        [found] = file.search([text], limit=TOP_K, deadline=time.monotonic() + UNHURRIED_S)
        return found

    return search


def tantivy_of(texts: Mapping[str, str], folder: Path) -> Search:
    import tantivy  # noqa: PLC0415 - as above

    folder.mkdir(parents=True)
    schema = (
        tantivy.SchemaBuilder()
        .add_text_field("id", stored=True, tokenizer_name="raw")
        .add_text_field("text", tokenizer_name="en_stem")
        .build()
    )
    index = tantivy.Index(schema, path=str(folder))
    writer = index.writer(heap_size=100_000_000, num_threads=1)
    for key, text in texts.items():
        writer.add_document(tantivy.Document(id=key, text=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def search(text: str) -> list[str]:
        query, _ = index.parse_query_lenient(any_of(terms(text)), ["text"])
        return [searcher.doc(at)["id"][0] for _, at in searcher.search(query, TOP_K).hits]

    return search


def speed(judged: Judged, chunks: int, folder: Path) -> dict[str, Any]:
    """Return what filling and asking cost each engine at so many chunks: the texts, each with a word of its own."""
    known = list(judged.texts.values())
    texts = {f"c{number}": f"{known[number % len(known)]} n{number}" for number in range(chunks)}
    asked = [each.text for each in judged.questions]
    found: dict[str, Any] = {"of": judged.name, "chunks": chunks}
    for name, new in engines().items():
        place = folder / f"speed-{name}"
        begun_s = time.perf_counter()
        search = new(texts, place)
        filled_s = time.perf_counter() - begun_s
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        first = [timed_ms(search, text) for text in asked]
        later = [timed_ms(search, text) for _ in range(3) for text in asked]
        found[name] = {
            "filled_per_s": significant(chunks / filled_s),
            "megabytes": significant(size / 1e6),
            # A term's frequency is counted once and remembered for minutes.
            "first_p50_ms": significant(percentile(first, 0.5)),
            "p50_ms": significant(percentile(later, 0.5)),
            "p95_ms": significant(percentile(later, 0.95)),
            "cpu_p50_ms": significant(percentile([timed_ms(search, text, time.thread_time) for text in asked], 0.5)),
        }
    return found


def timed_ms(search: Search, text: str, clock_s: Callable[[], float] = time.perf_counter) -> float:
    begun_s = clock_s()
    search(text)
    return (clock_s() - begun_s) * 1000


def tell(result: dict[str, Any]) -> None:
    for name, of in result["quality"].items():
        print(f"\n{name}: {of['texts']:,} texts, {of['questions']} questions")
        columns = list(next(iter(of["orders"].values())))
        rows = [[order, *(_cell(values[column]) for column in columns)] for order, values in of["orders"].items()]
        print_table(["", *columns], rows)
    timed = {name: of for name, of in result["speed"].items() if isinstance(of, dict)}
    print(f"\n{result['speed']['chunks']:,} chunks")
    print_table(["", *next(iter(timed.values()))], [[name, *of.values()] for name, of in timed.items()])


def _cell(value: Mapping[str, float]) -> str:
    if "low" not in value:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} ({value['difference']:+.3f} [{value['low']:+.3f}, {value['high']:+.3f}])"


if __name__ == "__main__":
    main()
