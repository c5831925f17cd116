"""`assay policy reverify`: a sample of enforced decisions run again on every engine; a difference is an alarm."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Annotated, Final

import typer

from app.adapters.opa_tools import find_tool
from app.adapters.rego import RegoEngine
from app.cli.opening import open_installation
from app.cli.output import EXIT_NOT_DONE, AsJson, OfTenant, Quiet, complain, describe, print_json, tell
from app.cli.policy_replay import ACTOR, Since, parse_time
from app.cli.replaying import Job, find_start, is_enforced, read_bundle
from app.ledger.entry import Draft, format_entry_id
from app.ledger.ports import EntryFilter, StoredEntry
from app.policy.ports import PolicyEngine
from app.policy.record import ACTION
from app.policy.replay import ERASED, Past, Reverified, Unusable, reverify
from app.subjects.ports import READ_BATCH
from app.subjects.recall import Recall
from app.wiring import Installation, now_ms
from app.wiring.policies import OpaOfBundles

log = logging.getLogger("assay.reverify")

SAMPLE_DEFAULT: Final = 200
SAMPLE_LIMIT: Final = 100_000
DRAWS_PER_DECISION: Final = 8
"""Random places looked at for each decision wanted: several lead to the same decision, or to none."""

HELP: Final = describe(
    "Run a sample of enforced decisions again, on the embedded engine and on OPA if `opa` is there.",
    "assay policy reverify --tenant demo",
    "assay policy reverify --tenant demo --sample 1000 --since 1d   # every night",
    more="Each must come to the bytes that were logged. Exit code 1 if one does not, or cannot be run again and should "
    "be. What was found is the entry `policy.reverified`.",
)


def run(
    tenant: OfTenant,
    *,
    sample: Annotated[
        int, typer.Option("--sample", "-n", min=1, max=SAMPLE_LIMIT, help="Decisions at most.")
    ] = SAMPLE_DEFAULT,
    since: Since = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a sample again."""
    with open_installation() as installation:
        job = plan_sample(installation, tenant, since)
        recall = installation.recall(job.tenant, size=job.size)
        found = Reverified()
        with ExitStack() as stack:
            engines = open_engines(stack, installation, job)
            for past in recall_all(recall, draw_sample(installation, job, sample)):
                reverify(engines, past, found)
        refs = [{"name": engine.ref.name, "version": engine.ref.version} for engine in engines]
        data = {**found.counts(), "checkpoint_size": job.size, "engines": refs}
        entry_id = format_entry_id(
            installation.append(tenant, Draft(action="policy.reverified", actor=ACTOR, data=data))
        )
    problems = found.list_problems()
    for problem in problems:
        log.critical("policy reverification of %s: %s", tenant, problem)
    if as_json:
        print_json({"entry": entry_id, **data, "problems": problems})
    for problem in problems if not as_json else ():
        complain(problem)
    names = " and ".join(f"{engine['name']} {engine['version']}" for engine in refs)
    tell(
        f"{found.decisions} of {found.sampled} decisions came to the logged bytes on {names}, "
        f"{found.refused.get(ERASED, 0)} are erased; entry {entry_id}"
        if not problems
        else f"entry {entry_id}",
        quiet=quiet or as_json,
    )
    if problems:
        raise typer.Exit(EXIT_NOT_DONE)


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
