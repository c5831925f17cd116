"""The policies of one installation: where bundles are kept, what checks them, which of them decide."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from app.adapters.bundle_key import FileBundleSigner
from app.adapters.opa_process import running_opa
from app.adapters.rego import RegoEngine
from app.adapters.rego_dialect import list_offences
from app.adapters.rego_tests import run_tests
from app.adapters.rego_trace import DoesNotCompileError, TraceFailedError, run_rules
from app.adapters.sql.policies import SqlBundleStore
from app.adapters.sql.subjects import SqlSubjectStore
from app.errors import AssayError, Broken, Conflict, Malformed, NotFound, Rejected, Unavailable
from app.ledger.entry import parse_entry
from app.policy.annotation import list_rules
from app.policy.archive import parse_archive
from app.policy.authorize import Authorizer
from app.policy.bundle import TEST_SUFFIX, Bundle, make_bundle, read_files
from app.policy.decision import EngineRef
from app.policy.difference import Difference, compare_bundles
from app.policy.explain import Step, Trace, explain, list_queries
from app.policy.kept import KeptBundle, State
from app.policy.library import BundleLibrary
from app.policy.life import BundleLife
from app.policy.ports import Append, CheckResult, EngineFailed, PolicyEngine, evaluate_each
from app.policy.query import Query
from app.policy.routing_table import Kind, list_problems
from app.policy.signing import sign_archive, verify_archive
from app.policy.table import Change, change_table
from app.settings import Settings
from app.subjects.decider import Decider
from app.subjects.ports import Prepare

BUNDLE_NAME: Final = "assay"
"""Of every bundle that Assay makes, and the name under which OPA servers ask for it."""
MAX_SERVERS: Final = 4
"""OPA servers that a job keeps at one time, each with one bundle."""
SERVER_TIMEOUT_S: Final = 10.0
MAX_OFFENCES: Final = 20
"""Offences against the dialect that are told one by one."""
MAX_CHECKS: Final = 2
"""Bundles checked at one time in a process: each is a child with memory and CPU of its own."""
CHECK_WAIT_S: Final = 10
HISTORY_LOOKED_AT: Final = 1_000
"""Entries about policies among which the last activation is looked for."""
_CHECKS: Final = threading.BoundedSemaphore(MAX_CHECKS)


class Policies:
    """One per installation; opens its key at first use."""

    def __init__(
        self, folder: Path, key_folder: Path, *, store: SqlBundleStore, append: Append, new_id: Callable[[], UUID]
    ) -> None:
        """`folder` holds the policies that a new tenant begins with, `key_folder` the key that signs archives."""
        self._folder = folder
        self._key_folder = key_folder
        self._append = append
        self._new_id = new_id
        self.store = store
        self.library = BundleLibrary(
            find_in_force=self.store.find_in_force, read=self._read, monotonic_s=time.monotonic
        )

    @cached_property
    def signer(self) -> FileBundleSigner:
        """The key that signs archives. Raises Unavailable if `assay init` was not run."""
        return FileBundleSigner(self._key_folder)

    @cached_property
    def life(self) -> BundleLife:
        """The steps of a bundle's life."""
        return BundleLife(
            store=self.store, signer=self.signer, check=check_bundle, append=self._append, new_id=self._new_id
        )

    def authorizer(self) -> Authorizer:
        """Who may call what, by the folder's policies: what a tenant promotes opens no door."""
        bundle, _ = load_folder(self._folder)
        return Authorizer(RegoEngine(lambda _: bundle, workers=1), bundle_digest=bundle.digest)

    def adopt(self, tenant: str) -> KeptBundle | None:
        """Give a tenant without active policies those of the folder; None if it has some by now."""
        if State.ACTIVE in self.store.find_in_force(tenant):
            return None
        bundle, tests = load_folder(self._folder)
        with suppress(Conflict):
            return self.life.adopt(tenant, bundle, tests)
        return None

    def adopt_where_missing(self) -> list[str]:
        """Give every tenant without active policies those of the folder; return who got them."""
        return [tenant for tenant in self.store.list_without_active() if self.adopt(tenant) is not None]

    def push(self, tenant: str, archive: bytes, *, name: str | None, actor: str) -> tuple[KeptBundle, bool]:
        """Keep the bundle of an archive from elsewhere as a draft; False if it was kept before.

        A signed archive must be signed by a key that we believe; an unsigned one is vouched for by its author's token.
        Raises as `parse_archive`, `verify_archive` and `BundleLife.add` do.
        """
        unpacked = parse_archive(archive, name=name)
        if unpacked.signature is not None:
            verify_archive(unpacked, self.signer)
        return self.life.add(tenant, unpacked.bundle, unpacked.tests, actor=actor)

    def change_table(
        self, tenant: str, base: Bundle, table: str, value: Mapping[str, Any], *, actor: str
    ) -> tuple[KeptBundle, Change]:
        """Keep a draft of `base`, with its tests, and with one table changed. Raises as `change_table` and `add` do."""
        bundle, change = change_table(base, table, value)
        [version] = [each for each in bundle.data_versions if each.name == table]
        changed = {
            "table": table,
            "version": version.version,
            "data_digest": version.digest,
            "rows": change.rows,
            "added": change.added,
            "removed": change.removed,
        }
        tests = self.life.read(tenant, base.digest).tests
        kept, _ = self.life.add(tenant, bundle, tests, actor=actor, base=base.digest, changed=changed)
        return kept, change

    def compare(self, tenant: str, before: str | None, after: str) -> Difference:
        """Return what a bundle changes of another, or of the active one. Raises NotFound."""
        old = self.library.active(tenant) if before is None else self.library.read(tenant, before)
        return compare_bundles(old, self.library.read(tenant, after))

    def verify_active(self, tenant: str) -> None:
        """Raise Broken unless the active bundle can be read, and is the one that the log last says was activated.

        The signature proves what a bundle holds, not that two people chose it: that is what the log is for.
        """
        active = self.library.active(tenant)
        for stored in self.store.list_history(tenant, before=None, limit=HISTORY_LOOKED_AT):
            entry = parse_entry(stored.body)
            if entry.action == "policy.bundle_activated":
                if entry.data.get("digest") == active.digest:
                    return
                break
        raise Broken(f"the log does not say that the bundle {active.digest} was activated last", code="bundle_damaged")

    def sign(self, bundle: Bundle, tests: Mapping[str, bytes] | None = None) -> bytes:
        """Return the signed archive of a bundle: what OPA loads, unless there are tests in it."""
        return sign_archive(bundle, tests=tests or {}, signer=self.signer)

    def _read(self, tenant: str, digest: str) -> Bundle:
        return self.life.read(tenant, digest).bundle


def open_decider(
    store: SqlSubjectStore,
    append: Append,
    prepare: Prepare,
    engine: PolicyEngine,
    *,
    now: Callable[[], datetime],
    new_id: Callable[[], UUID],
) -> Decider:
    """Return what decides with this engine and logs it."""
    return Decider(
        store=store,
        append=append,
        prepare=prepare,
        engine=engine,
        now=now,
        new_id=new_id,
        random_bytes=os.urandom,
        monotonic_ns=time.perf_counter_ns,
    )


def trace_rules(bundle: Bundle, entrypoint: str, document: Mapping[str, Any]) -> tuple[Trace, list[Step]]:
    """Return what the rule `package/rule` comes to for the input, and each rule that was looked at on the way.

    Runs within bounds, in a process of its own. Raises Malformed if the bundle does not compile, Rejected if a rule
    fails or exceeds a bound.
    """
    rules, query = list_rules(bundle.modules), "data." + entrypoint.replace("/", ".")
    try:
        run = run_rules(bundle.modules, bundle.data, [query], document=dict(document), besides=list_queries(rules))
    except DoesNotCompileError as error:
        raise Malformed(f"the bundle {bundle.name!r} does not compile: {error}", code="bundle_malformed") from None
    except TraceFailedError as error:
        raise Rejected(f"the rules were ended: {error} ({error.failure})", code="trace_failed") from None
    if query in run.errors:
        raise Rejected(f"the rule fails: {run.errors[query]}", code="trace_failed")
    trace = Trace(value=run.values.get(query), covered=run.covered, not_covered=run.not_covered, values=run.values)
    return trace, explain(rules, trace)


def list_table_problems(bundle: Bundle) -> list[str]:
    """Return what is wrong with the bundle's routing table, if it has one; an order that decides is not wrong."""
    found = list_problems(bundle.data["routing"]) if "routing" in bundle.data else []
    return [f"data/routing: {problem.message}" for problem in found if problem.kind is not Kind.OVERLAP]


def load_folder(folder: Path) -> tuple[Bundle, dict[str, bytes]]:
    """Return the bundle of a folder and the tests beside it. Raises Malformed and TooLarge."""
    files = read_files(folder, with_tests=True)
    tests = {path: content for path, content in files.items() if path.endswith(TEST_SUFFIX)}
    policies = {path: content for path, content in files.items() if path not in tests}
    return make_bundle(policies, name=BUNDLE_NAME), tests


def check_bundle(bundle: Bundle, tests: Mapping[str, bytes]) -> CheckResult:
    """Hold the bundle against the dialect, its routing table against the linter, and run its tests (BundleCheck)."""
    if not _CHECKS.acquire(timeout=CHECK_WAIT_S):
        raise Unavailable("too many bundles are being checked; send it again", code="overloaded", retry_after_s=5)
    try:
        problems = (*list_offences(bundle)[:MAX_OFFENCES], *list_table_problems(bundle))
        return CheckResult(problems=problems, tests=0) if problems else run_tests(bundle, tests)
    except Malformed as error:
        return CheckResult(problems=(str(error),), tests=0)
    finally:
        _CHECKS.release()


def open_policy_engine(settings: Settings, read_bundle: Callable[[str], Bundle]) -> PolicyEngine:
    """Return the engine of the settings, which starts or asks nothing yet; `read_bundle` takes a digest."""
    if settings.policy_engine == "rego":
        return RegoEngine(read_bundle)
    from app.adapters.opa import OpaEngine  # noqa: PLC0415 -- brings aiohttp, for those alone who ask OPA

    return OpaEngine(settings.opa_url, timeout_s=settings.opa_timeout_s)


class OpaOfBundles:
    """A `PolicyEngine` over every bundle that `read` knows: an OPA server of its own for each, started when asked for.

    For jobs that compare engines, by one thread. At most `MAX_SERVERS` run; the servers end with `stack`.
    """

    def __init__(self, program: Path, read: Callable[[str], Bundle], stack: ExitStack) -> None:
        self._program = program
        self._read = read
        self._stack = stack
        self._servers: dict[str, PolicyEngine] = {}
        self.ref = EngineRef(name="opa", version="unknown")

    def evaluate(
        self, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str, decision_id: str | None = None
    ) -> Mapping[str, Any]:
        """Return the object of the rule `entrypoint`; see the port."""
        engine = self._servers.get(bundle_digest) or self._start(bundle_digest)
        try:
            return engine.evaluate(entrypoint, document, bundle_digest=bundle_digest, decision_id=decision_id)
        finally:
            self.ref = engine.ref

    def evaluate_all(
        self, questions: Sequence[Query], *, bundle_digest: str
    ) -> Sequence[Mapping[str, Any] | EngineFailed]:
        """Return the answers; see the port."""
        return evaluate_each(self.evaluate, questions, bundle_digest=bundle_digest)

    def find_problem(self) -> str | None:
        """Return None: a server is started when it is asked for."""
        return None

    def _start(self, digest: str) -> PolicyEngine:
        from app.adapters.opa import OpaEngine  # noqa: PLC0415 -- as above

        try:
            bundle = self._read(digest)
            if len(self._servers) >= MAX_SERVERS:
                self._stack.close()
                self._servers.clear()
            server = self._stack.enter_context(running_opa(self._program, bundle))
        except NotFound:
            raise EngineFailed("there is no such bundle", failure="wrong_bundle") from None
        except AssayError as error:
            raise EngineFailed(f"no OPA for this bundle: {error.code}", failure="unreachable") from None
        engine = self._stack.enter_context(closing(OpaEngine(server.url, timeout_s=SERVER_TIMEOUT_S)))
        self._servers[digest] = engine
        return engine
