"""Write docs/openapi.json: the document that a running service answers at /openapi.json.

python -m scripts.openapi
"""

from __future__ import annotations

import json
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from app.adapters.sql.migrate import upgrade
from app.settings import Settings
from app.web.app import create_app
from app.wiring import Installation, build_services, initialise

TARGET = Path(__file__).parents[1] / "docs" / "openapi.json"


def build_document() -> dict[str, Any]:
    """Return the document of an application over an empty installation."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Settings(state_dir=Path(folder)))
        upgrade(installation.settings.database)
        initialise(installation.settings)
        with closing(installation.store):
            services = build_services(installation)
            document: dict[str, Any] = create_app(services).api_doc
            services.group.close()
            services.watch.close()
            return document


def format_document(document: dict[str, Any]) -> str:
    """Return the document as it is committed: sorted, so that a change shows as what it is."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(format_document(build_document()), encoding="utf-8")
    print(f"wrote {TARGET}")
