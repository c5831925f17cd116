"""Acting in a command in the name of a token, from `ASSAY_TOKEN`: where two people must be two tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from app.cli.opening import open_installation
from app.credentials import merchant_token
from app.credentials.merchant_token import Principal
from app.credentials.ports import Scope
from app.errors import Refused, Unauthenticated
from app.wiring import TOKEN_SECRET, Installation, now_ms

TOKEN_VARIABLE: Final = "ASSAY_TOKEN"  # noqa: S105 -- a variable's name


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """An installation, and who is asking."""

    installation: Installation
    principal: Principal

    @property
    def tenant(self) -> str:
        """The tenant of the token."""
        return self.principal.tenant


@contextmanager
def acting(tenant: str, scope: Scope) -> Iterator[Author]:
    """Lend the installation to whoever holds the token in `ASSAY_TOKEN`. Raises Refused without the scope."""
    presented = os.environ.get(TOKEN_VARIABLE)
    if not presented:
        raise Unauthenticated(
            f"export {TOKEN_VARIABLE}=ask_… with the scope {scope.value}: `assay token issue` makes one",
            code="token_missing",
        )
    with open_installation() as installation:
        installation.read_tenant(tenant)
        store, pepper = installation.token_store(), installation.secret(TOKEN_SECRET)
        principal = merchant_token.authenticate(store, pepper, presented, now_ms=now_ms())
        if principal.tenant != tenant:
            raise Refused(f"the token in {TOKEN_VARIABLE} is not one of {tenant}", code="scope_missing")
        principal.require(scope)
        yield Author(installation=installation, principal=principal)
