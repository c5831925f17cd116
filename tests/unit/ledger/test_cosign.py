"""The quorum of witnesses: what is believed, who is waited for, and what a missing or lying witness does to us."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from app.errors import AssayError, Broken, Conflict, Rejected, Unavailable
from app.ledger.cosign import Cosigners, Mode, WitnessEvent
from app.ledger.ports import WitnessConflictError
from app.ledger.witness import format_request
from app.tlog.checkpoint import Checkpoint, parse_checkpoint
from app.tlog.cosignature import verify_cosignatures
from app.tlog.note import SignedNote, parse_note
from app.tlog.policy import Group, Log, Policy
from app.tlog.policy import Witness as TrustedWitness
from app.tlog.proof import ProofError, prove_consistency
from tests.fakes.witnesses import FORK, LEAVES, LOG, MemoryState, make_body, make_note, make_signer, make_witness
from tests.unit.ledger.conftest import until

TIMEOUT_S = 10.0  # longer than a busy machine needs
SHORT_S = 0.5  # where the timeout itself is the matter
PATIENCE_S = 10.0


class LocalWitness:
    """A WitnessClient of a real witness in this process. `act` may replace or delay what it does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = MemoryState()
        self.witness = make_witness(self.state, name=name)
        self.asked: list[int] = []
        self.act: Callable[[int], list[str] | None] = lambda _: None

    def add_checkpoint(self, old_size: int, proof: Sequence[bytes], checkpoint: bytes) -> list[str]:
        self.asked.append(old_size)
        scripted = self.act(old_size)
        if scripted is not None:
            return scripted
        try:
            lines = self.witness.add_checkpoint(format_request(old_size, proof, checkpoint))
        except ProofError as error:
            raise Broken(str(error)) from error  # as the HTTP client does
        return lines.decode().splitlines()


class Down:
    """Refuses every call, and counts."""

    def __init__(self, error: AssayError | None = None) -> None:
        self.error = error or Unavailable("connection refused")

    def __call__(self, old_size: int) -> list[str]:
        raise self.error


class Slow:
    """Answers as a real witness does, but only when told to go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, old_size: int) -> None:
        assert self.go_on.wait(PATIENCE_S)


class ManualClock:
    def __init__(self) -> None:
        self.skipped_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped_s


class Setup:
    """Three witnesses, a quorum of two, and what was reported."""

    def __init__(
        self,
        mode: Mode,
        *,
        names: Sequence[str] = ("w1", "w2", "w3"),
        quorum: str = "two",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.witnesses = [LocalWitness(name) for name in names]
        self.events: list[WitnessEvent] = []
        self.clock = ManualClock()
        trusted = tuple(TrustedWitness(name=name, key=make_signer(name)[0]) for name in names)
        groups = (Group(name="two", threshold=min(2, len(names)), members=tuple(names)),)
        self.policy = Policy(logs=(Log(key=LOG),), witnesses=trusted, groups=groups, quorum=quorum)
        self.cosigners = Cosigners(
            self.policy,
            self.witnesses,
            mode=mode,
            timeout_s=timeout_s,
            report=self.events.append,
            clock_s=self.clock,
        )

    def cosign(self, size: int, leaves: Sequence[bytes] = LEAVES) -> set[str]:
        """Have the checkpoint cosigned; return the names of those whose cosignature verifies."""
        note = parse_note(make_note(size, leaves))
        cosigned = self.cosigners.cosign(
            parse_checkpoint(note.text),
            note,
            lambda old, new: prove_consistency(old, leaves[:new]) if old else [],
        )
        assert cosigned.text == note.text
        assert cosigned.signatures[: len(note.signatures)] == note.signatures
        found = verify_cosignatures(cosigned, [witness.key for witness in self.policy.witnesses])
        assert len(found) == len(cosigned.signatures) - len(note.signatures), "nothing unverified was added"
        return {cosignature.key.name for cosignature in found}

    def codes(self) -> list[tuple[str, str]]:
        return [(event.witness, event.code) for event in self.events]


def test_all_witnesses_cosign_and_their_sizes_are_remembered() -> None:
    setup = Setup(Mode.COLLECT)
    for size in (1, 5, 5, 40):
        assert setup.cosign(size) == {"w1", "w2", "w3"}
    assert [witness.asked for witness in setup.witnesses] == [[0, 1, 5, 5]] * 3
    assert setup.events == []


def test_a_witness_at_another_size_is_proven_to_from_there_once() -> None:
    setup = Setup(Mode.COLLECT)
    for witness in setup.witnesses:
        witness.witness.add_checkpoint(make_body(0, 7))
    assert setup.cosign(12) == {"w1", "w2", "w3"}
    assert [witness.asked for witness in setup.witnesses] == [[0, 7]] * 3


def test_a_witness_that_names_a_new_size_each_time_is_asked_twice_and_dropped() -> None:
    setup = Setup(Mode.COLLECT)
    sizes = iter(range(1, 100))

    def move(_: int) -> None:
        raise WitnessConflictError(next(sizes))

    setup.witnesses[0].act = move
    assert setup.cosign(30) == {"w2", "w3"}
    assert len(setup.witnesses[0].asked) == 2
    assert setup.codes() == [("w1", "bad_answer")]


@pytest.mark.parametrize("mode", list(Mode))
def test_two_of_three_are_enough_when_one_is_down(mode: Mode) -> None:
    setup = Setup(mode)
    setup.witnesses[0].act = Down()
    for size in (5, 6, 7):
        assert setup.cosign(size) == {"w2", "w3"}


def test_one_down_one_lying_and_one_slow_are_no_quorum() -> None:
    setup = Setup(Mode.REQUIRE, timeout_s=SHORT_S)
    slow = Slow()
    setup.witnesses[0].act = Down()
    setup.witnesses[1].act = lambda _: ["— w2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
    setup.witnesses[2].act = slow
    with pytest.raises(Unavailable) as missing:
        setup.cosign(5)
    assert missing.value.code == "witness_quorum"
    assert sorted(setup.codes()) == [("w1", "unavailable"), ("w2", "bad_answer"), ("w3", "unavailable")]
    slow.go_on.set()


def test_the_quorum_is_there_again_as_soon_as_the_witnesses_are() -> None:
    """The backoff must not hold back a log that cannot publish without a quorum."""
    setup = Setup(Mode.REQUIRE)
    for witness in setup.witnesses:
        witness.act = Down()
    for _ in range(5):
        with pytest.raises(Unavailable):
            setup.cosign(5)
    for witness in setup.witnesses[1:]:
        witness.act = lambda _: None
    assert setup.cosign(5) == {"w2", "w3"}


def test_a_slow_witness_does_not_delay_a_quorum_of_the_others() -> None:
    setup = Setup(Mode.REQUIRE)
    slow = setup.witnesses[0].act = Slow()
    began_s = time.monotonic()
    for size in range(5, 25):
        assert setup.cosign(size) == {"w2", "w3"}
    assert time.monotonic() - began_s < TIMEOUT_S
    slow.go_on.set()


def test_a_late_answer_to_an_earlier_question_is_used_to_ask_the_present_one() -> None:
    setup = Setup(Mode.REQUIRE)
    slow = setup.witnesses[0].act = Slow()
    assert setup.cosign(5) == {"w2", "w3"}
    setup.witnesses[1].act = Down()
    threading.Timer(SHORT_S / 8, slow.go_on.set).start()
    assert setup.cosign(9) == {"w1", "w3"}
    assert setup.witnesses[0].asked == [0, 5]


@pytest.mark.parametrize("fault", [Down(), Down(Conflict("odd")), lambda _: [], lambda _: ["garbage", "— w1 AAAA"]])
def test_collect_publishes_with_what_there_is_and_says_so_once(fault: Callable[[int], list[str]]) -> None:
    setup = Setup(Mode.COLLECT, names=["w1"])
    setup.witnesses[0].act = fault
    assert setup.cosign(5) == set()
    assert setup.cosign(6) == set()
    assert [code for _, code in setup.codes()].count("quorum_missing") == 1


def test_collect_waits_for_a_silent_witness_once_and_then_no_more() -> None:
    setup = Setup(Mode.COLLECT, timeout_s=SHORT_S)
    slow = setup.witnesses[0].act = Slow()
    began_s = time.monotonic()
    assert setup.cosign(5) == {"w2", "w3"}
    first_s = time.monotonic() - began_s
    for size in range(6, 26):
        assert setup.cosign(size) == {"w2", "w3"}
    assert first_s >= SHORT_S
    assert time.monotonic() - began_s - first_s < 10 * SHORT_S
    assert setup.witnesses[0].asked == [0]
    slow.go_on.set()


def test_a_failing_witness_is_left_alone_longer_after_each_failure() -> None:
    setup = Setup(Mode.COLLECT)
    down = setup.witnesses[0]
    down.act = Down()
    asked_at_s = []
    for second in range(60):
        before = len(down.asked)
        setup.cosign(5)
        until(lambda: not setup.cosigners._peers[0].asking or not setup.cosigners._answers.empty(), PATIENCE_S)
        if len(down.asked) > before:
            asked_at_s.append(second)
        setup.clock.skipped_s += 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_at_s)]
    assert gaps == sorted(gaps)
    assert 4 <= len(asked_at_s) <= 7


def test_a_witness_that_is_back_is_waited_for_again() -> None:
    setup = Setup(Mode.COLLECT)
    setup.witnesses[0].act = Down()
    assert setup.cosign(5) == {"w2", "w3"}
    setup.witnesses[0].act = lambda _: None
    setup.clock.skipped_s += 100
    setup.cosign(6)
    until(lambda: not setup.cosigners._peers[0].asking or not setup.cosigners._answers.empty(), PATIENCE_S)
    assert setup.cosign(7) == {"w1", "w2", "w3"}
    assert [status.failures for status in setup.cosigners.statuses()] == [0, 0, 0]


def test_a_forked_log_gets_no_cosignature_and_stops_when_a_quorum_is_required() -> None:
    setup = Setup(Mode.REQUIRE)
    for witness in setup.witnesses:
        witness.witness.add_checkpoint(make_body(0, 7))
    with pytest.raises(Broken) as disputed:
        setup.cosign(12, FORK)
    assert disputed.value.code == "witness_dispute"
    assert [status.dispute is not None for status in setup.cosigners.statuses()] == [True] * 3


def test_a_forked_log_is_a_loud_event_when_cosignatures_are_only_collected() -> None:
    setup = Setup(Mode.COLLECT)
    for witness in setup.witnesses:
        witness.witness.add_checkpoint(make_body(0, 7))
    assert setup.cosign(12, FORK) == set()
    assert sorted(setup.codes()) == [("", "quorum_missing"), *((name, "dispute") for name in ("w1", "w2", "w3"))]


def test_witnesses_with_a_larger_log_of_ours_stop_us() -> None:
    """The database and the anchor were both restored: only the witnesses still know."""
    setup = Setup(Mode.REQUIRE)
    for witness in setup.witnesses:
        witness.witness.add_checkpoint(make_body(0, 30))
    with pytest.raises(Broken, match="has size 30"):
        setup.cosign(12)


def test_one_liar_that_disputes_our_root_cannot_stop_a_quorum_and_is_remembered() -> None:
    setup = Setup(Mode.REQUIRE)
    setup.witnesses[0].act = Down(Broken("your root is wrong"))
    setup.witnesses[1].act = Slow()
    setup.witnesses[1].act.go_on.set()
    assert setup.cosign(5) == {"w2", "w3"}
    until(lambda: not setup.cosigners._peers[0].asking or not setup.cosigners._answers.empty(), PATIENCE_S)
    assert setup.cosign(6) == {"w2", "w3"}
    assert ("w1", "dispute") in setup.codes()
    assert setup.cosigners.statuses()[0].dispute == "your root is wrong"


def test_a_dispute_ends_when_the_witness_cosigns_again() -> None:
    setup = Setup(Mode.COLLECT, names=["w1"])
    setup.witnesses[0].act = Down(Broken("your root is wrong"))
    setup.cosign(5)
    assert setup.cosigners.statuses()[0].dispute
    setup.witnesses[0].act = lambda _: None
    setup.clock.skipped_s += 100
    setup.cosign(6)
    until(lambda: not setup.cosigners._peers[0].asking or not setup.cosigners._answers.empty(), PATIENCE_S)
    assert setup.cosign(7) == {"w1"}
    assert setup.cosigners.statuses()[0].dispute is None


def test_a_cosignature_of_another_checkpoint_or_by_another_witness_is_dropped() -> None:
    setup = Setup(Mode.COLLECT)
    other = make_witness(MemoryState(), name="w1").add_checkpoint(make_body(0, 6)).decode().splitlines()
    foreign = make_witness(MemoryState(), name="w2").add_checkpoint(make_body(0, 5)).decode().splitlines()
    setup.witnesses[0].act = lambda _: other
    setup.witnesses[2].act = lambda _: foreign
    assert setup.cosign(5) == {"w2"}
    assert sorted(setup.codes()) == [("", "quorum_missing"), ("w1", "bad_answer"), ("w3", "bad_answer")]


def test_lines_of_strangers_beside_a_good_cosignature_are_ignored() -> None:
    setup = Setup(Mode.COLLECT, names=["w1"])
    good = make_witness(MemoryState(), name="w1").add_checkpoint(make_body(0, 5)).decode().splitlines()
    stranger = make_witness(MemoryState(), name="w9").add_checkpoint(make_body(0, 5)).decode().splitlines()
    setup.witnesses[0].act = lambda _: [*stranger, "not a line", *good, *good]
    assert setup.cosign(5) == {"w1"}
    assert setup.events == []


def test_a_fault_of_our_own_store_is_not_blamed_on_witnesses() -> None:
    setup = Setup(Mode.COLLECT)

    def prove(old: int, new: int) -> list[bytes]:
        raise Broken("a tile is missing")

    note = parse_note(make_note(5))
    with pytest.raises(Broken, match="tile"):
        setup.cosigners.cosign(parse_checkpoint(note.text), note, prove)
    assert setup.cosign(5) == {"w1", "w2", "w3"}


def test_proofs_are_made_by_the_calling_thread_alone() -> None:
    setup = Setup(Mode.COLLECT)
    for witness in setup.witnesses:
        witness.witness.add_checkpoint(make_body(0, 7))
    threads: set[int] = set()

    def prove(old: int, new: int) -> list[bytes]:
        threads.add(threading.get_ident())
        return prove_consistency(old, LEAVES[:new]) if old else []

    note: SignedNote = parse_note(make_note(12))
    checkpoint: Checkpoint = parse_checkpoint(note.text)
    assert len(setup.cosigners.cosign(checkpoint, note, prove).signatures) == 4
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize(
    ("mode", "clients", "quorum", "code"),
    [
        (Mode.COLLECT, ["w9"], "two", "witness_unknown"),
        (Mode.COLLECT, ["w1", "w1"], "two", "witness_unknown"),
        (Mode.REQUIRE, ["w1"], "two", "quorum_impossible"),
        (Mode.REQUIRE, [], "two", "quorum_impossible"),
        (Mode.REQUIRE, ["w1", "w2"], "none", "quorum_impossible"),
    ],
)
def test_a_set_up_that_could_never_work_is_refused_at_the_start(
    mode: Mode, clients: list[str], quorum: str, code: str
) -> None:
    policy = Setup(Mode.COLLECT, quorum=quorum).policy
    with pytest.raises(Rejected) as refused:
        Cosigners(policy, [LocalWitness(name) for name in clients], mode=mode, timeout_s=1, report=lambda _: None)
    assert refused.value.code == code
