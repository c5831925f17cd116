"""`assay policy replay`: past decisions run again, and what that would change or proves."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from app.cli.opening import open_installation
from app.cli.output import (
    EXIT_NOT_DONE,
    AsJson,
    OfTenant,
    Quiet,
    complain,
    describe,
    print_json,
    print_line,
    print_table,
    tell,
)
from app.cli.replaying import (
    CANDIDATE,
    ENGINE,
    MAX_WORKERS,
    Job,
    Progress,
    ReplayState,
    find_start,
    run_job,
)
from app.cli.token import UNITS_S, parse_duration
from app.errors import Malformed, Rejected, Unavailable
from app.ledger.canonical import canonical
from app.ledger.entry import Draft, format_entry_id
from app.payments.money import format_minor
from app.policy.bundle import load_bundle
from app.policy.replay import (
    EXPECTED,
    FORBIDDEN,
    VERDICTS,
    Scope,
    Tally,
    digest_report,
    make_report,
    name_transition,
    report_data,
)
from app.wiring import Installation, now_ms

ACTOR: Final = "operator:cli"
STATE_FOLDER: Final = "replays"
SHOWN_SAMPLES: Final = 3
_CODE: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")

Since = Annotated[str | None, typer.Option("--since", help="A date, a time (UTC), or how long ago: 30d, 12h.")]
Until = Annotated[str | None, typer.Option("--until", help="The same; decisions of before then.")]
BundleFolder = Annotated[
    Path | None, typer.Option("--bundle", "-b", help="A folder of policies.", exists=True, file_okay=False)
]

HELP: Final = describe(
    "Run past decisions again: with their own bundles, which must give the same bytes, or with a candidate.",
    "assay policy replay --tenant demo",
    "assay policy replay --tenant demo --bundle ./policies --since 30d --workers 2",
    "assay policy replay --tenant demo --bundle ./policies --sign-off risk.accepted --out impact.json",
    more="Reads only decisions whose entries verify, refuses the others by name, and logs the report's digest. After "
    "an interruption the same command goes on. Exit code 1: a deny would become an allow and nobody signed that off; "
    "a decision came out differently from its own bundle; a decision that should verify does not.",
)


def replay(
    tenant: OfTenant,
    *,
    bundle: BundleFolder = None,
    digest: Annotated[str | None, typer.Option("--digest", help="A bundle that is kept, by digest.")] = None,
    since: Since = None,
    until: Until = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=MAX_WORKERS, help="Processes.")] = 1,
    sign_off: Annotated[
        str | None, typer.Option("--sign-off", help="A code: accept that denials would become allowed.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the report here, canonical JSON.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, not where one was interrupted.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run past decisions again."""
    if sign_off is not None and not _CODE.fullmatch(sign_off):
        raise Malformed("a sign-off is a code: a-z, 0-9, _ and ., at most 64", code="reason_invalid")
    with open_installation() as installation:
        job = plan_job(installation, tenant, folder=bundle, digest=digest, since=since, until=until)
        state = ReplayState(installation.settings.state_dir / STATE_FOLDER, restart=restart)
        with progress_bar(quiet=quiet or as_json) as progress:
            job, counted = run_job(job, installation, workers=workers, state=state, progress=progress)
        report = make_report(make_scope(installation, job), counted)
        entry_id = log_report(installation, tenant, report, sign_off=sign_off)
        if out is not None:
            write_report(out, canonical(report))
        state.drop(job)
    if state.resumed_at is not None:
        tell(f"went on at entry {state.resumed_at}, where it was interrupted", quiet=quiet)
    problems = find_problems(job, counted, sign_off=sign_off)
    named = {"entry": entry_id, "report_digest": digest_report(report)}
    if as_json:
        print_json({**named, "problems": problems, "impact": summarise(report), "report": report})
    else:
        print_report(report, counted)
        print_line(f"report sha256 {named['report_digest']}, entry {named['entry']}")
        for problem in problems:
            complain(problem)
    if problems:
        raise typer.Exit(EXIT_NOT_DONE)


def plan_job(
    installation: Installation,
    tenant: str,
    *,
    folder: Path | None,
    digest: str | None,
    since: str | None,
    until: str | None,
) -> Job:
    """Return what is to be run, in the newest signed tree. Raises Malformed for two bundles or a time that is none."""
    if folder is not None and digest is not None:
        raise Malformed("give either --bundle or --digest", code="usage")
    candidate = None if folder is None else load_bundle(folder, name=CANDIDATE)
    log = installation.read_tenant(tenant)
    if digest is not None:
        installation.read_bundle(tenant, digest)  # raises NotFound now, not in every process
    size = installation.recall(log).tree.size
    since_ms = parse_time(since, now_ms())
    return Job(
        settings=installation.settings,
        tenant=log,
        start=find_start(installation, log, size, since_ms),
        size=size,
        since_ms=since_ms,
        until_ms=parse_time(until, now_ms()),
        candidate=digest if candidate is None else candidate.digest,
        folder=folder,
    )


def make_scope(installation: Installation, job: Job) -> Scope:
    """Return what the report says of the question."""
    tree = installation.recall(job.tenant, size=job.size).tree
    return Scope(
        origin=job.tenant.origin,
        size=tree.size,
        root=tree.root,
        since_ms=job.since_ms,
        until_ms=job.until_ms,
        candidate=None if job.candidate is None else (CANDIDATE, job.candidate),
        base=installation.active_bundle(job.tenant.id).digest,
        engine=ENGINE,
    )


def log_report(installation: Installation, tenant: str, report: Mapping[str, Any], *, sign_off: str | None) -> str:
    """Append the entry of the report, and return its id."""
    draft = Draft(
        action="policy.replayed",
        actor=ACTOR,
        ref={"report": digest_report(report)},
        data=report_data(report, sign_off=sign_off),
    )
    return format_entry_id(installation.append(tenant, draft))


def summarise(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is attached to a proposal as its report on impact (app.policy.evidence)."""
    counts = {"decisions": report["decisions"], "changed": report["changed"], "deny_to_allow": report["forbidden"]}
    return {"digest": digest_report(report), "base": report["base"], **counts}


def find_problems(job: Job, counted: Tally, *, sign_off: str | None) -> list[str]:
    """Return why the replay is not to be passed over, one sentence each."""
    problems = []
    if counted.forbidden and sign_off is None and job.candidate is not None:
        names = ", ".join(sorted(FORBIDDEN)).replace("_", " ")
        problems.append(f"{counted.forbidden} decisions change {names}: that needs --sign-off")
    if counted.different and job.candidate is None:
        problems.append(f"{counted.different} decisions come out differently from the bundle that decided them")
    if counted.alarming:
        codes = ", ".join(sorted(code for code in counted.refused if code not in EXPECTED))
        problems.append(f"{counted.alarming} decisions cannot be run again and should be ({codes})")
    return problems


def print_report(report: Mapping[str, Any], counted: Tally) -> None:
    """Print the report for a person."""
    log, candidate = report["log"], report["candidate"]
    against = "their own bundles" if candidate is None else f"{candidate['name']} {candidate['digest'][:12]}"
    print_line(f"{counted.decisions} decisions of {log['origin']}, in its signed tree of {log['size']}")
    print_line(f"run again with {against}")
    print_line()
    print_table(
        ("WAS \\ NOW", *VERDICTS),
        [(old, *(counted.transitions.get(name_transition(old, new), 0) for new in VERDICTS)) for old in VERDICTS],
    )
    print_line()
    print_line(f"another result: {counted.different}; another verdict: {counted.changed}")
    for name, entry_ids in counted.samples.items():
        sums = "".join(f", {_show_money(total, unit)}" for unit, total in counted.money.get(name, {}).items())
        print_line(f"  {name.replace('_', ' ')}: {counted.transitions[name]}{sums}; e.g. {_shorten(entry_ids)}")
    for title, counts in (
        ("reasons gained", counted.gained),
        ("reasons lost", counted.lost),
        ("the engine failed", counted.failures),
        ("not run", counted.refused),
    ):
        if counts:
            print_line(f"{title}: " + ", ".join(f"{code} {count}" for code, count in sorted(counts.items())))
    for code, entry_ids in counted.refused_samples.items():
        if code not in EXPECTED:
            print_line(f"  {code}: {_shorten(entry_ids)}")


def _shorten(entry_ids: Sequence[str]) -> str:
    return ", ".join(entry_ids[:SHOWN_SAMPLES])


def _show_money(total: int, currency: str) -> str:
    try:
        return f"{format_minor(total, currency)} {currency}"
    except Rejected:
        return f"{total} minor units of {currency}"


def parse_time(text: str | None, now: int) -> int | None:
    """Return a time in ms since 1970: of a date, a time (UTC unless it says otherwise), or `30d` before `now`."""
    if text is None:
        return None
    if text[-1:] in UNITS_S and text[:-1].isdecimal():
        return now - parse_duration(text) * 1000
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(f"{text[:32]!r} is no time: 2026-11-23, 2026-11-23T12:00, 30d", code="time_malformed") from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def write_report(path: Path, report: bytes) -> None:
    """Write the report. Raises Unavailable if that is not possible."""
    try:
        path.write_bytes(report)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written ({error.strerror})", code="state_file") from error


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """Lend a progress bar over the log's entries, on a terminal only."""
    columns = (TextColumn("entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = quiet or not sys.stderr.isatty()
    with Bar(*columns, console=Console(stderr=True), disable=disable) as bar:
        task = bar.add_task("replay", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
