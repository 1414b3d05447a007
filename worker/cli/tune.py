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

    The load is 8 queries at once, 20 passages of the sample corpus each, scored with the machine to itself and beside a
    process that keeps a core busy. Of settings that are as fast, within 3 %, the one that loses least to it is printed.
    Stop whatever else uses the machine first.
    """
    from worker.models import resolve as models
    from worker.rerank.tune import Refusal, Tuner, recommended
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
    alike = [trial for trial in trials if trial.settings.dtype == "float32"]
    exact = recommended(alike)
    _recommend("fastest with the model's own scores (float32)", exact, alike)
    if (best := recommended(trials)) is not exact:
        _recommend("fastest of all; measure the ranking on your own documents first", best, trials)


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
    table = Table("backend", "threads", "tokens", "pairs/s", "with a neighbour", "ms/query", "scores", "same top 3")
    for trial in sorted(trials, key=lambda each: -each.pairs_per_s):
        settings = trial.settings
        table.add_row(
            _named(trial),
            str(settings.threads or "all"),
            "default" if settings.batch_tokens is None else f"{settings.batch_tokens:,}",
            f"{trial.pairs_per_s:,.0f}",
            f"{trial.beside_pairs_per_s:,.0f}",
            f"{trial.query_ms:,.1f}",
            f"± {trial.largest_difference:.1g}",
            f"{trial.same_top:.0%}",
        )
    return table


def _recommend(why: str, trial: "Trial", others: "list[Trial]") -> None:
    from worker.rerank.tune import ALIKE, steadiest

    out.print(f"\n[bold]{why}[/bold]", highlight=False)
    for line in _variables(trial):
        out.print(line, highlight=False)
    out.print(f"worst case, beside a busy process: {_both(trial)}", highlight=False)
    steady = steadiest(others)
    if steady.beside_pairs_per_s * (1 - ALIKE) > trial.beside_pairs_per_s:
        out.print(f"steadier, if other work shares the machine: {_both(steady)}, with", highlight=False)
        for line in _variables(steady):
            out.print(f"  {line}", highlight=False)


def _variables(trial: "Trial") -> list[str]:
    names = ("backend", "dtype", "threads", "batch_tokens")
    values: dict[str, Any] = {name: getattr(trial.settings, name) for name in names}
    return [f"RERANK_WORKER_RERANK__{name.upper()}={value}" for name, value in values.items() if value is not None]


def _both(trial: "Trial") -> str:
    return f"{trial.beside_pairs_per_s:,.0f} pairs/s, {trial.pairs_per_s:,.0f} alone"


def _told(outcome: "Trial | Refusal") -> str:
    from worker.rerank.tune import Trial

    speed = f"{outcome.pairs_per_s:,.0f} pairs/s" if isinstance(outcome, Trial) else "not to be had"
    return f"{_named(outcome)}, {speed}"


def _named(outcome: "Trial | Refusal") -> str:
    return f"{outcome.settings.backend} {outcome.settings.dtype}"
