"""`opa` and `regal`: where they are, and what to do if they are not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, overload

from app.errors import Unavailable

CHECKOUT_BIN = Path(__file__).parents[2] / ".tools" / "bin"


@overload
def read_tool(name: str) -> Path: ...
@overload
def read_tool(name: str, *, required: Literal[False]) -> Path | None: ...
def read_tool(name: str, *, required: bool = True) -> Path | None:
    """Return the program: from PATH, then from the checkout. Raises Unavailable with the way out if it is required."""
    found = shutil.which(name) or shutil.which(name, path=str(CHECKOUT_BIN))
    if found is None and required:
        raise Unavailable(f"{name} is not installed: `make tools` builds it, or put it on PATH", code="tool_missing")
    return None if found is None else Path(found)
