"""`assay token`: issue and revoke API tokens."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from app.cli.opening import open_installation
from app.cli.output import PLAIN, AsJson, OfTenant, Quiet, describe, print_json, print_line, tell
from app.credentials import merchant_token
from app.credentials.merchant_token import DEFAULT_LIFETIME_S, Issued
from app.credentials.ports import Scope
from app.errors import Malformed
from app.wiring import TOKEN_SECRET, Installation, new_entry_id

ACTOR = "operator:cli"
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = typer.Typer(help="Issue and revoke API tokens.", no_args_is_help=True, add_completion=False, **PLAIN)


@app.command(
    help=describe(
        "Issue a token; it is printed once and stored nowhere.",
        "assay token issue --tenant demo --scope entries:write --scope entries:read",
        "assay token issue --tenant demo --scope entries:read --ttl 90d   # an auditor's",
        more="Issuing is an entry of the log. The token is on stdout, its id and expiry on stderr.",
    )
)
def issue(
    tenant: OfTenant,
    scope: Annotated[list[Scope], typer.Option("--scope", "-s", help="What it may do; repeat for more.")],
    ttl: Annotated[str, typer.Option("--ttl", help="How long it lives: 30m, 12h, 90d.")] = f"{DEFAULT_LIFETIME_S}s",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Issue a token."""
    with open_installation() as installation:
        issued = issue_token(installation, tenant, scope, lifetime_s=parse_duration(ttl))
    expires = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=issued.stored.expires_at_ms)
    if as_json:
        print_json({"token": issued.token, "id": issued.stored.id, "expires_at": expires.isoformat()})
        return
    tell(f"{issued.stored.id} of {tenant}, until {expires:%Y-%m-%d %H:%M} UTC. Keep it now:", quiet=quiet)
    print_line(issued.token)


@app.command(
    help=describe(
        "End a token at once.",
        "assay token revoke tok_0192… --tenant demo --reason leaked",
        more="Running servers stop accepting it within a second. Revoking is an entry of the log.",
    )
)
def revoke(
    token_id: Annotated[str, typer.Argument(help="The token's id, tok_…; never the token.")],
    tenant: OfTenant,
    reason: Annotated[str, typer.Option("--reason", help="A code, such as leaked or replaced.")] = "operator",
    quiet: Quiet = False,
) -> None:
    """End a token."""
    with open_installation() as installation:
        installation.read_tenant(tenant)
        revoked = merchant_token.revoke(
            tenant,
            token_id,
            store=installation.token_store(),
            append=installation.append_in,
            reason=reason,
            actor=ACTOR,
            new_id=new_entry_id,
        )
    tell(f"{token_id} is revoked" if revoked else f"{token_id} was revoked before", quiet=quiet)


def issue_token(
    installation: Installation, tenant: str, scopes: list[Scope], *, lifetime_s: int = DEFAULT_LIFETIME_S
) -> Issued:
    """Issue a token of this installation."""
    installation.read_tenant(tenant)
    return merchant_token.issue(
        tenant,
        scopes,
        store=installation.token_store(),
        pepper=installation.secret(TOKEN_SECRET),
        append=installation.append_in,
        actor=ACTOR,
        new_id=new_entry_id,
        random_bytes=os.urandom,
        lifetime_s=lifetime_s,
    )


def parse_duration(text: str) -> int:
    """Return the seconds in `90d`, `12h`, `30m` or `45s`. Raises Malformed."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdecimal()) or unit not in UNITS_S or len(text) > 12:  # noqa: PLR2004 -- far over any lifetime
        raise Malformed(f"{text[:16]!r} is not a duration: 45s, 30m, 12h or 90d", code="duration_malformed")
    return int(number) * UNITS_S[unit]
