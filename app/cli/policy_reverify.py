"""`assay policy reverify`: a sample of enforced decisions run again on every engine; a difference is an alarm."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import typer

from app.adapters.opa_tools import find_tool
from app.adapters.rego import RegoEngine
from app.cli.logs import start_logging
from app.cli.opening import open_installation
from app.cli.output import EXIT_NOT_DONE, AsJson, Quiet, complain, describe, print_json, tell
from app.cli.policy_replay import ACTOR, Since, parse_time
from app.cli.process import Follow, follow_parent, stop_on_signals
from app.cli.replaying import Job, find_start, is_enforced, read_bundle
from app.errors import AssayError, Malformed
from app.ledger.entry import Draft, format_entry_id
from app.ledger.ports import EntryFilter, StoredEntry
from app.policy.ports import PolicyEngine
from app.policy.record import ACTION
from app.policy.replay import Past, Reverified, Unusable, reverify
from app.subjects.ports import READ_BATCH
from app.subjects.recall import Recall
from app.wiring import Installation, now_ms
from app.wiring.policies import OpaOfBundles

log = logging.getLogger("assay.reverify")

SAMPLE_DEFAULT: Final = 200
SAMPLE_LIMIT: Final = 100_000
LOOK_EVERY_S: Final = 600.0
"""How often `--watch` looks which logs are due; it waits as long before the first look, so that no start is slower."""
DUE_AFTER_S: Final = 24 * 3600
"""How long after its last reverification a log is due for the next one."""
DRAWS_PER_DECISION: Final = 8
"""Random places looked at for each decision wanted: several lead to the same decision, or to none."""

HELP: Final = describe(
    "Run a sample of enforced decisions again, on the embedded engine and on OPA if `opa` is there.",
    "assay policy reverify --tenant demo",
    "assay policy reverify --tenant demo --sample 1000 --since 1d",
    "assay policy reverify --watch   # each open log, once a day: `assay up` runs this",
    more="Each must come to the bytes that were logged. Exit code 1 if one does not, or cannot be run again and should "
    "be. What was found is the entry `policy.reverified`.",
)


class Done(NamedTuple):
    """What a reverification left: its entry with its data, and what a person must look at."""

    entry_id: str
    data: dict[str, Any]
    problems: list[str]

    def describe(self) -> str:
        """Return it in one line."""
        if self.problems:
            return f"entry {self.entry_id}"
        names = " and ".join(f"{engine['name']} {engine['version']}" for engine in self.data["engines"])
        return (
            f"{self.data['decisions']} of {self.data['sampled']} decisions came to the logged bytes on {names}, "
            f"{self.data['erased']} are erased; entry {self.entry_id}"
        )


def run(
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Whose log.", metavar="TENANT")] = None,
    *,
    sample: Annotated[
        int | None, typer.Option("--sample", "-n", min=1, max=SAMPLE_LIMIT, help="Decisions of a log at most.")
    ] = None,
    since: Since = None,
    watch: Annotated[bool, typer.Option("--watch", help="Each open log once a day, until SIGTERM.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    follow: Follow = None,
) -> None:
    """Run a sample again."""
    with open_installation() as installation:
        wanted = sample or installation.settings.reverify_sample or SAMPLE_DEFAULT
        if watch:
            start_logging()
            stop = stop_on_signals()
            follow_parent(follow)
            watch_logs(installation, wanted, stop, quiet=quiet)
            return
        if tenant is None:
            raise Malformed("give --tenant, or --watch for every open log", code="usage")
        done = reverify_log(installation, tenant, wanted, since)
    if as_json:
        print_json({"entry": done.entry_id, **done.data, "problems": done.problems})
    for problem in done.problems if not as_json else ():
        complain(problem)
    tell(done.describe(), quiet=quiet or as_json)
    if done.problems:
        raise typer.Exit(EXIT_NOT_DONE)


def watch_logs(installation: Installation, wanted: int, stop: threading.Event, *, quiet: bool) -> None:
    """Reverify each open log that is due, until `stop`; a store or an engine that is away only delays it.

    Two processes that do this may both reverify a log, and log that twice.
    """
    while not stop.wait(LOOK_EVERY_S):
        try:
            due = list_due(installation)
        except AssayError as error:
            log.error("policy reverification is delayed: %s", error)  # noqa: TRY400 -- our own words, no trace
            continue
        for tenant in due:
            if stop.is_set():
                return
            try:
                done = reverify_log(installation, tenant, wanted, None)
            except AssayError as error:
                log.error("policy reverification of %s is delayed: %s", tenant, error)  # noqa: TRY400 -- as above
            else:
                tell(f"{tenant}: {done.describe()}", quiet=quiet)


def list_due(installation: Installation) -> list[str]:
    """Return the open logs whose last reverification is a day old, or that never had one, as the logs say."""
    before_ms = now_ms() - DUE_AFTER_S * 1000
    return [tenant for tenant, last in installation.reverified().items() if last is None or last.time_ms <= before_ms]


def reverify_log(installation: Installation, tenant: str, wanted: int, since: str | None) -> Done:
    """Run at most `wanted` decisions of a log again, log what came of it, and raise the alarm if anything did."""
    job = plan_sample(installation, tenant, since)
    recall = installation.recall(job.tenant, size=job.size)
    found = Reverified()
    with ExitStack() as stack:
        engines = open_engines(stack, installation, job)
        for past in recall_all(recall, draw_sample(installation, job, wanted)):
            reverify(engines, past, found)
    refs = [{"name": engine.ref.name, "version": engine.ref.version} for engine in engines]
    data = {**found.counts(), "checkpoint_size": job.size, "engines": refs}
    entry_id = format_entry_id(installation.append(tenant, Draft(action="policy.reverified", actor=ACTOR, data=data)))
    problems = found.list_problems()
    for problem in problems:
        log.critical("policy reverification of %s: %s", tenant, problem)
    return Done(entry_id, data, problems)


def plan_sample(installation: Installation, tenant: str, since: str | None) -> Job:
    """Return where to draw from: the newest signed tree, from `since` on."""
    log_of = installation.read_tenant(tenant)
    size, since_ms = installation.recall(log_of).tree.size, parse_time(since, now_ms())
    start = find_start(installation, log_of, size, since_ms)
    return Job(settings=installation.settings, tenant=log_of, start=start, size=size, since_ms=since_ms)


def open_engines(stack: ExitStack, installation: Installation, job: Job) -> Sequence[PolicyEngine]:
    """Return the embedded engine, and OPA if its program is there, for as long as `stack` is open."""
    read = partial(read_bundle, installation, job)
    engines: list[PolicyEngine] = [stack.enter_context(closing(RegoEngine(read, workers=1)))]
    program = find_tool("opa")
    return engines if program is None else [*engines, OpaOfBundles(program, read, stack.enter_context(ExitStack()))]


def draw_sample(installation: Installation, job: Job, wanted: int) -> list[StoredEntry]:
    """Return at most `wanted` enforced decisions, drawn by chance that nobody can foresee, in log order."""
    dice, found = random.SystemRandom(), dict[int, StoredEntry]()
    for _ in range(wanted * DRAWS_PER_DECISION):
        if len(found) >= wanted or job.start >= job.size:
            break
        page = installation.store.list_entries(
            job.tenant.id,
            EntryFilter(action=ACTION),
            start=dice.randrange(job.start, job.size),
            stop=job.size,
            limit=1,
        )
        for stored in page.entries:
            if is_enforced(stored):
                found[stored.seq] = stored
    return [found[seq] for seq in sorted(found)]


def recall_all(recall: Recall, stored: Sequence[StoredEntry]) -> Iterator[Past | Unusable]:
    """Yield each as it can be run again, a bounded number read at a time."""
    for start in range(0, len(stored), READ_BATCH):
        yield from recall.recall(stored[start : start + READ_BATCH])
