"""The embedded Rego engine: `PolicyEngine` over the Python binding of regorus, in processes of its own (ADR 13).

Few workers serve a process, started when they are first needed. Each answers one question at a time, within bounds
that the kernel keeps (`app.adapters.rego_worker`). A rule that loops, explodes or recurses without end so costs its
worker, and the question is answered with EngineFailed; the next question finds a new worker. Bundles are read and
compiled when they are first asked for, and the last few are kept.

A worker ends when its socket does, so none outlives us, however we end. A fork leaves them to its parent. One that is
asked while no other is at work answers on the processor of the thread that waits for it (`app.adapters.processor`).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from app.adapters import rego_worker
from app.adapters.processor import Partner, leave
from app.adapters.rego_worker import read_frame, send_frame
from app.errors import AssayError, Malformed, NotFound
from app.policy.bundle import Bundle
from app.policy.decision import EngineRef
from app.policy.ports import EngineFailed, evaluate_each
from app.policy.query import Query
from app.policy.question import MAX_ANSWER_BYTES, format_input, parse_object, verify_question

WORKERS: Final = 2
"""Evaluations at one time in a process of ours."""

_UNDEFINED: Final = b'"<undefined>"'
_PASSED_ON: Final = ("LANG", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH")
"""What a worker sees of our environment: nothing that is secret."""
_DEATHS: Final[dict[int, tuple[str, str]]] = {
    signal.SIGPROF: ("timeout", "took more processor time than one evaluation may"),
    signal.SIGABRT: ("memory", "needed more memory than a worker has"),
    signal.SIGSEGV: ("panic", "used up the stack"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one question may cost. Processor time in ms; `wait_s` is for a worker that is not running or not free."""

    evaluation_ms: int = 100
    compile_ms: int = 3_000
    memory_bytes: int = 512 * 1024 * 1024
    wait_s: float = 5.0


LIMITS: Final = Limits()
"""A payment's evaluation takes well under 1 ms and 1 MiB; a worker without a bundle has 15 MiB."""


class RegoEngine:
    """`PolicyEngine` over any bundle that `read_bundle` knows. See `app.policy.ports` for the contract."""

    def __init__(
        self, read_bundle: Callable[[str], Bundle], *, workers: int = WORKERS, limits: Limits = LIMITS
    ) -> None:
        """Start nothing yet. `read_bundle` takes a digest, and raises NotFound; it is asked once per worker."""
        self._read_bundle = read_bundle
        self._workers = _Workers(workers, limits)
        self.ref = EngineRef(name="regorus", version=version("gordon-to-regorus"))
        self.close: Callable[[], None] = weakref.finalize(self, self._workers.close)
        """End the workers; nothing may be asked afterwards. Done by itself when nobody holds the engine."""

    def evaluate(
        self,
        entrypoint: str,
        document: Mapping[str, Any],
        *,
        bundle_digest: str,
        decision_id: str | None = None,  # noqa: ARG002 -- it keeps no log
    ) -> Mapping[str, Any]:
        """Return the object of the rule `entrypoint`; see the port."""
        question = _format_question(entrypoint, document, bundle_digest)
        with self._workers.one() as worker:
            answer = worker.ask(rego_worker.EVALUATE, question)
            if answer is None:
                worker.keep(self._find_bundle(bundle_digest))
                answer = worker.ask(rego_worker.EVALUATE, question)
        return _parse_value(answer)

    def evaluate_all(
        self, questions: Sequence[Query], *, bundle_digest: str
    ) -> Sequence[Mapping[str, Any] | EngineFailed]:
        """Return the answers; see the port. They are asked for one by one if together they cost the worker."""
        found = self._ask_together(questions, bundle_digest)
        return found or evaluate_each(self.evaluate, questions, bundle_digest=bundle_digest)

    def _ask_together(
        self, questions: Sequence[Query], bundle_digest: str
    ) -> list[Mapping[str, Any] | EngineFailed] | None:
        """Return the answers of one worker, None if it does not have them all."""
        try:
            formatted = [_format_question(each.entrypoint, each.document, bundle_digest) for each in questions]
            with self._workers.one() as worker:
                frames = list(worker.ask_many(formatted))
        except EngineFailed:
            return None
        if len(frames) != len(questions) or any(kind == rego_worker.NOT_HERE for kind, _ in frames):
            return None
        return [_try_to_parse(*frame) for frame in frames]

    def find_problem(self) -> str | None:
        """Return why no worker can be had, or None."""
        try:
            with self._workers.one():
                return None
        except EngineFailed as error:
            return str(error)

    def verify_bundle(self, bundle: Bundle) -> None:
        """Raise Malformed unless `bundle` compiles. It is then ready, in one worker."""
        try:
            with self._workers.one() as worker:
                worker.keep(bundle)
        except EngineFailed as error:
            raise Malformed(f"the bundle {bundle.name!r} does not compile: {error}", code="bundle_malformed") from None

    def _find_bundle(self, digest: str) -> Bundle:
        try:
            bundle = self._read_bundle(digest)
        except NotFound:
            raise EngineFailed("there is no such bundle", failure="wrong_bundle") from None
        except AssayError as error:
            raise EngineFailed(f"the bundle cannot be read: {error.code}", failure="error") from None
        if bundle.digest != digest:
            raise EngineFailed("another bundle was read than the one asked for", failure="wrong_bundle")
        return bundle


def _format_question(entrypoint: str, document: Mapping[str, Any], bundle_digest: str) -> bytes:
    """Return the payload of a question. Raises EngineFailed for what no engine would be asked."""
    verify_question(entrypoint, bundle_digest)
    rule = "data." + entrypoint.replace("/", ".")
    return b"%b%b\0%b" % (bundle_digest.encode(), rule.encode(), format_input(document))


def _parse_value(answer: bytes | None) -> dict[str, Any]:
    """Return the object that a rule has. Raises EngineFailed."""
    if answer is None or answer == _UNDEFINED:
        raise EngineFailed("the rule is undefined for this input", failure="undefined")
    return parse_object(answer)


def _try_to_parse(kind: bytes, payload: bytes) -> Mapping[str, Any] | EngineFailed:
    try:
        return _parse_value(_read_answer(kind, payload))
    except EngineFailed as error:
        return error


def _read_answer(kind: bytes, payload: bytes) -> bytes | None:
    """Return the value in a worker's answer, None if it does not keep the bundle. Raises EngineFailed."""
    if kind == rego_worker.FAILED:
        failure, _, words = payload.decode().partition("\0")
        raise EngineFailed(words, failure=failure)
    return None if kind == rego_worker.NOT_HERE else payload


def read_syntax(bundle: Bundle) -> dict[str, Any]:
    """Return the syntax tree of each module by path, as regorus gives it. Raises Malformed if one does not parse."""
    worker = _Worker(LIMITS)
    try:
        answer = worker.ask(rego_worker.SYNTAX, json.dumps({"modules": dict(bundle.modules)}).encode())
    except EngineFailed as error:
        raise Malformed(f"the bundle {bundle.name!r} does not parse: {error}", code="bundle_malformed") from None
    finally:
        worker.end()
    return {module["source"]["file"]: module["ast"] for module in json.loads(answer or b"[]")}


class _Workers:
    """The workers of one engine in this process: the one used last is asked first, so that few are started."""

    def __init__(self, number: int, limits: Limits) -> None:
        self._number = number
        self._limits = limits
        self._started: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._free = threading.BoundedSemaphore(number)
        _ALL.add(self)

    def forget(self) -> None:
        """Have none, and leave those there were to the process that started them."""
        for worker in self._started:
            worker.leave()
        self._started = set()
        self._idle = []
        self._free = threading.BoundedSemaphore(self._number)

    @contextlib.contextmanager
    def one(self) -> Iterator[_Worker]:
        """Give a worker to the block alone. Raises EngineFailed if none is free in time."""
        if not self._free.acquire(timeout=self._limits.wait_s):
            raise EngineFailed("every worker is busy", failure="timeout")
        try:
            worker = self._take()
            worker.is_alone = len(self._started) - len(self._idle) == 1
            try:
                yield worker
            finally:
                self._idle.append(worker)
        finally:
            self._free.release()

    def _take(self) -> _Worker:
        with contextlib.suppress(IndexError):
            while not (worker := self._idle.pop()).is_running():
                self._started.discard(worker)  # it went over a bound, or somebody else killed it
                worker.end()
            return worker
        worker = _Worker(self._limits)
        self._started.add(worker)
        return worker

    def close(self) -> None:
        """End all of them."""
        while self._started:
            self._started.pop().end()


_ALL: weakref.WeakSet[_Workers] = weakref.WeakSet()


def _forget_all() -> None:
    for workers in list(_ALL):
        workers.forget()


os.register_at_fork(after_in_child=_forget_all)


class _Worker:
    """One process, and our end of its socket."""

    def __init__(self, limits: Limits) -> None:
        """Start it. Raises EngineFailed if that is not possible."""
        self._wait_s = limits.wait_s
        numbers = (limits.evaluation_ms, limits.compile_ms, limits.memory_bytes, MAX_ANSWER_BYTES)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 -- our own file
                    [sys.executable, "-P", rego_worker.__file__, *map(str, numbers)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                    start_new_session=True,  # signals for us are not for it; it ends when its socket does
                )
        except OSError as error:
            ours.close()
            raise EngineFailed(f"no worker can be started: {error.strerror}", failure="error") from None
        self._partner = Partner(self._process.pid)
        self.is_alone = True
        """Whether no other worker of the engine was at work when this one was taken."""
        ours.settimeout(limits.wait_s)
        self._socket = ours
        self._frames = ours.makefile("rb")

    def ask(self, kind: bytes, payload: bytes) -> bytes | None:
        """Return the answer, None if the bundle is not kept here. Raises EngineFailed, perhaps at the worker's cost."""
        processors = self._partner.join(alone=self.is_alone)
        try:
            return _read_answer(*self._exchange(kind, payload))
        finally:
            leave(processors)

    def ask_many(self, questions: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Return the frames of the answers. Raises EngineFailed as `ask` does, but for none of the answers' sake.

        It works on a processor of its own, so that others of our threads can go on.
        """
        self._partner.join(alone=False)
        payload = rego_worker.join_frames([(rego_worker.EVALUATE, question) for question in questions])
        _, answers = self._exchange(rego_worker.MANY, payload)
        return rego_worker.split_frames(answers)

    def _exchange(self, kind: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """Send one frame and return the one that answers it. Raises EngineFailed, at the worker's cost."""
        try:
            send_frame(self._socket, kind, payload)
            return read_frame(self._frames)
        except TimeoutError:
            self.end()
            raise EngineFailed(f"no answer in {self._wait_s:g} s", failure="timeout") from None
        except (EOFError, OSError):
            raise self._explain_death() from None
        except BaseException:
            self.end()  # an interruption: its answer is still to come, and would be taken for the next one's
            raise

    def keep(self, bundle: Bundle) -> None:
        """Have the worker compile the bundle. Raises EngineFailed."""
        content = {"digest": bundle.digest, "modules": dict(bundle.modules), "data": dict(bundle.data)}
        self.ask(rego_worker.BUNDLE, json.dumps(content).encode())

    def is_running(self) -> bool:
        """Say whether it can be asked."""
        return self._socket.fileno() >= 0 and self._process.poll() is None

    def end(self) -> int:
        """Kill it, if it still runs; return how it ended."""
        self._close()
        self._process.kill()
        return self._process.wait()

    def leave(self) -> None:
        """Let go of it: it is the child of the process that we were forked from."""
        self._close()
        self._process.returncode = 0

    def _close(self) -> None:
        self._frames.close()
        self._socket.close()

    def _explain_death(self) -> EngineFailed:
        """Return what to raise for a worker whose end of the socket is closed: it is ending, or has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._wait_s)
        status = self.end()
        failure, words = _DEATHS.get(-status, ("error", f"ended its worker, with status {status}"))
        return EngineFailed(words, failure=failure)
