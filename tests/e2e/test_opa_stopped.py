"""OPA is killed while payments are made: none goes through without a decision, and nobody sees a 500."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app.adapters.connectors.sandbox import StripeSandbox
from app.adapters.opa_process import running_opa
from tests.e2e.conftest import make_payment
from tests.parts.web import TENANT, WAIT, open_web
from tests.policies.rego_suite import shipped

CLIENTS = 6
BEFORE = 12
"""Payments that must have gone through before OPA is killed."""
AFTER = 24


def test_a_stopped_opa_under_load_denies_with_a_decision_each_and_charges_nothing_undecided(
    tmp_path: Path, opa_program: Path, sandbox: StripeSandbox
) -> None:
    numbers, answered, killed = itertools.count(), Counter[str](), threading.Event()
    with (
        running_opa(opa_program, shipped()) as opa,
        open_web(tmp_path, tenants=(TENANT,), policy_engine="opa", opa_url=opa.url, stripe_api_base=sandbox.url) as web,
    ):

        def pay() -> tuple[int, dict]:
            headers = {**WAIT, "Idempotency-Key": f"load-{next(numbers)}"}
            answer = web.post("/v1/payments", json=make_payment(), headers=headers)
            return answer.status_code, answer.json

        def work(_: int) -> list[tuple[int, dict]]:
            done = []
            while sum(answered.values()) < BEFORE + AFTER:
                done.append(pay())
                answered["after" if killed.is_set() else "before"] += 1
                if answered["before"] >= BEFORE and not killed.is_set():
                    killed.set()
                    os.kill(opa.pid, signal.SIGKILL)
            return done

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = [each for done in pool.map(work, range(CLIENTS)) for each in done]
        last = [pay() for _ in range(3)]
        entries = [each["entry"] for each in web.list_entries()]
        ready = web.get("/readyz", token=None)

    statuses = Counter(status for status, _ in answers + last)
    assert set(statuses) == {201}, statuses
    by_state = Counter(payment["status"] for _, payment in answers)
    assert by_state["succeeded"] >= BEFORE - CLIENTS
    assert set(by_state) <= {"succeeded", "denied"}
    assert [(payment["status"], payment["code"]) for _, payment in last] == [("denied", "engine_failed")] * 3
    assert ready.status_code == 503

    decided = {e["data"]["decision_id"]: e for e in entries if e["action"] == "decision.recorded"}
    for _, payment in answers + last:
        decision = decided[payment["decision"]]["data"]
        assert decision["engine"]["name"] == "opa"
        assert (decision["result"]["verdict"] == "allow") == (payment["status"] == "succeeded")
        assert decision["replayable"] == (payment["status"] == "succeeded")
    order = [(e["action"], e["ref"].get("decision")) for e in entries]
    for place, (action, decision_id) in enumerate(order):
        if action == "payment.attempted":
            assert ("decision.recorded", decision_id) in order[:place], "decided and logged before anything acts on it"
            assert decided[decision_id]["data"]["result"]["verdict"] == "allow"


def test_decisions_asked_for_while_opa_is_killed_are_each_on_the_log_as_they_were_answered(
    tmp_path: Path, opa_program: Path
) -> None:
    body = {"entrypoint": "authz/decide", "input": {"authz": {"operation": "GET /livez", "scopes": []}}}
    asked, killed = itertools.count(1), threading.Event()
    with (
        running_opa(opa_program, shipped()) as opa,
        open_web(tmp_path, tenants=(TENANT,), policy_engine="opa", opa_url=opa.url) as web,
    ):

        def ask(_: int) -> tuple[int, dict]:
            answer = web.post("/v1/decisions", json=body, headers=WAIT)
            if next(asked) >= BEFORE and not killed.is_set():
                killed.set()
                os.kill(opa.pid, signal.SIGKILL)
            return answer.status_code, answer.json

        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(ask, range(BEFORE + AFTER)))
        entries = [each["entry"] for each in web.list_entries("&action=decision.recorded")]

    assert {status for status, _ in answers} == {201}
    logged = {entry["data"]["decision_id"]: entry["data"]["result"]["verdict"] for entry in entries}
    assert logged == {answer["id"]: answer["verdict"] for _, answer in answers}
    verdicts = Counter(logged.values())
    assert set(verdicts) == {"allow", "deny"}
    assert verdicts["allow"] >= BEFORE - CLIENTS
