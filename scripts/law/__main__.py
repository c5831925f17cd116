"""Write a law table from the CSV of statutes, or check that the one in policies/data is what would be written.

    python -m scripts.law kyc|retention [--check] [--csv FOLDER]

The CSV files lie in `law/` of ASSAY_SHARED's data folder. Exit 1 if the table differs or a reading lacks its evidence.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from scripts.law import kyc, retention
from scripts.law.table import ReadingError, format_table, read_csv

ROOT = Path(__file__).resolve().parents[2]
TABLES = {
    "kyc": ("kyc_by_jurisdiction.csv", ROOT / "policies/data/kyc_law/data.json", kyc.make_table),
    "retention": (
        "retention_by_jurisdiction.csv",
        ROOT / "policies/data/retention_law/data.json",
        retention.make_table,
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.law", description=__doc__)
    parser.add_argument("table", choices=sorted(TABLES))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the table is out of date")
    shared = Path(os.environ.get("ASSAY_SHARED") or ROOT.parent / "shared")
    parser.add_argument("--csv", type=Path, default=shared / "data" / "law", help="the folder of the CSV files")
    asked = parser.parse_args(arguments)
    source, target, make_table = TABLES[asked.table]
    try:
        text = format_table(make_table(read_csv(asked.csv / source)))
    except (OSError, ReadingError) as error:
        print(error, file=sys.stderr)
        return 1
    if not asked.check:
        target.write_text(text)
    elif not target.is_file() or target.read_text() != text:
        print(f"{target.relative_to(ROOT)} is not what {source} gives: run `python -m scripts.law {asked.table}`")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
