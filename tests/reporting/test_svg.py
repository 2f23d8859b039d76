"""Charts as SVG: places worked out by hand, well-formed whatever the names, labels that can be read."""

import math
import xml.etree.ElementTree as ET

import pytest

from hf_lotus.reporting.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    WIDTH,
    Axis,
    Point,
    bars,
    label_places,
    lines,
    scatter,
    steps,
)

HOSTILE = '<script>alert("x")</script> & "quotes"'
SVG = "{http://www.w3.org/2000/svg}"


def parse(svg):
    return ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def texts(svg):
    return [node.text for node in parse(svg).iter(f"{SVG}text")]


def test_an_axis_maps_its_ends_and_what_lies_between():
    axis = Axis(0.0, 10.0, 100.0, 200.0)
    assert [axis(v) for v in (0, 2.5, 10, 11, -1)] == [100, 125, 200, 200, 100]
    log = Axis(1.0, 100.0, 0.0, 200.0, log=True)
    assert [log(v) for v in (1, 10, 100)] == [0, 100, 200]


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0.0, 1.0, 0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (Axis(-0.3, 0.7, 0, 1), [-0.2, 0, 0.2, 0.4, 0.6]),
        (Axis(0.0, 0.0011, 0, 1), [0, 0.00025, 0.0005, 0.00075, 0.001]),
        (Axis(0.9, 60.0, 0, 1, log=True), [1, 2, 5, 10, 20, 50]),
        (Axis(1e-4, 1.0, 0, 1, log=True), [1e-4, 1e-3, 1e-2, 0.1, 1]),
    ],
)
def test_ticks_are_round_and_within_the_axis(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_an_axis_around_values_holds_them_all_even_if_they_are_one():
    for values in ([0.2, 0.9], [0.5, 0.5], [0.0], [-3.0, 4.0]):
        axis = Axis.around(values, 0, 100)
        assert axis.low < min(values) <= max(values) < axis.high
    assert Axis.around([0.2, 0.9], 0, 1, zero=True).low == 0
    log = Axis.around([5.0], 0, 100, log=True)
    assert log.low < 5 < log.high and log.high / log.low == pytest.approx(10)


def test_marks_stand_where_their_values_are_and_a_cross_marks_the_retrained_model():
    points = [Point("original", 1.0, 0.0, "original"), Point("a", 0.0, 1.0), Point("retrain", 0.5, 0.5, "retrain")]
    tree = parse(scatter(points, "title", "x", "y"))
    circle = next(tree.iter(f"{SVG}circle"))
    x, y = Axis.around([0, 1], LEFT, WIDTH - 12), Axis.around([0, 1], HEIGHT - BOTTOM, 10)
    assert (float(circle.get("cx")), float(circle.get("cy"))) == (x(0), y(1))
    targets = [line for line in tree.iter(f"{SVG}line") if line.get("class") == "target retrain"]
    assert {(line.get("x1"), line.get("x2")) for line in targets} >= {(f"{x(0.5):.1f}", f"{x(0.5):.1f}")}
    shapes = [node.get("class") for node in tree.iter() if (node.get("class") or "").startswith("mark")]
    assert shapes == ["mark method", "mark original", "mark retrain"]


def test_labels_of_marks_in_one_place_do_not_cover_each_other():
    labels = [f"method_{n}" for n in range(8)]
    places = label_places(labels, [(200.0, 150.0)] * 4 + [(390.0, 12.0)] * 4)
    for n, (x, y) in enumerate(places):
        half = len(labels[n]) * 7.0 / 2
        assert LEFT <= x - half and x + half <= WIDTH and 10 <= y <= HEIGHT - BOTTOM
        for a, b in places[n + 1 :]:
            assert abs(a - x) >= 2 * half - 1 or abs(b - y) >= 12


def test_bars_are_as_long_as_their_values():
    tree = parse(bars([("a", 1.0, 0.0, "method"), ("b", 2.0, 0.5, "retrain")], "title", "nats", reference=1.5))
    first, second = (float(node.get("width")) for node in tree.iter(f"{SVG}rect"))
    assert second == pytest.approx(2 * first, rel=0.01)
    kinds = [line.get("class") for line in tree.iter(f"{SVG}line")]
    assert kinds.count("whisker") == 1 and kinds.count("target reference") == 1
    assert parse(bars([("all zero", 0.0, 0.0, "method")], "title", "nats")) is not None


def test_lines_have_a_legend_and_differ_without_colour():
    tree = parse(lines({"a": [(0, 1.0), (1, 2.0)], "b": [(0, 2.0), (1, 1.0)]}, "title", "rounds", "accuracy"))
    drawn = [(n.get("stroke-dasharray"), n.get("class")) for n in tree.iter(f"{SVG}polyline")]
    assert len(set(drawn)) == 2 and drawn[0][0] != drawn[1][0]
    assert {"a", "b"} <= {node.text for node in tree.iter(f"{SVG}text")}


def test_steps_reach_every_bin_and_nothing_below_the_floor_is_lost():
    tree = parse(steps({"forget": [0.9, 0.1, 0.0]}, math.log(10), "title"))
    corners = [pair.split(",") for pair in next(tree.iter(f"{SVG}polyline")).get("points").split()]
    assert len(corners) == 6
    heights = [float(y) for _, y in corners]
    assert heights[0] == heights[1] < heights[2] == heights[3] < heights[4] == 200 - BOTTOM


def test_hostile_names_stay_text():
    points = [Point(HOSTILE, 0.1, 0.2), Point("b", 0.3, 0.4)]
    drawn = [
        scatter(points, HOSTILE, HOSTILE, HOSTILE),
        bars([(HOSTILE, 1.0, 0.1, "method")], HOSTILE, HOSTILE),
        lines({HOSTILE: [(0, 1.0), (1, 2.0)]}, HOSTILE, HOSTILE, HOSTILE),
        steps({HOSTILE: [0.5, 0.5]}, 1.0, HOSTILE),
    ]
    for svg in drawn:
        assert "<script" not in svg and parse(svg).get("aria-label") == HOSTILE
    assert HOSTILE in texts(drawn[0]) and HOSTILE in texts(drawn[1]) and HOSTILE in texts(drawn[2])
