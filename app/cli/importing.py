"""`assay import`: a file of customers' records becomes entries, each exactly once."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from app.cli.lines import LINE_LIMIT_BYTES, Line, LineKeys, read_lines
from app.cli.opening import open_installation
from app.cli.output import EXIT_NOT_DONE, AsJson, OfTenant, Quiet, command, complain, describe, print_json, tell
from app.errors import Rejected, TooLarge, Unavailable
from app.ledger.append import prepare
from app.ledger.canonical import canonical, parse_json
from app.ledger.ports import EntryRow
from app.payments.record import parse_record
from app.wiring import Installation, new_entry_id

ACTOR = "operator:import"
BATCH_LINES = 1000
SHOWN_LIMIT = 20
"""Bad lines that are printed; all are in the file of rejected lines."""

Move = Callable[[int], None]
"""Called with the bytes of the file that are done."""


@dataclass(slots=True)
class Summary:
    """What became of a file."""

    lines: int = 0
    appended: int = 0
    already_there: int = 0
    rejected: int = 0
    shown: list[str] = field(default_factory=list)


@command(
    describe(
        "Load a file of records into a log. Run it again after an interruption: nothing is logged twice.",
        "assay import records.jsonl --tenant demo --dry-run",
        "assay import records.jsonl --tenant demo",
        more="Bad lines are reported by number, written to FILE.rejected.jsonl with the reason, and left out; the exit "
        "code is 1 then. Correct them in the file and import it again: only they are added.",
    )
)
def import_records(
    file: Annotated[Path, typer.Argument(help="Records, one JSON object a line.", exists=True, dir_okay=False)],
    tenant: OfTenant,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every line and log nothing.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Import a file."""
    rejects = file.with_name(file.name + ".rejected.jsonl")
    with open_installation() as installation:
        installation.read_tenant(tenant)
        with _open_rejects(rejects) as reject, _progress(file, quiet=quiet or as_json) as move:
            summary = import_file(installation, tenant, file, reject=reject, move=move, dry_run=dry_run)
    _report(summary, rejects, as_json=as_json, quiet=quiet, dry_run=dry_run)
    if summary.rejected:
        raise typer.Exit(EXIT_NOT_DONE)


def import_file(
    installation: Installation, tenant: str, file: Path, *, reject: TextIO, move: Move, dry_run: bool
) -> Summary:
    """Import a file in batches, each one transaction; a crash between two leaves whole batches."""
    summary, keys = Summary(), LineKeys()
    with file.open("rb") as opened:
        lines = read_lines(opened)
        while batch := list(islice(lines, BATCH_LINES)):
            rows = list(_prepare_all(installation, tenant, batch, keys=keys, summary=summary, reject=reject))
            if rows and not dry_run:
                with installation.store.transaction() as tx:
                    results = tx.append_entries(rows)
                replayed = sum(result.replayed for result in results)
                summary.already_there += replayed
                summary.appended += len(rows) - replayed
            move(opened.tell())
    return summary


def _prepare_all(
    installation: Installation, tenant: str, batch: list[Line], *, keys: LineKeys, summary: Summary, reject: TextIO
) -> Iterator[EntryRow]:
    for line in batch:
        summary.lines += 1
        try:
            yield _prepare(installation, tenant, line, keys)
        except Rejected as error:
            summary.rejected += 1
            where = f"{error.pointer}: " if error.pointer else ""
            if len(summary.shown) < SHOWN_LIMIT:
                summary.shown.append(f"line {line.number}: {where}{error}")
            found = {"line": line.number, "code": error.code, "reason": f"{where}{error}"}
            reject.write(json.dumps({**found, "text": line.text.decode(errors="replace")}) + "\n")


def _prepare(installation: Installation, tenant: str, line: Line, keys: LineKeys) -> EntryRow:
    if line.too_long:
        raise TooLarge(f"longer than {LINE_LIMIT_BYTES:,} bytes", code="line_too_long")
    key = keys.key_of(line.text)
    value: Any = parse_json(line.text, limit_bytes=LINE_LIMIT_BYTES)
    draft = parse_record(value, actor=ACTOR, now_s=int(time.time()), idem=key)
    fingerprint = sha256(canonical([draft.action, draft.subject, draft.ref, draft.data])).digest()
    return prepare(installation.registry, tenant, draft, entry_id=new_entry_id(), fingerprint=fingerprint)


def _report(summary: Summary, rejects: Path, *, as_json: bool, quiet: bool, dry_run: bool) -> None:
    counts = {name: getattr(summary, name) for name in ("lines", "appended", "already_there", "rejected")}
    if as_json:
        print_json({**counts, "rejects": str(rejects) if summary.rejected else None, "dry_run": dry_run})
        return
    for line in summary.shown:
        complain(line)
    if summary.rejected:
        complain(f"{summary.rejected} of {summary.lines} lines were left out; all of them are in {rejects}")
    done = "would be appended" if dry_run else "appended"
    good = summary.lines - summary.rejected if dry_run else summary.appended
    tell(f"{good} {done}, {summary.already_there} were there already", quiet=quiet)


@contextmanager
def _open_rejects(path: Path) -> Iterator[TextIO]:
    """Lend the file of rejected lines; it is removed if there are none."""
    try:
        with path.open("w", encoding="utf-8") as opened:
            yield opened
            empty = opened.tell() == 0
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror})", code="rejects_file") from error
    if empty:
        path.unlink()


@contextmanager
def _progress(file: Path, *, quiet: bool) -> Iterator[Move]:
    """Lend a progress bar over the file's bytes, on a terminal only."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    disable = quiet or not sys.stderr.isatty()
    with Progress(*columns, console=console, disable=disable) as progress:
        task = progress.add_task(file.name, total=file.stat().st_size)
        yield lambda done: progress.update(task, completed=done)
