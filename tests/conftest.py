"""Loads the real parts, and says at the end of a run which of them were missing."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.parts import MISSING_PART

pytest_plugins = ["tests.parts.opa", "tests.parts.postgres", "tests.parts.shared"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each missing part with the number of tests that did not run for want of it."""
    missing: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        if found := re.search(rf"{MISSING_PART}(.+)", str(report.longrepr[2])):
            missing[found[1]] += 1
    if missing:
        terminalreporter.section("MISSING PARTS", red=True, bold=True)
        for why, tests in missing.most_common():
            terminalreporter.line(f"{tests} tests did not run: {why}", red=True)
