"""Which reasoners there are: the rules always, the model only if OPENAI_MODEL is set."""

from typing import TYPE_CHECKING

from agent.context import Reasoner
from agent.runbook import Library
from api.settings import Settings

if TYPE_CHECKING:
    from agent.model import Model


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
        )
    )


def _model(settings: Settings, library: Library) -> Reasoner | None:
    model = language_model(settings)
    if model is None:
        return None
    from agent.reasoner import OpenAIReasoner

    return OpenAIReasoner(model, library)
