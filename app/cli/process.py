"""Processes of ours: they stop when asked, and they do not outlive the one that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Annotated, Final

import typer

PARENT_POLL_S: Final = 0.25
"""How soon a child notices that its parent is gone, in seconds."""
ORPHAN_LIMIT_S: Final = 15.0
"""How long an orphan may take to stop by itself, in seconds."""

Follow = Annotated[int | None, typer.Option("--follow", hidden=True, help="Stop when this parent process is gone.")]


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM, SIGINT or SIGHUP sets."""
    stop = threading.Event()

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask_to_stop)
    return stop


def follow_parent(parent_pid: int | None) -> None:
    """Send ourselves SIGTERM once `parent_pid` is not our parent any more, however it died; None: follow nobody.

    By polling and not by PR_SET_PDEATHSIG: that one is Linux's own and fires when the starting thread ends.
    """
    if parent_pid is None:
        return

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(PARENT_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_LIMIT_S)
        os._exit(1)

    threading.Thread(target=watch, name="follow-parent", daemon=True).start()
