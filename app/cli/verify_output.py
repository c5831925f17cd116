"""How a verification is told: to people with the verdict first, to programs as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.output import print_json
from app.ledger.verify import Outcome, Report
from app.ledger.verify.rehash import Progress as OnProgress

EXIT_CODES: Final = {
    Outcome.VALID: 0,
    Outcome.INVALID: 1,
    Outcome.NOT_CHECKED: 3,
    Outcome.NOT_IN_LOG: 4,
    Outcome.ERASED: 5,
}
EXIT_USAGE: Final = 2
COLOURS: Final = {
    Outcome.VALID: "green",
    Outcome.INVALID: "red",
    Outcome.NOT_CHECKED: "yellow",
    Outcome.NOT_IN_LOG: "cyan",
    Outcome.ERASED: "magenta",
}


def print_report(report: Report, *, as_json: bool, quiet: bool) -> None:
    """Print the report on stdout; `quiet`: the verdict alone."""
    if as_json:
        print_json(to_json(report))
        return
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    verdict = report.outcome.upper()
    console.print(f"[bold {COLOURS[report.outcome]}]{verdict}[/]  ", end="")
    console.print(report.summary, markup=False)
    if not quiet:
        for line in _list_details(report):
            console.print(line, markup=False)


def to_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON: stable names, for programs."""
    level = report.level
    return {
        "outcome": report.outcome.value,
        "exit_code": EXIT_CODES[report.outcome],
        "target": report.target,
        "summary": report.summary,
        "place": None if report.place is None else asdict(report.place),
        "origin": report.origin,
        "size": report.size,
        "root": None if report.root is None else report.root.hex(),
        "level": None if level is None else {"name": level.name, "text": level.describe(), **asdict(level)},
        "deep": report.deep,
        "counts": report.counts,
        "proven": list(report.proven),
        "not_proven": list(report.not_proven),
        "checkpoint": None if report.checkpoint is None else report.checkpoint.decode(),
    }


def _list_details(report: Report) -> Iterator[str]:
    yield f"  {'target':<9}{report.target}"
    if report.origin is not None and report.root is not None:
        yield f"  {'log':<9}{report.origin}, size {report.size}, root {report.root.hex()}"
    if report.level is not None:
        yield f"  {'level':<9}{report.level.describe()}"
    counts = [f"{number:,} {kind}" for kind, number in report.counts.items() if number]
    if counts:
        yield f"  {'looked at':<10}{', '.join(counts)}"
    for title, lines in (("Proven:", report.proven), ("Not proven:", report.not_proven)):
        if lines:
            yield title
            yield from (f"  - {line}" for line in lines)


@contextmanager
def shown_progress(*, hidden: bool) -> Iterator[OnProgress | None]:
    """Lend a callback that draws a bar on stderr; None off a terminal. No thread is started: workers are forked."""
    if hidden or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("re-hashing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        task = progress.add_task("entries", total=None)

        def draw(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, refresh=True)

        yield draw
