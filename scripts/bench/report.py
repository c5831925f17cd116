"""The results file and the tables of docs/performance.md that are made from it.

The page keeps its words; what stands between `<!-- figures: NAME -->` and `<!-- end -->` is replaced.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.bench.figures import Figure, format_goals, format_number, parse_figure

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
PARTS = {
    "speed": ("receipts", "batch", "sqlite", "proof", "audits", "growth", "tree", "policy", "decide", "replay"),
    "cpu": ("cpu",),
    "profile": ("request_profile",),
}
BEGIN, END = "<!-- figures: {} -->\n", "<!-- end -->"
ABSENT = "—"

Results = dict[str, dict[str, Any]]
"""By part: when, on what and of which commit it was measured, and the figures."""


def read_results(path: Path) -> Results:
    """Return the results so far."""
    return json.loads(path.read_text()) if path.exists() else {}


def describe_run(figures: Sequence[dict[str, Any]], *, command: str, load_before: float) -> dict[str, Any]:
    """Return a part's results with where they come from."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "commit": _read_commit(),
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}",
        "load_before": round(load_before, 2),
        "figures": list(figures),
    }


def _read_commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def format_tables(results: Results) -> dict[str, str]:
    """Return the tables in Markdown, by name; what has no goal is in `beside`."""
    speed = list_figures(results, PARTS["speed"])
    return {
        "speed": format_speed([figure for figure in speed if figure.goals]),
        "beside": format_speed([figure for figure in speed if not figure.goals]),
        "cpu": format_plain(list_figures(results, PARTS["cpu"])),
        "profile": format_plain(list_figures(results, PARTS["profile"])),
    }


def list_figures(results: Results, parts: Sequence[str]) -> list[Figure]:
    """Return the figures of these parts in order."""
    return [parse_figure(value) for part in parts if part in results for value in results[part]["figures"]]


def format_speed(figures: Sequence[Figure]) -> str:
    """Return the table with goals and whether they are met."""
    columns = ("work", "median (lowest … highest)", "yardstick of the same run", "ratio", "goal", "met")
    return _format_table(columns, map(_make_row, figures))


def _make_row(figure: Figure) -> tuple[str, ...]:
    notes = [figure.work, figure.note, f"**{figure.bad} bad answers**" if figure.bad else ""]
    yardstick = ABSENT
    if figure.yardstick_values:
        yardstick = f"{figure.yardstick}: {format_number(statistics.median(figure.yardstick_values))}"
    ratio = ABSENT if figure.ratio is None else f"{figure.ratio:.2f}"
    met = {True: "yes", False: "**no**", None: ABSENT}[figure.is_met]
    measured = f"{format_number(figure.median)} {figure.unit} ({_format_ends(figure)})"
    return "; ".join(filter(None, notes)), measured, yardstick, ratio, format_goals(figure) or ABSENT, met


def format_plain(figures: Sequence[Figure]) -> str:
    """Return a table of medians."""
    rows = ((figure.work, f"{format_number(figure.median)} {figure.unit}", _format_ends(figure)) for figure in figures)
    return _format_table(("part", "median", "lowest … highest"), rows)


def _format_ends(figure: Figure) -> str:
    return f"{format_number(min(figure.values))} … {format_number(max(figure.values))}"


def _format_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def format_origin(results: Results) -> str:
    """Return when and where each part was measured."""
    return "".join(
        f"- `{run['command']}`: {run['measured_at']}, commit `{run['commit']}`, Python {run['python']},"
        f" {run['machine']}, load before {run['load_before']}\n"
        for run in results.values()
    )


def write_page(path: Path, results: Results) -> None:
    """Put the tables into the page."""
    page = path.read_text()
    for name, table in {**format_tables(results), "origin": format_origin(results)}.items():
        before, begin, rest = page.partition(BEGIN.format(name))
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{path} has no place for the figures of {name!r}")
        page = before + begin + table + end + after
    path.write_text(page)


def write_results(path: Path, results: Results) -> None:
    """Keep the results."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n")
