"""`assay policy push, diff, shadow, promote, retire, history`: a bundle's way into force.

Steps are taken in the name of a token, from `ASSAY_TOKEN`: four eyes are two tokens. What only looks needs none.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from app.cli.acting import acting
from app.cli.opening import open_installation
from app.cli.output import AsJson, OfTenant, Quiet, Yes, describe, print_json, print_line, print_table, tell
from app.cli.policy_bundle import bundle_app, data_app, find_digest
from app.cli.policy_key import key_app
from app.credentials.ports import Scope
from app.errors import Malformed, Refused
from app.ledger.canonical import parse_json
from app.ledger.entry import parse_entry
from app.policy.archive import MAX_ARCHIVE_BYTES, format_archive
from app.policy.bundle import MAX_FILE_BYTES
from app.policy.evidence import REPORTS, Approval, Reports, parse_reports
from app.policy.kept import KeptBundle, State
from app.wiring.policies import load_folder

LIST_LIMIT: Final = 200
SHORT: Final = 12
_Digest = Annotated[str, typer.Argument(help="The bundle's digest, or its beginning, at least 8 digits.")]


def register(group: typer.Typer) -> None:
    """Add these commands to `assay policy`."""
    group.command(help=PUSH)(push)
    group.command(help=DIFF)(diff)
    group.command(help=SHADOW)(shadow)
    group.command(help=PROMOTE)(promote)
    group.command(help=RETIRE)(retire)
    group.command(help=HISTORY)(history)
    group.add_typer(bundle_app, name="bundle")
    group.add_typer(data_app, name="data")
    group.add_typer(key_app, name="key")


PUSH: Final = describe(
    "Keep the policies of a folder, or of an archive, as a draft.",
    "ASSAY_TOKEN=ask_… assay policy push policies -t acme",
    "assay policy push bundle.tar.gz -t acme --json",
    more="They must compile and pass their own tests. Pushed again, the same policies change nothing.",
)


def push(
    path: Annotated[Path, typer.Argument(help="A folder of policies, or an archive.", exists=True)],
    tenant: OfTenant,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Keep a bundle as a draft."""
    archive = read_archive(path)
    with acting(tenant, Scope.POLICIES_WRITE) as author:
        tell("compiling, and running the tests …", quiet=quiet)
        policies = author.installation.policies
        kept, created = policies.push(author.tenant, archive, name=None, actor=author.principal.actor)
    tell("kept as a draft:" if created else f"kept before, now {kept.state}:", quiet=quiet)
    show(kept, as_json=as_json)


DIFF: Final = describe(
    "Compare two bundles: files, the text of policies, rows of data.",
    "assay policy diff 90679adb5aa7 -t acme          # with the active one",
    "assay policy diff 90679adb5aa7 4c1d2e3f -t acme",
)


def diff(
    first: _Digest,
    tenant: OfTenant,
    second: Annotated[str | None, typer.Argument(help="The later bundle; alone, the first one is.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two bundles."""
    with open_installation() as installation:
        before = find_digest(installation, tenant, first) if second else None
        after = find_digest(installation, tenant, second or first)
        told = installation.policies.compare(tenant, before, after)
    if as_json:
        print_json(asdict(told))
        return
    for word, paths in (("added", told.added), ("removed", told.removed), ("changed", told.changed)):
        for path in paths:
            print_line(f"{word:8} {path}")
    for name, change in told.tables.items():
        print_line(f"data     {name}: {change.rows:,} rows, {change.added:,} came, {change.removed:,} went")
    print_line(f"\n{told.text}".rstrip())
    if told.cut_off:
        tell("… the rest is cut off")


SHADOW: Final = describe(
    "Propose a bundle: it is evaluated beside the active one, and never acted on.",
    "assay policy shadow 90679adb5aa7 -t acme",
    "assay policy shadow 90679adb5aa7 -t acme --reports reports.json",
    more="Reports are JSON: coverage {digest, percent}, parity {digest, cases, differences}, impact {digest, base, "
    "decisions, changed, deny_to_allow}. The approver relies on them; the log gets them. Impact is taken only as "
    "`assay policy replay --digest DIGEST --json` printed and logged it.",
)


def shadow(
    digest: _Digest,
    tenant: OfTenant,
    reports: Annotated[Path | None, typer.Option("--reports", help="A file of reports.", exists=True)] = None,
    as_json: AsJson = False,
) -> None:
    """Propose a bundle."""
    said = Reports() if reports is None else read_reports(reports)
    with acting(tenant, Scope.POLICIES_WRITE) as author:
        whole = find_digest(author.installation, tenant, digest)
        kept = author.installation.policies.life.propose(tenant, whole, said, actor=author.principal.actor)
    show(kept, as_json=as_json)


PROMOTE: Final = describe(
    "Put the proposed bundle into force, as the second person.",
    "ASSAY_TOKEN=ask_… assay policy promote 90679adb5aa7 -t acme",
    "assay policy promote 90679adb5aa7 -t acme --waive parity --accept-deny-to-allow 3 --yes",
    more="Needs a token with policies:approve that is neither its author's nor its proposer's. A report that is "
    "missing is waived by name; decisions that would turn from deny to allow are accepted by their number.",
)


def promote(
    digest: _Digest,
    tenant: OfTenant,
    *,
    replaces: Annotated[str | None, typer.Option(help="The active bundle that gives way; asked for if absent.")] = None,
    waive: Annotated[list[str] | None, typer.Option(help=f"Do without: {', '.join(REPORTS)}.")] = None,
    accept_deny_to_allow: Annotated[int, typer.Option(min=0, help="How many; must be the report's number.")] = 0,
    yes: Yes = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Activate the proposed bundle."""
    waived = frozenset(waive or ())
    if not waived <= set(REPORTS):
        raise Malformed(f"what can be waived is {', '.join(REPORTS)}", code="usage")
    with acting(tenant, Scope.POLICIES_APPROVE) as author:
        policies = author.installation.policies
        whole = find_digest(author.installation, tenant, digest)
        active = policies.store.find_in_force(tenant).get(State.ACTIVE)
        expected = active.digest if active else None
        if replaces is not None:
            expected = find_digest(author.installation, tenant, replaces)
        confirm(policies.store.find_bundle(tenant, whole), active, yes=yes or replaces is not None)
        approval = Approval(replaces=expected, waived=waived, accepted_deny_to_allow=accept_deny_to_allow)
        tell("running the tests again …", quiet=quiet)
        kept = policies.life.activate(tenant, whole, approval, actor=author.principal.actor)
    tell("active; running servers follow within a second:", quiet=quiet)
    show(kept, as_json=as_json)


RETIRE: Final = describe(
    "Give up a draft or a proposed bundle.",
    "assay policy retire 90679adb5aa7 -t acme --reason not_needed",
    more="The active one is retired by promoting another. Its content stays, so that decisions can be replayed.",
)


def retire(
    digest: _Digest,
    tenant: OfTenant,
    reason: Annotated[str, typer.Option(help="A code, such as not_needed.")] = "not_needed",
    as_json: AsJson = False,
) -> None:
    """Give up a bundle."""
    with acting(tenant, Scope.POLICIES_WRITE) as author:
        whole = find_digest(author.installation, tenant, digest)
        life = author.installation.policies.life
        kept = life.retire(tenant, whole, reason=reason, actor=author.principal.actor)
    show(kept, as_json=as_json)


HISTORY: Final = describe(
    "List who added, proposed, approved and retired which policies, the newest first.",
    "assay policy history -t acme",
    "assay policy history -t acme --json",
)


def history(
    tenant: OfTenant,
    limit: Annotated[int, typer.Option(min=1, max=LIST_LIMIT, help="How many entries.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the entries about policies."""
    with open_installation() as installation:
        installation.read_tenant(tenant)
        found = installation.policies.store.list_history(tenant, before=None, limit=limit)
    entries = [(stored.index, parse_entry(stored.body)) for stored in found]
    if as_json:
        print_json([{"index": index, **parse_json(entry.body, limit_bytes=MAX_FILE_BYTES)} for index, entry in entries])
        return
    rows = [
        (
            f"{datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=entry.time_ms):%Y-%m-%d %H:%M:%S}",
            entry.action.removeprefix("policy."),
            str(entry.data.get("digest", ""))[:SHORT],
            entry.actor,
        )
        for _, entry in entries
    ]
    print_table(("TIME (UTC)", "WHAT", "BUNDLE", "WHO"), rows, empty="no policies yet")


def read_archive(path: Path) -> bytes:
    """Return the archive in a file, or made of a folder. Raises Malformed and TooLarge."""
    if path.is_dir():
        bundle, tests = load_folder(path)
        return format_archive(bundle, tests=tests, signature=None)
    with path.open("rb") as opened:
        return opened.read(MAX_ARCHIVE_BYTES + 1)


def read_reports(path: Path) -> Reports:
    """Return the reports in a file. Raises Malformed."""
    with path.open("rb") as opened:
        return parse_reports(parse_json(opened.read(MAX_FILE_BYTES + 1), limit_bytes=MAX_FILE_BYTES))


def confirm(proposed: KeptBundle | None, active: KeptBundle | None, *, yes: bool) -> None:
    """Say what is about to happen, and ask. Raises Refused if the answer is no."""
    if proposed is None or yes:
        return
    tell(f"{proposed.digest[:SHORT]} by {proposed.author}, proposed by {proposed.proposer}")
    for name, report in proposed.reports.items():
        tell(f"  {name}: {', '.join(f'{key} {value}' for key, value in report.items() if key != 'digest')}")
    gives_way = active.digest[:SHORT] if active else "nothing"
    if not typer.confirm(f"Activate it in the place of {gives_way}?", err=True):
        raise Refused("nothing was done", code="not_confirmed")


def show(kept: KeptBundle, *, as_json: bool) -> None:
    """Print a bundle: its digest, or all of it as JSON."""
    if as_json:
        print_json(kept.to_json())
    else:
        print_line(kept.digest)
