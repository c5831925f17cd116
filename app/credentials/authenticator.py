"""Authentication on the hot path: tokens that were found lately are believed for `CACHE_TTL_S`.

Only known tokens are remembered, by their digest: guesses neither fill the cache nor push anything out of it. What
time decides, expiry, is checked on every call; what others decide, revocation, is seen after at most `CACHE_TTL_S`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from app.credentials.merchant_token import Principal, check_token, digest_presented
from app.credentials.pepper import Pepper
from app.credentials.ports import StoredToken, TokenStore

CACHE_TTL_S: Final = 1.0
CACHE_LIMIT_TOKENS: Final = 10_000


class Authenticator:
    """Tells who presents a token. One per process; safe to use from many threads."""

    def __init__(self, *, store: TokenStore, pepper: Pepper, monotonic_s: Callable[[], float]) -> None:
        """`monotonic_s` measures the cache's age: no clock step can make an entry last longer."""
        self._store = store
        self._pepper = pepper
        self._monotonic_s = monotonic_s
        self._found: dict[bytes, tuple[float, StoredToken, Principal]] = {}
        self._lock = threading.Lock()

    def authenticate(self, presented: str, *, now_ms: int) -> Principal:
        """Return who presents this token; as `merchant_token.authenticate`, from memory when it was found lately."""
        digest = digest_presented(self._pepper, presented)
        started_s = self._monotonic_s()
        found = self._found.get(digest)
        if found is not None:
            found_s, token, principal = found
            if started_s - found_s < CACHE_TTL_S and now_ms < token.expires_at_ms:
                return principal
        stored = self._store.find_token(digest)
        return self._remember(started_s, stored, check_token(stored, digest, now_ms=now_ms))

    def _remember(self, started_s: float, token: StoredToken | None, principal: Principal) -> Principal:
        """Keep what was found, aged from before the look-up; the oldest makes room."""
        if token is not None:
            with self._lock:
                self._found.pop(token.digest, None)
                while len(self._found) >= CACHE_LIMIT_TOKENS:
                    del self._found[next(iter(self._found))]
                self._found[token.digest] = (started_s, token, principal)
        return principal
