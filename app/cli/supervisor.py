"""Several processes as one: started together, restarted when one dies, stopped in order, none left behind.

Each child is in a process group of its own, so that Ctrl-C in a terminal reaches the supervisor alone and it can stop
them in order. A child follows its parent (`app.cli.process`): not even kill -9 of the supervisor leaves one running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.cli.output import tell
from app.errors import Unavailable

POLL_S: Final = 0.1
BACKOFF_S: Final = 0.25
"""Pause before the first restart, in seconds; it doubles with each restart."""
RESTARTS_LIMIT: Final = 5
"""Restarts in a row; one more death and everything stops."""
STEADY_S: Final = 30.0
"""A child that ran this long, in seconds, starts counting anew."""


class ChildFailedError(Unavailable):
    """A process keeps dying."""

    code = "child_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command of `assay` to keep running; `stop_limit_s` is how long it may take to stop, in seconds."""

    name: str
    arguments: tuple[str, ...] = ()
    stop_limit_s: float = 10.0


@dataclass(slots=True)
class _Child:
    """A program and its process; `start_at_s` is when to start it again, if it is dead."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    restarts: int = 0
    start_at_s: float = field(default=0.0)


class Supervisor:
    """Runs programs; the order given is the order of stopping."""

    def __init__(self, programs: Sequence[Program], *, environment: Mapping[str, str]) -> None:
        """`environment` is added to ours for every child."""
        self._children = [_Child(program) for program in programs]
        self._environment = {**os.environ, **environment}
        self._environment.pop("RUST_BACKTRACE", None)  # it makes every error of the policy engine slow

    def run(self, stop: threading.Event, *, each_turn: Callable[[], None] = lambda: None) -> None:
        """Keep all running until `stop` is set, then stop them in order; `each_turn` is called all along.

        Raises ChildFailedError, with all stopped, when one keeps dying.
        """
        try:
            while not stop.is_set():
                for child in self._children:
                    self._keep_running(child)
                each_turn()
                stop.wait(POLL_S)
        finally:
            for child in self._children:
                _stop(child)

    def _keep_running(self, child: _Child) -> None:
        now_s = time.monotonic()
        if child.process is None:
            if now_s >= child.start_at_s:
                self._start(child)
            return
        status = child.process.poll()
        if status is None:
            return
        if now_s - child.started_s > STEADY_S:
            child.restarts = 0
        if child.restarts >= RESTARTS_LIMIT:
            raise ChildFailedError(
                f"{child.program.name} died {RESTARTS_LIMIT + 1} times in a row ({_describe(status)}); "
                "all is stopped. Its own message is above"
            )
        tell(f"{child.program.name} died ({_describe(status)}); it is started again")
        child.process = None
        child.start_at_s = now_s + BACKOFF_S * 2**child.restarts
        child.restarts += 1

    def _start(self, child: _Child) -> None:
        command = [sys.executable, "-P", "-m", "app.cli.main", child.program.name, *child.program.arguments]
        child.process = subprocess.Popen(  # noqa: S603 -- our own command
            [*command, "--follow", str(os.getpid())], env=self._environment, process_group=0, stdin=subprocess.DEVNULL
        )
        child.started_s = time.monotonic()


def _stop(child: _Child) -> None:
    """Ask the child to stop, wait, and kill its group if it does not."""
    process = child.process
    if process is None:
        return
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(child.program.stop_limit_s)
        except subprocess.TimeoutExpired:
            tell(f"{child.program.name} did not stop in {child.program.stop_limit_s:g} s; it is killed")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    child.process = None


def _describe(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
