"""`assay serve`, `assay sequencer` and `assay sandbox`: one process each; `assay up` runs them together."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import typer
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels

from app.cli.configuring import open_settings, require_fit_to_serve
from app.cli.logs import LOG_CONFIG
from app.cli.opening import open_installation
from app.cli.output import Quiet, command, describe, tell
from app.cli.process import Follow, follow_parent
from app.settings import Settings

WEB_TARGET = "app.web.serve"
"""Named, not imported: the command line does not know the web, and Flask is loaded in the web processes alone."""
WEB_STOP_LIMIT_S = 10
"""How long requests at work may take to finish when the web server stops, in seconds."""


@command(
    describe(
        "Run the web server alone, until SIGTERM; requests at work are finished first.",
        "assay serve",
        "assay serve --host 0.0.0.0 --port 8080 --workers 4",
        more="Publishing is the sequencer's: run `assay sequencer` too, or both with `assay up`.",
    )
)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; the setting `host` if absent.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; the setting `port` if absent.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Web processes; the setting `workers` if absent, 1 over SQLite.")
    ] = None,
    quiet: Quiet = False,
    follow: Follow = None,
) -> None:
    """Run the web server."""
    settings = open_settings()
    require_fit_to_serve(settings)
    with open_installation(settings) as installation:
        installation.replay_erasures()  # what a restored backup brought back is erased before anything is served
    host, port = host or settings.host, port or settings.port
    workers = workers or count_workers(settings)
    server = Granian(
        "assay",
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=workers,
        blocking_threads=settings.threads,
        backlog=settings.backlog,
        respawn_failed_workers=True,
        workers_kill_timeout=WEB_STOP_LIMIT_S,
        log_level=LogLevels.error,
        log_dictconfig=LOG_CONFIG,
    )
    multiprocessing.set_start_method("spawn")  # the same on every Python, and no thread of ours is forked
    follow_parent(follow)
    tell(f"assay serves on http://{host}:{port}", quiet=quiet)
    server.serve(target_loader=partial(load_application, os.getpid(), workers), wrap_loader=False)


def count_workers(settings: Settings) -> int:
    """Return how many web processes to run: unless told, one over SQLite, which has one writer at a time anyway."""
    chosen = "workers" in settings.model_fields_set
    return 1 if settings.embedded and not chosen else settings.workers


def load_application(parent_pid: int, workers: int, *_: Any, **__: Any) -> Callable[..., Any]:
    """Return the WSGI application; called in each of the web processes."""
    follow_parent(parent_pid)
    target: Any = import_module(WEB_TARGET)
    target.answer_later_under_granian()
    application: Callable[..., Any] = target.create_wsgi(workers)
    return application
