"""Every mutation of the list is detected, and the verifier points at the right place (scripts/tamper_report.py)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.ledger.verify import Outcome
from tests.parts.tampering import Sound, build_sound, run_mutation, verify_database, verify_export, verify_receipt
from tests.parts.tampering_files import list_mutations


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    return build_sound(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def workplaces(tmp_path: Path) -> Iterator[Path]:
    def make() -> Iterator[Path]:
        for number in itertools.count():
            place = tmp_path / str(number)
            place.mkdir()
            yield place

    return make()


def test_the_untouched_log_is_valid_in_all_three_forms(sound: Sound) -> None:
    reports = (
        verify_database(sound.database, sound.remembered),
        verify_export(sound.export, sound.remembered),
        verify_receipt(sound.receipt, sound.remembered),
    )
    assert [report.outcome for report in reports] == [Outcome.VALID] * 3
    assert [report.level.name for report in reports if report.level] == ["anchored"] * 3


@pytest.mark.parametrize("form", ["database", "export", "receipt"])
def test_every_mutation_is_detected_and_the_right_place_is_named(
    sound: Sound, workplaces: Iterator[Path], form: str
) -> None:
    mutations = [mutation for mutation in list_mutations(sound) if mutation.form == form]
    missed = []
    for mutation in mutations:
        report = run_mutation(mutation, sound, next(workplaces))
        if report.outcome is not Outcome.INVALID or not all(part in report.summary for part in mutation.names):
            missed.append((mutation.name, report.outcome, report.summary))
    assert missed == []
    assert len(mutations) >= 17


def test_without_a_remembered_head_an_older_database_is_valid_and_the_report_says_so(sound: Sound) -> None:
    report = verify_database(sound.older_database, None)
    assert report.outcome is Outcome.VALID
    assert "that the log has not shrunk since you last looked: no head was remembered" in report.not_proven
