"""Past decisions run again over a whole log, against the bare engine of the same run: issue 3, section 6.

    python -m scripts.bench.replay [--runs 5] [--decisions 100000] [--verbose]

The log is in SQLite, each decision made by the shipped policies, sealed under a key of its own and published. A replay
verifies each entry against the signed tree, opens the input, compares digests, evaluates and counts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from app.adapters.rego import RegoEngine
from app.adapters.sql.migrate import newest_revision, upgrade
from app.cli.policy_replay import plan_job
from app.cli.replaying import Replayer, ReplayState, run_job
from app.ledger.entry import Draft
from app.policy.decide import Answer, decide, decision_data, digest_input, input_document
from app.policy.decision import Decision
from app.policy.query import Query, payment_query
from app.policy.record import ACTION, INPUT, format_input
from app.policy.replay import Past, Unusable, rerun
from app.settings import Settings
from app.subjects.personal import append_personal
from app.subjects.ports import SubjectTransaction
from app.wiring import Installation, add_tenant, initialise, new_entry_id
from scripts.bench.figures import Figure, Goal, at_least, open_parser, show
from scripts.bench.service import TENANT
from scripts.bench.verify import KEPT

DECISIONS = 100_000
BATCH = 500
BARE_DECISIONS = 3_000
"""Evaluations of one run of the yardstick."""
LINEAR = Goal(of="ratio", sign="≥", bound=1.8)
COUNTRIES = ("DE", "US", "FR", "KP", "ZZ", "GB", "JP")
NAMES = ("Ada Example", "Zoltan Mirkovare", "Grace Sample", "Li Wei", "Maria Muster")


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return the figures for one process and two."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        shutil.copytree(keep_log(asked.decisions), folder, dirs_exist_ok=True)
        installation = Installation(Settings(state_dir=Path(folder)))
        job = plan_job(installation, TENANT, folder=None, digest=None, since=None, until=None)
        rates: dict[str, list[float]] = {"bare": [], "one": [], "two": []}
        bad = 0
        for _ in range(asked.runs):
            rates["bare"].append(measure_bare(Replayer(job, installation), job.size))
            for name, workers in (("one", 1), ("two", 2)):
                started_s = time.perf_counter()
                state = ReplayState(Path(folder) / "replays", restart=True)
                _, found = run_job(job, installation, workers=workers, state=state, progress=lambda *_: None)
                rates[name].append(found.decisions / (time.perf_counter() - started_s))
                bad += found.different + sum(found.refused.values())
        installation.store.close()
    return make_figures(rates, asked.decisions, bad)


def make_figures(rates: dict[str, list[float]], decisions: int, bad: int) -> list[Figure]:
    """Return the two rows."""
    one = Figure(
        part="replay",
        work=f"replay of {decisions:,} decisions, SQLite, 1 process",
        unit="decisions/s",
        values=rates["one"],
        yardstick="the bare engine, one process",
        yardstick_values=rates["bare"],
        goals=[at_least(0.6)],
        bad=bad,
    )
    two = replace(
        one,
        work=f"replay of {decisions:,} decisions, SQLite, 2 processes",
        values=rates["two"],
        yardstick="1 process",
        yardstick_values=rates["one"],
        goals=[LINEAR],
    )
    return [one, two]


def measure_bare(replayer: Replayer, size: int) -> float:
    """Return evaluations per second of the engine alone, on the documents of the log's first decisions."""
    stored = [entry for page in replayer.pages(0, size) for entry in page][:BARE_DECISIONS]
    past: list[Past] = []
    for start in range(0, len(stored), 250):
        found: list[Past | Unusable] = replayer.recall.recall(stored[start : start + 250])
        past += [each for each in found if isinstance(each, Past)]
    for each in past[:100]:
        rerun(replayer.engine, each)
    started_s = time.perf_counter()
    for each in past:
        replayer.engine.evaluate(each.record.entrypoint, each.document, bundle_digest=each.record.bundle.digest)
    return len(past) / (time.perf_counter() - started_s)


def keep_log(decisions: int) -> Path:
    """Return the state folder of a log with so many decisions, kept for other runs by size, schema and policies."""
    with tempfile.TemporaryDirectory() as folder:
        version = sha256(repr(sorted(open_policies(Path(folder)).items())).encode()).hexdigest()[:12]
    kept = KEPT / f"decisions-{decisions}-{newest_revision()}-{version}"
    if not kept.exists():
        KEPT.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix="fresh-", dir=KEPT))
        print(f"deciding {decisions:,} times in {kept} …", flush=True)
        build_log(Settings(state_dir=fresh), decisions)
        fresh.replace(kept)
    return kept


def open_policies(folder: Path) -> dict[str, str]:
    """Return the digest of the shipped policies, by the name of the tenant."""
    installation = prepare(Settings(state_dir=folder))
    with closing(installation.store):
        return {TENANT: installation.active_bundle(TENANT).digest}


def prepare(settings: Settings) -> Installation:
    """Make an installation with one tenant."""
    upgrade(settings.database)
    initialise(settings)
    installation = Installation(settings)
    add_tenant(installation, TENANT)
    return installation


def build_log(settings: Settings, decisions: int) -> None:
    """Decide, seal, log and publish. Equal questions are evaluated once: each still has its own salt and key."""
    installation = prepare(settings)
    bundle = installation.active_bundle(TENANT)
    engine = RegoEngine(lambda _digest: bundle, workers=1)
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    known: dict[int, Decision] = {}
    numbers = iter(range(decisions))
    with closing(installation.store), installation.sequencer(installation.read_tenant(TENANT)) as sequencer:
        while batch := list(itertools.islice(numbers, BATCH)):
            with installation.subject_store().transaction() as tx:
                for number, query in zip(batch, make_queries(batch), strict=True):
                    kind = number % (len(COUNTRIES) * len(NAMES))
                    if kind not in known:
                        known[kind] = decide(
                            engine,
                            query,
                            bundle=bundle.ref,
                            now=now,
                            salt=bytes(32),
                            new_id=new_entry_id,
                            monotonic_ns=time.perf_counter_ns,
                        )
                    log_decision(tx, installation, known[kind], query=query, now=now, number=number)
            while sequencer.step():
                pass


def make_queries(numbers: list[int]) -> Iterator[Query]:
    """Yield a question for each number; those of equal kind have equal documents."""
    for number in numbers:
        country, name = COUNTRIES[number % len(COUNTRIES)], NAMES[number % len(NAMES)]
        yield payment_query(
            amount_minor=1499, currency="EUR", country="DE", payer_name=name, payer_country=country, payment_id="pi_1"
        )


def log_decision(
    tx: SubjectTransaction, installation: Installation, decision: Decision, *, query: Query, now: datetime, number: int
) -> None:
    """Append the decision as a new one, its input sealed for a person of its own."""
    salt, document = os.urandom(32), input_document(query, now)
    fresh = replace(
        decision,
        decision_id=f"dec_{new_entry_id().hex}",
        input_digest=digest_input(document, salt),
        result_digest=Answer(outcome=decision.outcome, result=decision.result).digest,
    )
    draft = Draft(
        action=ACTION,
        actor="merchant:bench",
        subject=f"sub_{number:08d}",
        ref={"decision": fresh.decision_id},
        data=decision_data(fresh),
    )
    append_personal(
        tx,
        TENANT,
        draft,
        {INPUT: format_input(document, salt)},
        entry_id=new_entry_id(),
        append=installation.append_in,
        random_bytes=os.urandom,
    )


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
