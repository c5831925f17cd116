"""The real parts that tests run against, and the one rule for a part that is missing.

With `ASSAY_REQUIRE_ALL=1` (CI) a missing part fails the test; otherwise the test is skipped, and the end of the
run says which parts were missing and how many tests did not run.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

MISSING_PART = "missing part: "


def report_missing_part(why: str) -> NoReturn:
    """Fail the test when every part is required, else skip it; `why` says what to install or set."""
    if os.environ.get("ASSAY_REQUIRE_ALL") == "1":
        pytest.fail(f"{MISSING_PART}{why} (ASSAY_REQUIRE_ALL=1 allows no skip)", pytrace=False)
    pytest.skip(f"{MISSING_PART}{why}")
