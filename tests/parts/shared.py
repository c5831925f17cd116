"""The shared material outside the repository: vectors, law and sanctions data. Read where it lies, never copied in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parts import report_missing_part

REPOSITORY = Path(__file__).resolve().parents[2]
ABSENT = (
    "none"  # ASSAY_SHARED=none: this machine is known not to have it; skip and say so, even with ASSAY_REQUIRE_ALL=1
)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The directory named by ASSAY_SHARED, else `shared` beside the repository."""
    named = os.environ.get("ASSAY_SHARED")
    if named == ABSENT:
        pytest.skip("missing part: shared vectors and data (ASSAY_SHARED=none)")
    directory = Path(named) if named else REPOSITORY.parent / "shared"
    if not directory.is_dir():
        report_missing_part(f"shared vectors and data: {directory} is not a directory; set ASSAY_SHARED")
    return directory
