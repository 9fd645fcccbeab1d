"""Draws what compare.py measured as one SVG, to be read in black and white."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from tests.bench.report import Figure, Results, rounded
from tests.bench.subjects import INTERCEPTING, OURS, PASSING, SQUID, TINYPROXY

STYLES = {
    SQUID: ("s", "--"),
    TINYPROXY: ("^", ":"),
    PASSING: ("D", "-."),
    INTERCEPTING: ("v", (0, (1, 3))),
    OURS: ("o", "-"),
}
"""Mark and line of each proxy, in the order of the panels."""


def draw(results: Results, bars: Figure, curves: Sequence[Figure], file: Path) -> None:
    """A panel of bars for one figure, and one of lines for each other against its number, where it was measured."""
    mpl.rcParams.update({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "stoplist"})
    shown = [figure for figure in curves if any(results.curve(figure, name) for name in STYLES)]
    drawing = Drawing(figsize=(4 + 4 * len(shown), 4), layout="constrained")
    panels = drawing.subplots(1, 1 + len(shown), squeeze=False)[0]
    if bars in results.values:
        _bars(panels[0], results, bars)
    for panel, figure in zip(panels[1:], shown, strict=True):
        _lines(panel, results, figure)
    drawing.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _bars(panel: Axes, results: Results, figure: Figure) -> None:
    heights = {name: median for name in STYLES if (median := results.median(figure, name))}
    names = [name.replace("-", "\n") for name in heights]
    bars = panel.bar(names, [*heights.values()], color="0.8", edgecolor="black")
    panel.bar_label(bars, [rounded(height) for height in heights.values()])
    panel.set(title=str(figure), yscale="log")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.tick_params(axis="x", labelsize=8)
    panel.margins(y=0.1)


def _lines(panel: Axes, results: Results, figure: Figure) -> None:
    for name, (mark, line) in STYLES.items():
        if points := results.curve(figure, name):
            filled = "black" if name == OURS else "white"
            panel.plot(*zip(*points, strict=True), color="black", marker=mark, linestyle=line, mfc=filled, label=name)
    panel.set(title=f"{figure.what} ({figure.unit})", xlabel=figure.of, xscale="log", yscale="log")
    bottom, top = panel.get_ylim()
    panel.set_ylim(10 ** math.floor(math.log10(bottom)), 10 ** math.ceil(math.log10(top)))
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.set_minor_formatter("")
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
