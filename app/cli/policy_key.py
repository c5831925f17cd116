"""`assay policy key`: the key that signs archives of policies for OPA servers (app.adapters.bundle_key).

Of the whole installation, where `assay key` is about the keys of one log.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from app.adapters.bundle_key import ALGORITHM, BundleKey, list_bundle_keys, retire_bundle_key, rotate_bundle_key
from app.cli.configuring import open_settings
from app.cli.output import PLAIN, AsJson, Quiet, Yes, describe, print_json, print_table, tell
from app.errors import Refused
from app.wiring import BUNDLE_KEYS

key_app = typer.Typer(
    help=describe(
        "List, rotate and retire the keys that sign archives of policies.",
        "assay policy key list",
        "assay policy key rotate > next.pem",
    ),
    no_args_is_help=True,
    add_completion=False,
    **PLAIN,
)


@key_app.command(
    "list", help=describe("List the keys whose archives are believed, and which one signs.", "assay policy key list")
)
def list_all(as_json: AsJson = False) -> None:
    """List the keys."""
    keys = list_bundle_keys(open_settings().state_dir / BUNDLE_KEYS)
    if as_json:
        print_json([asdict(key) for key in keys])
        return
    print_table(("KEY", "STATE"), [(key.key_id, key.state) for key in keys])


@key_app.command(
    help=describe(
        "Make the key that is to sign next, and print its public half; the old one signs until you retire it.",
        "assay policy key rotate > next.pem",
        "assay policy key retire 1f0a9c55e2d84b70   # later, when every OPA server has the new one",
        more="Give OPA servers the new public key beside the old one, and every web server the folder bundle_keys/. "
        "Called again, it prints the same key.",
    )
)
def rotate(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Make the next key."""
    print_key(rotate_bundle_key(open_settings().state_dir / BUNDLE_KEYS), as_json=as_json, quiet=quiet)


@key_app.command(
    help=describe(
        "Have the next key sign, and destroy the private half of the old one for good.",
        "assay policy key retire 1f0a9c55e2d84b70",
        more="What the old key signed is believed as before. Running servers follow with the next archive. If "
        "interrupted, run it again.",
    )
)
def retire(
    key_id: Annotated[str, typer.Argument(help="The key that signs now, as `assay policy key list` prints it.")],
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Retire the key that signs."""
    if not yes and not typer.confirm(f"Retire {key_id} for good? OPA servers must have the next key.", err=True):
        raise Refused("nothing was done", code="not_confirmed")
    signing = retire_bundle_key(open_settings().state_dir / BUNDLE_KEYS, key_id)
    tell(f"{key_id} signs nothing any more; archives are signed by {signing}", quiet=quiet)


def print_key(key: BundleKey, *, as_json: bool, quiet: bool) -> None:
    """Print a public key for OPA's configuration, its id on stderr."""
    if as_json:
        print_json({"key_id": key.key_id, "algorithm": ALGORITHM, "key": key.public_pem})
        return
    tell(f"key id {key.key_id}, {ALGORITHM}", quiet=quiet)
    sys.stdout.write(key.public_pem)
