"""Full verification as figures of the table; `scripts.bench.verify` does the work.

python -m scripts.bench.audits [--runs 5] [--entries 1000000] [--forms export sqlite postgresql]
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from scripts.bench.figures import Figure, at_least, open_parser, show
from scripts.bench.verify import TARGETS, open_forms, show_profile, time_verification, time_yardstick

NAMES = {"export": "export", "sqlite": "SQLite", "postgresql": "PostgreSQL"}
PROCESSES = (1, 2)


def measure(asked: argparse.Namespace) -> list[Figure]:
    """Return the figures of each form with one process and with two; all take turns."""
    yardstick_per_s: list[float] = []
    per_s: dict[tuple[str, int], list[float]] = {(form, n): [] for form in asked.forms for n in PROCESSES}
    with ExitStack() as stack:
        logs = open_forms(asked.forms, asked.entries, stack)
        for _ in range(asked.runs):
            yardstick_per_s.append(asked.entries / time_yardstick(logs["export"](), asked.entries))
            for (form, processes), rates in per_s.items():
                rates.append(asked.entries / time_verification(logs[form], asked.entries, processes))
        for form in asked.forms:
            show_profile(logs[form], form)
    words = {1: "1 process", 2: "2 processes"}
    return [
        Figure(
            part="audits",
            work=f"full verification of {asked.entries:,} entries, {NAMES[form]}, {words[processes]}",
            unit="entries/s",
            values=rates,
            yardstick="hashlib leaves + root, one core",
            yardstick_values=yardstick_per_s,
            goals=[at_least(TARGETS[form][processes - 1])],
        )
        for (form, processes), rates in per_s.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = open_parser(__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--forms", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    asked = parser.parse_args()
    show(measure(asked), asked)


if __name__ == "__main__":
    main()
