"""What must be reached."""

import pytest

from tests.unit.evaluation.conftest import Reported
from worker.errors import FatalError
from worker.evaluation.bars import fallen_below, parse_bars, require_known


def test_bars_are_read() -> None:
    assert parse_bars(["nDCG@10=0.6", "gain = 0"]) == {"nDCG@10": 0.6, "gain": 0.0}


@pytest.mark.parametrize("text", ["nDCG@10", "nDCG@10=", "nDCG@10=high"])
def test_what_is_no_bar_is_told(text: str) -> None:
    with pytest.raises(FatalError, match="is not METRIC=VALUE"):
        parse_bars([text])


def test_an_unknown_measure_is_told_with_those_there_are() -> None:
    require_known({"P@3": 0.1, "gain-low": 0}, ["nDCG@10", "P@3"])
    with pytest.raises(FatalError, match=r"knows no 'ndcg'; what is measured: nDCG@10, P@3, gain, gain-low"):
        require_known({"ndcg": 0.1}, ["nDCG@10", "P@3"])


def test_only_what_is_below_is_told(reported: Reported) -> None:
    report = reported([9.0])
    gain = report.reranked[0].differences["nDCG@10"]
    assert fallen_below(report, {"nDCG@10": 0.9, "gain": gain.mean, "gain-low": 0.0}) == []
    assert fallen_below(report, {"nDCG@10": 1.1, "gain-low": gain.mean}) == [
        f"nDCG@10 is {report.best.values['nDCG@10']:.3f}, below 1.1 (model-0)",
        f"gain-low is {gain.low:.3f}, below {gain.mean:g} (model-0)",
    ]
