"""Who asks, what for, and how often: bearer tokens, scopes, rate limits.

A view declares its scope with `needs`; one that declares nothing asks for no token. The policy `authz` has the last
word, and a view without a row in its table is refused to everybody. All this comes before the request is parsed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from flask import Flask, Request, request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from werkzeug.routing import Rule

from app.credentials.merchant_token import Principal
from app.credentials.ports import Scope
from app.errors import NotFound, Unauthenticated, Unavailable
from app.policy.authorize import Authorize
from app.settings import Settings

View = TypeVar("View", bound=Callable[..., object])
PRINCIPAL = "assay.principal"
"""Where the WSGI environment holds who asks."""
CALLERS_LIMIT = 10_000
"""Callers remembered by a counter; past it their leases are taken anew."""
LEASES_PER_LIMIT = 100
"""A limiter is asked once for a hundredth of its limit: a busy token costs it nothing."""

NOBODY: frozenset[Scope] = frozenset()
AUTOMATIC = {"HEAD", "OPTIONS"}
"""Methods that the framework answers itself, as the view's own."""

Authenticate = Callable[[str], Principal]


def needs(scope: Scope) -> Callable[[View], View]:
    """Mark a view: its caller's token must carry `scope`."""

    def mark(view: View) -> View:
        view.scope = scope  # type: ignore[attr-defined]  # read by `Gate.check`, kept by functools.wraps
        return view

    return mark


def caller() -> Principal:
    """Return who asks; only in views that declare a scope."""
    principal: Principal = request.environ[PRINCIPAL]
    return principal


class Counter:
    """Counts requests by caller against a fixed window of a minute, through leases taken from `limits`."""

    def __init__(self, per_minute: int) -> None:
        """Allow `per_minute` requests to each caller, in this process."""
        self._limiter = FixedWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(per_minute)
        self._lease = max(1, per_minute // LEASES_PER_LIMIT)
        self._left: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def count(self, who: str) -> None:
        """Raise Unavailable (`rate_limited`) if this caller has had its share of this minute."""
        minute = int(time.time()) // 60
        with self._lock:
            of_minute, left = self._left.get(who, (minute, 0))
            if left and of_minute == minute:
                self._left[who] = (minute, left - 1)
                return
            if len(self._left) >= CALLERS_LIMIT:
                self._left.clear()
            if self._limiter.hit(self._limit, who, cost=self._lease):
                self._left[who] = (minute, self._lease - 1)
                return
        wait_s = self._limiter.get_window_stats(self._limit, who).reset_time - time.time()
        raise Unavailable(
            f"more than {self._limit.amount:,} requests in a minute",
            code="rate_limited",
            retry_after_s=max(1, int(wait_s)),
        )


class Gate:
    """The checks before and after every request."""

    def __init__(self, app: Flask, authenticate: Authenticate, authorize: Authorize, settings: Settings) -> None:
        """Hook into `app`."""
        self._authenticate = authenticate
        self._authorize = authorize
        self._views = app.view_functions
        self._rules = app.url_map
        self._operations: dict[str, str] = {}
        self._callers = Counter(settings.rate_limit_per_minute)
        self._visitors = Counter(settings.public_rate_limit_per_minute)
        app.before_request(self.check)

    def check(self) -> None:
        """Authenticate the request, authorise it, and count it."""
        asked: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 -- each use of the proxy is a look-up
        endpoint = asked.endpoint
        if endpoint is None or getattr(self._views.get(endpoint), "scope", None) is None:
            self._visitors.count(asked.remote_addr or "unknown")
            if endpoint is not None:
                self._authorize(NOBODY, self._name(endpoint))
            return
        try:
            principal = self._authenticate(_bearer_token(asked))
        except Unauthenticated:
            self._visitors.count(asked.remote_addr or "unknown")  # guessing has a limit too
            raise
        asked.environ[PRINCIPAL] = principal
        self._callers.count(principal.token_id)
        self._authorize(principal.scopes, self._name(endpoint))

    def _name(self, endpoint: str) -> str:
        """Return the operation's name in the policy's table, `POST /v1/entries`; views do not come and go."""
        operation = self._operations.get(endpoint)
        if operation is None:
            operation = self._operations[endpoint] = name_operation(next(self._rules.iter_rules(endpoint)))
        return operation


def name_operation(rule: Rule) -> str:
    """Return the name of what a rule serves: its method, and its path as the application declares it."""
    methods = sorted((rule.methods or set()) - AUTOMATIC)
    return f"{','.join(methods)} {rule.rule}"


def require_tenant(tenant: str) -> None:
    """Raise NotFound unless the caller's token is of this tenant: others' logs look absent."""
    if caller().tenant != tenant:
        raise NotFound("there is no such log", code="tenant_unknown")


def _bearer_token(asked: Request) -> str:
    kind, _, token = str(asked.environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if kind.lower() != "bearer" or not token:
        raise Unauthenticated("send your token as `Authorization: Bearer …`", code="token_missing")
    return token.strip()
