"""Tamper with a log in every way on the list, and print what the verifier said of each.

    python scripts/tamper_report.py

Exits with 1 if one was not detected, or the wrong place was named.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from app.ledger.verify import Outcome
from tests.parts.tampering import build_sound, run_mutation, verify_database, verify_export
from tests.parts.tampering_files import list_mutations


def main() -> int:
    missed = 0
    with tempfile.TemporaryDirectory(prefix="assay-tamper-") as name:
        directory = Path(name)
        sound = build_sound(directory)
        untouched = (verify_database(sound.database, sound.remembered), verify_export(sound.export, sound.remembered))
        if any(report.outcome is not Outcome.VALID for report in untouched):
            print("the untouched log is not valid: nothing below means anything")
            return 1
        mutations = list_mutations(sound)
        for number, mutation in enumerate(mutations, start=1):
            workplace = directory / str(number)
            workplace.mkdir()
            report = run_mutation(mutation, sound, workplace)
            named = report.outcome is Outcome.INVALID and all(part in report.summary for part in mutation.names)
            missed += not named
            verdict = "detected" if named else f"MISSED ({report.outcome}, expected {mutation.names})"
            print(f"{number:3}  {mutation.form:8}  {mutation.name:62}  {verdict}: {report.summary}")
    found = len(mutations) - missed
    print(f"{found} of {len(mutations)} mutations detected with the right place ({100 * found / len(mutations):.0f} %)")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
