"""What both law tables share: the CSV, the evidence that a reading must have in it, and the text of the table."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

BEGINS: Final = 20241230
"""The first day that the tables speak of. A row that begins on it was in force then, and for how long is not said."""
OPEN_END: Final = 99991231
"""The end of a row whose end is not known."""
TRUSTED: Final = ["H", "H-"]
"""Confidence with which a reading is used without a person. Any other, and any that is new, is reviewed."""
EU: Final = tuple(
    re.findall("..", "ATBEBGCYCZDEDKEEESFIFRGRHRHUIEITLTLULVMTNLPLPTROSESISK"),  # the 27 on 25 Nov 2026
)

Row = Mapping[str, str]


class ReadingError(ValueError):
    """A reading has no evidence in the CSV: somebody must read the statute's row again."""


def read_csv(path: Path) -> dict[str, Row]:
    """Return the rows of the CSV by jurisdiction. Raises OSError and ReadingError."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_name: dict[str, Row] = {row["jurisdiction"]: row for row in rows}
    if len(by_name) != len(rows):
        raise ReadingError(f"{path.name}: a jurisdiction is there twice")
    return by_name


def require_evidence(name: str, text: str, patterns: Iterable[str]) -> None:
    """Raise ReadingError unless every pattern is found in the row's text."""
    for pattern in patterns:
        if not re.search(pattern, text, re.IGNORECASE):
            raise ReadingError(f"{name}: nothing in the row says {pattern!r}")


def require_all_read(rows: Mapping[str, Row], read: Iterable[str]) -> None:
    """Raise ReadingError if a jurisdiction of the CSV was not read, or one that was read is gone from it."""
    missing, gone = sorted(set(rows) - set(read)), sorted(set(read) - set(rows))
    if missing or gone:
        raise ReadingError(f"not read: {missing}; read, and not in the CSV: {gone}")


def format_table(table: Mapping[str, Any]) -> str:
    """Return the table as JSON that people read in a diff: one row, and one list of rows, a line."""
    lines = []
    for key, value in table.items():
        if isinstance(value, dict):
            inner = ",\n".join(f"    {json.dumps(name)}: {json.dumps(value[name])}" for name in sorted(value))
            lines.append(f"  {json.dumps(key)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
