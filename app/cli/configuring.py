"""The settings for a command, with errors that name the variable at fault; loads no database and no engine."""

from __future__ import annotations

import os

from pydantic import ValidationError

from app.errors import Malformed, Refused
from app.settings import Settings, read_settings

DEVELOPMENT_PSP_KEY = "sk_test_"


def open_settings() -> Settings:
    """Return the settings in force. Raises Malformed naming each variable that does not fit, never its value."""
    try:
        return read_settings()
    except ValidationError as error:
        faults = "; ".join(f"{_name_of(item['loc'])}: {item['msg']}" for item in error.errors(include_input=False))
        raise Malformed(f"the settings do not fit. {faults}", code="settings_invalid") from error
    except (OSError, ValueError) as error:
        path = os.environ.get("ASSAY_CONFIG", "")
        raise Malformed(f"the settings file {path} cannot be read: {error}", code="settings_invalid") from error


def find_problems(settings: Settings) -> list[str]:
    """Return why this installation must not serve with these settings, in words; empty when it may."""
    problems = []
    if settings.environment == "production":
        if any((settings.state_dir / "keys").glob("*/*.key")):
            problems.append("production, and the log keys are development key files")
        if any((settings.state_dir / "bundle_keys").glob("signing.pem")):
            problems.append("production, and policy archives are signed by a development key file")
        if settings.stripe_api_key.get_secret_value().startswith(DEVELOPMENT_PSP_KEY):
            problems.append("production, and ASSAY_STRIPE_API_KEY is a test key")
    if settings.witness_mode == "require" and settings.trust_file is None:
        problems.append("ASSAY_WITNESS_MODE=require needs ASSAY_TRUST_FILE: without witnesses nothing is published")
    if settings.trust_file is not None and not settings.trust_file.is_file():
        problems.append(f"ASSAY_TRUST_FILE {settings.trust_file} is not there")
    return problems


def require_fit_to_serve(settings: Settings) -> None:
    """Raise Refused if these settings must not serve."""
    problems = find_problems(settings)
    if problems:
        raise Refused("; ".join(problems), code="settings_unfit")


def _name_of(place: tuple[int | str, ...]) -> str:
    return "ASSAY_" + "_".join(str(part) for part in place).upper()
