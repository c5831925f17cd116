"""The tour of the README: its blocks, and a checkout in which they can be pasted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.architecture.sources import ROOT

BLOCK = re.compile(r"^<!-- run by tests/story(?:: (\d))? -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINKED = (".venv", "policies", "scripts")


@dataclass(frozen=True, slots=True)
class Block:
    """Commands to paste, and the exit code of the last."""

    commands: str
    code: int


def list_blocks() -> list[Block]:
    """Return the blocks of the README that are run here."""
    return [Block(found[2], int(found[1] or 0)) for found in BLOCK.finditer((ROOT / "README.md").read_text())]


def make_checkout(folder: Path) -> Path:
    """Return a folder that looks like the checkout, without its `var`."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    return folder


def list_exports(said: str) -> Iterator[str]:
    """Yield the `export` lines that `assay dev` printed."""
    yield from (line.strip() for line in said.splitlines() if line.startswith("  export "))


def list_commands(said: str) -> str:
    """Return everything that `assay dev` printed to paste, as one script."""
    return "\n".join(line[2:] for line in said.splitlines() if line.startswith("  "))
