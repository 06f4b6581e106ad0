"""Charts as SVG text: drawn by us, since a page that fetches nothing and follows light and dark wants no library.

Colours are the page's own (classes c0 .. c5), so that one style sheet serves both schemes. Every mark has a title,
which a browser shows on hovering and a screen reader reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 230
#: Of a chart that has the whole width of the page.
WIDE = 1060
#: Letters of a label beside a path.
LABEL = 56
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 28

#: A value as the axis and the titles show it.
Format = Callable[[float], str]


def percent(value: float) -> str:
    """0.1234 -> 12.3 %."""
    return f"{value:.1%}".replace("%", " %")


def number(value: float) -> str:
    """1234.5 -> 1,234; small numbers keep two digits."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.2f}"


@dataclass(frozen=True)
class _Scale:
    """Values 0 .. top -> pixels, with round ticks."""

    top: float
    ticks: tuple[float, ...]

    @classmethod
    def to(cls, highest: float) -> _Scale:
        step = 10.0 ** math.floor(math.log10(highest)) if highest > 0 else 1.0
        for part in (0.2, 0.5, 1.0, 2.0):
            if highest / (step * part) <= 6:
                step *= part
                break
        count = max(1, math.ceil(highest / step - 1e-9))
        return cls(step * count, tuple(step * n for n in range(count + 1)))

    def y(self, value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - value / self.top)


def lines(
    labels: Sequence[str], series: Mapping[str, Sequence[float | None]], shown: Format = number, width: int = WIDTH
) -> str:
    """A line for each series over the labels; None leaves a gap. A single series needs no legend."""
    scale = _Scale.to(max((v for values in series.values() for v in values if v is not None), default=1.0))
    step = (width - _LEFT - _RIGHT) / max(len(labels), 1)
    at = [_LEFT + step * (n + 0.5) for n in range(len(labels))]
    parts = [_axis(scale, shown, width), _labels(labels, at, width)]
    for kind, (name, values) in enumerate(series.items()):
        points = [(x, scale.y(v), v, label) for x, v, label in zip(at, values, labels, strict=True) if v is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
        parts.append(f'<polyline class="line c{kind}" points="{path}"/>')
        parts += [
            f'<circle class="dot c{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5">'
            f"<title>{escape(f'{name}, {label}: {shown(v)}')}</title></circle>"
            for x, y, v, label in points
        ]
    return _figure("".join(parts), series if len(series) > 1 else {}, width)


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Bars side by side for each label."""
    scale = _Scale.to(max((v for values in series.values() for v in values), default=1.0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    each = step * 0.8 / max(len(series), 1)
    at = [_LEFT + step * (n + 0.5) for n in range(len(labels))]
    parts = [_axis(scale, number, WIDTH), _labels(labels, at, WIDTH)]
    for kind, (name, values) in enumerate(series.items()):
        for n, (label, value) in enumerate(zip(labels, values, strict=True)):
            x, y = _LEFT + step * (n + 0.1) + each * kind, scale.y(value)
            parts.append(
                f'<rect class="bar c{kind}" x="{x:.1f}" y="{y:.1f}" width="{each:.1f}" '
                f'height="{max(0.0, HEIGHT - _BOTTOM - y):.1f}">'
                f"<title>{escape(f'{name}, {label}: {number(value)}')}</title></rect>"
            )
    return _figure("".join(parts), series if len(series) > 1 else {}, WIDTH)


@dataclass(frozen=True)
class Dot:
    """A point of a scatter: where, which path it belongs to, its shade (0 oldest .. 1 newest), words on hovering."""

    x: float
    y: float
    path: int
    shade: float
    title: str
    label: str = ""


def paths(dots: Sequence[Dot], spans: Sequence[str] = ()) -> str:
    """Points in two dimensions, those of one path linked in order; labels stand at the right, in order of height.

    ``spans`` name the shades, oldest first.
    """
    if not dots:
        return ""
    width, height = 640, 460
    low = [min(d.x for d in dots), min(d.y for d in dots)]
    size = [max(d.x for d in dots) - low[0] or 1.0, max(d.y for d in dots) - low[1] or 1.0]

    def place(dot: Dot) -> tuple[float, float]:
        x = 14 + (dot.x - low[0]) / size[0] * (width - 28)
        return x, 14 + (1 - (dot.y - low[1]) / size[1]) * (height - 28)

    named = sorted((place(dot)[1], place(dot)[0], dot.label) for dot in dots if dot.label)
    step = max(17.0, height / max(len(named), 1))
    parts = []
    for n, (y, x, _) in enumerate(named):
        parts.append(f'<path class="leader" d="M{x:.1f} {y:.1f} L{width} {step * (n + 0.5):.1f} h8"/>')
    for path in sorted({dot.path for dot in dots}):
        own = [place(dot) for dot in dots if dot.path == path]
        parts.append(f'<polyline class="link" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in own)}"/>')
    for dot in sorted(dots, key=lambda each: each.shade):
        x, y = place(dot)
        parts.append(
            f'<circle class="moment" cx="{x:.1f}" cy="{y:.1f}" r="{3 + 3.5 * dot.shade:.1f}" '
            f'style="fill:{_shade(dot.shade)}"><title>{escape(dot.title)}</title></circle>'
        )
    for n, (_, _, label) in enumerate(named):
        short = label if len(label) <= LABEL else f"{label[: LABEL - 1].rstrip()}…"
        title = f"<title>{escape(label)}</title>" if short != label else ""
        parts.append(f'<text class="tag" x="{width + 12}" y="{step * (n + 0.5) + 4:.1f}">{escape(short)}{title}</text>')
    needed = max(height, math.ceil(step * len(named)))
    keys = "".join(
        f'<span class="key"><i style="background:{_shade(n / max(len(spans) - 1, 1))}"></i>{escape(span)}</span>'
        for n, span in enumerate(spans)
    )
    return f'<svg viewBox="0 0 {WIDE} {needed}" role="img">{"".join(parts)}</svg><p class="legend">{keys}</p>'


def _shade(share: float) -> str:
    """From pale blue, the oldest, over violet to orange, the newest: apart on light and on dark paper."""
    stops = ((142, 172, 230), (128, 96, 214), (221, 84, 43))
    at, part = divmod(min(max(share, 0.0), 1.0) * 2, 1)
    one, other = stops[int(at)], stops[min(int(at) + 1, 2)]
    return "rgb({} {} {})".format(*(round(a + (b - a) * part) for a, b in zip(one, other, strict=True)))


def _axis(scale: _Scale, shown: Format, width: int) -> str:
    return "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{scale.y(t):.1f}" y2="{scale.y(t):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{scale.y(t) + 4:.1f}" text-anchor="end">{_tick(shown(t))}</text>'
        for t in scale.ticks
    )


def _tick(text: str) -> str:
    return escape(text.replace(".0 %", " %"))


def _labels(labels: Sequence[str], at: Sequence[float], width: int) -> str:
    """The labels that fit: about nine pixels a letter."""
    widest = max((len(label) for label in labels), default=1) * 8 + 8
    every = max(1, math.ceil(widest * len(labels) / (width - _LEFT - _RIGHT)))
    return "".join(
        f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>'
        for n, (label, x) in enumerate(zip(labels, at, strict=True))
        if (len(labels) - 1 - n) % every == 0
    )


def _figure(inside: str, legend: Mapping[str, object], width: int) -> str:
    keys = "".join(
        f'<span class="key"><i class="c{kind}"></i>{escape(name)}</span>' for kind, name in enumerate(legend)
    )
    return f'<svg viewBox="0 0 {width} {HEIGHT}" role="img">{inside}</svg><p class="legend">{keys}</p>'
