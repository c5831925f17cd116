"""Two witness processes on one state: the race of tlog-witness, and a fork, decided by one lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.tlog.checkpoint import parse_checkpoint
from app.tlog.note import parse_note
from app.tlog.tree import root_of
from tests.fakes.witnesses import FORK, LEAVES, ORIGIN
from tests.parts.witness_process import ROOT, create_witness, load_witness

NAME = "w.example"


def run_both(folder: Path, *kinds: str) -> list[list[int]]:
    """Let processes ask the same state at once; return the sizes that each got cosigned."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.parts.witness_process", "grow", str(folder), NAME, kind],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(kinds)
    return [[int(line) for line in answer.split()] for answer in answers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_witness(tmp_path, NAME)
    return tmp_path


def test_two_processes_cosign_each_size_once_and_never_go_back(folder: Path) -> None:
    first, second = run_both(folder, "log", "log")
    assert sorted(first + second) == list(range(1, len(LEAVES) + 1))
    assert first == sorted(first)
    assert second == sorted(second)


def test_of_two_forks_in_two_processes_only_one_is_ever_cosigned_past_where_they_part(folder: Path) -> None:
    log, fork = run_both(folder, "log", "fork")
    past = 4  # the forks share their first three entries
    assert not (set(range(past, len(LEAVES) + 1)) & set(log) and set(range(past, len(LEAVES) + 1)) & set(fork))
    stored = load_witness(folder, NAME).find_checkpoint(ORIGIN)
    assert stored is not None
    checkpoint = parse_checkpoint(parse_note(stored).text)
    winner = LEAVES if len(LEAVES) in log else FORK
    assert (checkpoint.size, checkpoint.root) == (len(LEAVES), root_of(winner))
