"""The files of the project as git sees them: tracked, or new and not ignored."""

from __future__ import annotations

import ast
import functools
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def list_files() -> tuple[Path, ...]:
    """Return every file, relative to ROOT, in order of name."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = sorted({Path(name) for name in listed.stdout.split("\0") if name})
    return tuple(path for path in paths if (ROOT / path).is_file())


@functools.cache
def list_python() -> tuple[Path, ...]:
    """Return the Python files: by suffix, or by the first line of a script."""
    return tuple(path for path in list_files() if path.suffix == ".py" or _is_script(path))


def _is_script(path: Path) -> bool:
    with (ROOT / path).open("rb") as opened:
        first = opened.readline(100)
    return first.startswith(b"#!") and b"python" in first


@functools.cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse((ROOT / path).read_text(), filename=str(path))


def name_module(path: Path) -> str:
    """Return the dotted name: `app/tlog/__init__.py` is `app.tlog`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
