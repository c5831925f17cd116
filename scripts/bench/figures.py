"""What a benchmark measured: every run, the yardstick's runs beside them, and the goals they are held to.

Nothing is retried and no run is left out: a figure is the median of all runs, a ratio the median of the runs' ratios.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

DEFAULT_RUNS = 5
TOP_FUNCTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A bound of issue 2, section 8, on the ratio to the yardstick or on the value itself."""

    of: Literal["ratio", "value"]
    sign: Literal["≥", "≤"]
    bound: float

    def is_met_by(self, measured: float) -> bool:
        """Say whether the bound holds."""
        return measured >= self.bound if self.sign == "≥" else measured <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The runs of one piece of work in `unit`; `bad` counts answers that were not what was asked for."""

    part: str
    work: str
    unit: str
    values: Sequence[float]
    yardstick: str = ""
    yardstick_values: Sequence[float] = ()
    goals: Sequence[Goal] = ()
    note: str = ""
    bad: int = 0

    @property
    def median(self) -> float:
        """The median of the runs."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """The median of the runs' ratios; None without a yardstick."""
        if not self.yardstick_values:
            return None
        return statistics.median(a / b for a, b in zip(self.values, self.yardstick_values, strict=True))

    @property
    def is_met(self) -> bool | None:
        """Whether every goal is met and every answer was good; None if there is no goal."""
        if not self.goals:
            return None
        return self.bad == 0 and all(self._meets(goal) for goal in self.goals)

    def _meets(self, goal: Goal) -> bool:
        measured = self.ratio if goal.of == "ratio" else self.median
        return measured is not None and goal.is_met_by(measured)


def at_least(ratio: float) -> Goal:
    """The ratio to the yardstick is at least this."""
    return Goal(of="ratio", sign="≥", bound=ratio)


def at_most_ratio(ratio: float) -> Goal:
    """The ratio to the yardstick is at most this."""
    return Goal(of="ratio", sign="≤", bound=ratio)


def at_most(value: float) -> Goal:
    """The value is at most this."""
    return Goal(of="value", sign="≤", bound=value)


def parse_figure(value: dict[str, Any]) -> Figure:
    """Return the figure that `asdict` took apart."""
    return Figure(**{**value, "goals": tuple(Goal(**goal) for goal in value["goals"])})


def open_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="measurements of each (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser


def show(figures: Sequence[Figure], asked: argparse.Namespace) -> None:
    """Print the figures, and write them where they are wanted."""
    for figure in figures:
        print(format_line(figure))
        if asked.verbose:
            print(f"    runs       {' '.join(format_number(value) for value in figure.values)}")
        if asked.verbose and figure.yardstick_values:
            print(f"    yardstick  {' '.join(format_number(value) for value in figure.yardstick_values)}")
    if asked.json:
        asked.json.write_text(json.dumps([asdict(figure) for figure in figures], ensure_ascii=False))


def format_line(figure: Figure) -> str:
    """Return the figure as one line of text."""
    parts = [f"{figure.work}: {format_number(figure.median)} {figure.unit}"]
    if figure.ratio is not None:
        against = f"{figure.yardstick} {format_number(statistics.median(figure.yardstick_values))}"
        parts.append(f"ratio {figure.ratio:.2f} to {against}")
    if figure.goals:
        parts.append(f"goal {format_goals(figure)}: {'met' if figure.is_met else 'NOT MET'}")
    if figure.bad:
        parts.append(f"{figure.bad} BAD ANSWERS")
    return " · ".join([*parts, figure.note] if figure.note else parts)


def format_goals(figure: Figure) -> str:
    """Return the goals as text."""
    goals = [
        f"{goal.sign} {goal.bound:.2f}" if goal.of == "ratio" else f"{goal.sign} {goal.bound:,g} {figure.unit}"
        for goal in figure.goals
    ]
    return " and ".join(goals)


def format_number(value: float) -> str:
    """Return three significant digits, and all digits before the point."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def profile_top(work: Callable[[], object]) -> str:
    """Return the functions that take most of the time of `work`, done once more for this, with their shares."""
    profile = cProfile.Profile()
    profile.runcall(work)
    own_s = {function[2]: row[2] for function, row in pstats.Stats(profile).stats.items()}  # type: ignore[attr-defined]  # typeshed lacks it
    whole = sum(own_s.values())
    top = sorted(own_s.items(), key=lambda item: -item[1])[:TOP_FUNCTIONS]
    return "profile: " + ", ".join(f"{format_function(name)} {100 * share / whole:.0f} %" for name, share in top)


def format_function(name: str) -> str:
    """Return a function's name, of a method in C without what Python says around it."""
    return name.removeprefix("<").removesuffix(">").split(" of ")[0].rpartition(" ")[2].strip("'")
