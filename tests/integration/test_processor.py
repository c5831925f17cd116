"""Who takes turns shares a processor while it pays, and is free of it afterwards."""

from __future__ import annotations

import os
import subprocess

import pytest

from app.adapters import processor
from app.adapters.processor import Partner, leave

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="nothing can be bound to a processor here")


@pytest.fixture
def other():
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def every():
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def test_both_are_on_one_processor_until_the_answer_and_the_thread_is_free_afterwards(other, every):
    before = Partner(other).join(alone=True)
    assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(other) == os.sched_getaffinity(0)
    leave(before)
    assert os.sched_getaffinity(0) == every


def test_one_of_several_at_work_goes_where_it_likes_even_if_it_was_bound_before(other, every):
    partner = Partner(other)
    assert partner.join(alone=False) is None
    leave(partner.join(alone=True))
    leave(partner.join(alone=False))
    assert os.sched_getaffinity(other) == every
    assert os.sched_getaffinity(0) == every


def test_a_thread_that_was_bound_before_stays_so(other, every):
    bound = {max(every)}
    os.sched_setaffinity(0, bound)
    leave(Partner(other).join(alone=True))
    assert os.sched_getaffinity(0) == bound


@pytest.mark.parametrize("reader", [None, lambda: -1, lambda: 1_000_000])
def test_where_the_processor_is_not_known_nothing_is_bound(other, every, monkeypatch, reader):
    monkeypatch.setattr(processor, "_read_processor", reader)
    assert Partner(other).join(alone=True) is None
    assert os.sched_getaffinity(0) == os.sched_getaffinity(other) == every


def test_a_partner_that_is_gone_binds_nobody(every):
    process = subprocess.Popen(["true"])
    process.wait()
    assert Partner(process.pid).join(alone=True) is None
    assert os.sched_getaffinity(0) == every
