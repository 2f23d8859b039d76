"""Small charts as inline SVG: they scale with the page, take its colours, and hold no script.

Colours are CSS classes (`c0`, `c1`, …; `original`, `retrain`, `reference`) that the page defines for a light and a
dark theme, after Okabe and Ito's palette, and everything else is `currentColor`. What colour tells, a mark's shape, a
dash or a label tells too. Text of a user's is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 42
# Width of a letter of the labels, in a wide font, to keep them apart.
_LETTER = 7.0
# Letters of a row's label that are shown.
_MOST_LETTERS = 20
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 5")


@dataclass(frozen=True)
class Point:
    """A mark of a scatter plot.

    Attributes:
        label: what stands beside it.
        x: its place.
        y: its place.
        kind: "original", "retrain" or "method"; decides colour and shape.
        x_error: deviation to either side, or 0.
        y_error: the same.
    """

    label: str
    x: float
    y: float
    kind: str = "method"
    x_error: float = 0.0
    y_error: float = 0.0


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis from data to pixels.

    Attributes:
        low: the least value shown.
        high: the greatest.
        start: pixel of the least value.
        end: pixel of the greatest.
        log: whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float, log: bool = False, zero: bool = False) -> Axis:
        """An axis that holds all values with a margin; from zero where asked for."""
        if log:
            logs = [math.log10(value) for value in values]
            low, high = min(logs) - 0.08, max(logs) + 0.08
            if high - low < 1:
                low, high = (low + high - 1) / 2, (low + high + 1) / 2
            return cls(10**low, 10**high, start, end, True)
        low, high = (min(0.0, *values) if zero else min(values)), max(values)
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        return cls(low if zero and low == 0 else low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """The pixel of a value; values beyond the axis are put on its ends."""
        value = min(max(value, self.low), self.high)
        scale = math.log10 if self.log else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values along the axis."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            wide = math.log10(self.high / self.low) > 2.5
            values = [digit * 10.0**decade for decade in decades for digit in ((1,) if wide else (1, 2, 5))]
        else:
            raw = (self.high - self.low) / count
            power = 10 ** math.floor(math.log10(raw))
            step = next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= raw)
            values = [step * n for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        return [value for value in values if self.low <= value <= self.high]


def _text(x: float, y: float, text: object, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(str(text))}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _tick(value: float) -> str:
    return f"{value:.4g}" if value else "0"


def _svg(body: Sequence[str], title: str, height: float = HEIGHT) -> str:
    title = escape(title)
    opening = f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{title}"><title>{title}</title>'
    return "".join([opening, *body, "</svg>"])


def _frame(x: Axis, y: Axis, x_title: str, y_title: str) -> list[str]:
    """Grid, ticks and titles of a plot."""
    parts = []
    for value in y.ticks():
        parts += [_line(x.start, y(value), x.end, y(value), "grid")]
        parts += [_text(x.start - 6, y(value) + 4, _tick(value), "end")]
    for value in x.ticks():
        parts += [_line(x(value), y.start, x(value), y.end, "grid"), _text(x(value), y.start + 15, _tick(value))]
    parts += [_line(x.start, y.start, x.end, y.start, "axis"), _line(x.start, y.start, x.start, y.end, "axis")]
    parts += [_text((x.start + x.end) / 2, y.start + 34, x_title)]
    middle = (y.start + y.end) / 2
    return [*parts, _text(13, middle, y_title, more=f' transform="rotate(-90 13 {middle:.1f})"')]


def _mark(x: float, y: float, kind: str, hint: str) -> str:
    shapes: dict[str, Callable[[], str]] = {
        "original": lambda: f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"',
        "retrain": lambda: f'<path d="M{x:.1f} {y - 7:.1f}l7 7-7 7-7-7z"',
    }
    shape = shapes.get(kind, lambda: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5"')()
    return f'{shape} class="mark {kind}"><title>{escape(hint)}</title>{_CLOSING.get(kind, "</circle>")}'


_CLOSING = {"original": "</rect>", "retrain": "</path>"}


def scatter(
    points: Sequence[Point], title: str, x_title: str, y_title: str, *, log_x: bool = False, zero_y: bool = False
) -> str:
    """Marks with error bars and labels; a cross of lines through the retrained model, where it is among them."""
    spread_x = [v for p in points for v in ((p.x,) if log_x else (p.x - p.x_error, p.x + p.x_error))]
    spread_y = [v for p in points for v in (p.y - p.y_error, p.y + p.y_error)]
    x = Axis.around(spread_x, LEFT, WIDTH - RIGHT, log_x)
    y = Axis.around(spread_y, HEIGHT - BOTTOM, TOP, zero=zero_y)
    parts = _frame(x, y, x_title, y_title)
    for gold in (point for point in points if point.kind == "retrain"):
        parts += [_line(x(gold.x), y.start, x(gold.x), y.end, "target retrain")]
        parts += [_line(x.start, y(gold.y), x.end, y(gold.y), "target retrain")]
    for p in points:
        if p.x_error and not log_x:
            parts += [_line(x(p.x - p.x_error), y(p.y), x(p.x + p.x_error), y(p.y), f"error {p.kind}")]
        if p.y_error:
            parts += [_line(x(p.x), y(p.y - p.y_error), x(p.x), y(p.y + p.y_error), f"error {p.kind}")]
    # The control rows last, so that no method hides them.
    points = sorted(points, key=lambda p: p.kind != "method")
    places = [(x(p.x), y(p.y)) for p in points]
    for p, place, (tx, ty) in zip(points, places, label_places([p.label for p in points], places), strict=True):
        if math.dist(place, (tx, ty)) > 24:
            parts += [_line(*place, tx, ty - 4, "leader")]
        parts += [_mark(*place, p.kind, f"{p.label}: {_tick(p.x)}, {_tick(p.y)}")]
        parts += [_text(tx, ty, p.label, more=' class="label"')]
    return _svg(parts, title)


def label_places(labels: Sequence[str], marks: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where the middle of each label goes: near its mark, in the plot, and off the other labels and marks."""
    boxes = [(x - 6, y - 6, x + 6, y + 6) for x, y in marks]
    places = []
    for label, (x, y) in zip(labels, marks, strict=True):
        half = len(label) * _LETTER / 2
        candidates = []
        for distance in (0, 14, 28, 42, 56, 70):
            for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)):
                tx = x + dx * (half + 9 + (distance if dy == 0 else distance / 2))
                ty = y + 4 + dy * (13 + distance)
                tx = min(max(tx, LEFT + half + 2), WIDTH - half - 2)
                ty = min(max(ty, TOP + 10), HEIGHT - BOTTOM - 4)
                box = (tx - half, ty - 10, tx + half, ty + 3)
                covered = sum(_overlap(box, other) for other in boxes)
                candidates.append((covered + distance / 100, tx, ty, box))
        _, tx, ty, box = min(candidates)
        boxes.append(box)
        places.append((tx, ty))
    return places


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def bars(
    values: Sequence[tuple[str, float, float, str]], title: str, x_title: str, reference: float | None = None
) -> str:
    """Horizontal bars with whiskers, one a row.

    Args:
        values: (label, length, deviation, kind) of each.
        title: what the chart shows, for those who cannot see it.
        x_title: title of the axis.
        reference: where a dashed line stands, or None.
    """
    left = LEFT + max(0.0, max(len(label) for label, *_ in values) * _LETTER - LEFT + 14)
    step, height = 22, len(values) * 22 + TOP + BOTTOM
    longest = [length + deviation for _, length, deviation, _ in values] + [reference or 0.0]
    x = Axis(0.0, max(longest) * 1.05 or 1.0, left, WIDTH - RIGHT)
    bottom = height - BOTTOM
    parts = []
    for value in x.ticks(4):
        parts += [_line(x(value), TOP, x(value), bottom, "grid"), _text(x(value), bottom + 15, _tick(value))]
    for row, (label, length, deviation, kind) in enumerate(values):
        top = TOP + row * step + 4
        hint = f"<title>{escape(label)}: {_tick(length)}</title>"
        shape = f'x="{left:.1f}" y="{top}" width="{max(x(length) - left, 0):.1f}" height="{step - 8}"'
        parts += [f'<rect class="bar {kind}" {shape}>{hint}</rect>']
        parts += [_text(left - 6, top + 11, label, "end")]
        if deviation:
            middle = top + (step - 8) / 2
            parts += [_line(x(max(length - deviation, 0)), middle, x(length + deviation), middle, "whisker")]
    if reference is not None:
        parts += [_line(x(reference), TOP, x(reference), bottom, "target reference")]
    parts += [_line(left, TOP, left, bottom, "axis"), _text((left + WIDTH - RIGHT) / 2, bottom + 34, x_title)]
    return _svg(parts, title, height)


def dots(
    values: Sequence[tuple[str, float, tuple[float, float] | None, str]],
    title: str,
    x_title: str,
    reference: float | None = None,
) -> str:
    """Marks with their intervals, one a row, beside a dashed line that they are held against.

    Args:
        values: (label, value, interval or None, kind) of each.
        title: what the chart shows, for those who cannot see it.
        x_title: title of the axis.
        reference: where the line stands, or None.
    """
    labels = [label if len(label) <= _MOST_LETTERS else label[: _MOST_LETTERS - 1] + "…" for label, *_ in values]
    left = LEFT + max(0.0, max(map(len, labels)) * _LETTER - LEFT + 14)
    step, height = 26, len(values) * 26 + TOP + BOTTOM
    spread = [bound for _, value, interval, _ in values for bound in (value, *(interval or ()))]
    x = Axis.around([*spread, *([] if reference is None else [reference])], left, WIDTH - RIGHT)
    bottom, parts = height - BOTTOM, []
    for value in x.ticks(4):
        parts += [_line(x(value), TOP, x(value), bottom, "grid"), _text(x(value), bottom + 15, _tick(value))]
    if reference is not None:
        parts += [_line(x(reference), TOP, x(reference), bottom, "target reference")]
    for row, (label, (name, value, interval, kind)) in enumerate(zip(labels, values, strict=True)):
        middle = TOP + row * step + step / 2
        parts += [_text(left - 8, middle + 4, label, "end")]
        if interval is not None:
            parts += [_line(x(interval[0]), middle, x(interval[1]), middle, f"error {kind}")]
            parts += [_line(x(end), middle - 4, x(end), middle + 4, f"error {kind}") for end in interval]
        parts += [_mark(x(value), middle, kind, f"{name}: {_tick(value)}")]
    parts += [_line(left, bottom, WIDTH - RIGHT, bottom, "axis")]
    return _svg([*parts, _text(WIDTH - RIGHT, bottom + 34, x_title, "end")], title, height)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], title: str, x_title: str, y_title: str) -> str:
    """One line a series, told apart by dash and colour, with a legend below."""
    xs, ys = zip(*(pair for pairs in series.values() for pair in pairs), strict=True)
    x = Axis(min(xs), max(max(xs), min(xs) + 1), LEFT, WIDTH - RIGHT)
    y = Axis.around(ys, HEIGHT - BOTTOM, TOP)
    parts = _frame(x, y, x_title, y_title)
    for number, (label, pairs) in enumerate(series.items()):
        path = " ".join(f"{x(a)},{y(b)}" for a, b in pairs)
        dash = _DASHES[number % len(_DASHES)]
        style = f'class="line c{number % 6}" stroke-dasharray="{dash}"'
        parts += [f'<polyline {style} points="{path}"><title>{escape(label)}</title></polyline>']
        top = HEIGHT + 4 + number * 17
        parts += [f'<line {style} x1="{LEFT}" y1="{top}" x2="{LEFT + 34}" y2="{top}"/>']
        parts += [_text(LEFT + 42, top + 4, label, "start")]
    return _svg(parts, title, HEIGHT + 4 + len(series) * 17)


def steps(series: Mapping[str, Sequence[float]], top: float, title: str, floor: float = 1e-4) -> str:
    """Histograms over one axis as step lines, on a logarithmic scale of shares.

    Args:
        series: "retain", "forget", … → shares, one a bin; drawn in the colour of their name.
        top: where the last bin ends.
        title: what the chart shows.
        floor: the least share shown; less is drawn there.
    """
    x = Axis(0.0, top, LEFT, WIDTH - RIGHT)
    y = Axis(floor, 1.0, 200 - BOTTOM, TOP, log=True)
    parts = _frame(x, y, "entropy of the prediction (nats)", "share of samples")
    for number, (name, shares) in enumerate(series.items()):
        edges = [top * n / len(shares) for n in range(len(shares) + 1)]
        corners = [(edge, share) for n, share in enumerate(shares) for edge in edges[n : n + 2]]
        path = " ".join(f"{x(edge)},{y(max(share, floor))}" for edge, share in corners)
        dash = _DASHES[number % len(_DASHES)]
        style = f'class="line {escape(name)}" stroke-dasharray="{dash}"'
        parts += [f'<polyline {style} points="{path}"><title>{escape(name)}</title></polyline>']
    return _svg(parts, title, 200)
