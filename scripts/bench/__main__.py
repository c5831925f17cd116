"""Measure the table of docs/performance.md (`make bench`), one part after the other, each in a process of its own.

    python -m scripts.bench                     everything; prints the tables
    python -m scripts.bench batch tree          these parts; the others as they were measured last
    python -m scripts.bench --write             the same, and writes docs/performance.json and docs/performance.md
    python -m scripts.bench --print --write     measures nothing, writes what was measured last

Results are kept in the temporary directory as each part ends; without any there, those of docs/performance.json are
the last. Run it on a quiet machine: the load before each part is kept with its figures. Exit code 1 if a goal is
missed or a part failed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the scripts are no installed package

from scripts.bench import report
from scripts.bench.figures import DEFAULT_RUNS
from scripts.bench.verify import KEPT

PARTS = [part for parts in report.PARTS.values() for part in parts]


def run_part(part: str, options: list[str]) -> dict[str, object] | None:
    """Return what the part measured; None, after it said why, if it failed."""
    command = ["python", "-m", f"scripts.bench.{part}", *options]
    print(f"\n== {' '.join(command)}", flush=True)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.json")
        done = subprocess.run([sys.executable, *command[1:], "--json", str(file)], check=False, cwd=report.ROOT)
        if done.returncode or not file.exists():
            print(f"== {part} FAILED with exit code {done.returncode}", flush=True)
            return None
        return report.describe_run(json.loads(file.read_text()), command=" ".join(command), load_before=load)


def main() -> int:
    """Measure what is asked, keep it and print the tables."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="measurements of each (%(default)s)")
    parser.add_argument("--verbose", action="store_true", help="print every run")
    parser.add_argument("--results", type=Path, default=KEPT / "results.json", help="where they are kept (%(default)s)")
    parser.add_argument("--write", action="store_true", help="write docs/performance.json and docs/performance.md")
    parser.add_argument("--print", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")

    results, failed = report.read_results(asked.results) or report.read_results(report.RESULTS), False
    options = ["--runs", str(asked.runs), *(["--verbose"] if asked.verbose else [])]
    for part in [] if asked.print else asked.parts or PARTS:
        measured = run_part(part, options)
        failed = failed or measured is None
        if measured is not None:
            results[part] = measured
            report.write_results(asked.results, results)

    for table in report.format_tables(results).values():
        print(f"\n{table}")
    if asked.write and results:
        report.write_results(report.RESULTS, results)
        report.write_page(report.PAGE, results)
    missed = [figure for figure in report.list_figures(results, PARTS) if figure.is_met is False]
    for figure in missed:
        print(f"NOT MET: {figure.work}")
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
