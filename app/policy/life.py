"""The life of a bundle, from draft to retired; each step is one transaction with its entry (app.policy.kept).

Nothing is activated that does not compile, keep the dialect, pass its own tests and bear a signature that we believe;
nor by its author or proposer; nor if another bundle became active since the approver looked. Whatever is refused, the
active bundle stays. A crash leaves a step undone or done, never half.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from app.errors import Broken, Conflict, NotFound, Refused, Rejected
from app.ledger.entry import Draft, Entry, parse_entry, time_of_id
from app.policy.archive import Unpacked, digest_tests, parse_archive
from app.policy.bundle import Bundle
from app.policy.evidence import Approval, Reports, check_evidence, check_impact
from app.policy.kept import ASSAY, NEXT_STATES, KeptBundle, State
from app.policy.ports import Append, BundleCheck, BundleStore, BundleTransaction, CheckResult
from app.policy.signing import BundleSigner, sign_archive, verify_archive

PROBLEMS_SHOWN: Final = 5
_REASON: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLife:
    """The steps, over one store. `check` compiles a bundle and runs its tests."""

    store: BundleStore
    signer: BundleSigner
    check: BundleCheck
    append: Append
    new_id: Callable[[], UUID]

    def add(
        self,
        tenant: str,
        bundle: Bundle,
        tests: Mapping[str, bytes],
        *,
        actor: str,
        base: str | None = None,
        changed: Mapping[str, Any] | None = None,
    ) -> tuple[KeptBundle, bool]:
        """Keep a bundle as a draft of `actor`; False if the tenant has it already, whatever its state.

        `changed` is the data of `policy.data_changed` if the bundle is `base` with another table. Raises Rejected
        (`bundle_refused`) if it may not be enforced, Conflict (`bundle_tests_differ`) if it is kept with other tests.
        """
        found = self.store.find_bundle(tenant, bundle.digest)
        if found is not None:
            self._require_same_tests(tenant, bundle.digest, tests)
            return found, False
        checked = self._require_sound(bundle, tests)
        entry_id = self.new_id()
        kept = KeptBundle(
            tenant=tenant,
            digest=bundle.digest,
            name=bundle.name,
            state=State.DRAFT,
            author=actor,
            base=base,
            added_id=entry_id,
            changed_at_ms=time_of_id(entry_id),
        )
        data = {"name": bundle.name, "files": len(bundle.files), "tests": _describe_tests(tests, checked.tests)}
        with self.store.transaction() as tx:
            tx.add_bundle(kept, sign_archive(bundle, tests=tests, signer=self.signer))
            self._log(
                tx, kept, "policy.bundle_added", actor, data | ({"base": base} if base else {}), entry_id=entry_id
            )
            if changed is not None:
                self._log(tx, kept, "policy.data_changed", actor, {**changed, "base": base})
        return kept, True

    def propose(self, tenant: str, digest: str, reports: Reports, *, actor: str) -> KeptBundle:
        """Put a draft, or a retired bundle, into the shadow place, with reports; who is there becomes a draft again.

        Raises NotFound, Conflict (`bundle_state`) from another state, and as `check_impact`.
        """
        replayed = self._find_replay(tenant, reports)
        with self.store.transaction() as tx:
            before, in_force = tx.lock_bundle(tenant, digest)
            _require_step(before, State.SHADOW)
            _require_impact(before, in_force, reports, replayed)
            other = in_force.get(State.SHADOW)
            if other is not None:
                tx.update_bundle(self._move(other, State.DRAFT))
            after = self._move(before, State.SHADOW, proposer=actor, approver=None, reports=reports.to_json())
            tx.update_bundle(after)
            data: dict[str, Any] = {"author": after.author, "reports": reports.to_json()}
            self._log(tx, after, "policy.bundle_shadowed", actor, data | ({"replaces": other.digest} if other else {}))
        return after

    def activate(self, tenant: str, digest: str, approval: Approval, *, actor: str) -> KeptBundle:
        """Put the shadow bundle into force; the active one is retired in the same transaction.

        Raises NotFound; Conflict (`bundle_state`, `bundle_superseded`); Refused (`approval_own_change`); Rejected
        (`bundle_refused`, and as `check_evidence` and `check_impact`); Broken (`bundle_damaged`).
        """
        in_force = self.store.find_in_force(tenant)  # first: who loses a race finds the bundle active
        found = self.store.find_bundle(tenant, digest)
        if found is None:
            raise NotFound("there is no such bundle", code="bundle_unknown")
        replayed = self._find_replay(tenant, Reports.from_json(found.reports))
        _require_approval(found, in_force, approval, actor, replayed)
        unpacked = self.read(tenant, digest)
        checked = self._require_sound(unpacked.bundle, unpacked.tests)
        with self.store.transaction() as tx:
            before, in_force = tx.lock_bundle(tenant, digest)
            _require_approval(before, in_force, approval, actor, replayed)
            active = in_force.get(State.ACTIVE)
            if active is not None:
                self._retire(tx, active, reason="replaced", actor=actor)
            after = self._move(before, State.ACTIVE, approver=actor)
            tx.update_bundle(after)
            data = _describe_approval(after, approval) | {"tests": _describe_tests(unpacked.tests, checked.tests)}
            self._log(tx, after, "policy.bundle_activated", actor, data)
        return after

    def retire(self, tenant: str, digest: str, *, reason: str, actor: str) -> KeptBundle:
        """Give up a draft or a shadow bundle. Raises NotFound, Rejected, and Conflict (`bundle_state`).

        The active one is retired by activating another: without any, nothing would be allowed.
        """
        if not _REASON.fullmatch(reason):
            raise Rejected("reason is a code: a-z, 0-9, _ and ., at most 64", code="reason_invalid", pointer="/reason")
        with self.store.transaction() as tx:
            before, _ = tx.lock_bundle(tenant, digest)
            if before.state is State.ACTIVE:
                raise Conflict("this bundle is active: activate another in its place", code="bundle_state")
            return self._retire(tx, before, reason=reason, actor=actor)

    def adopt(self, tenant: str, bundle: Bundle, tests: Mapping[str, bytes]) -> KeptBundle:
        """Keep and activate the bundle that a tenant without one begins with, in the name of Assay itself.

        It is ours and was tested with this release. Raises Conflict if the tenant has one, or gets one right now.
        """
        entry_id = self.new_id()
        kept = KeptBundle(
            tenant=tenant,
            digest=bundle.digest,
            name=bundle.name,
            state=State.ACTIVE,
            author=ASSAY,
            approver=ASSAY,
            added_id=entry_id,
            changed_at_ms=time_of_id(entry_id),
        )
        data = {"name": bundle.name, "files": len(bundle.files), "tests": _describe_tests(tests, None)}
        with self.store.transaction() as tx:
            tx.add_bundle(kept, sign_archive(bundle, tests=tests, signer=self.signer))
            self._log(tx, kept, "policy.bundle_added", ASSAY, data, entry_id=entry_id)
            activated = _describe_approval(kept, Approval(replaces=None)) | {"tests": data["tests"]}
            self._log(tx, kept, "policy.bundle_activated", ASSAY, activated)
        return kept

    def read(self, tenant: str, digest: str) -> Unpacked:
        """Return what is kept under this digest, proved by its signature.

        Raises NotFound (`bundle_unknown`), and Broken (`bundle_damaged`) if the store holds something else.
        """
        archive = self.store.read_archive(tenant, digest)
        try:
            unpacked = parse_archive(archive)
            verify_archive(unpacked, self.signer)
        except (Rejected, Refused) as error:
            raise Broken(f"the bundle {digest} is not as it was kept: {error}", code="bundle_damaged") from error
        if unpacked.bundle.digest != digest:
            raise Broken(f"another bundle is kept under the digest {digest}", code="bundle_damaged")
        return unpacked

    def _find_replay(self, tenant: str, reports: Reports) -> Entry | None:
        """Return the log's word on the replay that the report on impact names, if it names one that is there."""
        stored = None if reports.impact is None else self.store.find_replay(tenant, reports.impact.digest)
        return None if stored is None else parse_entry(stored.body)

    def _require_same_tests(self, tenant: str, digest: str, tests: Mapping[str, bytes]) -> None:
        if digest_tests(self.read(tenant, digest).tests) != digest_tests(tests):
            raise Conflict(
                "this bundle is kept with other tests; what is approved does not change: change the policies too",
                code="bundle_tests_differ",
            )

    def _require_sound(self, bundle: Bundle, tests: Mapping[str, bytes]) -> CheckResult:
        checked = self.check(bundle, tests)
        if checked.problems:
            shown = "; ".join(checked.problems[:PROBLEMS_SHOWN])
            more = f"; and {len(checked.problems) - PROBLEMS_SHOWN} more" * (len(checked.problems) > PROBLEMS_SHOWN)
            raise Rejected(f"the bundle may not be enforced: {shown}{more}", code="bundle_refused")
        return checked

    def _move(self, kept: KeptBundle, state: State, **changes: Any) -> KeptBundle:
        return replace(kept, state=state, changed_at_ms=time_of_id(self.new_id()), **changes)

    def _retire(self, tx: BundleTransaction, kept: KeptBundle, *, reason: str, actor: str) -> KeptBundle:
        _require_step(kept, State.RETIRED)
        after = self._move(kept, State.RETIRED)
        tx.update_bundle(after)
        self._log(tx, after, "policy.bundle_retired", actor, {"reason": reason})
        return after

    def _log(
        self,
        tx: BundleTransaction,
        kept: KeptBundle,
        action: str,
        actor: str,
        data: Mapping[str, Any],
        *,
        entry_id: UUID | None = None,
    ) -> None:
        draft = Draft(action=action, actor=actor, ref={"bundle": kept.digest}, data={"digest": kept.digest, **data})
        self.append(tx, kept.tenant, draft, entry_id or self.new_id())


def _require_step(kept: KeptBundle, state: State) -> None:
    if state not in NEXT_STATES[kept.state]:
        raise Conflict(f"the bundle is {kept.state}, and cannot become {state} from there", code="bundle_state")


def _require_impact(
    kept: KeptBundle, in_force: Mapping[State, KeptBundle], reports: Reports, replayed: Entry | None
) -> None:
    if reports.impact is not None:
        active = in_force.get(State.ACTIVE)
        check_impact(reports.impact, replayed, bundle=kept.digest, active=active.digest if active else None)


def _require_approval(
    kept: KeptBundle,
    in_force: Mapping[State, KeptBundle],
    approval: Approval,
    actor: str,
    replayed: Entry | None,
) -> None:
    """Refuse what this person may not approve, or may not approve any more."""
    _require_step(kept, State.ACTIVE)
    if actor in {kept.author, kept.proposer}:
        raise Refused("whoever wrote or proposed a bundle cannot approve it", code="approval_own_change")
    active = in_force.get(State.ACTIVE)
    if (active.digest if active else None) != approval.replaces:
        raise Conflict("another bundle is active than the one to be replaced; look again", code="bundle_superseded")
    reports = Reports.from_json(kept.reports)
    _require_impact(kept, in_force, reports, replayed)
    check_evidence(reports, approval)


def _describe_tests(tests: Mapping[str, bytes], passed: int | None) -> dict[str, Any]:
    """Return the tests' digest and how many passed here; None if they were not run here."""
    return {"digest": digest_tests(tests), "files": len(tests)} | ({} if passed is None else {"passed": passed})


def _describe_approval(kept: KeptBundle, approval: Approval) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": kept.name,
        "author": kept.author,
        "reports": dict(kept.reports),
        "waived": sorted(approval.waived),
        "accepted_deny_to_allow": approval.accepted_deny_to_allow,
    }
    if approval.replaces is not None:
        data["replaces"] = approval.replaces
    return data | ({"proposer": kept.proposer} if kept.proposer else {})
