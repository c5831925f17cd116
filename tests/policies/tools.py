"""The programs `opa` and `regal`, for tests; without one, a test says so and is skipped."""

from __future__ import annotations

from app.adapters.opa_tools import find_tool
from tests.parts import report_missing_part


def find_or_report(name: str) -> str:
    """Return the program's path; else skip, or fail where every part is required."""
    found = find_tool(name)
    if found is None:
        report_missing_part(f"{name}: put it on PATH or into .tools/bin (`make tools`)")
    return str(found)
