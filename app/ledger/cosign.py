"""Asking the witnesses: from a signed checkpoint to one with cosignatures (publish.Cosigner).

All witnesses are asked at once, each in a thread of its own, at most one question to each at a time. Proofs are made
by the calling thread alone, since they read the store. `require` returns as soon as the quorum is there and raises
without one; `collect` returns what the healthy witnesses said in time.

A witness that failed is left alone for a while, longer after each failure, and nobody waits for its next answer: it
must first answer in time once. Only when the quorum cannot be reached without it is it asked, and waited for, at once.

A witness may lie. What it sends is believed only as far as it verifies by its key in the trust file; that our root
is wrong is only its word. So a dispute is reported and remembered, and stops us (Broken) when the quorum, which the
trust file made proof against single liars, cannot be reached.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from queue import Empty, SimpleQueue

from app.errors import AssayError, Broken, Rejected, Unavailable
from app.ledger.ports import WitnessClient, WitnessConflictError
from app.tlog.checkpoint import Checkpoint
from app.tlog.cosignature import verify_cosignatures
from app.tlog.note import SignatureLine, SignedNote, VerifierKey, format_note, parse_signatures
from app.tlog.policy import NO_QUORUM, Policy

MIN_BACKOFF_S = 1.0
MAX_DOUBLINGS = 6  # of the backoff: at most 64 s
MAX_DETAIL_CHARS = 300
MAX_ANSWER_LINES = 100

Prove = Callable[[int, int], list[bytes]]


class Mode(Enum):
    """What a missing quorum means for an origin: nothing is published, or only that it is missing."""

    REQUIRE = "require"
    COLLECT = "collect"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessEvent:
    """Something about a witness that a person may want to know.

    `code`: `unavailable`, `bad_answer` (what it sent does not verify), `dispute` (it says that our root or proof is
    wrong, or has a larger log of ours than we have), `quorum_missing` (in `collect`, of all of them).
    """

    witness: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessStatus:
    """How a witness does: the size that it last had, its failures in a row, what it disputed, if anything."""

    witness: str
    size: int
    failures: int
    dispute: str | None


@dataclass(slots=True, kw_only=True, eq=False)
class _Peer:
    """What we remember of one witness. Only the thread that calls `cosign` changes it."""

    client: WitnessClient
    key: VerifierKey
    size: int = 0
    failures: int = 0
    not_before_s: float = 0.0
    asking: bool = False
    dispute: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """One checkpoint to be cosigned; who was asked, who was asked twice, and who has cosigned it."""

    checkpoint: Checkpoint
    note: SignedNote
    prove: Prove
    asked: set[str] = field(default_factory=set)
    reasked: set[str] = field(default_factory=set)
    lines: dict[VerifierKey, SignatureLine] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What a witness said to the checkpoint `text` of `size`."""

    peer: _Peer
    text: bytes
    size: int
    said: list[str] | AssayError
    took_s: float


class Cosigners:
    """The witnesses of one origin. `cosign` is called by one thread at a time: the sequencer's."""

    def __init__(
        self,
        policy: Policy,
        clients: Sequence[WitnessClient],
        *,
        mode: Mode,
        timeout_s: float,
        report: Callable[[WitnessEvent], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clients` are witnesses of `policy`, by name; `report` must neither raise nor block.

        Raises Rejected for a client that the policy does not name, and for `require` if there is no quorum, or none
        that these clients could be.
        """
        keys = {witness.name: witness.key for witness in policy.witnesses}
        names = [client.name for client in clients]
        if not set(names) <= keys.keys() or len(set(names)) != len(names):
            raise Rejected(f"{names}: not all are witnesses of the trust file, each once", code="witness_unknown")
        self._peers = [_Peer(client=client, key=keys[client.name]) for client in clients]
        reachable = policy.quorum != NO_QUORUM and policy.is_met_by([peer.key for peer in self._peers])
        if mode is Mode.REQUIRE and not reachable:
            raise Rejected(f"the witnesses {names} can never be the quorum {policy.quorum}", code="quorum_impossible")
        self._policy = policy
        self._mode = mode
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._report = report
        self._had_quorum = True
        self._answers: SimpleQueue[_Answer] = SimpleQueue()

    def statuses(self) -> list[WitnessStatus]:
        """Return how each witness does, for `readyz` and metrics."""
        return [
            WitnessStatus(witness=peer.client.name, size=peer.size, failures=peer.failures, dispute=peer.dispute)
            for peer in self._peers
        ]

    def cosign(self, checkpoint: Checkpoint, note: SignedNote, prove: Prove) -> SignedNote:
        """Return the note with the verified cosignatures that came within the timeout.

        Raises Unavailable (`witness_quorum`) when the quorum is required and missing, Broken (`witness_dispute`) when
        moreover a witness disputes our log.
        """
        question = _Question(checkpoint=checkpoint, note=note, prove=prove)
        deadline_s = self._clock_s() + self._timeout_s
        while not self._answers.empty():  # to earlier questions, too late for those
            self._take(self._answers.get(), question)
        awaited = [peer for peer in self._peers if not peer.failures and not self._is_busy(peer, question)]
        for peer in self._peers:
            if not peer.asking and (peer in awaited or self._clock_s() >= peer.not_before_s):
                self._ask(peer, question)
        self._ask_the_rest(question)

        while not self._is_done(question, awaited):
            try:
                answer = self._answers.get(timeout=max(0.0, deadline_s - self._clock_s()))
            except Empty:
                break
            self._take(answer, question)
            self._ask_the_rest(question)

        return self._conclude(question, awaited)

    def _is_busy(self, peer: _Peer, question: _Question) -> bool:
        """Say whether the witness still owes an answer to an earlier question."""
        return peer.asking and peer.client.name not in question.asked

    def _ask_the_rest(self, question: _Question) -> None:
        """If a quorum is required and those who were asked cannot be it, ask everybody else, whatever they did."""
        if self._mode is Mode.COLLECT:
            return
        asking = [peer.key for peer in self._peers if peer.asking and not self._is_busy(peer, question)]
        if not self._policy.is_met_by([*question.lines, *asking]):
            for peer in self._peers:
                if not peer.asking and peer.client.name not in question.asked:
                    self._ask(peer, question)

    def _is_done(self, question: _Question, awaited: Sequence[_Peer]) -> bool:
        if self._mode is Mode.COLLECT:
            return not any(peer.asking for peer in awaited)
        return self._policy.is_met_by(question.lines) or not any(peer.asking for peer in self._peers)

    def _ask(self, peer: _Peer, question: _Question) -> None:
        """Ask in a thread of its own, a daemon: a witness that never finishes must not keep us from exiting."""
        size = question.checkpoint.size
        old_size = peer.size if peer.size <= size else 0
        proof, checkpoint = question.prove(old_size, size), format_note(question.note)
        began_s = self._clock_s()

        def ask() -> None:
            said: list[str] | AssayError
            try:
                said = peer.client.add_checkpoint(old_size, proof, checkpoint)
            except AssayError as error:
                said = error
            except Exception as error:  # noqa: BLE001 -- whatever a client does, the sequencer must hear of it
                said = Unavailable(f"{type(error).__name__}: {error}")
            took_s = self._clock_s() - began_s
            self._answers.put(_Answer(peer=peer, text=question.note.text, size=size, said=said, took_s=took_s))

        peer.asking = True
        question.asked.add(peer.client.name)
        threading.Thread(target=ask, name=f"witness-{peer.client.name}", daemon=True).start()

    def _take(self, answer: _Answer, question: _Question) -> None:
        """Remember what the answer tells of the witness; keep its cosignature if it is of this checkpoint."""
        peer, said = answer.peer, answer.said
        peer.asking = False
        if isinstance(said, WitnessConflictError):
            self._correct(peer, said.size, question)
        elif isinstance(said, Broken):
            self._dispute(peer, str(said))
        elif isinstance(said, AssayError):
            self._fail(peer, "unavailable", str(said))
        elif (line := _find_cosignature(answer.text, said, peer.key)) is None:
            self._fail(peer, "bad_answer", "no cosignature that its key verifies")
        else:
            peer.size, peer.dispute = answer.size, None
            if answer.text == question.note.text:
                question.lines[peer.key] = line
            if answer.took_s <= self._timeout_s:
                peer.failures = 0
            else:
                self._back_off(peer)

    def _correct(self, peer: _Peer, size: int, question: _Question) -> None:
        """Prove once more, from the size that the witness says it has. A larger one than ours is a dispute."""
        if size > question.checkpoint.size:
            self._dispute(peer, f"has size {size} of this log, of which we have {question.checkpoint.size}")
        elif peer.client.name in question.reasked:
            self._fail(peer, "bad_answer", f"has another size, {size}, than it said")
        else:
            peer.size = size
            question.reasked.add(peer.client.name)
            self._ask(peer, question)

    def _dispute(self, peer: _Peer, detail: str) -> None:
        peer.dispute = detail[:MAX_DETAIL_CHARS]
        self._fail(peer, "dispute", detail)

    def _fail(self, peer: _Peer, code: str, detail: str) -> None:
        peer.failures += 1
        self._back_off(peer)
        self._report(WitnessEvent(witness=peer.client.name, code=code, detail=detail[:MAX_DETAIL_CHARS]))

    def _back_off(self, peer: _Peer) -> None:
        doublings = min(max(peer.failures - 1, 0), MAX_DOUBLINGS)
        peer.not_before_s = self._clock_s() + MIN_BACKOFF_S * 2**doublings

    def _conclude(self, question: _Question, awaited: Sequence[_Peer]) -> SignedNote:
        has_quorum = self._policy.is_met_by(question.lines)
        late = awaited if self._mode is Mode.COLLECT else () if has_quorum else self._peers
        for peer in late:
            if peer.asking:
                self._fail(peer, "unavailable", f"no answer within {self._timeout_s} s")
        if not has_quorum and self._mode is Mode.REQUIRE:
            raise self._missing_quorum(question)
        if self._had_quorum and not has_quorum:
            self._report(WitnessEvent(witness="", code="quorum_missing", detail=self._describe(question)))
        self._had_quorum = has_quorum
        cosigned = [question.lines[peer.key] for peer in self._peers if peer.key in question.lines]
        return question.note.add(*cosigned)

    def _missing_quorum(self, question: _Question) -> AssayError:
        disputes = [f"{peer.client.name}: {peer.dispute}" for peer in self._peers if peer.dispute]
        if disputes:
            return Broken(f"{self._describe(question)}; disputed by {'; '.join(disputes)}", code="witness_dispute")
        return Unavailable(self._describe(question), code="witness_quorum")

    def _describe(self, question: _Question) -> str:
        missing = [peer.client.name for peer in self._peers if peer.key not in question.lines]
        size = question.checkpoint.size
        return f"size {size} lacks the quorum {self._policy.quorum}; no cosignature of {', '.join(missing)}"


def _find_cosignature(text: bytes, lines: Sequence[str], key: VerifierKey) -> SignatureLine | None:
    """Return the one cosignature by `key` among what a witness sent. Lines of others are passed over, as signed-note
    asks; None if there is none by `key`, or one that is false.
    """
    for line in lines[:MAX_ANSWER_LINES]:
        with suppress(Rejected):
            note = SignedNote(text=text, signatures=parse_signatures(f"{line}\n".encode()))
            if verify_cosignatures(note, [key]):
                return note.signatures[0]
    return None
