import math
import xml.etree.ElementTree as ElementTree

import pytest

from hf_hardneg.errors import ConfigError
from hf_hardneg.reports.charts import BAND, BAR, INK, Histogram, Marked
from hf_hardneg.reports.hardness import EDGES

SVG = "{http://www.w3.org/2000/svg}"


def chart_of(edges, counts, **options):
    return Histogram(**{"title": "Ranks", "x_label": "rank", **options}, edges=edges, counts=counts)


def drawn(*given, **options):
    return ElementTree.fromstring(chart_of(*given, **options).svg())


def bars(chart):
    return [one for one in chart.iter(f"{SVG}rect") if one.get("fill") == BAR]


def words(chart, tag="text"):
    return [one.text for one in chart.iter(f"{SVG}{tag}")]


def test_bars_are_as_tall_as_their_counts():
    chart = drawn([0, 1, 2, 4], [3, 0, 1])
    assert [float(one.get("height")) for one in bars(chart)] == pytest.approx([168, 56])
    assert all(float(one.get("y")) + float(one.get("height")) == pytest.approx(212) for one in bars(chart))
    assert words(chart) == ["Ranks", "0", "3", "0", "1", "2", "4", "rank"]
    assert chart.find(f"{SVG}title").text == "Ranks"
    assert chart.find(f"{SVG}desc").text == "Counts by rank. 0 to 1: 3, 1 to 2: 0, 2 to 4: 1."


def test_a_bar_of_one_among_a_million_is_seen():
    assert [float(one.get("height")) for one in bars(drawn([0, 1, 2, 3], [1_000_000, 0, 1]))] == [168, 1]


def test_no_label_leaves_the_picture():
    """At 6.5 units a character, as wide as sans-serif digits of this size are."""
    for edges in ([-1.234e5, 0, 1.234e5], [0.1234, 0.5, 0.8123]):
        for one in drawn(edges, [1, 12_345_678], marked=Marked(0, 1, "x")).iter(f"{SVG}text"):
            room = 6.5 * len(one.text) * {"start": 1, "middle": 0.5, "end": 0}[one.get("text-anchor")]
            assert float(one.get("x")) + room <= 640
            before = 6.5 * len(one.text) * {"start": 0, "middle": 0.5, "end": 1}[one.get("text-anchor")]
            assert float(one.get("x")) - before >= 0


def test_open_ends_and_a_marked_range():
    chart = drawn(EDGES, [1] * 13, marked=Marked(0.05, 0.5, "just right"))
    band = next(one for one in chart.iter(f"{SVG}rect") if one.get("fill") == BAND)
    covered = [one for one in bars(chart) if float(one.get("x")) > float(band.get("x"))]
    assert covered[0].find(f"{SVG}title").text == "0.05 to 0.1: 1"
    assert float(band.get("x")) == float(covered[0].get("x")) - 1
    assert float(band.get("width")) == pytest.approx(5 * (float(covered[0].get("width")) + 2), abs=0.2)
    assert "just right" in words(chart) and "inf" not in words(chart)
    described = chart.find(f"{SVG}desc").text
    assert "below -0.2: 1," in described and described.endswith("from 1: 1. Shaded, 0.05 to 0.5: just right.")
    assert math.inf == EDGES[-1]


def test_a_range_to_the_end_and_within_a_bin():
    band = drawn([0, 1, 2], [1, 1], marked=Marked(0.5, math.inf, "upper")).find(f"{SVG}rect")
    assert (float(band.get("x")), float(band.get("width"))) == (205.0, 399.0)


def test_many_bins_have_few_labels_and_none_is_drawn_where_nothing_was_counted():
    assert len(words(drawn(range(41), range(40)))) <= 14 + 4
    assert not bars(drawn([0, 1], [0])) and words(drawn([0, 1], [0])) == ["Ranks", "0", "0", "1", "rank"]


HOSTILE = ["</svg><script>alert(1)</script>", "a & b < c", '"><image href="x"/>', "nul\x00bell\x07", "\ud800", "]]>"]


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(text):
    plain = drawn([0, 1], [1], marked=Marked(0, 1, "x"))
    chart = drawn([0, 1], [1], title=text, x_label=text, marked=Marked(0, 1, text))
    assert [one.tag for one in chart.iter()] == [one.tag for one in plain.iter()]
    assert [one.attrib for one in chart.iter()] == [one.attrib for one in plain.iter()]
    assert words(chart).count("".join("\ufffd" if one in "\x00\x07\ud800" else one for one in text)) == 3


def test_what_does_not_fit_together():
    with pytest.raises(ConfigError, match="got 2 edges and 2 counts; n counts have n \\+ 1 edges"):
        drawn([0, 1], [1, 2])
    with pytest.raises(ConfigError, match="they must ascend"):
        drawn([0, 2, 1], [1, 2])
    with pytest.raises(ConfigError, match="they must ascend"):
        drawn([0, math.nan, 1], [1, 2])
    with pytest.raises(ConfigError, match="they must ascend"):
        drawn([-math.inf, math.inf], [1])
    with pytest.raises(ConfigError, match="counts are 0 or more"):
        drawn([0, 1], [-1])


def test_lines_of_text_are_as_long_as_their_counts():
    assert chart_of([0, 1, 2, 4], [4, 1, 0]).lines(width=20).splitlines() == [
        "Ranks, by rank",
        "  0 to 1 █████████ 4",
        "  1 to 2 ██▎       1",
        "  2 to 4           0",
    ]
    marked = chart_of(EDGES, [1_000] + [0] * 11 + [1], marked=Marked(0.05, 0.5, "just right")).lines(blocks="#")
    lines = marked.splitlines()
    assert max(map(len, lines)) == 80 and [line[0] for line in lines[1:-1]] == [*"    *****    "]
    assert lines[-1] == "* 0.05 to 0.5: just right"
    assert lines[1].count("#") == 80 - len("  -0.2 to -0.1  1,000") and lines[-2].count("#") == 1


def luminance(colour):
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("colour", "least"), [(BAR, 3), (INK, 4.5)])
def test_colours_are_seen_on_white_and_on_black(colour, least):
    assert 1.05 / (luminance(colour) + 0.05) >= least and (luminance(colour) + 0.05) / 0.05 >= least
