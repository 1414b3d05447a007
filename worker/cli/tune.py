"""`rerank-worker tune`: measure the machine, and say what to set."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from worker.cli.terminal import err, out

if TYPE_CHECKING:
    from worker.rerank.tune import Load, Refusal, Trial

QUERIES = 8
CANDIDATES = 20


def tune(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to measure one combination.")] = 3.0,
) -> None:
    """Measure backends, dtypes, threads and batch sizes with the configured model, and print what to set.

    The load is 8 queries at once, 20 passages of the sample corpus each. Stop whatever else uses the machine first,
    unless it runs beside the worker in production too.
    """
    from worker.models import resolve as models
    from worker.rerank.tune import Refusal, Tuner, fastest
    from worker.settings.load import load_settings

    settings = load_settings()
    model = models.resolve("cross-encoder", settings)
    out.print(f"measuring {model.name}, about {seconds:g} s a line", highlight=False)
    tuner = Tuner(model, settings.rerank, _load(), cache_dir=settings.cache_dir, seconds=seconds)
    outcomes = []
    with err.status("") as status:
        for outcome in tuner.outcomes():
            outcomes.append(outcome)
            status.update(f"{len(outcomes)} done, the last: {_told(outcome)}")
    trials = [outcome for outcome in outcomes if not isinstance(outcome, Refusal)]
    out.print(_table(trials))
    for refusal in (outcome for outcome in outcomes if isinstance(outcome, Refusal)):
        out.print(f"not tried: {_named(refusal)}: {refusal.reason}", style="dim", highlight=False)
    exact = fastest([trial for trial in trials if trial.settings.dtype == "float32"])
    _recommend("fastest with the model's own scores (float32)", exact)
    if (best := fastest(trials)) is not exact:
        _recommend("fastest of all; measure the ranking on your own documents first", best)


def _load() -> "Load":
    from worker.documents.samples.corpus import documents, questions
    from worker.domain import Candidate, Query

    corpus = documents()
    return [
        (
            Query(question.id, question.text, "tune", CANDIDATES, 3),
            [
                Candidate(passage.id, passage.text, rank, 0.0)
                for rank in range(1, CANDIDATES + 1)
                for passage in [corpus[(7 * number + rank) % len(corpus)]]
            ],
        )
        for number, question in enumerate(questions()[:QUERIES])
    ]


def _table(trials: "list[Trial]") -> Table:
    table = Table("backend", "threads", "tokens", "pairs/s", "ms/query", "scores", "same top 3")
    for trial in sorted(trials, key=lambda each: -each.pairs_per_s):
        settings = trial.settings
        table.add_row(
            _named(trial),
            str(settings.threads or "all"),
            "default" if settings.batch_tokens is None else f"{settings.batch_tokens:,}",
            f"{trial.pairs_per_s:,.0f}",
            f"{trial.query_ms:,.1f}",
            f"± {trial.largest_difference:.1g}",
            f"{trial.same_top:.0%}",
        )
    return table


def _recommend(why: str, trial: "Trial") -> None:
    out.print(f"\n[bold]{why}[/bold]", highlight=False)
    for name in ("backend", "dtype", "threads", "batch_tokens"):
        value: Any = getattr(trial.settings, name)
        if value is not None:
            out.print(f"RERANK_WORKER_RERANK__{name.upper()}={value}", highlight=False)


def _told(outcome: "Trial | Refusal") -> str:
    from worker.rerank.tune import Trial

    speed = f"{outcome.pairs_per_s:,.0f} pairs/s" if isinstance(outcome, Trial) else "not to be had"
    return f"{_named(outcome)}, {speed}"


def _named(outcome: "Trial | Refusal") -> str:
    return f"{outcome.settings.backend} {outcome.settings.dtype}"
