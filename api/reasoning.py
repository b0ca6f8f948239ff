"""Which reasoners there are: the rules always, the model only if OPENAI_MODEL is set."""

from typing import TYPE_CHECKING

from agent.context import Reasoner
from agent.runbook import Library
from api.run_telemetry import TELEMETRY
from api.settings import Settings, SettingsError

if TYPE_CHECKING:
    from agent.budget import ModelSettings
    from agent.model import Model
    from agent.veil import Veil


def reasoners(settings: Settings, library: Library) -> tuple[Reasoner, Reasoner | None]:
    """The rules, and the model or None."""
    from agent.rules import Rules

    return Rules(library), _model(settings, library)


def language_model(settings: Settings) -> "Model | None":
    """The configured model: a key alone never switches it on."""
    if not settings.openai_model:
        return None
    from agent.model import Model

    return Model(
        model_settings(settings),
        _veil(settings) if settings.config.model.hash_names else None,
        TELEMETRY,
    )


def model_settings(settings: Settings) -> "ModelSettings":
    """Which model, where, and what it may cost."""
    key = settings.openai_api_key
    return settings.config.model.settings(
        settings.openai_model,
        api_key=key.get_secret_value() if key else "",
        **settings.openai_address(),
    )


def _veil(settings: Settings) -> "Veil":
    """Names hash alike in every process with the installation's key, also after a restart."""
    from agent.veil import Veil
    from api.keys import KeyUnusable, subkey

    try:
        return Veil(subkey(settings, "names"))
    except KeyUnusable as unusable:
        raise SettingsError(f"model.hash_names needs the key: {unusable}") from None


def _model(settings: Settings, library: Library) -> Reasoner | None:
    model = language_model(settings)
    if model is None:
        return None
    from agent.reasoner import OpenAIReasoner

    return OpenAIReasoner(model, library)
