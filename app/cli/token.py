"""`assay token`: issue, list and revoke API tokens."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from app.cli.opening import open_installation
from app.cli.output import PLAIN, AsJson, OfTenant, Quiet, describe, print_json, print_line, print_table, tell
from app.credentials import merchant_token
from app.credentials.merchant_token import DEFAULT_LIFETIME_S, Issued
from app.credentials.ports import Scope, StoredToken
from app.errors import Malformed
from app.wiring import TOKEN_SECRET, Installation, new_entry_id, now_ms

ACTOR = "operator:cli"
LIST_LIMIT = 1000
"""Tokens in one list."""
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

app = typer.Typer(help="Issue, list and revoke API tokens.", no_args_is_help=True, add_completion=False, **PLAIN)


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
    "list",
    help=describe(
        "List the tokens of a tenant that are accepted now, the newest first; never the tokens themselves.",
        "assay token list --tenant demo",
        "assay token list --tenant demo --all --json",
        more="Who issued and who ended a token is in the log: the actions token.issued and token.revoked.",
    ),
)
def list_all(
    tenant: OfTenant,
    everything: Annotated[bool, typer.Option("--all", help="Expired and revoked ones too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the tokens of a tenant."""
    with open_installation() as installation:
        installation.read_tenant(tenant)
        at_ms = now_ms()
        tokens = installation.token_store().list_tokens(
            tenant, live_at_ms=None if everything else at_ms, limit=LIST_LIMIT + 1
        )
    if len(tokens) > LIST_LIMIT:
        tell(f"only the newest {LIST_LIMIT:,} are listed")
    facts = [_describe(token, at_ms) for token in tokens[:LIST_LIMIT]]
    if as_json:
        print_json(facts)
        return
    rows = [(each["id"], each["state"], each["expires_at"], ",".join(each["scopes"])) for each in facts]
    print_table(("ID", "STATE", "EXPIRES", "SCOPES"), rows, empty="no tokens: `assay token issue` makes one")


def _describe(token: StoredToken, at_ms: int) -> dict[str, Any]:
    """Return what may be shown of a token: neither it nor its digest."""
    ended = "revoked" if token.revoked_at_ms is not None else "expired"
    revoked_at = None if token.revoked_at_ms is None else _format_time(token.revoked_at_ms)
    return {
        "id": token.id,
        "state": "live" if token.is_live(at_ms) else ended,
        "scopes": sorted(token.scopes),
        "issued_at": _format_time(token.issued_at_ms),
        "expires_at": _format_time(token.expires_at_ms),
        "revoked_at": revoked_at,
    }


def _format_time(at_ms: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)).isoformat(timespec="seconds")


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
