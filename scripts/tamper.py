"""Copy an embedded database and flip one bit of the newest entry of an action: what a fraud with a hex editor does.

    python3 scripts/tamper.py var/assay.db tampered.db payment.succeeded

The copy is consistent, and the database itself is only read. Prints the entry that was changed.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

NEWEST = "SELECT body FROM entry WHERE action = ? ORDER BY seq DESC LIMIT 1"
DATA = re.compile(rb'"data":\{.*?[0-9]')


def tamper(database: Path, copy: Path, action: str) -> str:
    """Write the copy with one bit flipped in a digit of the entry's data; return the entry's id."""
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source, closing(sqlite3.connect(copy)) as to:
        source.backup(to)
        row = to.execute(NEWEST, (action,)).fetchone()
        to.execute("PRAGMA journal_mode = DELETE")
    if row is None:
        sys.exit(f"there is no {action} in {database}")
    body = row[0]
    found = DATA.search(body)
    stored = bytearray(copy.read_bytes())
    place = stored.find(body)
    if found is None or place < 0:
        sys.exit(f"the newest {action} is not in one piece in the file, or holds no digit")
    stored[place + found.end() - 1] ^= 1
    copy.write_bytes(stored)
    return re.search(rb"ent_[0-9a-f]{32}", body)[0].decode()  # type: ignore[index]  # an entry has an id


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", type=Path)
    parser.add_argument("copy", type=Path)
    parser.add_argument("action", nargs="?", default="payment.succeeded")
    asked = parser.parse_args()
    print(f"flipped one bit of {tamper(asked.database, asked.copy, asked.action)} in {asked.copy}")


if __name__ == "__main__":
    main()
