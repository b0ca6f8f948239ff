"""Which reasoners there are: the rules always, the model only if OPENAI_MODEL is set."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from agent.context import Reasoner
from agent.runbook import Library
from api.run_telemetry import TELEMETRY
from api.settings import Settings, SettingsError

if TYPE_CHECKING:
    from agent.model import Model
    from agent.veil import Veil

KEY_BYTES = 32


def reasoners(settings: Settings, library: Library) -> tuple[Reasoner, Reasoner | None]:
    """The rules, and the model or None."""
    from agent.rules import Rules

    return Rules(library), _model(settings, library)


def language_model(settings: Settings) -> "Model | None":
    """The configured model: a key alone never switches it on."""
    if not settings.openai_model:
        return None
    from agent.model import Model

    key = settings.openai_api_key
    return Model(
        settings.config.model.settings(
            settings.openai_model,
            api_key=key.get_secret_value() if key else "",
            **settings.openai_address(),
        ),
        _veil(settings) if settings.config.model.hash_names else None,
        TELEMETRY,
    )


def _veil(settings: Settings) -> "Veil":
    """Names hash alike for as long as the key lives: beside an SQLite database, else in memory."""
    from agent.veil import Veil
    from api.store.database import database_url

    url = database_url(settings.database_url.get_secret_value())
    local = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    folder = Path(url.database or "").parent
    return Veil(_kept_key(folder / "names.key") if local and folder.is_dir() else None)


def _kept_key(path: Path) -> bytes:
    """The key in this file, made when it is first needed; readable by this user only."""
    if not path.exists():
        # Whole or not there: another process may start at this moment.
        made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
        made.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise SettingsError(f"{path}: not {KEY_BYTES} bytes; remove it, and names hash anew")
    return key


def _model(settings: Settings, library: Library) -> Reasoner | None:
    model = language_model(settings)
    if model is None:
        return None
    from agent.reasoner import OpenAIReasoner

    return OpenAIReasoner(model, library)
