"""Settings: from the environment (`ASSAY_…`), then a TOML file (`ASSAY_CONFIG`), then these defaults.

Each field says its unit, and what somebody who can change it could do to us. `assay config show` prints them with
secrets masked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class Settings(BaseSettings):
    """Everything that may differ between two installations."""

    model_config = SettingsConfigDict(env_prefix="ASSAY_", frozen=True, extra="forbid")

    state_dir: Path = Field(
        default=Path("var"),
        description="Keys, anchors, erasure journal and the embedded database. Who writes here can sign as us.",
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL, postgresql+psycopg://… in production; SQLite in `state_dir` when unset. "
        "Who changes it can show us another past; the anchor then refuses to sign.",
    )
    origin_host: str = Field(
        default="assay.localhost",
        pattern=r"^[a-z0-9.-]{1,200}(:\d{1,5})?$",
        description="Host part of every log's origin, `<host>/<tenant>`. Changing it starts other logs.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on. 0.0.0.0 exposes the service.")
    port: int = Field(default=8080, ge=1, le=65535, description="TCP port to listen on.")
    workers: int = Field(default=2, ge=1, le=64, description="Web processes.")
    bind_workers: bool = Field(
        default=True,
        description="Keep each web process on a processor of its own, where there are enough (Linux). Turn it off if "
        "something else is bound to the same ones.",
    )
    threads: int = Field(
        default=128,
        ge=1,
        le=1024,
        description="Threads per web process: requests at work at one time. A payment holds one while its PSP works; "
        "an entry that waits for its receipt holds none.",
    )
    pool_size: int = Field(default=16, ge=2, le=256, description="Database connections per process.")
    backlog: int = Field(default=1024, ge=64, le=65535, description="Connections the kernel may hold for us.")
    wait_limit_s: int = Field(default=30, ge=1, le=300, description="Longest `Prefer: wait`, in seconds.")
    rate_limit_per_minute: int = Field(
        default=600_000,
        ge=1,
        description="Requests per token, minute and web process. Too high lets one tenant starve the others.",
    )
    public_rate_limit_per_minute: int = Field(
        default=60_000, ge=1, description="Requests per client address, minute and web process, without a token."
    )
    witness_mode: Literal["collect", "require"] = Field(
        default="collect", description="`require`: no receipt without the witness quorum of `trust_file`."
    )
    trust_file: Path | None = Field(
        default=None, description="C2SP tlog-policy file with our witnesses. Who writes it chooses who may vouch."
    )
    witness_timeout_s: float = Field(default=5.0, gt=0, le=60, description="Longest wait for a witness, seconds.")
    stripe_api_base: str = Field(
        default="http://127.0.0.1:8081",
        description="Where Stripe is: `assay sandbox` by default. Who changes it receives the API key.",
    )
    stripe_api_key: SecretStr = Field(
        default=SecretStr("sk_test_sandbox"), description="Secret of the PSP account; the default opens the sandbox."
    )
    psp_connect_timeout_s: float = Field(default=1.0, gt=0, le=30, description="Seconds to connect to a PSP.")
    psp_read_timeout_s: float = Field(default=5.0, gt=0, le=80, description="Seconds to wait for a PSP's answer.")
    policies_dir: Path | None = Field(
        default=None,
        description="Folder of the policies that a new tenant begins with; the shipped one when unset. "
        "Who writes it decides for new tenants.",
    )
    policy_engine: Literal["rego", "opa"] = Field(
        default="rego", description="`rego` decides in this installation, `opa` asks the OPA server at `opa_url`."
    )
    opa_url: str = Field(
        default="http://127.0.0.1:8181",
        description="Where OPA is: unix:///path, or http:// on loopback. Who answers there decides.",
    )
    opa_timeout_s: float = Field(default=1.0, gt=0, le=30, description="Longest wait for OPA; past it, deny. Seconds.")
    reverify_sample: int = Field(
        default=200,
        ge=0,
        le=100_000,
        description="Decisions of each log that `assay up` runs again each day, on every engine at hand; 0: none. "
        "Without it nobody notices that an engine has changed its mind.",
    )
    environment: Literal["development", "production"] = Field(
        default="development", description="`production` refuses to start with development keys."
    )

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{(self.state_dir / 'assay.db').absolute()}"

    @property
    def embedded(self) -> bool:
        """Whether the store is the embedded SQLite."""
        return self.database.startswith("sqlite")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file below the environment."""
        del dotenv_settings, file_secret_settings
        path = os.environ.get("ASSAY_CONFIG")
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, path)) if path else sources


def read_settings() -> Settings:
    """Return the settings in force."""
    return Settings()
