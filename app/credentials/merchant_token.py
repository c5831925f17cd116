"""Merchants' tokens: opaque, 256 random bits, scoped, expiring, revocable, of one tenant (notes/zero-trust.md, 6).

    ask_<43 characters of base64url>      "ask_" so that secret scanners find a leaked one; the rest means nothing

Stored and looked up by HMAC-SHA256 under the pepper: a guess costs the server one hash and one look-up by an index
whose order an attacker can neither choose nor see. Issuing and revoking are entries of the log.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from app.credentials.pepper import Pepper
from app.credentials.ports import Append, Scope, StoredToken, TokenStore, TokenTransaction
from app.errors import NotFound, Refused, Rejected, Unauthenticated
from app.ledger.entry import Draft, check_draft, time_of_id
from app.ledger.ports import LogFrozenError

SCANNER_PREFIX: Final = "ask_"
TOKEN_BYTES: Final = 32
ID_PREFIX: Final = "tok_"
DEFAULT_LIFETIME_S: Final = 7 * 24 * 3600
MAX_LIFETIME_S: Final = 90 * 24 * 3600
_TOKEN: Final = re.compile(r"ask_[A-Za-z0-9_-]{43}", re.ASCII)
_REASON: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking: a token of one tenant, and what it may do."""

    tenant: str
    token_id: str
    scopes: frozenset[Scope]

    @property
    def actor(self) -> str:
        """The actor of the entries that this principal causes."""
        return f"token:{self.token_id}"

    def require(self, scope: Scope) -> None:
        """Raise Refused unless the token has this scope, where the operation alone does not say which one is needed."""
        if scope not in self.scopes:
            raise Refused(f"this needs a token with the scope {scope.value}", code="scope_missing")


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token: shown once, stored nowhere."""

    token: str = field(repr=False)
    stored: StoredToken


def issue(
    tenant: str,
    scopes: Collection[Scope],
    *,
    store: TokenStore,
    pepper: Pepper,
    append: Append,
    actor: str,
    new_id: Callable[[], UUID],
    random_bytes: Callable[[int], bytes],
    lifetime_s: int = DEFAULT_LIFETIME_S,
) -> Issued:
    """Make a token of `tenant`, with its entry. It is valid from the time of the entry's id, for `lifetime_s`.

    Raises Rejected without a scope or for a lifetime over `MAX_LIFETIME_S`, NotFound if there is no such tenant.
    """
    if not scopes:
        raise Rejected("a token has at least one scope", code="scopes_empty", pointer="/scopes")
    if not 0 < lifetime_s <= MAX_LIFETIME_S:
        raise Rejected(f"a token lives 1 to {MAX_LIFETIME_S:,} s", code="lifetime_invalid", pointer="/lifetime_s")
    token = SCANNER_PREFIX + base64.urlsafe_b64encode(random_bytes(TOKEN_BYTES)).rstrip(b"=").decode()
    entry_id = new_id()
    issued_at_ms = time_of_id(entry_id)
    stored = StoredToken(
        id=ID_PREFIX + new_id().hex,
        tenant=tenant,
        digest=pepper.digest(token),
        scopes=frozenset(scopes),
        issued_at_ms=issued_at_ms,
        expires_at_ms=issued_at_ms + 1000 * lifetime_s,
    )

    with store.transaction() as tx:
        tx.add_token(stored)
        append(tx, tenant, _draft_issued(stored, actor), entry_id)
    return Issued(token, stored)


def revoke(
    tenant: str,
    token_id: str,
    *,
    store: TokenStore,
    append: Append,
    reason: str,
    actor: str,
    new_id: Callable[[], UUID],
) -> bool:
    """End a token, with its entry; False if it was revoked before, and then nothing is logged.

    Other processes stop accepting it within `CACHE_TTL_S`. Raises NotFound if the tenant has no such token, Rejected
    if `reason` is not a code. In a frozen log it is revoked without an entry.
    """
    entry_id = new_id()
    draft = _draft_revoked(token_id, reason, actor)
    try:
        with store.transaction() as tx:
            revoked = _revoke_in(tx, tenant, token_id, at_ms=time_of_id(entry_id))
            if revoked:
                append(tx, tenant, draft, entry_id)
            return revoked
    except LogFrozenError:
        with store.transaction() as tx:
            return _revoke_in(tx, tenant, token_id, at_ms=time_of_id(entry_id))


def authenticate(store: TokenStore, pepper: Pepper, presented: str, *, now_ms: int) -> Principal:
    """Return who presents this token. Raises Unauthenticated, by `token_malformed`, `token_unknown`, and, to one who
    proved to have held the token, `token_revoked` or `token_expired`. Its messages never repeat the token.
    """
    digest = digest_presented(pepper, presented)
    return check_token(store.find_token(digest), digest, now_ms=now_ms)


def digest_presented(pepper: Pepper, presented: str) -> bytes:
    """Return the digest of what was presented. Raises Unauthenticated if it does not even look like a token."""
    if not _TOKEN.fullmatch(presented):
        raise Unauthenticated("this is not a token of Assay (ask_…)", code="token_malformed")
    return pepper.digest(presented)


def check_token(token: StoredToken | None, digest: bytes, *, now_ms: int) -> Principal:
    """Return the principal of the token that was found for `digest`. Raises Unauthenticated."""
    if token is None or not hmac.compare_digest(token.digest, digest):
        raise Unauthenticated("no such token", code="token_unknown")
    if token.revoked_at_ms is not None:
        raise Unauthenticated("this token was revoked", code="token_revoked")
    if now_ms >= token.expires_at_ms:
        raise Unauthenticated("this token has expired; ask for a new one", code="token_expired")
    return Principal(tenant=token.tenant, token_id=token.id, scopes=token.scopes)


def _revoke_in(tx: TokenTransaction, tenant: str, token_id: str, *, at_ms: int) -> bool:
    token = tx.lock_token(tenant, token_id)
    if token is None:
        raise NotFound(f"no token {token_id[:64]}")
    if token.revoked_at_ms is not None:
        return False
    tx.revoke_token(tenant, token_id, at_ms=at_ms)
    return True


def _draft_issued(token: StoredToken, actor: str) -> Draft:
    scopes = ",".join(sorted(token.scopes))
    return Draft(
        action="token.issued",
        actor=actor,
        ref={"token": token.id},
        data={"token": token.id, "scopes": scopes, "expires_at_ms": token.expires_at_ms},
    )


def _draft_revoked(token_id: str, reason: str, actor: str) -> Draft:
    if not _REASON.fullmatch(reason):
        raise Rejected("reason is a code: a-z, 0-9, _ and ., at most 64", code="reason_invalid", pointer="/reason")
    draft = Draft(
        action="token.revoked", actor=actor, ref={"token": token_id[:128]}, data={"token": token_id, "reason": reason}
    )
    check_draft(draft)
    return draft
