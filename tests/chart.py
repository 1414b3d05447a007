"""The Helm chart, rendered by Helm's own engine, in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

helm_python = pytest.importorskip("helm_python", reason="helm-python-sdk, Helm's engine, has no wheel for this machine")

Manifest = dict[str, Any]

REPOSITORY = Path(__file__).parents[1]
CHART = REPOSITORY / "deploy/helm/rerank-worker"
EXAMPLES = REPOSITORY / "examples/kubernetes"
NAMESPACE = "rag"

INFO = 1
"""The severity of what Helm's linter would only recommend, such as an icon."""


class RefusedError(Exception):
    """Helm does not render the chart with these values, and says why."""


class Chart:
    """The chart of the repository, or an archive of it; ``render`` may be called any number of times."""

    def __init__(self, path: Path = CHART) -> None:
        self._chart = helm_python.Chart.load(path)

    def packaged(self, folder: Path) -> "Chart":
        """Return the chart as an archive in ``folder`` brings it to others."""
        return Chart(Path(helm_python.package(CHART, destination=folder)))

    def render(self, values: Mapping[str, Any] | None = None) -> list[Manifest]:
        """Return what Helm would send to the cluster, for a release ``rerank-worker``. RefusedError: the reason."""
        try:
            rendered = self._chart.render(dict(values or {}), name="rerank-worker", namespace=NAMESPACE)
        except (helm_python.HelmRenderError, helm_python.HelmValuesError) as error:
            raise RefusedError(str(error)) from error
        texts = [text for path, text in sorted(rendered.items()) if path.endswith(".yaml")]
        return [document for text in texts for document in yaml.safe_load_all(text) if document]

    def lint(self, values: Mapping[str, Any]) -> list[str]:
        """Return what Helm's linter warns of or finds wrong."""
        report = helm_python.lint(CHART, dict(values), namespace=NAMESPACE, strict=True)
        return [message["error"] for message in report["messages"] if message["severity"] > INFO] + report["errors"]
