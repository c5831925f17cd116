"""What the commands print, and how: results on stdout, everything else on stderr, colours only on a terminal.

Loaded by every command: it imports nothing heavy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from app.errors import AssayError, Broken, Unavailable

PLAIN: Final[Mapping[str, Any]] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
"""How every command group of ours is made: plain help, plain tracebacks."""
EXIT_NOT_DONE: Final = 1
EXIT_NOT_CHECKED: Final = 3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and results only.")]
OfTenant = Annotated[str, typer.Option("--tenant", "-t", help="Whose log.", metavar="TENANT")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def describe(summary: str, *examples: str, more: str = "") -> str:
    """Return a help text: one sentence, then examples to copy, then the rest."""
    lines = "\n".join(f"  {example}" for example in examples)
    return f"{summary}\n\n\b\nExamples:\n{lines}\n\n{more}".rstrip()


def command(help_text: str) -> Callable[[Callable[..., None]], typer.Typer]:
    """Make a function a command that stands alone, with this help."""

    def make(function: Callable[..., None]) -> typer.Typer:
        app = typer.Typer(add_completion=False, **PLAIN)
        app.command(help=help_text)(function)
        return app

    return make


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_line(text: str = "") -> None:
    """Print a result on stdout."""
    sys.stdout.write(text + "\n")


def tell(text: str, *, quiet: bool = False) -> None:
    """Print progress on stderr, unless quiet."""
    if not quiet:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def complain(text: str) -> None:
    """Print an error on stderr."""
    sys.stderr.write(f"error: {text}\n")


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "none") -> None:
    """Print rows under a header, in columns; `empty` on stderr if there are none."""
    texts = [[str(cell) for cell in row] for row in rows]
    if not texts:
        tell(empty)
        return
    widths = [max(len(row[column]) for row in [list(header), *texts]) for column in range(len(header))]
    for row in [list(header), *texts]:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def explain_error(error: AssayError) -> int:
    """Print what happened and what to do, and return the exit code."""
    complain(str(error))
    if isinstance(error, Broken):
        tell(f"An invariant failed ({error.code}): a person must look, at the logs first. docs/errors.md says more.")
        return EXIT_NOT_DONE
    if isinstance(error, Unavailable):
        tell(f"It may succeed later ({error.code}): try again. If it does not, `assay doctor` says what is missing.")
        return EXIT_NOT_CHECKED
    return EXIT_NOT_DONE
