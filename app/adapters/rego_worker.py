"""The process in which Rego is evaluated: it may be killed at any moment, and no more than one answer is lost.

Started by `app.adapters.rego` as a file, with one end of a socket pair as its standard input; when the other end is
closed, it ends. One question at a time, each a frame of kind (1 byte), length (4 bytes, big endian) and payload:

    B  JSON {digest, modules, data}          ->  +                       the bundle is compiled, and kept
    E  digest, rule, NUL, input as JSON      ->  = its value as JSON  |  ? the bundle is not kept here
    S  JSON {modules}                        ->  = the syntax trees as JSON
    M  frames of E                           ->  M frames of their answers
                                             ->  ! failure, NUL, words: what went wrong with any of these

What regorus spends is bounded by the kernel: memory by RLIMIT_AS, at which Rust aborts; processor time by a timer whose
signal nobody handles; the stack by its guard page. There is no gentler way, because the binding can neither cancel an
evaluation nor give up the interpreter's lock. Each evaluation runs on a clone of the compiled engine, made in under a
microsecond, so that no input, print or half-changed state reaches the next one. What Rust prints about a panic goes
nowhere and no core is dumped: both would hold the input.
"""

from __future__ import annotations

import io
import json
import re
import resource
import signal
import socket
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    import regorus

BUNDLE: Final = b"B"
EVALUATE: Final = b"E"
SYNTAX: Final = b"S"
MANY: Final = b"M"
KEPT: Final = b"+"
VALUE: Final = b"="
NOT_HERE: Final = b"?"
FAILED: Final = b"!"

MAX_BUNDLES: Final = 8
"""Bundles that a worker keeps compiled; the one longest unused goes first."""
DIGEST_CHARS: Final = 64

_HEADER: Final = struct.Struct("!cI")
_LOCATION: Final = re.compile(r"--> ([a-z0-9_./]+:\d+:\d+)", re.ASCII)


def send_frame(to: socket.socket, kind: bytes, payload: bytes) -> None:
    """Send one frame. Raises OSError."""
    to.sendall(join_frames([(kind, payload)]))


def join_frames(frames: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of frames, one after the other."""
    return b"".join([_HEADER.pack(kind, len(payload)) + payload for kind, payload in frames])


def split_frames(joined: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the frames in the bytes of some. Raises EOFError if the last one is not whole."""
    source = io.BytesIO(joined)
    while source.tell() < len(joined):
        yield read_frame(source)


def read_frame(source: BinaryIO) -> tuple[bytes, bytes]:
    """Return the kind and payload of the next frame. Raises EOFError if the other side is gone, and OSError."""
    header = source.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    kind, length = _HEADER.unpack(header)
    payload = source.read(length)
    if len(payload) < length:
        raise EOFError
    return kind, payload


class Worker:
    """Answers questions; `max_answer_bytes` is the largest value that it sends."""

    def __init__(self, *, max_answer_bytes: int) -> None:
        self._max_answer_bytes = max_answer_bytes
        self._engines: OrderedDict[str, regorus.Engine] = OrderedDict()

    def answer(self, kind: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """Return the kind and payload of the answer, whatever regorus does and lets live."""
        work = {BUNDLE: self._keep, EVALUATE: self._evaluate, SYNTAX: _parse}[kind]
        try:
            return work(payload)
        except MemoryError:
            return _failed("memory", "needs more memory than a worker has")
        except Exception as error:  # noqa: BLE001 - the binding raises whatever it likes; all of it means "no answer"
            # Its own words are dropped, but for the place in the policy: they may quote the input.
            found = _LOCATION.search(str(error))
            return _failed("error", f"failed at {found[1] if found else 'an unknown place'}")
        except BaseException as error:
            if type(error).__module__ != "pyo3_runtime":
                raise
            return _failed("panic", "the engine panicked")

    def _keep(self, payload: bytes) -> tuple[bytes, bytes]:
        bundle = json.loads(payload)
        engine = _compile(bundle["modules"])
        engine.add_data_json(json.dumps({"data": bundle["data"]}))
        engine.eval_query_as_json("true")  # the analysis of all modules, which would be the first question's otherwise
        self._engines[bundle["digest"]] = engine
        if len(self._engines) > MAX_BUNDLES:
            self._engines.popitem(last=False)
        return KEPT, b""

    def _evaluate(self, payload: bytes) -> tuple[bytes, bytes]:
        digest = payload[:DIGEST_CHARS].decode()
        compiled = self._engines.get(digest)
        if compiled is None:
            return NOT_HERE, b""
        self._engines.move_to_end(digest)
        rule, _, document = payload[DIGEST_CHARS:].partition(b"\0")
        engine = compiled.clone()
        engine.set_input_json(document.decode())
        value = engine.eval_rule_as_json(rule.decode()).encode()
        if len(value) > self._max_answer_bytes:
            return _failed("answer_refused", f"the answer has over {self._max_answer_bytes:,} bytes")
        return VALUE, value


def _compile(modules: dict[str, str]) -> regorus.Engine:
    import regorus  # noqa: PLC0415 -- only once memory is bounded: it reserves 1 GiB of addresses if it may

    engine = regorus.Engine()
    engine.set_gather_prints(True)  # a policy's print() would go to stderr, with whatever it prints
    for path, text in modules.items():
        engine.add_policy(path, text)
    return engine


def _parse(payload: bytes) -> tuple[bytes, bytes]:
    return VALUE, _compile(json.loads(payload)["modules"]).get_ast_as_json().encode()


def _failed(failure: str, words: str) -> tuple[bytes, bytes]:
    return FAILED, f"{failure}\0{words}".encode()


def serve(source: socket.socket, worker: Worker, *, limits_s: Callable[[bytes], float]) -> None:
    """Answer until the other side is gone; a question may take `limits_s(kind)` seconds of processor time."""

    def answer(kind: bytes, payload: bytes) -> tuple[bytes, bytes]:
        signal.setitimer(signal.ITIMER_PROF, limits_s(kind))
        found = worker.answer(kind, payload)
        signal.setitimer(signal.ITIMER_PROF, 0)
        return found

    frames = source.makefile("rb")
    while True:
        try:
            kind, payload = read_frame(frames)
        except (EOFError, ConnectionError):
            return
        if kind == MANY:
            send_frame(source, MANY, join_frames(answer(*question) for question in split_frames(payload)))
        else:
            send_frame(source, *answer(kind, payload))


def main(evaluate_ms: str, compile_ms: str, memory_bytes: str, max_answer_bytes: str) -> None:
    """Take the limits, then answer what arrives at standard input."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    evaluate_s, compile_s = int(evaluate_ms) / 1000, int(compile_ms) / 1000
    with socket.socket(fileno=0) as source:
        serve(
            source,
            Worker(max_answer_bytes=int(max_answer_bytes)),
            limits_s=lambda kind: evaluate_s if kind == EVALUATE else compile_s,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
