"""`assay policy bundle …` and `assay policy data …`: archives as files, the key that signs them, tables in and out."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from app.adapters.bundle_key import BundleKey
from app.cli.acting import acting
from app.cli.opening import open_installation
from app.cli.output import PLAIN, AsJson, OfTenant, Quiet, describe, print_json, print_line, print_table, tell
from app.cli.policy_key import print_key
from app.credentials.ports import Scope
from app.errors import Malformed, NotFound, Rejected
from app.ledger.canonical import parse_json
from app.policy.archive import MAX_ARCHIVE_BYTES, digest_tests, format_archive, parse_archive
from app.policy.bundle import MAX_FILE_BYTES, Bundle
from app.policy.signing import sign_archive, verify_archive
from app.policy.table import format_csv, list_rows, make_value, parse_csv
from app.wiring import Installation
from app.wiring.policies import load_folder

LIST_LIMIT: Final = 200
SEARCH_LIMIT: Final = 5_000
"""Bundles among which a beginning of a digest is looked for."""
SHORT: Final = 12
_PREFIX: Final = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_Output = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
_Bundle = Annotated[str | None, typer.Option("--bundle", help="A digest; the active bundle when absent.")]

bundle_app = typer.Typer(
    help=describe(
        "Archives of policies as files, and the key that signs them.",
        "assay policy bundle build policies -o bundle.tar.gz",
        "assay policy bundle list -t acme",
    ),
    no_args_is_help=True,
    add_completion=False,
    **PLAIN,
)
data_app = typer.Typer(
    help=describe(
        "Tables of a bundle's data, in and out.",
        "assay policy data list -t acme",
        "assay policy data get kyc_law -t acme --csv > kyc_law.csv",
    ),
    no_args_is_help=True,
    add_completion=False,
    **PLAIN,
)


@bundle_app.command(
    help=describe(
        "Make the archive of a folder of policies: the same content, the same bytes.",
        "assay policy bundle build policies -o bundle.tar.gz",
        "assay policy bundle build policies -o bundle.tar.gz --no-tests   # what engines load",
        more="Not signed: `assay policy bundle sign` does that, with this installation's key.",
    )
)
def build(
    folder: Annotated[Path, typer.Argument(help="The folder.", exists=True, file_okay=False)],
    output: _Output,
    tests: Annotated[bool, typer.Option("--tests/--no-tests", help="With the tests beside the policies.")] = True,
    quiet: Quiet = False,
) -> None:
    """Make an archive."""
    bundle, found = load_folder(folder)
    output.write_bytes(format_archive(bundle, tests=found if tests else {}, signature=None))
    tell(f"{output}: {len(bundle.files)} files, {len(found) if tests else 0} of tests", quiet=quiet)
    print_line(bundle.digest)


@bundle_app.command(
    help=describe(
        "Sign an archive with this installation's key, so that OPA can verify it.",
        "assay policy bundle sign bundle.tar.gz -o signed.tar.gz",
    )
)
def sign(
    archive: Annotated[Path, typer.Argument(help="The archive.", exists=True, dir_okay=False)], output: _Output
) -> None:
    """Sign an archive."""
    unpacked = parse_archive(_read(archive))
    with open_installation() as installation:
        output.write_bytes(sign_archive(unpacked.bundle, tests=unpacked.tests, signer=installation.policies.signer))
    print_line(unpacked.bundle.digest)


@bundle_app.command(
    help=describe(
        "Say what is in an archive, and whether a key that is believed here signed it.",
        "assay policy bundle inspect bundle.tar.gz",
        "assay policy bundle inspect bundle.tar.gz --json",
    )
)
def inspect(
    archive: Annotated[Path, typer.Argument(help="The archive.", exists=True, dir_okay=False)], as_json: AsJson = False
) -> None:
    """Look into an archive."""
    unpacked = parse_archive(_read(archive))
    if unpacked.signature is not None:
        with open_installation() as installation:
            verify_archive(unpacked, installation.policies.signer)
    bundle = unpacked.bundle
    facts = {
        "name": bundle.name,
        "digest": bundle.digest,
        "signed": unpacked.signature is not None,
        "files": list(bundle.files),
        "tests": list(unpacked.tests),
        "tests_digest": digest_tests(unpacked.tests),
        "data": [{"name": each.name, "version": each.version, "digest": each.digest} for each in bundle.data_versions],
    }
    if as_json:
        print_json(facts)
        return
    print_line(f"digest   {bundle.digest}")
    print_line(f"signed   {'yes, by a key that is believed here' if facts['signed'] else 'no'}")
    for path in [*bundle.files, *unpacked.tests]:
        print_line(f"file     {path}")


@bundle_app.command(
    "public-key",
    help=describe(
        "Print the public key by which OPA verifies our archives (ES256), its id on stderr.",
        "assay policy bundle public-key > assay-bundles.pem",
        "assay policy bundle public-key --json",
    ),
)
def public_key(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Print the public key."""
    with open_installation() as installation:
        signer = installation.policies.signer
        key = BundleKey(key_id=signer.key_id, state="signs", public_pem=signer.public_pem)
    print_key(key, as_json=as_json, quiet=quiet)


@bundle_app.command(
    "list",
    help=describe(
        "List the bundles of a tenant and their states, the newest first.", "assay policy bundle list -t acme"
    ),
)
def list_all(
    tenant: OfTenant,
    limit: Annotated[int, typer.Option(min=1, max=LIST_LIMIT, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List bundles."""
    with open_installation() as installation:
        installation.read_tenant(tenant)
        kept = installation.policies.store.list_bundles(tenant, before=None, limit=limit)
    if as_json:
        print_json([each.to_json() for each in kept])
        return
    rows = [(each.digest[:SHORT], each.state, each.author, each.proposer or "", each.approver or "") for each in kept]
    print_table(("BUNDLE", "STATE", "AUTHOR", "PROPOSER", "APPROVER"), rows, empty="no policies yet")


@data_app.command(
    "list",
    help=describe("List the tables of a bundle, with their versions.", "assay policy data list -t acme"),
)
def list_tables(tenant: OfTenant, bundle: _Bundle = None, as_json: AsJson = False) -> None:
    """List tables."""
    with open_installation() as installation:
        found = _read_bundle(installation, tenant, bundle)
    versions = {each.name: each.version for each in found.data_versions}
    counts = {name: list_rows(value) for name, value in found.data.items()}
    facts = [
        {
            "name": name,
            "version": versions[name],
            "rows": None if rows is None else len(rows),
            "has_schema": name in found.schemas,
        }
        for name, rows in counts.items()
    ]
    if as_json:
        print_json({"bundle": found.digest, "tables": facts})
        return
    rows = [(f["name"], f["version"], "-" if f["rows"] is None else f["rows"], f["has_schema"]) for f in facts]
    print_table(("TABLE", "VERSION", "ROWS", "SCHEMA"), rows, empty="the bundle has no data")


@data_app.command(
    help=describe(
        "Print a table of a bundle, as JSON or as CSV.",
        "assay policy data get kyc_law -t acme --csv > kyc_law.csv",
        "assay policy data get routing -t acme --bundle 90679adb5aa7",
    )
)
def get(
    table: Annotated[str, typer.Argument(help="The table's name.")],
    tenant: OfTenant,
    bundle: _Bundle = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header; else as JSON.")] = False,
) -> None:
    """Print a table."""
    with open_installation() as installation:
        found = _read_bundle(installation, tenant, bundle)
    if table not in found.data:
        raise NotFound(f"the bundle has no table {table[:64]!r}: `assay policy data list`", code="table_unknown")
    sys.stdout.write(format_csv(found, table) if csv else found.files[f"data/{table}/data.json"].decode())


@data_app.command(
    "set",
    help=describe(
        "Keep a draft with a table changed, from a file of CSV or JSON.",
        "ASSAY_TOKEN=ask_… assay policy data set kyc_law kyc_law.csv -t acme --version 2026-11-25.2",
        "assay policy data set routing routing.json -t acme",
        more="It must fit the table's schema, and the bundle must still pass its tests. Then shadow and promote it.",
    ),
)
def set_table(
    table: Annotated[str, typer.Argument(help="The table's name.")],
    file: Annotated[Path, typer.Argument(help="Its new content, .csv or .json.", exists=True, dir_okay=False)],
    tenant: OfTenant,
    *,
    version: Annotated[str | None, typer.Option(help="The version that a CSV cannot say.")] = None,
    bundle: _Bundle = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Change a table."""
    with acting(tenant, Scope.POLICIES_WRITE) as author:
        base = _read_bundle(author.installation, tenant, bundle)
        value = _parse_table(base, table, file, version)
        tell("compiling, and running the tests …", quiet=quiet)
        kept, change = author.installation.policies.change_table(
            tenant, base, table, value, actor=author.principal.actor
        )
    tell(f"{change.rows:,} rows, {change.added:,} came, {change.removed:,} went; kept as a draft:", quiet=quiet)
    if as_json:
        facts = {"rows": change.rows, "added": change.added, "removed": change.removed}
        print_json({"bundle": kept.to_json(), "change": facts})
    else:
        print_line(kept.digest)


def find_digest(installation: Installation, tenant: str, text: str) -> str:
    """Return the whole digest of the one bundle that begins so. Raises Malformed, NotFound, Rejected if several do."""
    if not _PREFIX.fullmatch(text):
        raise Malformed("a digest is 64 hex digits, or at least the first 8", code="usage")
    installation.read_tenant(tenant)
    found: set[str] = set()
    before, looked = None, 0
    while looked < SEARCH_LIMIT:
        page = installation.policies.store.list_bundles(tenant, before=before, limit=LIST_LIMIT)
        found |= {kept.digest for kept in page if kept.digest.startswith(text)}
        looked += LIST_LIMIT
        if len(page) < LIST_LIMIT:
            break
        before = page[-1].added_id
    if not found:
        raise NotFound(f"{tenant} has no bundle {text[:SHORT]}…: `assay policy bundle list`", code="bundle_unknown")
    if len(found) > 1:
        raise Rejected(f"several bundles begin with {text[:SHORT]}; give more digits", code="usage")
    return found.pop()


def _read_bundle(installation: Installation, tenant: str, digest: str | None) -> Bundle:
    installation.read_tenant(tenant)
    if digest is None:
        return installation.active_bundle(tenant)
    return installation.read_bundle(tenant, find_digest(installation, tenant, digest))


def _parse_table(base: Bundle, table: str, file: Path, version: str | None) -> dict[str, Any]:
    data = _read(file)
    if file.suffix != ".csv":
        value = parse_json(data, limit_bytes=MAX_FILE_BYTES)
        if not isinstance(value, dict):
            raise Malformed(f"{file} is not a JSON object", code="json_malformed")
        return value
    if version is None:
        raise Malformed("a CSV says no version: give --version", code="table_malformed")
    try:
        return make_value(base, table, parse_csv(base, table, data.decode()), version=version)
    except UnicodeDecodeError:
        raise Malformed(f"{file} is not UTF-8", code="table_malformed") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as opened:
        return opened.read(MAX_ARCHIVE_BYTES + 1)
