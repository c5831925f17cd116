"""Who takes turns shares a processor while it pays, and is free of it afterwards; web processes have one each."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from app.adapters import processor
from app.adapters.processor import Partner, Place, leave

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


TAKE = """
import os, sys
from app.adapters import processor
processor.PLACE = processor.Place(sys.argv[2])
taken = processor.PLACE.take(int(sys.argv[1]))
child = os.fork()
if not child:
    sys.stdin.read()
    os._exit(0)
processor.Partner(child)
print(taken, sorted(os.sched_getaffinity(0)), sorted(os.sched_getaffinity(child)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start():
    """Start a process that takes its place among so many, and return it with what it says of itself and its child."""
    started = []
    namespace = f"assay-test-{os.getpid()}"

    def start(siblings):
        command = [sys.executable, "-c", TAKE, str(siblings), namespace]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.communicate()


def test_siblings_have_a_processor_each_and_their_children_all_of_them(start, every):
    if len(every) < 2:
        pytest.skip("one processor")
    said = {start(len(every))[1] for _ in every}
    assert said == {f"{own} [{own}] {sorted(every)}" for own in every}


def test_the_processor_of_one_that_ended_is_taken_by_the_next(start, every):
    if len(every) < 2:
        pytest.skip("one processor")
    first, said = start(len(every))
    start(len(every))
    first.communicate()
    assert start(len(every))[1] == said


def test_one_of_too_many_has_none(start, every):
    assert start(len(every) + 1)[1] == f"None {sorted(every)} {sorted(every)}"


def test_those_of_other_parents_take_what_fewest_have(every):
    if len(every) < 2:
        pytest.skip("one processor")
    namespace = f"assay-test-{os.getpid()}-others"
    take = f"from app.adapters.processor import Place; p = Place({namespace!r}); print(p.take(1), flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {take!r}])"
    with ExitStack() as stack:
        taken = []
        for _ in range(2 * len(every)):
            command = [sys.executable, "-c", parent]
            other = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(other.communicate, "\n")
            taken.append(int(other.stdout.readline()))
        assert taken == sorted(every) * 2


def test_where_nothing_can_be_bound_no_place_is_taken(every, monkeypatch):
    monkeypatch.setattr(processor, "_read_processor", None)
    assert Place("assay-test").take(len(every)) is None
    assert os.sched_getaffinity(0) == every
