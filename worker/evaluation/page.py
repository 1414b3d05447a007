"""A report as one HTML file that needs nothing else: for people who look rather than read."""

from pathlib import Path

from worker.errors import FatalError
from worker.evaluation.measures import PRIMARY, require
from worker.evaluation.report import Report
from worker.evaluation.verdict import chance, interval, outcome


def require_page() -> None:
    """Raise FatalError if a library of the page is not installed: told before anything is scored."""
    require("jinja2", "matplotlib")


def write_page(path: Path, report: Report) -> None:
    """Write the page; blocks for a second per reranker. FatalError if the file can't be written."""
    try:
        path.write_text(page(report), encoding="utf-8")
    except OSError as error:
        raise FatalError(f"{path} cannot be written: {error.strerror}") from error


def page(report: Report) -> str:
    """Return the page. What comes from elsewhere, questions above all, is escaped."""
    import jinja2  # noqa: PLC0415 - an extra

    from worker.evaluation import plots  # noqa: PLC0415 - an extra

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("worker.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"interval": interval, "chance": chance, "outcome": outcome}
    pictures = [
        {
            "changes": plots.changes(each, number),
            "contexts": plots.contexts(each, number),
            "refusals": plots.refusals(report, each, number),
        }
        for number, each in enumerate(report.reranked)
    ]
    return environment.get_template("page.html.jinja").render(
        report=report,
        primary=PRIMARY,
        differences=plots.differences(report),
        costs=plots.costs(report),
        pictures=pictures,
        colours=[plots.colour(number) for number in range(len(report.reranked))],
    )
