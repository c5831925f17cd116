"""Opening an installation for a command, with errors that say the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from app.adapters.sql.engine import open_engine
from app.adapters.sql.migrate import require_current
from app.cli.configuring import open_settings
from app.errors import Unavailable
from app.settings import Settings
from app.wiring import TOKEN_SECRET, Installation


@contextmanager
def open_installation(settings: Settings | None = None) -> Iterator[Installation]:
    """Lend the installation; raises Unavailable, with the command to run, if it was never made or is behind."""
    settings = settings or open_settings()
    if not (settings.state_dir / "secrets" / TOKEN_SECRET).is_file():
        raise Unavailable(f"there is no installation in {settings.state_dir}: run `assay init`", code="not_initialised")
    engine = open_engine(settings.database, pool_size=2)
    try:
        require_current(engine)
    finally:
        engine.dispose()
    installation = Installation(settings)
    with closing(installation.store):
        yield installation
