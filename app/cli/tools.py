"""`opa` and `regal`: where they are, and what to do if they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, overload

from app.adapters.opa_tools import find_tool
from app.errors import Unavailable


@overload
def read_tool(name: str) -> Path: ...
@overload
def read_tool(name: str, *, required: Literal[False]) -> Path | None: ...
def read_tool(name: str, *, required: bool = True) -> Path | None:
    """Return the program, new enough: from PATH or the checkout. Raises Unavailable with the way out if required."""
    found = find_tool(name)
    if found is None and required:
        raise Unavailable(
            f"no {name} that is new enough: `make tools` builds it, or put it on PATH", code="tool_missing"
        )
    return found
