"""Charts are well-formed, hold every value, and never run text from data."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pipelines.report.charts import Dot, bars, lines, number, paths, percent

NASTY = '<script>alert("x")</script> & co'


def svg(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.partition("<p class")[0])


@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_every_value_is_drawn_with_its_title(count):
    labels = [f"span {n}" for n in range(count)]
    chart = svg(lines(labels, {"a": [float(n) for n in range(count)], "b": [None] * count}))
    assert len(chart.findall("circle")) == count
    chart = svg(bars(labels, {"a": [1.0] * count, "b": [2.0] * count}))
    assert len(chart.findall("rect")) == 2 * count


def test_higher_values_stand_higher():
    circles = svg(lines(["x", "y"], {"a": [1.0, 2.0]})).findall("circle")
    assert float(circles[0].get("cy")) > float(circles[1].get("cy"))


def test_text_from_data_is_text():
    text = lines([NASTY], {NASTY: [1.0], "b": [2.0]}) + bars([NASTY], {NASTY: [1.0]})
    text += paths([Dot(0.0, 0.0, 1, 1.0, NASTY, NASTY)])
    assert "<script" not in text


def test_points_of_one_path_are_linked():
    dots = [Dot(0, 0, 1, 0.5, "a"), Dot(1, 1, 1, 1.0, "b", "here"), Dot(2, 2, 2, 1.0, "c")]
    chart = svg(paths(dots))
    assert [len(link.get("points").split()) for link in chart.findall("polyline")] == [2, 1]
    assert [text.text for text in chart.findall("text")] == ["here"]
    assert paths([]) == ""


def test_numbers_are_short():
    assert (percent(0.1234), number(1234.5), number(3.0), number(0.5)) == ("12.3 %", "1,234", "3", "0.50")
