"""Ask both engines the same questions, and count the answers that differ.

python -m scripts.parity [--policies DIR] [--questions N]

The questions are those of the policies' own tests, and changes of them (tests/parts/policy_inputs.py), the same each
time. Exit code 1 if
one answer differs, or if the policies leave the portable dialect, for which alone parity is promised.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from app.adapters.opa import OpaEngine
from app.adapters.opa_process import running_opa
from app.adapters.opa_tools import find_tool
from app.adapters.rego import RegoEngine
from app.adapters.rego_dialect import list_offences
from app.ledger.canonical import canonical
from app.policy.bundle import Bundle, load_bundle
from app.policy.parity import Parity, compare_engines
from app.policy.query import Query
from tests.parts.policy_inputs import catch_inputs, list_entrypoints, questions

POLICIES = Path(__file__).parents[1] / "policies"
DEFAULT_QUESTIONS = 2_000
OPA_TIMEOUT_S = 10.0


def main() -> int:
    """Compare, and print the count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", type=Path, default=POLICIES, help="folder of the bundle (%(default)s)")
    parser.add_argument("--questions", type=int, default=DEFAULT_QUESTIONS, help="changed ones (%(default)s)")
    asked = parser.parse_args()
    program = find_tool("opa")
    if program is None:
        parser.error("there is no opa: run `make tools`")
    policies = load_bundle(asked.policies, name="assay")
    offences = list_offences(policies)
    for offence in offences:
        print(offence)
    started_s = time.monotonic()
    parity = compare(program, policies, draw(asked.policies, policies, asked.questions))
    for different in parity.differences:
        print(f"DIFFERENT {different.entrypoint} {different.document}\n  {different.first}\n  {different.second}")
    taken_s = time.monotonic() - started_s
    print(f"{parity.asked:,} questions to {len(list_entrypoints(policies))} entrypoints in {taken_s:.1f} s:")
    print(f"{parity.answered:,} answered by both engines, {parity.different} differences")
    print(f"{parity.failed_unlike:,} that neither answered, each in its own words")
    counts = {"cases": parity.asked, "differences": parity.different}
    digest = sha256(canonical({"bundle": policies.digest, **counts})).hexdigest()
    print(f"to attach to a proposal: {json.dumps({'parity': {'digest': digest, **counts}})}")
    return 1 if parity.different or offences else 0


def compare(program: Path, policies: Bundle, asked: Iterator[Query]) -> Parity:
    """Return what the embedded engine and an OPA server of its own say to the questions."""
    with (
        running_opa(program, policies) as server,
        closing(OpaEngine(server.url, timeout_s=OPA_TIMEOUT_S)) as opa,
        closing(RegoEngine(lambda _: policies)) as embedded,
    ):
        return compare_engines(embedded, opa, asked, bundle_digest=policies.digest)


def draw(folder: Path, policies: Bundle, number: int) -> Iterator[Query]:
    """Return the questions, the same ones each time: all that the tests ask, and `number` more."""
    with_tests = load_bundle(folder, name=policies.name, with_tests=True)
    drawn = catch_inputs(with_tests)

    @seed(0)
    @settings(max_examples=number, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(questions(policies, with_tests))
    def keep(question: Query) -> None:
        drawn.append(question)

    keep()
    return iter(drawn)


if __name__ == "__main__":
    sys.exit(main())
