import xml.etree.ElementTree as ElementTree

import pytest

from hf_hardneg.errors import ConfigError
from hf_hardneg.reports.charts import BAND, BAR
from hf_hardneg.reports.dot_plots import Dot, DotPlot

SVG = "{http://www.w3.org/2000/svg}"


def test_dots_stand_where_their_values_are():
    dots = [Dot("a", 0.5, 0.4, 0.6, is_marked=True), Dot("b <i>" + "b" * 40, 0.2, 0.2, 0.2)]
    plot = DotPlot(title="T", x_label="x", dots=dots, reference=0.1, reference_label="start")
    chart = ElementTree.fromstring(plot.svg())
    circles = chart.findall(f"{SVG}circle")
    ticks = {text.text: float(text.get("x")) for text in chart.iter(f"{SVG}text") if text.get("y") == "104.0"}
    left, right = ticks["0.1"], ticks["0.6"]
    places = [left + (right - left) * (value - 0.1) / 0.5 for value in (0.5, 0.2)]
    assert [float(circle.get("cx")) for circle in circles] == pytest.approx(places, abs=0.2)
    assert [circle.get("fill") for circle in circles] == [BAND, BAR]
    names = [text.text for text in chart.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert names == ["a", "b <i>" + "b" * 24 + "…"]
    assert "a: 0.5 (0.4 to 0.6)" in chart.find(f"{SVG}desc").text and "start: 0.1." in chart.find(f"{SVG}desc").text


@pytest.mark.parametrize("dots", [[], [Dot("a", float("nan"), 0, 1)]])
def test_what_cannot_be_drawn_is_refused(dots):
    with pytest.raises(ConfigError, match="allowed is at least one, of finite numbers"):
        DotPlot(title="T", x_label="x", dots=dots)
