"""`rerank-worker evaluate`: is reranking worth it on these documents, and what to set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from worker.cli.terminal import err, out, watching

EXIT_BELOW = 4
MOST = 1_000
"""Candidates of a query, and contexts: what events and settings allow."""


def evaluate(
    queries: Annotated[
        Path | None,
        typer.Option(help="Questions: JSON lines (BEIR's, or with `relevant`), TREC topics or `id<tab>text`."),
    ] = None,
    qrels: Annotated[Path | None, typer.Option(help="Judgements of documents: BEIR's table or TREC's qrels.")] = None,
    collection: Annotated[
        str | None, typer.Option(metavar="NAME", help="Collection to recall from; the configured one if not given.")
    ] = None,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Index these files for the occasion and recall from there; as for `ingest`."),
    ] = None,
    from_topic: Annotated[
        bool, typer.Option("--from-topic", help="Take the answers on the answer topic that carried their candidates.")
    ] = False,
    candidates: Annotated[
        Path | None,
        typer.Option(help="JSON lines of answers, or of questions with their passages, recalled elsewhere."),
    ] = None,
    top_k: Annotated[
        str | None,
        typer.Option(metavar="COUNTS", help="Numbers of candidates to try, e.g. 5,10,20; compared at the most."),
    ] = None,
    top_n: Annotated[str | None, typer.Option(metavar="COUNTS", help="Numbers of contexts to try, e.g. 1,3,5.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A reranker, instead of the configured one; give several.")
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="BACKEND[:DTYPE]", help="Run it so, e.g. onnx or torch:bfloat16; give several."),
    ] = None,
    cosine: Annotated[
        bool, typer.Option("--cosine", help="Compare with the order by the embedding model alone.")
    ] = False,
    relevant_from: Annotated[
        int, typer.Option(min=1, metavar="GRADE", help="The lowest grade that counts as relevant.")
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=2, metavar="COUNT", help="Only the first questions of either kind.")
    ] = None,
    judge: Annotated[
        Literal["llm"] | None,
        typer.Option(help="Have the configured LLM grade a sample too, and show how far it agrees; changes no figure."),
    ] = None,
    judge_sample: Annotated[int, typer.Option(min=1, metavar="COUNT", help="Pairs that it grades.")] = 60,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Exit with 4 if the best reranker is below: nDCG@10=0.6, gain=0, gain-low=0 (the interval's end).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file, with plots.")] = None,
) -> None:
    """Say whether reranking is worth it on your documents, by questions whose answers are known, and what to set.

    Recall order against reranked order: measures with their difference, its 95 % interval and p; which questions gain
    and lose; what fewer candidates and contexts would give and cost; what a min_score would refuse.
    """
    if sum(map(bool, (collection, corpus, from_topic, candidates))) > 1:
        raise typer.BadParameter("give one of --collection, --corpus, --from-topic and --candidates")
    if queries is None and candidates is None and not from_topic:
        raise typer.BadParameter("give --queries, and --qrels unless the questions bring their judgements")
    from worker.evaluation.bars import fallen_below, parse_bars
    from worker.evaluation.evaluate import Request
    from worker.evaluation.evaluate import evaluate as evaluated
    from worker.evaluation.page import require_page, write_page
    from worker.evaluation.terminal import print_report
    from worker.settings.load import load_settings

    if html is not None:
        require_page()
    settings = load_settings()
    if collection is not None:
        settings = settings.model_copy(update={"recall": settings.recall.model_copy(update={"collection": collection})})
    request = Request(
        queries=queries,
        qrels=qrels,
        corpus=corpus or (),
        candidates=candidates,
        from_topic=from_topic,
        top_ks=_counts("--top-k", top_k),
        top_ns=_counts("--top-n", top_n),
        relevant_from=relevant_from,
        limit=limit,
        models=model or (),
        backends=backend or (),
        cosine=cosine,
        judge_sample=None if judge is None else judge_sample,
        bars=parse_bars(fail_below or ()),
    )
    with watching() as watch:
        report = evaluated(settings, request, watch)
    if as_json:
        print(report.model_dump_json(indent=2), flush=True)  # noqa: T201 - for other programs, never wrapped
    else:
        print_report(out, report)
    # After it was told: what is wrong with a file's place must not lose what took an hour to measure.
    if html is not None:
        write_page(html, report)
    below = fallen_below(report, request.bars)
    for line in below:
        err.print(line, style="bold red", markup=False, highlight=False)
    if below:
        raise typer.Exit(EXIT_BELOW)


def _counts(option: str, text: str | None) -> list[int]:
    if text is None:
        return []
    try:
        counts = sorted({int(each) for each in text.split(",")})
    except ValueError as error:
        raise typer.BadParameter(f"{option} takes numbers with commas between them, not {text!r}") from error
    if counts[0] < 1 or counts[-1] > MOST:
        raise typer.BadParameter(f"{option}: from 1 to {MOST:,}")
    return counts
