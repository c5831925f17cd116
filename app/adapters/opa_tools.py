"""The programs `opa` and `regal`: which versions, and where they are. `make tools` builds them; nothing here fetches.

Standard library only: `make tools` runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

CHECKOUT_BIN: Final = Path(__file__).parents[2] / ".tools" / "bin"
"""Where `make tools` puts them; there is none beside an installed package."""
ASK_LIMIT_S: Final = 30

_VERSION: Final = re.compile(r"^Version:\s+v?(\d+)\.(\d+)\.(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program in Go. `version` is the one that `make tools` builds, and the oldest that is used."""

    name: str
    module: str
    version: tuple[int, int, int]
    version_variable: str
    """The Go variable that tells the program its version, for a build that does not."""


OPA: Final = Tool(
    name="opa",
    module="github.com/open-policy-agent/opa",
    version=(1, 22, 2),
    version_variable="github.com/open-policy-agent/opa/v1/version.Version",
)
REGAL: Final = Tool(
    name="regal",
    module="github.com/open-policy-agent/regal",
    version=(0, 42, 0),
    version_variable="github.com/open-policy-agent/regal/pkg/version.Version",
)
TOOLS: Final = {tool.name: tool for tool in (OPA, REGAL)}


def find_tool(name: str) -> Path | None:
    """Return the program `opa` or `regal`: the first on PATH, then in the checkout, that is new enough; or None."""
    tool = TOOLS[name]
    candidates = [shutil.which(name), CHECKOUT_BIN / name]
    return next((Path(path) for path in candidates if path and is_new_enough(tool, Path(path))), None)


def is_new_enough(tool: Tool, path: Path) -> bool:
    """Say whether `path` is this program, of the pinned version or a later one of the same major version."""
    version = _ask_version(path) if os.access(path, os.X_OK) else None
    return version is not None and version[0] == tool.version[0] and version >= tool.version


@cache
def _ask_version(path: Path) -> tuple[int, ...] | None:
    try:
        asked = subprocess.run(  # noqa: S603 -- a program of the operator's own PATH or checkout
            [path, "version"], capture_output=True, text=True, check=False, timeout=ASK_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(asked.stdout)
    return tuple(map(int, found.groups())) if found else None


def format_version(version: tuple[int, ...]) -> str:
    """Return the version as text."""
    return ".".join(map(str, version))
