"""Golden answers: for each entrypoint, documents of ours and what the shipped policies answer, in `corpus/`.

    python -m tests.policies.golden --write     answer every case anew; then read the difference, and mean it

A document is what an engine sees, `now_ms` included. The answer null stands for no answer, which callers take as deny.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.policy.ports import EngineFailed
from tests.policies.asking import open_engine

CORPUS = Path(__file__).with_name("corpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One document, and its answer."""

    entrypoint: str
    name: str
    document: dict[str, Any]
    answer: dict[str, Any] | None


def list_cases() -> list[Case]:
    """Return every case of the corpus, by entrypoint and in the order of the files."""
    return [case for path in sorted(CORPUS.glob("*.json")) for case in _read(path)]


def evaluate(entrypoint: str, document: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the shipped bundle says on the embedded engine; None if the rule is undefined."""
    engine, bundle = open_engine()
    try:
        return dict(engine.evaluate(entrypoint, document, bundle_digest=bundle.digest))
    except EngineFailed as error:
        if error.failure != "undefined":
            raise
        return None


def _read(path: Path) -> Iterator[Case]:
    corpus = json.loads(path.read_text())
    for case in corpus["cases"]:
        yield Case(entrypoint=corpus["entrypoint"], **case)


def _write(path: Path) -> None:
    cases = [
        {"name": case.name, "document": case.document, "answer": evaluate(case.entrypoint, case.document)}
        for case in _read(path)
    ]
    lines = ",\n".join(f"    {json.dumps(case, ensure_ascii=False)}" for case in cases)
    entrypoint = json.loads(path.read_text())["entrypoint"]
    path.write_text(f'{{\n  "entrypoint": {json.dumps(entrypoint)},\n  "cases": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    for file in sorted(CORPUS.glob("*.json")):
        _write(file)
