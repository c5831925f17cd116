"""`assay verify`: whether a receipt, an export, a database or a server shows the log that was signed.

Loads neither Flask nor, for receipts and exports, SQLAlchemy: an auditor needs no part of a server.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn
from urllib.parse import urlsplit

import typer
from typer.core import TyperGroup

from app.adapters.anchor_file import parse_anchor
from app.cli.output import PLAIN, AsJson, Quiet, complain, describe
from app.cli.verify_output import EXIT_CODES, EXIT_USAGE, print_report, shown_progress
from app.errors import AssayError, Refused, Rejected, Unavailable
from app.ledger.verify import (
    ExportSource,
    LogSource,
    Options,
    Outcome,
    RememberedHead,
    Report,
    TamperedError,
    default_state_file,
    find_remembered,
    read_trust,
    remember,
    verify_log,
    verify_receipt_file,
)
from app.ledger.verify.receipt import parse_openings
from app.ledger.verify.rehash import MAX_WORKERS
from app.ledger.verify.trust import log_keys, read_claim
from app.tlog.policy import MAX_POLICY_BYTES, Policy

if TYPE_CHECKING:
    from typer._click import Context

GUESS: Final = "target"
MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Of a receipt, an entry, an anchor or a file of sealed values."""
EXIT_CODES_TEXT: Final = (
    "Exit codes: 0 valid, 1 invalid, 2 usage, 3 could not check, 4 not yet in the log, 5 erased by policy."
)
HOW_TO_GET_A_KEY: Final = (
    "say whom you trust: --key VKEY, the log's verifier key, or --trust FILE, a tlog-policy file. Get it from the "
    "operator by another way than this log (contract, web site, telephone): GET /TENANT/keys and the file `keys` of "
    "an export prove nothing"
)

KeyOption = Annotated[list[str] | None, typer.Option("--key", "-k", help="A log's verifier key; repeat for more.")]
TrustOption = Annotated[Path | None, typer.Option("--trust", help="Trust file: logs, witnesses, quorum.")]
StateOption = Annotated[
    Path | None, typer.Option("--state", help="Where your last head is remembered [default: in XDG_STATE_HOME].")
]
NoState = Annotated[bool, typer.Option("--no-state", help="Neither use nor update the remembered head.")]
NoQuorum = Annotated[bool, typer.Option("--no-quorum", help="Report a missing quorum of witnesses, do not refuse it.")]
Workers = Annotated[int, typer.Option("--workers", "-w", min=1, max=MAX_WORKERS, help="Processes.")]
Deep = Annotated[bool, typer.Option("--deep", help="Also parse every entry, and compare what is derived from it.")]
Start = Annotated[int, typer.Option("--start", min=0, help="Re-hash entries from this index on; tiles before it.")]
AnchorOption = Annotated[Path | None, typer.Option("--anchor", help="A checkpoint that was kept outside the log.")]
EntryOption = Annotated[str | None, typer.Option("--entry", help="Also answer for this entry, ent_…")]
SealedOption = Annotated[Path | None, typer.Option("--sealed", help="JSON of sealed values: {path: {value, salt}}.")]
ErasureOption = Annotated[Path | None, typer.Option("--erasure", help="Receipt of the erasure of those values.")]
BodyOption = Annotated[Path | None, typer.Option("--body", help="The entry's bytes, if the receipt lacks them.")]
TenantOption = Annotated[str | None, typer.Option("--tenant", "-t", help="Whose log, in a database.")]


class GuessingGroup(TyperGroup):
    """`assay verify TARGET` without a kind."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Insert the hidden command that guesses, unless a command or help is asked for."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [GUESS, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=GuessingGroup,
    help=describe(
        "Verify a receipt, an export, a database or a server; `assay verify TARGET` guesses which.",
        "assay verify payment.tlog-proof --key log.example/demo+1a2b3c4d+AQ…",
        "assay verify ./export --trust trust.txt",
        "assay verify https://log.example/demo --trust trust.txt     # token in ASSAY_TOKEN",
        more=EXIT_CODES_TEXT,
    ),
    no_args_is_help=True,
    add_completion=False,
    **PLAIN,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What all commands have in common. `state`: the file of remembered heads, None if there shall be none."""

    key: list[str] | None
    trust: Path | None
    state: Path | None
    require_quorum: bool
    as_json: bool
    quiet: bool

    def read_trust(self) -> Policy:
        """Return whom to trust. Raises UsageError if nobody was named."""
        if not self.key and self.trust is None:
            raise UsageError(HOW_TO_GET_A_KEY)
        return read_trust(read_file(self.trust, MAX_POLICY_BYTES) if self.trust else None, self.key or [])


class UsageError(Rejected):
    """The command line must change."""

    code = "usage"


@app.command(
    help=describe(
        "Verify one receipt, offline.",
        "assay verify receipt payment.tlog-proof --key log.example/demo+1a2b3c4d+AQ…",
        "assay verify receipt payment.tlog-proof --trust trust.txt --sealed values.json",
        more=EXIT_CODES_TEXT,
    )
)
def receipt(
    file: Annotated[Path, typer.Argument(help="The receipt, a .tlog-proof file.")],
    *,
    key: KeyOption = None,
    trust: TrustOption = None,
    sealed: SealedOption = None,
    erasure: ErasureOption = None,
    body: BodyOption = None,
    state: StateOption = None,
    no_state: NoState = False,
    no_quorum: NoQuorum = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Verify one receipt."""
    asked = Asked(
        key=key,
        trust=trust,
        state=None if no_state else state or default_state_file(os.environ),
        require_quorum=not no_quorum,
        as_json=as_json,
        quiet=quiet,
    )
    answer(asked, str(file), lambda: verify_one_receipt(asked, file, sealed=sealed, erasure=erasure, body=body))


def add_log_command(name: str, help_text: str, open_source: Callable[[str, str | None], LogSource | Path]) -> None:
    """Add a command that verifies what `open_source(target, tenant)` opens; a path is that of a receipt."""

    @app.command(name, help=help_text, hidden=name == GUESS)
    def command(
        target: Annotated[str, typer.Argument(help="A file, a directory, a database URL or an address.")],
        *,
        tenant: TenantOption = None,
        key: KeyOption = None,
        trust: TrustOption = None,
        entry: EntryOption = None,
        deep: Deep = False,
        start: Start = 0,
        workers: Workers = 1,
        anchor: AnchorOption = None,
        state: StateOption = None,
        no_state: NoState = False,
        no_quorum: NoQuorum = False,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        asked = Asked(
            key=key,
            trust=trust,
            state=None if no_state else state or default_state_file(os.environ),
            require_quorum=not no_quorum,
            as_json=as_json,
            quiet=quiet,
        )

        def verify() -> Report:
            source = open_source(target, tenant)
            if isinstance(source, Path):
                return verify_one_receipt(asked, source)
            options = Options(
                anchor=parse_anchor(read_file(anchor), anchor) if anchor else None,
                start=start,
                deep=deep,
                entry_id=entry,
                require_quorum=asked.require_quorum,
                workers=workers,
            )
            return verify_source(asked, options, source)

        answer(asked, target.rpartition("@")[2], verify)  # what may hold a password is before the @


def verify_one_receipt(
    asked: Asked, file: Path, *, sealed: Path | None = None, erasure: Path | None = None, body: Path | None = None
) -> Report:
    """Return the report on a receipt."""
    trust = asked.read_trust()
    data = read_file(file)
    origin = _claimed_origin(data.partition(b"\n\n")[2], trust)
    return verify_receipt_file(
        data,
        trust,
        target=str(file),
        entry=read_file(body) if body else None,
        openings=parse_openings(read_file(sealed)) if sealed else None,
        erasure=read_file(erasure) if erasure else None,
        remembered=find_remembered(asked.state, origin) if asked.state and origin else None,
        require_quorum=asked.require_quorum,
    )


def verify_source(asked: Asked, options: Options, source: LogSource) -> Report:
    """Return the report on a log, and remember its head if it is valid."""
    if options.entry_id and options.start:
        raise UsageError("--entry needs the whole log: leave --start out")
    trust = asked.read_trust()
    origin = _claimed_origin(source.find_checkpoint(), trust)
    remembered = find_remembered(asked.state, origin) if asked.state and origin else None
    with shown_progress(hidden=asked.quiet or asked.as_json) as progress:
        report = verify_log(source, trust, replace(options, remembered=remembered), progress=progress)
    if asked.state and report.level is not None:
        remember(asked.state, _head_of(report, remembered, source))
    return report


def open_export(directory: str, _tenant: str | None) -> ExportSource:
    """Return the log of an export."""
    return ExportSource(Path(directory))


def open_database(url: str, tenant: str | None) -> LogSource:
    """Return the log in a database; only here is SQLAlchemy loaded."""
    if tenant is None:
        raise UsageError("a database holds several logs: say whose with --tenant")
    from app.adapters.sql.audit import DatabaseSource  # noqa: PLC0415 - an auditor of exports does not need it

    return DatabaseSource(url, tenant)


def open_url(address: str, _tenant: str | None = None) -> LogSource:
    """Return the log of a server, with the token of ASSAY_TOKEN."""
    from app.adapters.log_http import UrlSource  # noqa: PLC0415 - offline nothing that could use a network is loaded

    return UrlSource(address, os.environ.get("ASSAY_TOKEN") or None)


def guess(target: str, tenant: str | None) -> LogSource | Path:
    """Return what the target looks like; a plain file is a receipt."""
    scheme = urlsplit(target).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        return open_url(target)
    if scheme in ("sqlite", "postgresql", "postgres"):
        return open_database(target, tenant)
    return open_export(target, None) if Path(target).is_dir() else Path(target)


def read_file(path: Path, limit_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return a file of the user's. Raises Unavailable: what cannot be read says nothing about the log."""
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise UsageError(f"{path} is longer than {limit_bytes} bytes")
    return data


def answer(asked: Asked, target: str, verify: Callable[[], Report]) -> NoReturn:
    """Print the report and exit with its code.

    Nothing else may exit with 1, which says "invalid": not a mistake on the command line, nor one of ours.
    """
    try:
        report = verify()
    except (Rejected, Refused) as error:
        complain(str(error))
        raise typer.Exit(EXIT_USAGE) from error
    except AssayError as error:
        report = Report(outcome=Outcome.NOT_CHECKED, target=target, summary=str(error))
    except Exception as error:  # noqa: BLE001 - Python would exit with 1
        summary = f"the verifier itself failed, which says nothing about the log: {type(error).__name__}: {error}"
        report = Report(outcome=Outcome.NOT_CHECKED, target=target, summary=summary)
    print_report(report, as_json=asked.as_json, quiet=asked.quiet)
    raise typer.Exit(EXIT_CODES[report.outcome])


def _claimed_origin(note: bytes | None, trust: Policy) -> str | None:
    """Return the origin that a checkpoint claims, else that of the one log which is trusted."""
    try:
        return read_claim(note or b"", "").origin
    except TamperedError:
        names = {key.name for key in log_keys(trust)}
        return names.pop() if len(names) == 1 else None


def _head_of(report: Report, remembered: RememberedHead | None, source: LogSource) -> RememberedHead:
    """Return what to remember. Only a database keeps all checkpoints, so that one less than before is one too few."""
    counted = report.counts.get("checkpoints", 0) if source.find_head() is not None else 0
    return RememberedHead(
        origin=str(report.origin),
        size=report.size or 0,
        root=report.root or b"",
        note=report.checkpoint or b"",
        checkpoints=max(counted, remembered.checkpoints if remembered else 0),
    )


add_log_command(
    "export",
    describe("Verify an export.", "assay verify export ./export --trust trust.txt", more=EXIT_CODES_TEXT),
    open_export,
)
add_log_command(
    "database",
    describe(
        "Verify the log of a tenant where it is stored; reads only.",
        "assay verify database sqlite:////var/lib/assay/assay.db --tenant demo --trust trust.txt --deep",
        "assay verify database postgresql://auditor@db/assay --tenant demo --entry ent_0192… --trust trust.txt",
        more=f"A password belongs in PGPASSWORD or ~/.pgpass, not on the command line. {EXIT_CODES_TEXT}",
    ),
    open_database,
)
add_log_command(
    "url",
    describe(
        "Verify the log that a server shows.",
        "ASSAY_TOKEN=… assay verify url https://log.example/demo --trust trust.txt",
        more=f"Tiles are public; entries need an auditor's token, taken from ASSAY_TOKEN. {EXIT_CODES_TEXT}",
    ),
    open_url,
)
add_log_command(GUESS, "Guess what TARGET is.", guess)
