"""The sandbox PSP's requests: routes, idempotency as Stripe documents it, and which fault strikes which request.

A key is bound to its first parameters and remembers the first reply, refusals and 5xx included; a request that
fails validation leaves no trace; a twin of a request in flight is answered 409.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from app.adapters.connectors.sandbox_book import MAGIC, Book
from app.adapters.connectors.sandbox_wire import ApiError, Params, Reply, invalid

KEYS_MAX: Final = 100_000
SCRIPTED_FAULTS_MAX: Final = 1_000
STORED_STATUSES: Final = frozenset({200, 402, 500})

ALWAYS: Final = "_always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong with one request.

    `when`: before it reaches the PSP, after it was carried out, or while it is. `stored`: the PSP itself failed, so
    that its failure is the reply every replay gets.
    """

    when: Literal["before", "during", "after"]
    effect: Literal["hold", "drop", "status", "html", "garbage", "half_body", "slow", "late"]
    status: int = 0
    stored: bool = False


FAULTS: Final = {
    "timeout_before": Fault(when="before", effect="hold"),
    "timeout_after": Fault(when="after", effect="hold"),
    "drop_before": Fault(when="before", effect="drop"),
    "drop_after": Fault(when="after", effect="drop"),
    "500_after": Fault(when="after", effect="status", status=500, stored=True),
    "garbage": Fault(when="after", effect="garbage"),
    "half_body": Fault(when="after", effect="half_body"),
    "slow": Fault(when="during", effect="slow"),
    "late": Fault(when="during", effect="late"),
    "html_502_before": Fault(when="before", effect="html", status=502),
    "html_502_after": Fault(when="after", effect="html", status=502),
    "429": Fault(when="before", effect="status", status=429),
    "401": Fault(when="before", effect="status", status=401),
    "409": Fault(when="before", effect="status", status=409),
    **{f"{n}_before": Fault(when="before", effect="status", status=n) for n in (500, 502, 503, 504)},
    **{f"{n}_after": Fault(when="after", effect="status", status=n) for n in (502, 503, 504)},
}

ERROR_TYPES: Final = {401: "invalid_request_error", 429: "rate_limit_error"}


def make_error(status: int) -> Reply:
    """Return Stripe's error body for a status."""
    kind = ERROR_TYPES.get(status, "api_error")
    return ApiError(status, kind, f"The sandbox was told to answer {status}.").reply


@dataclass(slots=True, kw_only=True)
class _Remembered:
    fingerprint: str
    reply: Reply | None = None  # None while in flight


class SandboxApi:
    """One sandbox account behind a lock. `now_s` is the time in whole seconds."""

    def __init__(self, *, now_s: Callable[[], int]) -> None:
        self.book = Book()
        self._now_s = now_s
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, _Remembered] = OrderedDict()
        self._struck: set[str] = set()
        self._scripted: dict[str, deque[Fault]] = {"GET": deque(), "POST": deque()}
        self._made = 0

    def answer(
        self,
        method: str,
        path: str,
        params: Params,
        key: str | None,
        *,
        pause: Callable[[], None] | None = None,
        failing: Fault | None = None,
    ) -> Reply:
        """Carry out one request, once per key. `pause` runs while it is in flight, holding no lock."""
        if key is None or method != "POST":
            return self._number(self._carry_out(method, path, params, pause))
        fingerprint = json.dumps([method, path, params], sort_keys=True)
        earlier = self._claim_key(key, fingerprint)
        if earlier is not None:
            return self._number(earlier)
        reply = self._carry_out(method, path, params, pause)
        if failing is not None and failing.stored:
            reply = make_error(failing.status)
        self._store_reply(key, reply)
        return self._number(reply)

    def pick_fault(self, method: str, params: Params, key: str | None) -> Fault | None:
        """Return the fault that strikes this request: a scripted one, or the one its payment method names.

        A magic method strikes once per idempotency key, so that a replay gets through; `…_always` strikes each time.
        """
        with self._lock:
            if self._scripted[method]:
                return self._scripted[method].popleft()
            name = str(params.get("payment_method", "")).removeprefix(MAGIC)
            if name.endswith(ALWAYS):
                return FAULTS.get(name.removesuffix(ALWAYS))
            if key is not None and key in self._struck:
                return None
            if key is not None and name in FAULTS:
                self._struck.add(key)
            return FAULTS.get(name)

    def script(self, order: Params) -> Reply:
        """`POST /_sandbox/faults`: `{"fault": name, "times": 1, "method": "POST"}`; no fault clears the script."""
        name, times, method = order.get("fault"), order.get("times", 1), order.get("method", "POST")
        with self._lock:
            if name is None:
                self._scripted = {"GET": deque(), "POST": deque()}
                return Reply(status=200, body={"scripted": 0})
            if name not in FAULTS or method not in self._scripted or times not in range(1, SCRIPTED_FAULTS_MAX):
                raise invalid(f"a fault is one of {', '.join(sorted(FAULTS))}; times is 1 to 999")
            queue = self._scripted[method]
            if len(queue) + times > SCRIPTED_FAULTS_MAX:
                raise invalid("too many scripted faults")
            queue.extend([FAULTS[name]] * times)
            return Reply(status=200, body={"scripted": len(queue)})

    def list_charges(self) -> Reply:
        """`GET /_sandbox/charges`: live charges by payment."""
        with self._lock:
            return Reply(status=200, body=json.loads(json.dumps(self.book.list_live_charges())))

    def _claim_key(self, key: str, fingerprint: str) -> Reply | None:
        """Take `key` for a new request (None), or return what an earlier one means for this one."""
        with self._lock:
            known = self._keys.get(key)
            if known is None:
                self._keys[key] = _Remembered(fingerprint=fingerprint)
                if len(self._keys) > KEYS_MAX:
                    self._keys.popitem(last=False)
                return None
        if known.fingerprint != fingerprint:
            message = "Keys for idempotent requests can only be used with the same parameters."
            return ApiError(400, "idempotency_error", message).reply
        if known.reply is None:
            message = "There is currently another in-progress request using this idempotency key."
            code = "idempotency_key_in_use"
            return ApiError(409, "invalid_request_error", message, code=code).reply
        return replace(known.reply, headers={"Idempotent-Replayed": "true"})

    def _store_reply(self, key: str, reply: Reply) -> None:
        with self._lock:
            if reply.status in STORED_STATUSES:
                self._keys[key].reply = reply
            else:
                del self._keys[key]

    def _carry_out(self, method: str, path: str, params: Params, pause: Callable[[], None] | None) -> Reply:
        if pause is not None:
            pause()
        with self._lock:
            try:
                reply = Reply(status=200, body=self._route(method, path.strip("/").split("/"), params))
            except ApiError as error:
                reply = error.reply
            return replace(reply, body=json.loads(json.dumps(reply.body)))  # a copy, before anybody changes it

    def _route(self, method: str, path: list[str], params: Params) -> Params:
        return self._read(path, params) if method == "GET" else self._write(path, params)

    def _read(self, path: list[str], params: Params) -> Params:
        match path:
            case ["v1", "payment_intents"]:
                return self.book.list_intents(params)
            case ["v1", "payment_intents", "search"]:
                return self.book.search_intents(params)
            case ["v1", "payment_intents", intent_id]:
                return self.book.read_intent(intent_id)
            case _:
                raise invalid("Unrecognized request URL", status=404)

    def _write(self, path: list[str], params: Params) -> Params:
        book, now_s = self.book, self._now_s()
        match path:
            case ["v1", "payment_intents"]:
                return book.create_intent(params, now_s)
            case ["v1", "payment_intents", intent_id, "confirm"]:
                return book.confirm_intent(intent_id, params, now_s)
            case ["v1", "payment_intents", intent_id, "capture"]:
                return book.capture_intent(intent_id, params)
            case ["v1", "payment_intents", intent_id, "cancel"]:
                return book.cancel_intent(intent_id, now_s)
            case ["v1", "refunds"]:
                return book.create_refund(params, now_s)
            case _:
                raise invalid("Unrecognized request URL", status=404)

    def _number(self, reply: Reply) -> Reply:
        with self._lock:
            self._made += 1
            return replace(reply, headers={**reply.headers, "Request-Id": f"req_sandbox_{self._made:x}"})
