"""The embedded Rego engine: `PolicyEngine` over the Python binding of regorus (`gordon-to-regorus`).

What the binding is like decides what this module does (0.13.0; checked by tests/contract/test_policy_engine.py):

- An engine touched by another thread than its maker's panics, even when it is only dropped there. So each thread
  builds its own, once per bundle, in a module-wide `threading.local`: CPython drops it in the thread that ends. An
  engine left in a daemon thread at exit, or copied by a fork, prints a harmless RuntimeError.
- A panic arrives as `pyo3_runtime.PanicException`, a BaseException. It costs the thread its engine, never the
  process. Rust prints the panic's own text to stderr, which Python cannot prevent: policies work on tokens and codes.
- Functions that recurse overflow the stack and kill the process, so they are refused when the bundle is loaded.
- There is no way to cancel an evaluation or to bound its memory. The CPU time is measured afterwards, and an answer
  over budget is not used. That bounds what is believed, not what is spent: policies here are ours, and reviewed.
- An undefined rule reads as the text "<undefined>"; the contract's "an object or nothing" tells them apart.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, TypeVar

import regorus

from app.errors import Malformed, Rejected
from app.ledger.canonical import canonical, parse_json
from app.policy.bundle import Bundle
from app.policy.decision import EngineRef
from app.policy.ports import EngineFailed

MAX_INPUT_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 64 * 1024
EVALUATION_BUDGET_MS = 100
"""CPU time of one evaluation; a payment's takes well under 1 ms."""
MAX_ENGINES_PER_THREAD = 4
"""Bundles a thread keeps ready; the one longest unused goes first."""

POOL_THREADS = 2
"""Evaluations at one time in a process; the binding holds the interpreter's lock, so more would not help."""

_UNDEFINED = "<undefined>"
_T = TypeVar("_T")
_ENTRYPOINT = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)+", re.ASCII)
_LOCATION = re.compile(r"--> ([a-z0-9_./]+:\d+:\d+)", re.ASCII)


class _Thread(threading.local):
    """Engines of the running thread by bundle digest, the latest used last."""

    def __init__(self) -> None:
        self.engines: OrderedDict[str, regorus.Engine] = OrderedDict()


_THREAD = _Thread()


class RegoEngine:
    """`PolicyEngine` in this process, over one bundle. See `app.policy.ports` for the contract."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        budget_ms: int = EVALUATION_BUDGET_MS,
        thread_time_ns: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        """Compile `bundle` once, here, so that a bad one is found at start: raises Malformed."""
        self._bundle = bundle
        self._data = canonical({"data": dict(bundle.data)}).decode()
        self._budget_ms = budget_ms
        self._thread_time_ns = thread_time_ns
        self.ref = EngineRef(name="regorus", version=version("gordon-to-regorus"))
        try:
            _refuse_recursion(json.loads(_guarded(lambda: self._engine().get_ast_as_json())))
        except EngineFailed as error:
            raise Malformed(f"the bundle {bundle.name!r} does not compile: {error}", code="bundle_malformed") from None

    def evaluate(self, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str) -> Mapping[str, Any]:
        """Return the object of the rule `entrypoint`; see the port."""
        if bundle_digest != self._bundle.digest:
            raise EngineFailed("another bundle is loaded than the one asked for", failure="wrong_bundle")
        if not _ENTRYPOINT.fullmatch(entrypoint):
            raise EngineFailed("an entrypoint is package/rule", failure="wrong_entrypoint")
        text = _format_input(document)
        rule = "data." + entrypoint.replace("/", ".")
        try:
            _guarded(self._engine)  # building it is not part of the budget
            started_ns = self._thread_time_ns()
            answer = _guarded(lambda: _evaluate(self._engine(), rule, text))
            spent_ms = (self._thread_time_ns() - started_ns) // 1_000_000
        except EngineFailed:
            _THREAD.engines.pop(bundle_digest, None)  # a panic may have left it half changed; and it holds the input
            raise
        if spent_ms > self._budget_ms:
            raise EngineFailed(f"took {spent_ms} ms of CPU; at most {self._budget_ms}", failure="timeout")
        return _parse_answer(answer)

    def _engine(self) -> regorus.Engine:
        """Return this thread's engine for the bundle, built at first use."""
        engines = _THREAD.engines
        engine = engines.get(self._bundle.digest)
        if engine is None:
            engine = self._build()
            engines[self._bundle.digest] = engine
            if len(engines) > MAX_ENGINES_PER_THREAD:
                engines.popitem(last=False)
        engines.move_to_end(self._bundle.digest)
        return engine

    def _build(self) -> regorus.Engine:
        engine = regorus.Engine()
        engine.set_gather_prints(True)  # a policy's print() would go to stderr, with whatever it prints
        for path, text in self._bundle.modules.items():
            engine.add_policy(path, text)
        engine.add_data_json(self._data)
        return engine


class PooledEngine:
    """An engine that evaluates in a few threads of its own, whatever threads ask.

    So there are as many engines as these threads, however many the web server has, and each is dropped in its own
    thread: a server's threads may not be Python's, and then their engines would be dropped elsewhere at exit.
    """

    def __init__(self, engine: RegoEngine, *, threads: int = POOL_THREADS) -> None:
        """`engine` is asked by the pool's threads alone from here on."""
        self._engine = engine
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="policy")
        self.ref = engine.ref

    def evaluate(self, entrypoint: str, document: Mapping[str, Any], *, bundle_digest: str) -> Mapping[str, Any]:
        """Return the object of the rule `entrypoint`; see the port."""
        return self._pool.submit(self._engine.evaluate, entrypoint, document, bundle_digest=bundle_digest).result()


def _evaluate(engine: regorus.Engine, rule: str, text: str) -> str:
    """Return the rule's value as JSON, leaving neither input nor prints in the engine."""
    engine.set_input_json(text)
    answer = str(engine.eval_rule_as_json(rule))
    engine.set_input_json("null")
    engine.take_prints()
    return answer


def _guarded(call: Callable[[], _T]) -> _T:
    """Return `call()`; what the binding raises becomes EngineFailed, and everything else passes.

    The binding's own words are dropped, but for the place in the policy: they may quote the input. Its traceback is
    dropped because its frames hold the engine, and an exception may outlive the thread that raised it.
    """
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - the binding raises whatever it likes; all of it means "no answer"
        found = _LOCATION.search(str(error))
        error.__traceback__ = None
        raise EngineFailed(f"failed at {found[1] if found else 'an unknown place'}", failure="error") from None
    except BaseException as error:
        if type(error).__module__ != "pyo3_runtime":
            raise  # KeyboardInterrupt, SystemExit, GeneratorExit: not ours to hold
        error.__traceback__ = None
        raise EngineFailed("the engine panicked", failure="panic") from None


def _format_input(document: Mapping[str, Any]) -> str:
    try:
        data = canonical(dict(document))
    except (Rejected, RecursionError):
        raise EngineFailed("the input is not JSON of integers and texts", failure="input_refused") from None
    if len(data) > MAX_INPUT_BYTES:
        raise EngineFailed(f"the input has over {MAX_INPUT_BYTES:,} bytes", failure="input_refused")
    return data.decode()


def _parse_answer(answer: str) -> Mapping[str, Any]:
    try:
        value = parse_json(answer.encode(), limit_bytes=MAX_ANSWER_BYTES)
    except (Rejected, RecursionError):
        raise EngineFailed(
            f"the answer is not JSON of at most {MAX_ANSWER_BYTES:,} bytes", failure="answer_refused"
        ) from None
    if value == _UNDEFINED:
        raise EngineFailed("the rule is undefined for this input", failure="undefined")
    if not isinstance(value, dict):
        raise EngineFailed("the answer is not an object", failure="answer_refused")
    return value


def _refuse_recursion(modules: list[Any]) -> None:
    """Raise EngineFailed if a function may call itself, directly or through others.

    Judged by the names that occur in its body, without their packages: it may refuse too much, and says what.
    """
    uses: dict[str, set[str]] = {}
    for module in modules:
        for rule in module["ast"]["rules"]:
            function = rule.get("Spec", {}).get("head", {}).get("Func")
            if function:
                name = list(_words(function["refr"]))[-1]
                uses.setdefault(name, set()).update(_words([function["assign"], rule["Spec"]["bodies"]]))
    for name in uses:
        todo, reached = [name], set[str]()
        while todo:
            new = uses.get(todo.pop(), set()) - reached
            reached |= new
            todo.extend(new)
        if name in reached:
            raise EngineFailed(f"the function {name!r} may call itself", failure="error")


def _words(node: Any) -> Iterator[str]:
    """Yield the names in a piece of regorus's syntax tree, in order: all texts but string literals."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for child in node:
            yield from _words(child)
    elif isinstance(node, dict):
        for key, child in node.items():
            if key == "index" and "String" in child:
                yield child["String"]["value"]  # data.package["function"]
            elif key not in {"span", "String", "RawString"}:
                yield from _words(child)
