"""`assay up`: restarts what dies, leaves nothing behind, stops in order."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import requests

from tests.parts.assay import (
    STOP_LIMIT_S,
    Assay,
    find_free_port,
    is_running,
    kill,
    list_children,
    list_descendants,
    wait_until,
)
from tests.parts.web import PAYMENT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc"),
]


@pytest.fixture
def assay(tmp_path: Path) -> Assay:
    made = Assay(tmp_path)
    made.init()
    return made


def _find(children: dict[int, str], name: str) -> int | None:
    return next((pid for pid, command in children.items() if f"app.cli.main {name}" in command), None)


@pytest.mark.parametrize("name", ["serve", "payments", "sequencer", "policy", "sandbox"])
def test_a_killed_child_is_started_again_and_the_service_becomes_ready(assay: Assay, name: str) -> None:
    token = assay.issue_token("entries:write")
    with assay.up() as process:
        victim = _find(list_children(process.pid), name)
        assert victim is not None
        below = list_descendants(victim)
        kill(victim)
        wait_until(lambda: _find(list_children(process.pid), name) not in {None, victim}, what="another process")
        wait_until(lambda: not any(map(is_running, below)), what="the end of the dead child's own children")
        wait_until(assay.is_ready)
        body = {"action": "approval.given", "data": {"what": "after a crash", "verdict": "approved"}}
        assert assay.request("POST", "/v1/entries", token, body, Prefer="wait=20").status_code == 201


def test_a_payment_of_unknown_fate_settles_by_itself(assay: Assay) -> None:
    token = assay.issue_token("payments:write", "payments:read", "entries:read")
    with assay.up():
        faults = f"{assay.environment['ASSAY_STRIPE_API_BASE']}/_sandbox/faults"
        order = {"fault": "drop_after", "times": 3, "method": "POST"}
        assert requests.post(faults, json=order, timeout=5).status_code == 200
        paid = assay.request("POST", "/v1/payments", token, PAYMENT, **{"Idempotency-Key": "lost"}).json()
        assert paid["status"] == "unknown"
        path = f"/v1/payments/{paid['id']}"
        wait_until(lambda: assay.request("GET", path, token).json()["status"] == "succeeded", what="the evidence")
        wait_until(lambda: "payment.reconciled" in _list_actors(assay, token, paid["id"]))
        assert _list_actors(assay, token, paid["id"])["payment.reconciled"] == "system:reconcile"


def _list_actors(assay: Assay, token: str, payment_id: str) -> dict[str, str]:
    """Return who did what to a payment, by action."""
    entries = assay.request("GET", f"/v1/entries?ref={payment_id}", token).json()["entries"]
    return {each["entry"]["action"]: each["entry"]["actor"] for each in entries}


def test_a_killed_web_worker_is_started_again(assay: Assay) -> None:
    with assay.up() as process:
        server = _find(list_children(process.pid), "serve")
        assert server is not None
        worker = next(pid for pid, line in list_children(server).items() if "multiprocessing.spawn" in line)
        kill(worker)
        wait_until(lambda: not is_running(worker))
        wait_until(assay.is_ready)
        assert _find(list_children(process.pid), "serve") == server


def test_a_killed_supervisor_leaves_no_process_behind(assay: Assay) -> None:
    process = assay.start("up")
    assay.wait_until_ready(process)
    below = list_descendants(process.pid)
    assert len(below) >= 4
    kill(process.pid)
    process.communicate()
    wait_until(lambda: not any(map(is_running, below)), STOP_LIMIT_S, what="the end of all children")


def test_sigterm_stops_everything_in_bounded_time(assay: Assay) -> None:
    process = assay.start("up")
    assay.wait_until_ready(process)
    below = list_descendants(process.pid)
    started_s = time.monotonic()
    process.terminate()
    output, _ = process.communicate(timeout=STOP_LIMIT_S)
    assert process.returncode == 0, output
    assert "killed" not in output
    assert "stopped" in output
    assert not any(map(is_running, below))
    assert time.monotonic() - started_s < STOP_LIMIT_S


def test_a_child_that_cannot_run_stops_everything_with_a_message(assay: Assay, tmp_path: Path) -> None:
    assay.environment["ASSAY_STRIPE_API_BASE"] = f"http://10.0.0.1:{find_free_port()}"  # the sandbox refuses that
    process = assay.start("up")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "sandbox died 6 times in a row" in output
    assert "127.0.0.1 only" in output


def test_without_an_installation_it_says_what_to_run(tmp_path: Path) -> None:
    done = Assay(tmp_path).run("up", code=3)
    assert "run `assay init`" in done.stderr
