"""The picture shows the figures it is given."""

import json
from typing import Any
from xml.etree import ElementTree as ET

from benchmarks.knobs import RESULTS, picture
from benchmarks.picture import knobs_figure, knobs_svg


def point(knob: str, value: float, rate: float) -> dict[str, Any]:
    spread = {"median": rate, "min": rate - 1, "max": rate + 2}
    return {"knob": knob, "value": value, "pairs_per_s": spread, "latency_p50_ms": spread}


RESULT = {"what": "t & u", "mix": "short", "points": [point("a<b", 8, 50.0), point("a<b", 16, 60.0)]}


def test_a_plot_has_a_point_a_value_and_escapes_what_it_is_told() -> None:
    drawn = knobs_svg(RESULT, {"a<b": 8})
    assert "a&lt;b" in drawn
    assert "t &amp; u" in drawn
    ET.fromstring(drawn)  # noqa: S314 - written here
    above, below = knobs_figure(RESULT, {"a<b": 8}).axes
    for axes in (above, below):
        [points] = [each for each in axes.collections if len(each.get_offsets()) == 2]
        assert points.get_offsets().tolist() == [[0, 50.0], [1, 60.0]]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16"]


def test_an_effect_looks_as_large_as_it_is() -> None:
    above, below = knobs_figure(RESULT, {}).axes
    assert above.get_ylim()[0] == below.get_ylim()[0] == 0


def test_the_committed_picture_is_that_of_the_committed_figures() -> None:
    result = json.loads((RESULTS / "knobs.json").read_text(encoding="utf-8"))
    drawn, committed = ET.fromstring(picture(result)), ET.parse(RESULTS / "knobs.svg").getroot()  # noqa: S314 - ours
    texts = ["".join(each.itertext()).strip() for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["".join(each.itertext()).strip() for each in committed.iter("{http://www.w3.org/2000/svg}text")]
    assert {f"{each['value']:g}" for each in result["points"]} <= set(texts), (
        "run `python -m benchmarks.knobs --redraw`"
    )
