"""What was measured, and what follows: medians, ratios, fits, bounds; as a table and as JSON. No I/O."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Figure(NamedTuple):
    """One thing that is measured of each subject: "CPU per new tunnel, 100 at once" in "µs"."""

    what: str
    unit: str
    number: int = 0
    of: str = ""

    def __str__(self) -> str:
        at = f", {self.number:,} {self.of}" if self.of else ""
        unit = f" ({self.unit})" if self.unit else ""
        return self.what + at + unit


class Fit(NamedTuple):
    """A straight line through points, and the power of x that y grows with."""

    slope: float
    intercept: float
    r_squared: float
    power: float


@dataclass
class Results:
    """Values by figure, subject and round."""

    values: dict[Figure, dict[str, dict[int, float]]] = field(default_factory=lambda: defaultdict(dict))
    notes: list[str] = field(default_factory=list)
    """What could not be measured, and why."""

    def add(self, figure: Figure, subject: str, turn: int, value: float) -> None:
        self.values[figure].setdefault(subject, {})[turn] = value

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def median(self, figure: Figure, subject: str) -> float | None:
        values = self.values.get(figure, {}).get(subject)
        return statistics.median(values.values()) if values else None

    def ratio(self, figure: Figure, subject: str, peer: str) -> float | None:
        """The median of the ratios within one round."""
        ours, theirs = (self.values.get(figure, {}).get(name, {}) for name in (subject, peer))
        ratios = [ours[turn] / theirs[turn] for turn in ours.keys() & theirs.keys() if theirs[turn]]
        return statistics.median(ratios) if ratios else None

    def subtract(self, figure: Figure, peer: str, difference: Figure) -> None:
        """Add as `difference` what each subject has over `peer` within one round."""
        theirs = self.values.get(figure, {}).get(peer, {})
        for subject, ours in self.values.get(figure, {}).items():
            for turn in ours.keys() & theirs.keys() if subject != peer else ():
                self.add(difference, subject, turn, ours[turn] - theirs[turn])

    def curve(self, of: Figure, subject: str) -> list[tuple[int, float]]:
        """The medians of a figure against its number."""
        figures = sorted(figure for figure in self.values if figure._replace(number=0) == of)
        medians = ((figure.number, self.median(figure, subject)) for figure in figures)
        return [(number, median) for number, median in medians if median is not None]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def fit(points: Iterable[tuple[float, float]]) -> Fit:
    """Least squares, of the points and of their logarithms. Needs three positive points or more."""
    xs, ys = np.array(list(points), dtype=float).T
    slope, intercept = np.polyfit(xs, ys, 1)
    left = ys - (slope * xs + intercept)
    spread = ys - ys.mean()
    power, _ = np.polyfit(np.log(xs), np.log(ys), 1)
    return Fit(float(slope), float(intercept), float(1 - left @ left / (spread @ spread)), float(power))


@dataclass(frozen=True)
class Bound:
    """What a value derived from the results must keep to."""

    name: str
    measurement: str
    value: Callable[[Results], float | None]
    bound: float
    stretch: float
    at_most: bool = True


class Judgement(NamedTuple):
    name: str
    sign: str
    bound: float
    stretch: float
    measured: float | None
    verdict: str

    @property
    def is_met(self) -> bool:
        return self.verdict.startswith("met")


def judge(bound: Bound, results: Results) -> Judgement:
    measured = bound.value(results)

    def keeps(limit: float) -> bool:
        return measured <= limit if bound.at_most else measured >= limit

    if measured is None:
        verdict = "not measured"
    elif keeps(bound.stretch):
        verdict = "met, stretch too"
    else:
        verdict = "met" if keeps(bound.bound) else "MISSED"
    sign = "<=" if bound.at_most else ">="
    return Judgement(bound.name, sign, bound.bound, bound.stretch, measured, verdict)


def table(results: Results, figures: Iterable[Figure], subjects: Sequence[str], reference: str) -> str:
    """Medians in Markdown, each with its ratio to the reference's where both have one."""

    def cell(figure: Figure, subject: str) -> str:
        median = results.median(figure, subject)
        if median is None:
            return ""
        ratio = results.ratio(figure, subject, reference) if subject != reference else None
        return rounded(median) + (f" ×{ratio:.2f}" if ratio is not None and ratio > 0 else "")

    return _grid(["", *subjects], [[str(figure), *(cell(figure, name) for name in subjects)] for figure in figures])


def bounds_table(judgements: Iterable[Judgement]) -> str:
    rows = [
        [one.name, f"{one.sign} {one.bound:g}", f"{one.stretch:g}", rounded(one.measured), one.verdict]
        for one in judgements
    ]
    return _grid(["bound on stoplist", "bound", "stretch", "measured", ""], rows)


def rounded(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(results: Results, judgements: Iterable[Judgement], fits: dict[str, Any], machine: dict[str, str]) -> Any:
    figures = [
        {**figure._asdict(), "subject": subject, "median": results.median(figure, subject), "values": [*turns.values()]}
        for figure, subjects in results.values.items()
        for subject, turns in subjects.items()
    ]
    bounds = [one._asdict() for one in judgements]
    return {"machine": machine, "figures": figures, "bounds": bounds, "fits": fits, "notes": results.notes}


def _grid(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
