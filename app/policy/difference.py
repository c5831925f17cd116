"""What one bundle changes of another: files, the text of policies, and the rows of data."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

from app.policy.bundle import Bundle
from app.policy.table import Change, compare_rows

MAX_DIFF_CHARS: Final = 256 * 1024
"""Of the text of all differences together; what is beyond is cut off, and that is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Paths by what became of them; `text` is a unified diff of the policies; `tables` has the data that changed."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    text: str
    cut_off: bool
    tables: dict[str, Change]


def compare_bundles(before: Bundle, after: Bundle) -> Difference:
    """Return what `after` changes of `before`. Data is told by its rows, not as text."""
    old, new = before.files, after.files
    changed = tuple(path for path in new if path in old and old[path] != new[path])
    text = "".join(
        line
        for path in sorted({*old, *new})
        if path.endswith(".rego") and old.get(path) != new.get(path)
        for line in _compare_modules(path, before.modules.get(path, ""), after.modules.get(path, ""))
    )
    names = sorted({*before.data, *after.data})
    return Difference(
        added=tuple(path for path in new if path not in old),
        removed=tuple(path for path in old if path not in new),
        changed=changed,
        text=text[:MAX_DIFF_CHARS],
        cut_off=len(text) > MAX_DIFF_CHARS,
        tables={
            name: compare_rows(before.data.get(name), after.data.get(name))
            for name in names
            if before.data.get(name) != after.data.get(name)
        },
    )


def _compare_modules(path: str, before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}", n=3
    )
    return [line if line.endswith("\n") else f"{line}\n" for line in lines]
