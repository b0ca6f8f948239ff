"""Settings: the only module that reads the environment.

Errors name the field and the remedy, and never repeat a value that may be a secret.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
)

from agent.context import Target
from agent.policy import Policy
from api.config import Config, Credentials, TokenEntry, check_port
from api.entries import Entry
from api.model_settings import where
from api.secret_files import SecretMissing, Secrets
from api.source_config import SourceEntry
from tools.connection import display_url
from tools.plain_yaml import read_yaml


class SettingsError(Exception):
    """The configuration cannot be used; the text says which field and what to do."""


def _networks(listed: str) -> str:
    for one in filter(None, map(str.strip, listed.split(","))):
        try:
            ip_network(one)
        except ValueError:
            raise ValueError("addresses or networks with commas are expected, no names") from None
    return listed


class Settings(Entry):
    """Everything the service is told from outside."""

    config: Config = Config()
    config_path: str = ""
    database_url: SecretStr
    queue: SecretStr = SecretStr("memory://")
    openai_model: str = ""
    """The language model. A key alone never switches it on."""
    openai_api_key: SecretStr | None = None
    openai_base_url: str = ""
    """May hold credentials: never printed as it is."""
    openai_api_version: str = ""
    https_proxy: SecretStr = SecretStr("")
    no_proxy: str = ""
    ssl_cert_file: str = ""
    host: str = "127.0.0.1"
    port: int = Field(default=8321, ge=0, le=65535)
    workers: int = Field(default=4, ge=1, le=64)
    """Investigations at a time, in one process."""
    forwarding_proxies: Annotated[str, AfterValidator(_networks)] = ""
    """Whose X-Forwarded-For is believed: addresses and networks, with commas; none: nobody's."""
    dry_run: bool = False
    """Nothing is ever written, whatever the file says."""
    token: SecretStr | None = None
    """What the command line authenticates with."""
    worker_port: int | None = Field(default=None, ge=0, le=65535)
    """Where a `worker` answers /healthz, /readyz and /metrics; None: nowhere."""
    otel_endpoint: str = ""
    """The base URL of an OTLP/HTTP receiver of traces; empty: there are none."""
    service_url: str = "http://127.0.0.1:8321"
    """Where the command line finds the service."""
    key: SecretStr | None = None
    """What `api/keys.py` derives the keys of backups and audit from; None: a file's."""
    previous_keys: SecretStr | None = None
    """The keys before that one, with commas: what was written with them can still be verified."""
    data_folder: Path
    exposed: list[str] = Field(default_factory=list)
    """Files of secrets that every user of this machine may read."""

    path: str = "/usr/local/bin:/usr/bin:/bin"
    """Where a resize hook's program is looked for."""

    _let_in: Credentials = PrivateAttr()

    def model_post_init(self, _: Any) -> None:
        """Whoever is in the file is let in, until it is read again."""
        self._let_in = Credentials(self.config.tokens, self.config.sources)

    def openai_address(self) -> dict[str, str]:
        """Where the model is, and the way to it; secret. Raises SettingsError."""
        proxy = self.https_proxy.get_secret_value()
        try:
            return where(
                self.openai_base_url,
                self.openai_api_version,
                proxy,
                self.no_proxy,
                self.ssl_cert_file,
            )
        except ValueError as error:
            raise SettingsError(str(error)) from None

    @property
    def tokens(self) -> Sequence[TokenEntry]:
        """Who may use the service."""
        return self._let_in.tokens

    @property
    def sources(self) -> Sequence[SourceEntry]:
        """Tokens that may only post alerts."""
        return self._let_in.sources

    def let_in(self, config: Config) -> None:
        """From now on those of this file, for every part that holds these settings."""
        self._let_in.tokens, self._let_in.sources = config.tokens, config.sources

    @property
    def runbooks(self) -> list[Path]:
        """Folders of a team's own runbooks."""
        return self.config.runbooks

    @property
    def backups_folder(self) -> Path:
        """Where remedies keep what they remove."""
        return self.config.backups.folder or self.data_folder / "backups"

    @property
    def policy(self) -> Policy:
        """Who may approve what and when; whether anything is written at all."""
        now = self.config.model_copy(update={"tokens": self.tokens, "sources": self.sources})
        return now.in_force(datetime.now(UTC), dry_run=self.dry_run)

    @property
    def shown_database(self) -> str:
        """The database URL without its password."""
        from api.store.database import database_url  # SQLAlchemy is too heavy for `--help`

        url = database_url(self.database_url.get_secret_value())
        return url.set(query={}).render_as_string()

    @property
    def shown_queue(self) -> str:
        """The queue's URL without its password."""
        return display_url(self.queue.get_secret_value())

    def agent_targets(self) -> list[Target]:
        """The configured targets."""
        return [entry.target() for entry in self.config.targets]

    def check_exposure(self) -> None:
        """Refuse to listen beyond loopback without tokens. Raises SettingsError."""
        if not self.tokens and not is_loopback(self.host):
            raise SettingsError(
                f"REDIS_ONCALL_HOST: {self.host} is reachable from other machines, and no tokens "
                "are configured; add `tokens:` to the REDIS_ONCALL_CONFIG file, or listen on "
                "127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Is it this machine only? Names other than localhost are not trusted to be."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


ENVIRONMENT = {
    "database_url": "DATABASE_URL",
    "queue": "REDIS_ONCALL_QUEUE",
    "openai_model": "OPENAI_MODEL",
    "openai_api_key": "OPENAI_API_KEY",
    "openai_base_url": "OPENAI_BASE_URL",
    "openai_api_version": "OPENAI_API_VERSION",
    "https_proxy": "HTTPS_PROXY",
    "no_proxy": "NO_PROXY",
    "ssl_cert_file": "SSL_CERT_FILE",
    "host": "REDIS_ONCALL_HOST",
    "port": "REDIS_ONCALL_PORT",
    "workers": "REDIS_ONCALL_WORKERS",
    "forwarding_proxies": "FORWARDED_ALLOW_IPS",
    "worker_port": "REDIS_ONCALL_WORKER_PORT",
    "otel_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "dry_run": "REDIS_ONCALL_DRY_RUN",
    "token": "REDIS_ONCALL_TOKEN",
    "service_url": "REDIS_ONCALL_URL",
    "path": "PATH",
    "key": "REDIS_ONCALL_KEY",
    "previous_keys": "REDIS_ONCALL_PREVIOUS_KEYS",
}
"""Field -> variable. Beside these: REDIS_ONCALL_CONFIG, REDIS_ONCALL_DATA, and whatever a
target's URL refers to as `${NAME}`."""
FROM_FILES = ("database_url", "queue", "openai_api_key", "token", "key", "previous_keys")
"""Fields that a file may hold: the variable's name and `_FILE` names it."""
_LOWER_TOO = ("HTTPS_PROXY", "NO_PROXY")


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the environment and the file it names. Raises SettingsError."""
    env = os.environ if environment is None else environment
    secrets = Secrets(env)
    values: dict[str, Any] = {
        "config": load_config(secrets),
        "config_path": env.get("REDIS_ONCALL_CONFIG", ""),
        "data_folder": _data_folder(env),
        "database_url": f"sqlite:///{_data_folder(env) / 'redis-oncall.db'}",
    }
    for field, name in ENVIRONMENT.items():
        if value := env.get(name) or (env.get(name.lower()) if name in _LOWER_TOO else None):
            values[field] = value
    try:
        values |= {
            field: secret for field in FROM_FILES if (secret := secrets.value(ENVIRONMENT[field]))
        }
    except SecretMissing as missing:
        raise SettingsError(str(missing)) from None
    values["exposed"] = secrets.exposed
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_worded(error, ENVIRONMENT)) from None
    _check_urls(settings)
    _check_key(settings)
    if settings.openai_model:
        if unpriced := settings.config.model.unpriced(settings.openai_model):
            raise SettingsError(unpriced)
        settings.openai_address()
    return settings


def _check_key(settings: Settings) -> None:
    if settings.key is None and settings.previous_keys is None:
        return
    # cryptography is too heavy for `--help`
    from api.keys import KeyUnusable, decoded, earlier_subkeys

    name = "REDIS_ONCALL_KEY"
    try:
        if settings.key is not None:
            decoded(settings.key.get_secret_value())
        name = "REDIS_ONCALL_PREVIOUS_KEYS"
        earlier_subkeys(settings, "audit")
    except KeyUnusable as unusable:
        raise SettingsError(f"{name}: {unusable}") from None


def _check_urls(settings: Settings) -> None:
    from api.store.database import database_url  # SQLAlchemy is too heavy for `--help`

    try:
        database_url(settings.database_url.get_secret_value())
    except ValueError as error:
        raise SettingsError(f"DATABASE_URL: {error}") from None
    if settings.otel_endpoint and not settings.otel_endpoint.startswith(("http://", "https://")):
        raise SettingsError("OTEL_EXPORTER_OTLP_ENDPOINT: use an http:// or https:// URL")
    queue = settings.queue.get_secret_value()
    if not queue.startswith(("memory://", "redis://", "rediss://")):
        raise SettingsError("REDIS_ONCALL_QUEUE: use memory:// or a redis:// URL")
    try:
        check_port(queue)
    except ValueError as error:
        raise SettingsError(f"REDIS_ONCALL_QUEUE: {error}") from None


def _data_folder(env: Mapping[str, str]) -> Path:
    state = env.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(env.get("REDIS_ONCALL_DATA") or f"{state}/redis-oncall").expanduser()


def load_config(secrets: Secrets) -> Config:
    """The YAML file that REDIS_ONCALL_CONFIG names; without one, an empty configuration."""
    name = secrets.env.get("REDIS_ONCALL_CONFIG")
    if not name:
        return Config()
    path = Path(name).expanduser()
    try:
        content = read_yaml(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(
            f"REDIS_ONCALL_CONFIG: {path} cannot be read ({error.strerror}); check the path and "
            "its permissions"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise SettingsError(f"REDIS_ONCALL_CONFIG: {path} is not YAML{where}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"REDIS_ONCALL_CONFIG: {path} must hold a mapping (`targets:`, …)")
    try:
        content = secrets.filled(content)
    except SecretMissing as missing:
        raise SettingsError(str(missing)) from None
    _resolve_folders(content, path)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_worded(error, {})}") from None


def secrets_again(settings: Settings) -> Secrets:
    """To load the configuration once more."""
    return Secrets({**os.environ, "REDIS_ONCALL_CONFIG": settings.config_path})


def _resolve_folders(content: dict[str, Any], path: Path) -> None:
    backups = content.get("backups")
    if isinstance(backups, dict) and isinstance(backups.get("folder"), str):
        backups["folder"] = str(path.parent / Path(backups["folder"]).expanduser())
    if isinstance(content.get("sizes"), str):
        content["sizes"] = str(path.parent / Path(content["sizes"]).expanduser())
    folders = content.get("runbooks")
    if isinstance(folders, list):
        content["runbooks"] = [
            str(path.parent / Path(folder).expanduser()) if isinstance(folder, str) else folder
            for folder in folders
        ]


def _worded(error: ValidationError, names: Mapping[str, str]) -> str:
    """Every problem with its field; never the value."""
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        first, *rest = problem["loc"] or ("configuration",)
        field = ".".join(str(part) for part in (names.get(str(first), first), *rest))
        problems.append(f"{field}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(problems)
