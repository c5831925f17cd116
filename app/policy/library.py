"""The bundles of this process: which are in force for a tenant, and their content, read once.

What is in force is looked up at most once in `LOOK_S` for each tenant, so that a promotion elsewhere is seen soon and
a decision costs no query. Content never changes under a digest; tenants with equal bundles share one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from app.errors import NotFound, Unavailable
from app.policy.bundle import Bundle
from app.policy.kept import KeptBundle, State

LOOK_S: Final = 1.0
"""How long what was found to be in force is believed, in seconds."""
MAX_BUNDLES: Final = 64
"""Bundles held in memory; the one longest unused goes first."""
MAX_KNOWN: Final = 20_000
"""Tenants' claims to bundles that are remembered; past it they are looked up anew."""


class BundleLibrary:
    """One per process; safe to use from many threads."""

    def __init__(
        self,
        *,
        find_in_force: Callable[[str], Mapping[State, KeptBundle]],
        read: Callable[[str, str], Bundle],
        monotonic_s: Callable[[], float],
    ) -> None:
        """`read(tenant, digest)` returns a bundle that was proved; `monotonic_s` measures ages."""
        self._find_in_force = find_in_force
        self._read = read
        self._monotonic_s = monotonic_s
        self._in_force: dict[str, tuple[float, Mapping[State, str]]] = {}
        self._bundles: OrderedDict[str, Bundle] = OrderedDict()
        self._known: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def active(self, tenant: str) -> Bundle:
        """Return the bundle that decides for this tenant. Raises Unavailable if there is none."""
        digest = self._look(tenant).get(State.ACTIVE)
        if digest is None:
            raise Unavailable(
                "this tenant has no active policies; `assay serve` adopts the shipped ones when it starts",
                code="policies_missing",
            )
        return self.read(tenant, digest)

    def find_shadow(self, tenant: str) -> Bundle | None:
        """Return the bundle that is evaluated beside the active one, if there is any."""
        digest = self._look(tenant).get(State.SHADOW)
        return None if digest is None else self.read(tenant, digest)

    def read(self, tenant: str, digest: str) -> Bundle:
        """Return a bundle of this tenant, whatever its state. Raises NotFound (`bundle_unknown`)."""
        with self._lock:
            if (tenant, digest) in self._known and digest in self._bundles:
                self._bundles.move_to_end(digest)
                return self._bundles[digest]
        bundle = self._read(tenant, digest)
        with self._lock:
            bundle = self._bundles.setdefault(digest, bundle)
            self._bundles.move_to_end(digest)
            if len(self._bundles) > MAX_BUNDLES:
                self._bundles.popitem(last=False)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known.add((tenant, digest))
        return bundle

    def read_loaded(self, digest: str) -> Bundle:
        """Return a bundle that `read` returned lately, for an engine that knows no tenants. Raises NotFound."""
        with self._lock:
            bundle = self._bundles.get(digest)
        if bundle is None:
            raise NotFound("this process has not loaded such a bundle", code="bundle_unknown")
        return bundle

    def _look(self, tenant: str) -> Mapping[State, str]:
        """Return the digests in force, from memory if they were looked up lately; aged from before the look-up."""
        started_s = self._monotonic_s()
        found = self._in_force.get(tenant)
        if found is None or started_s - found[0] >= LOOK_S:
            in_force = {state: kept.digest for state, kept in self._find_in_force(tenant).items()}
            found = self._in_force[tenant] = (started_s, in_force)
        return found[1]
