"""The programs `opa` and `regal`, for tests; without one, a test says so and is skipped."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.parts import report_missing_part

CHECKOUT_BIN = Path(__file__).parents[2] / ".tools" / "bin"


def find_or_report(name: str) -> str:
    """Return the program's path; else skip, or fail where every part is required."""
    found = shutil.which(name) or shutil.which(name, path=str(CHECKOUT_BIN))
    if found is None:
        report_missing_part(f"{name}: put it on PATH or into .tools/bin (`make tools`)")
    return found
